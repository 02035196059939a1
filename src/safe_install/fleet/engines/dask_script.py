"""The plugin SafeInstall inside a Dask scheduler, a nanny and a worker.

Its text is sent there after the text of script.py, whose functions it uses, and is compiled there;
`SOURCE` is both texts. It needs `distributed` and the standard library, but not safe-install.
"""

# ruff: noqa: F821
# mypy: disable-error-code="name-defined"

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import pickle
import sys
from typing import Any, Dict, List, Sequence, Tuple

from distributed import NannyPlugin, SchedulerPlugin, WorkerPlugin

MAX_OUTPUT = 16 * 1024 * 1024
PIECE_SENT = 4 * 1024 * 1024
SUFFIX = ".pyz"  # also of a bundle, which is a program, too
HEARTBEAT = 20.0  # seconds between two heartbeats of a worker that is being changed
NANNY_TIMEOUT = 5.0  # seconds; a nanny that is starting does not answer
TRIES, PAUSE = 60, 2.0  # seconds of pause, while another safe-install holds the environment
LOCKED, REFUSED = 14, 11  # exit statuses
IN_PLACE = ("installed", "already-satisfied")  # outcomes; with status 1 a worker is missing
HANDLER = "safe_install_piece"
COMPILE_AND_MAKE = "(exec(compile(source, 'safe-install', 'exec'), space), space[name](*words))[1]"
ProgramCall = Tuple[str, List[str]]  # a program (its path or SHA-256), and its arguments
logger = logging.getLogger("distributed.safe_install")


class Sent:
    """An object of a class of this module, pickled as the module's source text."""

    def __init__(self, name: str, *words: Any) -> None:
        space = {"__name__": "sent", "SOURCE": SOURCE}
        self.values = {"source": SOURCE, "space": space, "name": name, "words": words}

    def __reduce__(self) -> Tuple[Any, ...]:
        return eval, (COMPILE_AND_MAKE, self.values)


class Change(SchedulerPlugin):
    """Changes the whole cluster when it is registered, and each worker that joins later."""

    idempotent = True

    def __init__(self, name: str, program: bytes, words: Sequence[str]) -> None:
        self.name = name
        self._program = program
        self._words = list(words)

    async def start(self, scheduler: Any) -> None:
        """Change the cluster. Errors: RuntimeError; then workers that join are not changed."""
        program = await in_thread(store_program, self._program)
        # In a child process, so that the scheduler goes on scheduling. Without -I, so that it finds
        # the scheduler's `distributed`, also by variables such as PYTHONPATH.
        argv = [sys.executable, program, "fleet", "install", *self._words]
        status, document = await in_thread(run_json, [*argv, "--dask", scheduler.address])
        if status != 0 and document["outcome"] not in IN_PLACE:
            raise RuntimeError(describe_failure(document))
        calls = [(path, ["install"]) for path in find_bundles(document)]
        calls.append((program, ["install", *self._words]))
        await self._register(scheduler, calls)
        if status != 0:
            raise RuntimeError(describe_failure(document))

    async def _register(self, scheduler: Any, calls: Sequence[ProgramCall]) -> None:
        """Register plugins for workers that join. `calls`: paths of programs, and arguments."""
        pieces = scheduler.handlers.get(HANDLER)
        if pieces is None:
            pieces = scheduler.handlers[HANDLER] = make_handler()
        hashed = []
        for path, words in calls:
            sha256 = await in_thread(hash_file, path)
            pieces.files[sha256] = path
            hashed.append((sha256, words))
        for register, kind in (
            (scheduler.register_nanny_plugin, "JoiningNanny"),
            (scheduler.register_worker_plugin, "JoiningWorker"),
        ):
            sent = pickle.dumps(Sent(kind, self.name, hashed))
            await register(comm=None, plugin=sent, name=self.name, idempotent=True)


def find_bundles(document: Dict[str, Any]) -> List[str]:
    """The bundles of the change that were delivered to this node."""
    hashes = [row.get("sha256") for row in document["details"].get("groups", [])]
    paths = [os.path.join(own_folder(), f"{sha256}.zip") for sha256 in hashes if sha256]
    return [path for path in paths if os.path.isfile(path)]


def make_handler() -> Any:
    """A handler of the scheduler that returns a piece of a file. Only the files in its `files`
    (SHA-256 -> path) can be read."""
    files: Dict[str, str] = {}

    def read(path: str, offset: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(PIECE_SENT)

    async def safe_install_piece(sha256: str, offset: int) -> bytes:
        return await in_thread(read, files[sha256], offset)

    safe_install_piece.files = files  # type: ignore[attr-defined]
    return safe_install_piece


class JoiningChange:
    """Makes the change of the cluster in the environment of a process that joins, once."""

    def __init__(self, name: str, calls: Sequence[ProgramCall]) -> None:
        """`calls`: the SHA-256 of programs, and arguments. A bundle may be for another torch: then
        the next one is tried, and at last the program, which looks for wheels itself."""
        self.name = name
        self._calls = calls

    async def make(self, scheduler: Any) -> bool:
        """Change the environment; was anything changed? Several processes of one environment take
        turns, and the first one makes the change. Errors: RuntimeError."""
        path = os.path.join(own_folder(), RECORD_PREFIX + hash_text(sys.prefix))
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as file:
            await in_thread(fcntl.flock, file, fcntl.LOCK_EX)
            if file.read() == self._state():
                return False
            is_changed = await self._install(scheduler)
            file.seek(0)
            file.truncate()
            file.write(self._state())
            return is_changed

    def _state(self) -> str:
        """What is recorded after the change, so that it is made once: an undo by the user stays. A
        new environment in the same folder has another python, and gets the change."""
        python = os.lstat(sys.executable)
        return json.dumps([self.name, python.st_ino, python.st_ctime_ns])

    async def _install(self, scheduler: Any) -> bool:
        refused: List[str] = []
        for sha256, words in self._calls:
            program = await fetch(scheduler, sha256)
            argv = [sys.executable, "-I", program, "--python", sys.executable, *words]
            status, document = await in_thread(run_patiently, argv)
            if status == 0:
                return bool(document["outcome"] != "already-satisfied")
            refused.append(describe_failure(document))
            if status != REFUSED:
                break
        raise RuntimeError("; ".join(refused))


class JoiningNanny(NannyPlugin):
    """Makes the change before the worker process starts, so that it imports the new packages."""

    def __init__(self, *words: Any) -> None:
        self._change = JoiningChange(*words)
        self.name = self._change.name

    async def setup(self, nanny: Any) -> None:
        """A failure is logged only: the nanny starts the worker nevertheless, and the worker's
        plugin reports it."""
        try:
            is_changed = await self._change.make(nanny.scheduler)
        except Exception as error:
            logger.error("safe-install: %s", error)
            return
        if is_changed and nanny.process is not None:
            await nanny.restart(reason="safe-install changed its packages")


class JoiningWorker(WorkerPlugin):
    """Makes the change before the worker takes tasks. A worker on which it fails leaves the
    cluster, with the reason."""

    def __init__(self, *words: Any) -> None:
        self._change = JoiningChange(*words)
        self.name = self._change.name

    async def setup(self, worker: Any) -> None:
        """Errors: RuntimeError."""
        heartbeats = asyncio.ensure_future(send_heartbeats(worker))
        try:
            await self._change.make(worker.scheduler)
        except Exception as error:
            heartbeats.cancel()
            await leave(worker, f"safe-install: {error}")
            raise
        finally:
            heartbeats.cancel()


async def send_heartbeats(worker: Any) -> None:
    """The scheduler drops a worker that is silent for minutes."""
    while True:
        await asyncio.sleep(HEARTBEAT)
        await worker.heartbeat()


async def leave(worker: Any, reason: str) -> None:
    """Close a worker for good."""
    logger.error("%s leaves the cluster: %s", worker.address, reason)
    worker.log_event("safe-install", {"worker": worker.address, "reason": reason})
    if worker.nanny:
        try:
            async with worker.rpc(worker.nanny) as nanny:
                await asyncio.wait_for(nanny.close_gracefully(reason=reason), NANNY_TIMEOUT)
        except (OSError, asyncio.TimeoutError):
            pass  # the nanny is starting, and ends when its worker does
    await worker.close(nanny=False, reason=reason)


async def fetch(scheduler: Any, sha256: str) -> str:
    """Copy a file from the scheduler if it is not here yet; its path here. Errors:
    RuntimeError."""
    found = (await in_thread(find, sha256, SUFFIX))[0]["path"]
    if found:
        return found
    token = os.urandom(8).hex()
    offset = 0
    while True:
        piece = await getattr(scheduler, HANDLER)(sha256=sha256, offset=offset)
        await in_thread(receive, sha256, token, offset, piece)
        offset += len(piece)
        if len(piece) < PIECE_SENT:
            break
    return (await in_thread(finish, sha256, token, SUFFIX))[0]["path"]


# --- programs -------------------------------------------------------------------------------------


def store_program(program: bytes) -> str:
    """Write the program to a file, once; its path."""
    sha256 = hashlib.sha256(program).hexdigest()
    path = find(sha256, SUFFIX)[0]["path"]
    if path:
        return path
    token = os.urandom(8).hex()
    receive(sha256, token, 0, program)
    return finish(sha256, token, SUFFIX)[0]["path"]


def run_patiently(argv: Sequence[str]) -> Tuple[int, Dict[str, Any]]:
    """Like run_json, but waits while another safe-install holds the environment."""
    for _ in range(TRIES):
        status, document = run_json(argv)
        if status != LOCKED:
            break
        time.sleep(PAUSE)
    return status, document


def run_json(argv: Sequence[str]) -> Tuple[int, Dict[str, Any]]:
    """The exit status of a program, and its document. Errors: RuntimeError."""
    head, output = run([*argv, "--json"], None, MAX_OUTPUT, ())
    try:
        document = json.loads(output)
        document["outcome"], document["error"], document["details"], document["findings"]
    except (ValueError, KeyError, TypeError) as error:
        stderr = head["said"] or "nothing"
        raise RuntimeError("exit status {}: {}".format(head["status"], stderr)) from error
    return head["status"], document


def describe_failure(document: Dict[str, Any]) -> str:
    """Why a command failed, for people."""
    error = document["error"] or {}
    parts = [error.get("message") or document["outcome"], error.get("hint") or ""]
    parts += [one["detail"] for one in document["findings"] if one["severity"] == "error"][:1]
    rows = document["details"].get("nodes", [])
    parts += ["{}: {}".format(row["name"], row["reason"]) for row in rows if row["reason"]]
    parts += document["details"].get("notes", [])
    return ". ".join(part for part in parts if part)


def hash_text(text: str) -> str:
    """A hash for a file name: 16 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


async def in_thread(function: Any, *words: Any) -> Any:
    """Call a function in a thread, so that the event loop goes on."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: function(*words))

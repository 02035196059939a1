"""What SafeInstall is inside a Dask scheduler, a nanny, a worker.

Stand-alone but for distributed: its text is sent there behind that of script.py, whose functions it
uses, and run there (`SOURCE` is all of it); safe-install need not be installed.
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

MOST_OUTPUT = 16 * 1024 * 1024
PIECE_SENT = 4 * 1024 * 1024
SUFFIX = ".pyz"  # a bundle is a program, too
SIGN_OF_LIFE = 20.0  # seconds between two of a worker that is being changed
NANNY_ANSWERS = 5.0  # seconds; one that is just starting answers nothing
TRIES, PAUSE = 60, 2.0  # while another safe-install holds the environment
HELD, REFUSED = 14, 11  # exit statuses
IN_PLACE = ("installed", "already-satisfied")  # outcomes; a worker may be missing nevertheless
HANDLER = "safe_install_piece"
EVALUATED = "(exec(compile(source, 'safe-install', 'exec'), space), space[name](*words))[1]"
Way = Tuple[str, List[str]]  # a program, and the words that it is run with
logger = logging.getLogger("distributed.safe_install")


class Sent:
    """An object of a class of this text, pickled as the text."""

    def __init__(self, name: str, *words: Any) -> None:
        space = {"__name__": "sent", "SOURCE": SOURCE}
        self.values = {"source": SOURCE, "space": space, "name": name, "words": words}

    def __reduce__(self) -> Tuple[Any, ...]:
        return eval, (EVALUATED, self.values)


class Change(SchedulerPlugin):
    """A change of the whole cluster, made when it is registered; later for workers that join."""

    idempotent = True

    def __init__(self, name: str, program: bytes, words: Sequence[str]) -> None:
        self.name = name
        self._program = program
        self._words = list(words)

    async def start(self, scheduler: Any) -> None:
        """Errors: RuntimeError; then nothing is asked of workers that join."""
        program = await in_thread(keep, self._program)
        # In a process of its own: the scheduler goes on scheduling. It has to find the distributed
        # that the scheduler has, so that variables such as PYTHONPATH count.
        argv = [sys.executable, program, "fleet", "install", *self._words]
        status, document = await in_thread(run_json, [*argv, "--dask", scheduler.address])
        if status != 0 and document["outcome"] not in IN_PLACE:
            raise RuntimeError(describe_failure(document))
        ways = [(path, ["install"]) for path in find_bundles(document)]
        ways.append((program, ["install", *self._words]))
        await self._register(scheduler, ways)
        if status != 0:
            raise RuntimeError(describe_failure(document))

    async def _register(self, scheduler: Any, ways: Sequence[Way]) -> None:
        pieces = scheduler.handlers.get(HANDLER)
        if pieces is None:
            pieces = scheduler.handlers[HANDLER] = make_handler()
        hashed = [(await in_thread(hash_file, path), words) for path, words in ways]
        pieces.files.update(zip([sha256 for sha256, _ in hashed], [path for path, _ in ways]))
        for register, kind in (
            (scheduler.register_nanny_plugin, "LateNanny"),
            (scheduler.register_worker_plugin, "LateWorker"),
        ):
            sent = pickle.dumps(Sent(kind, self.name, hashed))
            await register(comm=None, plugin=sent, name=self.name, idempotent=True)


def find_bundles(document: Dict[str, Any]) -> List[str]:
    """Those that the change brought to this environment; others have the same names elsewhere."""
    hashes = [row.get("sha256") for row in document["details"].get("groups", [])]
    paths = [os.path.join(own_folder(), f"{sha256}.zip") for sha256 in hashes if sha256]
    return [path for path in paths if os.path.isfile(path)]


def make_handler() -> Any:
    """What a scheduler answers with: a piece of a file that was named, and of no other."""
    files: Dict[str, str] = {}

    def read(path: str, offset: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(PIECE_SENT)

    async def safe_install_piece(sha256: str, offset: int) -> bytes:
        return await in_thread(read, files[sha256], offset)

    safe_install_piece.files = files  # type: ignore[attr-defined]
    return safe_install_piece


class Late:
    """The change of the cluster for one environment that was not there, or is looked at again."""

    def __init__(self, name: str, ways: Sequence[Way]) -> None:
        """`ways`: the sha256 of what is run, with which words. A bundle may be for another torch:
        then the next one is tried, and at last the program, which looks for wheels itself."""
        self.name = name
        self._ways = ways

    async def make(self, scheduler: Any) -> bool:
        """Was anything changed? Processes of one environment come one after the other, and the first
        does it. Errors: RuntimeError."""
        path = os.path.join(own_folder(), NOTES + hash_text(sys.prefix))
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
        """Once for each environment: what is undone there later stays undone. One that is made anew
        has another python."""
        python = os.lstat(sys.executable)
        return json.dumps([self.name, python.st_ino, python.st_ctime_ns])

    async def _install(self, scheduler: Any) -> bool:
        refused: List[str] = []
        for sha256, words in self._ways:
            program = await fetch(scheduler, sha256)
            argv = [sys.executable, "-I", program, "--python", sys.executable, *words]
            status, document = await in_thread(run_patiently, argv)
            if status == 0:
                return bool(document["outcome"] != "already-satisfied")
            refused.append(describe_failure(document))
            if status != REFUSED:
                break
        raise RuntimeError("; ".join(refused))


class LateNanny(NannyPlugin):
    """Before the worker process is there: what it imports is what was installed."""

    def __init__(self, *late: Any) -> None:
        self._late = Late(*late)
        self.name = self._late.name

    async def setup(self, nanny: Any) -> None:
        """A failure is the worker's to tell: a nanny starts it nevertheless."""
        try:
            is_changed = await self._late.make(nanny.scheduler)
        except Exception as error:
            logger.error("safe-install: %s", error)
            return
        if is_changed and nanny.process is not None:
            await nanny.restart(reason="safe-install changed its packages")


class LateWorker(WorkerPlugin):
    """Before a worker takes tasks. One that cannot have the change leaves, with the reason."""

    def __init__(self, *late: Any) -> None:
        self._late = Late(*late)
        self.name = self._late.name

    async def setup(self, worker: Any) -> None:
        """Errors: RuntimeError."""
        alive = asyncio.ensure_future(show_life(worker))
        try:
            await self._late.make(worker.scheduler)
        except Exception as error:
            alive.cancel()
            await leave(worker, f"safe-install: {error}")
            raise
        finally:
            alive.cancel()


async def show_life(worker: Any) -> None:
    """A worker that says nothing for minutes is taken for dead."""
    while True:
        await asyncio.sleep(SIGN_OF_LIFE)
        await worker.heartbeat()


async def leave(worker: Any, reason: str) -> None:
    """Close a worker for good."""
    logger.error("%s leaves the cluster: %s", worker.address, reason)
    worker.log_event("safe-install", {"worker": worker.address, "reason": reason})
    if worker.nanny:
        try:
            async with worker.rpc(worker.nanny) as nanny:
                await asyncio.wait_for(nanny.close_gracefully(reason=reason), NANNY_ANSWERS)
        except (OSError, asyncio.TimeoutError):
            pass  # it is starting, and ends when its worker does
    await worker.close(nanny=False, reason=reason)


async def fetch(scheduler: Any, sha256: str) -> str:
    """The path of a file that the scheduler has. Errors: RuntimeError."""
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


def keep(program: bytes) -> str:
    """The path of the program."""
    sha256 = hashlib.sha256(program).hexdigest()
    path = find(sha256, SUFFIX)[0]["path"]
    if path:
        return path
    token = os.urandom(8).hex()
    receive(sha256, token, 0, program)
    return finish(sha256, token, SUFFIX)[0]["path"]


def run_patiently(argv: Sequence[str]) -> Tuple[int, Dict[str, Any]]:
    """As run_json; another safe-install may be at work in the same environment."""
    for _ in range(TRIES):
        status, document = run_json(argv)
        if status != HELD:
            break
        time.sleep(PAUSE)
    return status, document


def run_json(argv: Sequence[str]) -> Tuple[int, Dict[str, Any]]:
    """The exit status of a program, and its document. Errors: RuntimeError."""
    head, output = run([*argv, "--json"], None, MOST_OUTPUT, ())
    try:
        document = json.loads(output)
        document["outcome"], document["error"], document["details"], document["findings"]
    except (ValueError, KeyError, TypeError) as wrong:
        said = head["said"] or "nothing"
        raise RuntimeError("exit status {}: {}".format(head["status"], said)) from wrong
    return head["status"], document


def describe_failure(document: Dict[str, Any]) -> str:
    """Why, for a person."""
    error = document["error"] or {}
    parts = [error.get("message") or document["outcome"], error.get("hint") or ""]
    parts += [one["detail"] for one in document["findings"] if one["severity"] == "error"][:1]
    rows = document["details"].get("nodes", [])
    parts += ["{}: {}".format(row["name"], row["reason"]) for row in rows if row["reason"]]
    parts += document["details"].get("notes", [])
    return ". ".join(part for part in parts if part)


def hash_text(text: str) -> str:
    """For the name of a file."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


async def in_thread(function: Any, *words: Any) -> Any:
    """Without holding up the event loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: function(*words))

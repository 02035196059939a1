"""Answers questions inside a process of a cluster: a Dask worker or scheduler, or a task of Ray.

Stand-alone: its text is sent to the process and compiled there, whatever is installed. Standard
library only, Python 3.6 syntax, no imports of ours; `find_programs` comes from the text of
environment/programs_script.py, which is sent before it.

An answer is bytes: one line of JSON, then the raw output of a program. The JSON has the key
`problem` where the question could not be answered.
"""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, Optional, Sequence, Tuple

DISK = "/var/tmp"  # noqa: S108 - the folder in it is made and checked safely
PIECE = 1024 * 1024  # bytes
MAX_STDERR = 4000  # bytes of its end
PATIENCE = 20.0  # seconds from SIGTERM, which rolls a change back, to SIGKILL
# The files of dask_script.py that record which environment has had which change.
RECORD_PREFIX = "late-"
KEPT = 7 * 24 * 3600.0  # seconds for which a delivered file is kept after its last use
Answer = Tuple[Dict[str, Any], bytes]


def answer(question: str, *words: Any) -> bytes:
    """Answer one of the questions below. Raises nothing: an error is an answer with `problem`."""
    questions = {
        "describe": describe,
        "find": find,
        "receive": receive,
        "finish": finish,
        "run": run,
        "programs": programs,
    }
    try:
        head, body = questions[question](*words)
    except Exception as error:
        head, body = {"problem": f"{type(error).__name__}: {error}"}, b""
    return json.dumps(head).encode("ascii") + b"\n" + body


async def answer_in_thread(question: str, *words: Any) -> bytes:
    """Like `answer`, in a thread, so that a worker goes on sending heartbeats."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: answer(question, *words))


def list_workers(dask_scheduler: Any) -> bytes:
    """The workers of a Dask scheduler: address -> [address of the nanny or null, identifier]. The
    identifier differs between two processes at the same address."""
    workers = {}
    for address, state in dask_scheduler.workers.items():
        workers[address] = [state.nanny or None, str(getattr(state, "server_id", ""))]
    return json.dumps({"workers": workers}).encode("ascii") + b"\n"


def describe() -> Answer:
    """The environment of this process, and its machine."""
    place = os.stat(sys.prefix)
    described = {
        "host": socket.gethostname(),
        "python": sys.executable,
        "prefix": sys.prefix,
        # Equal for all processes that see the same folder, also through mounts of containers.
        "place": [_boot_id(), str(place.st_dev), str(place.st_ino)],
    }
    return described, b""


def _boot_id() -> str:
    """The boot ID of the machine, which no other machine has; else its host name."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()


# --- files ----------------------------------------------------------------------------------------


def find(sha256: str, suffix: str) -> Answer:
    """The path of a delivered file that still has its hash; empty if there is none."""
    folder = own_folder()
    _remove_old(folder)
    path = os.path.join(folder, sha256 + suffix)
    if not os.path.isfile(path) or os.path.islink(path) or hash_file(path) != sha256:
        return {"path": ""}, b""
    os.utime(path)
    return {"path": path}, b""


def receive(sha256: str, token: str, offset: int, piece: bytes) -> Answer:
    """Append a piece of a file to the pieces that came before."""
    path = _partial(sha256, token)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_EXCL if offset == 0 else 0)
    with open(os.open(path, flags, 0o600), "ab") as file:
        if file.tell() != offset:
            raise ValueError(f"{path} has {file.tell()} bytes, not {offset}")
        file.write(piece)
    return {}, b""


def finish(sha256: str, token: str, suffix: str) -> Answer:
    """Check the hash of a file that has come whole, and store it; its path."""
    partial = _partial(sha256, token)
    found = hash_file(partial)
    if found != sha256:
        os.unlink(partial)
        raise ValueError(f"it arrived with the sha256 {found}, not {sha256}")
    path = os.path.join(own_folder(), sha256 + suffix)
    os.replace(partial, path)
    return {"path": path}, b""


def own_folder() -> str:
    """A folder that only this user can use. Not in /tmp, which is often in memory."""
    for parent in (os.environ.get("TMPDIR"), DISK, tempfile.gettempdir()):
        if parent and os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK):
            break
    path = os.path.join(parent, f"safe-install-{os.getuid()}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(path)
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if found.st_uid != os.getuid() or not is_private:
        raise PermissionError(f"{path} is not a folder of this user alone")
    return path


def hash_file(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        piece = file.read(PIECE)
        while piece:
            digest.update(piece)
            piece = file.read(PIECE)
    return digest.hexdigest()


def _partial(sha256: str, token: str) -> str:
    """The path of an unfinished file. It differs between environments, because several environments
    of one machine may receive the same file at the same time."""
    environment = hashlib.sha256(os.fsencode(sys.prefix)).hexdigest()[:16]
    return os.path.join(own_folder(), f"{sha256}.{token}.{environment}.part")


def _remove_old(folder: str) -> None:
    names = [name for name in os.listdir(folder) if not name.startswith(RECORD_PREFIX)]
    for name in names:
        path = os.path.join(folder, name)
        try:
            is_old = time.time() - os.lstat(path).st_mtime > KEPT
            if is_old and os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif is_old:
                os.unlink(path)
        except OSError:
            pass  # another process removes it


# --- programs -------------------------------------------------------------------------------------


def run(
    argv: Sequence[str], timeout: Optional[float], most: int, inherited: Sequence[str]
) -> Answer:
    """Run a program in a new folder: its exit status, the end of its stderr, and its stdout.

    `timeout`: seconds until it is ended; `most`: bytes of stdout; `inherited`: variables for which
    the program gets the values of this process's parent.
    """
    folder = tempfile.mkdtemp(prefix="run-", dir=own_folder())
    try:
        return _run_in(folder, argv, timeout, most, inherited)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_in(
    folder: str,
    argv: Sequence[str],
    timeout: Optional[float],
    most: int,
    inherited: Sequence[str],
) -> Answer:
    with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
        child = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=_variables(inherited),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        is_late = not _wait(child, timeout)
        if is_late:
            _terminate(child)
        out.seek(0)
        err.seek(max(0, err.seek(0, os.SEEK_END) - MAX_STDERR))
        stderr = err.read(MAX_STDERR).decode("utf-8", "replace").strip()
        head = {"status": child.returncode, "late": is_late, "said": stderr}
        return head, out.read(most)


def _wait(child: Any, timeout: Optional[float]) -> bool:
    """Wait for a child; has it ended in time?"""
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _terminate(child: Any) -> None:
    """End a child and its children. SIGTERM lets it roll back a change that has begun."""
    os.killpg(child.pid, signal.SIGTERM)
    if not _wait(child, PATIENCE):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _variables(inherited: Sequence[str]) -> Dict[str, str]:
    """The variables of this process, with those in `inherited` as its parent has them: Ray hides
    the GPUs from a task that asks for none."""
    variables = dict(os.environ)
    if not inherited:
        return variables
    try:
        with open(f"/proc/{os.getppid()}/environ", "rb") as file:
            rows = os.fsdecode(file.read()).split("\0")
    except OSError:
        return variables
    parents = dict(row.split("=", 1) for row in rows if "=" in row)
    for name in inherited:
        variables.pop(name, None)
        if name in parents:
            variables[name] = parents[name]
    return variables


def programs() -> Answer:
    """The other processes that have files of this environment in memory that were replaced."""
    found = find_programs(sys.prefix)  # type: ignore[name-defined]  # noqa: F821
    rows = [[pid, command] for pid, command, _ in found]  # type: List[List[Any]]
    return {"programs": rows}, b""

"""What is done inside a process of a cluster: a Dask worker or scheduler, a task of Ray.

Stand-alone: its text is sent there and run, whatever is installed there and whichever Python it is.
Standard library only, Python 3.6 syntax, imports nothing of ours; `find_programs` comes from the text of
environment/programs_script.py, which is sent with it.

An answer is bytes: one line of JSON, then the output of a program, as it came. The JSON has
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

DISK = "/var/tmp"  # noqa: S108 - what is made there is made safely
PIECE = 1024 * 1024
STDERR_SHOWN = 4000  # bytes of its end
PATIENCE = 20.0  # seconds from SIGTERM, after which a change is rolled back, to SIGKILL
NOTES = "late-"  # of dask_script.py: which environment has had which change
KEPT = 7 * 24 * 3600.0  # seconds for which a delivered file is kept after its last use
Answer = Tuple[Dict[str, Any], bytes]


def answer(question: str, *words: Any) -> bytes:
    """The answer to one of the questions below. Raises nothing."""
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


async def answer_beside(question: str, *words: Any) -> bytes:
    """The same in a thread: a worker goes on saying that it is alive."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: answer(question, *words))


def list_workers(dask_scheduler: Any) -> bytes:
    """Of a Dask scheduler: address -> the address of its nanny, null where it has none, and what no
    other process has that comes to the same address."""
    workers = {}
    for address, state in dask_scheduler.workers.items():
        workers[address] = [state.nanny or None, str(getattr(state, "server_id", ""))]
    return json.dumps({"workers": workers}).encode("ascii") + b"\n"


def describe() -> Answer:
    """Which environment this process has, and on which machine."""
    place = os.stat(sys.prefix)
    described = {
        "host": socket.gethostname(),
        "python": sys.executable,
        "prefix": sys.prefix,
        # the same for all processes that see the same folder, also through mounts of containers
        "place": [_boot(), str(place.st_dev), str(place.st_ino)],
    }
    return described, b""


def _boot() -> str:
    """What is the same for all processes of a running machine, and for no other machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return socket.gethostname()


# --- files ----------------------------------------------------------------------------------------


def find(sha256: str, suffix: str) -> Answer:
    """The path of a file that was delivered before, and is still what it was; else empty."""
    folder = own_folder()
    _remove_old(folder)
    path = os.path.join(folder, sha256 + suffix)
    if not os.path.isfile(path) or os.path.islink(path) or hash_file(path) != sha256:
        return {"path": ""}, b""
    os.utime(path)
    return {"path": path}, b""


def receive(sha256: str, token: str, offset: int, piece: bytes) -> Answer:
    """Write a piece of a file behind those that came before."""
    path = _partial(sha256, token)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_EXCL if offset == 0 else 0)
    with open(os.open(path, flags, 0o600), "ab") as file:
        if file.tell() != offset:
            raise ValueError(f"{path} has {file.tell()} bytes, not {offset}")
        file.write(piece)
    return {}, b""


def finish(sha256: str, token: str, suffix: str) -> Answer:
    """The path of the file, all of which has come, if it has its hash."""
    partial = _partial(sha256, token)
    found = hash_file(partial)
    if found != sha256:
        os.unlink(partial)
        raise ValueError(f"it arrived with the sha256 {found}, not {sha256}")
    path = os.path.join(own_folder(), sha256 + suffix)
    os.replace(partial, path)
    return {"path": path}, b""


def own_folder() -> str:
    """A folder that only this user can write. Not in the memory that /tmp often is."""
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
    """sha256, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        piece = file.read(PIECE)
        while piece:
            digest.update(piece)
            piece = file.read(PIECE)
    return digest.hexdigest()


def _partial(sha256: str, token: str) -> str:
    """Another one for each environment: several of one machine may get the same file."""
    environment = hashlib.sha256(os.fsencode(sys.prefix)).hexdigest()[:16]
    return os.path.join(own_folder(), f"{sha256}.{token}.{environment}.part")


def _remove_old(folder: str) -> None:
    names = [name for name in os.listdir(folder) if not name.startswith(NOTES)]
    for name in names:
        path = os.path.join(folder, name)
        try:
            is_old = time.time() - os.lstat(path).st_mtime > KEPT
            if is_old and os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            elif is_old:
                os.unlink(path)
        except OSError:
            pass  # another one removes it


# --- programs -------------------------------------------------------------------------------------


def run(
    argv: Sequence[str], timeout: Optional[float], most: int, inherited: Sequence[str]
) -> Answer:
    """Run a program in a folder of its own: its exit status, the end of its stderr, and its stdout,
    `most` bytes of it. `inherited`: variables that are as this process got them from its parent."""
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
            _end(child)
        out.seek(0)
        err.seek(max(0, err.seek(0, os.SEEK_END) - STDERR_SHOWN))
        said = err.read(STDERR_SHOWN).decode("utf-8", "replace").strip()
        head = {"status": child.returncode, "late": is_late, "said": said}
        return head, out.read(most)


def _wait(child: Any, timeout: Optional[float]) -> bool:
    """Has it ended by itself?"""
    try:
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(child: Any) -> None:
    """End it and its children. It may roll back what it has begun."""
    os.killpg(child.pid, signal.SIGTERM)
    if not _wait(child, PATIENCE):
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _variables(inherited: Sequence[str]) -> Dict[str, str]:
    """Ray hides the GPUs from a task that asks for none."""
    variables = dict(os.environ)
    if not inherited:
        return variables
    try:
        with open(f"/proc/{os.getppid()}/environ", "rb") as file:
            rows = os.fsdecode(file.read()).split("\0")
    except OSError:
        return variables
    given = dict(row.split("=", 1) for row in rows if "=" in row)
    for name in inherited:
        variables.pop(name, None)
        if name in given:
            variables[name] = given[name]
    return variables


def programs() -> Answer:
    """Running processes that have replaced files of this environment in memory, without this one."""
    found = find_programs(sys.prefix)  # type: ignore[name-defined]  # noqa: F821
    rows = [[pid, command] for pid, command, _ in found]  # type: List[List[Any]]
    return {"programs": rows}, b""

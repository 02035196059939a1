"""safe-install as a process whose imports are done: they are the most of what a short command costs.

A server has imported what the commands need and has run nothing. Each command is a fork of it, with
its own words, variables, folder and streams, in which `python -m safe_install` begins. What Python,
the loader and the C library read before that (`PYTHON*`, `LD_*`, the locale) is as the server has
it, so there is one server for each set of these. `SAFE_INSTALL_TEST_COLD=1`: no server, but a new
Python for every command.

The second half of this file is the server: `python warm.py`, with its socket as stdin.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import socket
import struct
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from typing import Any, Dict, List, Mapping, NoReturn, Sequence, Tuple

COLD_VARIABLE = "SAFE_INSTALL_TEST_COLD"
AT_START = ("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_")
# Packages of which every module is imported beforehand; `fleet` brings others' libraries.
WARM_PACKAGES = (
    "cli", "commands", "diagnosis", "environment", "health", "index", "pipeline", "resolve",
    "snapshot", "system", "transaction", "wheels",
)  # fmt: skip
MOST_BYTES = 100_000  # of one request: a message of a socket has little room
STATUS = struct.Struct("<i")

Start = Tuple[Tuple[str, str], ...]
Completed = subprocess.CompletedProcess


class Servers:
    """The servers of this process of pytest. Each begins at the second command that it fits: the
    first one is a new Python."""

    def __init__(self) -> None:
        self._seen: Counter[Start] = Counter()
        self._begun: Dict[Start, Server] = {}

    def run(self, argv: Sequence[str], env: Mapping[str, str], **options: Any) -> Completed[str]:
        """`python -m safe_install ARGV`, to its end. `options`: of `subprocess.run`."""
        start = tuple(sorted(row for row in env.items() if row[0].startswith(AT_START)))
        self._seen[start] += 1
        # Coverage writes its file when a process ends, and a fork would write that of the server.
        is_cold = os.environ.get(COLD_VARIABLE) or "COVERAGE_FILE" in os.environ
        if is_cold or self._seen[start] == 1 or not set(options) <= {"cwd"}:
            return run_cold(argv, env, **options)
        if start not in self._begun:
            self._begun[start] = Server(env)
        return self._begun[start].run(argv, env, **options)

    def end(self) -> None:
        """All of them."""
        while self._begun:
            self._begun.popitem()[1].end()


def run_cold(argv: Sequence[str], env: Mapping[str, str], **options: Any) -> Completed[str]:
    """By a new Python."""
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    command = [sys.executable, "-m", "safe_install", *argv]
    return subprocess.run(
        command, env=dict(env), capture_output=True, text=True, check=False, **options
    )


class Server:
    """One of them. It ends when nobody can ask it any more, as when this process is killed. It is
    no child of ours: what starts checks in this process looks for children that they left behind.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__]
            subprocess.run(command, env=dict(env), stdin=theirs.fileno(), check=True)

    def end(self) -> None:
        self._socket.close()

    def run(self, argv: Sequence[str], env: Mapping[str, str], *, cwd: Any = ".") -> Completed[str]:
        """A command, to its end; it is given nothing to read."""
        asked = {"argv": list(argv), "env": dict(env), "cwd": os.path.abspath(cwd)}
        request = json.dumps(asked).encode()
        if len(request) > MOST_BYTES:
            return run_cold(argv, env, cwd=cwd)
        pipes = [os.pipe() for _ in range(3)]  # for its output, its errors and its exit status
        theirs = array.array("i", [write for _, write in pipes])
        self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, theirs)])
        for number in theirs:
            os.close(number)
        out, error, status = _read_all([read for read, _ in pipes])
        assert status, f"the server of commands is gone: {error.decode()}"
        (code,) = STATUS.unpack(status)
        return Completed(list(argv), code, _as_text(out), _as_text(error))


def _read_all(numbers: Sequence[int]) -> List[bytes]:
    """What comes out of each of these pipes until its end."""
    came = dict.fromkeys(numbers, b"")
    with selectors.DefaultSelector() as selector:
        for number in numbers:
            selector.register(number, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, 65536)
                came[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return list(came.values())


def _as_text(content: bytes) -> str:
    """As `subprocess` reads with text=True."""
    return content.decode().replace("\r\n", "\n").replace("\r", "\n")


SERVERS = Servers()
atexit.register(SERVERS.end)


# --- the server -----------------------------------------------------------------------------------


def serve() -> None:
    """Fork for each request, until nobody can ask any more."""
    if os.fork():
        os._exit(0)
    del sys.path[0]  # the folder of this file
    import_all()
    gc.collect()
    gc.freeze()
    asked = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    while True:
        reap()
        room = socket.CMSG_SPACE(3 * array.array("i").itemsize)
        request, rights, _, _ = asked.recvmsg(2 * MOST_BYTES, room)
        if not request:
            return
        numbers = array.array("i", rights[0][2])
        if os.fork() == 0:
            try:
                asked.close()
                run_and_tell(json.loads(request), *numbers)
            finally:
                os._exit(0)
        for number in numbers:
            os.close(number)


def reap() -> None:
    """Forget those that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def import_all() -> None:
    """What the commands import, now or later."""
    for name in WARM_PACKAGES:
        package = importlib.import_module(f"safe_install.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("script"):  # those stand alone
                importlib.import_module(module.name)
    sys.modules.pop("safe_install.__main__", None)  # each command runs it


def run_and_tell(asked: Mapping[str, Any], out: int, error: int, status: int) -> None:
    """Run the command in a child. Its exit status, as `subprocess` has it, is written to
    `status`."""
    child = os.fork()
    if child == 0:
        os.close(status)
        become(asked, out, error)
    os.close(out)
    os.close(error)
    _, ended = os.waitpid(child, 0)
    code = -os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else os.WEXITSTATUS(ended)
    os.write(status, STATUS.pack(code))


def become(asked: Mapping[str, Any], out: int, error: int) -> NoReturn:
    """This process is the command from here on."""
    for number, stream in ((1, out), (2, error)):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, open_as_python_does(number, getattr(sys, name)))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = ["-m", *asked["argv"]]
    sys.path.insert(0, os.getcwd())  # as -m does
    try:
        runpy.run_module("safe_install", run_name="__main__", alter_sys=True)
    except BaseException:  # noqa: BLE001 - the program ends its process itself
        sys.excepthook(*sys.exc_info())
    os._exit(1)


def open_as_python_does(number: int, as_this: Any) -> Any:
    """The stream that a new Python has with this number."""
    return open(
        number,
        "w" if number else "r",
        buffering=1 if number == 2 else -1,
        encoding=as_this.encoding,
        errors=as_this.errors,
        closefd=False,
    )


if __name__ == "__main__":
    serve()

"""One lock for several hosts that mount one folder: each of two has a host name and process ids of
its own, and flock works between them, in each alone, or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from safe_install.transaction.recovery import lock_file
from safe_install.transaction.recovery.lock_file import Lock, describe_process
from safe_install.transaction.recovery.mounts import Mount

fcntl = pytest.importorskip("fcntl")
pytestmark = pytest.mark.real_process
SOURCE = Path(lock_file.__file__).parents[3]

# Takes the lock as on a host with such a mount, says so, and keeps it until stdin ends.
HOST = """
import errno, fcntl, sys
sys.path.insert(0, sys.argv[1])
from safe_install.transaction.recovery import lock_file
from safe_install.transaction.recovery.mounts import Mount

def refuse(*arguments):
    raise OSError(errno.ENOLCK, "no locks here")

path, flock = sys.argv[2:]
options = {"works": ("local_lock=none",), "own": ("local_lock=flock",), "none": ("nolock",)}
lock_file.read_mount = lambda descriptor: Mount("nfs4", options[flock])
if flock == "own":
    fcntl.flock = lambda *arguments: None
if flock == "none":
    fcntl.flock = refuse
lock = lock_file.Lock(path)
print(lock.take(), lock.describe_holder(), flush=True)
if sys.stdin.readline():
    lock.release()
    print("released", flush=True)
    sys.stdin.readline()
"""


class Host:
    """A process on a host of its own."""

    def __init__(self, name: str, path: str, flock: str) -> None:
        script = 'hostname "$0" && exec "$@"'
        program = [sys.executable, "-I", "-S", "-c", HOST, str(SOURCE), path, flock]
        spaces = ["--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        if os.geteuid() != 0:
            spaces.append("--map-root-user")
        self._process = subprocess.Popen(
            ["unshare", *spaces, "sh", "-c", script, name, *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        taken, _, self.told = self._line().partition(" ")
        self.has_lock = taken == "True"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def release(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("release\n")
        self._process.stdin.flush()
        assert self._line() == "released"

    def kill(self) -> None:
        """All of it at once, as a machine that loses power."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[[str, str], Host]]:
    if shutil.which("unshare") is None or shutil.which("hostname") is None:
        pytest.skip("needs unshare and hostname")
    probe = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        probe.append("--map-root-user")
    if subprocess.run([*probe, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no namespaces here")
    made: List[Host] = []

    def make(name: str, flock: str) -> Host:
        made.append(Host(name, str(tmp_path / "lock"), flock))
        return made[-1]

    yield make
    for host in made:
        host.kill()


FLOCK = ("works", "own", "none")


@pytest.mark.parametrize("first", FLOCK)
@pytest.mark.parametrize("second", FLOCK)
def test_one_host_at_a_time(
    first: str, second: str, make_host: Callable[[str, str], Host], tmp_path: Path
) -> None:
    """However each of them mounts it."""
    holding = make_host("node1", first)
    assert holding.has_lock
    waiting = make_host("node2", second)
    assert not waiting.has_lock
    assert "process 1 on node1" in waiting.told
    assert ("rm " in waiting.told) is ((first, second) != ("works", "works"))
    holding.release()
    assert make_host("node2", second).has_lock


@pytest.mark.parametrize(
    ("first", "second", "is_free"),
    [
        ("works", "works", True),  # the server tells
        ("works", "none", False),  # nobody can know
        ("own", "works", False),
        ("none", "none", False),
    ],
)
def test_a_host_that_died_with_the_lock(
    first: str,
    second: str,
    is_free: bool,
    make_host: Callable[[str, str], Host],
    tmp_path: Path,
) -> None:
    make_host("node1", first).kill()
    again = make_host("node2", second)
    assert again.has_lock is is_free
    if is_free:
        assert not make_host("node3", second).has_lock
        return
    assert f"if that has ended: rm {tmp_path}/lock.held*" in again.told
    for path in tmp_path.glob("lock.held*"):
        path.unlink()
    assert make_host("node2", second).has_lock


# --- the file that names the holder ---------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    return str(tmp_path / "lock")


def test_a_holder_that_dies_while_it_writes_holds_nothing(path: str) -> None:
    child = os.fork()
    if child == 0:
        os.fsync = lambda descriptor: os._exit(9)
        try:
            Lock(path).take()
        finally:
            os._exit(0)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9
    ours = Lock(path)
    assert ours.take()
    ours.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_a_reader_sees_all_of_the_file_or_none(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[bool] = []
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.append(os.path.exists(path + ".held"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    assert Lock(path).take()
    assert seen == [False]
    assert json.loads(Path(path + ".held").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_there_are_no_hard_links(
    path: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    first, second = Lock(path), Lock(path)
    assert (first.take(), second.take()) == (True, False)
    first.release()
    assert second.take()
    second.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_where_links_are_symbolic(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """BeeGFS with sysCreateHardlinksAsSymlinks."""
    monkeypatch.setattr(os, "link", os.symlink)
    first, second = Lock(path), Lock(path)
    assert (first.take(), second.take()) == (True, False)
    assert f"process {os.getpid()} on" in second.describe_holder()
    first.release()
    assert second.take()


def test_a_link_whose_answer_was_lost_is_ours(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS: the client asks once more, and the server says that it is there already."""
    real = os.link

    def link(*arguments: Any) -> None:
        real(*arguments)
        raise FileExistsError(errno.EEXIST, "made by the first call")

    monkeypatch.setattr(os, "link", link)
    first = Lock(path)
    assert first.take()
    monkeypatch.setattr(os, "link", real)
    assert not Lock(path).take()
    first.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_one_whose_file_is_tidied_away_begins_anew(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = os.link, []

    def link(source: str, *arguments: Any) -> None:
        if not taken:
            taken.append(source)
            os.unlink(source)  # by another host, which gives the lock back
        real(source, *arguments)

    monkeypatch.setattr(os, "link", link)
    assert Lock(path).take()
    assert taken


def test_a_folder_that_this_host_sees_as_it_was_is_not_asked_forever(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exists(*arguments: object) -> None:
        raise FileExistsError(errno.EEXIST, "there, and not seen here")

    monkeypatch.setattr(os, "link", exists)
    assert not Lock(path).take()


def test_a_file_that_another_host_has_just_removed(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = lock_file.read_regular_file, ["stale"]

    def read(name: str) -> bytes:
        if answers:
            raise OSError(errno.ESTALE, answers.pop())
        return real(name)

    monkeypatch.setattr(lock_file, "read_regular_file", read)
    assert Lock(path).take()


def test_a_holder_with_flock_is_believed_where_flock_is_not_ours(path: str) -> None:
    """Its file alone says that it lives."""
    holder = {**describe_process(), "host": "elsewhere", "flock": True}
    Path(path + ".held").write_text(json.dumps(holder))
    assert not Lock(path).take()


def test_whose_flock_it_is_may_stay_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Lock(str(tmp_path / "lock")), Lock(str(tmp_path / "lock"))
    assert first.take()

    def refuse(name: str) -> bytes:
        raise PermissionError(errno.EACCES, "of another user", name)

    monkeypatch.setattr(lock_file, "read_regular_file", refuse)
    assert not second.take()
    assert second.describe_holder() == ""


# --- the machine that serves the folder to others -------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="locks of open files, of Linux")
def test_the_lock_of_a_client_is_seen_on_its_nfs_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes a POSIX lock for the flock of a client; flock on its own disk is another."""
    monkeypatch.setattr(lock_file, "read_mount", lambda descriptor: Mount("ext4"))
    path = str(tmp_path / "lock")
    code = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    code += "print('has it', flush=True); sys.stdin.read()"
    server = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "has it\n"
    assert not Lock(path).take()
    server.communicate()
    # A client that was killed has left its file: its lock is gone, and that tells.
    holder = {**describe_process(), "host": "client", "flock": True}
    Path(path + ".held").write_text(json.dumps(holder))
    ours = Lock(path)
    assert ours.take()
    with open(path, "w") as client, pytest.raises(BlockingIOError):
        fcntl.lockf(client, fcntl.LOCK_EX | fcntl.LOCK_NB)
    ours.release()

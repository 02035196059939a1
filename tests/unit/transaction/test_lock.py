"""The lock where the file system has none: a file that names its holder."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from safe_install import errors
from safe_install.transaction import lock as lock_module
from safe_install.transaction.lock import lock_environment, open_state_directory
from safe_install.transaction.recovery import lock_file
from safe_install.transaction.recovery.lock_file import Lock, describe_process, is_gone
from safe_install.transaction.recovery.main import main
from safe_install.transaction.recovery.mounts import Mount, find_mount, is_flock_local
from tests.small_environment import SmallEnvironment

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(getattr(errno, request.param), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def hold(path: str) -> int:
    """A child that takes the lock and keeps it; its process id."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"1" if Lock(path).take() else b"0")
            time.sleep(60)
        finally:
            os._exit(0)
    assert os.read(reading, 1) == b"1"
    os.close(reading)
    os.close(writing)
    return child


@pytest.fixture
def children() -> Iterator[List[int]]:
    made: List[int] = []
    yield made
    for child in made:
        end(child)


def end(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


@pytest.mark.parametrize("has_flock", [True, False])
def test_one_at_a_time_and_given_back(
    path: str, has_flock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_flock:
        monkeypatch.setattr(fcntl, "flock", raise_no_locks)
    first, second = Lock(path), Lock(path)
    assert (first.take(), second.take()) == (True, False)
    first.release()
    assert second.take()
    second.release()
    assert sorted(os.listdir(os.path.dirname(path))) == ["lock"]


def raise_no_locks(*arguments: object) -> None:
    raise OSError(errno.ENOSYS, "no locks here")


@pytest.mark.usefixtures("no_flock")
def test_a_holder_that_was_killed_is_succeeded(path: str, children: List[int]) -> None:
    children.append(hold(path))
    waiting = Lock(path)
    assert not waiting.take()
    assert f"process {children[0]} on {os.uname().nodename}" in waiting.describe_holder()
    assert f"rm {path}.held*" in waiting.describe_holder()
    end(children[0])
    children.append(hold(path))  # the second of the chain
    assert not waiting.take()
    end(children[1])
    assert waiting.take()
    assert len(os.listdir(os.path.dirname(path))) == 4
    assert not Lock(path).take()
    waiting.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]


@pytest.mark.usefixtures("no_flock")
def test_many_at_once_after_a_kill_and_one_gets_it(path: str, children: List[int]) -> None:
    children.append(hold(path))
    end(children[0])
    start, taken, over = path + ".start", path + ".taken", path + ".over"
    for _ in range(12):
        child = os.fork()
        if child == 0:
            try:
                while not os.path.exists(start):
                    pass
                if Lock(path).take():
                    with open(taken, "a") as stream:
                        stream.write(f"{os.getpid()}\n")
                    wait_for(over)  # it is held until all others have tried
            finally:
                os._exit(0)
        children.append(child)
    Path(start).touch()
    left = set(children[1:])
    while len(left) > 1:
        left -= {child for child in left if os.waitpid(child, os.WNOHANG)[0]}
        time.sleep(0.01)
    Path(over).touch()
    os.waitpid(left.pop(), 0)
    assert len(Path(taken).read_text().splitlines()) == 1


def wait_for(path: str) -> None:
    """Two that have the lock would wait for each other: each of them ends all the same."""
    deadline = time.monotonic() + 10
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


FIRST = "pid:[4026531836]"  # of every machine, outside of containers
UNAME = os.uname_result(("Linux", "node1", "6.1", "#1", "x86_64"))


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda holder: holder, False),
        # the number was given to another process
        (lambda holder: {**holder, "started": "1"}, True),
        (lambda holder: {**holder, "pid": 2**22 + 1, "started": "1"}, True),
        (lambda holder: {**holder, "host": "elsewhere", "pid": 2**22 + 1}, False),
        (lambda holder: {**holder, "machine": "another", "pid": 2**22 + 1}, False),
        # another container
        (lambda holder: {**holder, "namespace": "pid:[1]", "pid": 2**22 + 1}, False),
        (lambda holder: {**holder, "boot": "another"}, True),  # this machine was started anew
        (lambda holder: {**holder, "boot": ""}, False),
        (lambda holder: {**holder, "pid": "1"}, False),
        (lambda holder: {**holder, "pid": 10**30}, False),
        (lambda holder: {**holder, "pid": -1, "started": "1"}, False),
        (lambda holder: {**holder, "started": ""}, False),  # it was not known there
        (lambda holder: {}, False),
        (lambda holder: None, False),
    ],
)
def test_who_is_certainly_gone(
    change: Callable[[Dict[str, Any]], Optional[Dict[str, Any]]],
    gone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_file, "_read_line", read_line(machine="m1"))
    monkeypatch.setattr(lock_file, "_read_link", lambda path: FIRST)
    monkeypatch.setattr(os, "uname", lambda: UNAME)
    assert is_gone(change(describe_process())) is gone


@pytest.mark.parametrize(
    ("host", "namespace"),
    [
        ("node1", "pid:[4026532201]"),  # containers of one image have one machine-id
        ("localhost", FIRST),  # and so have machines of one image that nobody gave a name
        ("localhost.localdomain", FIRST),
        ("", FIRST),
    ],
)
def test_names_that_many_machines_have_tell_of_no_restart(
    host: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder may be on another machine that has the same host name and machine-id."""
    monkeypatch.setattr(lock_file, "_read_line", read_line(machine="m1"))
    monkeypatch.setattr(lock_file, "_read_link", lambda path: namespace)
    named = os.uname_result(("Linux", host, "6.1", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: named)
    assert not is_gone({**describe_process(), "boot": "another"})


def test_a_process_that_proc_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc with hidepid, as clusters have it: the process of another user is there and says
    nothing."""
    holder = {**describe_process(), "pid": 1}
    monkeypatch.setattr(lock_file, "read_start", lambda pid: "")
    assert not is_gone(holder)


def read_line(*, machine: str) -> Callable[[str], str]:
    read = lock_file._read_line
    return lambda path: machine if path == "/etc/machine-id" else read(path)


def test_a_machine_without_an_identity_may_be_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "_read_line", read_line(machine=""))
    assert not is_gone({**describe_process(), "boot": "another"})


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"token": "../../x"}', '{"pid": 1}'])
def test_a_file_that_cannot_be_read_is_held(path: str, content: str) -> None:
    Path(path + ".held").write_text(content)
    lock = Lock(path)
    assert not lock.take()
    assert "rm" in lock.describe_holder()
    assert Path(path + ".held").read_text() == content


def test_flock_does_not_pass_over_a_host_without(path: str) -> None:
    holder = {**describe_process(), "host": "elsewhere"}
    Path(path + ".held").write_text(json.dumps(holder))
    assert not Lock(path).take()
    Path(path + ".held").write_text(json.dumps({**describe_process(), "started": "1"}))
    lock = Lock(path)
    assert lock.take()
    lock.release()


@pytest.mark.usefixtures("no_flock")
def test_the_command_names_the_holder(tmp_path: Path, children: List[int]) -> None:
    env = SmallEnvironment(tmp_path / "env")
    state = env.prefix / ".safe-install"
    state.mkdir(mode=0o700)
    children.append(hold(str(state / "lock")))
    told = pytest.raises(errors.EnvironmentLocked, match=f"process {children[0]}")
    with told as caught, lock_environment(env.prefix):
        pass
    assert caught.value.exit_status == 14
    assert main([str(env.prefix)]) == 14
    end(children[0])
    assert main([str(env.prefix)]) == 0
    with lock_environment(env.prefix):
        assert sorted(os.listdir(state)) == ["lock", "lock.held", "marker"]
    assert sorted(os.listdir(state)) == ["lock", "marker"]


def test_other_errors_are_told(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "a broken disk")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="a broken disk"):
        Lock(path).take()
    env = SmallEnvironment(tmp_path / "env")
    with pytest.raises(errors.Refused, match="a broken disk"), lock_environment(env.prefix):
        pass


# --- what the environment itself says against it --------------------------------------------------


def test_the_state_directory_is_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / ".safe-install"
    state.mkdir(mode=0o755)
    assert open_state_directory(tmp_path) == state
    assert state.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(errors.Refused, match="belongs to another user") as caught:
        open_state_directory(tmp_path)
    assert "--user" in caught.value.hint


def test_what_lies_in_the_place_of_the_state_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / ".safe-install").write_text("")
    with pytest.raises(errors.Refused, match="is not a directory") as caught:
        open_state_directory(tmp_path)
    assert f"mv {tmp_path}/.safe-install" in caught.value.hint


def test_an_environment_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(errors.Refused, match="cannot be made: Read-only file system"):
        open_state_directory(tmp_path)


def test_without_locks_no_environment_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "fcntl", None)
    with pytest.raises(
        errors.Refused, match="only be changed on Linux and macOS"
    ), lock_environment(tmp_path):
        raise AssertionError("entered")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "is_refused"),
    [(errno.EACCES, False), (errno.EROFS, False), (errno.ELOOP, False), (errno.EIO, True)],
)
def test_a_lock_of_uv_that_cannot_be_opened(
    number: int, is_refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not open it cannot be in uv's way; anything else is said."""
    (tmp_path / ".lock").touch()
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("/.lock"):
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    if not is_refused:
        with lock_environment(tmp_path) as state:
            assert state.is_dir()
        return
    with pytest.raises(
        errors.Refused, match="cannot be opened: Input/output error"
    ), lock_environment(tmp_path):
        raise AssertionError("entered")


def test_uv_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_UV_WAIT", 0.2)
    lock = tmp_path / ".lock"
    with lock.open("w") as uv:
        fcntl.flock(uv, fcntl.LOCK_EX)
        with pytest.raises(errors.EnvironmentLocked, match="uv is changing"), lock_environment(
            tmp_path
        ):
            raise AssertionError("entered")
    with lock_environment(tmp_path):
        pass


# --- flock that other hosts do not see ------------------------------------------------------------

MOUNT = "36 35 {number} / /env {options} shared:1 - {kind} server:/env {more}"
NUMBER = "0:54"
MOUNTS = [
    ("rw,relatime", "nfs4", "rw,vers=4.2,local_lock=none,addr=10.0.0.1", False),
    ("rw,relatime", "nfs", "rw,vers=3,nolock,local_lock=all,addr=10.0.0.1", True),
    ("rw,relatime", "nfs4", "rw,vers=4.2,local_lock=flock", True),
    ("rw,relatime", "nfs4", "rw,vers=4.2,local_lock=posix", False),
    ("rw,flock", "lustre", "rw,flock", False),
    ("rw,localflock", "lustre", "rw", True),
    ("rw", "cifs", "rw,vers=3.0,nobrl", True),
    ("rw,relatime", "beegfs", "rw,cfgFile=/etc/beegfs/beegfs-client.conf", True),
    ("rw,nosuid", "fuse.sshfs", "rw,user_id=1000", True),
    ("rw", "fuse.fuse-overlayfs", "rw", False),
    ("rw", "cifs", "rw,vers=3.1.1,serverino", True),
    ("rw,relatime", "ext4", "rw", False),
]


@pytest.mark.parametrize(("options", "kind", "more", "is_local"), MOUNTS)
def test_which_mounts_keep_flock_to_this_host(
    options: str, kind: str, more: str, is_local: bool
) -> None:
    line = MOUNT.format(number=NUMBER, options=options, kind=kind, more=more)
    others = MOUNT.format(number="0:55", options="rw,localflock", kind="lustre", more="rw")
    device = os.makedev(0, 54)
    mount = find_mount(device, f"{others}\n{line}\n")
    assert mount.kind == kind
    assert is_flock_local(mount) is is_local
    assert find_mount(device, others) == Mount()


@pytest.mark.parametrize("text", ["", "\n", "x", "1 2 0:54", " - ", "1 2 0:54 / /x rw - "])
def test_mounts_that_say_nothing(text: str) -> None:
    assert not is_flock_local(find_mount(os.makedev(0, 54), text))


@pytest.mark.parametrize("is_local", [True, False])
def test_two_hosts_whose_flock_is_their_own(
    path: str, is_local: bool, monkeypatch: pytest.MonkeyPatch, children: List[int]
) -> None:
    """Each gets flock; with the file beside it one of them is told."""
    monkeypatch.setattr(fcntl, "flock", lambda *arguments: None)
    kind = "beegfs" if is_local else "ext4"
    monkeypatch.setattr(lock_file, "read_mount", lambda descriptor: Mount(kind))
    monkeypatch.setattr(lock_file, "take_nfs_client_lock", lambda descriptor: None)
    children.append(hold(path))
    other = Lock(path)
    assert other.take() is not is_local
    assert (f"process {children[0]} on" in other.describe_holder()) is is_local
    other.release()
    end(children[0])
    assert other.take()
    other.release()
    assert os.listdir(os.path.dirname(path)) == ["lock"]

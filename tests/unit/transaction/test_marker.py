"""Which environments are one, and which are copies."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Dict

import pytest

from safe_install.transaction import history, marker, unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.marker import place_marker, read_marker
from safe_install.transaction.recovery.main import main
from safe_install.transaction.recovery.mounts import Mount
from tests.small_environment import SmallEnvironment
from tests.unit.transaction.test_copies import COPIES


@pytest.fixture
def env(tmp_path: Path) -> SmallEnvironment:
    return SmallEnvironment(tmp_path / "env")


def make_known(env: SmallEnvironment) -> str:
    """It is changed for the first time."""
    with lock_environment(env.prefix):
        pass
    found = read_marker(env.prefix)
    assert found is not None
    return found


def see_as(monkeypatch: pytest.MonkeyPatch, kind: str, *, boot: str = "this start") -> None:
    monkeypatch.setattr(marker, "read_mount", lambda descriptor: Mount(kind))
    monkeypatch.setattr(marker, "describe_process", lambda: {"boot": boot})


def test_it_comes_with_the_first_change_and_stays(env: SmallEnvironment) -> None:
    assert read_marker(env.prefix) is None
    assert not (env.prefix / ".safe-install").exists()  # asking has changed nothing
    found = make_known(env)
    assert make_known(env) == found
    path = env.prefix / ".safe-install" / "marker"
    assert path.stat().st_mode & 0o777 == 0o600
    with lock_environment(env.prefix):
        history.prune(env.prefix, keep=0)
        unfinished.recover(env.prefix)
    assert main([str(env.prefix)]) == 0
    assert read_marker(env.prefix) == found


def test_an_environment_that_was_moved_is_the_same(env: SmallEnvironment) -> None:
    found = make_known(env)
    moved = env.prefix.with_name("elsewhere")
    os.rename(env.prefix, moved)
    assert read_marker(moved) == found
    (moved.parent / "link").symlink_to(moved)
    assert read_marker(moved.parent / "link") == found


@pytest.mark.parametrize("kind", ["ext4", "nfs4"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_another_one(
    env: SmallEnvironment, how: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_as(monkeypatch, kind)
    found = make_known(env)
    copy = env.prefix.with_name("copy")
    COPIES[how](env.prefix, copy)
    other = read_marker(copy)
    assert other not in (None, found)
    with lock_environment(copy):
        pass
    assert read_marker(copy) == other  # without a word written
    assert read_marker(env.prefix) == found


# What two hosts see: the file system, and the start of the machine.
HOSTS: Dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "node1, nfs": lambda patch: see_as(patch, "nfs4", boot="1"),
    "node2, nfs": lambda patch: see_as(patch, "nfs4", boot="2"),
    "node1, lustre": lambda patch: see_as(patch, "lustre", boot="1"),
    "node2, lustre": lambda patch: see_as(patch, "lustre", boot="2"),
    "node1, disk": lambda patch: see_as(patch, "ext4", boot="1"),
    "node2, disk": lambda patch: see_as(patch, "ext4", boot="2"),
    "node1, layers": lambda patch: see_as(patch, "overlay", boot="1"),
    "node2, layers": lambda patch: see_as(patch, "overlay", boot="2"),
    "node1, sshfs": lambda patch: see_as(patch, "fuse.sshfs", boot="1"),
    "node2, sshfs": lambda patch: see_as(patch, "fuse.sshfs", boot="2"),
}


@pytest.mark.parametrize(
    ("what", "is_shared"),
    [("nfs", True), ("lustre", True), ("disk", False), ("layers", False), ("sshfs", False)],
)
def test_the_same_file_on_two_hosts(
    what: str, is_shared: bool, env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was cloned has the same numbers on both, and is two. Where every host has numbers
    of its own, nothing is claimed."""
    make_known(env)
    found = []
    for node in ("node1", "node2"):
        HOSTS[f"{node}, {what}"](monkeypatch)
        found.append(read_marker(env.prefix))
    assert None not in found
    assert (found[0] == found[1]) is is_shared


def test_two_containers_of_one_image_on_one_machine(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the layer has one number in both; the file systems have two."""
    make_known(env)
    found, real = [], os.fstat
    for number in (70, 71):

        def fstat(descriptor: int, number: int = number) -> os.stat_result:
            status = list(real(descriptor))
            status[2] = number  # the file system's
            return os.stat_result(status)

        with monkeypatch.context() as patched:
            patched.setattr(marker.os, "fstat", fstat)
            found.append(read_marker(env.prefix))
    assert found[0] != found[1]


def test_where_no_start_of_the_machine_is_known_nothing_is_claimed(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_known(env)
    see_as(monkeypatch, "ext4", boot="")
    assert read_marker(env.prefix) is None


def leave(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


@pytest.mark.parametrize(
    "damage",
    [
        leave(b""),  # a power cut
        leave(b"0123456789abcdef0123456789abcde"),
        leave(b"0123456789abcdef0123456789abcdef"),
        leave(b"0123456789ABCDEF0123456789ABCDEF\n"),
        leave(b"x" * 100_000),
        leave(b"\xff" * 32 + b"\n"),
        os.mkfifo,
        lambda path: path.symlink_to("/etc/machine-id"),
    ],
)
def test_what_is_no_marker_is_written_anew(
    env: SmallEnvironment, damage: Callable[[Path], None]
) -> None:
    make_known(env)
    path = env.prefix / ".safe-install" / "marker"
    path.unlink()
    damage(path)
    assert read_marker(env.prefix) is None
    make_known(env)


def test_no_change_depends_on_it(env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(marker, "write_durably", fail)
    with lock_environment(env.prefix) as state:
        assert not (state / "marker").exists()
    (env.prefix / ".safe-install" / "marker").mkdir()
    monkeypatch.undo()
    with lock_environment(env.prefix) as state:
        place_marker(state)
    assert read_marker(env.prefix) is None


@pytest.mark.real_process
def test_a_copy_by_cp_and_hard_links(env: SmallEnvironment) -> None:
    """`cp -al` shares the file, its inode and all: two environments that are changed apart."""
    if shutil.which("cp") is None:
        pytest.skip("no cp here")
    make_known(env)
    copy = env.prefix.with_name("linked")
    subprocess.run(["cp", "-al", str(env.prefix), str(copy)], check=True)
    assert read_marker(copy) != read_marker(env.prefix)

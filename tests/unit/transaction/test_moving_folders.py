"""What others put into folders that move: seen by the names, or by the time of a change that no
program can set."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Dict

import pytest

from safe_install.transaction import moving_folders
from safe_install.transaction.moving_folders import (
    SETTLED,
    Listing,
    MovingFolder,
    find_added,
    find_local_disk,
    find_moving,
    read_settled_ctime,
)
from safe_install.transaction.recovery.mounts import Mount
from safe_install.transaction.recovery.rows import Identity


def disk_of(folder: Path) -> int:
    return folder.stat().st_dev


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "p"
    folder.mkdir(parents=True)
    (folder / "known.py").write_text("")
    return folder


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The moves are planned when nothing has changed for a while."""
    now = time.time_ns() + 2 * SETTLED
    monkeypatch.setattr(moving_folders.time, "time_ns", lambda: now)


def moving(package: Path) -> MovingFolder:
    """As it is when the moves are planned."""
    changed = read_settled_ctime(str(package), disk_of(package))
    listing = Listing(frozenset(os.listdir(package)), changed)
    return MovingFolder(str(package), "site/p", "", listing)


def add_in_another_tick(package: Path) -> None:
    """`later` is about the plan alone: two changes of one tick of the clock have the same ctime."""
    time.sleep(0.02)
    (package / "new.py").write_text("")


def test_the_time_of_this_moment_is_none(package: Path) -> None:
    """Another change within the same tick of the kernel's clock would have it, too."""
    (package / "new.py").write_text("")
    assert read_settled_ctime(str(package), disk_of(package)) is None


@pytest.mark.usefixtures("later")
def test_an_older_time_counts_on_the_disk_alone(package: Path) -> None:
    status = package.stat()
    assert read_settled_ctime(str(package), status.st_dev) == status.st_ctime_ns
    assert read_settled_ctime(str(package), status.st_dev + 1) is None
    assert read_settled_ctime(str(package), None) is None


@pytest.mark.parametrize(
    ("kind", "counts"),
    [("ext4", True), ("xfs", True), ("nfs4", False), ("fuse.sshfs", False), ("", False)],
)
def test_only_a_disk_of_this_machine_is_asked_for_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, counts: bool
) -> None:
    monkeypatch.setattr(moving_folders, "read_mount", lambda _: Mount(kind))
    assert find_local_disk(tmp_path) == (disk_of(tmp_path) if counts else None)


@pytest.mark.usefixtures("later")
def test_where_nothing_changed_no_name_is_read(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = moving(package)

    def refuse(path: str) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert find_added([folder], str(package.parents[1]), {}) == []


@pytest.mark.usefixtures("later")
def test_what_came_since_is_seen_by_the_time(package: Path) -> None:
    folder = moving(package)
    assert folder.listing.changed is not None
    add_in_another_tick(package)
    status = package.stat()
    os.utime(package, ns=(status.st_atime_ns, folder.listing.changed))  # as an unpacker may do
    assert find_added([folder], str(package.parents[1]), {}) == [str(package / "new.py")]


def test_what_came_in_the_same_moment_is_seen_by_its_name(package: Path) -> None:
    folder = moving(package)
    assert folder.listing.changed is None
    (package / "new.py").write_text("")
    assert find_added([folder], str(package.parents[1]), {}) == [str(package / "new.py")]


@pytest.mark.usefixtures("later")
def test_bytecode_and_what_went_are_nothing_new(package: Path) -> None:
    folder = moving(package)
    (package / "__pycache__").mkdir()
    (package / "known.py").unlink()
    assert find_added([folder], str(package.parents[1]), {}) == []


@pytest.mark.usefixtures("later")
def test_it_is_looked_for_where_the_folder_lies_now(package: Path, tmp_path: Path) -> None:
    folder = moving(package)
    add_in_another_tick(package)
    slot = tmp_path / "slot"
    package.rename(slot)
    assert find_added([folder], str(tmp_path), {"site/p": str(slot)}) == [str(package / "new.py")]


FOLDER, FILE = Identity("d", 1, 0, 0), Identity("f", 2, 0, 0)
LISTED: Dict[str, Listing] = {
    path: Listing(frozenset())
    for path in (
        "/env/site/p",
        "/env/site/p/sub/deep",
        "/env/site/p/sub/__pycache__",
        "/env/site/pq",
        "/env/site",
        "/elsewhere/site/p",
    )
}


@pytest.mark.parametrize(
    ("leaving", "found"),
    [
        ([("site/p", FOLDER)], [("site/p", ""), ("site/p", "sub/deep")]),
        ([("site/p/sub", FOLDER)], [("site/p/sub", "deep")]),
        ([("site/p", FILE)], []),
        ([], []),
    ],
)
def test_which_folders_go_with_what_leaves(leaving, found) -> None:
    folders = find_moving(LISTED, leaving, "/env")
    assert [(folder.target, folder.inside) for folder in folders] == found

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from safe_install.transaction import room, swap
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.room import (
    Room,
    estimate_size,
    find_shortage,
    find_shortage_of_folders,
    read_room,
)
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment
from tests.treehash import hash_tree

MIB = 2**20


@pytest.mark.parametrize(
    ("there", "size", "files", "words"),
    [
        (Room("/env", 10 * MIB, 100), 10 * MIB, 100, None),
        (
            Room("/env", 10 * MIB - 1, 100),
            10 * MIB,
            1,
            "/env has 9 MiB free and this needs about 10 MiB",
        ),
        (
            Room("/env", 10 * MIB, 99),
            1,
            100,
            "the file system of /env takes 99 more files and this needs about 100",
        ),
        (Room("/env", 10 * MIB, None), 1, 10**9, None),
        # 5 GB of torch and its bytecode
        (Room("/env", 3 * 2**30, None), 7 * 2**30, 0, "needs about 7168 MiB"),
    ],
)
def test_what_is_missing(there: Room, size: int, files: int, words: Optional[str]) -> None:
    found = find_shortage(there, size=size, files=files)
    assert (found is None) if words is None else (found is not None and words in found)


def test_the_disk_is_asked(tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    found = read_room(tmp_path)
    assert found.folder == str(tmp_path)
    assert abs(found.size - status.f_bavail * status.f_frsize) < 2**30
    assert (found.files is None) == (status.f_favail == 0)


def test_folders_of_one_file_system_share_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one of them is not there yet."""
    monkeypatch.setattr(room, "read_room", lambda folder: Room(str(folder), 10 * MIB))
    later, here = tmp_path / "not" / "yet", tmp_path
    assert find_shortage_of_folders([(later, 6 * MIB), (here, 4 * MIB)]) is None
    found = find_shortage_of_folders([(later, 6 * MIB), (here, 5 * MIB)])
    assert found == f"{tmp_path} has 10 MiB free and this needs about 11 MiB"
    elsewhere = Path("/proc")  # another file system
    assert find_shortage_of_folders([(elsewhere, 6 * MIB), (here, 5 * MIB)]) is None


def test_copies_of_a_lower_layer_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a renamed file is copied up, the old files need their size once more."""
    env = SmallEnvironment(tmp_path / "env")
    with lock_environment(env.prefix):
        old = env.install("p", "1", {"p/a.py": "1"}, rows=["p/lib.so,sha256=x,1"])
        with (env.site / "p" / "lib.so").open("wb") as stream:
            stream.truncate(3 * 2**30)
        before = hash_tree(env.site.parent.parent.parent / "bin", times=True)
        refuse_renames_of_directories(monkeypatch.setattr)
        monkeypatch.setattr(swap, "read_room", lambda folder: Room(str(folder), 2 * 2**30))
        with env.begin() as transaction:
            transaction.plan(remove=[old], keep=[])
            with pytest.raises(
                swap.Refused, match=r"2048 MiB free and this needs about 30\d\d MiB.*overlayfs"
            ):
                transaction.swap()
        assert (env.site / "p" / "lib.so").stat().st_size == 3 * 2**30
        assert hash_tree(env.site.parent.parent.parent / "bin", times=True) == before
        assert env.find_unfinished() == []


@pytest.mark.parametrize(
    ("files", "compiled", "least", "most"),
    [
        ([], True, 0, 2 * MIB),
        ([("a.so", 12 * MIB)], True, 12 * MIB, 14 * MIB),  # 12 MB is no reason to ask for 81
        ([("a.py", 2 * MIB)], True, 4 * MIB, 6 * MIB),
        ([("a.py", 2 * MIB)], False, 2 * MIB, 4 * MIB),
        ([("a.txt", 1)] * 10_000, True, 39 * MIB, 46 * MIB),  # a block for each
        ([("a.py", 3000)] * 10_000, True, 78 * MIB, 90 * MIB),
        (
            [("torch.so", 2 * 2**30), *[("a.py", 10_000)] * 9000],
            True,
            2 * 2**30 + 200 * MIB,
            2 * 2**30 + 240 * MIB,
        ),
    ],
)
def test_what_unpacking_takes(
    files: List[Tuple[str, int]], compiled: bool, least: int, most: int
) -> None:
    assert least <= estimate_size(files, compile_bytecode=compiled) <= most

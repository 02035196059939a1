"""The downloads in the cache: which go, and which stay."""

from __future__ import annotations

import os
import time

import pytest

from safe_install.transaction.recovery.lock_file import Lock
from safe_install.wheels.kept_downloads import IN_USE, mark_used, prune_downloads

DAY = 24 * 3600.0


@pytest.fixture
def download(tmp_path):
    """Make one of so many bytes, last used so many days ago."""

    def make(name, size, days):
        folder = tmp_path / "downloads" / name
        (folder / "sha").mkdir(parents=True)
        (folder / "sha" / f"{name}.whl").write_bytes(bytes(size))
        (folder / ".lock").touch()
        moment = time.time() - days * DAY
        os.utime(folder, (moment, moment))
        return folder

    return make


def left(tmp_path):
    return sorted(path.stem for path in (tmp_path / "downloads").rglob("*.whl"))


@pytest.mark.parametrize(
    ("keep", "stay"),
    [
        (600, ["month", "today", "week", "year"]),
        (599, ["month", "today", "week"]),
        (350, ["today", "week"]),
        (0, ["today"]),
    ],
)
def test_what_was_not_used_for_longest_goes(download, tmp_path, keep, stay):
    for name, size, days in (
        ("today", 300, 0),
        ("year", 100, 365),
        ("week", 50, 7),
        ("month", 150, 30),
    ):
        download(name, size, days)
    prune_downloads(tmp_path, keep=keep)
    assert left(tmp_path) == stay
    assert len(list((tmp_path / "downloads").iterdir())) == 4, "somebody may wait for a lock"


def test_the_part_of_a_file_goes_with_it(download, tmp_path):
    folder = download("year", 100, 365)
    (folder / "part.part").write_bytes(bytes(100))
    os.utime(folder, (0, 0))
    prune_downloads(tmp_path, keep=150)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == [".lock"]


def test_what_is_being_used_stays(download, tmp_path):
    held, used = download("held", 100, 365), download("used", 100, 364)
    mark_used(used)
    lock = Lock(str(held / ".lock"))
    assert lock.take()
    prune_downloads(tmp_path, keep=0)
    assert left(tmp_path) == ["held", "used"]
    lock.release()
    prune_downloads(tmp_path, keep=0)
    assert left(tmp_path) == ["used"]
    assert IN_USE == DAY


def test_no_cache_is_no_error(tmp_path):
    prune_downloads(tmp_path, keep=0)
    (tmp_path / "downloads").write_text("no folder")
    prune_downloads(tmp_path, keep=0)

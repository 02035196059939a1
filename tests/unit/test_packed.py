"""The program as one file: where it is unpacked, who may have been at it, and what goes again."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from safe_install import packed
from safe_install.program_archive import hash_program
from safe_install.wheels.store import find_cache

PROGRAM = {"safe_install/__init__.py": b"", "safe_install/a.py": b"x = 1\n"}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"XDG_CACHE_HOME": "/var/cache/mine"},
        {"SAFE_INSTALL_CACHE_DIR": "/var/cache/ours", "XDG_CACHE_HOME": "/var/cache/mine"},
        {"SAFE_INSTALL_CACHE_DIR": "~/ours"},
        {"SAFE_INSTALL_CACHE_DIR": "here"},
        {"HOME": "/home/else"},
    ],
    ids=str,
)
def test_it_is_the_cache_of_the_program(variables, monkeypatch):
    for name in ("SAFE_INSTALL_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert packed.find_cache(variables) == Path(os.path.realpath(find_cache(variables)))


def test_without_a_home_there_is_none(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", str)
    with pytest.raises(FileNotFoundError, match="there is no home"):
        packed.find_cache({})


@pytest.fixture
def seen():
    """A folder that others can look into, with all above it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        yield Path(os.path.realpath(folder))


@pytest.mark.parametrize(
    ("modes", "is_private"),
    [
        ((0o755, 0o755, 0o700, 0o700), True),
        ((0o755, 0o755, 0o755, 0o755), True),
        ((0o1777, 0o755, 0o700, 0o700), True),  # as /tmp
        ((0o777, 0o755, 0o700, 0o700), False),  # others can put another one in the place of all
        ((0o755, 0o775, 0o700, 0o700), False),
        ((0o700, 0o775, 0o700, 0o700), True),  # but here they do not get to it
        ((0o700, 0o755, 0o775, 0o700), False),
        ((0o700, 0o755, 0o700, 0o777), False),
        ((0o755, 0o755, 0o700, 0o1777), False),
        ((0o755, 0o755, 0o1777, 0o700), False),
    ],
)
def test_a_folder_that_others_can_write(seen, modes, is_private):
    folders = [seen / "a", seen / "a/b", seen / "a/b/program", seen / "a/b/program/c"]
    folders[-1].mkdir(parents=True)
    for folder, mode in zip(folders, modes):
        folder.chmod(mode)
    assert is_private == is_accepted(folders[-1])


def is_accepted(folder):
    try:
        packed.check_private(folder)
    except PermissionError as error:
        assert "is not of this user alone" in str(error)
        return False
    return True


def test_a_link_is_no_folder(seen):
    (seen / "real").mkdir()
    (seen / "link").symlink_to(seen / "real")
    assert is_accepted(seen / "real")
    assert not is_accepted(seen / "link")


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder needs root")
@pytest.mark.parametrize("place", ["program", "program/folder"])
def test_the_folder_of_another_user(seen, place):
    (seen / "program/folder").mkdir(parents=True)
    assert is_accepted(seen / "program/folder")
    os.chown(seen / place, 12345, 12345)
    assert not is_accepted(seen / "program/folder")


def write_archive(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def test_what_is_unpacked(tmp_path):
    others = {"__main__.py": b"", "wheels/a.whl": b"PK", "pylock.toml": b"", "rich/": b""}
    path = write_archive(tmp_path / "a.pyz", {**PROGRAM, **others})
    assert packed.read_members(path, hash_program(PROGRAM)) == PROGRAM
    with pytest.raises(ValueError, match="another program"):
        packed.read_members(path, "0" * 64)


@pytest.mark.parametrize("name", ["../a.py", "a/../../b.py", "/tmp/a.py", "a//b.py", "a\\b.py"])
def test_names_that_lead_elsewhere(tmp_path, name):
    members = {**PROGRAM, name: b"evil"}
    path = write_archive(tmp_path / "a.pyz", members)
    with pytest.raises(ValueError, match="leads elsewhere"):
        packed.read_members(path, hash_program(members))


def test_old_folders_are_removed_and_no_others(tmp_path):
    programs = tmp_path / "program"
    weeks = {"new": 0.5, "last-week": 1.5, "old": 2.5, "runs": 9, "new-killed": 3}
    for name, age in weeks.items():
        (programs / name / "rich").mkdir(parents=True)
        (programs / name / "rich/__init__.py").touch()
        moment = time.time() - age * packed.WEEK
        os.utime(programs / name, (moment, moment))
    (programs / "file").touch()
    os.utime(programs / "file", (0, 0))
    (programs / "link").symlink_to(tmp_path)
    os.utime(programs / "link", (0, 0), follow_symlinks=False)
    running = packed.lock(programs / "runs", fcntl.LOCK_SH)
    packed.remove_old(programs)
    left = {"new", "last-week", "runs", "file", "link"}
    assert {path.name for path in programs.iterdir()} == left
    os.close(running)
    packed.remove_old(programs)
    assert {path.name for path in programs.iterdir()} == left - {"runs"}
    assert tmp_path.is_dir()

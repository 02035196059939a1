"""Where files of the controller lie on a node: in a folder that nobody else can write, by their
hash."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from safe_install.fleet.ansible_collections.torch_safe_install.safe_install.plugins.module_utils import (
    delivered,
)

CONTENT = b"the program"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """As the user's own; the folder in its place lies beside it."""
    found = tmp_path.resolve() / "home"
    found.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.setattr(delivered, "FALLBACK_FOLDER", str(tmp_path.resolve() / "otherwise"))
    return found


@pytest.fixture
def arrived(tmp_path):
    path = tmp_path / "arrived"
    path.write_bytes(CONTENT)
    return str(path)


def find(source=None, sha256=SHA256):
    return delivered.find_delivered(sha256, ".pyz", source)


def test_it_is_kept_and_found_again(home, arrived):
    assert find() is None
    path = Path(find(arrived))
    assert path == home / ".cache/torch-safe-install/delivered" / f"{SHA256}.pyz"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert find() == str(path)


def test_other_bytes_are_not_kept(home, arrived):
    with pytest.raises(delivered.NotDelivered):
        find(arrived, "0" * 64)
    folder = home / ".cache/torch-safe-install/delivered"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "x", "../../../etc/passwd", "A" * 64])
def test_a_name_is_a_hash(home, sha256):
    with pytest.raises(delivered.NotDelivered):
        find(sha256=sha256)


def change_bytes(path):
    path.write_bytes(b"another program")


def open_for_others(path):
    path.chmod(0o666)


def lead_elsewhere(path):
    other = path.with_name("other")
    path.rename(other)
    path.symlink_to(other)


def make_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [change_bytes, open_for_others, lead_elsewhere, make_pipe])
def test_what_lies_there_is_compared(home, arrived, damage):
    path = Path(find(arrived))
    damage(path)
    assert find() is None
    assert find(arrived) == str(path)
    assert find() == str(path)
    assert not path.is_symlink()


@pytest.mark.parametrize("folder", ["", ".cache", ".cache/torch-safe-install/delivered"])
def test_a_folder_that_others_can_write_is_not_used(home, tmp_path, arrived, folder):
    find(arrived)
    (home / folder).chmod(0o777)
    path = Path(find(arrived))
    assert path.parent == tmp_path.resolve() / "otherwise"
    (tmp_path / "otherwise").chmod(0o777)
    with pytest.raises(delivered.NotDelivered) as refused:
        find(arrived)
    assert "can be written by others" in str(refused.value)


def test_what_was_not_used_for_long_goes(home, arrived):
    path = Path(find(arrived))
    old, fresh = path.with_name("old"), path.with_name("fresh")
    for one in (old, fresh):
        one.touch()
    os.utime(old, (0, 0))
    find(arrived)
    assert sorted(path.parent.iterdir()) == sorted([path, fresh])

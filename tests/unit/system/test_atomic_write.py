"""A file holds its old content or its new one, and nothing else is left beside it."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from safe_install.system.atomic_write import (
    replacing_file,
    why_no_file,
    write_atomically,
    write_output,
)


@pytest.mark.parametrize("before", [None, b"old"])
def test_the_new_content_takes_the_place(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_an_error_leaves_the_old_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    if broken == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"), replacing_file(path) as stream:
        stream.write(b"a part of the new")
        if broken == "write":
            fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_on_the_disk_before_the_file_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(os.fstat(descriptor).st_size))
    write_atomically(tmp_path / "cache", b"abc", is_durable=False)
    assert seen == []
    write_atomically(tmp_path / "memory", b"abc")
    assert seen == [3]


def test_the_mode_is_the_one_that_was_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "secret", b"", mode=0o600)
        write_atomically(tmp_path / "shared", b"")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"secret": 0o600, "shared": 0o644}


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"theirs")
    link.symlink_to(target)
    write_atomically(link, b"ours")
    assert not link.is_symlink()
    assert (target.read_bytes(), link.read_bytes()) == (b"theirs", b"ours")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"")


def test_a_fifo_that_the_user_named_is_written_to_and_stays(tmp_path: Path) -> None:
    """As a device would be: /dev/null must not become a file."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write_output(path, b"all of it")
    reader.join(30)
    assert read == [b"all of it"]
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert os.listdir(tmp_path) == ["fifo"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_that_the_user_named_stays_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    target, link = tmp_path / "target", Path("link")
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(target)
    write_output(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_an_archive_is_not_put_in_the_place_of_a_device(tmp_path: Path) -> None:
    assert why_no_file(tmp_path) == "is a folder"
    assert why_no_file(tmp_path / "missing" / "a") == "lies in no folder that is there"
    assert why_no_file(tmp_path / "a") == ""
    (tmp_path / "a").write_text("")
    assert why_no_file(tmp_path / "a") == ""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null"), Path("/dev/stdout")):
        assert why_no_file(path) == "is not a regular file"

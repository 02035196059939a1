"""What is kept of a file must not hide a change of it."""

from __future__ import annotations

import os

from tests import treehash


def test_a_write_that_puts_the_time_back_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(treehash, "SETTLED", -1)  # at once, and not after a moment
    file = tmp_path / "large.so"
    file.write_bytes(bytes(2**20))
    before = treehash.read_tree(tmp_path)
    status = file.stat()
    assert any(key[:2] == (status.st_dev, status.st_ino) for key in treehash._known)
    assert treehash.read_tree(tmp_path) == before
    _wait_for_another_ctime(tmp_path, status.st_ctime_ns)
    with file.open("r+b") as stream:
        stream.write(b"x")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert treehash.read_tree(tmp_path) != before


def _wait_for_another_ctime(folder, than):
    clock = folder.parent / "clock"
    clock.touch()
    while clock.stat().st_ctime_ns <= than:
        clock.touch()

"""What pip downloads while it plans outlives pip."""

from __future__ import annotations

import os
import shutil
import time

from safe_install.system import downloads
from safe_install.system.downloads import KeptDownloads


def wait_until_kept(kept, name, count=1):
    limit = time.monotonic() + 10
    while len(kept.find(name)) < count:
        assert time.monotonic() < limit, "it was not seen"
        time.sleep(0.002)


def test_a_file_outlives_the_folder_that_it_was_downloaded_into(tmp_path):
    kept = KeptDownloads(tmp_path / "downloads")
    folder = kept.temporary / "pip-unpack-x1"
    with kept.watching():
        folder.mkdir()
        with (folder / "demo-1.0-py3-none-any.whl").open("wb") as stream:
            stream.write(b"first ")
            stream.flush()
            wait_until_kept(kept, "demo-1.0-py3-none-any.whl")
            stream.write(b"second")  # seen while it was being written
        shutil.rmtree(folder)
    (found,) = kept.find("demo-1.0-py3-none-any.whl")
    assert found.read_bytes() == b"first second"
    assert kept.find("other-1.0-py3-none-any.whl") == []


def test_two_files_of_one_name(tmp_path):
    kept = KeptDownloads(tmp_path / "downloads")
    with kept.watching():
        for number in (1, 2):
            folder = kept.temporary / f"pip-unpack-x{number}"
            folder.mkdir()
            (folder / "demo.tar.gz").write_text(str(number))
            wait_until_kept(kept, "demo.tar.gz", count=number)
    assert [path.read_text() for path in kept.find("demo.tar.gz")] == ["2", "1"]


def test_what_is_no_download_is_not_kept(tmp_path):
    kept = KeptDownloads(tmp_path / "downloads")
    secret = tmp_path / "secret"
    secret.write_text("x")
    unpacked = kept.temporary / "pip-install-x1"
    unpacked.mkdir()
    (unpacked / "setup.py").write_text("")
    folder = kept.temporary / "pip-unpack-x1"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    (folder / "folder").mkdir()
    with kept.watching():
        (folder / "last").write_text("")
        wait_until_kept(kept, "last")
    assert not any(kept.find(name) for name in ("setup.py", "link", "folder"))


def test_a_file_system_without_hard_links_keeps_nothing(tmp_path, monkeypatch):
    kept = KeptDownloads(tmp_path / "downloads")
    asked = []

    def refuse(*paths):
        asked.append(paths)
        raise OSError("Operation not permitted")

    monkeypatch.setattr(downloads.os, "link", refuse)
    folder = kept.temporary / "pip-unpack-x1"
    folder.mkdir()
    (folder / "demo.whl").write_text("")
    with kept.watching():
        limit = time.monotonic() + 10
        while not asked and time.monotonic() < limit:
            time.sleep(0.002)
    assert asked and kept.find("demo.whl") == []
    assert os.listdir(folder) == ["demo.whl"]

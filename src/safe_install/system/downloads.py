"""Keeps the files that pip downloads while it plans, so that they are not downloaded twice.

pip downloads a source distribution to learn its requirements, and a wheel if the index has no
metadata file for it. It puts them into folders `pip-unpack-*` of its temporary folder, and deletes
them at its end. Here this folder is ours, and each new file gets a second name (a hard link), which
pip does not delete. The hash in pip's report tells whether a file is complete. Files that were
missed are downloaded again.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

INTERVAL = 0.005  # seconds between two looks; pip deletes its files after it wrote its report
_PREFIX = "pip-unpack-"


class KeptDownloads:
    """The files that pip downloaded while it was watched."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "pip"  # for pip's TMPDIR
        self._kept = folder / "kept"
        # by path and inode, since two downloads may have one name
        self._seen: Dict[Tuple[str, int], Path] = {}
        self.temporary.mkdir(parents=True)
        self._kept.mkdir()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the files that appear while the context is active."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stopped,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def all(self) -> List[Path]:
        """All files, newest first. Some of them may be incomplete."""
        return list(reversed(list(self._seen.values())))

    def find(self, filename: str) -> List[Path]:
        """The files of this name, newest first. Some of them may be incomplete."""
        return [path for path in self.all() if path.name == filename]

    def _watch(self, stopped: threading.Event) -> None:
        while not stopped.wait(INTERVAL):
            self._look()

    def _look(self) -> None:
        for folder in _entries(str(self.temporary)):
            if folder.name.startswith(_PREFIX):
                for entry in _entries(folder.path):
                    self._keep(entry)

    def _keep(self, entry: os.DirEntry[str]) -> None:
        key = (entry.path, entry.inode())
        if key in self._seen or not entry.is_file(follow_symlinks=False):
            return
        place = self._kept / str(len(self._seen))
        try:
            place.mkdir(exist_ok=True)
            os.link(entry.path, place / entry.name)
        except OSError:
            return  # it was deleted, or the file system has no hard links
        self._seen[key] = place / entry.name


def _entries(folder: str) -> List[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []

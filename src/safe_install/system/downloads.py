"""Keeps what pip downloads while it plans, so that nothing is downloaded twice.

To learn what a source distribution requires, pip downloads it, and a wheel too where the index does
not serve metadata by itself. The files lie in folders `pip-unpack-*` of its temporary folder and
are deleted when it ends. That folder is one of ours here, and each file gets a second name (a hard
link) as soon as it is seen, which outlives pip. Whether a file is whole is decided by the hash in
pip's report; what was missed is downloaded again.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

INTERVAL = 0.005  # seconds between two looks; pip deletes nothing before it has written its report
_PREFIX = "pip-unpack-"


class KeptDownloads:
    """The files that pip downloaded while it was watched."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "pip"  # pip's temporary folder: TMPDIR
        self._kept = folder / "kept"
        # by path and inode: two downloads may have one name
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

    def find(self, filename: str) -> List[Path]:
        """The files of this name, newest first; incomplete downloads are among them."""
        return [path for path in reversed(list(self._seen.values())) if path.name == filename]

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
            return  # deleted meanwhile, or a file system without hard links
        self._seen[key] = place / entry.name


def _entries(folder: str) -> List[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []

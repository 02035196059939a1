"""Limits the downloads in the cache: the least recently used are removed first.

Nothing is lost: each can be fetched again, and the pins of first bytes are stored elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import List, NamedTuple

from safe_install.wheels.lock import hold_lock_if_free

DOWNLOADS = "downloads"  # the folder in the cache; in it one for each address
LOCK = ".lock"
KEPT_GB = 20
KEPT_BYTES = KEPT_GB * 1024**3
IN_USE = 24 * 3600  # seconds: a command that is under way may need what it has fetched


class _Download(NamedTuple):
    """The files that were fetched from one URL."""

    folder: Path
    used: float  # seconds since the epoch
    size: int  # bytes


def mark_used(folder: Path) -> None:
    """Set the time of a download's folder to now, as that of its last use."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def prune_downloads(cache: Path, *, keep: int = KEPT_BYTES) -> None:
    """Remove the least recently used downloads until the rest fits into `keep` bytes. Those that
    were used today stay. Errors of the disk are ignored."""
    found = sorted(_read_downloads(cache / DOWNLOADS), key=lambda one: one.used)
    excess = sum(one.size for one in found) - keep
    newest = time.time() - IN_USE
    for one in found:
        if excess <= 0 or one.used > newest:
            return
        with contextlib.suppress(OSError):
            _empty(one.folder, newest)
            excess -= one.size


def _read_downloads(folder: Path) -> List[_Download]:
    found = []
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            used = entry.stat().st_mtime
            found.append(_Download(entry, used, sum(path.stat().st_size for path in _files(entry))))
    return found


def _files(folder: Path) -> List[Path]:
    """The files of a download, except its lock."""
    return [path for path in folder.rglob("*") if path.name != LOCK and path.is_file()]


def _empty(folder: Path, newest: float) -> None:
    """Remove the files of a download. Its lock stays, because somebody may be waiting for it.
    Errors: OSError."""
    with hold_lock_if_free(folder / LOCK) as is_held:
        if not is_held or folder.stat().st_mtime > newest:
            return  # it is used, or was meanwhile
        for path in _files(folder):
            path.unlink()

"""The downloads in the cache, kept within a bound: what was not used for longest goes first.

Nothing is lost by that: each can be fetched again, and what its address was first seen to serve is
remembered elsewhere.
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
    """What was fetched from one address."""

    folder: Path
    used: float  # seconds since the epoch
    size: int  # bytes


def mark_used(folder: Path) -> None:
    """The time of a download's folder is that of its last use."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def prune_downloads(cache: Path, *, keep: int = KEPT_BYTES) -> None:
    """Remove what was not used for longest, until the rest fits into `keep` bytes. What was used
    today stays. A disk that refuses that keeps it."""
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
    """All of a download but its lock."""
    return [path for path in folder.rglob("*") if path.name != LOCK and path.is_file()]


def _empty(folder: Path, newest: float) -> None:
    """Its lock stays: somebody may be waiting for it. Errors: OSError."""
    with hold_lock_if_free(folder / LOCK) as is_held:
        if not is_held or folder.stat().st_mtime > newest:
            return  # it is used, or was meanwhile
        for path in _files(folder):
            path.unlink()

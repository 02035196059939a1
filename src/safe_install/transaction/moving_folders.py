"""Detects files that other programs add, after the moves were planned, to folders that are moved as
a whole. pip takes no lock.

The names in these folders are read when the moves are planned. Right before and after the swap a
folder is read again only where its ctime has changed: the kernel sets it with each new name, and no
program can reset it.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Tuple

from safe_install.transaction.journal_rows import find_parents
from safe_install.transaction.recovery.mounts import is_disk, read_mount
from safe_install.transaction.recovery.rows import Identity

SETTLED = 100_000_000  # nanoseconds; two changes within a few milliseconds may have the same ctime
BYTECODE_FOLDER = "__pycache__"  # every program writes there


class Listing(NamedTuple):
    """The names that were read in a folder."""

    names: FrozenSet[str]
    changed: Optional[int] = None  # its ctime in nanoseconds; None if that is not reliable


class MovingFolder(NamedTuple):
    """A folder that is moved, by itself or with a folder above it."""

    path: str  # its path when the moves were planned
    target: str  # the moved folder, relative to the prefix
    inside: str  # its path in the moved folder; "" for that folder itself
    listing: Listing


def find_local_disk(folder: Path) -> Optional[int]:
    """The number of the file system where it is on a disk of this machine; else None, because a
    file server may report outdated times."""
    descriptor = os.open(str(folder), os.O_RDONLY)
    try:
        return os.fstat(descriptor).st_dev if is_disk(read_mount(descriptor)) else None
    finally:
        os.close(descriptor)


def read_settled_ctime(folder: str, disk: Optional[int]) -> Optional[int]:
    """The ctime of a folder in nanoseconds. None if the folder is not on `disk`, or its ctime is
    so recent that another change could get the same one."""
    status = os.stat(folder)
    if status.st_dev != disk or time.time_ns() - status.st_ctime_ns < SETTLED:
        return None
    return status.st_ctime_ns


def find_moving(
    listed: Mapping[str, Listing], leaving: Iterable[Tuple[str, Identity]], prefix: str
) -> Tuple[MovingFolder, ...]:
    """The `listed` folders that are moved out. `leaving`: (target, identity) of each move out."""
    moved = {target for target, old in leaving if old.kind == "d"}
    found = []
    for path, listing in listed.items():
        if os.path.basename(path) == BYTECODE_FOLDER:
            continue
        relative = os.path.relpath(path, prefix)
        for target in (relative, *find_parents(relative)):
            if target in moved:
                inside = relative[len(target) + 1 :]
                found.append(MovingFolder(path, target, inside, listing))
                break
    return tuple(found)


def find_added(
    folders: Iterable[MovingFolder], prefix: str, places: Mapping[str, str]
) -> List[str]:
    """The paths that were added to these folders, except bytecode folders. `places`: target -> its
    present path, where it was moved already."""
    added = []
    for folder in folders:
        # Strings are joined by hand: torch has 800 folders, and this runs while the change is in
        # place.
        path = places.get(folder.target) or f"{prefix}/{folder.target}"
        if folder.inside:
            path += f"/{folder.inside}"
        if folder.listing.changed is not None:
            with contextlib.suppress(OSError):
                if os.stat(path).st_ctime_ns == folder.listing.changed:
                    continue
        for name in os.listdir(path) if os.path.isdir(path) else []:
            if name not in folder.listing.names and name != BYTECODE_FOLDER:
                added.append(os.path.join(folder.path, name))
    return added

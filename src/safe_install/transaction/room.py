"""Is there room on the disk for a change? Checked before it begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Optional, Sequence, Tuple


class Room(NamedTuple):
    """The room on a file system for this user."""

    folder: str
    size: int  # bytes
    files: Optional[int] = (
        None  # number of files; None: not limited (btrfs, some network file systems)
    )


def read_room(folder: Path) -> Room:
    """The room on the file system of `folder`."""
    status = os.statvfs(folder)
    # "None left" is no count either: a transaction's own folders have just been made there.
    return Room(str(folder), status.f_bavail * status.f_frsize, status.f_favail or None)


def find_shortage(room: Room, *, size: int, files: int = 0) -> Optional[str]:
    """What is missing for `size` bytes in `files` files, as a sentence; None where there is
    room."""
    if room.size < size:
        return f"{room.folder} has {room.size // 2**20} MiB free and this needs about {-(-size // 2**20)} MiB"
    if room.files is not None and room.files < files:
        return f"the file system of {room.folder} takes {room.files} more files and this needs about {files}"
    return None


def find_shortage_of_folders(needed: Sequence[Tuple[Path, int]]) -> Optional[str]:
    """What is missing for the bytes of each folder, as a sentence; None where there is room.
    Folders may share a file system, and need not exist yet."""
    sizes: Dict[int, int] = {}
    for folder, size in needed:
        place = next(path for path in (folder, *folder.parents) if path.is_dir())
        device = os.stat(place).st_dev
        sizes[device] = sizes.get(device, 0) + size
        shortage = find_shortage(read_room(place), size=sizes[device])
        if shortage is not None:
            return shortage
    return None


def find_shortage_of_files(
    folder: Path, files: Sequence[Tuple[str, int]], *, compile_bytecode: bool
) -> Optional[str]:
    """What is missing to unpack files on the file system of `folder`, as a sentence; `files`:
    (path, bytes) of each. None where there is room."""
    sources = sum(path.endswith(".py") for path, _ in files) if compile_bytecode else 0
    return find_shortage(
        read_room(folder),
        size=estimate_size(files, compile_bytecode=compile_bytecode),
        files=len(files) + sources + _FILES_MARGIN,
    )


_FILES_MARGIN = 100  # directories, scripts of entry points
_BLOCK = 4096  # bytes; what file systems give a file at least
_PER_FILE = 512  # bytes: its rows in RECORD and in the journal, its name in a directory
_MARGIN = 2**20  # bytes: directories, the script beside the journal, the summary


def estimate_size(files: Iterable[Tuple[str, int]], *, compile_bytecode: bool) -> int:
    """The bytes on disk that unpacked files take; `files`: (path, bytes) of each. Bytecode is about
    as large as its source."""
    total = _MARGIN
    for path, size in files:
        total += _round_up(size) + _PER_FILE
        if compile_bytecode and path.endswith(".py"):
            total += _round_up(size) + _PER_FILE
    return total


def _round_up(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK

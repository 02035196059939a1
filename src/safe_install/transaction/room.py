"""Checks whether there is room on the disk for a change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterable, NamedTuple, Optional, Sequence, Tuple


class Room(NamedTuple):
    """The free room on a file system for this user."""

    folder: str
    size: int  # bytes
    files: Optional[int] = None  # free inodes; None if there is no limit (btrfs, some servers)


def read_room(folder: Path) -> Room:
    """The room on the file system of `folder`."""
    status = os.statvfs(folder)
    # 0 also means "no limit": the folders of the transaction have just been made there.
    return Room(str(folder), status.f_bavail * status.f_frsize, status.f_favail or None)


def find_shortage(room: Room, *, size: int, files: int = 0) -> Optional[str]:
    """A sentence on what is missing for `size` bytes in `files` files; None if there is room."""
    if room.size < size:
        return f"{room.folder} has {room.size // 2**20} MiB free and this needs about {-(-size // 2**20)} MiB"
    if room.files is not None and room.files < files:
        return f"the file system of {room.folder} takes {room.files} more files and this needs about {files}"
    return None


def find_shortage_of_folders(needed: Sequence[Tuple[Path, int]]) -> Optional[str]:
    """A sentence on what is missing for these bytes in these folders; None if there is room. The
    folders may share a file system, and need not exist yet."""
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
    """A sentence on what is missing to unpack files on the file system of `folder`; None if
    there is room. `files`: (path, bytes) of each."""
    sources = sum(path.endswith(".py") for path, _ in files) if compile_bytecode else 0
    return find_shortage(
        read_room(folder),
        size=estimate_size(files, compile_bytecode=compile_bytecode),
        files=len(files) + sources + _FILES_MARGIN,
    )


_FILES_MARGIN = 100  # directories, scripts of entry points
_BLOCK = 4096  # bytes; the smallest size of a file on disk
_PER_FILE = 512  # bytes: its rows in RECORD and in the journal, its name in a directory
_MARGIN = 2**20  # bytes: directories, the script beside the journal, the summary


def estimate_size(files: Iterable[Tuple[str, int]], *, compile_bytecode: bool) -> int:
    """The bytes on disk that unpacked files take. `files`: (path, bytes) of each. Bytecode is about
    as large as its source."""
    total = _MARGIN
    for path, size in files:
        total += _round_up(size) + _PER_FILE
        if compile_bytecode and path.endswith(".py"):
            total += _round_up(size) + _PER_FILE
    return total


def _round_up(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK

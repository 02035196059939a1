"""Reads existing files and the content of a stage for the planner of moves."""

from __future__ import annotations

import filecmp
import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from safe_install.transaction.moves import Staged
from safe_install.transaction.moving_folders import Listing, read_settled_ctime
from safe_install.transaction.ownership import Ownership
from safe_install.transaction.walk import walk_files


class DiskTree:
    """Answers from the disk as it is now; see `moves.Tree`."""

    def __init__(self, ownership: Ownership, disk: Optional[int] = None) -> None:
        """`disk`: the result of `moving_folders.find_local_disk`."""
        self._ownership, self._disk = ownership, disk
        self.listed: Dict[str, Listing] = {}  # directory -> the names in it

    def read_kind(self, path: str) -> Optional[str]:
        """See `moves.Tree`. A symbolic link is not followed."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(mode):
            return "d"
        if stat.S_ISLNK(mode):
            return "l"
        return "f" if stat.S_ISREG(mode) else "o"

    def read_entries(self, directory: str) -> Mapping[str, str]:
        """See `moves.Tree`. A symbolic link is not followed."""
        # Before the names: a file that is added meanwhile changes the ctime again.
        changed = read_settled_ctime(directory, self._disk)
        with os.scandir(directory) as entries:
            found = {entry.name: _read_entry_kind(entry) for entry in entries}
        self.listed[directory] = Listing(frozenset(found), changed)
        return found

    def resolve(self, path: str) -> str:
        """The path without symbolic links."""
        return os.path.realpath(path)

    def has_same_content(self, first: str, second: str) -> bool:
        """Do two files have the same bytes? False for symbolic links."""
        if os.path.islink(first) or os.path.islink(second) or not os.path.isfile(second):
            return False
        return filecmp.cmp(first, second, shallow=False)

    def find_owner(self, path: str) -> Optional[str]:
        """The remaining distribution whose RECORD lists `path`."""
        return self._ownership.find_owner(path)


def _read_entry_kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "l"
    if entry.is_dir():
        return "d"
    return "f" if entry.is_file() else "o"


def read_staged(root: Path) -> Staged:
    """The tree of a stage directory; its root stands for `/`."""
    return _read_node("", str(root), "d")


def _read_node(name: str, path: str, kind: str) -> Staged:
    if kind != "d":
        return Staged(name, path, kind)
    with os.scandir(path) as entries:
        found = sorted((entry.name, entry.path, _read_entry_kind(entry)) for entry in entries)
    return Staged(name, path, kind, tuple(_read_node(*child) for child in found))


def read_targets(root: Path) -> Iterator[str]:
    """The final paths of the files in a stage."""
    for folder, _, names in os.walk(root):
        place = os.path.join("/", os.path.relpath(folder, root))
        for name in names:
            yield os.path.normpath(os.path.join(place, name))


def hash_stage(root: Path) -> Optional[str]:
    """A hash of path, mode, size and time of every file in a stage, to detect changes. None if a
    file is neither a regular file nor a directory."""
    digest = hashlib.sha256()
    rows: List[Tuple[str, int, int, int]] = []
    for path in walk_files(root):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        relative = os.path.relpath(path, root)
        rows.append((relative, status.st_mode, status.st_size, status.st_mtime_ns))
    for row in sorted(rows):
        digest.update(repr(row).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def folds_case(directory: Path) -> bool:
    """Does the file system treat names that differ only in case as one? Nothing is written to find
    out."""
    other = directory.with_name(directory.name.swapcase())
    if other.name == directory.name:
        return False
    try:
        return os.path.samestat(os.lstat(directory), os.lstat(other))
    except OSError:
        return False

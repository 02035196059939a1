"""The disk, as the planner of moves asks about it: existing files, and the content of the stage."""

from __future__ import annotations

import filecmp
import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Set, Tuple

from safe_install.transaction.moves import Staged
from safe_install.transaction.moving_folders import Listing, read_settled_ctime
from safe_install.transaction.ownership import Ownership


class DiskTree:
    """Answers from the disk as it is now; see `moves.Tree`."""

    def __init__(self, ownership: Ownership, disk: Optional[int] = None) -> None:
        """`disk`: as `moving_folders.find_local_disk` names it."""
        self._ownership, self._disk = ownership, disk
        self.listed: Dict[str, Listing] = {}  # the names in directories

    def read_kind(self, path: str) -> Optional[str]:
        """The kind of what lies at `path` itself."""
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISDIR(mode):
            return "d"
        return "l" if stat.S_ISLNK(mode) else "f" if stat.S_ISREG(mode) else "o"

    def read_entries(self, directory: str) -> Mapping[str, str]:
        """Name -> kind; a link to a directory is a link."""
        changed = read_settled_ctime(
            directory, self._disk
        )  # before the names: a file added meanwhile changes it again
        with os.scandir(directory) as entries:
            found = {entry.name: _read_entry_kind(entry) for entry in entries}
        self.listed[directory] = Listing(frozenset(found), changed)
        return found

    def resolve(self, path: str) -> str:
        """The path without symbolic links."""
        return os.path.realpath(path)

    def has_same_content(self, first: str, second: str) -> bool:
        """Do two files have the same bytes? A link never has the same as a file."""
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
    """A hash over path, mode, size and time of every file in a stage, to detect changes. None where
    it holds something that no wheel has (a link, a device)."""
    digest = hashlib.sha256()
    rows: List[Tuple[str, int, int, int]] = []
    for folder, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                relative = os.path.relpath(path, root)
                rows.append((relative, status.st_mode, status.st_size, status.st_mtime_ns))
            elif not stat.S_ISDIR(status.st_mode):
                return None
    for row in sorted(rows):
        digest.update(repr(row).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def list_files(folder: Path) -> Set[str]:
    """Everything below a folder except directories; a link to a directory counts as a file."""
    found: Set[str] = set()
    for parent, names, files in os.walk(folder):
        links = [name for name in names if os.path.islink(os.path.join(parent, name))]
        found.update(os.path.join(parent, name) for name in (*files, *links))
    return found


def folds_case(directory: Path) -> bool:
    """Does the file system treat names that differ only in case as one file? Nothing is written to
    find out."""
    other = directory.with_name(directory.name.swapcase())
    try:
        return other.name != directory.name and os.path.samestat(
            os.lstat(directory), os.lstat(other)
        )
    except OSError:
        return False

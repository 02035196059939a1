"""The format of a journal: its names, its rows, and what tells whether a file is still the same."""

import re
from typing import Any, Dict, NamedTuple, Optional, Sequence

FORMAT = 1
STATE_DIRECTORY = ".safe-install"
JOURNAL = "journal"
COMMITTED = "committed"
LOCK = "lock"
TRANSACTION_NAME = re.compile(r"^txn-(\d{8}T\d{6}Z-[0-9a-f]{4,8})$")

Document = Dict[str, Any]


class Identity(NamedTuple):
    """What tells whether the object at a path is still the same."""

    kind: str  # "f" file, "d" directory, "l" symbolic link, "o" anything else
    inode: int  # 0: not compared
    size: int  # of a directory: of its RECORD, 0 without one
    mtime_ns: int  # the same


class Exchange(NamedTuple):
    """A row of the journal: the old object at `target` and the new one at `slot` trade places."""

    target: str
    slot: str
    old: Identity
    new: Identity


class MoveOut(NamedTuple):
    """A row of the journal: the old object at `target` goes to `slot`."""

    target: str
    slot: str
    old: Identity


class MoveIn(NamedTuple):
    """A row of the journal: the new object at `slot` goes to `target`."""

    slot: str
    target: str
    new: Identity


class RemovedDirectory(NamedTuple):
    """A row of the journal: a directory that was empty after the moves out."""

    target: str
    mode: int
    uid: int
    gid: int


class MadeDirectory(NamedTuple):
    """A row of the journal: a directory that the moves in needed."""

    target: str
    mode: int


class DirectoryTimes(NamedTuple):
    """A row of the journal: the times of a touched directory before the change."""

    target: str
    atime_ns: int
    mtime_ns: int


class JournalInvalid(Exception):
    """The journal cannot be trusted: damaged, of a newer format, or with paths that leave the
    prefix."""


class Drift(Exception):
    """Some paths are neither as before nor as after: somebody else changed them. Nothing was
    touched."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__("changed by somebody else since: " + ", ".join(paths[:5]))
        self.paths = tuple(paths)


def is_same(first: Optional[Identity], second: Optional[Identity]) -> bool:
    """Do both identities mean the same thing on the disk?"""
    if first is None or second is None or first.kind != second.kind:
        return False
    if first.inode and second.inode and first.inode != second.inode:
        return False
    return (first.size, first.mtime_ns) == (second.size, second.mtime_ns)


def is_copy_of(now: Optional[Identity], before: Identity) -> bool:
    """Is it the same but for its inode number, and for what copies lose of a time?

    Archives and the layers of images hold whole seconds, some tools microseconds.
    """
    if now is None or now.kind != before.kind or now.size != before.size:
        return False
    return any(now.mtime_ns == before.mtime_ns // unit * unit for unit in (1, 1000, 10**9))

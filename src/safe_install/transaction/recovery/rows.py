"""The format of a journal: file names, rows, and the identities of files."""

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
    """The facts by which the object at a path is recognized."""

    kind: str  # "f" file, "d" directory, "l" symbolic link, "o" other
    inode: int  # 0: not compared
    size: int  # bytes; for a directory the size of the RECORD in it, 0 without one
    mtime_ns: int  # for a directory the time of the RECORD in it, 0 without one


class Exchange(NamedTuple):
    """A row of the journal: the old object at `target` and the new one at `slot` are exchanged."""

    target: str
    slot: str
    old: Identity
    new: Identity


class MoveOut(NamedTuple):
    """A row of the journal: the old object at `target` is moved to `slot`."""

    target: str
    slot: str
    old: Identity


class MoveIn(NamedTuple):
    """A row of the journal: the new object at `slot` is moved to `target`."""

    slot: str
    target: str
    new: Identity


class RemovedDirectory(NamedTuple):
    """A row of the journal: a directory that is removed, because the moves out empty it."""

    target: str
    mode: int
    uid: int
    gid: int


class MadeDirectory(NamedTuple):
    """A row of the journal: a directory that is made for the moves in."""

    target: str
    mode: int


class DirectoryTimes(NamedTuple):
    """A row of the journal: the times of a changed directory before the change."""

    target: str
    atime_ns: int
    mtime_ns: int


class JournalInvalid(Exception):
    """The journal cannot be used: it is damaged, has a newer format, or has paths outside of the
    prefix."""


class Drift(Exception):
    """Another program has changed some paths: they are neither in the state before the change nor
    in the one after it. Nothing was touched."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__("changed by somebody else since: " + ", ".join(paths[:5]))
        self.paths = tuple(paths)


def is_same(first: Optional[Identity], second: Optional[Identity]) -> bool:
    """Do both identities describe the same object?"""
    if first is None or second is None or first.kind != second.kind:
        return False
    if first.inode and second.inode and first.inode != second.inode:
        return False
    return (first.size, first.mtime_ns) == (second.size, second.mtime_ns)


def is_copy_of(now: Optional[Identity], before: Identity) -> bool:
    """Is it a copy, with the same kind, size and time? Copies may have rounded times: whole seconds
    in archives and image layers, microseconds with some tools."""
    if now is None or now.kind != before.kind or now.size != before.size:
        return False
    return any(now.mtime_ns == before.mtime_ns // unit * unit for unit in (1, 1000, 10**9))

"""Reads a journal from the disk, and checks it."""

import hashlib
import json
import os
from typing import Dict, List

from safe_install.transaction.recovery.disk import is_inside, read_regular_file
from safe_install.transaction.recovery.rows import (
    FORMAT,
    STATE_DIRECTORY,
    TRANSACTION_NAME,
    DirectoryTimes,
    Document,
    Exchange,
    Identity,
    JournalInvalid,
    MadeDirectory,
    MoveIn,
    MoveOut,
    RemovedDirectory,
)

# Path components that cannot name something inside a directory.
_NO_NAMES = ("", ".", "..")
_MAX_ID = 2**32 - 1
_MAX_INODE = 2**64 - 1
_MAX_NUMBER = 2**63 - 1  # of times and sizes


def read_journal(path: str) -> Document:
    """The document of a journal file. Errors: JournalInvalid, OSError."""
    checksum, _, body = read_regular_file(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode("ascii") != checksum:
        raise JournalInvalid("%s is damaged: its checksum does not fit" % path)
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise JournalInvalid("%s is not JSON: %s" % (path, error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise JournalInvalid(
            "%s has another format than %d: a newer safe-install wrote it" % (path, FORMAT)
        )
    return document


def check_identity(row: object) -> Identity:
    """Parse [kind, inode, size, mtime_ns]. Errors: ValueError."""
    if not isinstance(row, list) or len(row) != 4 or row[0] not in ("f", "d", "l", "o"):
        raise ValueError("%r is not the identity of a file" % (row,))
    kind, inode, size, mtime_ns = row
    return Identity(kind, _number(inode, _MAX_INODE), _number(size), _number(mtime_ns))


def _number(value: object, most: int = _MAX_NUMBER) -> int:
    least = -_MAX_NUMBER if most == _MAX_NUMBER else 0  # times before 1970
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError("%r is not a number from %d to %d" % (value, least, most))
    return value


def _split(relative: object) -> List[str]:
    if not isinstance(relative, str) or "\0" in relative:
        raise ValueError("%r is not a path" % (relative,))
    parts = relative.split(os.sep)
    # UnicodeEncodeError, for a surrogate, is a ValueError.
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise ValueError("a name in %r... is longer than a file system has" % relative[:80])
    return parts


class CheckedRows:
    """The rows of one journal with absolute paths. Each path is checked, so that a forged journal
    cannot move anything outside of the environment. Errors: JournalInvalid."""

    def __init__(self, prefix: str, document: Document) -> None:
        self.prefix = os.path.realpath(prefix)
        self.state = os.path.join(self.prefix, STATE_DIRECTORY)
        self.exchanges: List[Exchange] = []
        self.outs: List[MoveOut] = []
        self.rmdirs: List[RemovedDirectory] = []
        self.mkdirs: List[MadeDirectory] = []
        self.ins: List[MoveIn] = []
        self.times: List[DirectoryTimes] = []
        self._real_parents: Dict[str, str] = {}
        try:
            self._read(document)
        except (KeyError, TypeError, ValueError) as error:
            raise JournalInvalid(
                "the journal cannot be read: %s %s" % (type(error).__name__, error)
            ) from error

    def _read(self, document: Document) -> None:
        self._read_moves(document)
        self._read_directories(document)
        if not isinstance(document.get("command", []), list):
            raise ValueError("the command is not a list")
        if not TRANSACTION_NAME.match("txn-%s" % document.get("id")):
            raise ValueError("%r is not the name of a transaction" % document.get("id"))

    def _read_moves(self, document: Document) -> None:
        for target, slot, old, new in document["exchanges"]:
            pair = Exchange(
                self._target(target), self._slot(slot), check_identity(old), check_identity(new)
            )
            self.exchanges.append(pair)
        for target, slot, old in document["outs"]:
            self.outs.append(MoveOut(self._target(target), self._slot(slot), check_identity(old)))
        for slot, target, new in document["ins"]:
            self.ins.append(MoveIn(self._slot(slot), self._target(target), check_identity(new)))

    def _read_directories(self, document: Document) -> None:
        for target, mode, uid, gid in document["rmdirs"]:
            path, owner, group = self._target(target), _number(uid, _MAX_ID), _number(gid, _MAX_ID)
            self.rmdirs.append(RemovedDirectory(path, _number(mode, 0o7777), owner, group))
        for target, mode in document["mkdirs"]:
            self.mkdirs.append(MadeDirectory(self._target(target), _number(mode, 0o7777)))
        for target, atime_ns, mtime_ns in document["times"]:
            self.times.append(
                DirectoryTimes(self._target(target), _number(atime_ns), _number(mtime_ns))
            )

    def _target(self, relative: str) -> str:
        parts = _split(relative)
        if any(part in _NO_NAMES for part in parts) or parts[0] == STATE_DIRECTORY:
            raise JournalInvalid(
                "the journal names a path that is not in the environment: %r" % relative
            )
        return self._check_parent(os.path.join(self.prefix, relative), self.prefix, relative)

    def _slot(self, relative: str) -> str:
        parts = _split(relative)
        bad = any(part in _NO_NAMES for part in parts) or len(parts) < 3
        if bad or not TRANSACTION_NAME.match(parts[0]) or parts[1] not in ("stage", "stash"):
            raise JournalInvalid(
                "the journal names a path that is not in a transaction: %r" % relative
            )
        return self._check_parent(os.path.join(self.state, relative), self.state, relative)

    def _check_parent(self, path: str, root: str, relative: str) -> str:
        parent = os.path.dirname(path)
        real = self._real_parents.get(parent)
        if real is None:
            real = self._real_parents[parent] = os.path.realpath(parent)
        if real != parent or (real != root and not is_inside(real, root)):
            raise JournalInvalid(
                "the journal names a path that leads elsewhere through a link: %r" % relative
            )
        return path

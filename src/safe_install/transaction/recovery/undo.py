"""Undoes the change in a journal."""

import errno
import os
import stat
from typing import Dict, Iterator, List, Optional, Sequence, Set

from safe_install.transaction.recovery.copies import CopiedEnvironment
from safe_install.transaction.recovery.disk import (
    exchange,
    is_bytecode,
    is_inside,
    read_identity,
    refresh_folders,
    sync_filesystem,
)
from safe_install.transaction.recovery.journal_file import CheckedRows
from safe_install.transaction.recovery.records import list_dist_infos, read_record
from safe_install.transaction.recovery.rows import (
    Document,
    Drift,
    Exchange,
    Identity,
    RemovedDirectory,
    is_same,
)


class Undo:
    """Compares one journal with the disk, and undoes it."""

    def __init__(self, prefix: str, document: Document, written: Optional[int] = None) -> None:
        """`written`: the time of the journal in nanoseconds. With it, files that other programs
        have installed since are drift, and a copied environment is recognized. Errors:
        JournalInvalid."""
        rows = CheckedRows(prefix, document)
        self.state = rows.state
        self.exchanges = rows.exchanges
        self.outs = rows.outs
        self.rmdirs = rows.rmdirs
        self.mkdirs = rows.mkdirs
        self.ins = rows.ins
        self.times = rows.times
        refresh_folders(rows.prefix, self._paths())
        self.is_copy = False
        self._written = written
        if written is not None:
            copy = CopiedEnvironment(rows, document)
            copied = copy.recognize()
            if copied is not None:
                self.is_copy = True
                self.exchanges, self.outs, self.ins = copied
                self._written = written if copy.has_times else None

    def _paths(self) -> Iterator[str]:
        for pair in self.exchanges:
            yield from (pair.target, pair.slot)
        for leaving in self.outs:
            yield from (leaving.target, leaving.slot)
        for coming in self.ins:
            yield from (coming.target, coming.slot)
        for removed in self.rmdirs:
            yield os.path.join(removed.target, "")  # the folder itself is refreshed, too
        for made in self.mkdirs:
            yield os.path.join(made.target, "")

    # --- comparing --------------------------------------------------------------------------------

    def find_drift(self) -> List[str]:
        """The paths that are neither in the state before the change nor in the one after it."""
        placed = {move.target: move.new for move in self.ins}
        before = {move.target: move.old for move in self.outs}
        made = {directory.target for directory in self.mkdirs}
        removed = {directory.target for directory in self.rmdirs}
        drift: List[str] = []
        for pair in self.exchanges:
            if not _exchange_is_legal(pair):
                drift.append(pair.target)
        for leaving in self.outs:
            if not _move_is_legal(leaving.target, leaving.slot, leaving.old, placed, made):
                drift.append(leaving.target)
        for coming in self.ins:
            if not _move_is_legal(coming.target, coming.slot, coming.new, before, removed):
                drift.append(coming.target)
        drift.extend(path for path in removed if not _is_directory_or(path, placed))
        drift.extend(path for path in made if not _is_directory_or(path, before))
        drift.extend(self._find_strangers(made, placed))
        drift.extend(self._find_installed_since())
        return sorted(set(drift))

    def _find_installed_since(self) -> List[str]:
        """The files of distributions that another installer has installed since, in directories
        that the undo moves out."""
        new = {pair.target: pair.new for pair in self.exchanges}
        new.update((move.target, move.new) for move in self.ins)
        leaving = [target for target, identity in new.items() if identity.kind == "d"]
        if self._written is None or not leaving:
            return []
        sites = {os.path.dirname(path) for path in new if path.endswith(".dist-info")}
        found: List[str] = []
        for folder in list_dist_infos(sites):
            record = os.path.join(folder, "RECORD")
            if folder not in new and self._is_newer(record):
                found += _find_listed(record, leaving)
        return found

    def _is_newer(self, path: str) -> bool:
        """Was a file written after the journal? In a copy its mtime is compared, because all ctimes
        are new."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        moment = status.st_mtime_ns if self.is_copy else status.st_ctime_ns
        return self._written is not None and moment > self._written

    def _find_strangers(self, made: Set[str], placed: Dict[str, Identity]) -> List[str]:
        """The files that other programs have put into directories that the change made: these could
        not be removed."""
        strangers: List[str] = []
        known = {pair.target for pair in self.exchanges}
        for directory in made:
            if not os.path.isdir(directory) or os.path.islink(directory):
                continue
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if path in made or path in placed or path in known or _holds_only_bytecode(path):
                    continue
                strangers.append(path)
        return strangers

    def find_missing_before(self) -> List[str]:
        """The paths that are not in the state before the change, so that a swap cannot begin."""
        before = {move.target for move in self.outs}
        removed = {directory.target for directory in self.rmdirs}
        wrong: List[str] = []
        for pair in self.exchanges:
            is_old = is_same(read_identity(pair.target), pair.old)
            if not is_old or not is_same(read_identity(pair.slot), pair.new):
                wrong.append(pair.target)
        for leaving in self.outs:
            is_old = is_same(read_identity(leaving.target), leaving.old)
            if not is_old or os.path.lexists(leaving.slot):
                wrong.append(leaving.target)
        for coming in self.ins:
            will_be_free = coming.target in before or coming.target in removed
            is_occupied = os.path.lexists(coming.target) and not will_be_free
            if is_occupied or not is_same(read_identity(coming.slot), coming.new):
                wrong.append(coming.target)
        wrong.extend(path for path in removed if not os.path.isdir(path))
        for directory in self.mkdirs:
            if os.path.lexists(directory.target) and directory.target not in before:
                wrong.append(directory.target)
        return sorted(set(wrong))

    # --- undoing ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Move everything back, in the reverse order of the swap. Errors: Drift, with nothing
        touched; OSError."""
        drift = self.find_drift()
        if drift:
            raise Drift(drift)
        for coming in reversed(self.ins):
            if os.path.lexists(coming.slot):
                continue
            if is_same(read_identity(coming.target), coming.new):
                os.rename(coming.target, coming.slot)
        for made in reversed(self.mkdirs):
            if os.path.isdir(made.target) and not os.path.islink(made.target):
                _remove_bytecode(made.target)
                os.rmdir(made.target)
        if self.ins or self.mkdirs:  # what goes back may take a name that became free
            sync_filesystem(self.state)
        for removed in reversed(self.rmdirs):
            _make_directory_again(removed)
        for leaving in reversed(self.outs):
            if is_same(read_identity(leaving.slot), leaving.old):
                os.rename(leaving.slot, leaving.target)
        for pair in reversed(self.exchanges):
            if is_same(read_identity(pair.target), pair.new):
                exchange(pair.target, pair.slot)
        self.restore_times()
        sync_filesystem(self.state)

    def restore_times(self) -> None:
        """Restore the times of every changed directory."""
        for row in self.times:
            try:
                os.utime(row.target, ns=(row.atime_ns, row.mtime_ns))
            except OSError as error:
                # A folder that does not exist, or of another user: the recovery goes on.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EPERM):
                    raise


def _find_listed(record: str, directories: Sequence[str]) -> List[str]:
    """The existing files in a RECORD that lie in these directories, without bytecode."""
    site = os.path.dirname(os.path.dirname(record))
    found: List[str] = []
    for row, _ in read_record(record):
        path = os.path.join(site, row)
        is_inside_one = any(is_inside(path, directory) for directory in directories)
        if is_inside_one and not is_bytecode(path) and os.path.lexists(path):
            found.append(path)
    return found


def _exchange_is_legal(row: Exchange) -> bool:
    at_target, at_slot = read_identity(row.target), read_identity(row.slot)
    is_before = is_same(at_target, row.old) and is_same(at_slot, row.new)
    is_after = is_same(at_target, row.new) and is_same(at_slot, row.old)
    return is_before or is_after


def _move_is_legal(
    target: str, slot: str, identity: Identity, others: Dict[str, Identity], directories: Set[str]
) -> bool:
    """Is the object of a row at its target or at its slot, and is the target free in the second
    case?

    A target is also free where it has the object of another row (`others`), a directory of the
    change (`directories`), or bytecode, which any Python may have written.
    """
    at_target, at_slot = read_identity(target), read_identity(slot)
    if is_same(at_target, identity) and at_slot is None:
        return True
    if not is_same(at_slot, identity):
        return False
    if at_target is None or is_same(at_target, others.get(target)) or is_bytecode(target):
        return True
    return target in directories and at_target.kind == "d"


def _is_directory_or(path: str, others: Dict[str, Identity]) -> bool:
    now = read_identity(path)
    return now is None or now.kind == "d" or is_same(now, others.get(path))


def _holds_only_bytecode(path: str) -> bool:
    if os.path.basename(path) != "__pycache__" or os.path.islink(path) or not os.path.isdir(path):
        return False
    return all(name.endswith(".pyc") for name in os.listdir(path))


def _remove_bytecode(directory: str) -> None:
    cache = os.path.join(directory, "__pycache__")
    names = os.listdir(cache) if _holds_only_bytecode(cache) else []
    for name in names:
        os.unlink(os.path.join(cache, name))
    if os.path.isdir(cache) and not os.listdir(cache):
        os.rmdir(cache)
    if os.path.basename(directory) == "__pycache__" and _holds_only_bytecode(directory):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))


def _make_directory_again(row: RemovedDirectory) -> None:
    if not os.path.isdir(row.target):
        os.mkdir(row.target)
    status = os.lstat(row.target)
    if (status.st_uid, status.st_gid) != (row.uid, row.gid):
        os.chown(row.target, row.uid, row.gid)
    if stat.S_IMODE(status.st_mode) != row.mode:
        os.chmod(row.target, row.mode)

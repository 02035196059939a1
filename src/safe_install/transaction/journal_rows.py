"""The rows of a journal with what the disk says of every path; the same change with a row for each file."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import AbstractSet, Iterator, List, Tuple

from safe_install.transaction import recover as recovery
from safe_install.transaction.journal import Identity, Journal, MadeDirectory, MoveIn, MoveOut, RemovedDirectory


def read_identity(path: str, *, inode: bool = True) -> Identity:
    """What lies at `path`, or FileNotFoundError. Without `inode` that is recorded as "not compared"."""
    found = recovery.read_identity(path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    kind, number, size, mtime_ns = found
    return Identity(kind, number if inode else 0, size, mtime_ns)


def read_removed_directory(prefix: str, target: str) -> RemovedDirectory:
    """A directory that will be removed, with its mode and owners."""
    status = os.lstat(os.path.join(prefix, target))
    return RemovedDirectory(target, status.st_mode & 0o7777, status.st_uid, status.st_gid)


def expand_to_files(journal: Journal, prefix: Path, stay: AbstractSet[str] = frozenset()) -> Journal:
    """The same change with a row for each file, for where directories cannot be renamed; no two names trade places.

    The files `stay` (absolute) are in directories that would leave, and keep their place.
    """
    state, root = str(prefix / recovery.STATE_DIRECTORY), str(prefix)
    leaving = [pair.target for pair in journal.exchanges] + [gone.target for gone in journal.outs]
    coming = [(pair.slot, pair.target) for pair in journal.exchanges] + [(new.slot, new.target) for new in journal.ins]
    staying = {os.path.relpath(path, root) for path in stay}
    kept = {folder for path in staying for folder in find_parents(path)}
    outs, emptied = [], []
    for target in leaving:
        files, folders = _read_below(os.path.join(root, target))
        outs += [os.path.normpath(os.path.join(target, file)) for file in files]
        emptied += [os.path.normpath(os.path.join(target, folder)) for folder in reversed(folders)]
    outs = [path for path in outs if path not in staying]
    ins, made = [], []
    for slot, target in coming:
        files, folders = _read_below(os.path.join(state, slot))
        pairs = [
            (os.path.normpath(os.path.join(slot, name)), os.path.normpath(os.path.join(target, name))) for name in files
        ]
        ins += [MoveIn(one, other, read_identity(os.path.join(state, one), inode=False)) for one, other in pairs]
        for folder in folders:
            mode = os.lstat(os.path.join(state, slot, folder)).st_mode & 0o7777
            made.append(MadeDirectory(os.path.normpath(os.path.join(target, folder)), mode))
    again = ({directory.target for directory in made} & set(emptied)) | kept
    removed = [read_removed_directory(root, folder) for folder in emptied if folder not in again]
    return dataclasses.replace(
        journal,
        exchanges=(),
        outs=tuple(
            MoveOut(target, f"txn-{journal.id}/stash/{number}", read_identity(os.path.join(root, target), inode=False))
            for number, target in enumerate(outs)
        ),
        rmdirs=(*removed, *(gone for gone in journal.rmdirs if gone.target not in kept)),
        mkdirs=(*journal.mkdirs, *(directory for directory in made if directory.target not in again)),
        ins=tuple(ins),
    )


def find_parents(path: str) -> Iterator[str]:
    """The folders of a relative path, from the inner to the outer one."""
    while "/" in path:
        path = os.path.dirname(path)
        yield path


def _read_below(path: str) -> Tuple[List[str], List[str]]:
    """Files and directories, relative, parents first; of a file it is "." itself."""
    if os.path.islink(path) or not os.path.isdir(path):
        return ["."], []
    files, folders = [], []
    for folder, names, found in os.walk(path):
        folders.append(os.path.relpath(folder, path))
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        files += [os.path.relpath(os.path.join(folder, name), path) for name in [*found, *links]]
    return files, folders


def find_touched(journal: Journal) -> Iterator[Tuple[str, Identity]]:
    """(target, identity of what is moved) of every step."""
    for pair in journal.exchanges:
        yield pair.target, pair.old
    for leaving in journal.outs:
        yield leaving.target, leaving.old
    for coming in journal.ins:
        yield coming.target, coming.new
    for target in [gone.target for gone in journal.rmdirs] + [made.target for made in journal.mkdirs]:
        yield target, Identity("d", 0)

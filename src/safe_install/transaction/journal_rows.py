"""Fills a journal with the identities of files on disk, and expands a change to one row for each
file."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import AbstractSet, Iterator, List, Sequence, Set, Tuple

from safe_install.transaction.journal import Journal
from safe_install.transaction.moves import Level, MovePlan
from safe_install.transaction.recovery.disk import read_identity
from safe_install.transaction.recovery.rows import (
    STATE_DIRECTORY,
    Exchange,
    Identity,
    MadeDirectory,
    MoveIn,
    MoveOut,
    RemovedDirectory,
    is_same,
)


def _identify(path: str, *, inode: bool = True) -> Identity:
    """The identity of `path`. Without `inode` its inode number is 0, "not compared". Errors:
    FileNotFoundError."""
    found = read_identity(path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    return found if inode else found._replace(inode=0)


def read_removed_directory(prefix: str, target: str) -> RemovedDirectory:
    """The row of a directory to remove, with its mode and owners."""
    status = os.lstat(os.path.join(prefix, target))
    return RemovedDirectory(target, status.st_mode & 0o7777, status.st_uid, status.st_gid)


def fill_journal(journal: Journal, moves: MovePlan, state: Path) -> Journal:
    """The journal with a row for each of these renames, and the present identity of each path.

    `state`: the `.safe-install` directory. Errors: FileNotFoundError for a missing path.
    """
    prefix = str(state.parent)
    has_inodes = moves.level is not Level.FILE
    exchanges: List[Exchange] = []
    leaving: List[str] = []
    coming: List[Tuple[str, str]] = []
    for target, slot in moves.exchanges:
        old = _identify(target, inode=has_inodes)
        new = _identify(slot, inode=has_inodes)
        if is_same(old, new):
            # It could not be detected afterwards whether they were exchanged. So the old one is
            # moved out, then the new one in.
            leaving.append(target)
            coming.append((slot, target))
        else:
            exchanges.append(
                Exchange(_remove_prefix(target, prefix), _remove_prefix(slot, str(state)), old, new)
            )
    leaving += moves.outs
    coming += moves.ins
    mode = 0o777 & ~_read_umask()
    rmdirs = [read_removed_directory(prefix, _remove_prefix(path, prefix)) for path in moves.rmdirs]
    mkdirs = [MadeDirectory(_remove_prefix(path, prefix), mode) for path in moves.mkdirs]
    return dataclasses.replace(
        journal,
        exchanges=tuple(exchanges),
        outs=_fill_old_rows(leaving, journal, prefix, has_inodes),
        rmdirs=tuple(rmdirs),
        mkdirs=tuple(mkdirs),
        ins=_fill_new_rows(coming, state, has_inodes),
    )


def _fill_old_rows(
    targets: Sequence[str], journal: Journal, prefix: str, has_inodes: bool
) -> Tuple[MoveOut, ...]:
    outs: List[MoveOut] = []
    for number, target in enumerate(targets):
        identity = _identify(target, inode=has_inodes)
        outs.append(MoveOut(_remove_prefix(target, prefix), _stash_slot(journal, number), identity))
    return tuple(outs)


def _fill_new_rows(
    moves: Sequence[Tuple[str, str]], state: Path, has_inodes: bool
) -> Tuple[MoveIn, ...]:
    """`moves`: (slot, target), absolute."""
    ins: List[MoveIn] = []
    for slot, target in moves:
        identity = _identify(slot, inode=has_inodes)
        ins.append(
            MoveIn(
                _remove_prefix(slot, str(state)),
                _remove_prefix(target, str(state.parent)),
                identity,
            )
        )
    return tuple(ins)


def _remove_prefix(path: str, directory: str) -> str:
    """A path relative to a directory above it."""
    return path[len(directory) + 1 :]


def _stash_slot(journal: Journal, number: int) -> str:
    return f"txn-{journal.id}/stash/{number}"


def _read_umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def expand_to_files(
    journal: Journal, prefix: Path, stay: AbstractSet[str] = frozenset()
) -> Journal:
    """The same change with a row for each file and without exchanges, for file systems that cannot
    rename directories. `stay`: files (absolute paths) that stay in directories which are moved
    out."""
    root = str(prefix)
    staying = {os.path.relpath(path, root) for path in stay}
    kept_folders: Set[str] = set()
    for path in staying:
        kept_folders.update(find_parents(path))
    leaving, emptied = _expand_leaving(journal, root)
    ins, made = _expand_coming(journal, str(prefix / STATE_DIRECTORY))
    outs: List[MoveOut] = []
    for target in leaving:
        if target not in staying:
            identity = _identify(os.path.join(root, target), inode=False)
            outs.append(MoveOut(target, _stash_slot(journal, len(outs)), identity))
    # A folder that is moved out and in, or in which a file stays, is neither removed nor made.
    coming_folders = {directory.target for directory in made}
    lasting = (coming_folders & set(emptied)) | kept_folders
    removed = [read_removed_directory(root, folder) for folder in emptied if folder not in lasting]
    removed += [gone for gone in journal.rmdirs if gone.target not in kept_folders]
    made = [directory for directory in made if directory.target not in lasting]
    return dataclasses.replace(
        journal,
        exchanges=(),
        outs=tuple(outs),
        rmdirs=tuple(removed),
        mkdirs=(*journal.mkdirs, *made),
        ins=tuple(ins),
    )


def _expand_leaving(journal: Journal, root: str) -> Tuple[List[str], List[str]]:
    """The targets of the files that the change moves out, and of the folders that become empty,
    deepest first."""
    files: List[str] = []
    emptied: List[str] = []
    for target, _ in journal.leaving:
        below, folders = _read_below(os.path.join(root, target))
        files += [_join(target, name) for name in below]
        emptied += [_join(target, name) for name in reversed(folders)]
    return files, emptied


def _expand_coming(journal: Journal, state: str) -> Tuple[List[MoveIn], List[MadeDirectory]]:
    """The files that the change moves in, and the folders that they need, parents first."""
    ins: List[MoveIn] = []
    made: List[MadeDirectory] = []
    for slot, target in journal.coming:
        files, folders = _read_below(os.path.join(state, slot))
        for name in files:
            file_slot = _join(slot, name)
            identity = _identify(os.path.join(state, file_slot), inode=False)
            ins.append(MoveIn(file_slot, _join(target, name), identity))
        for name in folders:
            mode = os.lstat(os.path.join(state, slot, name)).st_mode & 0o7777
            made.append(MadeDirectory(_join(target, name), mode))
    return ins, made


def _join(path: str, name: str) -> str:
    """The path of something below `path`; "." is the path itself."""
    return os.path.normpath(os.path.join(path, name))


def find_parents(path: str) -> Iterator[str]:
    """The folders of a relative path, innermost first."""
    while "/" in path:
        path = os.path.dirname(path)
        yield path


def _read_below(path: str) -> Tuple[List[str], List[str]]:
    """The files and the directories below a path, relative to it, parents first. For a file:
    (["."], [])."""
    if os.path.islink(path) or not os.path.isdir(path):
        return ["."], []
    files, folders = [], []
    for folder, names, found in os.walk(path):
        folders.append(os.path.relpath(folder, path))
        links = [name for name in names if os.path.islink(os.path.join(folder, name))]
        files += [os.path.relpath(os.path.join(folder, name), path) for name in [*found, *links]]
    return files, folders


def find_touched(journal: Journal) -> Iterator[Tuple[str, Identity]]:
    """(target, identity of what is moved) of each step."""
    yield from journal.leaving
    for coming in journal.ins:
        yield coming.target, coming.new
    for gone in journal.rmdirs:
        yield gone.target, Identity("d", 0, 0, 0)
    for made in journal.mkdirs:
        yield made.target, Identity("d", 0, 0, 0)

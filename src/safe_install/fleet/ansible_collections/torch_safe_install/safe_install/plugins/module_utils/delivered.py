"""Keeps files of the controller on a node, named by their SHA-256, in a folder that only their
owner can write. Stand-alone: Python 3.8, standard library."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import time
from pathlib import Path
from typing import List, Optional

APPLICATION = "torch-safe-install"
# The folder where the home is missing or writable by others. It is checked in the same way.
FALLBACK_FOLDER = f"/var/tmp/{APPLICATION}-{os.geteuid()}/delivered"  # noqa: S108
SUFFIXES = (".pyz", ".zip")
CHUNK = 2**20
KEPT = 30 * 24 * 3600.0  # seconds that a file is kept after its last use
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotDelivered(Exception):
    """The file cannot be stored on this node."""


def find_delivered(sha256: str, suffix: str, source: Optional[str]) -> Optional[str]:
    """The path of the file with this hash; None if the node does not have it.

    `source`: the path at which the file arrived; it is stored then. Errors: NotDelivered, OSError.
    """
    if re.fullmatch("[0-9a-f]{64}", sha256) is None:
        raise NotDelivered("sha256 has 64 hexadecimal digits")
    path = find_folder() / f"{sha256}{suffix}"
    if source is None:
        return str(path) if has_file(path, sha256) else None
    if not store(Path(source), path, sha256):
        raise NotDelivered(f"what arrived is not what was sent: its sha256 is not {sha256}")
    return str(path)


def find_folder() -> Path:
    """The first folder that only this user can write; it is made where it is missing. Errors:
    NotDelivered."""
    problems: List[str] = []
    own = Path("~/.cache", APPLICATION, "delivered").expanduser()
    for path in (own, Path(FALLBACK_FOLDER)):
        try:
            make_folder(path)
        except OSError as error:
            problems.append(str(error))
            continue
        real = path.resolve()
        problem = find_problem(real)
        if not problem:
            return real
        problems.append(problem)
    raise NotDelivered(f"no folder here is safe from other users: {'; '.join(problems)}")


def make_folder(path: Path) -> None:
    """Make a folder and its parents, accessible to this user alone."""
    if path.is_dir():
        return
    make_folder(path.parent)
    # Another node with the same disk may make it at the same time.
    path.mkdir(0o700, exist_ok=True)


def find_problem(path: Path) -> str:
    """Why other users could write into this folder, or replace it; empty if nobody can."""
    for folder in (path, *path.parents):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return f"{folder} is no folder"
        if status.st_uid not in (0, os.geteuid()):
            return f"{folder} belongs to another user"
        if status.st_mode & WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX:
            return f"{folder} can be written by others"
    return ""


def has_file(path: Path, sha256: str) -> bool:
    """Does this user have a file at `path` with this hash? Its time is set to now, so that it is
    kept."""
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_own or status.st_mode & WRITABLE_BY_OTHERS:
            return False
        digest = hashlib.sha256()
        for block in iter(lambda: stream.read(CHUNK), b""):
            digest.update(block)
        if digest.hexdigest() != sha256:
            return False
        os.utime(descriptor)
    return True


def store(source: Path, path: Path, sha256: str) -> bool:
    """Copy `source` to `path`. False if its hash is not `sha256`; nothing is stored then."""
    remove_old(path.parent)
    descriptor, name = tempfile.mkstemp(prefix="partial-", dir=str(path.parent))  # mode 0600
    partial = Path(name)
    try:
        digest = hashlib.sha256()
        with source.open("rb") as stream, os.fdopen(descriptor, "wb") as copy:
            for block in iter(lambda: stream.read(CHUNK), b""):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
        is_right = digest.hexdigest() == sha256
        if is_right:
            partial.replace(path)
    except OSError:
        partial.unlink()
        raise
    if not is_right:
        partial.unlink()
    return is_right


def remove_old(folder: Path) -> None:
    """Remove files that were not used for KEPT seconds, and what a killed delivery left."""
    oldest = time.time() - KEPT
    for path in folder.iterdir():
        try:
            if path.lstat().st_mtime < oldest:
                path.unlink()
        except OSError:  # removed already, or a folder that somebody made
            continue

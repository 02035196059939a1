"""Files of the controller on a node, by their hash, in a folder that only their owner can write.
Stand-alone: Python 3.8, standard library."""

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
# Where the home is missing, or can be written by others. It is looked at as the other is.
OTHERWISE = f"/var/tmp/{APPLICATION}-{os.geteuid()}/delivered"  # noqa: S108
SUFFIXES = (".pyz", ".zip")
CHUNK = 2**20
KEPT = 30 * 24 * 3600.0  # seconds that a file is kept after its last use
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NotDelivered(Exception):
    """The file cannot be put there."""


def find_delivered(sha256: str, suffix: str, source: Optional[str]) -> Optional[str]:
    """Where the file lies, with this hash; None: it is not there. `source`: where it arrived, to be
    put there. Errors: NotDelivered, OSError."""
    if re.fullmatch("[0-9a-f]{64}", sha256) is None:
        raise NotDelivered("sha256 has 64 hexadecimal digits")
    path = find_folder() / f"{sha256}{suffix}"
    if source is None:
        return str(path) if is_there(path, sha256) else None
    if not keep(Path(source), path, sha256):
        raise NotDelivered(f"what arrived is not what was sent: its sha256 is not {sha256}")
    return str(path)


def find_folder() -> Path:
    """A folder that only this user can write, made where it is missing. Errors: NotDelivered."""
    problems: List[str] = []
    own = Path("~/.cache", APPLICATION, "delivered").expanduser()
    for path in (own, Path(OTHERWISE)):
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
    """With its parents, for this user alone."""
    if path.is_dir():
        return
    make_folder(path.parent)
    # It may be made at the same time, for another node with the same disk.
    path.mkdir(0o700, exist_ok=True)


def find_problem(path: Path) -> str:
    """Who else could write into this folder, or put another in its place; empty: nobody."""
    for folder in (path, *path.parents):
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return f"{folder} is no folder"
        if status.st_uid not in (0, os.geteuid()):
            return f"{folder} belongs to another user"
        if status.st_mode & WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX:
            return f"{folder} can be written by others"
    return ""


def is_there(path: Path, sha256: str) -> bool:
    """A file of this user's own, with this hash. Its time is set: it was used."""
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


def keep(source: Path, path: Path, sha256: str) -> bool:
    """Copy what arrived to its place; False where its bytes are others: nothing is there then."""
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
    """What was not used for long; also what a killed delivery left."""
    oldest = time.time() - KEPT
    for path in folder.iterdir():
        try:
            if path.lstat().st_mtime < oldest:
                path.unlink()
        except OSError:  # gone already, or a folder that somebody made
            continue

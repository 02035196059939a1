"""The marker of an environment: hosts that read the same marker share the environment.

    .safe-install/marker      32 hexadecimal digits, random, never rewritten

A copy of the environment has a copy of that file. So the marker that is read is a hash of the
digits and the inode number of the folder; on a file system that only this machine can have, also of
the boot ID and the file system's number. So a copy (even of hard links), an image layer and a
cloned disk have other markers, without anything being written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Optional

from safe_install.transaction.recovery.disk import open_regular_file, write_durably
from safe_install.transaction.recovery.lock_file import describe_process
from safe_install.transaction.recovery.mounts import has_one_inode_everywhere, read_mount
from safe_install.transaction.recovery.rows import STATE_DIRECTORY, JournalInvalid

MARKER = "marker"
_IDENTITY = re.compile(rb"[0-9a-f]{32}\n")


def place_marker(state: Path) -> None:
    """Write the marker file where it is missing. The caller holds the lock. Errors are ignored,
    because no change depends on the marker."""
    with contextlib.suppress(OSError):
        if _read_identity(state) is None:
            write_durably(str(state / MARKER), f"{secrets.token_hex(16)}\n".encode())


def read_marker(prefix: Path) -> Optional[str]:
    """The marker; None if we never changed the environment, or it cannot be read."""
    state = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY
    try:
        identity = _read_identity(state)
        place = _describe_place(state)
    except OSError:
        return None
    if identity is None or place is None:
        return None
    return hashlib.sha256(f"{identity} {place}".encode()).hexdigest()[:32]


def _read_identity(state: Path) -> Optional[str]:
    """The random number in the file; None if it is missing or incomplete."""
    try:
        with open_regular_file(str(state / MARKER)) as stream:
            text = stream.read(64)
    except (FileNotFoundError, JournalInvalid):
        return None
    return text.decode().strip() if _IDENTITY.fullmatch(text) else None


def _describe_place(state: Path) -> Optional[str]:
    """A text that is the same on all hosts that share the folder, and differs for every other
    folder; None if there is none."""
    folder = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status, mount = os.fstat(folder), read_mount(folder)
    finally:
        os.close(folder)
    if has_one_inode_everywhere(mount):
        return str(status.st_ino)
    boot = describe_process()["boot"]
    return f"{status.st_ino} {status.st_dev} {boot}" if boot else None

"""The identity of an environment: paths, modes, contents, link targets; if asked, times of
directories.

Not counted: `.safe-install`, and bytecode, which any running Python may write at any time (unless
asked for).
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Dict, Tuple

Row = Tuple[object, ...]
SETTLED = 100_000_000  # nanoseconds: far more than the granularity of ctime
MOST_KNOWN = 100_000  # files
# what identifies a file that did not change -> its hash
_known: Dict[Tuple[int, ...], str] = {}


def read_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> Dict[str, Row]:
    """Relative path -> (kind, mode, content or link target, mtime of a directory if asked)."""
    rows: Dict[str, Row] = {}
    top = os.fspath(root)
    for folder, names, files in os.walk(top):
        at_root = folder == top
        if at_root:
            names[:] = [name for name in names if name != ".safe-install"]
        if not bytecode:
            names[:] = [name for name in names if name != "__pycache__"]
        start = "" if at_root else f"{folder[len(top) :].lstrip('/')}/"
        for name in files:
            rows[start + name] = _read_row(f"{folder}/{name}")
        for name in names:
            if os.path.islink(f"{folder}/{name}"):
                rows[start + name] = _read_row(f"{folder}/{name}")
        # The prefix itself gets another time from the making of `.safe-install`, once.
        status = os.stat(folder)
        mtime = status.st_mtime_ns if times and not at_root else 0
        rows[start[:-1] or "."] = ("d", stat.S_IMODE(status.st_mode), mtime)
    return rows


def _read_row(path: str) -> Row:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return "l", os.readlink(path)
    content = hash_file(path, status) if stat.S_ISREG(status.st_mode) else ""
    return "f", status.st_mode, status.st_size, content


def hash_file(path: str, status: os.stat_result) -> str:
    """SHA-256 of the content of a file with this status. A torch has 20,000 files, some of them of
    gigabytes: each is read once as long as its ctime is the same.

    Every write changes ctime, and nobody can set it. One of this very moment could hide a write
    that follows.
    """
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key in _known:
        return _known[key]
    with open(path, "rb") as stream:
        content = hashlib.sha256(stream.read()).hexdigest()
    if time.time_ns() - status.st_ctime_ns > SETTLED:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[key] = content
    return content


def hash_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> str:
    """One value for `read_tree`."""
    rows = sorted(read_tree(root, times=times, bytecode=bytecode).items())
    return hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()

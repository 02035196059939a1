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
LARGE = 2**20  # bytes
SETTLED = 1_000_000_000  # nanoseconds: far more than the granularity of ctime
# what identifies a large file that did not change -> its hash
_known: Dict[Tuple[int, ...], str] = {}


def read_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> Dict[str, Row]:
    """Relative path -> (kind, mode, content or link target, mtime of a directory if asked)."""
    rows: Dict[str, Row] = {}
    for folder, names, files in os.walk(root):
        at_root = Path(folder) == Path(root)
        if at_root:
            names[:] = [name for name in names if name != ".safe-install"]
        if not bytecode:
            names[:] = [name for name in names if name != "__pycache__"]
        for name in [
            *files,
            *(name for name in names if os.path.islink(os.path.join(folder, name))),
        ]:
            path = os.path.join(folder, name)
            rows[os.path.relpath(path, root)] = _read_row(path)
        # The prefix itself gets another time from the making of `.safe-install`, once.
        mtime = os.stat(folder).st_mtime_ns if times and not at_root else 0
        rows[os.path.relpath(folder, root)] = ("d", stat.S_IMODE(os.stat(folder).st_mode), mtime)
    return rows


def _read_row(path: str) -> Row:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return "l", os.readlink(path)
    content = _hash_file(path, status) if stat.S_ISREG(status.st_mode) else ""
    return "f", status.st_mode, status.st_size, content


def _hash_file(path: str, status: os.stat_result) -> str:
    """SHA-256 of the content. The libraries of a torch are gigabytes: read once as long as their
    ctime is the same.

    Every write changes ctime, and nobody can set it. One of this very moment could hide a write
    that follows.
    """
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key in _known:
        return _known[key]
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if status.st_size >= LARGE and time.time_ns() - status.st_ctime_ns > SETTLED:
        _known[key] = content
    return content


def hash_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> str:
    """One value for `read_tree`."""
    rows = sorted(read_tree(root, times=times, bytecode=bytecode).items())
    return hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()

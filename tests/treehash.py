"""The identity of an environment: paths, modes, contents, link targets; if asked, times of directories.

Not counted: `.safe-install`, and bytecode, which any running Python may write at any time (unless asked for).
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Dict, Tuple

Row = Tuple[object, ...]


def read_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> Dict[str, Row]:
    """Relative path -> (kind, mode, content or link target, mtime of a directory if asked)."""
    rows: Dict[str, Row] = {}
    for folder, names, files in os.walk(root):
        at_root = Path(folder) == Path(root)
        if at_root:
            names[:] = [name for name in names if name != ".safe-install"]
        if not bytecode:
            names[:] = [name for name in names if name != "__pycache__"]
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(folder, name)))]:
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
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
    return "f", status.st_mode, status.st_size, content


def hash_tree(root: Path, *, times: bool = False, bytecode: bool = False) -> str:
    """One value for `read_tree`."""
    rows = sorted(read_tree(root, times=times, bytecode=bytecode).items())
    return hashlib.sha256(repr(rows).encode("utf-8", "surrogateescape")).hexdigest()

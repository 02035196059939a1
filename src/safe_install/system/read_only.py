"""Builds run where the environment is read-only to them, on Linux and where the system lets us (see
script.py)."""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

READ_ONLY_ERROR = "Read-only file system"  # what programs say of EROFS
NO_RIGHT_ERROR = "Permission denied"  # of EACCES, with which Landlock refuses
READ_ONLY_HINT = (
    "A build may not write into the environment, which is read-only to it: look at its output."
)
LONGEST_LINE = 300  # characters


@dataclass(frozen=True)
class Protection:
    """Folders that a child process may not change."""

    folders: Tuple[Path, ...] = ()
    written: Tuple[Path, ...] = ()  # in which the child has to write, besides TMPDIR and HOME
    # A user who may not mount gets a user namespace. Files of root look like nobody's there, which
    # ssh does not accept.
    in_user_namespace: bool = True

    def wrap(self, command: Sequence[str]) -> List[str]:
        """The command line that runs `command` so; where that cannot be had, it runs as it is."""
        present = sorted({os.path.realpath(folder) for folder in self.folders if folder.is_dir()})
        if not present or not sys.platform.startswith("linux"):
            return list(command)
        order = {
            "folders": present,
            "written": [os.path.realpath(folder) for folder in self.written],
            "in_user_namespace": self.in_user_namespace,
        }
        return [sys.executable, "-I", "-S", "-c", _read_script(), json.dumps(order), *command]


def find_write_attempt(output: str, folders: Sequence[Path]) -> Optional[str]:
    """The first line of a build's output that says that it could not write into one of the folders.

    Programs name the path beside the error: `[Errno 30] Read-only file system:
    '/env/lib/python3.11/...'`.
    """
    names = {str(folder) for folder in folders}
    names.update(os.path.realpath(folder) for folder in folders)
    if not names:
        return None
    # Not a path of the stage, which has the path of the environment at its end.
    place = re.compile(rf"(?<![\w./~-])(?:{'|'.join(map(re.escape, sorted(names)))})(?![\w.~-])")
    for line in output.splitlines():
        if (READ_ONLY_ERROR in line or NO_RIGHT_ERROR in line) and place.search(line):
            return line.strip()[:LONGEST_LINE]
    return None


@functools.lru_cache(maxsize=None)
def _read_script() -> str:
    return (pkgutil.get_data("safe_install.system", "script.py") or b"").decode("utf-8")

"""Makes the environment read-only to builds, on Linux systems that allow it (see script.py)."""

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

READ_ONLY_ERROR = "Read-only file system"  # the text of EROFS
NO_RIGHT_ERROR = "Permission denied"  # the text of EACCES, the error of Landlock
READ_ONLY_HINT = (
    "A build may not write into the environment, which is read-only to it: look at its output."
)
LONGEST_LINE = 300  # characters


@dataclass(frozen=True)
class Protection:
    """Folders that a child process must not change."""

    folders: Tuple[Path, ...] = ()
    written: Tuple[Path, ...] = ()  # the child must write here, and to TMPDIR and HOME
    # Use a user namespace for a user who must not mount. Root's files seem to be nobody's in it,
    # which ssh does not accept.
    in_user_namespace: bool = True

    def wrap(self, command: Sequence[str]) -> List[str]:
        """The command line that runs `command` with read-only folders. If that is not possible, it
        runs without."""
        present = sorted({os.path.realpath(folder) for folder in self.folders if folder.is_dir()})
        if not present or not sys.platform.startswith("linux"):
            return list(command)
        request = {
            "folders": present,
            "written": [os.path.realpath(folder) for folder in self.written],
            "in_user_namespace": self.in_user_namespace,
        }
        return [sys.executable, "-I", "-S", "-c", _read_script(), json.dumps(request), *command]


def find_write_attempt(output: str, folders: Sequence[Path]) -> Optional[str]:
    """The first line of a build's output on a failed write into one of the folders; None if there
    is none.

    Such a line has the error and the path: `[Errno 30] Read-only file system:
    '/env/lib/python3.11/...'`.
    """
    names = {str(folder) for folder in folders}
    names.update(os.path.realpath(folder) for folder in folders)
    if not names:
        return None
    # The path must begin here: paths below the stage end with that of the environment.
    place = re.compile(rf"(?<![\w./~-])(?:{'|'.join(map(re.escape, sorted(names)))})(?![\w.~-])")
    for line in output.splitlines():
        if (READ_ONLY_ERROR in line or NO_RIGHT_ERROR in line) and place.search(line):
            return line.strip()[:LONGEST_LINE]
    return None


@functools.lru_cache(maxsize=None)
def _read_script() -> str:
    return (pkgutil.get_data("safe_install.system", "script.py") or b"").decode("utf-8")

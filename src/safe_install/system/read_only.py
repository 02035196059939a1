"""Builds run where the environment is read-only to them, on Linux and where the system lets us (see script.py)."""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence, Tuple

READ_ONLY_ERROR = "Read-only file system"  # what programs say of EROFS
READ_ONLY_HINT = "A build may not write into the environment, which is read-only to it: look at its output."


@dataclass(frozen=True)
class Protection:
    """Folders that a child process may not change."""

    folders: Tuple[Path, ...] = ()
    # A user who may not mount gets a user namespace. Files of root look like nobody's there, which ssh does not accept.
    in_user_namespace: bool = True

    def wrap(self, command: Sequence[str]) -> List[str]:
        """The command line that runs `command` so; where that cannot be had, it runs as it is."""
        present = sorted({os.path.realpath(folder) for folder in self.folders if folder.is_dir()})
        if not present or not sys.platform.startswith("linux"):
            return list(command)
        order = json.dumps({"folders": present, "in_user_namespace": self.in_user_namespace})
        return [sys.executable, "-I", "-S", "-c", _read_script(), order, *command]


@functools.lru_cache(maxsize=None)
def _read_script() -> str:
    return (pkgutil.get_data("safe_install.system", "script.py") or b"").decode("utf-8")

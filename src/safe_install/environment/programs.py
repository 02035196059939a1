"""Running processes that have files of an environment in memory which were replaced since."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Tuple

from safe_install.models import RunningProgram

COMMAND_SHOWN = 60  # characters
DELETED = " (deleted)"
# Replaced files are kept below it, so that they can be put back (transaction.recovery.rows).
STATE_FOLDER = ".safe-install"


def find_running(prefix: Path) -> Tuple[RunningProgram, ...]:
    """Processes of this user with libraries of an environment in memory that are gone from the
    disk, or set aside by a change of ours.

    Facts: proc(5): a mapped file that was removed or replaced ends in " (deleted)"; one that was
    renamed has its new name.
    """
    top = os.path.realpath(prefix) + os.sep
    found: List[RunningProgram] = []
    for entry in _list_processes():
        files = _deleted_files(entry, top)
        if files:
            found.append(RunningProgram(int(entry), _command_of(entry), files))
    return tuple(found)


def _list_processes() -> List[str]:
    try:
        entries = [path.name for path in Path("/proc").iterdir() if path.name.isdigit()]
    except OSError:
        return []
    own = str(os.getpid())
    return sorted((name for name in entries if name != own), key=int)


def _deleted_files(process: str, top: str) -> Tuple[str, ...]:
    files: Dict[str, None] = {}
    try:
        maps = Path(f"/proc/{process}/maps")
        text = maps.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()  # of another user, or it has ended
    if top not in text:
        return ()  # nearly every process
    for line in text.splitlines():
        path = _replaced_path(line, top)
        if path:
            files[path] = None
    return tuple(files)


def _replaced_path(line: str, top: str) -> str:
    """The path of a mapped file below `top` that is gone or set aside; "" for any other."""
    at = line.find(top)
    if at == -1 or "/" in line[:at]:
        return ""
    path = line[at:]
    if path.endswith(DELETED):
        return path[: -len(DELETED)]
    return path if path.startswith(f"{top}{STATE_FOLDER}{os.sep}") else ""


def _command_of(process: str) -> str:
    try:
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return "?"
    words = raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return words if len(words) <= COMMAND_SHOWN else f"{words[:COMMAND_SHOWN]}..."

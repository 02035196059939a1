"""Which running processes have files of an environment in memory that were replaced since?

Stand-alone: runs inside processes of a cluster, too. Standard library only, Python 3.6 syntax,
imports nothing of ours.
"""

import os
from typing import List, Tuple

COMMAND_SHOWN = 60  # characters
DELETED = " (deleted)"
# Replaced files are kept below it, so that they can be put back (transaction.recovery.rows).
STATE_FOLDER = ".safe-install"
Program = Tuple[int, str, Tuple[str, ...]]  # pid, command, files


def find_programs(prefix: str) -> List[Program]:
    """Processes of this user with libraries of an environment in memory that are gone from the
    disk, or set aside by a change of ours.

    Facts: proc(5): a mapped file that was removed or replaced ends in " (deleted)"; one that was
    renamed has its new name.
    """
    top = os.path.realpath(prefix) + os.sep
    found = []
    for process in _list_processes():
        files = _replaced_files(process, top)
        if files:
            found.append((int(process), _command_of(process), files))
    return found


def _list_processes() -> List[str]:
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    own = str(os.getpid())
    return sorted((name for name in names if name != own), key=int)


def _replaced_files(process: str, top: str) -> Tuple[str, ...]:
    path = f"/proc/{process}/maps"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as maps:
            text = maps.read()
    except OSError:
        return ()  # of another user, or it has ended
    if top not in text:
        return ()  # nearly every process
    paths = [_replaced_path(line, top) for line in text.splitlines()]
    return tuple(dict.fromkeys(path for path in paths if path))


def _replaced_path(line: str, top: str) -> str:
    """The path of a mapped file below `top` that is gone or set aside; "" for any other."""
    at = line.find(top)
    if at == -1 or "/" in line[:at]:
        return ""
    path = line[at:]
    if path.endswith(DELETED):
        return path[: -len(DELETED)]
    return path if path.startswith(top + STATE_FOLDER + os.sep) else ""


def _command_of(process: str) -> str:
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return "?"
    words = raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return words if len(words) <= COMMAND_SHOWN else words[:COMMAND_SHOWN] + "..."

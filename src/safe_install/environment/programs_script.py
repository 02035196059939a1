"""Finds running processes that still use replaced files of an environment.

Stand-alone, since it also runs inside processes of a cluster: standard library only, Python 3.6
syntax; imports nothing of ours.
"""

import os
from typing import List, Tuple

COMMAND_SHOWN = 60  # characters
DELETED = " (deleted)"
# Replaced files are kept in this folder, so that they can be restored (transaction.recovery.rows).
STATE_FOLDER = ".safe-install"
Program = Tuple[int, str, Tuple[str, ...]]  # pid, command, files


def find_programs(prefix: str) -> List[Program]:
    """This user's processes that have libraries of the environment in memory which were removed, or
    set aside by a change of ours.

    Source: proc(5). The path of a mapped file that was removed or replaced ends in " (deleted)";
    that of a renamed file is the new one.
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
        return ()  # it is another user's, or it has ended
    if top not in text:
        return ()  # true for nearly all processes, and fast
    paths = [_replaced_path(line, top) for line in text.splitlines()]
    return tuple(dict.fromkeys(path for path in paths if path))


def _replaced_path(line: str, top: str) -> str:
    """The path of the mapped file on a line, if it is below `top` and was removed or set aside;
    else ""."""
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

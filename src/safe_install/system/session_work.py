"""Does a silent child still compute? The CPU time of a session, from /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

_WORKING = 0.01  # of one core: a waiting process uses less, a compiler on a busy machine more


class WorkWatch:
    """Looks twice at a child that writes nothing: when half of its silence is over, and at the end
    of it."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._first: Optional[float] = None  # CPU seconds at the first look

    def has_worked(self, silent: float, limit: float) -> bool:
        """Did it compute in the second half of its silence? Asked again and again; `silent`:
        seconds since its last line, of `limit` that it may have."""
        if silent < limit / 2:
            self._first = None
            return False
        if self._first is None:
            self._first = session_cpu(self._session)
            return False
        if silent < limit:
            return False
        now = session_cpu(self._session)
        used = 0.0 if now is None else now - self._first
        self._first = None
        return used >= _WORKING * limit / 2


def session_cpu(session: int) -> Optional[float]:
    """Seconds of CPU time of the processes of a session and of their children that have ended; None
    where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return None
    ticks = 0
    for entry in os.listdir("/proc"):  # noqa: PTH208 - hundreds of names
        if entry.isdigit():
            ticks += _ticks_in_session(entry, session)
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks_in_session(process: str, session: int) -> int:
    fields = _stat_fields(process)
    if len(fields) < 15 or int(fields[3]) != session:
        return 0
    user, system, children_user, children_system = map(int, fields[11:15])
    return user + system + children_user + children_system


def _stat_fields(process: str) -> List[bytes]:
    """Fields of /proc/PID/stat from the third on: state, ppid, pgrp, session, ... (proc(5))."""
    try:
        stat = Path("/proc", process, "stat").read_bytes()
    except OSError:
        return []  # it has ended
    return stat.rpartition(b")")[2].split()  # the command before may hold spaces and parentheses

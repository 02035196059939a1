"""Checks whether a silent child still computes, by the CPU time of its session in /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

# The share of one core that counts as work. A waiting process uses less, a compiler more, even on a
# busy machine.
_WORKING = 0.01


class WorkWatch:
    """Compares the CPU time of a silent child at the middle and at the end of its time limit."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._first: Optional[float] = None  # CPU seconds at the first look

    def has_worked(self, silent: float, limit: float) -> bool:
        """Did it compute in the second half of the limit? Before the end of the limit: False. To be
        called again and again. `silent`: seconds since its last line. `limit`: seconds."""
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
    """The CPU seconds of the processes of a session and of their children that have ended. None:
    there is no /proc."""
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
    # The field before these, the command, may contain spaces and parentheses.
    return stat.rpartition(b")")[2].split()

"""Makes the times and IDs of changes. They sort in the order of the changes, even where the clocks
of several hosts differ."""

from __future__ import annotations

import calendar
import os
import re
import secrets
import time
from pathlib import Path

_ID = re.compile(r"(\d{8}T\d{6}Z)-([0-9a-f]{4,8})")
_PREFIXES = ("txn-", "staged-")  # of names in the state folder
_SECOND = "%Y%m%dT%H%M%SZ"
_STEP = 0.002  # seconds; IDs have milliseconds


def next_moment(state: Path, newest: float = 0.0) -> float:
    """The time for a new change, in seconds since the epoch: now, or just after the newest change,
    where a host whose clock is ahead has made that. `newest`: a time that is not in the name of a
    folder, such as the time of a commit, which has the ID of its stage."""
    names = [name.partition("-") for name in os.listdir(state) if name.startswith(_PREFIXES)]
    moments = [moment_of(identifier) for _, _, identifier in names]
    return max(time.time(), max(moments, default=0.0) + _STEP, newest + _STEP)


def make_id(moment: float) -> str:
    """`20261123T101112Z-1f43f2`: the time, then its milliseconds and a random number, in hex."""
    second = time.strftime(_SECOND, time.gmtime(moment))
    thousandth = int(moment % 1 * 1000)
    return f"{second}-{thousandth:03x}{secrets.randbelow(0x1000):03x}"


def moment_of(identifier: str) -> float:
    """The time of an ID, in seconds since the epoch; 0 for other texts."""
    match = _ID.fullmatch(identifier)
    if match is None:
        return 0.0
    second, end = match.groups()
    try:
        moment = calendar.timegm(time.strptime(second, _SECOND))
    except ValueError:
        return 0.0
    # Older versions had four random digits there.
    return moment + int(end[:3], 16) / 1000 if len(end) == 6 else float(moment)

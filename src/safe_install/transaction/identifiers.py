"""The moments and IDs of changes. They sort in the order in which the changes were made, whatever the
clocks of the hosts say that make them."""

from __future__ import annotations

import calendar
import os
import re
import secrets
import time
from pathlib import Path

_NAME = re.compile(r"^(?:txn|staged)-(\d{8}T\d{6}Z)-([0-9a-f]{4,8})$")
_SECOND = "%Y%m%dT%H%M%SZ"
_STEP = 0.002  # seconds; an ID has the thousandth


def next_moment(state: Path, newest: float = 0.0) -> float:
    """Now, in seconds since the epoch; a moment behind the newest change in the state folder, where
    that is later: another host made it, whose clock is ahead. `newest`: a moment that no name in
    that folder tells, as that of a commit, which has the ID of its stage."""
    moments = [_moment_of(name) for name in os.listdir(state)]
    return max(time.time(), max(moments, default=0.0) + _STEP, newest + _STEP)


def make_id(moment: float) -> str:
    """`20261123T101112Z-1f43f2`: the time, behind the second its thousandth and a random number, in
    hex."""
    second = time.strftime(_SECOND, time.gmtime(moment))
    thousandth = int(moment % 1 * 1000)
    return f"{second}-{thousandth:03x}{secrets.randbelow(0x1000):03x}"


def _moment_of(name: str) -> float:
    """Of what a folder in the state folder keeps; 0 where its name tells no time."""
    match = _NAME.match(name)
    if match is None:
        return 0.0
    second, end = match.groups()
    try:
        moment = calendar.timegm(time.strptime(second, _SECOND))
    except ValueError:
        return 0.0
    # Older versions had four random digits there.
    return moment + int(end[:3], 16) / 1000 if len(end) == 6 else float(moment)

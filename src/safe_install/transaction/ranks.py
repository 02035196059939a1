"""Decides which rank of a Slurm step makes the change, where all ranks run the same command at the
same time, and what the others do.

The first rank that gets the lock of an environment, and finds no record of this step there, leads.
So one rank leads where all share the environment, and one on each node where each node has its own.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence

# Variables that identify a step. The job number is not enough: Slurm reuses it for a requeued job,
# and after its counter was reset.
_STEP = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_JOB_START_TIME",
    "SLURM_RESTART_COUNT",
    "SLURM_STEP_ID",
)


@dataclass(frozen=True)
class Rank:
    """One of the processes that Slurm started for a step."""

    number: int
    count: int
    node: Optional[int]  # Slurm's number of the node
    step: str  # identifies the step; not shown to the user
    name: str  # "job 42, step 0"


def parse_rank(environ: Mapping[str, str]) -> Optional[Rank]:
    """The rank of this process; None outside of a Slurm step, or in one with a single task."""
    number = _parse_number(environ.get("SLURM_PROCID"))
    count = _parse_number(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS"))
    job, step = environ.get("SLURM_JOB_ID"), environ.get("SLURM_STEP_ID")
    if number is None or count is None or not job or not step:
        return None
    if count < 2 or number >= count:
        return None
    whole = "\0".join(environ.get(name, "") for name in _STEP)
    node = _parse_number(environ.get("SLURM_NODEID"))
    return Rank(number, count, node, whole, f"job {job}, step {step}")


def _parse_number(text: Optional[str]) -> Optional[int]:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return None
    return int(text)


def hash_of_command(rank: Rank, words: Sequence[str]) -> str:
    """A hash that is the same for all ranks with the same command in the same step. Not the command
    itself, which may contain a password."""
    text = "\0".join([rank.step, *words])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """The record that the leader of a step writes into the environment."""

    leader: int  # its number
    host: str
    status: Optional[int] = None  # the leader's exit status; None while it is at work
    message: str = ""  # of an error
    # changed distribution -> its stamp, as the leader sees it; None if it was removed
    seen: Mapping[str, Optional[str]] = field(default_factory=dict)

    @property
    def leader_name(self) -> str:
        """The leader's name in messages."""
        return f"rank {self.leader} on {self.host}"


class Turn(enum.Enum):
    """What a rank does next."""

    LEAD = "lead"  # make the change
    FOLLOW = "follow"  # the change is made: check this node
    FAIL = "fail"  # the change failed: fail, too
    FIND_DEAD = "find-dead"  # the leader ended without a report
    WAIT = "wait"


def decide(number: int, record: Optional[Record], *, has_lock: bool) -> Turn:
    """The next turn of a rank. `has_lock`: this rank has the lock of the steps, so that no other
    rank leads."""
    if record is None or record.leader == number:
        # A record by this rank is from an earlier run of the same command in this step.
        return Turn.LEAD if has_lock else Turn.WAIT
    if record.status is None:
        return Turn.FIND_DEAD if has_lock else Turn.WAIT
    return Turn.FAIL if record.status else Turn.FOLLOW


def poll_interval(count: int) -> float:
    """The seconds between two looks of a rank; longer for many ranks, to spare the file server."""
    return min(1.0 + count / 100, 15.0)


class Watch:
    """Decides whether the leader is still alive. The leader's clock is not known, and a file server
    may be slow. So the looks without news are counted, besides the time."""

    def __init__(self, *, seconds: float = 180.0, looks: int = 12) -> None:
        self._seconds, self._looks = seconds, looks
        self._sign: Optional[object] = None
        self._since = 0.0
        self._unchanged = 0

    def is_silent(self, sign: object, now: float) -> bool:
        """Is the leader silent for too long? `sign`: a value that changes with each heartbeat;
        `now`: seconds of a monotonic clock."""
        if sign != self._sign:
            self._sign, self._since, self._unchanged = sign, now, 0
            return False
        self._unchanged += 1
        return self._unchanged >= self._looks and now - self._since >= self._seconds

"""Derives the state of a staged change from its files on disk. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional


class State(enum.Enum):
    """The state of a change. The value is in the JSON document."""

    STAGED = "staged"
    EXPIRED = "expired"  # the next change removes it
    COMMITTING = "committing"
    INTERRUPTED = "interrupted"  # its commit was killed; the next change, or `recover`, undoes it
    COMMITTED = "committed"
    UNDONE = "undone"
    ROLLED_BACK = "rolled-back"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"  # never staged here, or nothing is kept of it


# Final states. They are recorded, and the stage is removed.
LASTING = frozenset(
    {State.EXPIRED, State.COMMITTED, State.UNDONE, State.ROLLED_BACK, State.ABANDONED}
)
# Final states of changes that were never committed, or rolled back.
GONE = frozenset({State.EXPIRED, State.ROLLED_BACK, State.ABANDONED})


@dataclass(frozen=True)
class Traces:
    """The files of one ID on disk."""

    # the state of its transaction: "journal", "committed", "unfinished"; None if there is none
    transaction: Optional[str] = None
    undone_by: Optional[str] = None  # the ID of the transaction that undid it
    has_stage: bool = False
    is_over_time: bool = False  # it should have expired
    has_begun: bool = False  # a process began to commit it
    is_running: bool = False  # that process may still run
    recorded: Optional[State] = None  # in outcome.json


def derive_state(traces: Traces) -> State:
    """The state of a change with these files.

    A transaction counts more than outcome.json: the process that would have written that may have
    been killed.
    """
    if traces.transaction == "committed":
        return State.UNDONE if traces.undone_by is not None else State.COMMITTED
    has_journal = traces.transaction == "journal"
    if has_journal or (traces.transaction == "unfinished" and traces.has_begun):
        return State.COMMITTING if traces.is_running else State.INTERRUPTED
    if traces.recorded is not None:
        return traces.recorded
    if traces.has_stage:
        return State.EXPIRED if traces.is_over_time else State.STAGED
    # Its stage was moved into a transaction, which was undone or removed.
    return State.ROLLED_BACK if traces.has_begun else State.UNKNOWN

"""The state of a staged change, derived from its files on disk."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional


class State(enum.Enum):
    """The state of a change. The value is in the JSON document."""

    STAGED = "staged"
    EXPIRED = "expired"  # expired: the next change removes it
    COMMITTING = "committing"
    INTERRUPTED = "interrupted"  # killed during its commit: the next change, or recover, undoes it
    COMMITTED = "committed"
    UNDONE = "undone"
    ROLLED_BACK = "rolled-back"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"  # never staged here, or so long ago that nothing is kept of it


# Final states: they are recorded, and the stage is removed.
LASTING = frozenset(
    {State.EXPIRED, State.COMMITTED, State.UNDONE, State.ROLLED_BACK, State.ABANDONED}
)
# Nothing of it is installed, and nothing will be.
GONE = frozenset({State.EXPIRED, State.ROLLED_BACK, State.ABANDONED})


@dataclass(frozen=True)
class Traces:
    """The files of one ID on disk."""

    # of its transaction: "journal", "committed", "unfinished"; None: there is none
    transaction: Optional[str] = None
    undone_by: Optional[str] = None
    has_stage: bool = False
    is_over_time: bool = False
    has_begun: bool = False  # somebody began to commit it
    is_running: bool = False  # and, as far as can be known, still does
    recorded: Optional[State] = None  # what was written down of it


def derive_state(traces: Traces) -> State:
    """The state that these files mean.

    A transaction has precedence over a record that was written before it: the process that would
    have updated the record may have died.
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

"""What has become of a change that was staged: what lies on the disk -> its state."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Optional


class State(enum.Enum):
    """The state of one change, by its ID. The value stands in the JSON document."""

    STAGED = "staged"
    EXPIRED = "expired"  # staged for longer than it was to be kept: the next change removes it
    COMMITTING = "committing"
    INTERRUPTED = (
        "interrupted"  # killed while it was committed: the next change, or recover, undoes it
    )
    COMMITTED = "committed"
    UNDONE = "undone"
    ROLLED_BACK = "rolled-back"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"  # never staged here, or so long ago that nothing is kept of it


# What stays so by itself: it is written down, and the stage removed.
LASTING = frozenset(
    {State.EXPIRED, State.COMMITTED, State.UNDONE, State.ROLLED_BACK, State.ABANDONED}
)
# Nothing of it is in place, and nothing will be.
GONE = frozenset({State.EXPIRED, State.ROLLED_BACK, State.ABANDONED})


@dataclass(frozen=True)
class Traces:
    """What lies on the disk of one ID."""

    # of its transaction: "journal", "committed", "unfinished"; None: there is none
    transaction: Optional[str] = None
    undone_by: Optional[str] = None
    has_stage: bool = False
    is_over_time: bool = False
    has_begun: bool = False  # somebody began to commit it
    is_running: bool = False  # and, as far as can be known, still does
    recorded: Optional[State] = None  # what was written down of it


def derive_state(traces: Traces) -> State:
    """The state that these traces mean.

    A transaction says more than what was written down before it: the process that would have
    written the rest may have died.
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
    # Its stage went into a transaction, which was undone or removed.
    return State.ROLLED_BACK if traces.has_begun else State.UNKNOWN

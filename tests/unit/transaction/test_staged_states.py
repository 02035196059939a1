"""The state of a staged change: a table over what may lie on the disk."""

from __future__ import annotations

import pytest

from safe_install.transaction.staged_states import GONE, LASTING, State, Traces, derive_state

TABLE = [
    # nothing at all
    (Traces(), State.UNKNOWN),
    # staged, and for how long
    (Traces(has_stage=True), State.STAGED),
    (Traces(has_stage=True, is_over_time=True), State.EXPIRED),
    # killed before its stage was taken, after a recovery
    (Traces(has_stage=True, has_begun=True), State.STAGED),
    # a commit at work, or dead
    (Traces("unfinished", has_stage=True, has_begun=True, is_running=True), State.COMMITTING),
    (Traces("unfinished", has_begun=True), State.INTERRUPTED),
    (Traces("journal", has_begun=True, is_running=True), State.COMMITTING),
    (Traces("journal", has_begun=True), State.INTERRUPTED),
    (Traces("journal"), State.INTERRUPTED),
    # an install that was killed while it filled its stage was never a staged change
    (Traces("unfinished"), State.UNKNOWN),
    # committed, whatever else was written or not
    (Traces("committed"), State.COMMITTED),
    (Traces("committed", has_begun=True), State.COMMITTED),
    (Traces("committed", recorded=State.ROLLED_BACK), State.COMMITTED),
    (Traces("committed", undone_by="x", recorded=State.COMMITTED), State.UNDONE),
    # its transaction is gone: undone by a recovery, or let go long after
    (Traces(has_begun=True), State.ROLLED_BACK),
    (Traces(has_begun=True, recorded=State.COMMITTED), State.COMMITTED),
    (Traces(recorded=State.UNDONE), State.UNDONE),
    (Traces(recorded=State.ROLLED_BACK), State.ROLLED_BACK),
    # written down, and killed before the stage was removed
    (Traces(has_stage=True, recorded=State.ABANDONED), State.ABANDONED),
    (Traces(has_stage=True, recorded=State.EXPIRED), State.EXPIRED),
]


@pytest.mark.parametrize(("traces", "state"), TABLE)
def test_state(traces: Traces, state: State) -> None:
    assert derive_state(traces) is state


def test_every_state_has_a_row() -> None:
    assert {state for _, state in TABLE} == set(State)


def test_what_is_gone_lasts() -> None:
    assert GONE < LASTING
    assert State.STAGED not in LASTING

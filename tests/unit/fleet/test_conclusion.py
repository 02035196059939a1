"""How a run ended, by where its nodes stand: the table of exit statuses in docs/fleet.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safe_install.fleet.conclusion import conclude, count_nodes
from safe_install.fleet.state import FleetState, Intent, NodeState, Standing
from safe_install.models import Outcome
from tests.unit.fleet.simulated import RUN

UNDO = f"safe-install fleet undo {RUN}"
INTERRUPTED = {"stopped_by": 2}
ENDED = {"stopped_by": 15}


def node(name, standing, status=None, **values):
    """One that has failed where a status is named."""
    failure = "" if status is None else "why"
    return NodeState(
        name, "/env/bin/python", standing, failure=failure, status=status or 0, **values
    )


def state_of(*rows, **values):
    nodes = [node(f"n{number}", *row) for number, row in enumerate(rows)]
    return FleetState(RUN, tuple(nodes), **values)


VERIFIED, UNCHANGED = (Standing.VERIFIED,), (Standing.UNCHANGED,)
UNDONE, STAGED, LOST = (Standing.UNDONE,), (Standing.STAGED,), (Standing.LOST,)
ABANDONED, COMMITTED = (Standing.ABANDONED,), (Standing.COMMITTED,)


@pytest.mark.parametrize(
    ("rows", "values", "status", "outcome", "sentence"),
    [
        # all of them
        ([VERIFIED], {}, 0, Outcome.INSTALLED, "Installed on 1 node, verified on each."),
        ([VERIFIED, VERIFIED, UNCHANGED], {}, 0, Outcome.INSTALLED, "on 2 nodes, verified"),
        ([VERIFIED, UNCHANGED], {}, 0, Outcome.INSTALLED, "; 1 had nothing to change."),
        ([UNCHANGED] * 2, {}, 0, Outcome.ALREADY_SATISFIED, "Every node has what was asked for."),
        (
            [(Standing.PLANNED,), UNCHANGED],
            {"only_plans": True},
            0,
            Outcome.PLANNED,
            "Would change 1 node; nothing was changed.",
        ),
        # none of them, and nothing was ever changed
        ([(Standing.REFUSED, 11), ABANDONED], {}, 11, Outcome.REFUSED, "1 node failed before any"),
        ([(Standing.REFUSED, 10)] * 2, {}, 10, Outcome.REFUSED, "2 nodes failed before anything"),
        ([(Standing.REFUSED, 14), ABANDONED], {}, 14, Outcome.ERROR, "no node is changed."),
        ([(Standing.REFUSED, 15), ABANDONED], {}, 15, Outcome.ERROR, "no node is changed."),
        ([(Standing.REFUSED, 10), (Standing.REFUSED, 14)], {}, 11, Outcome.REFUSED, "2 nodes"),
        ([(Standing.SILENT, 1), ABANDONED], {}, 1, Outcome.ERROR, "no node is changed."),
        ([(Standing.SILENT, 1), (Standing.REFUSED, 11)], {}, 11, Outcome.REFUSED, "2 nodes"),
        # none of them, and some were changed
        ([(Standing.UNDONE, 12), UNDONE], {}, 12, Outcome.ROLLED_BACK, "the change was taken back"),
        ([(Standing.ROLLED_BACK, 12), ABANDONED], {}, 12, Outcome.ROLLED_BACK, "taken back"),
        # nobody knows
        ([(Standing.UNKNOWN, 13), UNDONE], {}, 13, Outcome.ROLLBACK_FAILED, f"{UNDO} finishes it"),
        ([(Standing.STUCK, 13), UNDONE], {}, 13, Outcome.ROLLBACK_FAILED, "1 node may be changed"),
        # some of them, as far as that is tolerated
        (
            [(Standing.SILENT, 1), VERIFIED],
            {"tolerated": 1},
            1,
            Outcome.INSTALLED,
            "Changed on 1 node; 1 node failed, as many as were tolerated.",
        ),
        ([(Standing.UNKNOWN, 13), UNCHANGED], {"tolerated": None}, 1, Outcome.INSTALLED, "0 nodes"),
        ([(Standing.UNDONE, 12), UNCHANGED], {"tolerated": 1}, 12, Outcome.ROLLED_BACK, "back"),
        # a person ended it
        ([ABANDONED, UNCHANGED], INTERRUPTED, 130, Outcome.ROLLED_BACK, "before anything was ch"),
        ([UNDONE, ABANDONED], ENDED, 143, Outcome.ROLLED_BACK, "Interrupted: the change was taken"),
        ([UNDONE, (Standing.UNKNOWN, 13)], INTERRUPTED, 13, Outcome.ROLLBACK_FAILED, UNDO),
        ([UNDONE, (Standing.STUCK, 13)], INTERRUPTED, 13, Outcome.ROLLBACK_FAILED, UNDO),
    ],
)
def test_the_end_of_a_change(rows, values, status, outcome, sentence):
    end = conclude(state_of(*rows, **values))
    assert (end.status, end.outcome) == (status, outcome)
    assert sentence in end.sentence


@pytest.mark.parametrize(
    ("rows", "values", "status", "outcome", "sentence"),
    [
        ([UNDONE, ABANDONED], {}, 0, Outcome.UNDONE, f"Undone: {RUN}. No node has it in place."),
        ([(Standing.ROLLED_BACK, 12)], {}, 0, Outcome.UNDONE, "No node has it in place."),
        ([ABANDONED, UNCHANGED], {}, 0, Outcome.ALREADY_SATISFIED, "Nothing of"),
        ([(Standing.STUCK, 13), UNDONE], {}, 13, Outcome.ROLLBACK_FAILED, "1 node could not be"),
        ([(Standing.UNKNOWN, 13)] * 2, {}, 13, Outcome.ROLLBACK_FAILED, "2 nodes could not be"),
        (
            [COMMITTED, LOST, UNDONE],
            INTERRUPTED,
            13,
            Outcome.ROLLBACK_FAILED,
            f"Interrupted: undone on 1 node, and 2 nodes may have it still: {UNDO} finishes it.",
        ),
        ([STAGED, UNDONE], ENDED, 143, Outcome.ROLLED_BACK, "What 1 node staged expires by"),
        ([UNDONE], INTERRUPTED, 0, Outcome.UNDONE, "No node has it in place."),
    ],
)
def test_the_end_of_an_undo(rows, values, status, outcome, sentence):
    end = conclude(state_of(*rows, intent=Intent.UNDO, **values))
    assert (end.status, end.outcome) == (status, outcome)
    assert sentence in end.sentence


@pytest.mark.parametrize(
    ("rows", "status", "sentence"),
    [
        ([COMMITTED] * 2, 0, f"{RUN}: 2 changed."),
        ([COMMITTED, UNCHANGED], 0, f"{RUN}: 1 changed, 1 unchanged."),
        ([UNDONE, ABANDONED], 0, f"{RUN}: 1 undone, 1 abandoned."),
        ([COMMITTED, UNDONE], 1, f"It did not come to its end: {UNDO} does."),
        ([STAGED, UNCHANGED], 1, f"It did not come to its end: {UNDO} does."),
        ([(Standing.UNKNOWN, 13), COMMITTED], 1, f"{RUN}: 1 changed, 1 unknown."),
        ([(Standing.UNKNOWN, 13)] * 2, 1, f"{RUN}: 2 unknown."),
    ],
)
def test_a_look(rows, status, sentence):
    end = conclude(state_of(*rows, intent=Intent.LOOK))
    assert (end.status, end.outcome) == (status, Outcome.LISTED)
    assert sentence in end.sentence


def test_a_look_at_a_run_whose_failures_were_tolerated():
    for rows, status in (
        ([COMMITTED, (Standing.SILENT, 1)], 0),
        ([COMMITTED, (Standing.REFUSED, 11)], 0),
        ([COMMITTED, UNDONE], 0),
        ([COMMITTED, (Standing.UNKNOWN, 13)], 1),
    ):
        end = conclude(state_of(*rows, intent=Intent.LOOK, was_kept=True))
        assert end.status == status
        assert "did not come to its end" not in end.sentence


@pytest.mark.parametrize(
    ("rows", "values", "status", "sentence"),
    [
        ([VERIFIED], {}, 1, "But not all processes of 1 node came back: see below."),
        ([UNDONE], {"intent": Intent.UNDO}, 1, "But not all processes of 1 node came back"),
        ([(Standing.UNDONE, 12)], {}, 12, "1 node failed: the change was taken back"),
    ],
)
def test_a_process_that_did_not_come_back_is_no_success(rows, values, status, sentence):
    end = conclude(state_of(*rows, missing=("n0",), **values))
    assert end.status == status
    assert sentence in end.sentence


def test_an_uninstall_is_called_so():
    end = conclude(state_of(VERIFIED), removes=True)
    assert (end.outcome, end.sentence) == (
        Outcome.UNINSTALLED,
        "Uninstalled from 1 node, verified on each.",
    )
    partly = state_of(VERIFIED, (Standing.SILENT, 1), tolerated=1)
    end = conclude(partly, removes=True)
    assert (end.outcome, end.status) == (Outcome.UNINSTALLED, 1)


def test_a_node_that_shares_is_what_its_leader_is():
    for leader, status in ((UNDONE, 0), (COMMITTED, 13), (LOST, 13)):
        state = state_of(leader, intent=Intent.UNDO, **INTERRUPTED)
        follower = node("n1", Standing.FOLLOWING, leader="n0")
        end = conclude(replace(state, nodes=(*state.nodes, follower)))
        assert end.status == status
    assert "undone on 0 nodes, and 2 nodes may have it still" in end.sentence


def test_nodes_are_counted():
    assert [count_nodes([1] * number) for number in (0, 1, 2)] == ["0 nodes", "1 node", "2 nodes"]

"""What one answer makes of one node: every verb, every exit status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safe_install.fleet.answers import Answer
from safe_install.fleet.engine import Delivery
from safe_install.fleet.phases import (
    MAX_TRIES,
    MAX_WAITS,
    PAUSES,
    Kind,
    end,
    fold,
    fold_delivery,
    next_phase,
    stop,
)
from safe_install.fleet.state import FleetState, Intent, NodeState, Standing
from tests.unit.fleet.simulated import RUN, facts_of

ID = "20261130T010204Z-000001"
FACTS = facts_of((1, 2))
BROKEN = frozenset({("import-failed", "torch")})
SILENCE = Answer("n0", problem="no answer")
LOCKED = Answer("n0", status=14, outcome="error", message="locked")


def node_of(standing, **values):
    return NodeState("n0", "/env/bin/python", standing, transaction=ID, **values)


def said(status=0, outcome="", **values):
    return Answer("n0", status=status, outcome=outcome, **values)


def meant(kind, before, answer, **values):
    state = FleetState(RUN, (before,), **values)
    return fold(state, kind, answer)


NEW, KNOWN, READY = Standing.NEW, Standing.KNOWN, Standing.READY
STAGED, LOST, COMMITTED = Standing.STAGED, Standing.LOST, Standing.COMMITTED


@pytest.mark.parametrize(
    ("kind", "before", "answer", "after", "failure"),
    [
        (Kind.INVENTORY, NEW, said(facts=FACTS), KNOWN, ""),
        (Kind.INVENTORY, NEW, SILENCE, Standing.SILENT, "no answer"),
        (Kind.INVENTORY, NEW, said(15, "error", message="no python"), Standing.SILENT, "no python"),
        (Kind.INVENTORY, NEW, said(2, "error"), Standing.SILENT, "exit status 2 (error)"),
        (Kind.EXAMINE, KNOWN, said(), Standing.EXAMINED, ""),
        (Kind.EXAMINE, KNOWN, said(1, errors=BROKEN), Standing.EXAMINED, ""),
        (Kind.EXAMINE, KNOWN, SILENCE, Standing.SILENT, "no answer"),
        (Kind.EXAMINE, KNOWN, said(15, "error", message="gone"), Standing.SILENT, "gone"),
        (Kind.STAGE, READY, said(outcome="staged", transaction=ID), STAGED, ""),
        (Kind.STAGE, READY, said(outcome="already-satisfied"), Standing.UNCHANGED, ""),
        (Kind.STAGE, READY, said(outcome="staged"), Standing.REFUSED, "exit status 0 (staged)"),
        (Kind.STAGE, READY, said(outcome="listed"), Standing.REFUSED, "exit status 0 (listed)"),
        (Kind.STAGE, READY, said(11, "refused", message="misfit"), Standing.REFUSED, "misfit"),
        (Kind.STAGE, READY, SILENCE, READY, ""),
        (Kind.STAGE, READY, LOCKED, READY, ""),
        (Kind.COMMIT, STAGED, said(outcome="installed"), COMMITTED, ""),
        (Kind.COMMIT, STAGED, said(12, "rolled-back"), Standing.ROLLED_BACK, "exit status 12 (ro"),
        # kept in spite of its check: what lies there is asked
        (Kind.COMMIT, STAGED, said(12, "unhealthy", state="committed"), LOST, ""),
        (Kind.COMMIT, STAGED, said(11, "refused", message="it moved"), STAGED, "it moved"),
        (Kind.COMMIT, STAGED, said(13, "x", message="stuck"), Standing.UNKNOWN, "stuck"),
        (Kind.COMMIT, STAGED, LOCKED, STAGED, ""),
        (Kind.COMMIT, STAGED, said(1, "error"), LOST, ""),
        (Kind.COMMIT, STAGED, SILENCE, LOST, ""),
        (Kind.CANARY, STAGED, SILENCE, LOST, ""),
        (Kind.VERIFY, COMMITTED, said(), Standing.VERIFIED, ""),
        (Kind.VERIFY, COMMITTED, said(1, message="broken"), Standing.SICK, "broken"),
        (Kind.VERIFY, COMMITTED, SILENCE, Standing.SICK, "no answer"),
        (Kind.VERIFY, COMMITTED, said(15, "error"), Standing.SICK, "exit status 15 (error)"),
        (Kind.ASK, LOST, said(state="staged"), STAGED, ""),
        (Kind.ASK, LOST, said(state="interrupted"), STAGED, ""),
        (Kind.ASK, LOST, said(state="committed"), COMMITTED, ""),
        (Kind.ASK, LOST, said(state="rolled-back"), Standing.ROLLED_BACK, "its change is rolled-b"),
        (Kind.ASK, LOST, said(state="undone"), Standing.UNDONE, "its change is undone"),
        (Kind.ASK, LOST, said(state="expired"), Standing.ABANDONED, "its change is expired"),
        (Kind.ASK, LOST, said(state="committing"), LOST, ""),
        (Kind.ASK, LOST, SILENCE, LOST, ""),
        (Kind.UNDO, COMMITTED, said(outcome="undone"), Standing.UNDONE, ""),
        (Kind.UNDO, COMMITTED, LOCKED, COMMITTED, ""),
        (Kind.UNDO, COMMITTED, SILENCE, LOST, ""),
        (Kind.UNDO, COMMITTED, said(13, "x", message="stuck"), Standing.UNKNOWN, "stuck"),
        (Kind.UNDO, COMMITTED, said(11, message="needed"), Standing.STUCK, "could not be taken ba"),
        (Kind.ABANDON, STAGED, said(outcome="abandoned"), Standing.ABANDONED, ""),
        (Kind.ABANDON, STAGED, LOCKED, STAGED, ""),
        (Kind.ABANDON, STAGED, said(11, "refused"), LOST, ""),
        (Kind.ABANDON, STAGED, SILENCE, LOST, ""),
    ],
)
def test_what_an_answer_means(kind, before, answer, after, failure):
    found = meant(kind, node_of(before), answer)
    assert found.standing is after
    assert found.failure.startswith(failure)
    assert bool(found.failure) == bool(failure)


@pytest.mark.parametrize(
    ("kind", "before", "answer", "most", "after", "status"),
    [
        (Kind.STAGE, READY, SILENCE, MAX_TRIES, Standing.SILENT, 1),
        (Kind.STAGE, READY, LOCKED, MAX_WAITS, Standing.REFUSED, 14),
        (Kind.COMMIT, STAGED, LOCKED, MAX_WAITS, STAGED, 14),
        (Kind.ASK, LOST, SILENCE, MAX_TRIES, Standing.UNKNOWN, 13),
        (Kind.ASK, LOST, said(state="unknown"), MAX_TRIES, Standing.UNKNOWN, 13),
        (Kind.ASK, LOST, said(state=""), MAX_TRIES, Standing.UNKNOWN, 13),
        (Kind.ASK, LOST, said(state="committing"), MAX_WAITS, Standing.UNKNOWN, 13),
        (Kind.UNDO, COMMITTED, LOCKED, MAX_WAITS, Standing.STUCK, 14),
        (Kind.ABANDON, STAGED, LOCKED, MAX_WAITS, Standing.ABANDONED, 14),
    ],
)
def test_it_is_asked_so_often(kind, before, answer, most, after, status):
    node, asked = node_of(before), 0
    while not node.failure:
        node = meant(kind, node, answer)
        asked += 1
    assert (asked, node.standing, node.status) == (most, after, status)


def test_one_that_is_lost_again_and_again_is_unknown():
    node, lost = node_of(STAGED), 0
    while node.standing is not Standing.UNKNOWN:
        node = meant(Kind.COMMIT, replace(node, standing=STAGED), SILENCE)
        lost += 1
    assert (lost, node.failure, node.status) == (MAX_TRIES + 1, "no answer", 13)


def test_the_pauses_grow_and_have_an_end():
    tries = [node_of(LOST, tries=number) for number in (0, 1, 2, 99)]
    pauses = [next_phase(FleetState(RUN, (node,))).pause for node in tries]
    assert pauses == [PAUSES[0], PAUSES[1], PAUSES[2], PAUSES[-1]]
    assert sorted(pauses) == pauses


def test_an_answer_begins_the_count_anew():
    assert meant(Kind.ASK, node_of(LOST, tries=2), said(state="committed")).tries == 0
    assert meant(Kind.ASK, node_of(LOST, tries=0), SILENCE).tries == 1


@pytest.mark.parametrize(
    ("before", "was_healthy", "errors", "after"),
    [
        (frozenset(), True, BROKEN, Standing.SICK),
        (BROKEN, False, BROKEN, Standing.VERIFIED),
        (BROKEN, False, frozenset(), Standing.VERIFIED),
        (BROKEN, False, BROKEN | {("cuda", "torch")}, Standing.SICK),
    ],
)
def test_worse_than_before_is_what_counts(before, was_healthy, errors, after):
    node = node_of(COMMITTED, errors=before, was_healthy=was_healthy)
    assert meant(Kind.VERIFY, node, said(1, errors=errors)).standing is after


def test_what_is_gone_is_no_failure_where_all_goes_back():
    gone = said(state="undone")
    assert meant(Kind.ASK, node_of(LOST), gone).failure
    assert not meant(Kind.ASK, node_of(LOST), gone, intent=Intent.UNDO).failure
    assert not meant(Kind.ASK, node_of(LOST), gone, stopped_by=2).failure


def test_the_first_failure_is_the_one_that_is_told():
    node = node_of(COMMITTED, failure="CUDA is gone", status=12)
    lost = meant(Kind.UNDO, node, said(13, "x", message="stuck"))
    assert (lost.standing, lost.failure, lost.status) == (Standing.UNKNOWN, "CUDA is gone", 13)


@pytest.mark.parametrize(
    ("delivery", "after", "failure"),
    [
        (Delivery("n0", "/b.zip"), READY, ""),
        (Delivery("n0", problem="no room"), Standing.SILENT, "no room"),
        (Delivery("n0", "/b.zip", "other bytes"), Standing.SILENT, "other bytes"),
        (Delivery("n0"), Standing.SILENT, "it did not answer"),
    ],
)
def test_a_delivery(delivery, after, failure):
    node = fold_delivery(node_of(Standing.PLANNED), delivery)
    assert (node.standing, node.failure) == (after, failure)
    assert node.bundle == ("/b.zip" if after is READY else "")


# --- environments that are shared -----------------------------------------------------------------


def follower_of(standing, **values):
    leader = NodeState("n0", "/env/bin/python", standing, transaction=ID)
    follower = NodeState("n1", "/env/bin/python", Standing.FOLLOWING, leader="n0", **values)
    return FleetState(RUN, (leader, follower))


@pytest.mark.parametrize(
    ("answer", "standing", "leader", "is_confirmed"),
    [
        ({"state": "staged"}, Standing.FOLLOWING, "n0", True),
        ({"state": "unknown"}, Standing.PLANNED, "", False),
        ({"state": ""}, Standing.PLANNED, "", False),
        ({"problem": "no answer"}, Standing.FOLLOWING, "n0", False),
    ],
)
def test_does_it_see_what_its_leader_has_staged(answer, standing, leader, is_confirmed):
    state = follower_of(STAGED)
    phase = next_phase(state)
    assert (phase.kind, phase.asks[0].node, phase.asks[0].identifier) == (Kind.CONFIRM, "n1", ID)
    found = fold(state, Kind.CONFIRM, Answer("n1", **answer))
    assert (found.standing, found.leader, found.is_confirmed) == (standing, leader, is_confirmed)


def test_a_leader_with_nothing_to_do_leads_no_more():
    state = follower_of(Standing.UNCHANGED)
    after = end(state, next_phase(replace(state, nodes=(node_of(READY), state.nodes[1]))))
    assert (after.find("n1").standing, after.find("n1").leader) == (Standing.PLANNED, "")


def test_it_is_too_late_to_stop_where_all_is_settled():
    state = FleetState(RUN, (node_of(Standing.VERIFIED),))
    assert stop(state, 2).stopped_by == 2
    assert stop(replace(state, is_settled=True), 2).stopped_by == 0

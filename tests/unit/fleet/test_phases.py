"""All nodes are changed, or none is; whatever they do, and whenever the controller is killed."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safe_install.fleet.conclusion import conclude
from safe_install.fleet.phases import Kind, next_phase, revive
from safe_install.fleet.state import Ending, Intent, NodeState, Standing
from safe_install.models import Outcome
from tests.unit.fleet.simulated import Machines, new_state


def machines(count, script=None, *, places=None):
    """`script`: {(node, verb): [what the first call does, the second, ...]}; then "ok"."""
    left = {key: list(does) for key, does in (script or {}).items()}

    def behaviour(node, verb):
        waiting = left.get((node, verb))
        return waiting.pop(0) if waiting else "ok"

    found = places or {f"n{number}": number for number in range(count)}
    return Machines(found, behaviour)


def finish(script=None, *, count=3, places=None, **options):
    there = machines(count, script, places=places)
    state = there.run(new_state(count, **options))
    return there, state, conclude(state)


def endings(state):
    return [state.ending_of(node).value for node in state.nodes]


def real(there, state):
    return [there.environment(node.name).state for node in state.nodes]


# --- every exit -----------------------------------------------------------------------------------

LOST_FOR_EVER = ["dead"] * 20
ROWS = [
    # what goes wrong, what becomes of the nodes, exit status, outcome
    ({}, ["changed"] * 3, 0, Outcome.INSTALLED),
    ({("n0", "stage"): ["satisfied"]}, ["unchanged", "changed", "changed"], 0, Outcome.INSTALLED),
    (
        {(f"n{n}", "stage"): ["satisfied"] for n in range(3)},
        ["unchanged"] * 3,
        0,
        Outcome.ALREADY_SATISFIED,
    ),
    ({("n1", "inventory"): ["dead"]}, ["unchanged", "unknown", "unchanged"], 1, Outcome.ERROR),
    ({("n1", "deliver"): ["dead"]}, ["unchanged", "unknown", "unchanged"], 1, Outcome.ERROR),
    (
        {("n1", "stage"): ["refused"]},
        ["abandoned", "refused", "abandoned"],
        11,
        Outcome.REFUSED,
    ),
    ({("n1", "stage"): ["lost"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    ({("n1", "stage"): LOST_FOR_EVER}, ["abandoned", "unknown", "abandoned"], 1, Outcome.ERROR),
    ({("n1", "stage"): ["locked"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    (
        {("n1", "stage"): ["locked"] * 9},
        ["abandoned", "refused", "abandoned"],
        14,
        Outcome.ERROR,
    ),
    ({("n1", "commit"): ["broken"]}, ["undone", "undone", "undone"], 12, Outcome.ROLLED_BACK),
    ({("n1", "commit"): ["refused"]}, ["undone", "abandoned", "undone"], 12, Outcome.ROLLED_BACK),
    ({("n1", "commit"): ["lost"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    ({("n1", "commit"): ["dead"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    ({("n1", "commit"): ["locked"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    (
        {("n1", "commit"): ["lost"], ("n1", "status"): LOST_FOR_EVER},
        ["undone", "unknown", "undone"],
        13,
        Outcome.ROLLBACK_FAILED,
    ),
    (
        {("n1", "commit"): ["stuck"]},
        ["undone", "unknown", "undone"],
        13,
        Outcome.ROLLBACK_FAILED,
    ),
    ({("n1", "verify"): ["ok", "broken"]}, ["undone"] * 3, 12, Outcome.ROLLED_BACK),
    ({("n1", "verify"): ["ok", "dead"]}, ["undone"] * 3, 12, Outcome.ROLLED_BACK),
    ({("n1", "verify"): ["broken", "broken"]}, ["changed"] * 3, 0, Outcome.INSTALLED),
    (
        {("n1", "verify"): ["ok", "broken"], ("n2", "undo"): ["refused"]},
        ["undone", "undone", "changed"],
        13,
        Outcome.ROLLBACK_FAILED,
    ),
    (
        {("n1", "verify"): ["ok", "broken"], ("n2", "undo"): ["lost"]},
        ["undone"] * 3,
        12,
        Outcome.ROLLED_BACK,
    ),
    (
        {("n1", "stage"): ["refused"], ("n2", "abandon"): ["lost"]},
        ["abandoned", "refused", "abandoned"],
        11,
        Outcome.REFUSED,
    ),
]


@pytest.mark.parametrize(("script", "expected", "status", "outcome"), ROWS)
def test_the_end_of_a_run(script, expected, status, outcome):
    _, state, end = finish(script)
    assert (endings(state), end.status, end.outcome) == (expected, status, outcome)
    assert next_phase(state).kind is Kind.DONE


def test_no_commit_begins_before_all_have_staged():
    there, _, _ = finish({("n0", "stage"): ["locked"], ("n2", "stage"): ["lost"]})
    verbs = [verb for _, verb in there.calls]
    last_stage = len(verbs) - 1 - verbs[::-1].index("stage")
    assert verbs.index("commit") > last_stage


def test_nothing_is_committed_where_one_refuses():
    there, _, _ = finish({("n1", "stage"): ["refused"]})
    assert "commit" not in [verb for _, verb in there.calls]
    assert there.settled == []


def test_the_engine_settles_once_after_the_last_change():
    there, _, _ = finish()
    assert there.settled == [("n0", "n1", "n2")]
    there, _, _ = finish({("n1", "verify"): ["ok", "broken"]})
    assert there.settled == [("n0", "n1", "n2")]


@pytest.mark.parametrize(
    ("options", "script", "expected", "status"),
    [
        ({"tolerated": 1}, {("n1", "stage"): ["refused"]}, ["changed", "refused", "changed"], 1),
        ({"tolerated": 1}, {("n1", "commit"): ["broken"]}, ["changed", "undone", "changed"], 1),
        ({"tolerated": 1}, {("n1", "commit"): ["refused"]}, ["changed", "abandoned", "changed"], 1),
        (
            {"tolerated": 1},
            {("n1", "verify"): ["ok", "broken"]},
            ["changed", "undone", "changed"],
            1,
        ),
        (
            {"tolerated": 1},
            {("n1", "stage"): ["refused"], ("n2", "commit"): ["broken"]},
            ["undone", "refused", "undone"],
            12,
        ),
        (
            {"tolerated": None},
            {("n1", "stage"): ["refused"], ("n2", "commit"): ["broken"]},
            ["changed", "refused", "undone"],
            1,
        ),
        ({"tolerated": 1}, {("n1", "inventory"): ["dead"]}, ["changed", "unknown", "changed"], 1),
    ],
)
def test_tolerated_failures_are_told(options, script, expected, status):
    _, state, end = finish(script, **options)
    assert (endings(state), end.status) == (expected, status)
    assert [node.name for node in state.nodes if node.failure]


@pytest.mark.parametrize(
    ("after", "script", "expected", "status"),
    [
        (Kind.STAGE, {}, ["abandoned"] * 3, 130),
        (Kind.STAGE, {("n1", "stage"): ["lost"]}, ["abandoned", "unchanged", "abandoned"], 130),
        (Kind.COMMIT, {}, ["undone"] * 3, 130),
        (Kind.COMMIT, {("n1", "commit"): ["lost"]}, ["undone"] * 3, 130),
        (Kind.COMMIT, {("n1", "commit"): ["broken"]}, ["undone"] * 3, 130),
        (Kind.COMMIT, {("n1", "undo"): ["refused"]}, ["undone", "changed", "undone"], 13),
        (Kind.VERIFY, {}, ["undone"] * 3, 130),
        (Kind.SETTLE, {}, ["changed"] * 3, 0),
    ],
)
def test_a_person_stops_it(after, script, expected, status):
    there = machines(3, script)
    state = there.run(new_state(3), stopped_after=after)
    end = conclude(state)
    assert (endings(state), end.status) == (expected, status)
    assert next_phase(state).kind is Kind.DONE
    # what was staged by a call whose answer was lost expires by itself
    assert ("committed" in real(there, state)) == ("changed" in expected)


@pytest.mark.parametrize(
    ("calls", "script", "after", "expected", "status", "told"),
    [
        # of three: killed behind their commits; the undo is stopped
        (12, {}, Kind.ASK, ["changed"] * 3, 13, "undone on 0 nodes, and 3 nodes may have it still"),
        (12, {}, Kind.UNDO, ["undone"] * 3, 0, "No node has it in place."),
        (
            12,
            {("n1", "undo"): ["locked"]},
            Kind.UNDO,
            ["undone", "changed", "undone"],
            13,
            "undone on 2 nodes, and 1 node may have it still: safe-install fleet undo",
        ),
        (
            12,
            {("n1", "undo"): ["lost"]},
            Kind.UNDO,
            ["undone", "unknown", "undone"],
            13,
            "undone on 2 nodes, and 1 node may have it still",
        ),
        # killed between the first commit and the second
        (10, {}, Kind.UNDO, ["undone", "unchanged", "unchanged"], 130, "What 2 nodes staged"),
        (10, {}, Kind.ABANDON, ["undone", "abandoned", "abandoned"], 0, "No node has it in place."),
    ],
)
def test_a_person_stops_an_undo(calls, script, after, expected, status, told):
    """It ends when those that were asked have answered, says what is left, and the next finishes."""
    there = machines(3, script)
    assert there.run(new_state(3), stop_after=calls) is None
    stopped = there.run(revive(there.kept[-1], Intent.UNDO), stopped_after=after)
    end = conclude(stopped)
    assert (endings(stopped), end.status) == (expected, status)
    assert told in end.sentence
    finished = there.run(revive(replace(stopped, stopped_by=0), Intent.UNDO))
    assert conclude(finished).status == 0
    assert set(real(there, finished)) <= {"undone", "abandoned"}
    assert there.settled


def test_a_canary_goes_first():
    there, _, end = finish(canary=1)
    verbs = [call for call in there.calls if call[1] in ("commit", "verify")]
    assert verbs[3:] == [
        ("n0", "commit"),
        ("n0", "verify"),
        ("n1", "commit"),
        ("n2", "commit"),
        ("n1", "verify"),
        ("n2", "verify"),
    ]
    assert end.status == 0


def test_a_canary_that_fails_spares_the_others():
    there, state, end = finish({("n0", "verify"): ["ok", "broken"]}, canary=1)
    assert endings(state) == ["undone", "abandoned", "abandoned"]
    assert [node for node, verb in there.calls if verb == "commit"] == ["n0"]
    assert end.status == 12


def test_a_dry_run_ends_with_the_plan():
    there, state, end = finish(only_plans=True)
    assert {verb for _, verb in there.calls} == {"inventory", "verify"}
    assert (endings(state), end.status, end.outcome) == (["unchanged"] * 3, 0, Outcome.PLANNED)


def test_one_at_work_is_waited_for():
    script = {("n1", "commit"): ["lost"], ("n1", "status"): ["committing"] * 4}
    _, state, end = finish(script)
    assert (endings(state), end.status) == (["changed"] * 3, 0)
    script = {("n1", "commit"): ["lost"], ("n1", "status"): ["committing"] * 99}
    there, state, end = finish(script)
    assert (endings(state), end.status) == (["undone", "unknown", "undone"], 13)
    assert len([call for call in there.calls if call == ("n1", "status")]) == 6


def test_a_node_that_cannot_be_asked_says_why():
    _, state, end = finish({("n1", "inventory"): ["failed"]})
    assert (endings(state)[1], end.status) == ("unknown", 1)
    assert state.find("n1").failure == "failed"


# --- environments that are shared -----------------------------------------------------------------

SHARED = {"n0": 0, "n1": 0, "n2": 1}


def test_a_shared_environment_is_changed_once_and_verified_on_every_node():
    there, state, end = finish(places=SHARED)
    assert endings(state) == ["changed"] * 3
    assert [node for node, verb in there.calls if verb == "commit"] == ["n0", "n2"]
    assert [node for node, verb in there.calls if verb == "verify"][3:] == ["n0", "n2", "n1"]
    assert end.status == 0


def test_a_node_that_only_seems_to_share_is_changed_itself():
    """Copies of one disk have the same numbers."""
    there = machines(3)
    there.seems = SHARED
    state = there.run(new_state(3))
    assert endings(state) == ["changed"] * 3
    assert real(there, state) == ["committed"] * 3
    assert sorted(node for node, verb in there.calls if verb == "commit") == ["n0", "n1", "n2"]


def test_what_is_worse_on_a_node_that_shares_takes_the_change_back():
    there, state, end = finish({("n1", "verify"): ["ok", "broken"]}, places=SHARED)
    assert endings(state) == ["undone"] * 3
    assert (end.status, real(there, state)) == (12, ["undone"] * 3)


def test_of_what_is_tolerated_too():
    script = {("n1", "verify"): ["ok", "broken"]}
    _, state, end = finish(script, places=SHARED, tolerated=1)
    assert endings(state) == ["undone", "undone", "changed"]
    assert end.status == 1


# --- whatever happens -----------------------------------------------------------------------------

UNHURRIED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
DEEDS = ("ok", "ok", "ok", "lost", "dead", "locked", "refused", "broken", "failed", "satisfied")
VERBS = ("inventory", "verify", "deliver", "stage", "commit", "status", "undo", "abandon")
CHANGED = {Ending.CHANGED: True, Ending.UNKNOWN: None}


def check(there, state, end):
    """What is told of each node is true, and status 0 means all."""
    for node in state.nodes:
        is_changed = there.environment(node.name).state == "committed"
        told = CHANGED.get(state.ending_of(node), False)
        assert told is None or told == is_changed, (node, there.environment(node.name))
    is_changed = [there.environment(node.name).state == "committed" for node in state.nodes]
    satisfied = [node.standing is Standing.UNCHANGED for node in state.nodes]
    if end.status == 0:
        assert all(map(any, zip(is_changed, satisfied)))
        assert not state.failed
    else:
        assert state.failed
    if end.status in (10, 11, 12, 14):
        assert not any(is_changed)
    if any(is_changed) and not all(map(any, zip(is_changed, satisfied))):
        assert end.status in (1, 13)


@st.composite
def worlds(draw):
    count = draw(st.integers(1, 4))
    deeds = draw(st.lists(st.sampled_from(DEEDS), max_size=60))
    places = {f"n{number}": draw(st.integers(0, number)) for number in range(count)}
    options = {
        "canary": draw(st.integers(0, 2)),
        "tolerated": draw(st.sampled_from([0, 0, 1, 2, None])),
    }
    after = iter(deeds)
    shared = [place for place, number in Counter(places.values()).items() if number > 1]

    def behaviour(node, verb):
        deed = next(after, "ok")
        # Of one environment two nodes cannot say that all is there, and that it is not.
        return "ok" if deed == "satisfied" and places[node] in shared else deed

    return Machines(places, behaviour), new_state(count, **options)


@settings(max_examples=150, **UNHURRIED)
@given(worlds())
def test_all_or_none_or_it_is_told(world):
    there, state = world
    end_state = there.run(state)
    check(there, end_state, conclude(end_state))


@settings(max_examples=150, **UNHURRIED)
@given(worlds(), st.integers(0, 40))
def test_a_controller_that_is_killed_is_finished_by_undo(world, calls):
    there, state = world
    if there.run(state, stop_after=calls) is not None:
        return
    there.behaviour = lambda node, verb: "ok"
    left = revive(there.kept[-1], Intent.UNDO)
    finished = there.run(left)
    assert "committed" not in [one.state for one in there.environments.values()]
    end = conclude(finished)
    assert end.status == 0, end


def told_truly(there, state):
    """What is said of each node is what lies there, or that it is not known."""
    for node in state.nodes:
        is_changed = there.environment(node.name).state == "committed"
        told = CHANGED.get(state.ending_of(node), False)
        assert told is None or told == is_changed, (node, there.environment(node.name))


def all_taken_back(there, state):
    """The next undo finishes, once all answer."""
    there.behaviour = lambda node, verb: "ok"
    finished = there.run(revive(replace(state, stopped_by=0), Intent.UNDO))
    assert conclude(finished).status == 0
    assert "committed" not in [one.state for one in there.environments.values()]


@settings(max_examples=150, **UNHURRIED)
@given(worlds(), st.sampled_from(list(Kind)))
def test_whoever_stops_a_change_is_told_the_truth(world, kind):
    there, state = world
    ended = there.run(state, stopped_after=kind)
    told_truly(there, ended)
    if conclude(ended).status > 128:
        assert "committed" not in [one.state for one in there.environments.values()]
    all_taken_back(there, ended)


@settings(max_examples=150, **UNHURRIED)
@given(worlds(), st.integers(0, 40), st.sampled_from([Kind.ASK, Kind.UNDO, Kind.ABANDON]))
def test_whoever_stops_an_undo_is_told_the_truth(world, calls, kind):
    there, state = world
    there.run(state, stop_after=calls)
    stopped = there.run(revive(there.kept[-1], Intent.UNDO), stopped_after=kind)
    told_truly(there, stopped)
    if conclude(stopped).status in (0, 130):
        assert "committed" not in [one.state for one in there.environments.values()]
    all_taken_back(there, stopped)


@settings(max_examples=60, **UNHURRIED)
@given(worlds(), st.integers(0, 40))
def test_a_look_changes_nothing(world, calls):
    there, state = world
    there.run(state, stop_after=calls)
    before = {place: one.state for place, one in there.environments.items()}
    there.behaviour = lambda node, verb: "ok"
    seen = there.run(revive(there.kept[-1], Intent.LOOK))
    assert {place: one.state for place, one in there.environments.items()} == before
    told_truly(there, seen)


@pytest.mark.parametrize("calls", range(15))
def test_a_controller_that_is_killed_at_each_call(calls):
    """inventory, verify, stage, commit, verify: of three nodes each."""
    there = machines(3)
    assert there.run(new_state(3), stop_after=calls) is None
    seen = there.run(revive(there.kept[-1], Intent.LOOK))
    is_changed = [state == "committed" for state in real(there, seen)]
    assert [ending == "changed" for ending in endings(seen)] == is_changed
    assert conclude(seen).status == (1 if 6 < calls < 12 else 0)
    asked = [verb for _, verb in there.calls[calls:]]
    assert set(asked) <= {"status"}
    finished = there.run(revive(there.kept[-1], Intent.UNDO))
    assert set(real(there, finished)) <= {"none", "undone", "abandoned"}
    assert conclude(finished).status == 0


@pytest.mark.parametrize(
    ("tolerated", "script", "status"),
    [
        (1, {("n1", "inventory"): ["dead"]}, 0),
        (None, {("n1", "stage"): ["refused"], ("n2", "commit"): ["broken"]}, 0),
        (0, {("n1", "verify"): ["ok", "broken"], ("n1", "undo"): ["dead"] * 9}, 1),
    ],
)
def test_a_look_at_what_was_tolerated_says_that_it_is_over(tolerated, script, status):
    there, state, end = finish(script, tolerated=tolerated)
    assert end.status in (1, 13)
    there.behaviour = lambda node, verb: "ok"
    seen = conclude(there.run(revive(state, Intent.LOOK)))
    assert seen.status == status
    assert ("did not come to its end" in seen.sentence) == bool(status)
    # once a part of it was to be taken back, the rest is no end any more
    undoing = revive(state, Intent.UNDO)
    first = there.run(undoing, stopped_after=Kind.ASK)
    assert revive(first, Intent.LOOK).was_kept is False


def test_every_verb_is_tried_with_every_deed():
    """Two things that go wrong, each at each verb."""
    for verb, other in itertools.product(VERBS, VERBS):
        for deed, second in itertools.product(DEEDS[3:], ("dead", "refused", "broken")):
            script = {("n0", verb): [deed], ("n1", other): ["ok", second]}
            there, state, end = finish(script, count=2)
            check(there, state, end)


def test_the_same_words_of_another_run_are_another_change():
    """What one run takes back is then not what the other has put in place."""
    words = set()
    for run in ("20261130T010203Z-111111", "20261130T010203Z-222222"):
        node = NodeState("a", "/env/bin/python", Standing.READY, bundle="/b.zip")
        state = replace(new_state(0), run=run, nodes=(node,))
        (ask,) = next_phase(state).asks
        words.add(ask.words)
    assert len(words) == 2

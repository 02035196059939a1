"""What is said of nodes, in the JSON document and in the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safe_install.fleet.answers import Answer, NodeTorch, StepFacts
from safe_install.fleet.comparison import Deviation, IdenticalNodes
from safe_install.fleet.report import (
    describe_comparison,
    describe_nodes,
    describe_runs,
    describe_verified,
)
from safe_install.fleet.state import NodeState, Standing
from tests.unit.fleet.simulated import facts_of, new_state

STEPS = (StepFacts("six", "1.16", "1.17"), StepFacts("new", "", "2"), StepFacts("old", "3", ""))
CHANGED = NodeState(
    "a",
    "/env/bin/python",
    standing=Standing.VERIFIED,
    transaction="20261130T010203Z-abcdef",
    steps=STEPS,
    facts=facts_of((1, 2), torch=NodeTorch("2.13.0+cpu", "cpu", True)),
)
EMPTY = {"before": {}, "after": {}, "transaction": None, "shares": None, "reason": ""}


def describe(*nodes):
    return describe_nodes(replace(new_state(0), nodes=nodes))


def test_a_node_that_was_changed():
    (row,) = describe(CHANGED)
    assert row == {
        "name": "a",
        "host": "host",
        "torch": "2.13.0+cpu",
        "outcome": "changed",
        "standing": "verified",
        "before": {"six": "1.16", "new": None, "old": "3"},
        "after": {"six": "1.17", "new": "2", "old": None},
        "transaction": "20261130T010203Z-abcdef",
        "shares": None,
        "reason": "",
    }


def test_a_node_that_follows_has_the_change_of_its_leader():
    follows = NodeState("b", "/env/bin/python", standing=Standing.FOLLOWING, leader="a")
    row = describe(CHANGED, follows)[1]
    assert (row["outcome"], row["shares"], row["transaction"]) == (
        "changed",
        "a",
        CHANGED.transaction,
    )
    assert row["after"] == {"six": "1.17", "new": "2", "old": None}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (
            NodeState("a\nb", "python", standing=Standing.SILENT, failure="no answer"),
            {"name": "a b", "host": None, "outcome": "unknown", "reason": "no answer"},
        ),
        (
            NodeState("a", "python", facts=facts_of((1, 2))),
            {"name": "a", "host": "host", "outcome": "unchanged"},
        ),
    ],
)
def test_a_node_of_which_little_is_known(node, expected):
    (row,) = describe(node)
    assert row == {**EMPTY, "torch": None, "standing": node.standing.value, **expected}


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (Answer("a", message="of no importance"), "healthy", ""),
        (Answer("a", status=1, outcome="unhealthy", message="no CUDA"), "unhealthy", "no CUDA"),
        (Answer("a", problem="no answer"), "unknown", "no answer"),
        (Answer("a", status=14, outcome="failed", message="is locked"), "unknown", "is locked"),
    ],
)
def test_a_node_that_was_verified(answer, outcome, reason):
    rows = describe_verified({"a": answer})
    assert rows == [{"name": "a", "outcome": outcome, "reason": reason}]


def test_nodes_that_are_the_same_stand_behind_those_that_said_nothing():
    deviation = Deviation("torch", "2.12.0", "2.13.0")
    groups = [IdenticalNodes(("c",), (deviation,)), IdenticalNodes(("d", "e"), ())]
    silent = [Answer("a", problem="no answer"), Answer("b", status=15, message="no Python")]
    assert describe_comparison(groups, silent) == [
        {"nodes": ["a"], "differs": [], "reason": "no answer"},
        {"nodes": ["b"], "differs": [], "reason": "no Python"},
        {
            "nodes": ["c"],
            "differs": [{"subject": "torch", "here": "2.12.0", "most": "2.13.0"}],
            "reason": "",
        },
        {"nodes": ["d", "e"], "differs": [], "reason": ""},
    ]


def test_ten_runs_are_named():
    identifiers = [str(number) for number in range(12)]
    assert describe_runs(identifiers) == identifiers[:10]


def test_a_state_knows_its_nodes():
    lost = NodeState("b", "/env/bin/python", standing=Standing.LOST)
    state = replace(new_state(0), nodes=(CHANGED, lost))
    assert state.find("b") is lost
    assert state.has_open_nodes
    with pytest.raises(KeyError, match="c"):
        state.find("c")
    settled = state.with_nodes([replace(lost, standing=Standing.SILENT)])
    assert settled.nodes[0] is CHANGED
    assert not settled.has_open_nodes


@pytest.mark.parametrize("standing", [Standing.NEW, Standing.UNCHANGED, Standing.SILENT])
def test_a_node_beside_a_change_may_have_its_environment(standing):
    beside = NodeState("b", "/env/bin/python", standing=standing, leader="a")
    assert describe(CHANGED, beside)[1]["outcome"] == "unknown"
    leader = replace(CHANGED, standing=Standing.UNCHANGED)
    outcome = "unknown" if standing is Standing.SILENT else "unchanged"
    assert describe(leader, beside)[1]["outcome"] == outcome

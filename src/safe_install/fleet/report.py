"""Describes nodes as JSON values, from which the document, the table and the page are made."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, TypedDict

from safe_install.fleet.answers import Answer, clean
from safe_install.fleet.comparison import IdenticalNodes
from safe_install.fleet.state import FleetState, NodeState


class _OutcomeRow(TypedDict):
    name: str
    outcome: str
    reason: str


class NodeRow(_OutcomeRow, total=False):
    """A node. One that was asked whether it is healthy has the first three fields only."""

    host: Optional[str]
    torch: Optional[str]
    standing: str
    before: Dict[str, Optional[str]]  # distribution -> version
    after: Dict[str, Optional[str]]
    transaction: Optional[str]
    shares: Optional[str]  # the node that has the same environment


class DifferenceRow(TypedDict):
    """A difference from most nodes."""

    subject: str
    here: str
    most: str


class AlikeRow(TypedDict):
    """Identical nodes, or one without facts."""

    nodes: List[str]
    differs: List[DifferenceRow]
    reason: str  # why there are no facts


class _NodesOfKind(TypedDict):
    nodes: List[str]
    kind: str


class KindRow(_NodesOfKind, total=False):
    """Nodes that get the same bundle: the wheels in it, or why there is none."""

    wheels: List[str]
    sha256: Optional[str]
    problem: str


def describe_nodes(state: FleetState) -> List[NodeRow]:
    """One row for each node of a run."""
    return [_describe_node(state, node) for node in state.nodes]


def _describe_node(state: FleetState, node: NodeState) -> NodeRow:
    leader = state.leader_of(node)
    facts = node.facts
    torch = facts.torch.version if facts is not None and facts.torch is not None else None
    return {
        "name": clean(node.name),
        "host": facts.host if facts is not None else None,
        "torch": torch,
        "outcome": state.ending_of(node).value,
        "standing": node.standing.value,
        "before": {step.name: step.old or None for step in leader.steps},
        "after": {step.name: step.new or None for step in leader.steps},
        "transaction": leader.transaction or None,
        "shares": clean(node.leader) or None,
        "reason": node.failure,
    }


def describe_verified(answers: Mapping[str, Answer]) -> List[NodeRow]:
    """One row for each node that was asked whether it is healthy."""
    rows: List[NodeRow] = []
    for name, answer in answers.items():
        outcome, reason = answer.outcome, answer.message
        if answer.problem or answer.status not in (0, 1):
            outcome, reason = "unknown", answer.problem or answer.message
        elif answer.status == 0:
            outcome, reason = "healthy", ""
        rows.append({"name": clean(name), "outcome": outcome, "reason": reason})
    return rows


def describe_comparison(
    groups: Sequence[IdenticalNodes], silent: Sequence[Answer]
) -> List[AlikeRow]:
    """One row for each node without facts, then one for each group of identical nodes."""
    rows: List[AlikeRow] = []
    for answer in silent:
        reason = answer.problem or answer.message
        rows.append({"nodes": [clean(answer.node)], "differs": [], "reason": reason})
    for group in groups:
        differs: List[DifferenceRow] = [
            {"subject": one.subject, "here": one.here, "most": one.most} for one in group.deviations
        ]
        nodes = [clean(name) for name in group.nodes]
        rows.append({"nodes": nodes, "differs": differs, "reason": ""})
    return rows


def describe_runs(identifiers: Sequence[str]) -> List[str]:
    """The ten newest runs."""
    return list(identifiers[:10])

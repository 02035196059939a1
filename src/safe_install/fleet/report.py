"""Describes nodes as JSON values, from which the document, the table and the page are made."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from safe_install.fleet.answers import Answer, clean
from safe_install.fleet.comparison import IdenticalNodes
from safe_install.fleet.state import FleetState, NodeState


def describe_nodes(state: FleetState) -> List[Dict[str, Any]]:
    """One row for each node of a run."""
    return [_describe_node(state, node) for node in state.nodes]


def _describe_node(state: FleetState, node: NodeState) -> Dict[str, Any]:
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


def describe_verified(answers: Mapping[str, Answer]) -> List[Dict[str, Any]]:
    """One row for each node that was asked whether it is healthy."""
    rows = []
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
) -> List[Dict[str, Any]]:
    """One row for each node without facts, then one for each group of identical nodes."""
    rows: List[Dict[str, Any]] = []
    for answer in silent:
        reason = answer.problem or answer.message
        rows.append({"nodes": [clean(answer.node)], "differs": [], "reason": reason})
    for group in groups:
        differs = [
            {"subject": one.subject, "here": one.here, "most": one.most} for one in group.deviations
        ]
        nodes = [clean(name) for name in group.nodes]
        rows.append({"nodes": nodes, "differs": differs, "reason": ""})
    return rows


def describe_runs(identifiers: Sequence[str]) -> List[str]:
    """The ten newest runs."""
    return list(identifiers[:10])

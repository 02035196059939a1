"""Nodes of one kind get the same bundle; nodes that share an environment are one. Pure.

The kind is what the choice of wheels depends on. What a wheel only has to be old enough for (libc,
the driver) is taken from the oldest node of the kind, so that all get the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from packaging.version import InvalidVersion, Version

from safe_install.fleet.answers import NodeFacts
from safe_install.fleet.state import FleetState, NodeState


@dataclass(frozen=True)
class Group:
    """Nodes that get the same bundle."""

    nodes: Tuple[str, ...]
    words: Tuple[str, ...]  # of `bundle`: for which machine
    description: str  # "Python 3.11, linux_x86_64, torch 2.8.0+cu126"
    # what all of them have, in the same files: name -> version, the hash of its files
    installed: Mapping[str, Tuple[str, str]] = field(default_factory=dict)
    wheels: FrozenSet[str] = frozenset()  # that lie in the caches of all of them, by sha256


@dataclass(frozen=True)
class _Kind:
    """What the choice of wheels depends on."""

    python: str  # "3.11"
    platform: str
    libc: str  # its family
    torch: str
    cxx11_abi: Optional[bool]
    has_driver: bool  # it decides where no torch is there yet


def make_groups(nodes: Sequence[NodeState]) -> Tuple[Group, ...]:
    """The nodes by their kinds, in a stable order. Each has its facts."""
    found: Dict[_Kind, List[NodeState]] = {}
    for node in nodes:
        if node.facts is not None:
            found.setdefault(_kind_of(node.facts), []).append(node)
    return tuple(_make_group(kind, members) for kind, members in found.items())


def _kind_of(facts: NodeFacts) -> _Kind:
    torch = facts.torch
    return _Kind(
        ".".join(facts.python.split(".")[:2]),
        facts.platform,
        facts.libc[0],
        torch.version if torch is not None else "",
        torch.cxx11_abi if torch is not None else None,
        torch is None and facts.driver is not None,
    )


def _make_group(kind: _Kind, members: Sequence[NodeState]) -> Group:
    facts = [node.facts for node in members if node.facts is not None]
    words = ["--python-version", kind.python, "--platform", _platform(kind, facts)]
    if kind.torch:
        words += ["--torch", kind.torch]
        if kind.cxx11_abi is not None:
            words += ["--cxx11-abi", "true" if kind.cxx11_abi else "false"]
    words += _driver_words(facts)
    torch = f", torch {kind.torch}" if kind.torch else ""
    description = f"Python {kind.python}, {kind.platform}{torch}"
    names = tuple(node.name for node in members)
    return Group(names, tuple(words), description, _installed_on_all(facts), _kept_by_all(facts))


def _installed_on_all(facts: Sequence[NodeFacts]) -> Mapping[str, Tuple[str, str]]:
    common = dict(facts[0].distributions)
    for one in facts[1:]:
        for name in list(common):
            if one.distributions.get(name) != common[name]:
                del common[name]
    return common


def _kept_by_all(facts: Sequence[NodeFacts]) -> FrozenSet[str]:
    common = frozenset(facts[0].wheels)
    for one in facts[1:]:
        common &= frozenset(one.wheels)
    return common


def _platform(kind: _Kind, facts: Sequence[NodeFacts]) -> str:
    """`manylinux_2_28_x86_64`, of the oldest libc."""
    families = {"glibc": "manylinux", "musl": "musllinux"}
    family = families.get(kind.libc)
    if family is None or not kind.platform.startswith("linux_"):
        return kind.platform
    oldest = min((one.libc[1] for one in facts), key=_order)
    major_and_minor = "_".join(oldest.split(".")[:2])
    return f"{family}_{major_and_minor}_{kind.platform[len('linux_') :]}"


def _driver_words(facts: Sequence[NodeFacts]) -> List[str]:
    """The oldest driver, and every GPU: a wheel serves all of them."""
    drivers = [one.driver for one in facts if one.driver is not None]
    versions = [driver.version for driver in drivers if driver.version]
    capabilities = sorted({one for driver in drivers for one in driver.capabilities}, key=_order)
    words: List[str] = []
    if versions:
        words += ["--target-driver", min(versions, key=_order)]
    if versions and capabilities:
        words += ["--target-gpu", ",".join(capabilities)]
    return words


def _order(version: str) -> Tuple[int, ...]:
    """What a node says is a version may be none: then it is the oldest."""
    try:
        return Version(version).release
    except InvalidVersion:
        return ()


# --- shared environments --------------------------------------------------------------------------


def share_environments(state: FleetState) -> FleetState:
    """The first of the nodes that seem to have the same environment leads: it alone is staged and
    committed."""
    leaders: Dict[object, str] = {}
    nodes: List[NodeState] = []
    for node in state.nodes:
        leader = ""
        for key in _keys(node):
            leader = leader or leaders.get(key, "")
        for key in _keys(node):
            leaders.setdefault(key, leader or node.name)
        nodes.append(replace(node, leader=leader))
    return replace(state, nodes=tuple(nodes))


def _keys(node: NodeState) -> List[object]:
    """What may tell which environment it has. Copies of one disk have the same numbers: what is
    staged tells whether it is the same (`Kind.CONFIRM`)."""
    facts = node.facts
    if facts is None:
        return []
    return [facts.place, facts.marker] if facts.marker else [facts.place]

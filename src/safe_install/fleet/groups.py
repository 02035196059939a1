"""Groups nodes that get the same bundle, and nodes that share one environment. Pure.

Nodes of one kind get the same bundle; the kind has what the choice of wheels depends on. For libc
and the driver the oldest version in a group counts, so that one bundle serves all its nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.version import InvalidVersion, Version

from safe_install.fleet.answers import NodeFacts
from safe_install.fleet.state import FleetState, NodeState


@dataclass(frozen=True)
class Group:
    """Nodes that get the same bundle."""

    nodes: Tuple[str, ...]  # names
    words: Tuple[str, ...]  # the options of `bundle` that name the target machine
    description: str  # "Python 3.11, linux_x86_64, torch 2.8.0+cu126"
    # distributions with the same files on all nodes: name -> version, the hash of the files
    installed: Mapping[str, Tuple[str, str]] = field(default_factory=dict)
    wheels: FrozenSet[str] = frozenset()  # the SHA-256 of wheels in the caches of all nodes


@dataclass(frozen=True)
class _Kind:
    """What the choice of wheels depends on."""

    python: str  # "3.11"
    platform: str
    libc: str  # "glibc" or "musl"
    torch: str  # version; "" if torch is not installed
    cxx11_abi: Optional[bool]
    has_driver: bool  # False if torch is installed: torch decides then


def make_groups(nodes: Sequence[NodeState]) -> Tuple[Group, ...]:
    """One group for each kind of nodes, in the order of the nodes. Nodes without facts are left
    out."""
    found: Dict[_Kind, List[NodeState]] = {}
    for node in nodes:
        if node.facts is not None:
            found.setdefault(_kind_of(node.facts), []).append(node)
    return tuple(_make_group(kind, members) for kind, members in found.items())


def _kind_of(facts: NodeFacts) -> _Kind:
    python = ".".join(facts.python.split(".")[:2])
    libc, torch = facts.libc[0], facts.torch
    if torch is None:
        return _Kind(python, facts.platform, libc, "", None, facts.driver is not None)
    return _Kind(python, facts.platform, libc, torch.version, torch.cxx11_abi, False)


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
    """The platform tag with the oldest libc of these nodes: `manylinux_2_28_x86_64`."""
    families = {"glibc": "manylinux", "musl": "musllinux"}
    family = families.get(kind.libc)
    if family is None or not kind.platform.startswith("linux_"):
        return kind.platform
    oldest = min((one.libc[1] for one in facts), key=_version_key)
    major_and_minor = "_".join(oldest.split(".")[:2])
    return f"{family}_{major_and_minor}_{kind.platform[len('linux_') :]}"


def _driver_words(facts: Sequence[NodeFacts]) -> List[str]:
    """The options with the oldest driver and all GPUs of these nodes."""
    drivers = [one.driver for one in facts if one.driver is not None]
    versions = [driver.version for driver in drivers if driver.version]
    if not versions:
        return []
    words = ["--target-driver", min(versions, key=_version_key)]
    capabilities: Set[str] = set()
    for driver in drivers:
        capabilities.update(driver.capabilities)
    if capabilities:
        words += ["--target-gpu", ",".join(sorted(capabilities, key=_version_key))]
    return words


def _version_key(version: str) -> Tuple[int, ...]:
    """A key to sort versions. A node's text that is no version counts as the oldest."""
    try:
        return Version(version).release
    except InvalidVersion:
        return ()


# --- shared environments --------------------------------------------------------------------------


def share_environments(state: FleetState) -> FleetState:
    """Of the nodes that seem to have the same environment, the first one becomes the leader: only
    that node stages and commits."""
    leaders: Dict[object, str] = {}
    nodes: List[NodeState] = []
    for node in state.nodes:
        leader = ""
        for key in _shared_places(node):
            leader = leader or leaders.get(key, "")
        for key in _shared_places(node):
            leaders.setdefault(key, leader or node.name)
        nodes.append(replace(node, leader=leader))
    return replace(state, nodes=tuple(nodes))


def _shared_places(node: NodeState) -> List[object]:
    """What identifies the node's environment. Copies of a disk have the same values, so
    `Kind.CONFIRM` checks later whether the environment is the same."""
    facts = node.facts
    if facts is None:
        return []
    return [facts.place, facts.marker] if facts.marker else [facts.place]

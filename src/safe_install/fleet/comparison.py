"""Compares nodes: identical nodes form a group, and the smallest group comes first. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from safe_install.fleet.answers import NodeFacts

NONE = "none"
UNKNOWN = "of an unknown version"  # a driver about which NVML says nothing but an error
# The first subjects of a comparison, in this order; distributions follow.
FIRST_SUBJECTS = ("Python", "platform", "libc", "driver", "GPUs", "torch")


@dataclass(frozen=True)
class Deviation:
    """One difference from the largest group."""

    subject: str  # "torch", "numpy"
    here: str  # the value in this group
    most: str  # the value in the largest group


@dataclass(frozen=True)
class IdenticalNodes:
    """A group of identical nodes."""

    nodes: Tuple[str, ...]  # names
    deviations: Tuple[Deviation, ...]  # from the largest group; empty for the largest group


def compare_nodes(facts: Mapping[str, NodeFacts]) -> Tuple[IdenticalNodes, ...]:
    """The groups of identical nodes, from the smallest to the largest. Of equally large groups, the
    one with the first node comes last."""
    profiles = {name: _profile(one) for name, one in facts.items()}
    groups: Dict[Tuple[Tuple[str, str], ...], List[str]] = {}
    for name, profile in profiles.items():
        groups.setdefault(tuple(sorted(profile.items())), []).append(name)
    ordered = list(groups.values())
    ordered.reverse()  # the sort is stable: of equally large groups the first one comes last
    ordered.sort(key=len)
    if not ordered:
        return ()
    most = profiles[ordered[-1][0]]
    found = []
    for names in ordered:
        deviations = _deviations(profiles[names[0]], most)
        found.append(IdenticalNodes(tuple(names), deviations))
    return tuple(found)


def _deviations(profile: Mapping[str, str], most: Mapping[str, str]) -> Tuple[Deviation, ...]:
    found = []
    for subject in _in_order({**profile, **most}):
        here, there = profile.get(subject, NONE), most.get(subject, NONE)
        if here != there:
            found.append(_make_deviation(subject, here, there))
    return tuple(found)


def _make_deviation(subject: str, here: str, there: str) -> Deviation:
    """The two values without their hashes. Where only the files differ, the first value says so."""
    here_version, here_mark, _ = here.partition(" sha256:")
    there_version, there_mark, _ = there.partition(" sha256:")
    if here_mark and there_mark and here_version == there_version:
        return Deviation(subject, f"{here_version}, with other files", there_version)
    return Deviation(subject, here_version, there_version)


def _in_order(subjects: Mapping[str, str]) -> List[str]:
    first = [subject for subject in FIRST_SUBJECTS if subject in subjects]
    return [*first, *sorted(set(subjects) - set(first))]


def _profile(facts: NodeFacts) -> Dict[str, str]:
    """Subject -> the value that is compared."""
    found = {}
    for name, (version, sha256) in facts.distributions.items():
        found[name] = f"{version} sha256:{sha256}"
    found["Python"] = facts.python
    found["platform"] = facts.platform
    found["libc"] = " ".join(facts.libc).strip() or NONE
    found["driver"], found["GPUs"] = NONE, NONE
    if facts.driver is not None:
        found["driver"] = facts.driver.version or facts.driver.cuda or UNKNOWN
        found["GPUs"] = _count_gpus(facts.driver.gpus)
    if facts.torch is not None:
        files = facts.distributions.get("torch", ("", ""))[1]
        found["torch"] = f"{facts.torch.version} sha256:{files}"
    return found


def _count_gpus(names: Tuple[str, ...]) -> str:
    """`2 x NVIDIA A100`, for each name."""
    counts = [f"{count} x {name}" for name, count in sorted(Counter(names).items())]
    return ", ".join(counts) or NONE

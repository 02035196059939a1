"""What differs between nodes: those that are the same stand together, the odd ones out first. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from safe_install.fleet.answers import NodeFacts

NONE = "none"
# What matters first.
SUBJECTS = ("Python", "platform", "libc", "driver", "GPUs", "torch")


@dataclass(frozen=True)
class Deviation:
    """One thing that is not as on most nodes."""

    subject: str  # "torch", "numpy"
    here: str
    most: str


@dataclass(frozen=True)
class Alike:
    """Nodes that are the same."""

    nodes: Tuple[str, ...]
    deviations: Tuple[Deviation, ...]  # from the largest group; none for that one itself


def compare_nodes(facts: Mapping[str, NodeFacts]) -> Tuple[Alike, ...]:
    """The nodes in groups, the smallest first, the largest last; of two as large the one with the
    first node."""
    profiles = {name: _profile(one) for name, one in facts.items()}
    groups: Dict[Tuple[Tuple[str, str], ...], List[str]] = {}
    for name, profile in profiles.items():
        groups.setdefault(tuple(sorted(profile.items())), []).append(name)
    ordered = list(groups.values())
    ordered.reverse()  # of two as long the first one comes last
    ordered.sort(key=len)
    if not ordered:
        return ()
    most = profiles[ordered[-1][0]]
    return tuple(Alike(tuple(names), _deviations(profiles[names[0]], most)) for names in ordered)


def _deviations(profile: Mapping[str, str], most: Mapping[str, str]) -> Tuple[Deviation, ...]:
    found = []
    for subject in _in_order({**profile, **most}):
        here, there = profile.get(subject, NONE), most.get(subject, NONE)
        if here != there:
            found.append(Deviation(subject, *_shown(here, there)))
    return tuple(found)


def _shown(here: str, there: str) -> Tuple[str, str]:
    """A version, and a word where two of the same version have other files."""
    here_version, there_version = here.partition(" ")[0], there.partition(" ")[0]
    has_hashes = " sha256:" in here and " sha256:" in there
    if has_hashes and here_version == there_version:
        return f"{here_version}, with other files", there_version
    return here.partition(" sha256:")[0], there.partition(" sha256:")[0]


def _in_order(subjects: Mapping[str, str]) -> List[str]:
    first = [subject for subject in SUBJECTS if subject in subjects]
    return [*first, *sorted(set(subjects) - set(first))]


def _profile(facts: NodeFacts) -> Dict[str, str]:
    """All that is compared, as texts."""
    driver = facts.driver
    gpus = Counter(driver.gpus) if driver is not None else Counter()
    names = [f"{count} x {name}" for name, count in sorted(gpus.items())]
    found = {
        name: f"{version} sha256:{sha256}"
        for name, (version, sha256) in facts.distributions.items()
    }
    found.update(
        {
            "Python": facts.python,
            "platform": facts.platform,
            "libc": " ".join(facts.libc).strip() or NONE,
            "driver": (driver.version or driver.cuda) if driver is not None else NONE,
            "GPUs": ", ".join(names) or NONE,
        }
    )
    if facts.torch is not None:
        files = facts.distributions.get("torch", ("", ""))[1]
        found["torch"] = f"{facts.torch.version} sha256:{files}"
    return found

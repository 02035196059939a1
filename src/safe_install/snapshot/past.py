"""The versions after a past change, from the present ones by undoing the later changes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

Versions = Mapping[NormalizedName, str]


@dataclass(frozen=True)
class Change:
    """One past change: its steps, as the history keeps them."""

    id: str
    steps: Tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class PastVersions:
    """The versions after a past change."""

    versions: Versions
    # distributions that another program has changed since; their past versions are unknown
    foreign: Tuple[NormalizedName, ...] = ()


def versions_after(today: Versions, later: Sequence[Change]) -> PastVersions:
    """The versions before the `later` changes, which are in the order newest first."""
    versions: Dict[NormalizedName, str] = dict(today)
    foreign: List[NormalizedName] = []
    for change in later:
        for step in reversed(change.steps):
            name = canonicalize_name(str(step["name"]))
            if versions.get(name) != _text(step.get("version")):
                foreign.append(name)
            before = _text(step.get("from_version"))
            if before is None:
                versions.pop(name, None)
            else:
                versions[name] = before
    return PastVersions(versions, tuple(dict.fromkeys(foreign)))


def _text(value: object) -> Optional[str]:
    return value if isinstance(value, str) else None

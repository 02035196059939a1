"""Decides what to do with the folders `~orch` and `~orch-2.1.0.dist-info` that an interrupted pip
left. Pure.

Before pip removes a folder, it renames it in this way; single files are moved to its temporary
folder; both are deleted at the end. Nothing is guessed: a distribution is restored where its RECORD
lists every file; renamed folders are moved away where the distribution is in place; everything else
is only reported.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import AbstractSet, Dict, List, Mapping, Sequence, Set, Tuple

# pip's AdjacentTempDirectory makes a name of "~", some of these characters, and the end of the
# original name.
_LEADING = "-~.=%0123456789"


@dataclass(frozen=True)
class SetAsideFolder:
    """A folder with a name that pip gives while it removes something."""

    path: str
    homes: Tuple[str, ...] = ()  # existing folders that may have been renamed to it
    # the distributions of `homes`; empty unless each has one, and all are complete
    owners: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Recorded:
    """A distribution with a RECORD, whose dist-info is in place or was renamed."""

    name: str  # normalized
    version: str
    folder: str  # the present path of its dist-info
    home: str  # the original path of its dist-info
    # renamed folder -> its original path; all its files are rows of the RECORD
    claimed: Mapping[str, str] = field(default_factory=dict)
    needed: AbstractSet[str] = frozenset()  # renamed folders with files that are not in place
    # path -> the file with its content in pip's temporary folder
    kept_elsewhere: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = False  # every row is in place
    lost: Tuple[str, ...] = ()  # rows whose content was not found

    @property
    def is_aside(self) -> bool:
        """Was its dist-info renamed?"""
        return self.folder != self.home


class LeftoverAction(enum.Enum):
    """What to do with the leftovers of a distribution."""

    PUT_BACK = "put-back"
    MOVE_AWAY = "moved-away"
    REPORT = "told"


@dataclass(frozen=True)
class LeftoverDecision:
    """A decision and its reason."""

    action: LeftoverAction
    paths: Tuple[str, ...]  # the renamed folders
    reason: str
    distribution: str = ""  # "torch 2.1.0"; "" if it is not known
    recorded: Tuple[Recorded, ...] = ()  # the distribution that is put back
    hint: str = ""


def is_name_aside(aside: str, name: str) -> bool:
    """Can pip have renamed `name` to `aside`?"""
    if not aside.startswith("~") or aside == name or len(aside) < len(name):
        return False
    if len(aside) > len(name):
        return aside.endswith(name) and set(aside[1 : -len(name)]) <= set(_LEADING)
    ends = range(1, len(name))
    return any(aside[end:] == name[end:] and set(aside[1:end]) <= set(_LEADING) for end in ends)


def decide(
    asides: Sequence[SetAsideFolder], recorded: Sequence[Recorded]
) -> Tuple[LeftoverDecision, ...]:
    """One decision for each distribution with leftovers, and one for each renamed folder that
    belongs to no distribution, or to one of several."""
    claims = _names_by_folder(recorded)
    decisions: List[LeftoverDecision] = []
    groups: Dict[str, List[str]] = {}  # distribution -> its renamed folders
    for aside in asides:
        names = sorted(claims.get(aside.path, ()))
        if len(names) == 1:
            groups.setdefault(names[0], []).append(aside.path)
        elif names:
            decisions.append(_report((aside.path,), f"may belong to {' or '.join(names)}"))
        else:
            decisions.append(_decide_unclaimed(aside))
    # A distribution may be half removed without a renamed folder: pip moves single files elsewhere.
    for distribution in recorded:
        if not distribution.is_whole and distribution.kept_elsewhere:
            groups.setdefault(distribution.name, [])
    for name, paths in sorted(groups.items()):
        same_name = [one for one in recorded if one.name == name]
        decisions.append(_decide_group(tuple(sorted(paths)), same_name))
    return tuple(decisions)


def _names_by_folder(recorded: Sequence[Recorded]) -> Dict[str, Set[str]]:
    """Renamed folder -> the distributions that claim it."""
    names: Dict[str, Set[str]] = {}
    for distribution in recorded:
        for path in distribution.claimed:
            names.setdefault(path, set()).add(distribution.name)
    return names


def _decide_unclaimed(aside: SetAsideFolder) -> LeftoverDecision:
    if aside.owners:
        owners = ", ".join(sorted(aside.owners))
        return LeftoverDecision(
            LeftoverAction.MOVE_AWAY,
            (aside.path,),
            f"what it was made of is there and complete: {owners}",
            owners,
        )
    return _report((aside.path,), "no RECORD says what it belongs to")


def _decide_group(paths: Tuple[str, ...], distributions: Sequence[Recorded]) -> LeftoverDecision:
    in_place = [one for one in distributions if not one.is_aside]
    whole = [one for one in in_place if one.is_whole]
    if whole:
        title = f"{whole[0].name} {whole[0].version}"
        return LeftoverDecision(
            LeftoverAction.MOVE_AWAY, paths, f"{title} is in place and complete", title
        )
    candidates = [
        one for one in distributions if not one.lost and (one.needed or one.kept_elsewhere)
    ]
    titles = " and ".join(f"{one.name} {one.version}" for one in distributions)
    first = distributions[0]
    again = f"safe-install install --force-reinstall {first.name}=={first.version}"
    if len(candidates) == 1 and all(one in candidates for one in in_place):
        one = candidates[0]
        title = f"{one.name} {one.version}"
        return LeftoverDecision(
            LeftoverAction.PUT_BACK,
            paths,
            f"{title} was half removed, and every file of it is here",
            title,
            (one,),
        )
    if len(candidates) > 1:
        return _report(
            paths, f"{titles} were each half removed: which one should be there is not known", again
        )
    lost = next((one.lost for one in distributions if one.lost), ())
    what = (
        f"{len(lost)} of its files are nowhere ({lost[0]})"
        if lost
        else "its parts do not fit together"
    )
    return _report(paths, f"{titles} was half removed, and {what}", again)


def _report(paths: Tuple[str, ...], reason: str, command: str = "") -> LeftoverDecision:
    remove = f"rm -r {' '.join(paths)}"
    first = f"{command}; then, when" if command else "When"
    return LeftoverDecision(
        LeftoverAction.REPORT,
        paths,
        reason,
        hint=f"{first} they are not needed: {remove}" if paths else command,
    )

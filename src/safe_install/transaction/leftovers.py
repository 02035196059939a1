"""What to do with the folders `~orch` and `~orch-2.1.0.dist-info` that an interrupted pip left.
Pure.

pip renames what it is about to remove in this way, moves single files to its temporary folder, and
deletes both at the very end. Nothing is guessed: a distribution is restored when its RECORD lists
every file; the folders are removed when the distribution itself is in place; everything else is
only reported.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import AbstractSet, Dict, List, Mapping, Sequence, Tuple

# pip's AdjacentTempDirectory: "~", then some of these, then the end of the name.
_LEADING = "-~.=%0123456789"


@dataclass(frozen=True)
class SetAsideFolder:
    """A folder with a name that pip gives while it removes."""

    path: str
    # directories that are there now, and from whose name this one can have been made
    homes: Tuple[str, ...] = ()
    # of all `homes`; empty unless each has one, and all of them are complete
    owners: AbstractSet[str] = frozenset()


@dataclass(frozen=True)
class Recorded:
    """A distribution by its RECORD, whose dist-info is in place or was renamed."""

    name: str  # normalized
    version: str
    folder: str  # its dist-info, where it lies now
    home: str  # where that belongs
    # folder aside -> where it belongs; all its files are rows
    claimed: Mapping[str, str] = field(default_factory=dict)
    needed: AbstractSet[str] = frozenset()  # those of `claimed` that hold what is not in place
    # path -> its content in pip's temporary folder
    kept_elsewhere: Mapping[str, str] = field(default_factory=dict)
    is_whole: bool = False  # every row is in place
    lost: Tuple[str, ...] = ()  # rows whose content is nowhere

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
    paths: Tuple[str, ...]  # the folders that it is about
    reason: str
    distribution: str = ""  # "torch 2.1.0" where that is known
    recorded: Tuple[Recorded, ...] = ()  # the one that is put back
    hint: str = ""


def is_name_aside(aside: str, name: str) -> bool:
    """Can pip have made the name `aside` from the name `name`?"""
    if not aside.startswith("~") or aside == name:
        return False
    if len(aside) == len(name):
        ends = range(1, len(name))
        return any(aside[end:] == name[end:] and set(aside[1:end]) <= set(_LEADING) for end in ends)
    return (
        len(aside) > len(name)
        and aside.endswith(name)
        and set(aside[1 : -len(name)]) <= set(_LEADING)
    )


def decide(
    asides: Sequence[SetAsideFolder], recorded: Sequence[Recorded]
) -> Tuple[LeftoverDecision, ...]:
    """One decision for each distribution with leftovers, and one for each folder that belongs to
    none."""
    claims: Dict[str, List[str]] = {}
    for distribution in recorded:
        for path in distribution.claimed:
            claims.setdefault(path, []).append(distribution.name)
    decisions: List[LeftoverDecision] = []
    groups: Dict[str, List[str]] = {}
    for aside in asides:
        names = sorted(set(claims.get(aside.path, ())))
        if len(names) == 1:
            groups.setdefault(names[0], []).append(aside.path)
        elif names:
            decisions.append(_report((aside.path,), f"may belong to {' or '.join(names)}"))
        else:
            decisions.append(_decide_unclaimed(aside))
    # half removed, without any folder aside: pip keeps single files elsewhere
    for distribution in recorded:
        if not distribution.is_whole and distribution.kept_elsewhere:
            groups.setdefault(distribution.name, [])
    for name, paths in sorted(groups.items()):
        decisions.append(
            _decide_group(tuple(sorted(paths)), [one for one in recorded if one.name == name])
        )
    return tuple(decisions)


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

"""Why does no torch have everything that was requested? The wishes that exclude each other, and
which to drop. Pure.

A wish is something that the user could drop: an extension, a requirement or constraint on torch, an
accelerator; or the rule that an installed torch is not replaced by an older one or by one for
another accelerator. The machine, its Python and its driver are fixed.
"""

from __future__ import annotations

import enum
from dataclasses import replace
from itertools import combinations
from typing import FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Tuple, TypedDict

from packaging.requirements import Requirement

from safe_install.models import Severity, TorchBuild
from safe_install.resolve.torch_change import AskedOfTorch, check_torch_change
from safe_install.resolve.torch_choice import join_all
from safe_install.resolve.torch_ranking import TorchTerms

MAX_WAYS = 3  # that are shown


class WishKind(enum.Enum):
    """What a wish is about."""

    TORCH = "torch"  # a requirement or constraint on it
    ACCELERATOR = "accelerator"
    EXTENSION = "extension"
    INSTALLED = "installed"  # the torch that is there


class TorchWish(NamedTuple):
    """Something that the user could drop."""

    kind: WishKind
    value: str  # "torch>=2.9", "cu126", "torch-scatter>=2", "2.13.0+cu130"

    def __str__(self) -> str:
        """As the user wrote it."""
        if self.kind is WishKind.ACCELERATOR:
            return f"--accelerator {self.value}"
        if self.kind is WishKind.INSTALLED:
            return f"the installed torch {self.value}"
        return self.value


def wish_for(extension: Requirement) -> TorchWish:
    """The wish for an extension."""
    return TorchWish(WishKind.EXTENSION, str(extension))


class TorchRow(NamedTuple):
    """A torch that is possible on this machine, and the wishes that it meets."""

    version: str  # "2.13.0+cu130"
    met: FrozenSet[TorchWish]
    unknown: FrozenSet[TorchWish] = frozenset()  # wishes that may be met; only a host can tell


class WayOut(NamedTuple):
    """The wishes to drop, and the torch that then meets all others."""

    without: Tuple[TorchWish, ...]
    torch: str


class Conflict(NamedTuple):
    """The smallest set of wishes that no torch meets together, and the ways out, best torch first.

    No wishes: no torch is built for this machine.
    """

    wishes: Tuple[TorchWish, ...]
    ways: Tuple[WayOut, ...] = ()
    is_open: bool = False  # a host that was not asked may have a missing wheel


def find_conflict(wishes: Sequence[TorchWish], rows: Sequence[TorchRow]) -> Optional[Conflict]:
    """The conflict between the wishes; None where a torch meets them all. `rows`: in order of
    preference."""
    if any(row.met.issuperset(wishes) for row in rows):
        return None
    if not rows:
        return Conflict(())
    smallest = _smallest_excluded(wishes, rows)
    is_open = any((row.met | row.unknown).issuperset(smallest) for row in rows)
    return Conflict(smallest, _ways_out(wishes, rows), is_open)


def _smallest_excluded(
    wishes: Sequence[TorchWish], rows: Sequence[TorchRow]
) -> Tuple[TorchWish, ...]:
    kinds = {row.met for row in rows}
    for size in range(1, len(wishes)):
        for some in combinations(wishes, size):
            if not any(met.issuperset(some) for met in kinds):
                return some
    return tuple(wishes)


def _ways_out(wishes: Sequence[TorchWish], rows: Sequence[TorchRow]) -> Tuple[WayOut, ...]:
    """The smallest sets of wishes to drop so that a torch meets the rest."""
    fewest = min(len(set(wishes) - row.met) for row in rows)
    found: List[WayOut] = []
    for row in rows:
        without = tuple(wish for wish in wishes if wish not in row.met)
        if len(without) == fewest and without not in [way.without for way in found]:
            found.append(WayOut(without, row.version))
    return tuple(found)


# --- the wishes -----------------------------------------------------------------------------------


def wishes_of(
    terms: TorchTerms, extensions: Iterable[Requirement], installed: Optional[TorchBuild] = None
) -> Tuple[TorchWish, ...]:
    """The wishes, each once; the installed torch comes last."""
    about_torch = [_wish_about_torch(one) for one in (*terms.requirements, *terms.constraints)]
    found = [wish for wish in about_torch if wish.value != "torch"]
    if terms.accelerator:
        found.append(TorchWish(WishKind.ACCELERATOR, terms.accelerator))
    found += [wish_for(requirement) for requirement in extensions]
    if installed is not None:
        found.append(_wish_to_keep(installed))
    return tuple(dict.fromkeys(found))


def _wish_about_torch(requirement: Requirement) -> TorchWish:
    return TorchWish(WishKind.TORCH, str(requirement))


def _wish_to_keep(torch: TorchBuild) -> TorchWish:
    return TorchWish(WishKind.INSTALLED, torch.runtime_version)


def met_by_torch(
    build: TorchBuild, terms: TorchTerms, installed: Optional[TorchBuild] = None
) -> FrozenSet[TorchWish]:
    """The wishes about torch itself that a build meets."""
    met = set()
    for requirement in (*terms.requirements, *terms.constraints):
        if not requirement.url and requirement.specifier.contains(build.version, prereleases=True):
            met.add(_wish_about_torch(requirement))
    if terms.accelerator and build.accelerator == terms.accelerator:
        met.add(TorchWish(WishKind.ACCELERATOR, terms.accelerator))
    findings = check_torch_change(installed, build, terms.asked)
    if installed is not None and all(
        finding.severity is not Severity.ERROR for finding in findings
    ):
        met.add(_wish_to_keep(installed))
    return frozenset(met)


def without_wishes(terms: TorchTerms, *, accelerator: str = "") -> TorchTerms:
    """The terms without any wish about torch, except perhaps one for an accelerator."""
    asked = AskedOfTorch(allow_change=True)
    return replace(terms, requirements=(), constraints=(), accelerator=accelerator, asked=asked)


# --- what is said of it ---------------------------------------------------------------------------


def describe_conflict(conflict: Conflict, machine: str) -> str:
    """One sentence. `machine`: "Python 3.11, linux_x86_64"."""
    if not conflict.wishes:
        return f"there is no torch for {machine}"
    if len(conflict.wishes) == 1:
        return _describe_one(conflict.wishes[0], machine, is_open=conflict.is_open)
    limit = ", as far as is known here" if conflict.is_open else ""
    names = _listed(conflict.wishes)
    both = "both" if len(conflict.wishes) == 2 else "all of them"
    return f"{names} exclude each other: no torch for {machine} meets {both}{limit}"


def _describe_one(wish: TorchWish, machine: str, *, is_open: bool) -> str:
    if wish.kind is WishKind.ACCELERATOR:
        return f"there is no torch for {wish.value}, {machine}"
    if wish.kind is WishKind.TORCH:
        return f"there is no {wish} for {machine}"
    if is_open:
        return f"whether a torch for {machine} has a wheel of {wish} is not known here"
    return f"no torch for {machine} has a wheel of {wish}"


def describe_ways(conflict: Conflict, extensions: Sequence[Requirement]) -> str:
    """`Without flash-attn: torch 2.13.0+cu130 has torch-scatter.`; "" where there is none."""
    sentences = []
    for way in conflict.ways[:MAX_WAYS]:
        left = [one for one in extensions if wish_for(one) not in way.without]
        narrowed = {one.name for one in left if one.specifier}
        # of `torchvision` and `torchvision>=0.28` the second says both
        texts = [str(one) for one in left if one.specifier or one.name not in narrowed]
        has = f"has {join_all(texts)}" if texts else "may come"
        sentences.append(f"Without {_listed(way.without)}: torch {way.torch} {has}.")
    return " ".join(sentences)


def _listed(wishes: Sequence[TorchWish]) -> str:
    """`a, b and c`."""
    names = [str(wish) for wish in wishes]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


class WayRow(TypedDict):
    """A way out, as JSON values."""

    without: List[str]
    torch: str


class ConflictRow(TypedDict):
    """A conflict, as JSON values."""

    wishes: List[str]
    ways: List[WayRow]
    is_open: bool


def make_record(conflict: Conflict) -> ConflictRow:
    """The conflict as JSON values."""
    ways: List[WayRow] = []
    for way in conflict.ways:
        ways.append({"without": [str(wish) for wish in way.without], "torch": way.torch})
    wishes = [str(wish) for wish in conflict.wishes]
    return {"wishes": wishes, "ways": ways, "is_open": conflict.is_open}

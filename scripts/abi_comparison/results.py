"""What was seen, as values and as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

from packaging.utils import canonicalize_name

from safe_install.index.catalog import known_projects, load_project
from safe_install.index.native import needed_files
from safe_install.wheels.abi import LoadOutcome, ObjectVerdict


@dataclass
class Object:
    """One shared object beside one torch."""

    member: str
    uses_torch: bool
    verdict: str
    reason: str
    expected: str  # kind of problem that the model sees: see kind_of
    real: str  # "loads", "fails", "crashes", "needs the driver", "hangs"
    words: str  # the loader's
    is_named: bool  # what the loader names is among the problems that the model sees
    with_siblings: bool  # it loads, or fails otherwise, after other files of its wheel


@dataclass
class Pair:
    """One wheel beside one torch."""

    wheel: str
    pins: str  # the torch that its metadata wants
    verdict: str
    reasons: List[str]
    real: str
    # "imports", "works" (and does its operation), "import fails", "operation fails", "not tried",
    # ...
    imports: str
    words: str
    scope_ms: float  # what torch brings
    first_ms: float  # all its objects
    warm_ms: float
    objects: List[Object] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        return self.verdict in (LoadOutcome.DOES_NOT_LOAD.value, LoadOutcome.ANOTHER_TORCH.value)


@dataclass
class Build:
    """One torch."""

    torch: str
    python: str
    libc: str
    own: str  # verdict on its own libraries
    pairs: List[Pair] = field(default_factory=list)


def kind_of(words: str) -> str:
    """Of the loader's words: what was wrong."""
    if "cannot open shared object file" in words:
        return "missing library"
    if "undefined symbol" in words:
        return "undefined symbol"
    if re.search(r"version `?[\w.]+'? not (found|defined)", words):
        return "version"
    return "other"


def expected_kind(verdict: ObjectVerdict) -> str:
    problems = verdict.facts.problems
    if verdict.facts.module_for and "is a module for" in verdict.reason:
        return "another Python"
    if problems.missing:
        return "missing library"
    if problems.versions:
        return "version"
    if problems.undefined:
        return "undefined symbol"
    return "driver" if problems.driver else ""


def names_the_same(verdict: ObjectVerdict, words: str) -> bool:
    """Is what the loader complains of first among the problems of the model?"""
    problems = verdict.facts.problems
    named = [one.library for one in problems.missing] + list(problems.driver)
    named += [one.symbol.name for one in problems.undefined] + [
        one.need.version for one in problems.versions
    ]
    return any(re.search(rf"(^|[\s'`/]){re.escape(name)}($|[\s:,'])", words) for name in named)


def patterns_of(project: str) -> Sequence[str]:
    return load_project(project).native if project in known_projects() else ()


def real_of_wheel(objects: Sequence[Object], patterns: Sequence[str]) -> str:
    """Does its native code load? One file for each pattern that the wheel index names; where it
    names none, any that uses torch."""
    members = [one.member for one in objects]
    needed = [needed_files([pattern], members) for pattern in patterns]
    groups = [[one for one in objects if one.member in names] for names in needed]
    groups = [group for group in groups if group] or [
        [one for one in objects if one.uses_torch] or list(objects)
    ]
    order = ("loads", "needs the driver", "crashes", "hangs", "fails")
    best = [min((one.real for one in group), key=order.index) for group in groups if group]
    return max(best, key=order.index) if best else "loads"


def is_disagreement(one: Object) -> bool:
    """`another-torch` says that it would load and may crash; `unknown` says nothing."""
    if one.verdict == LoadOutcome.FITS.value:
        return one.real in ("fails", "crashes", "hangs") or (
            one.real == "needs the driver" and one.expected != "driver"
        )
    if one.verdict == LoadOutcome.DOES_NOT_LOAD.value:
        return one.real != "fails" and not (
            one.real == "needs the driver" and one.expected != "driver"
        )
    return one.verdict == LoadOutcome.ANOTHER_TORCH.value and one.real == "fails"


def results_of(cache: Path, versions: Iterable[str]) -> List[Build]:
    builds = []
    for version in versions:
        path = cache / "results" / f"{version}.json"
        if path.is_file():
            builds.append(read_build(json.loads(path.read_text("utf-8"))))
    return builds


def read_build(value: Dict[str, Any]) -> Build:
    pairs = []
    for raw in value.pop("pairs"):
        objects = [Object(**one) for one in raw["objects"]]
        real = real_of_wheel(objects, patterns_of(canonicalize_name(raw["wheel"].split("-")[0])))
        pairs.append(Pair(**{**raw, "objects": objects, "real": real}))
    return Build(**value, pairs=pairs)

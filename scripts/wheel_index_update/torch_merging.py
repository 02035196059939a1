"""The releases of torch.json, merged with what was read. Pure.

The rules:

- The page of an accelerator says which releases have a build for it. Where it was read, a release
  has the accelerator when the page lists a wheel for Linux on x86_64, and has it no more when the
  page lists none. Where it was not read (down, missing, empty), nothing is taken away.
- Where such a page was not read, what the build matrix says of the current release is added.
- Of aarch64 the build matrix says first which builds a release has; its pages then add and take
  away.
- The package index says which releases it has, and their metadata or files what they were built
  for. What was known of a release stays; another answer is news that a person must hear. A release
  that the page of the index does not list any more is on it no more.
- Pythons are added, and never taken away. A release never goes: rows of extensions name it.
- A new release gets a row when its accelerator on the package index was read, or when a page of an
  accelerator lists it. Its companions are the versions whose metadata names exactly this release.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.facts import Project
from wheel_index_update.torch_facts import (
    BuildMatrix,
    Builds,
    IndexRelease,
    python_order,
    sort_accelerators,
)

Json = Dict[str, Any]
# The key of a row for the build on the package index, by machine.
UNTAGGED = {"x86_64": "untagged", "aarch64": "untagged_aarch64"}
_ORDER = (
    "torch",
    "accelerators",
    "accelerators_aarch64",
    "untagged",
    "untagged_aarch64",
    "companions",
    "python",
    "note",
)


@dataclass(frozen=True)
class PageFacts:
    """What the page of one accelerator says."""

    accelerator: str
    builds: Builds
    releases: Tuple[str, ...] = ()  # it is about these alone; empty: all but those of other hosts
    builds_aarch64: Builds = field(default_factory=dict)


@dataclass(frozen=True)
class TorchFacts:
    """What was read in one run; what was not read is not in it."""

    pages: Sequence[PageFacts] = ()
    elsewhere: Tuple[str, ...] = ()  # releases that have a host of their own
    index: Optional[Mapping[str, IndexRelease]] = None  # None: its page was not read
    # (release, machine) -> what the build on the package index was built for
    measured: Mapping[Tuple[str, str], str] = field(default_factory=dict)
    matrix: Optional[BuildMatrix] = None
    companions: Sequence[Project] = ()


@dataclass
class MergedReleases:
    """The rows, and what a person should know."""

    rows: List[Json]
    changed: List[str] = field(default_factory=list)  # releases
    with_other_builds: List[str] = field(default_factory=list)  # those whose accelerators changed
    notes: List[str] = field(default_factory=list)


def merge_releases(rows: Sequence[Json], facts: TorchFacts) -> MergedReleases:
    """The releases after what was read, oldest first; a row that stays is the same object."""
    merged = MergedReleases([])
    oldest = min((Version(row["torch"]) for row in rows), default=Version("0"))
    known = {row["torch"]: row for row in rows}
    for release in sorted({*known, *_releases_of(facts)}, key=Version):
        row = known.get(release)
        if row is None and (Version(release) < oldest or not _is_told(release, facts)):
            if Version(release) > oldest:
                merged.notes.append(
                    f"{release} has no row: what its build on the package index is for was not read"
                )
            continue
        new = _merge(release, row, facts, merged.notes)
        if row is not None and new == row:
            new = row
        else:
            merged.changed.append(release)
            if row is None or new["accelerators"] != row["accelerators"]:
                merged.with_other_builds.append(release)
        merged.rows.append(new)
    return merged


def _releases_of(facts: TorchFacts) -> Iterable[str]:
    yield from facts.index or ()
    for page in facts.pages:
        yield from page.builds


def _is_told(release: str, facts: TorchFacts) -> bool:
    if (release, "x86_64") in facts.measured:
        return True
    return any(release in page.builds for page in facts.pages)


def _merge(release: str, row: Optional[Json], facts: TorchFacts, notes: List[str]) -> Json:
    old: Json = row or {"torch": release, "accelerators": []}
    new = dict(old)
    pages = [page for page in facts.pages if _is_about(page, release, facts)]
    new["accelerators"] = _accelerators(release, old, pages, facts.matrix)
    on_aarch64 = _accelerators_aarch64(release, old, pages, facts.matrix)
    if on_aarch64 is not None:
        new["accelerators_aarch64"] = on_aarch64
    if facts.index is not None:
        for machine, key in UNTAGGED.items():
            value = _untagged(release, machine, old.get(key), facts, notes)
            new.pop(key, None)
            if value:
                new[key] = value
    if row is None:
        new["companions"] = _companions(release, facts.companions)
        if not new["companions"]:
            notes.append(f"{release}: no companion is known that names this release alone")
    new["python"] = _pythons(release, old, pages, facts)
    return {key: new[key] for key in (*_ORDER, *new) if key in new}


def _is_about(page: PageFacts, release: str, facts: TorchFacts) -> bool:
    if page.releases:
        return release in page.releases
    return release not in facts.elsewhere


def _accelerators(
    release: str, old: Json, pages: Sequence[PageFacts], matrix: Optional[BuildMatrix]
) -> List[str]:
    found = list(old["accelerators"])
    for page in pages:
        is_listed = release in page.builds
        if is_listed and page.accelerator not in found:
            found = sort_accelerators([*found, page.accelerator])
        elif not is_listed and page.accelerator in found:
            found.remove(page.accelerator)
    if matrix is not None and matrix.release == release:
        read = {page.accelerator for page in pages}
        more = [name for name in matrix.accelerators if name not in {*read, *found}]
        found = sort_accelerators([*found, *more]) if more else found
    return found


def _accelerators_aarch64(
    release: str, old: Json, pages: Sequence[PageFacts], matrix: Optional[BuildMatrix]
) -> Optional[List[str]]:
    """Those for aarch64; None where no source says them all, as one page names one of them."""
    found = old.get("accelerators_aarch64")
    if found is None and matrix is not None and matrix.release == release:
        found = list(matrix.accelerators_aarch64) or None
    if found is None:
        return None
    for page in pages:
        is_listed = release in page.builds_aarch64
        if is_listed and page.accelerator not in found:
            found = sort_accelerators([*found, page.accelerator])
        elif not is_listed and page.accelerator in found:
            found = [name for name in found if name != page.accelerator]
    return list(found)


def _untagged(
    release: str, machine: str, known: Optional[str], facts: TorchFacts, notes: List[str]
) -> Optional[str]:
    listed = (facts.index or {}).get(release)
    found = facts.measured.get((release, machine))
    where = f"the build of {release} for {machine} on the package index"
    if listed is None or machine not in listed.wheels:
        if known:
            notes.append(f"{where} is not listed any more")
        return None
    if known and found and known != found:
        notes.append(f"{where} is known to be for {known}, it says {found}: not changed")
    if not known and not found:
        notes.append(f"{where}: what it is for is not known")
    return known or found


def _companions(release: str, projects: Sequence[Project]) -> Dict[str, str]:
    """The newest version of each whose metadata names exactly this release."""
    found = {}
    for project in projects:
        exact = SpecifierSet(f"=={release}")
        own = [version for version, pin in project.pins.items() if SpecifierSet(pin) == exact]
        if own:
            found[str(project.name)] = max(own, key=Version)
    return found


def _pythons(release: str, old: Json, pages: Sequence[PageFacts], facts: TorchFacts) -> List[str]:
    known = list(old.get("python", []))
    listed = (facts.index or {}).get(release)
    more = list(listed.python) if listed is not None else []
    for page in pages:
        more += page.builds.get(release, ())
    if set(more) <= set(known):
        return known
    return sorted({*known, *more}, key=python_order)

"""Requirements among the installed distributions: which are not met, and by whom."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Collection, Container, Iterable, List, Mapping, Optional, Set, Tuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.models import Finding, InstalledDistribution, Severity, UnmetRequirement
from safe_install.requirements import applies


def unmet_requirements(
    installed: Mapping[NormalizedName, InstalledDistribution],
    markers: Mapping[str, str],
    *,
    of: Optional[Container[NormalizedName]] = None,
) -> Tuple[UnmetRequirement, ...]:
    """Of the distributions `of` (all, when None), in order: what pip says of them after an install.

    Extras are not looked at: nobody knows which were asked for.
    """
    found: List[UnmetRequirement] = []
    for name in sorted(installed):
        if of is not None and name not in of:
            continue
        distribution = installed[name]
        for text in distribution.requires:
            unmet = _find_unmet(text, distribution, installed, markers)
            if unmet is not None:
                found.append(unmet)
    return tuple(found)


def _find_unmet(
    text: str,
    distribution: InstalledDistribution,
    installed: Mapping[NormalizedName, InstalledDistribution],
    markers: Mapping[str, str],
) -> Optional[UnmetRequirement]:
    # Most requirements are met and most texts are plain; markers are the slow part of packaging.
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
        if not applies(requirement, markers):
            return None
    except (InvalidRequirement, InvalidVersion, KeyError):
        return None  # an old distribution's metadata is not ours to judge
    wanted = f"{requirement.name}{requirement.specifier}"
    found = installed.get(canonicalize_name(requirement.name))
    if found is None:
        return UnmetRequirement(distribution.name, distribution.version, wanted)
    try:
        # Some releases of packaging raise for a text that is no version, others compare it.
        version = Version(found.version)
    except InvalidVersion:
        return None
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return UnmetRequirement(
        distribution.name, distribution.version, wanted, f"{found.name} {found.version}"
    )


def new_unmet(
    before: Iterable[UnmetRequirement], after: Iterable[UnmetRequirement]
) -> Tuple[UnmetRequirement, ...]:
    """Those of `after` that `before` does not have. One that was not met before, and is not met by
    another version
    now, is not new."""
    known = {replace(one, present="") for one in before}
    return tuple(one for one in after if replace(one, present="") not in known)


def make_finding(unmet: UnmetRequirement, severity: Severity, *, hint: str = "") -> Finding:
    """`requirement-unmet`, in pip's words."""
    return Finding("requirement-unmet", severity, unmet.name, str(unmet), hint)


def dependents_of(
    names: Collection[NormalizedName], installed: Mapping[NormalizedName, InstalledDistribution]
) -> Set[NormalizedName]:
    """The distributions that require one of `names`."""
    found: Set[NormalizedName] = set()
    for name, distribution in installed.items():
        for text in distribution.requires:
            match = re.match(r"[A-Za-z0-9._-]+", text)
            if match is not None and canonicalize_name(match.group()) in names:
                found.add(name)
    return found

"""Finds the requirements of installed distributions that are not met."""

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
    """The requirements that are not met, in the order of the names, as pip reports them after an
    install.

    `of`: only those of these distributions; None: of all. Requirements of extras are left out,
    since it is not recorded which extras were asked for.
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
    # To evaluate a marker is slow, so the requirements of extras are recognized by their text.
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
        if not applies(requirement, markers):
            return None
    except (InvalidRequirement, InvalidVersion, KeyError):
        return None  # old distributions have metadata that cannot be read
    wanted = f"{requirement.name}{requirement.specifier}"
    found = installed.get(canonicalize_name(requirement.name))
    if found is None:
        return UnmetRequirement(distribution.name, distribution.version, wanted)
    try:
        # Parsed here, since some releases of packaging compare a text that is not a version.
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
    """The requirements of `after` that are not in `before`. One that was unmet before is not new,
    even if another version is installed now."""
    known = {replace(one, present="") for one in before}
    return tuple(one for one in after if replace(one, present="") not in known)


def make_finding(unmet: UnmetRequirement, severity: Severity, *, hint: str = "") -> Finding:
    """The finding `requirement-unmet`, in pip's words."""
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

"""Requirements among the installed distributions: which are not met, and by whom."""

from __future__ import annotations

import re
from typing import Collection, Container, Iterable, List, Mapping, Optional, Set, Tuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.models import InstalledDistribution
from safe_install.requirements import applies


def unmet_requirements(
    installed: Mapping[NormalizedName, InstalledDistribution],
    markers: Mapping[str, str],
    *,
    of: Optional[Container[NormalizedName]] = None,
) -> Tuple[str, ...]:
    """What pip says after an install of the distributions `of` (all, when None), as sentences, in order.

    Extras are not looked at: nobody knows which were asked for.
    """
    found: List[str] = []
    for name in sorted(installed):
        if of is not None and name not in of:
            continue
        distribution = installed[name]
        for text in distribution.requires:
            problem = _unmet(text, installed, markers)
            if problem:
                found.append(f"{name} {distribution.version} requires {problem}")
    return tuple(found)


def _unmet(
    text: str, installed: Mapping[NormalizedName, InstalledDistribution], markers: Mapping[str, str]
) -> Optional[str]:
    # Most requirements are met and most texts are plain; markers are the slow part of packaging.
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
        if not applies(requirement, markers):
            return None
    except (InvalidRequirement, InvalidVersion, KeyError):
        return None  # an old distribution's metadata is not ours to judge
    found = installed.get(canonicalize_name(requirement.name))
    wanted = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return f"{wanted}, which is not installed."
    try:
        # Some releases of packaging raise for a text that is no version, others compare it.
        version = Version(found.version)
    except InvalidVersion:
        return None
    fits = requirement.specifier.contains(version, prereleases=True)
    return None if fits else f"{wanted}, but you have {found.name} {found.version} which is incompatible."


def new_sentences(before: Iterable[str], after: Iterable[str]) -> Tuple[str, ...]:
    """The sentences of `after` about requirements that `before` says nothing of. One that was not met before, and is
    not met by another version now, is not new."""
    known = {text.partition(", ")[0] for text in before}
    return tuple(text for text in after if text.partition(", ")[0] not in known)


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

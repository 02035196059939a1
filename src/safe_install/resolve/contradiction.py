"""Requirements on torch that exclude each other, whatever an index has. Pure."""

from __future__ import annotations

from itertools import combinations
from typing import Iterable, List, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.errors import NoCandidate
from safe_install.index.facts import Catalog, TorchTable
from safe_install.models import Environment
from safe_install.pip_output import parties_in_conflict
from safe_install.requirements import parse_requirement
from safe_install.resolve.plan import applies
from safe_install.resolve.requirements_file import Entry
from safe_install.torch_family import COMPANIONS, TORCH

MAX_REASONS = 3  # that are shown
Wish = Tuple[Requirement, str]  # and where it stands


def refuse_contradiction(
    entries: Sequence[Entry], here: Environment, catalog: Catalog, *, no_deps: bool = False
) -> None:
    """Errors: NoCandidate, with the requirements that no torch can meet together, and where each
    stands. pip would say it after it has read its indexes, and brought what they promise nothing
    of. `no_deps`: what a project requires does not count."""
    wishes = _wishes_about_torch(entries, here)
    if not no_deps:
        wishes += _wishes_of_companions(entries, here, catalog)
    found = find_contradiction(wishes, catalog.torch)
    if found is None:
        return
    told = [f"{requirement} ({origin})" for requirement, origin in found]
    verb = "contradicts itself" if len(told) == 1 else "contradict each other"
    raise NoCandidate(
        f"{' and '.join(told)} {verb}: no torch can meet {_all_of(found)}",
        hint="Leave one of them out, or change it." if len(told) > 1 else "Change it.",
    )


def explain_failure(
    output: str, entries: Sequence[Entry], here: Environment, table: TorchTable
) -> Optional[NoCandidate]:
    """Did pip find no plan because the person's words about torch exclude each torch that a range
    of another project leaves (`torchvision>=0.28`)? None where it failed on something else.

    Which versions that range holds, pip has seen on its index, and said in `output`.
    """
    found_parties = parties_in_conflict(output, TORCH)
    parties = dict(found_parties)
    wishes = _wishes_about_torch(entries, here)
    required = [(parse_requirement(what), who) for who, what in parties.items()]
    asked = _only_project([party.project for party in found_parties], entries, here)
    if asked is None:
        return None
    about_torch: List[Wish] = []
    for requirement, who in required:
        found = None
        if requirement is not None:
            found = find_contradiction([*wishes, (requirement, who)], table)
        if found is None:
            return None
        about_torch += [wish for wish in found if wish in wishes and wish not in about_torch]
    told = [f"{requirement} ({origin})" for requirement, origin in (*about_torch, asked)]
    reasons = [f"{who} requires {what}" for who, what in list(parties.items())[:MAX_REASONS]]
    if len(parties) > MAX_REASONS:
        reasons.append(f"and {len(parties) - MAX_REASONS} more")
    return NoCandidate(
        f"{' and '.join(told)} contradict each other: {'; '.join(reasons)}",
        hint="Leave one of them out, or change it.",
    )


def _only_project(
    names: Sequence[str], entries: Iterable[Entry], here: Environment
) -> Optional[Wish]:
    """The requirement on the one project that these names are of; None where they are of several,
    or nobody named it."""
    if len({canonicalize_name(name) for name in names}) != 1:
        return None
    for entry in entries:
        requirement = parse_requirement(entry.text)
        if requirement is None or entry.constraint or not applies(requirement, here):
            continue
        if canonicalize_name(requirement.name) == canonicalize_name(names[0]):
            return requirement, entry.origin or "on the command line"
    return None


def find_contradiction(wishes: Sequence[Wish], table: TorchTable) -> Optional[Sequence[Wish]]:
    """The fewest wishes that exclude each other: one, two, or all; None where a torch could meet
    them all."""
    versions = _telling_versions(wishes, table)
    is_fine = any(one.is_prerelease for one in versions)  # of these only an index knows
    if is_fine or _can_be_met(wishes, versions):
        return None
    small = [*combinations(wishes, 1), *combinations(wishes, 2)]
    return next((one for one in small if not _can_be_met(one, versions)), wishes)


def _wishes_about_torch(entries: Iterable[Entry], here: Environment) -> List[Wish]:
    """Those that count here, each once. An address names a file, of which pip knows the version."""
    found: List[Wish] = []
    for entry in entries:
        requirement = parse_requirement(entry.text)
        if requirement is None or requirement.url or canonicalize_name(requirement.name) != TORCH:
            continue
        is_known = any(str(requirement) == str(other) for other, _ in found)
        if not is_known and applies(requirement, here):
            found.append((requirement, entry.origin or "on the command line"))
    return found


def _wishes_of_companions(
    entries: Iterable[Entry], here: Environment, catalog: Catalog
) -> List[Wish]:
    """The one torch that a named version of torchvision or torchaudio requires, where it requires
    one and no other."""
    found: List[Wish] = []
    for entry in entries:
        requirement = parse_requirement(entry.text)
        if requirement is None or requirement.url or entry.constraint:
            continue
        name = canonicalize_name(requirement.name)
        if name not in COMPANIONS or not applies(requirement, here):
            continue
        version = _only_version(requirement.specifier)
        if version is None:
            continue
        pin = catalog.project(name).pin_of(version)
        if pin is not None and _only_version(pin) is not None:
            origin = f"required by {name} {version.public}"
            found.append((Requirement(f"{TORCH}{pin}"), origin))
    return found


def _only_version(specifiers: SpecifierSet) -> Optional[Version]:
    """The one version that they name; None where they leave a choice."""
    for one in specifiers:
        if one.operator in ("==", "===") and not one.version.endswith(".*"):
            return _parse(one.version)
    return None


def _telling_versions(wishes: Sequence[Wish], table: TorchTable) -> List[Version]:
    """If any version at all meets the wishes, one of these does: the releases that are known, each
    version that is named, and one right above it."""
    texts = [text for text in table.releases if not Version(text).is_prerelease]
    for requirement, _ in wishes:
        for specifier in requirement.specifier:
            named = specifier.version.replace(".*", "")
            texts += [named, f"{named.partition('+')[0]}.0.0.1"]
    return [version for version in map(_parse, texts) if version is not None]


def _parse(text: str) -> Optional[Version]:
    try:
        return Version(text)
    except InvalidVersion:
        return None  # `===` takes any text, and a version of torch has none of these


def _can_be_met(wishes: Sequence[Wish], versions: Sequence[Version]) -> bool:
    wanted = SpecifierSet()
    for requirement, _ in wishes:
        wanted &= requirement.specifier
    return any(wanted.contains(version, prereleases=True) for version in versions)


def _all_of(wishes: Sequence[Wish]) -> str:
    return {1: "it", 2: "both"}.get(len(wishes), "all of them")

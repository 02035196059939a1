"""Makes the link to a file into a candidate of a project, with what the file was built for."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Optional

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import Version

from safe_install.index.facts import (
    HostEntry,
    Layout,
    Project,
    TorchRelease,
    TorchTable,
    canonical_url,
)
from safe_install.index.filename import WheelName, parse_filename
from safe_install.index.location import read_built_for
from safe_install.models import BuiltFor, Candidate, CandidateKind, Link, TorchBuild
from safe_install.tags import parse_accelerator, parse_release


def make_candidates(
    project: Project, host: HostEntry, links: Iterable[Link], torch_table: TorchTable
) -> Iterator[Candidate]:
    """The wheels and source distributions of the project among the links of a page."""
    for link in links:
        if not is_named_after(project.name, link.filename):
            continue
        if link.filename.endswith(".whl"):
            candidate = wheel_candidate(project, host, link, torch_table)
        else:
            candidate = sdist_candidate(project, link)
        if candidate is not None:
            yield candidate


def is_named_after(project: str, filename: str) -> bool:
    """Can the file belong to the project? A fast check: it may say yes to another project's file,
    and it says no only where that is certain."""
    start = project.replace("-", "_") + "_"
    beginning = filename[: len(start) + 8].lower().replace("-", "_").replace(".", "_")
    return beginning.startswith(start)


def wheel_candidate(
    project: Project, host: HostEntry, link: Link, torch_table: TorchTable
) -> Optional[Candidate]:
    """A wheel of the project. None: the name is not that of a wheel, or it is another project's."""
    name = parse_filename(link.filename)
    if name is None or name.project != project.name:
        return None
    return Candidate(
        name=project.name,
        version=name.parsed_version,
        kind=CandidateKind.WHEEL,
        link=with_known_hash(project, link),
        tags=name.tags,
        built_for=_built_for(project, host, link, name, torch_table),
        requires_python=link.requires_python,
        requires=project.requires,
    )


def with_known_hash(project: Project, link: Link) -> Link:
    """The link with the hash of the wheel index, if it has one. It replaces the hash of the page; a
    different hash of the page is kept as `conflicting_hash`."""
    known = project.known_hashes.get(canonical_url(link.url))
    if known is None:
        return link
    conflicting = link.sha256 if link.sha256 not in (None, known) else None
    return replace(link, sha256=known, hash_from_index=True, conflicting_hash=conflicting)


def _built_for(
    project: Project, host: HostEntry, link: Link, name: WheelName, torch_table: TorchTable
) -> BuiltFor:
    version = name.parsed_version
    page = link.found_in
    if host.layout is Layout.PYPI:
        page = ""
    elif host.layout is Layout.SIMPLE and not _serves_every_accelerator(project, version):
        # The page for one accelerator may list a file for another: only the folder of the file
        # counts.
        page = ""
    own = read_built_for(project, host, name, link.url, found_in=page)
    accelerator = own.accelerator
    if accelerator is None and project.pins_torch and version.local is None:
        accelerator = untagged_accelerator(project, version, name.platform, torch_table)
    return BuiltFor(torch_of(project, version, own.torch), accelerator, own.cxx11_abi)


def _serves_every_accelerator(project: Project, version: Version) -> bool:
    return any(
        build.version == version.public and build.filename == "pytorch-untagged"
        for build in project.builds
    )


def sdist_candidate(project: Project, link: Link) -> Optional[Candidate]:
    """A source distribution of the project. None: the name is not that of a source distribution, or
    it is another project's."""
    try:
        name, version = parse_sdist_filename(link.filename)
    except (InvalidSdistFilename, ValueError):
        return None
    if canonicalize_name(name) != project.name:
        return None
    return Candidate(
        name=project.name,
        version=version,
        kind=CandidateKind.SDIST,
        link=with_known_hash(project, link),
        requires_python=link.requires_python,
        requires=project.requires,
    )


def untagged_accelerator(
    project: Project, version: Version, platform: str, torch_table: TorchTable
) -> Optional[str]:
    """The accelerator of a wheel that has no local version and lies on the package index; None if
    it is not known.

    It is that of the torch on the package index that the wheel belongs to. A wheel for every later
    torch (stable ABI) is bound to the CUDA major version only: `cu12`.
    """
    if platform.startswith(("win", "macosx")):
        return "cpu"
    recorded = project.untagged.get(version.public)
    if platform.endswith("aarch64"):
        recorded = project.untagged_aarch64.get(version.public, recorded)
    if recorded is not None:
        return recorded
    release = torch_table.first_release_with(project.name, version.public)
    if release is None:
        release = _oldest_pinned_release(project, version, torch_table)
    untagged = release.untagged_on(platform) if release is not None else None
    if untagged is None:
        return None
    accelerator = parse_accelerator(untagged)
    pin = project.pins.get(version.public, "")
    if accelerator is not None and accelerator.kind == "cuda" and pin.startswith(">="):
        return f"cu{accelerator.version[0]}"
    return untagged


def _oldest_pinned_release(
    project: Project, version: Version, torch_table: TorchTable
) -> Optional[TorchRelease]:
    """The oldest torch that the pin of a version allows; None without a pin."""
    pin = project.pin_of(version)
    if pin is None:
        return None
    allowed = [one for one in torch_table.releases.values() if pin.contains(one.version)]
    return min(allowed, key=lambda release: Version(release.version), default=None)


def torch_of(project: Project, version: Version, found: Optional[str]) -> Optional[str]:
    """The torch that a wheel belongs to: the pin of its version, else `found`, what its name and
    folder say."""
    pin = project.pins.get(version.public)
    if pin is None:
        return found
    if found is not None and pin[:1] in "<>" and _is_allowed(found, pin):
        return found  # more exact than a range
    return pin[2:] if pin.startswith("==") and "*" not in pin else pin


def _is_allowed(torch: str, pin: str) -> bool:
    release = parse_release(torch)
    return release is not None and SpecifierSet(pin).contains(release, prereleases=True)


def read_torch_pin(metadata: str) -> Optional[str]:
    """The specifier of the torch that a METADATA text requires: "==2.16.0". None: it requires no
    torch, or any version of it."""
    for line in metadata.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        if name.lower() != "requires-dist":
            continue
        try:
            requirement = Requirement(value.strip())
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == "torch" and requirement.specifier:
            return str(requirement.specifier)
    return None


def with_pin(candidate: Candidate, pin: Optional[str], torch: Optional[TorchBuild]) -> Candidate:
    """The candidate with the torch that its own METADATA requires.

    `torch`: the installed one. A candidate without a local version gets its accelerator, if that
    torch has no local version either and the pin allows it.
    """
    built = candidate.built_for
    if pin is None or built.torch is not None:
        return candidate
    accelerator = built.accelerator
    if accelerator is None and torch is not None and _are_of_one_index(candidate, torch, pin):
        accelerator = torch.accelerator
    return replace(candidate, built_for=BuiltFor(pin, accelerator, built.cxx11_abi))


def _are_of_one_index(candidate: Candidate, torch: TorchBuild, pin: str) -> bool:
    """Do both come from the package index, and does the pin allow this torch?"""
    if candidate.version.local is not None or torch.version.local is not None:
        return False
    return _is_allowed(torch.version.public, pin)

"""A link on a host -> a candidate of a project, with what it was built for."""

from __future__ import annotations

from dataclasses import replace
from typing import Iterable, Iterator, Optional, Union

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
    parse_release,
)
from safe_install.index.filename import WheelName, parse_filename
from safe_install.index.location import read_built_for
from safe_install.models import BuiltFor, Candidate, CandidateKind, Link, TorchBuild
from safe_install.tags import parse_accelerator


def make_candidates(
    project: Project, host: HostEntry, links: Iterable[Link], torch_table: TorchTable
) -> Iterator[Candidate]:
    """The wheels and source distributions of the project among the links of a page."""
    for link in links:
        if is_named_after(project.name, link.filename):
            candidate = (
                wheel_candidate(project, host, link, torch_table)
                if link.filename.endswith(".whl")
                else sdist_candidate(project, link)
            )
            if candidate is not None:
                yield candidate


def is_named_after(project: str, filename: str) -> bool:
    """May the file belong to the project? Cheap, and never wrong with a no."""
    start = project.replace("-", "_") + "_"
    return filename[: len(start) + 8].lower().replace("-", "_").replace(".", "_").startswith(start)


def wheel_candidate(
    project: Project, host: HostEntry, link: Link, torch_table: TorchTable
) -> Optional[Candidate]:
    """A wheel of the project; None for a name that is none, or another project's."""
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
    """What the index knows of a file comes before what its page says, and the page's other word is
    kept."""
    known = project.known_hashes.get(canonical_url(link.url))
    if known is None:
        return link
    conflicting = link.sha256 if link.sha256 not in (None, known) else None
    return replace(link, sha256=known, hash_from_index=True, conflicting_hash=conflicting)


def _built_for(
    project: Project, host: HostEntry, link: Link, name: WheelName, torch_table: TorchTable
) -> BuiltFor:
    version = name.parsed_version
    is_index = host.layout is Layout.PYPI
    # What an index lists on a page for one accelerator may still be for another: only the file's
    # own folder says it.
    page = (
        ""
        if host.layout is Layout.SIMPLE and not _serves_every_accelerator(project, version)
        else link.found_in
    )
    own = read_built_for(project, host, name, link.url, found_in="" if is_index else page)
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
    """A source distribution of the project; None for what is none, or another project's."""
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
    """What a wheel on the package index without a local version was built for; None when it is not
    known.

    The accelerator of the torch on the package index that it belongs to; a version that serves
    every later torch (stable ABI) is only bound to the CUDA major.
    """
    measured = project.untagged.get(version.public)
    if platform.startswith(("win", "macosx")):
        return "cpu"
    if platform.endswith("aarch64"):
        measured = project.untagged_aarch64.get(version.public, measured)
    if measured is not None:
        return measured
    release = torch_table.first_release_with(project.name, version.public)
    release = release or _first_release_of(project, version, torch_table)
    untagged = release.untagged_on(platform) if release is not None else None
    if untagged is None:
        return None
    accelerator = parse_accelerator(untagged)
    pin = project.pins.get(version.public, "")
    if accelerator is not None and accelerator.kind == "cuda" and pin.startswith(">="):
        return f"cu{accelerator.version[0]}"
    return untagged


def _first_release_of(
    project: Project, version: Version, torch_table: TorchTable
) -> Optional[TorchRelease]:
    pin = project.pin_of(version)
    fitting = [
        r for r in torch_table.releases.values() if pin is not None and pin.contains(r.version)
    ]
    return min(fitting, key=lambda release: Version(release.version)) if fitting else None


def torch_of(project: Project, version: Version, found: Optional[str]) -> Optional[str]:
    """The torch that a wheel belongs to: its pin where the project pins, else what name and
    directory say."""
    pin = project.pins.get(version.public)
    if pin is None:
        return found
    if found is not None and pin[:1] in "<>" and _is_inside(found, pin):
        return found  # nearer to the bytes than a range
    return pin[2:] if pin.startswith("==") and "*" not in pin else pin


def _is_inside(torch: Union[str, Version], pin: str) -> bool:
    release = parse_release(str(torch))
    return release is not None and SpecifierSet(pin).contains(release, prereleases=True)


def read_torch_pin(metadata: str) -> Optional[str]:
    """The torch that a METADATA text wants: "==2.16.0", None where it wants none or any."""
    for line in metadata.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "requires-dist":
            try:
                requirement = Requirement(value.strip())
            except InvalidRequirement:
                continue
            if canonicalize_name(requirement.name) == "torch" and requirement.specifier:
                return str(requirement.specifier)
    return None


def with_pin(candidate: Candidate, pin: Optional[str], torch: Optional[TorchBuild]) -> Candidate:
    """The candidate with the torch that its own METADATA wants.

    One without a local version belongs to the torch without one: where that very torch is
    installed, its accelerator is the candidate's.
    """
    built = candidate.built_for
    if pin is None or built.torch is not None:
        return candidate
    accelerator = built.accelerator
    if (
        accelerator is None
        and torch is not None
        and candidate.version.local is None
        and torch.version.local is None
    ):
        accelerator = torch.accelerator if _is_inside(torch.version.public, pin) else None
    return replace(candidate, built_for=BuiltFor(pin, accelerator, built.cxx11_abi))

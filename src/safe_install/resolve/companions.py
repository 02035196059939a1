"""Does what pip planned beside a new torch fit that torch?

pip resolves torch together with projects whose metadata pins torch. Its choice is accepted unless
something known about the file excludes it: another release of torch, another accelerator, the other
C++ ABI.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Optional
from urllib.parse import unquote, urlsplit

from packaging.version import InvalidVersion, Version

from safe_install.index.candidates import read_torch_pin, torch_of, wheel_candidate, with_pin
from safe_install.index.facts import (
    Catalog,
    Holds,
    HostEntry,
    Layout,
    Project,
    TorchMatch,
    TorchTable,
)
from safe_install.index.filename import parse_local
from safe_install.index.location import read_location
from safe_install.models import (
    BuiltFor,
    Candidate,
    CandidateKind,
    Environment,
    InstalledDistribution,
    Link,
    Origin,
    Rejection,
    Rule,
    Step,
    TorchBuild,
)
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.tags import split_local


def pip_may_choose(project: Project) -> bool:
    """Are its wheels on the package index, with metadata that names the torch that they need?"""
    return project.pins_torch and project.package_index.holds is Holds.WHEELS


def check_planned(step: Step, environment: Environment, catalog: Catalog) -> Optional[Rejection]:
    """Why the file that pip planned for a project of the wheel index does not fit the new torch of
    `environment`.

    None: nothing that is known excludes it. A source distribution fits no torch before it was built
    for it.
    """
    project, torch = catalog.project(step.name), environment.torch
    candidate = _candidate(project, step, catalog.torch)
    if candidate is None or torch is None:
        return None
    if candidate.kind is CandidateKind.SDIST:
        if project.torch_match is TorchMatch.ANY:
            return None
        return Rejection(
            candidate, Rule.TORCH_VERSION, f"has to be built for torch {torch.runtime_version}"
        )
    rejection = check_candidate(
        _undoubted(candidate, torch), Context(project, environment, catalog, pre=True)
    )
    if rejection is not None and rejection.rule is Rule.ACCELERATOR and not torch.accelerator:
        return None  # what the new torch was built for is not known
    return rejection


def installed_candidate(
    distribution: InstalledDistribution, project: Project, torch: Optional[TorchBuild]
) -> Optional[Candidate]:
    """An installed distribution as a candidate beside `torch`; None where its version is not valid.

    What its version does not say is assumed to be as for `torch`: the health check finds out what
    does not work.
    """
    try:
        version = Version(distribution.version)
    except InvalidVersion:
        return None
    local = parse_local(version.local or "")
    built_for = BuiltFor(torch_of(project, version, local.torch), local.accelerator)
    if torch is not None:
        built_for = BuiltFor(
            built_for.torch or torch.runtime_version,
            built_for.accelerator or torch.accelerator,
            torch.cxx11_abi,
        )
    folder = distribution.metadata_path
    return Candidate(
        name=distribution.name,
        version=version,
        kind=CandidateKind.INSTALLED,
        link=Link(folder.as_uri(), folder.name, found_in="installed"),
        built_for=built_for,
        requires=project.requires,
    )


def says_its_torch(distribution: InstalledDistribution, project: Project) -> bool:
    """Does the version of an installed project of the wheel index say which torch it was built
    for?"""
    if project.torch_match is TorchMatch.ANY:
        return True  # to every torch
    try:
        version = Version(distribution.version)
    except InvalidVersion:
        return False
    return torch_of(project, version, parse_local(version.local or "").torch) is not None


def _candidate(project: Project, step: Step, torch_table: TorchTable) -> Optional[Candidate]:
    """pip's choice as a candidate; None where its file name cannot be parsed."""
    url = step.url or ""
    filename = unquote(urlsplit(url).path.rpartition("/")[2])
    link = Link(url, filename, sha256=step.sha256)
    if step.origin is not Origin.WHEEL:
        return _source(project, step, link)
    host = next((host for host in project.hosts if read_location(host, url) is not None), None)
    host = host or HostEntry("", Layout.PYPI, "plain")
    candidate = wheel_candidate(project, host, link, torch_table)
    if candidate is None:
        return None
    return replace(candidate, requires=step.requires)


def _source(project: Project, step: Step, link: Link) -> Optional[Candidate]:
    try:
        version = Version(step.version or "")
    except InvalidVersion:
        return None
    return Candidate(name=project.name, version=version, kind=CandidateKind.SDIST, link=link)


def _undoubted(candidate: Candidate, torch: TorchBuild) -> Candidate:
    """The candidate with torch's own values where its values are unknown, so that nothing unknown
    excludes it."""
    metadata = "".join(f"Requires-Dist: {text}\n" for text in candidate.requires)
    candidate = with_pin(candidate, read_torch_pin(metadata), torch)
    built = candidate.built_for
    return replace(
        candidate,
        built_for=BuiltFor(
            built.torch or split_local(torch.runtime_version)[0],
            built.accelerator or torch.accelerator or None,
            built.cxx11_abi,
        ),
    )

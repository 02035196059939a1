"""What pip planned beside a torch that comes in the same plan: does it fit that torch?

pip resolves torch and what pins torch in its metadata together, so its own choice is taken unless
something that is known of the file speaks against it: another release of torch, another
accelerator, the other C++ ABI.
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
    """Do its wheels lie on the package index, and does their metadata name the torch that they
    need?"""
    return project.pins_torch and project.package_index.holds is Holds.WHEELS


def check_planned(step: Step, environment: Environment, catalog: Catalog) -> Optional[Rejection]:
    """Why what pip planned for a project of the wheel index does not fit the torch of
    `environment`, which is to come.

    None: nothing that is known speaks against it. A source distribution fits no torch before it was
    built for it.
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
        return None  # what the torch to come was built for is not known
    return rejection


def installed_candidate(
    distribution: InstalledDistribution, project: Project, torch: Optional[TorchBuild]
) -> Optional[Candidate]:
    """What is installed, as a candidate beside `torch`; None where its version is none.

    What its version does not say is taken to be as `torch` has it: the health check finds out what
    does not work.
    """
    try:
        version = Version(distribution.version)
    except InvalidVersion:
        return None
    said = parse_local(version.local or "")
    built_for = BuiltFor(
        torch_of(project, version, said.torch) or (torch.runtime_version if torch else None),
        said.accelerator or (torch.accelerator if torch else None),
        torch.cxx11_abi if torch else None,
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
    """Does an installed version of a project of the wheel index say which torch it belongs to?"""
    if project.torch_match is TorchMatch.ANY:
        return True  # to every torch
    try:
        version = Version(distribution.version)
    except InvalidVersion:
        return False
    return torch_of(project, version, parse_local(version.local or "").torch) is not None


def _candidate(project: Project, step: Step, torch_table: TorchTable) -> Optional[Candidate]:
    """pip's choice as a candidate; None for one whose file name says nothing."""
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
    """The candidate with torch's own values where nothing is known: what is not known speaks
    against nothing."""
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

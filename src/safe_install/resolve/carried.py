"""Which installed extensions go along when torch moves? Those that were built for the torch of
today. Pure.

Nobody asked for a version of them: any one will do that fits the torch that comes, the installed
one first.
"""

from __future__ import annotations

from typing import Container, Mapping, NamedTuple, Tuple

from packaging.utils import NormalizedName

from safe_install.index.facts import AcceleratorMatch, Catalog, Project, TorchMatch
from safe_install.index.location import read_location
from safe_install.models import (
    Environment,
    Finding,
    InstalledDistribution,
    Plan,
    Severity,
    TorchBuild,
)
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve.companions import installed_candidate, says_its_torch
from safe_install.resolve.compatibility import Context, check_candidate, reject_torch_version
from safe_install.torch_family import TORCH, is_library_of_torch


class Tie(NamedTuple):
    """Why an installed extension goes along with torch."""

    torch: str  # "2.12.0+cu130": it was built for this one
    url: str = ""  # where it came from, if that was neither an index nor a wheel host
    is_editable: bool = False  # and was installed from there as it lies

    @property
    def built(self) -> str:
        """Why, without where it came from."""
        return f"built for torch {self.torch}"

    def __str__(self) -> str:
        if self.is_editable and self.url:
            return f"built for torch {self.torch}, editable in {self.url}"
        if self.is_editable:
            return f"built for torch {self.torch}, editable"
        if self.url:
            return f"built for torch {self.torch}, from {self.url}"
        return self.built


Bound = Mapping[NormalizedName, Tie]  # the installed extensions that go along


def may_be_bound(name: NormalizedName, catalog: Catalog) -> bool:
    """Is it a project whose wheels are built for one torch, and not a part of torch itself?"""
    if name not in catalog.projects or is_library_of_torch(name):
        return False
    return catalog.project(name).torch_match is not TorchMatch.ANY


def find_bound(
    here: Environment, catalog: Catalog, *, compiled: Container[NormalizedName]
) -> Bound:
    """The installed extensions that belong to the torch of today.

    `compiled`: the distributions that hold machine code, as far as it can be told. What holds none
    is bound only where its metadata says so: a wheel without machine code compiles when it runs.
    """
    torch = here.torch
    if torch is None:
        return {}
    found = {}
    for name in sorted(here.installed):
        distribution = here.installed[name]
        if not may_be_bound(name, catalog) or not _fits_today(distribution, here, catalog):
            continue
        if name in compiled or _pins_torch(distribution):
            found[name] = _tie(distribution, torch, catalog.project(name))
    return found


def _tie(distribution: InstalledDistribution, torch: TorchBuild, project: Project) -> Tie:
    """With where it came from, unless that was an index or a wheel host: a wheel takes its
    place."""
    if is_of_host(distribution, project):
        return Tie(torch.runtime_version)
    url = str((distribution.direct_url or {}).get("url", ""))
    return Tie(torch.runtime_version, url, distribution.editable)


def is_of_host(distribution: InstalledDistribution, project: Project) -> bool:
    """Is the recorded address one of a wheel host of the project? Then its name and version find it
    again."""
    url = str((distribution.direct_url or {}).get("url", ""))
    return any(read_location(host, url) is not None for host in project.hosts)


def has_own_source(distribution: InstalledDistribution) -> bool:
    """Was it built from something else than what the package index has: a folder, a repository, an
    archive of source?"""
    origin = distribution.direct_url
    if origin is None:
        return distribution.editable
    return "archive_info" not in origin or not str(origin.get("url", "")).endswith(".whl")


def _fits_today(distribution: InstalledDistribution, here: Environment, catalog: Catalog) -> bool:
    """Does nothing that its version says speak against the torch of today? Else it is left as it
    is, broken or not."""
    project = catalog.project(distribution.name)
    candidate = installed_candidate(distribution, project, here.torch)
    return (
        candidate is not None
        and reject_torch_version(candidate, Context(project, here, catalog)) is None
    )


def _pins_torch(distribution: InstalledDistribution) -> bool:
    """Does its metadata name one release of torch?"""
    for text in distribution.requires:
        requirement = parse_requirement(text)
        if requirement is None or requirement_name(text) != TORCH:
            continue
        if any(part.operator in ("==", "===", "~=") for part in requirement.specifier):
            return True
    return False


def check_kept(
    plan: Plan, bound: Bound, here: Environment, planned: Environment, catalog: Catalog
) -> Tuple[Finding, ...]:
    """Warnings on the extensions that stay as they are beside a torch for which they were not
    built. `planned`: the environment with that torch."""
    today, coming = here.torch, planned.torch
    if today is None or coming is None or plan.find(TORCH) is None:
        return ()
    findings = []
    for name in sorted(bound):
        found, project = here.installed[name], catalog.project(name)
        if plan.find(name) is not None or _fits(found, project, today, planned, catalog):
            continue
        built = bound[name].built
        detail = (
            f"{name} {found.version} stays as it is, {built}: torch {coming.runtime_version} may "
            "not load it"
        )
        hint = "Leave --keep-extensions out: then it goes along with torch."
        findings.append(Finding("kept-extension", Severity.WARNING, name, detail, hint))
    return tuple(findings)


def _fits(
    distribution: InstalledDistribution,
    project: Project,
    today: TorchBuild,
    planned: Environment,
    catalog: Catalog,
) -> bool:
    """Does nothing that is known of it speak against the torch that comes?"""
    coming = planned.torch
    candidate = installed_candidate(distribution, project, coming)
    if candidate is None or coming is None:
        return False
    rejection = check_candidate(candidate, Context(project, planned, catalog, pre=True))
    return rejection is None and is_near(distribution, project, today, coming)


def is_near(
    distribution: InstalledDistribution, project: Project, today: TorchBuild, coming: TorchBuild
) -> bool:
    """Does what was built for the torch of today, and does not say so, work beside the one that
    comes?

    It does beside another patch release for the same accelerator, where the project's wheels do.
    What its version says is judged by the rules.
    """
    if says_its_torch(distribution, project):
        return True
    is_same_accelerator = (
        project.accelerator_match is AcceleratorMatch.ANY or today.accelerator == coming.accelerator
    )
    same_minor = today.version.release[:2] == coming.version.release[:2]
    return project.torch_match is TorchMatch.MINOR and same_minor and is_same_accelerator

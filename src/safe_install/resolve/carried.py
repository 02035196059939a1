"""Which installed extensions go along when torch moves? Those that were built for the torch of
today. Pure.

Nobody asked for a version of them: any one will do that fits the torch that comes, the installed
one first.
"""

from __future__ import annotations

from typing import Container, Mapping

from packaging.utils import NormalizedName

from safe_install.index.facts import AcceleratorMatch, Catalog, Project, TorchMatch
from safe_install.models import Environment, InstalledDistribution, TorchBuild
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve.companions import installed_candidate, says_its_torch
from safe_install.resolve.compatibility import Context, reject_torch_version
from safe_install.torch_family import TORCH, is_library_of_torch

# installed extensions, and why they go along: "built for torch 2.12.0+cu130"
Bound = Mapping[NormalizedName, str]


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
            found[name] = f"built for torch {torch.runtime_version}{_origin(distribution)}"
    return found


def _origin(distribution: InstalledDistribution) -> str:
    """Where it came from, where that was no index: a wheel takes its place."""
    url = str((distribution.direct_url or {}).get("url", ""))
    if distribution.editable:
        return f", editable in {url}" if url else ", editable"
    return f", from {url}" if url else ""


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

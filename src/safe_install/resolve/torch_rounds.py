"""Questions about the torch in the installer's answer: is it permitted, is its file known, is it
what was asked for? Pure.

`resolve.rounds` asks them; a `Selection` is what was decided so far.
"""

from __future__ import annotations

import dataclasses
from typing import List, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import PipFailed
from safe_install.index.facts import Catalog, TorchMatch, TorchTable
from safe_install.models import Environment, Step
from safe_install.pip_output import (
    ArchiveInfo,
    InstallationReport,
    ReportEntry,
    find_constraint_conflict,
)
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve.accelerator import is_listed_kind
from safe_install.resolve.decisions import Selection, Wanted, names_asked_for
from safe_install.resolve.plan import applies
from safe_install.resolve.torch_ranking import is_acceptable
from safe_install.torch_family import TORCH, is_library_of_torch


def must_change_torch(wanted: Wanted, here: Environment) -> bool:
    """Does the command line name torch and, by --accelerator, another build than the installed one?

    pip knows no accelerators: to it the installed one satisfies the requirement.
    """
    asked = wanted.torch.asked.accelerator
    if (
        here.torch is None
        or not asked
        or asked != wanted.torch.accelerator
        or TORCH not in wanted.named
    ):
        return False
    return here.torch.accelerator != asked


def is_listed_by_page_alone(wanted: Wanted, here: Environment, table: TorchTable) -> bool:
    """Is a torch asked for whose accelerator the bundled facts do not list (ROCm, XPU)?"""
    accelerator = wanted.torch.accelerator
    if not accelerator or is_listed_kind(accelerator, table):
        return False
    if TORCH not in names_asked_for(wanted, here) or wanted.has_lock:
        return False
    if any(requirement.url for requirement in wanted.torch.requirements):
        return False
    return here.torch is None or must_change_torch(wanted, here)


def same_release_in_own_places(wanted: Wanted, here: Environment) -> str:
    """The requirement on that accelerator's build of the installed release, where the user's own
    index may have it; "" where it cannot, or where another release is wanted."""
    torch = here.torch
    if torch is None or not wanted.has_own_places or wanted.upgrade:
        return ""
    terms = wanted.torch
    specifiers = [one.specifier for one in (*terms.requirements, *terms.constraints)]
    is_wanted = all(one.contains(torch.version.public, prereleases=True) for one in specifiers)
    return f"{TORCH}=={torch.version.public}+{terms.accelerator}" if is_wanted else ""


def chosen_first(
    wanted: Wanted, here: Environment, catalog: Catalog
) -> Optional[Tuple[Requirement, ...]]:
    """The requirements that are chosen, together with torch for the requested accelerator, before
    pip is asked. None where pip has to name the torch first: something else may restrict it, or it
    is on the user's own index."""
    if here.torch is not None or not wanted.torch.accelerator or TORCH not in wanted.named:
        return None
    if wanted.has_other_inputs or wanted.has_lock or wanted.has_own_places:
        return None
    extensions: List[Requirement] = []
    for entry in wanted.entries:
        requirement = parse_requirement(entry.text)
        if requirement is None or requirement.url or entry.hashes or requirement.extras:
            return None
        name = canonicalize_name(requirement.name)
        if name == TORCH or not applies(requirement, here):
            continue
        is_bound = name in catalog.projects and (
            catalog.project(name).torch_match is not TorchMatch.ANY
        )
        if not is_bound:
            return None
        extensions.append(requirement)
    return tuple(extensions)


def needs_another_torch(seen: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Is the torch of the installer's plan excluded, or would it not run? Each is judged once."""
    torch, choice = seen.coming_torch, seen.torch_choice
    if torch is None or torch == choice.taken or choice.is_fixed or wanted.has_lock:
        return False
    if any(entry.hashes for entry in wanted.entries if requirement_name(entry.text) == TORCH):
        return False  # a hash fixes the file
    return not is_acceptable(torch, wanted.torch, seen.here, catalog)


def needs_file_of_torch(selection: Selection, error: PipFailed, wanted: Wanted) -> bool:
    """Did pip fail because none of its indexes has the requested build of torch? The package index
    has no local versions, and so no `torch==2.13.0+cu126`."""
    is_chosen = selection.torch_choice.taken is not None or selection.coming_torch is not None
    may_move = TORCH in wanted.released or selection.here.torch is None
    if is_chosen or not wanted.torch.accelerator or not may_move:
        return False
    return find_constraint_conflict(error.output, [str(TORCH)]) is not None


def reopen(selection: Selection) -> Selection:
    """The selection with torch to be chosen."""
    choice = dataclasses.replace(selection.torch_choice, is_open=True)
    return dataclasses.replace(selection, torch_choice=choice, pins={})


def keeps_plan(chosen: Selection, before: Selection) -> bool:
    """Was the torch of the installer's plan chosen after all? Then it need not be asked again."""
    is_same = chosen.coming_torch is not None and chosen.coming_torch == before.coming_torch
    return is_same and not chosen.files


def planned_extensions(
    steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> List[Requirement]:
    """The extensions in the installer's plan, which fit its torch; another one is to be chosen."""
    found = []
    for step in steps:
        if step.name not in catalog.projects or step.is_direct or is_library_of_torch(step.name):
            continue
        if catalog.project(step.name).torch_match is not TorchMatch.ANY:
            found.append(Requirement(f"{step.name}{specifiers_of(step.name, steps, wanted)}"))
    return found


def with_real_files(report: InstallationReport, selection: Selection) -> InstallationReport:
    """The installer's report, with the URL of each file of torch in place of that of its
    placeholder."""
    entries: List[ReportEntry] = []
    for entry in report.get("install", ()):
        pin = selection.torch_pins.get(canonicalize_name(entry["metadata"]["name"]))
        if pin is not None:
            sha256 = pin.candidate.link.sha256 or pin.sha256
            archive: ArchiveInfo = {}
            if sha256 is not None:
                archive = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
            entry = {
                **entry,
                "download_info": {"url": pin.candidate.link.url, "archive_info": archive},
            }
        entries.append(entry)
    return {**report, "install": entries}


def specifiers_of(name: NormalizedName, steps: Sequence[Step], wanted: Wanted) -> str:
    """All specifiers on `name` in the requirements of the steps and of the user."""
    found = set(filter(None, specifiers_on(name, steps).split(",")))
    for entry in wanted.entries:
        requirement = parse_requirement(entry.text)
        if requirement is not None and canonicalize_name(requirement.name) == name:
            found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))


def specifiers_on(name: NormalizedName, steps: Sequence[Step]) -> str:
    """All specifiers on `name` in the requirements of the steps."""
    found = set()
    for step in steps:
        for text in step.requires:
            requirement = parse_requirement(text)
            if requirement is None or canonicalize_name(requirement.name) != name:
                continue
            if requirement.marker is None or "extra" not in str(requirement.marker):
                found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))

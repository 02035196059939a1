"""What the installer's answer makes of the torch that comes: may it come, has it a file, is it one
that was asked for? Pure.

`resolve.rounds` asks these questions; a `Selection` is what it has decided so far.
"""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import PipFailed
from safe_install.index.facts import Catalog, TorchMatch
from safe_install.models import Environment, Step
from safe_install.pip_output import conflict_reason
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.plan import applies
from safe_install.resolve.torch_ranking import is_acceptable
from safe_install.torch_family import TORCH, is_library_of_torch


def must_change_torch(wanted: Wanted, here: Environment) -> bool:
    """Does the command line name torch, and with --accelerator another build than the installed
    one?

    To pip, which knows no accelerators, the installed one would do.
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


def same_release_in_own_places(wanted: Wanted, here: Environment) -> str:
    """The requirement on the build for that accelerator, where it may lie in a place of the
    person's own; "" where it may not, or where another release is wanted."""
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
    """What is chosen before pip is asked at all: torch for the accelerator that the person named,
    together with these requirements. None where pip has to say first which torch comes: something
    else may have a wish about it, or it lies in a place of the person's own."""
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
    """Is the torch of the installer's plan one that may not come, or would not run? Each is judged
    once."""
    torch, choice = seen.coming_torch, seen.torch_choice
    if torch is None or torch == choice.taken or choice.is_fixed or wanted.has_lock:
        return False
    if any(entry.hashes for entry in wanted.entries if requirement_name(entry.text) == TORCH):
        return False  # a hash names the very file
    return not is_acceptable(torch, wanted.torch, seen.here, catalog)


def needs_file_of_torch(selection: Selection, error: PipFailed, wanted: Wanted) -> bool:
    """Did pip fail because no index of its has the build of torch that was asked for? A package
    index has no local versions, and so no `torch==2.13.0+cu126`."""
    is_chosen = selection.torch_choice.taken is not None or selection.coming_torch is not None
    may_move = TORCH in wanted.released or selection.here.torch is None
    if is_chosen or not wanted.torch.accelerator or not may_move:
        return False
    return conflict_reason(error.output, [str(TORCH)]) is not None


def reopen(selection: Selection) -> Selection:
    """With a torch to choose."""
    choice = dataclasses.replace(selection.torch_choice, is_open=True)
    return dataclasses.replace(selection, torch_choice=choice, pins={})


def keeps_plan(chosen: Selection, before: Selection) -> bool:
    """Is the torch of the installer's plan taken after all? Then it need not be asked again."""
    is_same = chosen.coming_torch is not None and chosen.coming_torch == before.coming_torch
    return is_same and not chosen.files


def planned_extensions(
    steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> List[Requirement]:
    """The extensions of the installer's plan: they belong to its torch, and another one comes."""
    found = []
    for step in steps:
        if step.name not in catalog.projects or step.is_direct or is_library_of_torch(step.name):
            continue
        if catalog.project(step.name).torch_match is not TorchMatch.ANY:
            found.append(Requirement(f"{step.name}{_specifiers_of(step.name, steps, wanted)}"))
    return found


def with_real_files(report: Mapping[str, Any], selection: Selection) -> Mapping[str, Any]:
    """The installer's report, with the address of each file of torch in place of what it was
    shown."""
    entries = []
    for entry in report.get("install", ()):
        pin = selection.torch_pins.get(canonicalize_name(entry["metadata"]["name"]))
        if pin is not None:
            hashes = {"sha256": pin.candidate.link.sha256 or pin.sha256}
            archive = {"hash": f"sha256={hashes['sha256']}", "hashes": hashes}
            entry = {
                **entry,
                "download_info": {"url": pin.candidate.link.url, "archive_info": archive},
            }
        entries.append(entry)
    return {**report, "install": entries}


def _specifiers_of(name: NormalizedName, steps: Sequence[Step], wanted: Wanted) -> str:
    """All specifiers on `name` among the requirements of the steps and of the person."""
    found = set(filter(None, specifiers_on(name, steps).split(",")))
    for entry in wanted.entries:
        requirement = parse_requirement(entry.text)
        if requirement is not None and canonicalize_name(requirement.name) == name:
            found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))


def specifiers_on(name: NormalizedName, steps: Sequence[Step]) -> str:
    """All specifiers on `name` among the requirements of the steps."""
    found = set()
    for step in steps:
        for text in step.requires:
            requirement = parse_requirement(text)
            if requirement is None or canonicalize_name(requirement.name) != name:
                continue
            if requirement.marker is None or "extra" not in str(requirement.marker):
                found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))

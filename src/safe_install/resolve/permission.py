"""What a change is permitted to do: which guarded names may change, and whose requirements may be
broken. Pure.

Only the command line permits. A requirements file or constraint may exclude the installed torch,
but that is a reason for a refusal and no permission.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Collection, FrozenSet, Iterator, Optional, Sequence, Set, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName

from safe_install.health.requirements import dependents_of, make_finding, unmet_requirements
from safe_install.index.facts import TorchTable
from safe_install.models import Environment, Finding, Plan, Severity, TorchBuild
from safe_install.requirements import parse_requirement
from safe_install.resolve import plan as planning
from safe_install.resolve.accelerator import choose_accelerator
from safe_install.resolve.guard import check_plan, names_released_by
from safe_install.resolve.own_options import UV_VARIABLE
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_change import (
    AskedOfTorch,
    check_places,
    check_torch_change,
    who_excludes,
)
from safe_install.resolve.torch_places import Places
from safe_install.resolve.torch_ranking import TorchTerms
from safe_install.torch_family import TORCH, is_guarded


def entries_written_here(request: InstallRequest, environment: Environment) -> Tuple[Entry, ...]:
    """The requirements of the command line whose markers are true for this interpreter."""
    found = []
    for entry in request.entries:
        if entry.origin or named(entry.text) not in request.named_on_command_line:
            continue
        requirement = parse_requirement(entry.text)
        if requirement is None or planning.applies(requirement, environment):
            found.append(entry)
    return tuple(found)


def names_written_here(
    request: InstallRequest, environment: Environment
) -> FrozenSet[NormalizedName]:
    """The projects that the command line names for this interpreter."""
    names = [named(entry.text) for entry in entries_written_here(request, environment)]
    return frozenset(name for name in names if name is not None)


def torch_after(
    plan: Plan, environment: Environment, table: TorchTable, coming: Optional[TorchBuild] = None
) -> Optional[TorchBuild]:
    """The torch after the plan. `coming`: the torch that was chosen already, if there is one."""
    step = plan.find(TORCH)
    if step is None or step.version is None:
        return coming or environment.torch
    return planned_torch(step.version, environment.interpreter.platform, table)


def find_released(
    plan: Plan,
    request: InstallRequest,
    environment: Environment,
    broken: Collection[NormalizedName],
) -> Set[NormalizedName]:
    """The guarded names that may change in this plan.

    `broken`: distributions that do not load beside the installed torch. A companion among them may
    be replaced by the same version, built for this torch.
    """
    released = names_released_by(
        plan,
        environment,
        named=names_written_here(request, environment),
        allow_torch_change=request.own.allow_torch_change,
    )
    for step in plan.steps:
        is_chosen_again = step.candidate is not None and step.version == step.from_version
        if is_chosen_again and is_guarded(step.name) and step.name in broken:
            released.add(step.name)
    return released


def asked_of_torch(request: InstallRequest, environment: Environment) -> AskedOfTorch:
    """What the command line says about torch."""
    entries = entries_written_here(request, environment)
    texts = [entry.text for entry in entries if named(entry.text) == TORCH]
    own = request.own
    # uv's variable chooses a build, but it permits no change.
    accelerator = "" if own.accelerator_origin == UV_VARIABLE else own.accelerator or ""
    return AskedOfTorch(tuple(texts), request.named_places, own.allow_torch_change, accelerator)


def torch_terms(request: InstallRequest, environment: Environment) -> TorchTerms:
    """Which torch may be installed, by the options and requirements that apply to this interpreter.

    Errors: UsageError where --accelerator and a requirement contradict each other.
    """
    requirements = _on_torch(request.entries, environment)
    constraints = _on_torch(request.constraints, environment)
    accelerator = choose_accelerator(request.own, (*requirements, *constraints), environment.torch)
    asked = asked_of_torch(request, environment)
    if asked.accelerator != accelerator:
        asked = replace(asked, accelerator="")  # a requirement comes before a variable
    return TorchTerms(
        requirements=requirements,
        constraints=constraints,
        pre=request.pre,
        asked=asked,
        accelerator=accelerator,
        origin=request.own.accelerator_origin if accelerator == request.own.accelerator else "",
        places=_places_of(request),
    )


def _places_of(request: InstallRequest) -> Places:
    """Where pip looks; with --offline at no index."""
    indexes = () if request.own.offline else request.searched_indexes
    return Places(indexes, request.find_links)


def _on_torch(entries: Sequence[Entry], environment: Environment) -> Tuple[Requirement, ...]:
    parsed = [parse_requirement(entry.text) for entry in entries if named(entry.text) == TORCH]
    return tuple(one for one in parsed if one is not None and planning.applies(one, environment))


def check_torch_asked_for(
    plan: Plan, request: InstallRequest, environment: Environment, after: Optional[TorchBuild]
) -> Tuple[Finding, ...]:
    """Findings on a torch with another accelerator, or an older one, that was not asked for."""
    asked = asked_of_torch(request, environment)
    here = environment.torch
    if here is None:
        is_coming = plan.find(TORCH) is not None
        if after is None or not is_coming:
            return ()
        # nothing is replaced, so the places in files count, too
        places = (*asked.places, *request.places_in_files)
        return check_places(after, replace(asked, places=places))
    entries, markers = (*request.entries, *request.constraints), environment.interpreter.markers
    because = who_excludes(here.version, plan.steps, entries, markers)
    return check_torch_change(here, after, asked, because=because)


def may_be_broken(
    plan: Plan, request: InstallRequest, environment: Environment, after: Optional[TorchBuild]
) -> FrozenSet[NormalizedName]:
    """The distributions that stay and whose requirements the plan may break.

    Without torch: all, as with pip. With torch: all but torch and its companions, and only with
    --no-warn-conflicts.
    """
    kept = planning.kept_names(plan, environment)
    if after is None and TORCH not in environment.installed:
        return frozenset(kept)
    if not request.no_warn_conflicts:
        return frozenset()
    return frozenset(name for name in kept if not is_guarded(name))


def find_forbidden(
    plan: Plan,
    environment: Environment,
    released: Collection[NormalizedName],
    may_be_broken: Collection[NormalizedName],
) -> Tuple[Finding, ...]:
    """Errors on everything that the plan must not do."""
    findings = check_plan(plan, environment, released=released)
    return findings or tuple(check_requirements(plan, environment, may_be_broken))


def check_requirements(
    plan: Plan, environment: Environment, permitted: Collection[NormalizedName]
) -> Iterator[Finding]:
    """Findings on requirements of installed distributions that the plan would break. pip only warns
    of them.

    `permitted`: the distributions whose requirements may be broken.
    """
    for unmet in planning.newly_unmet(plan, environment):
        if unmet.name in permitted:
            continue
        hint = "Name both in one command, in versions that fit each other"
        consent = "." if is_guarded(unmet.name) else "; or accept it: --no-warn-conflicts."
        yield Finding(
            "requirement-unmet",
            Severity.ERROR,
            unmet.name,
            f"after this {unmet}",
            f"{hint}{consent}",
        )


def find_conflicts(
    plan: Plan, request: InstallRequest, environment: Environment
) -> Tuple[Finding, ...]:
    """The conflicts that pip would report after the plan: those of the new distributions, and of
    what requires one of them."""
    if request.no_deps or request.no_warn_conflicts:
        return ()
    after = planning.planned_distributions(plan, environment)
    brought = {step.name for step in plan.steps}
    concerned = brought | dependents_of(brought, after)
    return tuple(
        make_finding(unmet, Severity.WARNING)
        for unmet in unmet_requirements(after, environment.interpreter.markers, of=concerned)
    )

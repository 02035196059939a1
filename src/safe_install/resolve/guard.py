"""Rules for torch and its companions: the constraints that hold them, what may change, what refuses
a plan."""

from __future__ import annotations

from typing import Container, List, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.models import (
    SOURCES,
    Action,
    Environment,
    Finding,
    InstalledDistribution,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.requirements import accepts, applies, is_version, parse_requirement
from safe_install.torch_family import TORCH, is_guarded


def guarded_distributions(environment: Environment) -> Tuple[InstalledDistribution, ...]:
    """The installed torch and its companions; none where torch is not installed."""
    if TORCH not in environment.installed and environment.torch is None:
        return ()
    names = sorted(name for name in environment.installed if is_guarded(name))
    return tuple(environment.installed[name] for name in names)


def guard_constraints(
    environment: Environment, *, released: Container[NormalizedName]
) -> Tuple[str, ...]:
    """Constraints on the full installed versions. `released`: names that may change, because they
    were requested.

    The full version matters: `torch==1.8.1` would accept 1.8.1+cpu in place of 1.8.1+cu111.
    """
    lines = [
        f"{distribution.name}=={distribution.version}"
        for distribution in guarded_distributions(environment)
        if distribution.name not in released and is_version(distribution.version)
    ]
    unknown = torch_without_metadata(environment)
    if unknown is not None and TORCH not in released and TORCH not in environment.installed:
        # Its files say 1.8.1+cu102, which the package index has as 1.8.1.
        lines.append(f"{TORCH}=={unknown.version.public}")
    return tuple(lines)


def torch_without_metadata(environment: Environment) -> Optional[TorchBuild]:
    """A torch that can be imported but has no metadata. pip does not know it, and would install
    another one over it, or in front of it."""
    torch = environment.torch
    if torch is None or (TORCH in environment.installed and torch.has_metadata):
        return None
    return torch


def _foreign_torch(environment: Environment) -> Optional[str]:
    """A description of an importable torch without metadata, also of a package that does not say
    its version."""
    unknown = torch_without_metadata(environment)
    if unknown is not None:
        where = f" in {unknown.folder}" if unknown.folder is not None else ""
        return f"torch {unknown.runtime_version}{where}"
    if environment.torch is not None or TORCH in environment.installed:
        return None
    packages = [place for place in environment.torch_places if place.files == "package"]
    return f"the torch in {packages[0].torch}" if packages else None


def names_released(
    environment: Environment, *, named: Container[NormalizedName], allow_torch_change: bool
) -> Set[NormalizedName]:
    """The guarded names that may change: those on the command line, and all of them where torch
    itself may change."""
    guarded = {distribution.name for distribution in guarded_distributions(environment)}
    if allow_torch_change or TORCH in named:
        return guarded | {TORCH}
    return {name for name in guarded if name in named}


def names_released_by(
    plan: Plan,
    environment: Environment,
    *,
    named: Container[NormalizedName],
    allow_torch_change: bool,
) -> Set[NormalizedName]:
    """The guarded names that may change in this plan. Where torch was named and stays, no companion
    may change."""
    torch = plan.find(TORCH)
    is_moved = torch is not None and torch.version != torch.from_version
    released = names_released(environment, named=named, allow_torch_change=allow_torch_change)
    if allow_torch_change or is_moved or TORCH not in released:
        return released
    return {name for name in released if name in named}


def check_plan(
    plan: Plan, environment: Environment, *, released: Container[NormalizedName]
) -> Tuple[Finding, ...]:
    """Errors on a plan that changes a guarded distribution, or installs a second torch."""
    findings: List[Finding] = []
    for step in plan.steps:
        if not is_guarded(step.name) or step.name in released:
            continue
        if step.name == TORCH and _foreign_torch(environment) is not None:
            findings.append(_refuse_second_torch(step, environment))
        elif TORCH in environment.installed and _is_moved(step, environment):
            findings.append(_refuse_move(step))
    return tuple(findings)


def _is_moved(step: Step, environment: Environment) -> bool:
    """Does a guarded distribution become another one? For the same version only the files tell (see
    `same_version_steps`), except that a new build is always another one."""
    if step.action is not Action.REPLACE:
        return False
    if step.version == step.from_version:
        return step.origin in SOURCES
    return not _is_repair(step, environment)


def _is_repair(step: Step, environment: Environment) -> bool:
    """Does torch, or a companion, require the new version and reject the installed one?"""
    if step.name == TORCH or step.version is None or step.from_version is None:
        return False
    for distribution in guarded_distributions(environment):
        for text in distribution.requires:
            requirement = parse_requirement(text)
            if requirement is None or canonicalize_name(requirement.name) != step.name:
                continue
            if applies(requirement, environment.interpreter.markers) and not accepts(
                requirement, step.from_version
            ):
                return accepts(requirement, step.version)
    return False


def _refuse_move(step: Step) -> Finding:
    change = f"{step.name} {step.from_version} would become {step.version}"
    if step.version == step.from_version:
        change = f"{step.name} {step.version} would be replaced by one built from {step.url}"
    return Finding(
        _check_of(step.name),
        Severity.ERROR,
        str(step.name),
        f"{change}: {step.because}",
        "If that is what you want, permit it with --allow-torch-change."
        if step.requested
        else "Ask for a version that works with this torch, or permit the change with --allow-torch-change.",
    )


def _refuse_second_torch(step: Step, environment: Environment) -> Finding:
    unknown = environment.torch
    version = unknown.version.public if unknown is not None else str(step.version)
    return Finding(
        "torch-without-metadata",
        Severity.ERROR,
        TORCH,
        f"{_foreign_torch(environment)} has no metadata (torch-*.dist-info): pip would install "
        f"torch {step.version} "
        f"over it, because {step.because}",
        "Install it again, files and metadata: safe-install --force-reinstall --no-deps "
        f"torch=={version}, "
        "or leave out what is required: --no-deps.",
    )


def _check_of(name: NormalizedName) -> str:
    return "torch-moved" if name == TORCH else "companion-moved"


def same_version_steps(plan: Plan, *, released: Container[NormalizedName]) -> Tuple[Step, ...]:
    """The steps that install a guarded distribution again in the installed version: their files
    must be the same."""
    return tuple(
        step
        for step in plan.steps
        if step.action is Action.REPLACE
        and is_guarded(step.name)
        and step.name not in released
        and step.version == step.from_version
    )


def refuse_other_files(step: Step, paths: Sequence[str]) -> Finding:
    """The error for a guarded distribution that comes in the same version with other files."""
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
    return Finding(
        _check_of(step.name),
        Severity.ERROR,
        str(step.name),
        f"{step.name} {step.version} would be replaced by other files of the same version "
        f"({shown}): {step.because}",
        f"Name {step.name} to replace it, or permit the change with --allow-torch-change.",
    )

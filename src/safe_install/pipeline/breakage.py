"""Which installed extensions do not fit the installed torch, and which would not fit a planned one?
The answer is read from their files before torch is fetched; nothing is loaded."""

from __future__ import annotations

import dataclasses
import os
from typing import Callable, Collection, Iterator, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.models import (
    Action,
    Environment,
    Finding,
    InstalledDistribution,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.resolve.plan import newly_unmet
from safe_install.torch_family import TORCH, is_guarded, is_library_of_torch
from safe_install.wheels.abi import (
    CHECKS,
    CUDA_OF_TORCH,
    LoadOutcome,
    ObjectFacts,
    ObjectVerdict,
    TorchContext,
    cuda_major_of,
    hint_of,
    judge_object,
    judge_wheel,
)
from safe_install.wheels.inspection import Inspector, demangle, needs_of, recorded_objects
from safe_install.wheels.loader import Missing, Problems

# An installed extension, and the verdicts on its files.
Judged = Tuple[InstalledDistribution, List[ObjectVerdict]]
_BROKEN = (LoadOutcome.DOES_NOT_LOAD, LoadOutcome.ANOTHER_TORCH)


def find_broken(
    environment: Environment,
    variables: Mapping[str, str],
    *,
    preloaded: Callable[[], Sequence[str]],
) -> Tuple[Finding, ...]:
    """Warnings on the installed extensions whose files do not fit the installed torch.

    `preloaded`: returns the libraries that a process with torch imported has in memory. It is
    called at most once, and only where a library is missing.
    """
    return broken_among(judge_installed(environment, variables, preloaded=preloaded))


def judge_installed(
    environment: Environment,
    variables: Mapping[str, str],
    *,
    preloaded: Callable[[], Sequence[str]],
) -> Tuple[Judged, ...]:
    """The verdicts on the files of each installed extension, beside the installed torch."""
    if environment.torch is None:
        return ()
    inspector = Inspector(environment, environment.torch, variables=variables, preloaded=preloaded)
    return tuple(_extensions(inspector, passed_over=is_guarded))


def broken_among(judged: Sequence[Judged]) -> Tuple[Finding, ...]:
    """Warnings on the extensions whose files do not fit."""
    findings: List[Finding] = []
    for distribution, verdicts in judged:
        outcome, deciding_objects = judge_wheel(verdicts, needs_of(distribution.name, verdicts))
        if outcome in _BROKEN:
            detail = f"{distribution.name} {distribution.version}: {deciding_objects[0].reason}"
            hint = hint_of(deciding_objects[0], distribution.name)
            findings.append(
                Finding(CHECKS[outcome], Severity.WARNING, distribution.name, detail, hint)
            )
    return tuple(findings)


def find_breakage(
    environment: Environment,
    plan: Plan,
    coming: Optional[TorchBuild],
    variables: Mapping[str, str],
    *,
    severity: Severity = Severity.ERROR,
) -> Tuple[Finding, ...]:
    """Findings of `severity` on the extensions that fit the installed torch, are not changed by the
    plan, and do not fit `coming`."""
    now_here = environment.torch
    if now_here is None or coming is None or plan.find(TORCH) is None:
        return ()
    inspector = Inspector(environment, now_here, variables=variables)
    context = dataclasses.replace(inspector.context, torch=coming)
    if context.minor == inspector.context.minor and _cuda_major(coming) == _cuda_major(now_here):
        return ()
    findings: List[Finding] = []
    touched = {step.name for step in plan.steps}
    for distribution, now in _extensions(
        inspector, passed_over=is_library_of_torch, without=touched
    ):
        name = distribution.name
        works = judge_wheel(now, needs_of(name, now))[0] not in _BROKEN
        then = [_judge_with_torch(one.facts, context) for one in now]
        outcome, deciding_objects = judge_wheel(then, needs_of(name, then))
        if works and outcome in _BROKEN:
            detail = (
                f"{name} {distribution.version} {_reason(deciding_objects[0], outcome, coming)}"
            )
            findings.append(
                Finding("breaks-with-torch", severity, name, detail, _hint(name, coming))
            )
    return tuple(findings)


def may_all_stay(
    environment: Environment,
    coming: TorchBuild,
    variables: Mapping[str, str],
    *,
    moving: Collection[NormalizedName],
) -> bool:
    """Would a plan that brings this torch, and leaves all else as it is, be carried out? It is
    refused where one that stays requires another torch, or is known to break. `moving`: what comes
    anew in any case."""
    here = environment.installed.get(TORCH)
    version = here.version if here is not None else None
    plan = Plan((Step(Action.REPLACE, TORCH, str(coming.version), from_version=version),))
    unmet = [one.name for one in newly_unmet(plan, environment)]
    broken = [one.subject for one in find_breakage(environment, plan, coming, variables)]
    return all(name in moving for name in (*unmet, *broken))


def _judge_with_torch(facts: ObjectFacts, context: TorchContext) -> ObjectVerdict:
    """The verdict on one installed file beside a torch of which only version and accelerator are
    known.

    The symbols of that torch are unknown. What can be compared: the torch that the file was built
    for, and libraries that no build for the new accelerator has.
    """
    lost = [library for library in facts.needed if _is_lost(library, context.torch)]
    problems = Problems(missing=tuple(Missing(library, facts.member) for library in lost))
    without = dataclasses.replace(context, libraries=context.libraries - set(lost))
    return judge_object(dataclasses.replace(facts, problems=problems), without, demangle=demangle)


def _is_lost(library: str, coming: TorchBuild) -> bool:
    if coming.cuda is None:
        return library in CUDA_OF_TORCH and coming.accelerator == "cpu"
    major = cuda_major_of(library)
    return major is not None and major != _cuda_major(coming)


def _cuda_major(torch: TorchBuild) -> Optional[int]:
    return int(torch.cuda.split(".")[0]) if torch.cuda is not None else None


def _reason(deciding: ObjectVerdict, outcome: LoadOutcome, coming: TorchBuild) -> str:
    if outcome is LoadOutcome.DOES_NOT_LOAD:
        return f"would not load beside torch {coming.runtime_version}: {deciding.reason}"
    built = " or ".join(deciding.facts.fingerprint.minors) or "another torch"
    return f"was built for torch {built}: torch {coming.runtime_version} breaks it"


def _hint(name: str, coming: TorchBuild) -> str:
    return (
        f"Ask for it in the same command, so that both fit: safe-install torch=={coming.version} "
        f"{name}. "
        f"Where there is no wheel of it for that torch: safe-install uninstall {name}, then torch, "
        f"then {name} again, "
        "which builds it. --no-rollback permits a change that breaks it."
    )


def _extensions(
    inspector: Inspector,
    *,
    passed_over: Callable[[NormalizedName], bool],
    without: Collection[NormalizedName] = (),
) -> Iterator[Judged]:
    """The installed distributions that have files for torch, each with the verdicts on these
    files."""
    installed = inspector.environment.installed
    for name in sorted(installed):
        paths = {} if name in without or passed_over(name) else _members(installed[name])
        if paths and inspector.is_for_torch(paths):
            yield installed[name], inspector.inspect(paths, demangle=demangle)


def _members(distribution: InstalledDistribution) -> Mapping[str, str]:
    """The shared objects of a distribution: path below site-packages -> absolute path."""
    return {
        os.path.relpath(path, distribution.location): path
        for path in sorted(recorded_objects([distribution]))
    }

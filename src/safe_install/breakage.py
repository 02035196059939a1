"""Which installed extensions does the torch that is there break, and which would one that is asked for? Told from their
files, without loading them, and before torch is fetched."""

from __future__ import annotations

import dataclasses
import os
from typing import Callable, Collection, Iterator, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.models import Environment, Finding, InstalledDistribution, Plan, Severity, TorchBuild
from safe_install.resolve.plan import TORCH, is_guarded
from safe_install.wheels.abi import CHECKS, Judged, Verdict, hint_of, judge, judge_wheel
from safe_install.wheels.inspection import Inspector, demangle, needs_of, recorded_objects
from safe_install.wheels.loader import Problems

_BROKEN = (Verdict.DOES_NOT_LOAD, Verdict.ANOTHER_TORCH)


def find_broken(
    environment: Environment, variables: Mapping[str, str], *, preloaded: Callable[[], Sequence[str]]
) -> Tuple[Finding, ...]:
    """Warnings on the installed extensions whose files do not fit the torch that is there.

    `preloaded`: asked at most once, where a library is missing: what a process that imported torch has in memory.
    """
    if environment.torch is None:
        return ()
    findings: List[Finding] = []
    inspector = Inspector(environment, environment.torch, variables=variables, preloaded=preloaded)
    for distribution, judged in _extensions(inspector):
        verdict, ground = judge_wheel(judged, needs_of(distribution.name, judged))
        if verdict in _BROKEN:
            detail = f"{distribution.name} {distribution.version}: {ground[0].reason}"
            hint = hint_of(ground[0], distribution.name)
            findings.append(Finding(CHECKS[verdict], Severity.WARNING, distribution.name, detail, hint))
    return tuple(findings)


def find_breakage(
    environment: Environment, plan: Plan, coming: Optional[TorchBuild], variables: Mapping[str, str]
) -> Tuple[Finding, ...]:
    """Warnings on what fits the torch that is there, stays as it is, and was built for another than `coming`."""
    if environment.torch is None or coming is None or all(step.name != TORCH for step in plan.steps):
        return ()
    inspector = Inspector(environment, environment.torch, variables=variables)
    beside = dataclasses.replace(inspector.beside, torch=coming)
    if beside.minor == inspector.beside.minor:
        return ()
    findings: List[Finding] = []
    for distribution, now in _extensions(inspector, without={step.name for step in plan.steps}):
        name = distribution.name
        # The symbols of the coming torch are not known yet; what a file was built for is.
        then = [judge(dataclasses.replace(one.seen, problems=Problems()), beside, demangle=demangle) for one in now]
        works = judge_wheel(now, needs_of(name, now))[0] not in _BROKEN
        verdict, ground = judge_wheel(then, needs_of(name, then))
        if works and verdict is Verdict.ANOTHER_TORCH:
            built = " or ".join(ground[0].seen.fingerprint.minors)
            detail = (
                f"{name} {distribution.version} was built for torch {built}: torch {coming.runtime_version} breaks it"
            )
            hint = f"Ask for it in the same command, so that both fit: safe-install torch=={coming.version} {name}"
            findings.append(Finding("breaks-with-torch", Severity.WARNING, name, detail, hint))
    return tuple(findings)


def _extensions(
    inspector: Inspector, *, without: Collection[NormalizedName] = ()
) -> Iterator[Tuple[InstalledDistribution, List[Judged]]]:
    """The installed distributions with files for torch, and these files, judged."""
    installed = inspector.environment.installed
    for name in sorted(installed):
        paths = {} if name in without or is_guarded(name) else _members(installed[name])
        if paths and inspector.is_for_torch(paths):
            yield installed[name], inspector.inspect(paths, demangle=demangle)


def _members(distribution: InstalledDistribution) -> Mapping[str, str]:
    """Its shared objects by their paths below site-packages."""
    return {os.path.relpath(path, distribution.location): path for path in sorted(recorded_objects([distribution]))}

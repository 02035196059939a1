"""Which installed extensions would a torch break that is asked for? Told from their files, before torch is fetched."""

from __future__ import annotations

import dataclasses
import os
from typing import List, Mapping, Optional, Tuple

from safe_install.index.catalog import known_projects, load_project
from safe_install.models import Environment, Finding, InstalledDistribution, Plan, Severity, TorchBuild
from safe_install.resolve.plan import TORCH, is_guarded
from safe_install.wheels.abi import Verdict, judge, judge_wheel
from safe_install.wheels.inspection import Inspector, demangle, matcher, recorded_objects
from safe_install.wheels.loader import Problems


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
    touched = {step.name for step in plan.steps}
    for name in sorted(environment.installed):
        distribution = environment.installed[name]
        paths = {} if name in touched or is_guarded(name) else _members(distribution)
        if not paths or not inspector.is_for_torch(paths):
            continue
        now = inspector.inspect(paths, demangle=demangle)
        # The symbols of the coming torch are not known yet; what a file was built for is.
        then = [judge(dataclasses.replace(one.seen, problems=Problems()), beside, demangle=demangle) for one in now]
        needs = matcher(load_project(name).native) if name in known_projects() else None
        works = judge_wheel(now, needs)[0] not in (Verdict.DOES_NOT_LOAD, Verdict.ANOTHER_TORCH)
        verdict, ground = judge_wheel(then, needs)
        if works and verdict is Verdict.ANOTHER_TORCH:
            built = " or ".join(ground[0].seen.fingerprint.minors)
            detail = (
                f"{name} {distribution.version} was built for torch {built}: torch {coming.runtime_version} breaks it"
            )
            hint = f"Ask for it in the same command, so that both fit: safe-install torch=={coming.version} {name}"
            findings.append(Finding("breaks-with-torch", Severity.WARNING, name, detail, hint))
    return tuple(findings)


def _members(distribution: InstalledDistribution) -> Mapping[str, str]:
    """Its shared objects by their paths below site-packages."""
    return {os.path.relpath(path, distribution.location): path for path in sorted(recorded_objects([distribution]))}

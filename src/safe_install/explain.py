"""`safe-install explain REQ...`: which file would be chosen, from where, and the rule that rejected each other one."""

from __future__ import annotations

import dataclasses
from typing import Tuple

from packaging.utils import canonicalize_name

from safe_install.choice import Chooser, Wishes
from safe_install.environment.driver import declared_driver
from safe_install.errors import Refused, UsageError
from safe_install.guard import at, cuda_of_driver, probe_environment
from safe_install.index.catalog import known_projects
from safe_install.models import Environment, Finding, InstallResult, Outcome, Plan, Severity
from safe_install.ports import Timings, World
from safe_install.resolve.plan import explained, steps_of_pins
from safe_install.resolve.request import ExplainRequest
from safe_install.resolve.target import environment_for, notes_for


def explain(request: ExplainRequest, world: World) -> InstallResult:
    """The choice for this environment, or for a machine elsewhere. Changes nothing, downloads no wheel.

    Errors: NoCandidate (10) with every rejection and what each host said; UsageError for an unknown project.
    """
    timings = Timings()
    with timings.stage("probe", world.reporter):
        environment = _environment(request, world)
    unknown = [r.name for r in request.requirements if canonicalize_name(r.name) not in known_projects()]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: not in the wheel index, so pip chooses",
            hint="Known are: " + ", ".join(sorted(known_projects())) + ".",
        )
    if environment.torch is None:
        raise Refused(
            "no torch is installed here, so there is nothing to fit",
            hint="Install torch first, or name one: --torch 2.13.0+cpu.",
        )
    own = request.own
    wishes = Wishes(offline=own.offline, no_build=own.no_build, pre=request.pre, third_party=own.third_party)
    # What is installed does not count: the question is which file would be taken.
    bare = dataclasses.replace(environment, installed={})
    chooser = Chooser(bare, wishes, world)
    with at(environment), timings.stage("resolve", world.reporter):
        resolution = chooser.choose(request.requirements)
    named = {canonicalize_name(requirement.name) for requirement in request.requirements}
    steps = explained(steps_of_pins(resolution.pins, bare, requested=named))
    plan = Plan(steps, (), resolution.rejections, resolution.answers)
    findings = (
        tuple(Finding("assumed", Severity.NOTE, "environment", note) for note in notes_for(environment))
        if request.torch
        else ()
    )
    return InstallResult("explain", Outcome.EXPLAINED, 0, environment, plan, findings=findings, timings=timings.total())


def _environment(request: ExplainRequest, world: World) -> Environment:
    if request.torch is None:
        elsewhere = [request.python_version, request.platform]
        if any(elsewhere) or request.cxx11_abi is not None:
            raise UsageError(
                "--python-version, --platform and --cxx11-abi describe a machine elsewhere, and its torch is missing",
                hint="Add --torch 1.8.1+cu111.",
            )
        return probe_environment(request.own, world)
    own = request.own
    driver = declared_driver(
        version=own.target_driver,
        cuda=own.target_cuda or cuda_of_driver(own.target_driver),
        capabilities=own.target_gpu,
    )
    python_version, platform = request.python_version, request.platform
    if python_version is None or platform is None:
        here = probe_environment(own, world).interpreter
        python_version = python_version or here.version
        platform = platform or _platform_here(here.platform, here.libc)
    return environment_for(
        torch=request.torch,
        python_version=python_version,
        platform=platform,
        cxx11_abi=request.cxx11_abi,
        driver=driver,
    )


def _platform_here(platform: str, libc: Tuple[str, str]) -> str:
    if platform.startswith("linux_") and libc[0] == "glibc":
        return f"manylinux_{libc[1].replace('.', '_')}_{platform[len('linux_') :]}"
    return platform

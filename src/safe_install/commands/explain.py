"""`safe-install explain REQ...`: which file would be chosen, from where, and the rule that rejected each other one."""

from __future__ import annotations

import dataclasses
from typing import Iterator, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.errors import NoCandidate, UsageError
from safe_install.index.catalog import known_projects
from safe_install.models import Finding, HostAnswerKind, InstallResult, Origin, Outcome, Plan, Severity
from safe_install.pipeline.choice import IndexChooser, Wishes, cpu_fallback_notes
from safe_install.pipeline.session import environment_asked_for, error_context
from safe_install.ports import Timings, World
from safe_install.resolve.plan import explained, steps_of_pins
from safe_install.resolve.request import ExplainRequest
from safe_install.resolve.spelling import refuse_misspelled
from safe_install.resolve.target import notes_for


def explain(request: ExplainRequest, world: World) -> InstallResult:
    """The choice for this environment, or for a machine elsewhere. Changes nothing, downloads no wheel.

    Errors: NoCandidate (10) with every rejection and what each host said; UsageError for an unknown project.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = environment_asked_for(
            request.own,
            world,
            torch=request.torch,
            python_version=request.python_version,
            platform=request.platform,
            cxx11_abi=request.cxx11_abi,
        )
    _refuse_unknown(request.requirements)
    if environment.torch is None:
        raise NoCandidate(
            "no torch is installed here, so there is nothing to fit",
            hint="Install torch first, or name one: --torch 2.13.0+cpu.",
        )
    own = request.own
    wishes = Wishes(offline=own.offline, no_build=own.no_build, pre=request.pre, third_party=own.third_party)
    # What is installed does not count: the question is which file would be taken.
    bare = dataclasses.replace(environment, installed={})
    chooser = IndexChooser(wishes, world)
    with error_context(environment), timings.stage("resolve"):
        resolution = chooser.choose(request.requirements, bare)
    named = {canonicalize_name(requirement.name) for requirement in request.requirements}
    steps = explained(steps_of_pins(resolution.pins, bare, requested=named))
    plan = Plan(steps, resolution.rejections, resolution.answers)
    findings = cpu_fallback_notes(resolution.pins, resolution.answers, bare)
    if request.torch:
        findings += tuple(Finding("assumed", Severity.NOTE, "environment", note) for note in notes_for(environment))
    findings += tuple(_unknown_wheels(plan))
    return InstallResult("explain", Outcome.EXPLAINED, 0, environment, plan, findings=findings, timings=timings.total())


def _refuse_unknown(requirements: Sequence[Requirement]) -> None:
    """Errors: UsageError, for a project that is not in the wheel index."""
    refuse_misspelled(requirements, known=known_projects(), installed=())
    unknown = [one.name for one in requirements if canonicalize_name(one.name) not in known_projects()]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: not in the wheel index, so pip chooses",
            hint="Known are: " + ", ".join(sorted(known_projects())) + ".",
        )


def _unknown_wheels(plan: Plan) -> Iterator[Finding]:
    """A source build where a host that was not asked may have a wheel: not the last word."""
    for step in plan.steps:
        if step.origin is not Origin.SDIST:
            continue
        for answer in plan.answers:
            if answer.project == step.name and answer.gap:
                was_down = answer.kind is HostAnswerKind.DOWN
                hint = f"Try again when {answer.host} answers." if was_down else "Leave --offline out to ask it."
                detail = f"{step.name}: not known here whether {answer.host} has a wheel that fits: {answer.gap}"
                yield Finding("wheel-not-known", Severity.NOTE, step.name, detail, hint)

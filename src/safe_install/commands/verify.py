"""`safe-install verify`: is this environment healthy now?"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional, Tuple

from safe_install.diagnosis.health_findings import check_cuda, check_torch_folder, failed_answers
from safe_install.health.comparison import is_healthy
from safe_install.health.examination import Examination
from safe_install.health.origin import check_missing
from safe_install.health.requirements import unmet_requirements
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    HealthReport,
    InstallResult,
    Outcome,
)
from safe_install.pipeline.baseline import installed_subjects
from safe_install.pipeline.breakage import find_broken
from safe_install.pipeline.health_gate import has_errors
from safe_install.pipeline.session import probe_named, progress_task
from safe_install.ports import Timings, World
from safe_install.transaction.asides import check_leftovers


def verify(
    world: World,
    *,
    python: Optional[str],
    require_cuda: bool,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Check torch, CUDA and every installed extension of the wheel index in a fresh process.

    Errors: CUDA is not available though there is a driver or GPU; the imported torch is not the
    installed one. Warnings: unmet requirements, files that were built for another torch: what
    imports and computes is healthy. Exit status 0 healthy, 1 not. `check_timeout`: seconds; None:
    no limit.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = probe_named(world, python)
    unmet = unmet_requirements(environment.installed, environment.interpreter.markers)
    interrupted = check_leftovers(environment.interpreter.scheme)
    if environment.torch is None:
        missing = check_missing(environment.torch_places, environment.interpreter.executable)
        return _result(environment, HealthReport(unmet=unmet), (missing, *interrupted), timings)
    with timings.stage("health"), progress_task("check in a fresh process", world):
        subjects = installed_subjects(environment)
        examination = Examination(
            environment.interpreter.executable, environment.torch, subjects, timeout=check_timeout
        )

        @lru_cache(maxsize=None)
        def answers() -> HealthReport:
            return examination.result(unmet)

        # Files are read while the other process imports. Its result is waited for only where a
        # library is missing.
        try:
            broken = find_broken(environment, world.environ, preloaded=lambda: answers().libraries)
            health = answers()
        finally:
            examination.stop()
    findings = (
        *check_torch_folder(environment, health, world.environ),
        *failed_answers(health),
        *check_cuda(environment, health, world.environ, require_cuda=require_cuda),
        *interrupted,
        *broken,
    )
    return _result(environment, health, findings, timings)


def _result(
    environment: Environment, health: HealthReport, findings: Tuple[Finding, ...], timings: Timings
) -> InstallResult:
    healthy = is_healthy(health) and not has_errors(findings)
    return InstallResult(
        "verify",
        Outcome.HEALTHY if healthy else Outcome.UNHEALTHY,
        0 if healthy else 1,
        environment,
        after=health,
        findings=findings,
        timings=timings.total(),
    )

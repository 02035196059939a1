"""`safe-install verify`: is this environment healthy now?"""

from __future__ import annotations

from functools import lru_cache
from typing import Optional

from safe_install.breakage import find_broken
from safe_install.environment.driver import read_driver
from safe_install.environment.interpreter import find_interpreter, read_environment
from safe_install.guard import check_target, installed_subjects, shown
from safe_install.health.examination import Examination
from safe_install.health.report import check_cuda_required, is_healthy, unmet_requirements
from safe_install.models import Finding, HealthReport, InstallResult, Outcome, Severity
from safe_install.ports import Timings, World
from safe_install.transaction.leftover_files import check_leftovers


def verify(world: World, *, python: Optional[str], require_cuda: bool) -> InstallResult:
    """Ask a fresh process for torch, CUDA and every installed extension that the wheel index knows.

    Unmet requirements, and files of any extension that were built for another torch, are warnings: what imports and
    computes is healthy. Exit status 0 healthy, 1 not.
    """
    timings = Timings()
    with timings.stage("probe", world.reporter):
        environment = read_environment(find_interpreter(python, world.environ), read_driver())
    unmet = unmet_requirements(environment.installed, environment.interpreter.markers)
    interrupted = check_leftovers(environment.interpreter.scheme)
    if environment.torch is None:
        return InstallResult(
            "verify",
            Outcome.UNHEALTHY,
            1,
            environment,
            after=HealthReport(unmet=unmet),
            findings=(
                Finding(
                    "torch-missing",
                    Severity.ERROR,
                    "torch",
                    f"torch is not installed for {environment.interpreter.executable}",
                    "Name the right interpreter with --python, or install torch.",
                ),
                *interrupted,
            ),
            timings=timings.total(),
        )
    with timings.stage("health", world.reporter), shown("check in a fresh process", world):
        subjects = installed_subjects(environment)
        examination = Examination(environment.interpreter.executable, environment.torch, subjects)

        @lru_cache(maxsize=None)
        def answers() -> HealthReport:
            return examination.result(unmet)

        # Files are read while the other process imports; where a library is missing, its answer is waited for.
        broken = find_broken(environment, world.environ, preloaded=lambda: answers().libraries)
        health = answers()
    findings = (*_findings(health), *interrupted, *broken)
    if not require_cuda:
        findings += check_target(environment.torch, environment.driver, health)
    if require_cuda:
        findings += check_cuda_required(health)
    healthy = is_healthy(health) and not any(finding.severity is Severity.ERROR for finding in findings)
    return InstallResult(
        "verify",
        Outcome.HEALTHY if healthy else Outcome.UNHEALTHY,
        0 if healthy else 1,
        environment,
        after=health,
        findings=findings,
        timings=timings.total(),
    )


def _findings(health: HealthReport) -> list[Finding]:
    findings = [
        Finding(check, Severity.ERROR, name, f"{name} fails: {answer.error}")
        for check, answers in (("import-failed", health.imports), ("operation-failed", health.operations))
        for name, answer in answers.items()
        if not answer.ok
    ]
    if health.crashed:
        findings.append(Finding("check-crashed", Severity.ERROR, "torch", health.crashed))
    findings += [Finding("requirement-unmet", Severity.WARNING, text.split()[0], text) for text in health.unmet]
    if health.cuda_available is False and health.torch_cuda is not None:
        reason = health.warnings[0] if health.warnings else "torch gives no reason"
        findings.append(
            Finding(
                "cuda-unavailable",
                Severity.WARNING,
                "torch",
                f"torch {health.torch_version} is a CUDA build and torch.cuda.is_available() is False: {reason}",
            )
        )
    return findings

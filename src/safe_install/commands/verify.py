"""`safe-install verify`: is this environment healthy now?"""

from __future__ import annotations

import importlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from safe_install.environment.driver import read_kernel_driver
from safe_install.health.comparison import check_cuda_required, first_line, hint_for, is_healthy
from safe_install.health.cuda import DEVICES_VARIABLE, Machine, diagnose_cuda
from safe_install.health.examination import Examination
from safe_install.health.origin import (
    Sites,
    check_missing,
    check_origin,
    check_working_folder,
    is_whole,
)
from safe_install.health.requirements import make_finding, unmet_requirements
from safe_install.index.catalog import cuda_table, torch_table
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    HealthReport,
    InstallResult,
    Outcome,
    Severity,
)
from safe_install.pipeline.baseline import installed_subjects
from safe_install.pipeline.breakage import find_broken
from safe_install.pipeline.health_gate import check_target, has_errors
from safe_install.pipeline.session import probe_named, progress_task
from safe_install.ports import Timings, World
from safe_install.transaction.leftover_files import check_leftovers


def verify(
    world: World,
    *,
    python: Optional[str],
    require_cuda: bool,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Ask a fresh process for torch, CUDA and every installed extension that the wheel index knows.

    A driver or a GPU that is here while CUDA is not available, and a torch that is not the
    installed one, are errors. Unmet requirements, and files of any extension that were built for
    another torch, are warnings: what imports and computes is healthy. Exit status 0 healthy, 1 not.
    `check_timeout`: seconds; None: no limit.
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

        # Files are read while the other process imports; where a library is missing, its answer is
        # waited for.
        broken = find_broken(environment, world.environ, preloaded=lambda: answers().libraries)
        health = answers()
    findings = (
        *check_torch_folder(environment, health, world.environ),
        *_findings(health),
        *_check_cuda(environment, health, world.environ, require_cuda=require_cuda),
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


def _findings(health: HealthReport) -> List[Finding]:
    findings = [
        Finding(
            check,
            Severity.ERROR,
            name,
            f"{name} fails: {first_line(answer.error)}",
            hint_for(name, health.torch_version, answer.error),
        )
        for check, answers in (
            ("import-failed", health.imports),
            ("operation-failed", health.operations),
        )
        for name, answer in answers.items()
        if not answer.ok
    ]
    if health.crashed:
        findings.append(Finding("check-crashed", Severity.ERROR, "torch", health.crashed))
    findings += [make_finding(unmet, Severity.WARNING) for unmet in health.unmet]
    return findings


# --- CUDA -----------------------------------------------------------------------------------------


def _check_cuda(
    environment: Environment,
    health: HealthReport,
    environ: Mapping[str, str],
    *,
    require_cuda: bool,
) -> Tuple[Finding, ...]:
    cause = diagnose_cuda(health, _machine(environment, health, environ))
    if require_cuda:
        return check_cuda_required(health, cause)
    if cause is not None:
        return (cause,)
    return check_target(environment.torch, environment.driver, health)


def _machine(environment: Environment, health: HealthReport, environ: Mapping[str, str]) -> Machine:
    if health.cuda_available:
        return Machine()
    library = health.driver_library
    served = (library.cuda if library else None) or (
        environment.driver.cuda if environment.driver else None
    )
    torch = environment.torch
    # Builds of NVIDIA's containers, conda and the system are not replaced by one of a public host.
    is_public = torch is not None and torch.vendor in (None, "unknown")
    return Machine(
        driver=environment.driver,
        kernel_driver=read_kernel_driver(),
        visible_devices=environ.get(DEVICES_VARIABLE),
        driver_floor=cuda_table().driver_floor(torch.accelerator, system=_system(environment))
        if torch
        else None,
        fitting_build=torch_table().build_for(torch.runtime_version, served)
        if torch and served and is_public
        else None,
    )


def _system(environment: Environment) -> str:
    return "windows" if environment.interpreter.platform.startswith("win") else "linux"


# --- where torch is -------------------------------------------------------------------------------


def check_torch_folder(
    environment: Environment, health: HealthReport, environ: Mapping[str, str]
) -> Tuple[Finding, ...]:
    """Is the torch that was imported the installed one, and would it be in the working folder,
    too?"""
    imported = Path(health.torch_folder) if health.torch_folder else None
    interpreter = environment.interpreter
    sites = Sites(
        own=frozenset(
            _real(site) for site in (interpreter.scheme.purelib, interpreter.scheme.platlib)
        ),
        user=_real(interpreter.user_site) if interpreter.user_site else None,
        pythonpath=frozenset(
            _real(Path(path)) for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path
        ),
        base_prefix=_real(interpreter.base_prefix),
    )
    places = environment.torch_places
    found = check_origin(imported, health.torch_version, places, sites)
    if imported is None and not is_whole(places):
        found = (check_missing(places, interpreter.executable),)
    if environ.get("PYTHONSAFEPATH"):
        return found
    folder = Path(os.path.realpath(os.curdir))
    return (*found, *check_working_folder(folder, _module_in(folder), imported))


def _module_in(folder: Path) -> Optional[Path]:
    """What `import torch` takes from a folder; a folder without __init__.py hides no installed
    package."""
    # typed for Python 3.6: not at all
    script: Any = importlib.import_module("safe_install.environment.script")
    module, files = script.torch_module(str(folder))
    return _real(Path(module)) if files in ("package", "module") else None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

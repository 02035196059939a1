"""What a fresh process answered about torch, as findings: what fails, why CUDA is not there, whether
the torch that was imported is the installed one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any, List, Mapping, Optional, Tuple

from safe_install.diagnosis.machine_facts import find_working_folder
from safe_install.environment.driver import read_kernel_driver
from safe_install.health.comparison import check_cuda_required, first_line, hint_for
from safe_install.health.cuda import DEVICES_VARIABLE, Machine, diagnose_cuda
from safe_install.health.origin import (
    Sites,
    check_missing,
    check_origin,
    check_working_folder,
    is_whole,
)
from safe_install.health.requirements import make_finding
from safe_install.index.catalog import cuda_table, torch_table
from safe_install.models import Environment, Finding, HealthReport, Severity
from safe_install.pipeline.health_gate import check_target


def failed_answers(health: HealthReport) -> List[Finding]:
    """What does not import or compute, a check that died, requirements that are not met."""
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


def check_cuda(
    environment: Environment,
    health: HealthReport,
    environ: Mapping[str, str],
    *,
    require_cuda: bool,
) -> Tuple[Finding, ...]:
    """Why CUDA is not available although it could be; what could not be asked."""
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
    folder = None if environ.get("PYTHONSAFEPATH") else find_working_folder()
    if folder is None:
        return found
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

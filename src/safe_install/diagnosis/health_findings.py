"""Findings from the health report of a fresh process: what fails, why CUDA is not available,
whether the imported torch is the installed one."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

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
from safe_install.models import (
    Environment,
    Finding,
    HealthReport,
    ImportResult,
    Interpreter,
    Severity,
    TorchBuild,
)
from safe_install.pipeline.health_gate import check_target


def failed_answers(health: HealthReport) -> List[Finding]:
    """Findings on failed imports and operations, a crash of the check, and unmet requirements."""
    findings = _failures("import-failed", health.imports, health.torch_version)
    findings += _failures("operation-failed", health.operations, health.torch_version)
    if health.crashed:
        findings.append(Finding("check-crashed", Severity.ERROR, "torch", health.crashed))
    findings += [make_finding(unmet, Severity.WARNING) for unmet in health.unmet]
    return findings


def _failures(
    check: str, answers: Mapping[str, ImportResult], torch_version: Optional[str]
) -> List[Finding]:
    findings = []
    for name, answer in answers.items():
        if not answer.ok:
            detail = f"{name} fails: {first_line(answer.error)}"
            hint = hint_for(name, torch_version, answer.error)
            findings.append(Finding(check, Severity.ERROR, name, detail, hint))
    return findings


# --- CUDA -----------------------------------------------------------------------------------------


def check_cuda(
    environment: Environment,
    health: HealthReport,
    environ: Mapping[str, str],
    *,
    require_cuda: bool,
) -> Tuple[Finding, ...]:
    """Findings on why CUDA is not available although it could be. `require_cuda`: it is an error
    that it is not available."""
    cause = diagnose_cuda(health, _machine(environment, health, environ))
    if require_cuda:
        return check_cuda_required(health, cause)
    if cause is not None:
        return (cause,)
    return check_target(environment.torch, environment.driver, health)


def _machine(environment: Environment, health: HealthReport, environ: Mapping[str, str]) -> Machine:
    """The facts from which the cause is found. They are not read where CUDA is available."""
    if health.cuda_available:
        return Machine()
    machine = Machine(
        driver=environment.driver,
        kernel_driver=read_kernel_driver(),
        visible_devices=environ.get(DEVICES_VARIABLE),
    )
    torch = environment.torch
    if torch is None:
        return machine
    system = environment.interpreter.system
    floor = cuda_table().driver_floor(torch.accelerator, system=system)
    return replace(
        machine,
        driver_floor=floor,
        fitting_build=_fitting_build(torch, _served_cuda(environment, health)),
    )


def _served_cuda(environment: Environment, health: HealthReport) -> Optional[str]:
    """The CUDA version that the driver serves, by its library, else by NVML."""
    library, driver = health.driver_library, environment.driver
    if library is not None and library.cuda:
        return library.cuda
    return driver.cuda if driver is not None else None


def _fitting_build(torch: TorchBuild, served: Optional[str]) -> Optional[str]:
    """The build of the same torch for the driver's CUDA; None if there is none."""
    # Builds of NVIDIA's containers, conda and the system are not replaced by one of a public host.
    is_public = torch.vendor in (None, "unknown")
    if not served or not is_public:
        return None
    return torch_table().build_for(torch.runtime_version, served)


# --- where torch is -------------------------------------------------------------------------------


def check_torch_folder(
    environment: Environment, health: HealthReport, environ: Mapping[str, str]
) -> Tuple[Finding, ...]:
    """Is the imported torch the installed one, and would the working folder change that?"""
    imported = Path(health.torch_folder) if health.torch_folder else None
    places = environment.torch_places
    sites = _find_sites(environment.interpreter, environ)
    found = check_origin(imported, health.torch_version, places, sites)
    if imported is None and not is_whole(places):
        found = (check_missing(places, environment.interpreter.executable),)
    folder = None if environ.get("PYTHONSAFEPATH") else find_working_folder()
    if folder is None:
        return found
    return (*found, *check_working_folder(folder, _module_in(folder), imported))


def _find_sites(interpreter: Interpreter, environ: Mapping[str, str]) -> Sites:
    scheme, pythonpath = interpreter.scheme, environ.get("PYTHONPATH", "").split(os.pathsep)
    return Sites(
        own=frozenset({_real(scheme.purelib), _real(scheme.platlib)}),
        user=_real(interpreter.user_site) if interpreter.user_site else None,
        pythonpath=frozenset(_real(Path(path)) for path in pythonpath if path),
        base_prefix=_real(interpreter.base_prefix),
    )


def _module_in(folder: Path) -> Optional[Path]:
    """The module that `import torch` finds in a folder; None for a folder torch/ without
    __init__.py, which hides no installed package."""
    script = importlib.import_module("safe_install.environment.script")
    module, files = script.torch_module(str(folder))
    return _real(Path(module)) if files in ("package", "module") else None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

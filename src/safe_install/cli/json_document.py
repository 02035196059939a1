"""The JSON document of `--json` for a result or an error (result.schema.json)."""

from __future__ import annotations

import json
import sys
from typing import Dict, Mapping, Optional

from safe_install import __version__
from safe_install.cli.terminal import can_write
from safe_install.errors import SafeInstallError
from safe_install.models import (
    DriverLibrary,
    Environment,
    Finding,
    HealthReport,
    HostAnswer,
    ImportResult,
    InstallResult,
    Origin,
    Plan,
    Rejection,
    Step,
)
from safe_install.redaction import redact

SCHEMA = 1


def make_document(
    result: InstallResult, error: Optional[SafeInstallError] = None
) -> Dict[str, object]:
    """The document of a result, or of an error that was raised before there was one."""
    plan = result.plan or Plan()
    findings, rejections = [*result.findings], [*plan.rejections]
    if error is not None:
        findings += error.findings
        rejections += error.rejections
    return {
        "schema": SCHEMA,
        "tool": {"name": "torch-safe-install", "version": __version__},
        "command": result.command,
        "exit_code": error.exit_status if error else result.exit_status,
        "outcome": result.outcome.value,
        "environment": _environment(result.environment) if result.environment else None,
        "plan": {
            "steps": list(map(_step, plan.steps)),
            "hosts": list(map(_answer, plan.answers)),
        },
        "before": _health(result.before) if result.before else None,
        "after": _health(result.after) if result.after else None,
        "findings": list(map(_finding, findings)),
        "rejections": list(map(_rejection, rejections)),
        "transaction": result.transaction,
        "timings": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "details": dict(result.details),
        "error": _error(error) if error else None,
    }


def _error(error: SafeInstallError) -> Dict[str, object]:
    return {"code": error.code, "message": error.message, "hint": error.hint}


def _environment(environment: Environment) -> Dict[str, object]:
    interpreter, torch, driver = environment.interpreter, environment.torch, environment.driver
    return {
        "python": interpreter.version,
        "executable": str(interpreter.executable),
        "prefix": str(interpreter.prefix),
        "platform": interpreter.platform,
        "libc": " ".join(interpreter.libc).strip(),
        "torch": None
        if torch is None
        else {
            "version": torch.runtime_version,
            "accelerator": torch.accelerator,
            "cuda": torch.cuda,
            "cxx11_abi": torch.cxx11_abi,
        },
        "driver": None
        if driver is None
        else {
            "version": driver.version,
            "cuda": driver.cuda,
            "declared": driver.declared,
            "problem": driver.problem,
            "devices": [
                {"name": device.name, "compute_capability": device.compute_capability}
                for device in driver.devices
            ],
        },
    }


def _step(step: Step) -> Dict[str, object]:
    return {
        "action": step.action.value,
        "name": step.name,
        "version": step.version,
        "from_version": step.from_version,
        "url": step.url,
        "sha256": step.sha256,
        "kind": "sdist" if step.origin is Origin.REPOSITORY else step.origin.value,
        "requested": step.requested,
        "because": step.because,
    }


def _answer(answer: HostAnswer) -> Dict[str, object]:
    return {
        "project": answer.project,
        "host": answer.host,
        "url": answer.url,
        "answer": answer.kind.value,
        "detail": answer.detail,
        "gap": answer.gap,
    }


def _health(report: HealthReport) -> Dict[str, object]:
    return {
        "torch_version": report.torch_version,
        "accelerator": report.accelerator,
        "torch_cuda": report.torch_cuda,
        "cuda_available": report.cuda_available,
        "device_count": report.device_count,
        "imports": _import_results(report.imports),
        "operations": _import_results(report.operations),
        "warnings": list(report.warnings),
        "unmet": list(map(str, report.unmet)),
        "asked": report.asked,
        "crashed": report.crashed,
        "torch_folder": report.torch_folder,
        "libcuda": _driver_library(report.driver_library) if report.driver_library else None,
    }


def _driver_library(library: DriverLibrary) -> Dict[str, object]:
    return {
        "path": library.path,
        "cuda": library.cuda,
        "status": library.status,
        "devices": library.devices,
    }


def _import_results(answers: Mapping[str, ImportResult]) -> Dict[str, object]:
    return {name: _import_result(answer) for name, answer in answers.items()}


def _import_result(answer: ImportResult) -> Dict[str, object]:
    seconds = None if answer.seconds is None else round(answer.seconds, 4)
    return {"ok": answer.ok, "seconds": seconds, "error": answer.error}


def _finding(finding: Finding) -> Dict[str, object]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "detail": finding.detail,
        "hint": finding.hint,
    }


def _rejection(rejection: Rejection) -> Dict[str, object]:
    return {
        "name": rejection.candidate.name,
        "version": str(rejection.candidate.version),
        "url": rejection.candidate.link.url,
        "rule": rejection.rule.value,
        "detail": rejection.detail,
    }


def show_document(document: Mapping[str, object]) -> None:
    """Print the document on stdout."""
    redacted = _redacted(document)
    text = json.dumps(redacted, indent=2, ensure_ascii=False)
    if not can_write(text, sys.stdout):
        text = json.dumps(redacted, indent=2)
    print(escape_unprintable(text), flush=True)


def escape_unprintable(text: str) -> str:
    """Escape control characters that JSON allows but a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _redacted(value: object) -> object:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, (list, tuple)) else value

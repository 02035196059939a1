"""Checks of the shell in which doctor was started: its variables, its working folder, and network
settings."""

from __future__ import annotations

from pathlib import PurePath
from typing import List

from safe_install.diagnosis.facts import ClosedPort, Facts, Trial
from safe_install.diagnosis.run import Answer
from safe_install.health.comparison import first_line
from safe_install.models import Finding, Severity
from safe_install.redaction import redact

LONGEST_VALUE = 80  # characters of a variable's value in a message


def check_variables(facts: Facts) -> Answer:
    """Does a variable of the shell keep torch from importing?"""
    findings = [
        _fatal_variable_finding(trial, "torch does not import, and without it torch does")
        for trial in facts.without
    ]
    for trial in facts.typed:
        if not _is_file(trial):
            consequence = f"`import torch` fails: {first_line(_last_line(trial.error))}"
            findings.append(_fatal_variable_finding(trial, consequence))
    return findings


def _fatal_variable_finding(trial: Trial, consequence: str) -> Finding:
    value = redact(trial.value)
    shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
    return Finding(
        "variable-breaks-torch",
        Severity.ERROR,
        trial.subject,
        f'{trial.subject} is "{shown}": with it {consequence}',
        f"unset {trial.subject}",
    )


def check_working_folder(facts: Facts) -> Answer:
    """Does a file of the working folder hide a module that torch imports?"""
    findings: List[Finding] = []
    for trial in facts.typed:
        if not _is_file(trial):
            continue
        path = PurePath(trial.subject)
        module = path.name.partition(".")[0]
        findings.append(
            Finding(
                "module-hidden",
                Severity.ERROR,
                module,
                f"in {path.parent} Python imports {path} as {module} (python -c, python -m, scripts"
                f" of this folder), and `import torch` fails there: {first_line(trial.error)}",
                f"Rename {path}, or work in another folder.",
            )
        )
    return findings


def _is_file(trial: Trial) -> bool:
    return PurePath(trial.subject).is_absolute()


def _last_line(error: str) -> str:
    """The last line of a traceback, which has the exception."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else ""


def check_network(facts: Facts) -> Answer:
    """Do the proxies, indexes and certificates exist that the settings name?"""
    findings = [_nothing_listens(port) for port in facts.closed_ports]
    for variable, path in facts.lost_certificates.items():
        findings.append(
            Finding(
                "certificates-missing",
                Severity.WARNING,
                variable,
                f"{variable} names {path}, which is not there: no host's certificate can be checked",
                f"unset {variable}",
            )
        )
    return findings


def _nothing_listens(port: ClosedPort) -> Finding:
    source = f"pip's setting {port.setting}"
    hint = "Start it, or correct the setting: pip config list shows where it stands."
    if port.setting.lower().endswith("_proxy"):
        source, hint = port.setting, f"unset {port.setting}"
    return Finding(
        "nothing-listens",
        Severity.WARNING,
        port.setting,
        f"{source} is {redact(port.address)}, and nothing listens there: no host can be reached "
        "that way",
        hint,
    )

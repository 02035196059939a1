"""Checks of the shell in which doctor was started: its variables, its working folder, the ways to
the hosts."""

from __future__ import annotations

from pathlib import PurePath
from typing import List

from safe_install.diagnosis.facts import Facts, Trial
from safe_install.diagnosis.run import Answer
from safe_install.health.comparison import first_line
from safe_install.models import Finding, Severity
from safe_install.redaction import redact

LONGEST_VALUE = 80  # letters of a variable that a sentence shows


def check_variables(facts: Facts) -> Answer:
    """Does a variable of the shell keep torch from importing?"""
    findings = [
        _variable(trial, "torch does not import, and without it torch does")
        for trial in facts.without
    ]
    for trial in facts.typed:
        if not _is_file(trial):
            words = f"`import torch` fails: {first_line(_last(trial.error))}"
            findings.append(_variable(trial, words))
    return findings


def _variable(trial: Trial, consequence: str) -> Finding:
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


def _last(error: str) -> str:
    """The exception stands in the last line of what Python writes."""
    lines = error.strip().splitlines()
    return lines[-1] if lines else ""


def check_network(facts: Facts) -> Answer:
    """Are the proxies, the indexes and the certificates there that the settings name?"""
    findings: List[Finding] = []
    for port in facts.closed_ports:
        address = redact(port.address)
        is_variable = port.setting.lower().endswith("_proxy")
        source = port.setting if is_variable else f"pip's setting {port.setting}"
        findings.append(
            Finding(
                "nothing-listens",
                Severity.WARNING,
                port.setting,
                f"{source} is {address}, and nothing listens there: no host can be reached that way",
                f"unset {port.setting}"
                if is_variable
                else "Start it, or correct the setting: pip config list shows where it stands.",
            )
        )
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

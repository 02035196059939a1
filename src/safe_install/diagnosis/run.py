"""Runs the checks. A check is skipped where one that it needs has failed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Sequence, Tuple, Union

from safe_install.diagnosis.facts import Facts
from safe_install.models import Finding, Severity


class Status(enum.Enum):
    """How a check ended. The value is in the JSON document."""

    PASSED = "passed"
    FOUND = "found"  # it has findings
    SKIPPED = "skipped"  # a check that it needs failed or was skipped
    CANNOT_TELL = "cannot-tell"  # a fact that it needs is not known


@dataclass(frozen=True)
class CannotTell:
    """A fact that the check needs is not known."""

    because: str


@dataclass(frozen=True)
class NotHere:
    """There is nothing to check. The checks that need this one are skipped, too."""

    because: str


Answer = Union[Sequence[Finding], CannotTell, NotHere]


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str  # kebab-case and stable: the argument of --fix, and a heading in docs/doctor.md
    about: str  # its line in --list
    run: Callable[[Facts], Answer]
    needs: Tuple[str, ...] = ()  # checks that must not have found an error
    asks_import: bool = False  # it is left out with --quick


@dataclass(frozen=True)
class CheckResult:
    """The result of a check."""

    name: str
    status: Status
    findings: Tuple[Finding, ...] = ()
    because: str = ""  # why it was skipped, or cannot tell

    @property
    def has_error(self) -> bool:
        """Did it find an error?"""
        return any(finding.severity is Severity.ERROR for finding in self.findings)


def run_checks(checks: Sequence[Check], facts: Facts, *, quick: bool) -> Tuple[CheckResult, ...]:
    """The result of every check, in the order of `checks`. A check comes after those it needs."""
    results: Dict[str, CheckResult] = {}
    for check in checks:
        results[check.name] = _run_check(check, facts, results, quick=quick)
    return tuple(results.values())


def _run_check(
    check: Check, facts: Facts, results: Mapping[str, CheckResult], *, quick: bool
) -> CheckResult:
    if quick and check.asks_import:
        return CheckResult(check.name, Status.SKIPPED, because="--quick asks no import")
    for needed in check.needs:
        before = results[needed]
        if before.has_error:
            return CheckResult(check.name, Status.SKIPPED, because=f"{needed} found an error")
        if before.status is Status.SKIPPED:
            return CheckResult(check.name, Status.SKIPPED, because=f"{needed} was skipped")
    answer = check.run(facts)
    if isinstance(answer, CannotTell):
        return CheckResult(check.name, Status.CANNOT_TELL, because=answer.because)
    if isinstance(answer, NotHere):
        return CheckResult(check.name, Status.SKIPPED, because=answer.because)
    status = Status.FOUND if answer else Status.PASSED
    return CheckResult(check.name, status, tuple(answer))

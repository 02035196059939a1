"""`safe-install doctor`: what is wrong with this environment, why, and what to do about it."""

from __future__ import annotations

from typing import Dict, FrozenSet, Optional, Sequence, Tuple

from safe_install.diagnosis.checks import BY_NAME, CHECKS
from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.gather import gather_facts
from safe_install.diagnosis.questions import answer_questions
from safe_install.diagnosis.run import CheckResult, run_checks
from safe_install.errors import UsageError
from safe_install.models import Finding, InstallResult, Outcome
from safe_install.pipeline.session import progress_task
from safe_install.ports import Timings, World

PAGE = "docs/doctor.md"


def doctor(
    world: World,
    *,
    python: Optional[str],
    quick: bool,
    check_timeout: Optional[float],
    deep: bool = False,
    with_report: bool = False,
    fix_of: Optional[FrozenSet[str]] = None,
) -> InstallResult:
    """Run every check, in the order of their requirements. Exit status 0 where no error was found,
    else 1.

    `fix_of`: plan the repair of the findings of these checks (empty: of every error); None: plan
    nothing.
    Errors: UsageError where the interpreter does not exist; one that does not start is a finding.
    """
    timings = Timings()
    with progress_task("check in a fresh process", world):
        facts = gather_facts(
            world,
            python=python,
            quick=quick,
            deep=deep,
            check_timeout=check_timeout,
            timings=timings,
        )
    results = run_checks(CHECKS, facts, quick=quick)
    findings = find_all(results)
    is_healthy = not any(result.has_error for result in results)
    details = _details(results, facts)
    if fix_of is not None:
        from safe_install.diagnosis.fixes import plan_fixes
        from safe_install.index.catalog import known_projects

        plan = plan_fixes(results, facts, known=frozenset(known_projects()), checks=fix_of)
        details["mends"] = plan.document()
        details["outside"] = [finding.detail for finding in plan.outside]
    if with_report:
        from safe_install.diagnosis.report import render_report
        from safe_install.diagnosis.report_facts import describe_machine

        details["report"] = render_report(facts, describe_machine(facts), results)
    return InstallResult(
        "doctor",
        Outcome.HEALTHY if is_healthy else Outcome.UNHEALTHY,
        0 if is_healthy else 1,
        facts.environment,
        after=facts.health,
        findings=findings,
        timings=timings.total(),
        details=details,
    )


def list_checks() -> InstallResult:
    """The names of all checks with their questions."""
    rows = [[check.name, check.about] for check in CHECKS]
    table = {"title": "", "columns": ["check", "asks whether"], "rows": rows}
    return InstallResult("doctor", Outcome.LISTED, 0, details={"tables": [table]})


def check_names(names: Sequence[str], *, fix: bool) -> FrozenSet[str]:
    """The named checks. Errors: UsageError for an unknown one, or without --fix."""
    for name in names:
        if name not in BY_NAME:
            raise UsageError(f"no such check: {name}", hint="See safe-install doctor --list.")
    if names and not fix:
        raise UsageError("checks are named for --fix", hint=f"Add --fix: doctor --fix {names[0]}.")
    return frozenset(names)


def find_all(results: Sequence[CheckResult]) -> Tuple[Finding, ...]:
    """The findings of all checks, each once."""
    seen: Dict[Finding, None] = {}
    for result in results:
        for finding in result.findings:
            seen.setdefault(finding)
    return tuple(seen)


def _details(results: Sequence[CheckResult], facts: Facts) -> Dict[str, object]:
    checks = [
        {
            "name": result.name,
            "status": result.status.value,
            "because": result.because,
            "findings": [finding.check for finding in result.findings],
            "page": f"{PAGE}#{result.name}",
        }
        for result in results
    ]
    questions = [[name, answer] for name, answer in answer_questions(facts)]
    return {"checks": checks, "questions": questions}

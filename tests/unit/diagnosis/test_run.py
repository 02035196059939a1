"""The order of checks, what a failed premise skips, and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.diagnosis.checks import BY_NAME, CHECKS
from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.run import CannotTell, Check, CheckResult, NotHere, Status, run_checks
from safe_install.models import Finding, Severity

FACTS = Facts(Path("/env/bin/python"))
ERROR = Finding("broken", Severity.ERROR, "torch", "it is broken")
WARNING = Finding("odd", Severity.WARNING, "torch", "it is odd")


def check(name, answer=(), needs=(), *, asks_import=False):
    return Check(name, "", lambda facts: answer, tuple(needs), asks_import)


def never(name, needs):
    def refuse(facts):
        raise AssertionError(f"{name} was run")

    return Check(name, "", refuse, tuple(needs))


def ends(results):
    return {result.name: (result.status, result.because) for result in results}


def test_results_come_in_the_order_of_the_table():
    results = run_checks([check("b"), check("a", [WARNING])], FACTS, quick=False)
    assert results == (
        CheckResult("b", Status.PASSED),
        CheckResult("a", Status.FOUND, (WARNING,)),
    )


def test_what_needs_a_check_that_found_an_error_is_skipped_and_so_on():
    results = run_checks(
        [check("a", [ERROR]), never("b", ["a"]), never("c", ["b"]), check("d")],
        FACTS,
        quick=False,
    )
    assert ends(results) == {
        "a": (Status.FOUND, ""),
        "b": (Status.SKIPPED, "a found an error"),
        "c": (Status.SKIPPED, "b was skipped"),
        "d": (Status.PASSED, ""),
    }


def test_where_there_is_nothing_to_ask_about_what_needs_it_is_skipped():
    results = run_checks([check("a", NotHere("no torch")), never("b", ["a"])], FACTS, quick=False)
    assert ends(results) == {
        "a": (Status.SKIPPED, "no torch"),
        "b": (Status.SKIPPED, "a was skipped"),
    }


@pytest.mark.parametrize("answer", [[WARNING], CannotTell("nobody knows"), []], ids=str)
def test_a_warning_and_what_cannot_be_told_skip_nothing(answer):
    results = run_checks([check("a", answer), check("b", (), ["a"])], FACTS, quick=False)
    assert results[1].status is Status.PASSED


def test_what_cannot_be_told_says_why():
    results = run_checks([check("a", CannotTell("nobody knows"))], FACTS, quick=False)
    assert results == (CheckResult("a", Status.CANNOT_TELL, because="nobody knows"),)
    assert not results[0].has_error


def test_quick_asks_no_import_and_skips_what_needs_its_answer():
    asked = [
        Check("a", "", never("a", ()).run, asks_import=True),
        never("b", ["a"]),
        check("c", [ERROR]),
    ]
    results = run_checks(asked, FACTS, quick=True)
    assert ends(results) == {
        "a": (Status.SKIPPED, "--quick asks no import"),
        "b": (Status.SKIPPED, "a was skipped"),
        "c": (Status.FOUND, ""),
    }
    assert results[2].has_error


def test_the_table_names_a_check_after_those_that_it_needs():
    seen = set()
    for one in CHECKS:
        assert set(one.needs) <= seen, one.name
        assert one.name not in seen
        assert one.about
        seen.add(one.name)
    assert dict(BY_NAME) == {one.name: one for one in CHECKS}


def test_an_interpreter_that_does_not_answer_skips_every_check_that_needs_it():
    from safe_install.diagnosis.facts import ProbeProblem

    facts = Facts(Path("/env/bin/python"), problem=ProbeProblem("it ends", "Repair it."))
    results = run_checks(CHECKS, facts, quick=False)
    assert results[0].findings == (
        Finding("interpreter-broken", Severity.ERROR, "/env/bin/python", "it ends", "Repair it."),
    )
    others = {result.name for result in results[1:] if result.status is not Status.SKIPPED}
    assert others == {"disk"}

"""doctor --fix: what is run, in which order, and what is taken back."""

from __future__ import annotations

import dataclasses

import pytest

from safe_install.cli import fixing, text
from safe_install.cli.fixing import INSTALL, Fixing
from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Finding, InstallResult, Outcome, Severity
from safe_install.resolve.command_line import parse_command_line

MISSING = Finding("files-missing", Severity.ERROR, "torch", "1 file of torch is gone")
MENDS = {"recovers": True, "removed": ["beta"], "installed": ["torch==2.13.0"]}
NOTHING = {"recovers": False, "removed": [], "installed": []}
LINES = [["recover"], [*INSTALL, "torch==2.13.0", "less", "beta"]]
ILL = InstallResult(
    "doctor",
    Outcome.UNHEALTHY,
    1,
    findings=(MISSING,),
    details={
        "mends": MENDS,
        "outside": ["the driver is too old"],
        "checks": [],
        "questions": [["PATH", ""]],
    },
)
WELL_AGAIN = InstallResult("doctor", Outcome.HEALTHY, 0, details={"mends": NOTHING, "outside": []})
WELL = dataclasses.replace(ILL, outcome=Outcome.HEALTHY, exit_status=0, findings=())


class Listener(Reporter):
    """Keeps what is said, and answers as it was told."""

    def __init__(self, answer=None):
        self.answer = answer
        self.notes, self.warnings, self.questions = [], [], []
        self.made = "txn-1"

    def change_made(self, transaction):
        self.made = transaction

    def change_taken_back(self):
        self.made = None

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def ask(self, question, *, is_secret=False):
        self.questions.append(question)
        return self.answer


class Program:
    """The commands of ours, as they are called."""

    def __init__(self, **fails):
        self.fails = fails  # what a command raises
        self.lines = []

    def __call__(self, words, mending=None):
        removed = ["less", *mending.removes] if mending is not None else []
        self.lines.append([*words, *removed])
        if self.fails and words[0] in self.fails:
            raise self.fails[words[0]]
        transaction = f"txn-{len(self.lines)}" if words[0] != "undo" else None
        return InstallResult(words[0], Outcome.INSTALLED, 0, transaction=transaction)


def fix(argv, states, *, program=None, reporter=None):
    """The result, what was run, and the reporter."""
    program, reporter = program or Program(), reporter or Listener()
    states = list(states)
    words = parse_command_line(["doctor", "--fix", *argv]).words
    result = Fixing(words, reporter, program).run(lambda: states.pop(0))
    return result, program.lines, reporter


def test_one_change_after_the_recovery_and_doctor_is_asked_again():
    result, run, reporter = fix([], [ILL, ILL, WELL])
    assert run == LINES
    undo = ["safe-install undo txn-2", "safe-install undo txn-1"]
    assert (result.outcome, result.transaction) == (Outcome.HEALTHY, "txn-2")
    assert result.details["undo"] == undo
    told = text._result_lines(result)
    assert told[-3:] == ["Undo with, in this order:", *(f"  {line}" for line in undo)]
    assert reporter.notes == [
        "not put right by an install: the driver is too old",
        "would run: safe-install recover",
        "would remove: beta",
        "would install: torch==2.13.0",
    ]


def test_what_takes_it_back_is_not_kept_from_it_by_what_was_broken():
    broken = Finding("import-failed", Severity.ERROR, "torch", "torch fails")
    ill = dataclasses.replace(ILL, findings=(MISSING, broken), details={**ILL.details})
    ill.details["mends"] = {**MENDS, "recovers": False}
    result, _, _ = fix([], [ill, WELL])
    assert result.details["undo"] == ["safe-install undo --no-rollback txn-1"]
    told = text._result_lines(result)
    assert told[-1] == "Undo with: safe-install undo --no-rollback txn-1"


def test_what_is_no_better_is_taken_back_newest_first():
    result, run, reporter = fix([], [ILL, ILL, ILL])
    assert run == [
        *LINES,
        ["undo", "--force", "--no-rollback", "txn-2"],
        ["undo", "--force", "--no-rollback", "txn-1"],
    ]
    assert (result.outcome, result.exit_status, result.transaction) == (Outcome.UNHEALTHY, 1, None)
    assert reporter.warnings == ["it is no better than before: what was changed is taken back"]


def test_what_recover_made_is_taken_back_too():
    class Recovering(Program):
        def __call__(self, words, mending=None):
            result = super().__call__(words, mending)
            if words[0] != "recover":
                return result
            rows = [{"transaction": name} for name in ("txn-a", None, "txn-b")]
            return dataclasses.replace(result, transaction=None, details={"leftovers": rows})

    _, run, _ = fix([], [ILL, ILL, ILL], program=Recovering())
    assert [words[-1] for words in run[2:]] == ["txn-2", "txn-b", "txn-a"]


@pytest.mark.parametrize("error", [Refused("no"), KeyboardInterrupt()])
def test_a_line_that_is_refused_or_cut_short_takes_the_earlier_ones_back(error):
    program, reporter = Program(install=error), Listener()
    with pytest.raises(type(error)):
        fix([], [ILL, ILL, ILL], program=program, reporter=reporter)
    assert program.lines == [*LINES, ["undo", "--force", "--no-rollback", "txn-1"]]
    assert reporter.made is None
    assert reporter.warnings == ["--fix did not come to its end: what was changed is taken back"]


def test_a_second_look_that_is_cut_short_takes_all_back():
    program = Program()
    states = [ILL, ILL]

    def examine():
        if not states:
            raise KeyboardInterrupt
        return states.pop()

    words = parse_command_line(["doctor", "--fix"]).words
    with pytest.raises(KeyboardInterrupt):
        Fixing(words, Listener(), program).run(examine)
    assert [words[-1] for words in program.lines[2:]] == ["txn-2", "txn-1"]


def test_a_taking_back_that_is_cut_short_says_what_is_left():
    program, reporter = Program(undo=KeyboardInterrupt()), Listener()
    with pytest.raises(KeyboardInterrupt):
        fix([], [ILL, ILL], program=program, reporter=reporter)
    assert reporter.made == "txn-2"
    assert reporter.warnings[1] == (
        "not all of it was taken back; in this order: safe-install undo --force --no-rollback txn-2; "
        "safe-install undo --force --no-rollback txn-1"
    )


def with_mends(**changes):
    mends = {**NOTHING, **changes}
    return dataclasses.replace(ILL, details={**ILL.details, "mends": mends})


def test_what_came_back_with_the_recovery_does_not_come_again():
    result, run, _ = fix([], [ILL, WELL_AGAIN])
    assert run == [["recover"]]
    assert result.details["undo"] == ["safe-install undo txn-1"]


def test_what_was_not_shown_is_not_carried_out():
    now = with_mends(removed=["gamma"], installed=["torch==2.13.0", "alpha"])
    _, run, _ = fix([], [ILL, now, WELL])
    assert run == [["recover"], [*INSTALL, "torch==2.13.0", "less"]]


def test_what_only_goes_is_uninstalled():
    result, run, _ = fix([], [with_mends(removed=["beta"]), WELL])
    assert run == [["uninstall", "-y", "beta"]]
    assert result.details["undo"] == ["safe-install undo txn-1"]


def test_a_dry_run_runs_nothing():
    result, run, _ = fix(["--dry-run"], [ILL])
    assert (result, run) == (ILL, [])


def test_nothing_to_carry_out():
    nothing = dataclasses.replace(ILL, details={"mends": NOTHING, "outside": []})
    result, run, reporter = fix([], [nothing])
    assert (result, run) == (nothing, [])
    assert reporter.notes == ["there is nothing here that --fix could carry out"]


@pytest.mark.parametrize(
    ("answer", "argv", "runs", "asks"),
    [
        ("", [], True, True),
        ("y", [], True, True),
        (" Yes ", [], True, True),
        (None, [], True, True),
        ("n", [], False, True),
        ("what", [], False, True),
        ("n", ["--yes"], True, False),
        ("n", ["-y"], True, False),
    ],
)
def test_a_person_is_asked(answer, argv, runs, asks, monkeypatch):
    monkeypatch.setattr(fixing.sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    _, run, reporter = fix(argv, [ILL, ILL, WELL], reporter=Listener(answer))
    assert bool(run) is runs
    assert bool(reporter.questions) is asks


def test_without_a_terminal_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(fixing.sys, "stdin", None)
    _, run, reporter = fix([], [ILL, ILL, WELL], reporter=Listener("n"))
    assert run == LINES
    assert reporter.questions == []


@pytest.mark.parametrize("states", [[2], [ILL, 2], [ILL, ILL, 2]])
def test_a_status_of_somebody_else_is_handed_on(states):
    result, _, _ = fix([], states)
    assert result == 2

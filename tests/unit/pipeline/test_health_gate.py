"""How a change ends; what is said of a CUDA torch that could not be asked for CUDA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safe_install.environment.stamp import Stamp
from safe_install.errors import Interrupted, Refused
from safe_install.events import Reporter
from safe_install.models import (
    Action,
    Driver,
    Finding,
    HealthReport,
    ImportResult,
    Origin,
    Outcome,
    Severity,
    Step,
)
from safe_install.pipeline.health_gate import (
    Decision,
    Expectation,
    apply_and_verify,
    check_target,
    decide,
    summarize,
)
from safe_install.ports import Timings, World
from tests.factories import make_environment, make_health, planned_torch

CUDA, CPU = (
    planned_torch("2.14.1+cu130", "linux_x86_64"),
    planned_torch("2.14.1+cpu", "linux_x86_64"),
)
HERE, DECLARED = Driver("580.65.06", "13.0"), Driver("535.104", "12.2", declared=True)
FAILED = {"torch": ImportResult(False, error="ImportError: libcudart.so.13")}
WORKED = {"torch": ImportResult(True)}


def health(imports=WORKED, **fields):
    return HealthReport(torch_version="2.14.1+cu130", torch_cuda="13.0", imports=imports, **fields)


@pytest.mark.parametrize(
    ("torch", "driver", "after", "reason"),
    [
        (CUDA, None, health(), "there is no driver here"),
        (CUDA, DECLARED, health(), "there is no driver here"),
        (CUDA, HERE, health(), "driver 580.65.06 is here, but its libcuda.so.1 is not"),
        (CUDA, None, health(FAILED), "it cannot be imported (there is no driver here)"),
        (CUDA, HERE, health(FAILED), "it cannot be imported (driver 580.65.06 is here)"),
        (
            CUDA,
            HERE,
            health({}, crashed="signal SIGSEGV"),
            "the check did not end (driver 580.65.06 is here)",
        ),
        (
            CUDA,
            Driver(None, None, problem="NVML error 999"),
            health(FAILED),
            "it cannot be imported (a driver is here)",
        ),
        (CUDA, None, health(cuda_available=True), None),
        (CUDA, HERE, health(cuda_available=False), None),
        (CPU, None, HealthReport(torch_version="2.14.1+cpu", imports=WORKED), None),
        (None, None, HealthReport(), None),
    ],
)
def test_why_cuda_was_not_asked(torch, driver, after, reason):
    found = check_target(torch, driver, after)
    assert [(one.check, one.severity) for one in found] == (
        [("cuda-not-asked", Severity.NOTE)] if reason else []
    )
    if reason:
        assert found[0].detail == (
            f"torch 2.14.1+cu130 is a CUDA build, and {reason}: CUDA and the GPU code of the "
            "extensions were not tried"
        )


def test_the_torch_that_is_there_now_is_the_one_that_is_told_of():
    after = HealthReport(torch_version="2.14.1+cu126", torch_cuda="12.6", imports=WORKED)
    for before in (CUDA, CPU, None):
        (found,) = check_target(before, DECLARED, after)
        assert found.detail.startswith("torch 2.14.1+cu126 is a CUDA build")
    now_cpu = HealthReport(torch_version="2.14.1+cpu", imports=WORKED)
    assert not check_target(CUDA, DECLARED, now_cpu)
    (found,) = check_target(CUDA, None, HealthReport(imports=FAILED))
    assert found.detail.startswith("torch 2.14.1+cu130 is a CUDA build, and it cannot be imported")


# --- what is done with a change -------------------------------------------------------------------

EMPTY = Stamp()
ERROR = Finding("import-failed", Severity.ERROR, "torch", "torch does not import")
WARNING = Finding("changed-meanwhile", Severity.WARNING, "environment", "changed: x.py")
INTRUDED = Finding("changed-meanwhile", Severity.ERROR, "environment", "changed: torch/__init__.py")


@pytest.mark.parametrize(
    ("findings", "changed_meanwhile", "asked", "no_rollback", "expected"),
    [
        ([], [], "loader", False, Decision.KEEP),
        ([WARNING], [WARNING], "import", False, Decision.KEEP),
        ([ERROR], [], "loader", False, Decision.SETTLE),
        ([ERROR], [], "import", False, Decision.ROLL_BACK),
        ([], [INTRUDED], "loader", False, Decision.ROLL_BACK),
        # what the check itself changed cannot be settled by asking the old files again
        ([ERROR], [INTRUDED], "loader", False, Decision.ROLL_BACK),
        ([ERROR], [WARNING], "loader", False, Decision.SETTLE),
        ([ERROR], [], "loader", True, Decision.KEEP),
        ([ERROR], [INTRUDED], "import", True, Decision.KEEP),
    ],
)
def test_what_findings_mean_for_a_change(findings, changed_meanwhile, asked, no_rollback, expected):
    assert (
        decide(findings, changed_meanwhile, asked_before=asked, no_rollback=no_rollback) is expected
    )


class FakeTransaction:
    """Remembers what was done, in its order. A signal comes while the check after runs, where
    `signal` says so."""

    id, warning, pending_signal = "20260101T000000Z-abcd", "", None

    def __init__(self):
        self.done = []

    def moves_any(self, files):
        return False

    touches_torch = False

    def touches(self, folder):
        return self.touches_torch

    def swap(self):
        self.done.append("swap")

    def swap_again(self):
        self.done.append("swap again")

    def roll_back(self):
        self.done.append("roll back")

    def commit(self, summary):
        self.done.append("commit")


class FakeChecks:
    """The environment before and after."""

    def __init__(self, before, after, *, full=None, changed=(), stamps=(EMPTY, EMPTY), left=()):
        self.environment = make_environment(torch="2.13.0+cpu")
        self._before, self._after, self._full = before, after, full
        self._changed, self._stamps = [changed, left], list(stamps)
        self.looks = []

    def report(self):
        return self._before

    def full_report(self, on_tick=None):
        return self._full

    def report_after(self, subjects, *, kept, torch_may_change, on_tick=None):
        on_tick()
        return self._after

    def changed_paths(self, *, in_torch=True):
        self.looks.append(("in torch", in_torch))
        return self._changed.pop(0)

    def stamp_now(self, *, torch_stays=False):
        self.looks.append(("torch stays", torch_stays))
        return self._stamps.pop(0)


GOOD = make_health(torch="2.13.0+cpu", cuda=None, available=False, devices=0)
LIGHT = replace(GOOD, asked="loader")
BAD = replace(GOOD, imports={"torch": ImportResult(False, error="OSError: libtorch.so")})
FOREIGN = {"/env/lib/python3.11/site-packages/other.py": (1, 2)}
TORCH_FILE = {"/env/lib/python3.11/site-packages/torch/version.py": (1, 2)}


def pass_gate(checks, *, touches_torch=False, **expectation):
    transaction = FakeTransaction()
    transaction.touches_torch = touches_torch
    verdict = apply_and_verify(
        transaction,
        checks,
        (),
        expectation=Expectation(**expectation),
        summary={"command": [], "steps": []},
        timings=Timings(),
        world=World({}, Reporter(), Path("/cache")),
    )
    return (
        transaction.done,
        verdict.outcome,
        verdict.exit_status,
        [one.check for one in verdict.findings],
    )


@pytest.mark.parametrize(
    ("checks", "expectation", "done", "outcome", "status", "found"),
    [
        (FakeChecks(GOOD, GOOD), {}, ["swap", "commit"], Outcome.INSTALLED, 0, []),
        (FakeChecks(LIGHT, GOOD), {}, ["swap", "commit"], Outcome.INSTALLED, 0, []),
        (
            FakeChecks(GOOD, BAD),
            {},
            ["swap", "roll back"],
            Outcome.ROLLED_BACK,
            12,
            ["import-failed"],
        ),
        # the light check did not ask: the old environment is asked in full
        (
            FakeChecks(LIGHT, BAD, full=GOOD),
            {},
            ["swap", "roll back"],
            Outcome.ROLLED_BACK,
            12,
            ["import-failed"],
        ),
        (
            FakeChecks(LIGHT, BAD, full=BAD),
            {},
            ["swap", "roll back", "swap again", "commit"],
            Outcome.INSTALLED,
            0,
            ["import-failed"],  # a warning: it did not import before either
        ),
        (
            FakeChecks(GOOD, BAD),
            {"no_rollback": True},
            ["swap", "commit"],
            Outcome.UNHEALTHY,
            12,
            ["import-failed"],
        ),
        # the check, or somebody else, changed the environment
        (
            FakeChecks(GOOD, GOOD, stamps=(EMPTY, Stamp(FOREIGN))),
            {},
            ["swap", "commit"],
            Outcome.INSTALLED,
            0,
            ["changed-meanwhile"],
        ),
        (
            FakeChecks(GOOD, GOOD, stamps=(Stamp(FOREIGN), EMPTY)),
            {},
            ["swap", "roll back"],
            Outcome.ROLLED_BACK,
            12,
            ["changed-meanwhile"],
        ),
        (
            FakeChecks(LIGHT, BAD, stamps=(EMPTY, Stamp(TORCH_FILE)), left=tuple(TORCH_FILE)),
            {},
            ["swap", "roll back"],
            Outcome.ROLLED_BACK,
            12,
            ["import-failed", "changed-meanwhile", "left-changed"],
        ),
        (
            FakeChecks(GOOD, GOOD, stamps=(EMPTY, Stamp(TORCH_FILE))),
            {"no_rollback": True},
            ["swap", "commit"],
            Outcome.UNHEALTHY,
            12,
            ["changed-meanwhile"],
        ),
        (
            FakeChecks(GOOD, GOOD),
            {"require_cuda": True},
            ["swap", "roll back"],
            Outcome.ROLLED_BACK,
            12,
            ["cuda-required"],
        ),
    ],
)
def test_how_a_change_ends(checks, expectation, done, outcome, status, found):
    assert pass_gate(checks, **expectation) == (done, outcome, status, found)


def test_what_changed_before_the_swap_is_refused():
    transaction = FakeTransaction()
    checks = FakeChecks(GOOD, GOOD, changed=("/env/lib/python3.11/site-packages/torch/version.py",))
    with pytest.raises(Refused, match="something else changed the environment"):
        apply_and_verify(
            transaction,
            checks,
            (),
            expectation=Expectation(),
            summary={"command": [], "steps": []},
            timings=Timings(),
            world=World({}, Reporter(), Path("/cache")),
        )
    assert transaction.done == []


def test_a_signal_during_the_check_ends_it():
    """Leaving the transaction rolls it back."""
    transaction = FakeTransaction()
    transaction.pending_signal = 15
    with pytest.raises(Interrupted) as raised:
        apply_and_verify(
            transaction,
            FakeChecks(GOOD, GOOD),
            (),
            expectation=Expectation(),
            summary={"command": [], "steps": []},
            timings=Timings(),
            world=World({}, Reporter(), Path("/cache")),
        )
    assert raised.value.exit_status == 143
    assert transaction.done == ["swap"]


@pytest.mark.parametrize(
    ("touches_torch", "built", "looks"),
    [
        # the files of torch as they were at first, and after the check: nothing comes between
        (False, (), [("in torch", False), ("torch stays", True), ("torch stays", False)]),
        # code of others ran: what it did to torch is refused before the change
        (False, ("x",), [("in torch", True), ("torch stays", True), ("torch stays", False)]),
        (True, (), [("in torch", True), ("torch stays", False), ("torch stays", False)]),
    ],
)
def test_when_the_files_of_torch_are_looked_at(touches_torch, built, looks):
    checks = FakeChecks(GOOD, GOOD)
    pass_gate(checks, touches_torch=touches_torch, built=built)
    assert checks.looks == looks


INDEX_URL = "https://files.pythonhosted.org/a.whl"


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, {"kind": "wheel", "url": INDEX_URL, "direct": False, "listed": True}),
        ({"is_direct": True}, {"direct": True, "listed": False}),
        ({"is_hosted": True, "records_address": True}, {"direct": True, "listed": False}),
        ({"is_hosted": True}, {"direct": False, "listed": False}),
        ({"url": "file:///a.whl"}, {"direct": False, "listed": False}),
        ({"url": "https://me:secret@h/a.whl"}, {"url": "https://****@h/a.whl"}),
        ({"origin": Origin.SDIST}, {"kind": "sdist", "sha256": "5" * 64, "size": None}),
    ],
)
def test_the_history_keeps_where_a_file_came_from(fields, kept):
    values = {"url": INDEX_URL, "sha256": "5" * 64, **fields}
    (row,) = summarize([Step(Action.ADD, "a", "1.0", **values)], ["install"])["steps"]
    assert {key: row[key] for key in kept} == kept
    assert row["name"] == "a"


def test_of_what_goes_the_history_keeps_no_address():
    (row,) = summarize([Step(Action.REMOVE, "a", None, "1.0")], ["uninstall"])["steps"]
    assert set(row) == {"action", "name", "version", "from_version"}

"""`safe-install recover`: finishes or undoes what was killed, and repairs what an interrupted pip
left."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import Refused
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    InstallResult,
    Interpreter,
    Outcome,
    Step,
)
from safe_install.models import Action as StepAction
from safe_install.pipeline.baseline import BaselineCheck
from safe_install.pipeline.health_gate import Expectation, apply_and_verify, summarize
from safe_install.pipeline.session import probe_named, progress_task, read_again
from safe_install.ports import Timings, World
from safe_install.torch_family import TORCH
from safe_install.transaction import staged, swap, unfinished
from safe_install.transaction.leftover_files import find_moved, lay_out, read_leftovers
from safe_install.transaction.leftovers import LeftoverAction, LeftoverDecision, decide
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.place import make_areas


def recover(
    world: World,
    *,
    python: Optional[str],
    user: bool = False,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Finish or undo what a killed run of ours left, then repair what an interrupted pip left, as
    far as that is certain."""
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    with lock_environment(prefix):
        dropped = staged.settle(prefix)
        recovered = unfinished.recover(prefix)
        environment_now = environment if not recovered else probe_named(world, python, user=user)
        repaired = _repair(environment_now, world, check_timeout)
    lines = [f"{item.transaction}: {item.what}: {item.detail}" for item in recovered]
    lines += [f"{change.id}: removed: {change.detail}" for change in dropped]
    lines += _repair_lines(repaired)
    rolled_back = any(one.rolled_back for one in repaired)
    rows = [
        {"transaction": item.transaction, "what": item.what, "detail": item.detail}
        for item in recovered
    ]
    return InstallResult(
        "recover",
        Outcome.ROLLED_BACK if rolled_back else Outcome.RECOVERED,
        12 if rolled_back else 0,
        environment,
        findings=tuple(finding for one in repaired for finding in one.findings),
        message="\n".join(lines) or "Nothing to recover.",
        details={
            "recovered": rows,
            "expired": [change.id for change in dropped],
            "leftovers": list(map(_Repaired.document, repaired)),
        },
    )


@dataclass(frozen=True)
class _Repaired:
    """The decision about a distribution's leftovers, and its result."""

    decision: LeftoverDecision
    transaction: Optional[str] = None
    rolled_back: bool = False
    findings: Tuple[Finding, ...] = ()

    @property
    def what(self) -> str:
        return "rolled-back" if self.rolled_back else self.decision.action.value

    def lines(self) -> List[str]:
        """The text output."""
        subject = self.decision.distribution or ", ".join(
            Path(path).name for path in self.decision.paths
        )
        lines = [
            f"{subject}: {self.what}: {self.decision.reason}",
            *(f"  {path}" for path in self.decision.paths),
        ]
        if self.decision.hint:
            lines.append(f"  {self.decision.hint}")
        return lines

    def document(self) -> Dict[str, object]:
        """The JSON output."""
        return {
            "what": self.what,
            "distribution": self.decision.distribution or None,
            "paths": list(self.decision.paths),
            "reason": self.decision.reason,
            "hint": self.decision.hint,
            "transaction": self.transaction,
        }


def _repair_lines(repaired: Sequence[_Repaired]) -> List[str]:
    """What was put right as lines of text, and how to take it back."""
    lines = [line for one in repaired for line in one.lines()]
    changes = dict.fromkeys(one.transaction for one in repaired if one.transaction)
    return lines + [f"To take that back: safe-install undo {change}" for change in changes]


def _repair(
    environment: Environment, world: World, check_timeout: Optional[float]
) -> List[_Repaired]:
    """Repair everything that is certain, in one change."""
    areas = make_areas(environment.interpreter.prefix, environment.interpreter.scheme)
    with progress_task("look for what an interrupted pip left", world):
        decisions = decide(*read_leftovers(areas))
    certain = [one for one in decisions if one.action is not LeftoverAction.REPORT]
    repaired = [_Repaired(one) for one in decisions if one.action is LeftoverAction.REPORT]
    if not certain:
        return repaired
    together = _apply_or_report(certain, environment, world, check_timeout)
    if len(certain) == 1 or all(one.transaction for one in together):
        return repaired + together
    # If the common change is refused, each repair is tried separately.
    for decision in certain:
        environment = read_again(environment)
        repaired += _apply_or_report([decision], environment, world, check_timeout)
    return repaired


def _apply_or_report(
    decisions: Sequence[LeftoverDecision],
    environment: Environment,
    world: World,
    check_timeout: Optional[float],
) -> List[_Repaired]:
    """Apply the decisions. A refused change is reported with its reason."""
    try:
        return _apply(decisions, environment, world, check_timeout)
    except Refused as error:
        return [_report(decision, error) for decision in decisions]


def _report(decision: LeftoverDecision, error: Refused) -> _Repaired:
    reason = f"{decision.reason}; but {error.message}"
    reported = dataclasses.replace(
        decision, action=LeftoverAction.REPORT, reason=reason, hint=error.hint
    )
    return _Repaired(reported)


def _make_steps(decision: LeftoverDecision) -> List[Step]:
    """The steps for the history."""
    if not decision.recorded:  # folders, and no distribution: they have no version
        folders = NormalizedName(", ".join(Path(path).name for path in decision.paths))
        return [Step(StepAction.REMOVE, folders, None, because="left over")]
    return [
        Step(StepAction.ADD, canonicalize_name(one.name), one.version, because="put back")
        for one in decision.recorded
    ]


def _find_moved(decisions: Sequence[LeftoverDecision], interpreter: Interpreter) -> Set[str]:
    """The paths that go, or trade places with what is put back."""
    areas = make_areas(interpreter.prefix, interpreter.scheme)
    return {path for decision in decisions for path in find_moved(decision, areas)}


def _apply(
    decisions: Sequence[LeftoverDecision],
    environment: Environment,
    world: World,
    check_timeout: Optional[float],
) -> List[_Repaired]:
    """Apply the decisions in one transaction, checked in a fresh process and undoable. Errors:
    Refused."""
    interpreter = environment.interpreter
    put_back = [one for decision in decisions for one in decision.recorded]
    names = {canonicalize_name(one.name) for one in put_back}
    kept = [found for name, found in sorted(environment.installed.items()) if name not in names]
    steps = [step for decision in decisions for step in _make_steps(decision)]
    with swap.begin(
        interpreter.prefix, command=world.command, scheme=interpreter.scheme
    ) as transaction:
        for one in put_back:
            lay_out(one, transaction.stage)
        transaction.plan_paths(_find_moved(decisions, interpreter), keep=kept)
        before = BaselineCheck(environment, check_timeout=check_timeout)
        judged = apply_and_verify(
            transaction,
            before,
            before.subjects,
            expectation=Expectation(torch_requested=TORCH in names),
            summary=summarize(steps, world.command),
            timings=Timings(),
            world=world,
            outcome=Outcome.RECOVERED,
        )
    is_rolled_back = judged.outcome is Outcome.ROLLED_BACK
    change = None if is_rolled_back else transaction.id
    # What the check found is told once, however many leftovers it was about.
    first = _Repaired(decisions[0], change, is_rolled_back, judged.findings)
    return [first, *(_Repaired(one, change, is_rolled_back) for one in decisions[1:])]

"""`history`, `undo` and `recover`: past transactions, one of them taken back, a killed one finished or undone."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.driver import read_driver
from safe_install.environment.interpreter import find_interpreter, read_environment
from safe_install.errors import Refused
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    InstallResult,
    Outcome,
    Plan,
    Severity,
    Step,
)
from safe_install.models import Action as StepAction
from safe_install.pipeline.health_gate import (
    Before,
    Expectation,
    at,
    carry_out,
    installed_subjects,
    read_again,
    shown,
    summarize,
    user_environment,
)
from safe_install.ports import Timings, World
from safe_install.resolve.plan import newly_unmet
from safe_install.torch_family import TORCH
from safe_install.transaction import history, swap
from safe_install.transaction.leftover_files import find_moved, lay_out, read_leftovers
from safe_install.transaction.leftovers import Action, Verdict, decide


def list_history(world: World, *, python: Optional[str], user: bool = False, prune: bool, keep: int) -> InstallResult:
    """Past transactions, newest first, with the space that their undo takes. `prune` lets the oldest go."""
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    lines: List[str] = []
    if prune:
        with swap.lock_environment(prefix):
            for pruned in history.prune(prefix, keep=keep):
                if pruned.problem:
                    world.reporter.warn(f"{pruned.id} could not be removed: {pruned.problem}")
                else:
                    lines.append(f"removed {pruned.id} ({_megabytes(pruned.size)})")
    entries = []
    for entry in history.read_history(prefix):
        size = history.measure(prefix, entry.id)
        entries.append(
            {
                "id": entry.id,
                "command": list(entry.command),
                "steps": entry.summary.get("steps", []),
                "bytes": size,
                "undoes": entry.undoes,
                "undone_by": entry.undone_by,
                "problem": entry.problem,
            }
        )
        state = f"undoes {entry.undoes}" if entry.undoes else f"undone by {entry.undone_by}" if entry.undone_by else ""
        when = datetime.datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")
        lines.append(f"{entry.id}  {when}  {_megabytes(size):>9}  {_changes(entry.summary)}  {state}".rstrip())
    message = "\n".join(lines) or f"No transactions in {prefix}."
    return InstallResult("history", Outcome.LISTED, 0, environment, message=message, details={"history": entries})


def undo(
    world: World,
    *,
    python: Optional[str],
    user: bool = False,
    transaction_id: Optional[str],
    no_rollback: bool,
    force: bool = False,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Take one transaction back; verified and journalled as an install is.

    Errors: Refused where something that was installed later needs what would go, unless `force`.
    """
    timings = Timings()
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    with at(environment), swap.lock_environment(prefix):
        if swap.recover(prefix):
            environment = _probe(world, python, user=user)
        owners = swap.make_ownership(environment.installed.values(), prefix, environment.interpreter.scheme)
        with history.begin_undo(
            prefix, transaction_id, command=world.command, find_owner=owners.find_owner
        ) as transaction:
            entry = _undone_entry(prefix, transaction_id)
            plan = Plan(steps=_reverse_steps(entry.summary))
            needed = find_needed(plan, environment, since=entry.created)
            if needed and not force:
                raise Refused(
                    f"{entry.id} cannot be undone: after this {needed[0]}",
                    hint="Undo what was installed later first, or --force.",
                    findings=_unmet(needed, Severity.ERROR),
                )
            before = Before(environment, check_timeout=check_timeout)
            touched = {step.name for step in plan.steps}
            subjects = tuple(
                subject for subject in installed_subjects(environment) if not _is_removed(plan, subject.name)
            )
            expectation = Expectation(
                torch_requested=TORCH in touched,
                cuda_loss_requested=False,
                # The state before is what was asked for, its unmet requirements included.
                no_rollback=no_rollback,
            )
            verdict = carry_out(
                transaction,
                before,
                subjects,
                expectation=expectation,
                summary={**summarize(plan.steps, world.command), "undoes": entry.id},
                timings=timings,
                world=world,
            )
    done = verdict.outcome is Outcome.INSTALLED
    return InstallResult(
        "undo",
        Outcome.UNDONE if done else verdict.outcome,
        verdict.exit_status,
        environment,
        plan,
        verdict.before,
        verdict.after,
        (*verdict.findings, *(_unmet(needed, Severity.WARNING) if done else ())),
        transaction.id if done else None,
        timings.total(),
        message=f"Undone: {entry.id} ({_changes(entry.summary)})." if done else "",
    )


def _unmet(texts: Sequence[str], severity: Severity) -> List[Finding]:
    return [Finding("requirement-unmet", severity, text.split()[0], text) for text in texts]


def _undone_entry(prefix: Path, transaction_id: Optional[str]) -> history.HistoryEntry:
    entries = history.read_history(prefix)
    if transaction_id is not None:
        return next(entry for entry in entries if entry.id == transaction_id)
    return next(entry for entry in entries if entry.undone_by is None and entry.undoes is None)


def find_needed(plan: Plan, environment: Environment, *, since: float) -> Tuple[str, ...]:
    """The requirements that an undo would break, of distributions that came after `since` (seconds of the epoch).

    What was there before the change was content, or not, with what the undo brings back.
    """
    return tuple(text for text in newly_unmet(plan, environment) if _came_after(environment, text.split()[0], since))


def _came_after(environment: Environment, name: str, since: float) -> bool:
    # The inode's own time: uv links files whose other times are those of its cache.
    try:
        return environment.installed[canonicalize_name(name)].metadata_path.stat().st_ctime > since
    except OSError:
        return True


def _reverse_steps(summary: Any) -> Tuple[Step, ...]:
    steps = []
    for row in summary.get("steps", []):
        old, new = row["from_version"], row["version"]
        action = StepAction.REMOVE if old is None else StepAction.ADD if new is None else StepAction.REPLACE
        steps.append(Step(action, canonicalize_name(row["name"]), version=old, from_version=new, because="undo"))
    return tuple(steps)


def _is_removed(plan: Plan, name: str) -> bool:
    return any(step.name == name and step.action is StepAction.REMOVE for step in plan.steps)


def recover(
    world: World,
    *,
    python: Optional[str],
    user: bool = False,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Finish or undo what a killed run of ours left, then put right what an interrupted pip left, as far as it is
    certain."""
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    with swap.lock_environment(prefix):
        recovered = swap.recover(prefix)
        environment_now = environment if not recovered else _probe(world, python, user=user)
        repaired = _repair(environment_now, world, check_timeout)
    lines = [f"{item.transaction}: {item.what}: {item.detail}" for item in recovered]
    lines += [line for one in repaired for line in one.lines()]
    rolled_back = any(one.rolled_back for one in repaired)
    return InstallResult(
        "recover",
        Outcome.ROLLED_BACK if rolled_back else Outcome.RECOVERED,
        12 if rolled_back else 0,
        environment,
        findings=tuple(finding for one in repaired for finding in one.findings),
        message="\n".join(lines) or "Nothing to recover.",
        details={
            "recovered": [
                {"transaction": item.transaction, "what": item.what, "detail": item.detail} for item in recovered
            ],
            "leftovers": [one.document() for one in repaired],
        },
    )


@dataclass(frozen=True)
class _Repaired:
    """What was decided about the leftovers of one distribution, and what came of it."""

    verdict: Verdict
    transaction: Optional[str] = None
    rolled_back: bool = False
    findings: Tuple[Finding, ...] = ()

    @property
    def what(self) -> str:
        return "rolled-back" if self.rolled_back else self.verdict.action.value

    def lines(self) -> List[str]:
        """For people."""
        subject = self.verdict.distribution or ", ".join(Path(path).name for path in self.verdict.paths)
        lines = [f"{subject}: {self.what}: {self.verdict.reason}", *(f"  {path}" for path in self.verdict.paths)]
        if self.verdict.hint:
            lines.append(f"  {self.verdict.hint}")
        return [*lines, f"  To take that back: safe-install undo {self.transaction}"] if self.transaction else lines

    def document(self) -> Dict[str, Any]:
        """For programs."""
        return {
            "what": self.what,
            "distribution": self.verdict.distribution or None,
            "paths": list(self.verdict.paths),
            "reason": self.verdict.reason,
            "hint": self.verdict.hint,
            "transaction": self.transaction,
        }


def _repair(environment: Environment, world: World, check_timeout: Optional[float]) -> List[_Repaired]:
    areas = swap.make_areas(environment.interpreter.prefix, environment.interpreter.scheme)
    with shown("look for what an interrupted pip left", world):
        verdicts = decide(*read_leftovers(areas))
    repaired = []
    for verdict in verdicts:
        if verdict.action is Action.TELL:
            repaired.append(_Repaired(verdict))
            continue
        try:
            repaired.append(_carry_out(verdict, environment, world, check_timeout))
        except Refused as error:
            reason = f"{verdict.reason}; but {error.message}"
            told = dataclasses.replace(verdict, action=Action.TELL, reason=reason, hint=error.hint)
            repaired.append(_Repaired(told))
        environment = read_again(environment)
    return repaired


def _carry_out(verdict: Verdict, environment: Environment, world: World, check_timeout: Optional[float]) -> _Repaired:
    """One transaction: checked in a fresh process, to be undone like any other."""
    interpreter = environment.interpreter
    put_back = {canonicalize_name(one.name): one.version for one in verdict.recorded}
    kept = [found for name, found in sorted(environment.installed.items()) if name not in put_back]
    steps = [Step(StepAction.ADD, name, version, because="put back") for name, version in put_back.items()]
    if not steps:  # folders, and no distribution: they have no version
        folders = NormalizedName(", ".join(Path(path).name for path in verdict.paths))
        steps = [Step(StepAction.REMOVE, folders, None, because="left over")]
    with swap.begin(interpreter.prefix, command=world.command, scheme=interpreter.scheme) as transaction:
        for one in verdict.recorded:
            lay_out(one, transaction.stage)
        areas = swap.make_areas(interpreter.prefix, interpreter.scheme)
        transaction.plan_paths(find_moved(verdict, areas), keep=kept)
        judged = carry_out(
            transaction,
            Before(environment, check_timeout=check_timeout),
            installed_subjects(environment),
            expectation=Expectation(torch_requested=TORCH in put_back),
            summary=summarize(steps, world.command),
            timings=Timings(),
            world=world,
        )
    rolled_back = judged.outcome is Outcome.ROLLED_BACK
    return _Repaired(verdict, None if rolled_back else transaction.id, rolled_back, judged.findings)


def _probe(world: World, python: Optional[str], *, user: bool) -> Environment:
    environment = read_environment(find_interpreter(python, world.environ), read_driver())
    return user_environment(environment) if user else environment


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _changes(summary: Any) -> str:
    parts = []
    for row in summary.get("steps", []):
        sign = {"add": "+", "remove": "-", "replace": "~"}.get(row["action"], "?")
        parts.append(f"{sign}{row['name']} {row['version'] or row['from_version'] or ''}".rstrip())
    return ", ".join(parts) or "(no steps)"

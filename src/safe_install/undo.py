"""`history`, `undo` and `recover`: past transactions, one of them taken back, a killed one finished or undone."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from packaging.utils import canonicalize_name

from safe_install.environment.driver import read_driver
from safe_install.environment.interpreter import find_interpreter, read_environment
from safe_install.guard import Before, Expectation, carry_out, installed_subjects, summarize, user_environment
from safe_install.models import Action, Environment, InstallResult, Outcome, Plan, Step
from safe_install.ports import Timings, World
from safe_install.resolve.plan import TORCH
from safe_install.transaction import history, swap


def list_history(world: World, *, python: Optional[str], user: bool = False, prune: bool, keep: int) -> InstallResult:
    """Past transactions, newest first, with the space that their undo takes. `prune` lets the oldest go."""
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    lines: List[str] = []
    if prune:
        with swap.lock_environment(prefix):
            for pruned in history.prune(prefix, keep=keep):
                lines.append(f"removed {pruned.id} ({_megabytes(pruned.size)})")
                if pruned.problem:
                    world.reporter.warn(pruned.problem)
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
    world: World, *, python: Optional[str], user: bool = False, transaction_id: Optional[str], no_rollback: bool
) -> InstallResult:
    """Take one transaction back; verified and journalled as an install is."""
    timings = Timings()
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    with swap.lock_environment(prefix):
        if swap.recover(prefix):
            environment = _probe(world, python, user=user)
        with history.begin_undo(prefix, transaction_id, command=world.command) as transaction:
            entry = _undone_entry(prefix, transaction_id)
            plan = Plan(steps=_reverse_steps(entry.summary))
            before = Before(environment)
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
        verdict.findings,
        transaction.id if done else None,
        timings.total(),
        message=f"Undone: {entry.id} ({_changes(entry.summary)})." if done else "",
    )


def _undone_entry(prefix: Path, transaction_id: Optional[str]) -> history.HistoryEntry:
    entries = history.read_history(prefix)
    if transaction_id is not None:
        return next(entry for entry in entries if entry.id == transaction_id)
    return next(entry for entry in entries if entry.undone_by is None and entry.undoes is None)


def _reverse_steps(summary: Any) -> Tuple[Step, ...]:
    steps = []
    for row in summary.get("steps", []):
        old, new = row["from_version"], row["version"]
        action = Action.REMOVE if old is None else Action.ADD if new is None else Action.REPLACE
        steps.append(Step(action, canonicalize_name(row["name"]), version=old, from_version=new, because="undo"))
    return tuple(steps)


def _is_removed(plan: Plan, name: str) -> bool:
    return any(step.name == name and step.action is Action.REMOVE for step in plan.steps)


def recover(world: World, *, python: Optional[str], user: bool = False) -> InstallResult:
    """Finish or undo what a killed run left."""
    environment = _probe(world, python, user=user)
    prefix = environment.interpreter.prefix
    with swap.lock_environment(prefix):
        recovered = swap.recover(prefix)
    lines = [f"{item.transaction}: {item.what}: {item.detail}" for item in recovered]
    details: Dict[str, Any] = {
        "recovered": [{"transaction": item.transaction, "what": item.what, "detail": item.detail} for item in recovered]
    }
    return InstallResult(
        "recover",
        Outcome.RECOVERED,
        0,
        environment,
        message="\n".join(lines) or "Nothing to recover.",
        details=details,
    )


def _probe(world: World, python: Optional[str], *, user: bool) -> Environment:
    environment = read_environment(find_interpreter(python, world.environ), read_driver())
    return user_environment(environment) if user else environment


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _changes(summary: Any) -> str:
    parts = []
    for row in summary.get("steps", []):
        sign = {"add": "+", "remove": "-", "replace": "~"}.get(row["action"], "?")
        parts.append(f"{sign}{row['name']} {row['version'] or row['from_version']}")
    return ", ".join(parts) or "(no steps)"

"""`safe-install undo`: undoes a past transaction, journalled and verified like an install."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import Refused
from safe_install.health.requirements import make_finding
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    InstallResult,
    Outcome,
    Plan,
    Severity,
    Step,
    UnmetRequirement,
)
from safe_install.models import Action as StepAction
from safe_install.pipeline.baseline import BaselineCheck
from safe_install.pipeline.health_gate import (
    Expectation,
    Verdict,
    apply_and_verify,
    make_result,
    summarize,
)
from safe_install.pipeline.session import error_context, lock_and_recover, probe_named
from safe_install.ports import Timings, World
from safe_install.resolve.plan import newly_unmet
from safe_install.torch_family import TORCH
from safe_install.transaction import history
from safe_install.transaction.place import make_ownership
from safe_install.transaction.staged import StagedChange, StagedChanges
from safe_install.transaction.staged_states import GONE, State
from safe_install.transaction.summary import StepRow, describe_changes

if TYPE_CHECKING:
    from safe_install.transaction.swap import Transaction


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
    """Undo one transaction; journalled and verified like an install. A named one of which nothing
    is installed counts as undone.

    Errors: Refused where a later distribution requires what would be removed, unless `force`.
    """
    timings = Timings()
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    with contextlib.ExitStack() as stack:
        stack.enter_context(error_context(environment))
        environment = lock_and_recover(environment, world, stack)
        if transaction_id is not None:
            answer = _answer_again(StagedChanges(prefix).find(transaction_id), environment)
            if answer is not None:
                return answer
        before = BaselineCheck(environment, check_timeout=check_timeout)
        stack.callback(before.stop)
        transaction = stack.enter_context(_begin(environment, transaction_id, world))
        entries = history.read_history(prefix)
        entry = _undone_entry(entries, transaction_id)
        plan = Plan(steps=_reverse_steps(entry.steps))
        needed = find_needed(plan, environment, entry.created, versions_before(entry, entries))
        if needed and not force:
            raise _refuse(entry, needed)
        verdict = _apply(
            transaction, before, entry, plan, no_rollback=no_rollback, timings=timings, world=world
        )
    result = make_result("undo", verdict, transaction, environment, plan, timings)
    if verdict.outcome is Outcome.UNDONE:
        return _with_message(result, entry, needed)
    if verdict.outcome is Outcome.ROLLED_BACK:
        return replace(result, findings=(*result.findings, _note_broken_before(entry)))
    return result


def _note_broken_before(entry: history.HistoryEntry) -> Finding:
    """As after `doctor --fix`: what was mended would be broken again."""
    return Finding(
        "former-state-fails",
        Severity.NOTE,
        "environment",
        f"the state before {entry.id} does not pass the check",
        f"To go back to it all the same: safe-install undo --no-rollback {entry.id}",
    )


def _apply(
    transaction: Transaction,
    before: BaselineCheck,
    entry: history.HistoryEntry,
    plan: Plan,
    *,
    no_rollback: bool,
    timings: Timings,
    world: World,
) -> Verdict:
    """Put the former state back, and check it."""
    if not _is_removed(plan, TORCH):
        before.prepare_report_after(world.environ)
    return apply_and_verify(
        transaction,
        before,
        [subject for subject in before.subjects if not _is_removed(plan, subject.name)],
        # The former state was asked for, including its unmet requirements.
        expectation=_expect(plan, no_rollback=no_rollback),
        summary={**summarize(plan.steps, world.command), "undoes": entry.id},
        timings=timings,
        world=world,
        outcome=Outcome.UNDONE,
    )


def _with_message(
    result: InstallResult, entry: history.HistoryEntry, needed: Sequence[UnmetRequirement]
) -> InstallResult:
    return replace(
        result,
        findings=(*result.findings, *_unmet(needed, Severity.WARNING)),
        message=f"Undone: {entry.id} ({describe_changes(entry.steps)}).",
    )


def _answer_again(change: StagedChange, environment: Environment) -> Optional[InstallResult]:
    """The result for a change of which nothing is installed; None for others. Errors: Refused for
    one that is still to be committed."""
    if change.state is State.STAGED:
        raise Refused(
            f"{change.id} is staged, and nothing of it is in place",
            hint=f"To drop it: safe-install abandon {change.id}",
        )
    if change.state is not State.UNDONE and change.state not in GONE:
        return None
    message = f"Nothing of {change.id} is in place: it is {change.state.value}."
    if change.state is State.UNDONE:
        by = change.undone_by
        message = (
            f"{change.id} was undone already, by {by}.\nTo bring it back: safe-install undo {by}"
        )
    return InstallResult(
        "undo",
        Outcome.ALREADY_SATISFIED,
        0,
        environment,
        message=message,
        details={"id": change.id, "state": change.state.value, "undone_by": change.undone_by},
    )


def _begin(environment: Environment, transaction_id: Optional[str], world: World) -> Transaction:
    """The transaction that undoes the other one."""
    prefix = environment.interpreter.prefix
    owners = make_ownership(environment.installed.values(), prefix, environment.interpreter.scheme)
    return history.begin_undo(
        prefix, transaction_id, command=world.command, find_owner=owners.find_owner
    )


def _expect(plan: Plan, *, no_rollback: bool) -> Expectation:
    """What the undo may do to torch. Where the change installed the first torch, CUDA is lost with
    it."""
    return Expectation(
        torch_requested=plan.find(TORCH) is not None,
        cuda_loss_requested=_is_removed(plan, TORCH),
        no_rollback=no_rollback,
    )


def _refuse(entry: history.HistoryEntry, needed: Sequence[UnmetRequirement]) -> Refused:
    return Refused(
        f"{entry.id} cannot be undone: after this {needed[0]}",
        hint="Undo what was installed later first, or --force.",
        findings=_unmet(needed, Severity.ERROR),
    )


def _unmet(needed: Sequence[UnmetRequirement], severity: Severity) -> List[Finding]:
    return [make_finding(unmet, severity) for unmet in needed]


def _undone_entry(
    entries: Sequence[history.HistoryEntry], transaction_id: Optional[str]
) -> history.HistoryEntry:
    if transaction_id is not None:
        return next(entry for entry in entries if entry.id == transaction_id)
    return next(entry for entry in entries if entry.undone_by is None and entry.undoes is None)


Versions = Mapping[NormalizedName, Optional[str]]


def find_needed(
    plan: Plan, environment: Environment, since: float, before: Versions
) -> Tuple[UnmetRequirement, ...]:
    """The requirements that an undo would break, of distributions that were installed after `since`
    (seconds since the epoch). `before`: as `versions_before` has them.

    Older distributions were there with the versions that the undo restores.
    """
    needed = []
    for unmet in newly_unmet(plan, environment):
        # A copy of the environment, as in an image, has the times of the copy: history comes first.
        was_there = before.get(unmet.name) == unmet.version
        if not was_there and _came_after(environment, unmet.name, since):
            needed.append(unmet)
    return tuple(needed)


def versions_before(
    entry: history.HistoryEntry, entries: Sequence[history.HistoryEntry]
) -> Versions:
    """The versions that the changes before an entry left, as far as they changed something; None
    for what was removed. `entries`: newest first."""
    versions: Dict[NormalizedName, Optional[str]] = {}
    for earlier in entries[entries.index(entry) + 1 :]:
        for row in earlier.steps:
            versions.setdefault(canonicalize_name(row["name"]), row["version"])
    return versions


def _came_after(environment: Environment, name: NormalizedName, since: float) -> bool:
    # ctime: uv hard-links files from its cache, with the cache's other times.
    try:
        return environment.installed[name].metadata_path.stat().st_ctime > since
    except OSError:
        return True


def _reverse_steps(rows: Sequence[StepRow]) -> Tuple[Step, ...]:
    steps = []
    for row in rows:
        old, new = row["from_version"], row["version"]
        action = StepAction.REPLACE
        if old is None:
            action = StepAction.REMOVE
        elif new is None:
            action = StepAction.ADD
        name = canonicalize_name(row["name"])
        steps.append(Step(action, name, version=old, from_version=new, because="undo"))
    return tuple(steps)


def _is_removed(plan: Plan, name: str) -> bool:
    return any(step.name == name and step.action is StepAction.REMOVE for step in plan.steps)

"""`safe-install commit`: puts a staged change in place, verifies it, keeps it or rolls it back."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Optional

from safe_install.environment.stamp import describe_paths
from safe_install.errors import Refused
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    InstallResult,
    Outcome,
    Severity,
)
from safe_install.pipeline.baseline import BaselineCheck
from safe_install.pipeline.commit import Commit
from safe_install.pipeline.health_gate import Verdict, has_errors
from safe_install.pipeline.session import error_context, lock_and_recover, probe_named
from safe_install.pipeline.staged_change import check_id, compare, read_staged
from safe_install.pipeline.staged_document import Misfit, StagedDocument
from safe_install.ports import Timings, World
from safe_install.transaction import staged
from safe_install.transaction.staged import StagedChange, StagedChanges
from safe_install.transaction.staged_states import State


def commit(
    world: World,
    *,
    python: Optional[str],
    user: bool = False,
    identifier: str,
    check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
) -> InstallResult:
    """Put a staged change in place. One with an outcome is not repeated: its outcome is reported
    again.

    Errors: Refused where it does not fit any more, or is not staged; nothing is changed then.
    """
    check_id(identifier)
    timings = Timings()
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    with contextlib.ExitStack() as stack:
        stack.enter_context(error_context(environment))
        environment = lock_and_recover(environment, world, stack)
        change = StagedChanges(prefix).find(identifier)
        answer = _answer_again(change, environment)
        if answer is not None:
            return answer
        document = read_staged(change)
        before = BaselineCheck(environment, check_timeout=check_timeout)
        stack.callback(before.stop)
        _refuse_misfit(compare(document, change, environment, before.stamp), change, environment)
        before.prepare_report_after(world.environ)
        return _put_in_place(document, change, before, world, timings)


def _answer_again(change: StagedChange, environment: Environment) -> Optional[InstallResult]:
    """The outcome of a change that is not staged any more; None for a staged one. Errors:
    Refused."""
    details = {"id": change.id, "state": change.state.value}
    if change.state is State.STAGED:
        return None
    if change.state is State.COMMITTED:
        return InstallResult(
            "commit",
            Outcome.ALREADY_SATISFIED,
            0,
            environment,
            transaction=change.id,
            message=f"{change.id} is committed already.",
            details=details,
        )
    why = f" ({change.detail})" if change.detail else ""
    if change.state is State.ROLLED_BACK:
        message = f"{change.id} was rolled back already{why}: stage it again."
        return InstallResult(
            "commit", Outcome.ROLLED_BACK, 12, environment, message=message, details=details
        )
    raise Refused(
        f"{change.id} cannot be committed, it is {change.state.value}{why}",
        hint="safe-install status lists what is staged.",
    )


def _refuse_misfit(
    misfit: Optional[Misfit], change: StagedChange, environment: Environment
) -> None:
    if misfit is None:
        return
    moved = f": {describe_paths(misfit.moved, environment)}" if misfit.moved else ""
    reason = f"{change.id} does not fit any more: {misfit.reason}{moved}"
    finding = Finding("staged-misfit", Severity.ERROR, change.id, reason, misfit.hint)
    raise Refused.by([finding])


def _put_in_place(
    document: StagedDocument,
    change: StagedChange,
    before: BaselineCheck,
    world: World,
    timings: Timings,
) -> InstallResult:
    interpreter = before.environment.interpreter
    transaction = staged.begin_commit(interpreter.prefix, change, scheme=interpreter.scheme)
    with transaction, staged.stage_in(transaction, change):
        commit_of_change = Commit(document.change, transaction, before, world, timings)
        commit_of_change.plan_moves()
        verdict = commit_of_change.swap()
    _record(change, verdict, world)
    result = commit_of_change.conclude(verdict)
    details = {"id": change.id, "state": _state_after(verdict).value}
    return dataclasses.replace(result, command="commit", details=details)


def _state_after(verdict: Verdict) -> State:
    return State.ROLLED_BACK if verdict.outcome is Outcome.ROLLED_BACK else State.COMMITTED


def _record(change: StagedChange, verdict: Verdict, world: World) -> None:
    """Record the outcome. The change itself is done, so a failure here is only a warning."""
    reasons = [one.detail for one in verdict.findings if has_errors([one])]
    try:
        staged.record_outcome(change, _state_after(verdict), detail=reasons[0] if reasons else "")
    except OSError as error:
        world.reporter.warn(f"the outcome of {change.id} could not be written down: {error}")

"""`safe-install abandon`: removes a staged change."""

from __future__ import annotations

from typing import Optional

from safe_install.errors import Refused, hint_for_oserror
from safe_install.models import InstallResult, Outcome
from safe_install.pipeline.session import error_context, probe_named
from safe_install.pipeline.staged_change import check_id
from safe_install.ports import World
from safe_install.transaction import staged, unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.staged import StagedChange, StagedChanges
from safe_install.transaction.staged_states import GONE, State


def abandon(
    world: World, *, python: Optional[str], user: bool = False, identifier: str
) -> InstallResult:
    """Remove a staged change; the environment is not changed. One that is gone already is no error.
    Errors: Refused for one that is committed, or was never staged here."""
    check_id(identifier)
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    with error_context(environment), lock_environment(prefix):
        unfinished.recover(prefix)
        change = StagedChanges(prefix).find(identifier)
        is_news = change.state is State.STAGED
        if is_news:
            _remove(change)
        elif change.state not in GONE:
            hint = "safe-install status lists what is staged."
            if change.state is State.COMMITTED:
                hint = f"To take it back: safe-install undo {identifier}"
            raise Refused(f"{identifier} is not staged, it is {change.state.value}", hint=hint)
    state = State.ABANDONED if is_news else change.state
    message = f"Abandoned: {identifier}. Nothing was changed."
    if not is_news:
        message = f"{identifier} is gone already: {state.value}."
    return InstallResult(
        "abandon",
        Outcome.ABANDONED if is_news else Outcome.ALREADY_SATISFIED,
        0,
        environment,
        message=message,
        details={"id": identifier, "state": state.value},
    )


def _remove(change: StagedChange) -> None:
    """Errors: Refused where it cannot be removed."""
    try:
        staged.record_outcome(change, State.ABANDONED)
    except OSError as error:
        raise Refused(
            f"{change.id} could not be removed: {error}", hint=hint_for_oserror(error)
        ) from error

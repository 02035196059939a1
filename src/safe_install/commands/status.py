"""`safe-install status`: staged changes, and the outcome of each. Changes nothing."""

from __future__ import annotations

import time
from typing import List, NamedTuple, Optional, Tuple, TypedDict

from safe_install.environment.stamp import Stamp, describe_paths, stamp_of
from safe_install.errors import Refused
from safe_install.models import Environment, InstallResult, Outcome
from safe_install.pipeline.session import error_context, probe_named
from safe_install.pipeline.staged_change import as_text, check_id, compare, read_staged
from safe_install.ports import World
from safe_install.transaction.staged import StagedChange, StagedChanges, measure_stage
from safe_install.transaction.staged_states import State
from safe_install.transaction.summary import StepRow, describe_changes

_MAX_PATHS = 20


class _ChangeRow(TypedDict):
    """A change, as JSON values."""

    id: str
    state: str
    detail: str
    command: List[str]
    steps: List[StepRow]
    created: Optional[str]
    age: Optional[float]  # seconds
    expires: Optional[str]
    bytes: int
    undone_by: Optional[str]
    fits: Optional[bool]  # None: it is not staged any more
    moved: List[str]


class _Fit(NamedTuple):
    """Could it be committed now?"""

    fits: Optional[bool]
    detail: str = ""
    moved: Tuple[str, ...] = ()


def status(
    world: World, *, python: Optional[str], user: bool = False, identifier: Optional[str] = None
) -> InstallResult:
    """The change with this ID, or all that were staged, newest first."""
    if identifier is not None:
        check_id(identifier)
    environment = probe_named(world, python, user=user)
    with error_context(environment):
        changes = StagedChanges(environment.interpreter.prefix)
        ids = changes.ids if identifier is None else (identifier,)
        found = [changes.find(one) for one in ids]
        is_staged = any(change.state is State.STAGED for change in found)
        stamp = stamp_of(environment) if is_staged else Stamp()
        rows = [_describe(change, environment, stamp) for change in found]
    lines = [_line(row) for row in rows]
    message = "\n".join(lines) or f"Nothing is staged in {environment.interpreter.prefix}."
    return InstallResult(
        "status", Outcome.LISTED, 0, environment, message=message, details={"changes": rows}
    )


def _describe(change: StagedChange, environment: Environment, stamp: Stamp) -> _ChangeRow:
    """A change as a JSON object. `stamp`: that of the environment now."""
    age = None if change.created is None else round(time.time() - change.created, 1)
    is_staged = change.state is State.STAGED
    fit = _find_fit(change, environment, stamp) if is_staged else _Fit(None)
    return {
        "id": change.id,
        "state": change.state.value,
        "detail": fit.detail or change.detail,
        "command": list(change.command),
        "steps": list(change.steps),
        "created": as_text(change.created),
        "age": age,
        "expires": as_text(change.expires),
        "bytes": measure_stage(change) if is_staged else 0,
        "undone_by": change.undone_by,
        "fits": fit.fits,
        "moved": list(fit.moved),
    }


def _find_fit(change: StagedChange, environment: Environment, stamp: Stamp) -> _Fit:
    try:
        misfit = compare(read_staged(change), change, environment, stamp)
    except (Refused, OSError) as error:
        return _Fit(False, str(error))
    if misfit is None:
        return _Fit(True)
    moved = misfit.moved[:_MAX_PATHS]
    detail = misfit.reason
    if moved:
        detail = f"{detail}: {describe_paths(misfit.moved, environment)}"
    return _Fit(False, detail, moved)


def _line(row: _ChangeRow) -> str:
    """A change as a line of text."""
    parts = [row["id"], row["state"]]
    if row["steps"]:
        parts.append(describe_changes(row["steps"]))
    if row["state"] == State.STAGED.value:
        parts.append(f"{row['bytes'] / 1e6:.1f} MB")
        parts.append("fits" if row["fits"] else "does not fit any more")
        parts.append(f"until {row['expires']}" if row["expires"] else "until it is abandoned")
    if row["undone_by"]:
        parts.append(f"by {row['undone_by']}")
    line = "  ".join(parts)
    return f"{line}\n  {row['detail']}" if row["detail"] else line

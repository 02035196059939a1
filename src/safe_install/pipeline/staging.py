"""`stage` ends here: the change is prepared, and set aside until it is committed."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Optional, Sequence

from safe_install.environment.stamp import Stamp
from safe_install.errors import Refused
from safe_install.models import (
    SOURCES,
    Environment,
    InstallResult,
    Interpreter,
    Outcome,
    Plan,
)
from safe_install.pipeline.baseline import BaselineCheck, refuse_changed
from safe_install.pipeline.change import preparing
from safe_install.pipeline.commit import PreparedChange
from safe_install.pipeline.delivery import Delivery
from safe_install.pipeline.health_gate import summarize
from safe_install.pipeline.selection import Selected
from safe_install.pipeline.session import Session
from safe_install.pipeline.staged_change import as_text, compare, read_staged
from safe_install.pipeline.staged_document import StagedDocument, has_same_steps, make_document
from safe_install.transaction import staged
from safe_install.transaction.history import describe_changes
from safe_install.transaction.staged_states import State
from safe_install.transaction.swap import Transaction
from safe_install.transaction.tree import hash_stage


def set_aside(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> InstallResult:
    """Fetch, stage, look; nothing of the environment is changed. The ID is the result's
    transaction: that of an earlier run, where the same is staged already.

    Errors: every SafeInstallError.
    """
    session, environment, plan = delivery.session, delivery.environment, selected.plan
    ttl = session.request.own.ttl
    refuse_changed(before.changed_paths(), environment, built=built)
    found = _find_staged(plan, session, before.stamp)
    if found is None:
        with preparing(selected, delivery, before, built) as (change, transaction):
            refuse_changed(before.changed_paths(), environment, built=built)
            document = _make_document(change, transaction, before)
            staged.set_aside(transaction, document, _summarize(change, ttl))
        found, findings = _find(environment, transaction.id), change.findings
    else:
        staged.keep_longer(found, expires=_find_end(ttl))
        found, findings = _find(environment, found.id), read_staged(found).change.findings
    size = staged.measure_stage(found)
    return InstallResult(
        "stage",
        Outcome.STAGED,
        0,
        environment,
        plan,
        before.report() if environment.torch is not None else None,
        findings=findings,
        transaction=found.id,
        timings=session.timings.total(),
        message=_describe(found, environment.interpreter, size),
        details={
            "stage": str(found.folder),
            "bytes": size,
            "expires": as_text(found.expires),
        },
    )


def _find_staged(plan: Plan, session: Session, stamp: Stamp) -> Optional[staged.StagedChange]:
    """What an earlier run of the same command staged, if it had the same plan, and still fits: an
    engine that lost the answer asks again.

    Not where something is built: another build may be another file.
    """
    if any(step.sha256 is None or step.origin in SOURCES for step in plan.steps):
        return None
    changes = staged.StagedChanges(session.environment.interpreter.prefix)
    for identifier in changes.ids:
        change = changes.find(identifier)
        if _is_same(change, plan, session, stamp):
            return change
    return None


def _is_same(change: staged.StagedChange, plan: Plan, session: Session, stamp: Stamp) -> bool:
    if change.state is not State.STAGED or change.command != tuple(session.world.command):
        return False
    try:
        document = read_staged(change)
    except Refused:
        return False
    # variables say these, too
    own, expected = session.request.own, document.change.expectation
    if expected.require_cuda != own.require_cuda or expected.no_rollback != own.no_rollback:
        return False
    if not has_same_steps(document, plan):
        return False
    return compare(document, change, session.environment, stamp) is None


def _find(environment: Environment, identifier: str) -> staged.StagedChange:
    return staged.StagedChanges(environment.interpreter.prefix).find(identifier)


def _make_document(
    change: PreparedChange, transaction: Transaction, before: BaselineCheck
) -> bytes:
    interpreter = before.environment.interpreter
    stage_hash = hash_stage(transaction.stage)
    if stage_hash is None:
        raise Refused("the stage holds something that is no file", hint="Install it instead.")
    found = StagedDocument(
        transaction.id,
        prefix=os.path.realpath(str(interpreter.prefix)),
        python=interpreter.version,
        stage_hash=stage_hash,
        stamp=before.stamp,
        change=change,
    )
    return json.dumps(make_document(found)).encode("ascii")


def _summarize(change: PreparedChange, ttl: Optional[float]) -> Dict[str, Any]:
    return {
        **summarize(change.plan.steps, change.command),
        "created": time.time(),
        "expires": _find_end(ttl),
    }


def _find_end(ttl: Optional[float]) -> Optional[float]:
    """When it is over, in seconds since the epoch."""
    return None if ttl is None else time.time() + ttl


def _describe(found: staged.StagedChange, interpreter: Interpreter, size: int) -> str:
    until = "until it is abandoned" if found.expires is None else f"until {as_text(found.expires)}"
    changes = describe_changes({"steps": found.steps})
    user = " --user" if interpreter.prefix == interpreter.user_base else ""
    return (
        f"Staged, nothing is changed: {changes} ({size / 1e6:.1f} MB, kept {until}).\n"
        f"Put it in place with: safe-install commit{user} {found.id}"
    )

"""`stage` ends here: the change is prepared, and set aside until it is committed."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Optional, Sequence

from safe_install.errors import Refused
from safe_install.models import InstallResult, Outcome
from safe_install.pipeline.baseline import BaselineCheck, refuse_changed
from safe_install.pipeline.change import preparing
from safe_install.pipeline.commit import PreparedChange
from safe_install.pipeline.delivery import Delivery
from safe_install.pipeline.health_gate import summarize
from safe_install.pipeline.selection import Selected
from safe_install.pipeline.staged_change import as_text
from safe_install.pipeline.staged_document import StagedDocument, make_document
from safe_install.transaction import staged
from safe_install.transaction.history import describe_changes
from safe_install.transaction.swap import Transaction
from safe_install.transaction.tree import hash_stage


def set_aside(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> InstallResult:
    """Fetch, stage, look; nothing of the environment is changed. The ID is the result's
    transaction.

    Errors: every SafeInstallError.
    """
    session, environment = delivery.session, delivery.environment
    with preparing(selected, delivery, before, built) as (change, transaction):
        refuse_changed(before.changed_paths(), environment, built=built)
        document = _make_document(change, transaction, before)
        summary = _summarize(change, session.request.own.ttl)
        folder = staged.set_aside(transaction, document, summary)
    found = staged.StagedChanges(environment.interpreter.prefix).find(transaction.id)
    size = staged.measure_stage(found)
    details = {"stage": str(folder), "bytes": size, "expires": as_text(found.expires)}
    return InstallResult(
        "stage",
        Outcome.STAGED,
        0,
        environment,
        change.plan,
        before.report() if environment.torch is not None else None,
        findings=change.findings,
        transaction=transaction.id,
        timings=session.timings.total(),
        message=_describe(found, summary, size),
        details=details,
    )


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
    now = time.time()
    return {
        **summarize(change.plan.steps, change.command),
        "created": now,
        "expires": None if ttl is None else now + ttl,
    }


def _describe(found: staged.StagedChange, summary: Dict[str, Any], size: int) -> str:
    until = "until it is abandoned" if found.expires is None else f"until {as_text(found.expires)}"
    return "\n".join(
        [
            f"Staged, nothing is changed: {describe_changes(summary)} ({size / 1e6:.1f} MB, kept "
            f"{until}).",
            f"Put it in place with: safe-install commit {found.id}",
        ]
    )

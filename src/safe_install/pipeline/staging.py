"""Sets a prepared change aside until it is committed: the end of `stage`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from packaging.utils import NormalizedName

from safe_install.errors import Refused
from safe_install.models import (
    SOURCES,
    Action,
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
from safe_install.pipeline.staged_change import as_text, compare, read_staged
from safe_install.pipeline.staged_document import StagedDocument, has_same_files, make_document
from safe_install.ports import Timings
from safe_install.resolve.recorded_address import with_addresses
from safe_install.transaction import staged, swap
from safe_install.transaction.staged_states import State
from safe_install.transaction.summary import ChangeSummary, describe_changes
from safe_install.transaction.swap import Transaction
from safe_install.transaction.tree import hash_stage


@dataclass(frozen=True)
class _Wanted:
    """A change that is to be staged, with what an earlier staged one is compared by."""

    command: Sequence[str]
    plan: Plan
    require_cuda: bool
    no_rollback: bool
    hashes: Mapping[NormalizedName, str]  # of the files that are on disk already


def set_aside(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> InstallResult:
    """Fetch, stage and check a change, and keep it. The environment is not changed. `transaction`
    of the result is its ID; where the same change is staged already, that is kept longer.

    Errors: every SafeInstallError.
    """
    session = delivery.session
    plan, own = with_addresses(selected.plan, session.request), session.request.own
    hashes = {name: artifact.sha256 for name, artifact in selected.artifacts.items()}
    wanted = _Wanted(session.world.command, plan, own.require_cuda, own.no_rollback, hashes)
    refuse_changed(before.changed_paths(), delivery.environment, built=built)
    found = _find_staged(wanted, before)
    if found is None:
        with preparing(selected, delivery, before, built) as (change, transaction):
            refuse_changed(before.changed_paths(), delivery.environment, built=built)
            found = _keep(change, transaction, before, own.ttl)
    else:
        staged.keep_longer(found, expires=_find_end(own.ttl))
    return _make_result(found, plan, before, session.timings)


def set_removal_aside(
    change: PreparedChange, before: BaselineCheck, ttl: Optional[float], timings: Timings
) -> InstallResult:
    """As `set_aside`, for a change that only removes. Errors: Refused."""
    interpreter, expected = before.environment.interpreter, change.expectation
    wanted = _Wanted(
        change.command, change.plan, expected.require_cuda, expected.no_rollback, hashes={}
    )
    found = _find_staged(wanted, before)
    if found is None:
        with swap.begin(
            interpreter.prefix, command=change.command, scheme=interpreter.scheme
        ) as transaction:
            found = _keep(change, transaction, before, ttl)
    else:
        staged.keep_longer(found, expires=_find_end(ttl))
    return _make_result(found, change.plan, before, timings)


def _keep(
    change: PreparedChange,
    transaction: Transaction,
    before: BaselineCheck,
    ttl: Optional[float],
) -> staged.StagedChange:
    document = _make_document(change, transaction, before)
    staged.set_aside(transaction, document, _summarize(change, ttl))
    return _find(before.environment, transaction.id)


def _make_result(
    kept: staged.StagedChange, plan: Plan, before: BaselineCheck, timings: Timings
) -> InstallResult:
    environment = before.environment
    found = _find(environment, kept.id)
    size = staged.measure_stage(found)
    return InstallResult(
        "stage",
        Outcome.STAGED,
        0,
        environment,
        plan,
        before.report() if environment.torch is not None else None,
        findings=read_staged(found).change.findings,
        transaction=found.id,
        timings=timings.total(),
        message=_describe(found, environment.interpreter, size),
        details={
            "stage": str(found.folder),
            "bytes": size,
            "expires": as_text(found.expires),
        },
    )


def _find_staged(wanted: _Wanted, before: BaselineCheck) -> Optional[staged.StagedChange]:
    """The change that an earlier run of the same command staged, where the plan is the same and it
    still fits. A fleet engine that lost an answer runs the command again.

    None where something is built: another build may be another file.
    """
    for step in wanted.plan.steps:
        is_known = step.sha256 is not None or step.name in wanted.hashes
        if step.action is not Action.REMOVE and (step.origin in SOURCES or not is_known):
            return None
    changes = staged.StagedChanges(before.environment.interpreter.prefix)
    for identifier in changes.ids:
        change = changes.find(identifier)
        if change.state is State.STAGED and _is_same(change, wanted, before):
            return change
    return None


def _is_same(change: staged.StagedChange, wanted: _Wanted, before: BaselineCheck) -> bool:
    if change.command != tuple(wanted.command):
        return False
    try:
        document = read_staged(change)
    except Refused:
        return False
    # these are no part of the command where a variable sets them
    expected = document.change.expectation
    if (expected.require_cuda, expected.no_rollback) != (wanted.require_cuda, wanted.no_rollback):
        return False
    if not has_same_files(document, wanted.plan, wanted.hashes):
        return False
    return compare(document, change, before.environment, before.stamp) is None


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


def _summarize(change: PreparedChange, ttl: Optional[float]) -> ChangeSummary:
    return {
        **summarize(change.plan.steps, change.command),
        "created": time.time(),
        "expires": _find_end(ttl),
    }


def _find_end(ttl: Optional[float]) -> Optional[float]:
    """When a staged change expires, in seconds since the epoch; None: never."""
    return None if ttl is None else time.time() + ttl


def _describe(found: staged.StagedChange, interpreter: Interpreter, size: int) -> str:
    until = "until it is abandoned" if found.expires is None else f"until {as_text(found.expires)}"
    changes = describe_changes(found.steps)
    user = " --user" if interpreter.prefix == interpreter.user_base else ""
    return (
        f"Staged, nothing is changed: {changes} ({size / 1e6:.1f} MB, kept {until}).\n"
        f"Put it in place with: safe-install commit{user} {found.id}"
    )

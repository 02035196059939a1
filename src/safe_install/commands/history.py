"""`safe-install history`: past transactions, and the disk space of the files kept for their
undo."""

from __future__ import annotations

import datetime
from typing import List, Optional

from safe_install.models import (
    InstallResult,
    Outcome,
)
from safe_install.pipeline.session import probe_named
from safe_install.ports import World
from safe_install.transaction import history, staged
from safe_install.transaction.history import describe_changes
from safe_install.transaction.lock import lock_environment


def list_history(
    world: World, *, python: Optional[str], user: bool = False, prune: bool, keep: int
) -> InstallResult:
    """Past transactions, newest first, with the disk space of the files kept for their undo.
    `prune`: remove those of the oldest."""
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    lines: List[str] = []
    if prune:
        with lock_environment(prefix):
            staged.settle(prefix)  # first, because a removed transaction cannot tell its outcome
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
        state = (
            f"undoes {entry.undoes}"
            if entry.undoes
            else f"undone by {entry.undone_by}"
            if entry.undone_by
            else ""
        )
        when = datetime.datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")
        lines.append(
            f"{entry.id}  {when}  {_megabytes(size):>9}  {describe_changes(entry.summary)}  {state}".rstrip()
        )
    message = "\n".join(lines) or f"No transactions in {prefix}."
    return InstallResult(
        "history", Outcome.LISTED, 0, environment, message=message, details={"history": entries}
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"

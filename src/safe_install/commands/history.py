"""`safe-install history`: past transactions, and the disk space of the files kept for their
undo."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import List, Mapping, Optional

from safe_install.models import (
    InstallResult,
    Outcome,
)
from safe_install.pipeline.session import probe_named
from safe_install.ports import World
from safe_install.transaction import history, staged
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.summary import describe_changes


def list_history(
    world: World, *, python: Optional[str], user: bool = False, prune: bool, keep: int
) -> InstallResult:
    """Past transactions, newest first, with the disk space of the files kept for their undo.
    `prune`: remove those of the oldest."""
    environment = probe_named(world, python, user=user)
    prefix = environment.interpreter.prefix
    lines = _prune(prefix, keep, world) if prune else []
    rows = []
    for entry in history.read_history(prefix):
        size = history.measure(prefix, entry.id)
        rows.append(_describe(entry, size))
        lines.append(_line(entry, size))
    message = "\n".join(lines) or f"No transactions in {prefix}."
    return InstallResult(
        "history", Outcome.LISTED, 0, environment, message=message, details={"history": rows}
    )


def _prune(prefix: Path, keep: int, world: World) -> List[str]:
    """Remove the files of the oldest changes. The result: a line for each."""
    lines = []
    with lock_environment(prefix):
        staged.settle(prefix)  # first, because a removed transaction cannot tell its outcome
        for pruned in history.prune(prefix, keep=keep):
            if pruned.problem:
                world.reporter.warn(f"{pruned.id} could not be removed: {pruned.problem}")
            else:
                lines.append(f"removed {pruned.id} ({_megabytes(pruned.size)})")
    return lines


def _describe(entry: history.HistoryEntry, size: int) -> Mapping[str, object]:
    """A change as JSON values."""
    return {
        "id": entry.id,
        "command": list(entry.command),
        "steps": list(entry.steps),
        "bytes": size,
        "undoes": entry.undoes,
        "undone_by": entry.undone_by,
        "problem": entry.problem,
    }


def _line(entry: history.HistoryEntry, size: int) -> str:
    """A change as a line of text."""
    state = ""
    if entry.undoes:
        state = f"undoes {entry.undoes}"
    elif entry.undone_by:
        state = f"undone by {entry.undone_by}"
    when = datetime.datetime.fromtimestamp(entry.created).strftime("%Y-%m-%d %H:%M")
    changes = describe_changes(entry.steps)
    return f"{entry.id}  {when}  {_megabytes(size):>9}  {changes}  {state}".rstrip()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"

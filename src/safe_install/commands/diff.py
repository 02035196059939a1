"""`safe-install diff A [B]`: what differs between two environments, files or points in time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from safe_install.environment.driver import read_driver
from safe_install.environment.interpreter import find_interpreter, read_environment
from safe_install.errors import Interrupted, SafeInstallError, UsageError
from safe_install.folders import expand_home
from safe_install.index.catalog import known_projects
from safe_install.models import Environment, InstallResult, Outcome
from safe_install.pipeline.session import probe_named
from safe_install.ports import World
from safe_install.resolve.requirements_file import Reader
from safe_install.snapshot import past
from safe_install.snapshot.bundle_file import is_bundle, open_bundle
from safe_install.snapshot.changes import Discrepancy, compare_snapshots
from safe_install.snapshot.described import (
    describe_environment,
    describe_lock,
    describe_manifest,
    describe_past,
    is_transaction,
)
from safe_install.snapshot.difference import TOOLS
from safe_install.snapshot.forms import (
    OTHER_PYTHON,
    Form,
    form_of,
    parse_lock,
    read_record,
    split_extras,
)
from safe_install.snapshot.pylock_reader import RequestedGroups
from safe_install.snapshot.values import Snapshot
from safe_install.transaction.history import read_history

NOW = "now"


def diff(
    world: World, sides: Sequence[str], *, python: Optional[str], user: bool, read: Reader
) -> InstallResult:
    """Compare two sides. Exit status 0 where they are equal, 1 where they differ. `read`: returns
    the text of a file.

    Errors: UsageError (exit 2) for a side that cannot be read, as in diff(1).
    """
    if len(sides) > 2:
        raise UsageError(
            f"diff compares two, and {len(sides)} were named", hint="Write: safe-install diff A B."
        )
    try:
        return _Comparison(world, python=python, user=user, read=read).run(sides)
    except Interrupted:
        raise
    except SafeInstallError as error:
        raise UsageError(error.message, hint=error.hint, findings=error.findings) from error


class _Comparison:
    """Reads the two sides. The managed environment is probed only where a side needs it."""

    def __init__(self, world: World, *, python: Optional[str], user: bool, read: Reader) -> None:
        self._world, self._python, self._user, self._read = world, python, user, read
        self._here: Optional[Environment] = None
        self._files: List[str] = []  # the sides that are files

    def run(self, sides: Sequence[str]) -> InstallResult:
        """The result of the command."""
        names = (sides[0], sides[1] if len(sides) == 2 else NOW)
        old, new = (self._describe(name) for name in names)
        changes = [
            change
            for change in compare_snapshots(old, new, known_projects())
            if not self._is_left_out(change, names)
        ]
        outcome = Outcome.DIFFERS if changes else Outcome.SAME
        return InstallResult(
            "diff",
            outcome,
            1 if changes else 0,
            self._here,
            message="\n".join(render_changes(changes, names)),
            details={"sides": list(names), "changes": [change_row(one) for one in changes]},
        )

    def _is_left_out(self, change: Discrepancy, names: Tuple[str, str]) -> bool:
        """Is it pip or similar, which few files name and sync never removes?"""
        if change.name not in TOOLS or (change.is_in_old and change.is_in_new):
            return False
        missing = names[1] if change.is_in_old else names[0]
        return missing in self._files

    def _describe(self, side: str) -> Snapshot:
        """What a word names: the environment now, a past change, a bundle, an environment, a file.
        Errors: SafeInstallError."""
        if side == NOW:
            return describe_environment(self._environment())
        path = expand_home(side)
        if is_transaction(side) and not path.exists():
            return self._describe_past(side)
        if path.is_file() and is_bundle(path):  # which may be executed, as an interpreter may
            self._files.append(side)
            return describe_manifest(open_bundle(path).manifest)
        if path.is_dir() or (path.is_file() and os.access(path, os.X_OK)):
            return describe_environment(_environment_at(path))
        found = self._describe_file(side)
        self._files.append(side)
        return found

    def _describe_file(self, side: str) -> Snapshot:
        """The snapshot of a file, which may be for another machine. Errors: SafeInstallError."""
        location, extras = split_extras(side)
        interpreter = self._environment().interpreter
        folder = os.getcwd()  # noqa: PTH109 - as pip has it
        if form_of(location) is Form.PYLOCK:
            return read_record(
                location,
                interpreter=interpreter,
                read=self._read,
                folder=folder,
                wanted=RequestedGroups(extras),
            )
        lock = parse_lock(
            location,
            interpreter=interpreter,
            read=self._read,
            environ=self._world.environ,
            folder=folder,
        )
        problems = tuple(one for one in lock.problems if one.check != OTHER_PYTHON)
        if problems:
            raise UsageError(problems[0].detail, hint=problems[0].hint, findings=problems)
        return describe_lock(lock)

    def _environment(self) -> Environment:
        if self._here is None:
            self._here = probe_named(self._world, self._python, user=self._user)
        return self._here

    def _describe_past(self, transaction: str) -> Snapshot:
        """The environment right after a change."""
        environment = self._environment()
        entries = read_history(environment.interpreter.prefix)
        later: List[past.Change] = []
        for entry in entries:  # the newest first
            if entry.id == transaction:
                return describe_past(describe_environment(environment), later)
            later.append(past.Change(entry.id, entry.steps))
        raise UsageError(
            f"{environment.interpreter.prefix} has no transaction {transaction}",
            hint="safe-install history lists those that are kept.",
        )


def _environment_at(path: Path) -> Environment:
    """The environment of a folder, or of an interpreter."""
    executable = find_interpreter(str(path), {})
    return read_environment(executable, read_driver())


# --- the result -----------------------------------------------------------------------------------


def change_row(change: Discrepancy) -> Dict[str, Optional[str]]:
    """One difference in the JSON document."""
    return {
        "subject": change.topic.value,
        "name": change.name,
        "old": change.old or None,
        "new": change.new or None,
        "detail": change.detail,
    }


def render_changes(changes: Sequence[Discrepancy], names: Tuple[str, str]) -> List[str]:
    """A line for each difference, below the names of the two sides."""
    if not changes:
        return [f"The same: {names[0]} and {names[1]}."]
    lines = [f"--- {names[0]}", f"+++ {names[1]}"]
    width = max(len(change.name) for change in changes)
    for change in changes:
        lines.append(f"{_sign(change)} {change.name.ljust(width)}  {_versions(change)}".rstrip())
    return lines


def _sign(change: Discrepancy) -> str:
    if not change.is_in_old:
        return "+"
    return "~" if change.is_in_new else "-"


def _versions(change: Discrepancy) -> str:
    if not change.is_in_old:
        return change.new
    if not change.is_in_new:
        return change.old
    if change.detail:
        return f"{change.new or change.old} ({change.detail})".strip()
    return f"{change.old or 'none'} -> {change.new or 'none'}"

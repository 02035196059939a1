"""`doctor --fix`: shows the plan of the repair, asks, carries it out, and runs doctor again.

Everything is installed and removed in one journalled change, verified like an install. An
interrupted run is recovered first, as by `recover`. If the environment is no better afterwards, or
the repair is interrupted, the changes are undone.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Protocol, Sequence

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.cli.invocation import Answer
from safe_install.commands.install import Mending
from safe_install.diagnosis.fixes import FixRow, is_better
from safe_install.diagnosis.kept import pack_kept
from safe_install.events import Reporter
from safe_install.models import Environment, InstallResult, Outcome
from safe_install.requirements import requirement_name
from safe_install.resolve.command_line import Words

# Options of the repair: the named distributions are installed again, and nothing else changes.
INSTALL = ("install", "--force-reinstall", "--no-deps")
UNDO = ("undo",)
UNDO_UNCHECKED = (*UNDO, "--no-rollback")
# Whatever was broken before.
TAKE_BACK = ("undo", "--force", "--no-rollback")
# What a check after a change finds, too.
FAILED = frozenset({"import-failed", "operation-failed", "check-crashed"})


class Run(Protocol):
    """Runs another command of ours on the same environment."""

    def __call__(self, words: Sequence[str], mending: Optional[Mending] = None) -> Answer:
        """`mending`: further changes of an install."""


class Fixing:
    """One run of `doctor --fix`."""

    def __init__(self, words: Words, reporter: Reporter, run: Run) -> None:
        self._words, self._reporter, self._run = words, reporter, run
        self._transactions: List[str] = []

    def run(self, examine: Callable[[], Answer]) -> Answer:
        """`examine`: runs doctor; its result has the plan in its details."""
        before = examine()
        if isinstance(before, int):
            return before
        plan: FixRow = before.details["mends"]
        self._show(plan, before.details["outside"])
        if is_empty(plan) or self._words.has("--dry-run") or not self._agrees():
            return before
        try:
            after = self._carry_out(before, plan, examine)
        except BaseException:
            # It is not known to help: a refusal, Ctrl-C, an error of this program.
            self._take_back("--fix did not come to its end: what was changed is taken back")
            raise
        if isinstance(after, int):
            return after
        if is_better(before.findings, after.findings):
            return self._kept(before, after)
        self._take_back("it is no better than before: what was changed is taken back")
        return dataclasses.replace(before, outcome=Outcome.UNHEALTHY)

    def _carry_out(
        self, before: InstallResult, plan: FixRow, examine: Callable[[], Answer]
    ) -> Answer:
        """Carry the plan out. The result: doctor's findings afterwards."""
        environment = before.environment
        if plan["recovers"]:
            self._note(self._run(("recover",)))
            now = examine()
            if isinstance(now, int):
                return now
            # What the recovery has restored need not be installed.
            plan, environment = both(plan, now.details["mends"]), now.environment
            if is_empty(plan):
                return now
        if plan["installed"]:
            self._note(self._install(plan, environment))
        else:
            self._note(self._run(("uninstall", "-y", *plan["removed"])))
        return examine()

    def _install(self, plan: FixRow, environment: Optional[Environment]) -> Answer:
        """Install in one change. What a past change keeps is taken from there, without asking a
        host."""
        texts, removed = plan["installed"], [canonicalize_name(one) for one in plan["removed"]]
        with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
            kept = pack_kept(texts, environment, Path(folder)) if environment is not None else {}
            for name in kept:
                self._reporter.note(f"{name} is put back from the history of this environment")
            words = [_from_history(text, kept) for text in texts]
            return self._run((*INSTALL, *words), Mending(tuple(removed), frozenset(kept)))

    def _kept(self, before: InstallResult, after: InstallResult) -> InstallResult:
        """Doctor's result, with the commands that undo the changes, in the order to type them."""
        # The check after an undo finds what was broken before, and would keep it from coming back.
        was_broken = any(finding.check in FAILED for finding in before.findings)
        line = " ".join(("safe-install", *(UNDO_UNCHECKED if was_broken else UNDO)))
        undo = [f"{line} {identifier}" for identifier in reversed(self._transactions)]
        newest = self._transactions[-1] if self._transactions else None
        return dataclasses.replace(
            after, transaction=newest, details={**after.details, "undo": undo}
        )

    def _show(self, plan: FixRow, outside: Sequence[str]) -> None:
        for detail in outside:
            self._reporter.note(f"not put right by an install: {detail}")
        if is_empty(plan):
            self._reporter.note("there is nothing here that --fix could carry out")
        if plan["recovers"]:
            self._reporter.note("would run: safe-install recover")
        if plan["removed"]:
            self._reporter.note(f"would remove: {', '.join(plan['removed'])}")
        if plan["installed"]:
            self._reporter.note(f"would install: {', '.join(plan['installed'])}")

    def _agrees(self) -> bool:
        """Does the user confirm? False without a terminal."""
        is_said = self._words.has("--yes") or self._words.count("yes") > 0
        if is_said or sys.stdin is None or not sys.stdin.isatty():
            return True
        answer = self._reporter.ask("Proceed (Y/n)? ")
        return answer is None or answer.strip().lower() in ("", "y", "yes")

    def _note(self, answer: Answer) -> None:
        if isinstance(answer, InstallResult):
            self._transactions += transactions_of(answer)

    def _take_back(self, why: str) -> None:
        """Undo the changes, newest first. Where that is interrupted, the remaining commands are
        shown."""
        if not self._transactions:
            return
        self._reporter.warn(why)
        try:
            while self._transactions:
                self._run((*TAKE_BACK, self._transactions[-1]))
                self._transactions.pop()
        except BaseException:
            line = f"safe-install {' '.join(TAKE_BACK)}"
            left = [f"{line} {one}" for one in reversed(self._transactions)]
            self._reporter.warn(f"not all of it was taken back; in this order: {'; '.join(left)}")
            self._reporter.change_made(self._transactions[-1])
            raise
        self._reporter.change_taken_back()


def _from_history(text: str, kept: Mapping[NormalizedName, Path]) -> str:
    name = requirement_name(text)
    return text if name is None or name not in kept else f"{name} @ {kept[name].as_uri()}"


def is_empty(plan: FixRow) -> bool:
    """Is there nothing to do?"""
    return not (plan["recovers"] or plan["removed"] or plan["installed"])


def both(shown: FixRow, needed: FixRow) -> FixRow:
    """The part of the plan that was confirmed and is still needed."""
    return {
        "recovers": False,
        "removed": [text for text in shown["removed"] if text in needed["removed"]],
        "installed": [text for text in shown["installed"] if text in needed["installed"]],
    }


def transactions_of(answer: InstallResult) -> List[str]:
    """The committed changes of a command, oldest first, each once; `recover` may make several."""
    if answer.transaction:
        return [answer.transaction]
    rows = answer.details.get("leftovers", ())
    return list(dict.fromkeys(str(row["transaction"]) for row in rows if row["transaction"]))

"""`doctor --fix`: shows what would be carried out, asks, runs those commands, and asks doctor again.

Each is a command of ours, so each is one journalled change that is verified. What leaves the
environment no better than it was is taken back, and so is what was cut short.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import Callable, List, Sequence, Union

from safe_install.diagnosis.mends import is_better
from safe_install.events import Reporter
from safe_install.models import InstallResult, Outcome
from safe_install.resolve.command_line import Words

# A command's own result, or the exit status of a program that said everything itself.
Answer = Union[InstallResult, int]


class Fixing:
    """One run of `doctor --fix`."""

    def __init__(
        self, words: Words, reporter: Reporter, run_line: Callable[[Sequence[str]], Answer]
    ) -> None:
        """`run_line`: runs a command line of ours on the same environment."""
        self._words = words
        self._reporter = reporter
        self._run_line = run_line
        self._transactions: List[str] = []

    def run(self, examine: Callable[[], Answer]) -> Answer:
        """`examine`: the doctor itself, whose result has the plan in its details."""
        before = examine()
        if isinstance(before, int):
            return before
        lines = before.details["mends"]
        self._show(lines, before.details["outside"])
        if not lines or self._words.has("--dry-run") or not self._agrees():
            return before
        try:
            for line in lines:
                self._carry_out(line)
            after = examine()
        except BaseException:
            # Nobody has seen that it helps: a refusal, Ctrl-C, a mistake of ours.
            self._take_back("--fix did not come to its end: what was changed is taken back")
            raise
        if isinstance(after, int):
            return after
        if is_better(before.findings, after.findings):
            return self._kept(after)
        self._take_back("it is no better than before: what was changed is taken back")
        return dataclasses.replace(before, outcome=Outcome.UNHEALTHY)

    def _kept(self, after: InstallResult) -> InstallResult:
        """What doctor says now, with what takes the changes back, in the order to type."""
        undo = [f"safe-install undo {identifier}" for identifier in reversed(self._transactions)]
        newest = self._transactions[-1] if self._transactions else None
        return dataclasses.replace(
            after, transaction=newest, details={**after.details, "undo": undo}
        )

    def _show(self, lines: Sequence[Sequence[str]], outside: Sequence[str]) -> None:
        for detail in outside:
            self._reporter.note(f"not put right by an install: {detail}")
        if not lines:
            self._reporter.note("there is nothing here that --fix could carry out")
        for line in lines:
            self._reporter.note(f"would run: safe-install {shlex.join(line)}")

    def _agrees(self) -> bool:
        """The person's word, where there is a terminal to give it on."""
        is_said = self._words.has("--yes") or self._words.count("yes") > 0
        if is_said or sys.stdin is None or not sys.stdin.isatty():
            return True
        answer = self._reporter.ask("Proceed (Y/n)? ")
        return answer is None or answer.strip().lower() in ("", "y", "yes")

    def _carry_out(self, line: Sequence[str]) -> None:
        answer = self._run_line(line)
        if isinstance(answer, InstallResult):
            self._transactions += transactions_of(answer)

    def _take_back(self, why: str) -> None:
        """Newest first. Where that is cut short, what is left to type is said."""
        if not self._transactions:
            return
        self._reporter.warn(why)
        try:
            while self._transactions:
                self._run_line(("undo", "--force", self._transactions[-1]))
                self._transactions.pop()
        except BaseException:
            left = [f"safe-install undo --force {one}" for one in reversed(self._transactions)]
            self._reporter.warn(f"not all of it was taken back; in this order: {'; '.join(left)}")
            self._reporter.change_made(self._transactions[-1])
            raise
        self._reporter.change_taken_back()


def transactions_of(answer: InstallResult) -> List[str]:
    """The changes that a command has kept, oldest first; `recover` may make several."""
    if answer.transaction:
        return [answer.transaction]
    rows = answer.details.get("leftovers", ())
    return [str(row["transaction"]) for row in rows if row["transaction"]]

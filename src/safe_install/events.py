"""Events of a running command. Use cases report to a Reporter; `cli.progress` shows the events."""

from __future__ import annotations

from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Iterator, Optional

from safe_install.errors import Interrupted
from safe_install.models import Finding


class TaskOutcome(Enum):
    """How a task ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Reporter:
    """Receives the events of a command. By default they are ignored; subclasses show them.

    A task is something that may take more than a second. `task` is a short stable key such as
    "download torch-scatter".
    """

    quiet = 0  # how often -q was given
    log_file: Optional[Path] = None  # --log
    shows_progress = True  # not with --progress-bar off

    def note(self, text: str) -> None:
        """A decision and its reason, in one sentence."""

    def warn(self, text: str) -> None:
        """A warning; the command continues."""

    def found(self, finding: Finding) -> None:
        """A finding that the user should see before anything is fetched. It is also in the
        result."""
        self.warn(finding.detail)

    def change_made(self, transaction: str) -> None:
        """The change is verified and committed."""

    def change_taken_back(self) -> None:
        """The change of this command was undone."""

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """A task begins; `total` in `unit` ("bytes", "files", "s") if it is known."""

    def task_advanced(
        self, task: str, done: float, text: str = "", total: Optional[float] = None
    ) -> None:
        """The task has done `done` of its total. `total`: where it became known, or has grown."""

    def task_ended(
        self, task: str, text: str = "", outcome: TaskOutcome = TaskOutcome.DONE
    ) -> None:
        """The task has ended."""

    @contextmanager
    def task(self, task: str, total: Optional[float] = None, unit: str = "") -> Iterator[None]:
        """A task for the time of the context. An exception ends it as failed or interrupted."""
        self.task_started(task, total, unit)
        try:
            yield
        except (KeyboardInterrupt, Interrupted):
            self.task_ended(task, outcome=TaskOutcome.INTERRUPTED)
            raise
        except BaseException:
            self.task_ended(task, outcome=TaskOutcome.FAILED)
            raise
        self.task_ended(task)

    def output(self, line: str) -> None:
        """A line of stdout of a child process that pip would have shown."""

    def announce(self, line: str) -> None:
        """A line that pip would have printed about something that we have done."""

    def pip_warning(self, line: str) -> None:
        """A warning in pip's words that we print."""

    def ask(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """Ask the user. The answer without its line end; None if nobody can answer."""
        return None

    def document(self, text: str) -> None:
        """A JSON document that was requested on stdout (`--report -`)."""

    def error_output(self, line: str) -> None:
        """A line of stderr of a child process that pip would have shown."""

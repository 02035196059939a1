"""What happens, as it happens. The use cases speak to a Reporter; `cli.progress` gives it a
face."""

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
    """Every event is an empty default: subclasses show what they want to show.

    A task is anything that may take more than a second; `task` is a short stable key such as
    "download torch-scatter".
    """

    quiet = 0  # how often -q was given
    log_file: Optional[Path] = None  # --log
    shows_progress = True  # not with --progress-bar off

    def note(self, text: str) -> None:
        """A decision, in one sentence, and why."""

    def warn(self, text: str) -> None:
        """Something the person should know although the command goes on."""

    def found(self, finding: Finding) -> None:
        """A finding that the person should know before anything is fetched; it stands in the
        result, too."""
        self.warn(finding.detail)

    def change_made(self, transaction: str) -> None:
        """The environment is changed, verified, and the change is kept."""

    def change_taken_back(self) -> None:
        """What this command changed is not there any more."""

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """A task begins; `total` in `unit` ("bytes", "files", "s") when it is known."""

    def task_advanced(
        self, task: str, done: float, text: str = "", total: Optional[float] = None
    ) -> None:
        """The task has done `done` of its total, which may become known, or grow, on the way."""

    def task_ended(
        self, task: str, text: str = "", outcome: TaskOutcome = TaskOutcome.DONE
    ) -> None:
        """The task is over."""

    @contextmanager
    def task(self, task: str, total: Optional[float] = None, unit: str = "") -> Iterator[None]:
        """What happens inside is a task; an exception ends it as failed or interrupted."""
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
        """A line that a child process wrote to its stdout and that the person would have seen from
        pip itself."""

    def announce(self, line: str) -> None:
        """The same line where we did what pip would have done."""

    def pip_warning(self, line: str) -> None:
        """A warning in pip's words, which we say ourselves."""

    def ask(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """What the person answers, less the end of the line; None where nobody can."""
        return None

    def document(self, text: str) -> None:
        """A JSON document that the person asked for on stdout (`--report -`)."""

    def error_output(self, line: str) -> None:
        """The same for the child's stderr."""

"""What happens, as it happens. The use cases speak to a Reporter; only `report` gives it a face."""

from __future__ import annotations

from typing import Optional


class Reporter:
    """Every event is an empty default: subclasses show what they want to show.

    A task is anything that may take more than a second; `task` is a short stable key such as "download torch-scatter".
    """

    quiet = 0  # how often -q was given

    def phase(self, name: str) -> None:
        """A stage of the pipeline begins ("probe", "resolve", "build", ...)."""

    def note(self, text: str) -> None:
        """A decision, in one sentence, and why."""

    def warn(self, text: str) -> None:
        """Something the person should know although the command goes on."""

    def change_made(self, transaction: str) -> None:
        """The environment is changed, verified, and the change is kept."""

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """A task begins; `total` in `unit` ("bytes", "files", "s") when it is known."""

    def task_advanced(self, task: str, done: float, text: str = "") -> None:
        """The task has done `done` of its total."""

    def task_ended(self, task: str, text: str = "") -> None:
        """The task is over."""

    def output(self, line: str) -> None:
        """A line that a child process wrote to its stdout and that the person would have seen from pip itself."""

    def error_output(self, line: str) -> None:
        """The same for the child's stderr."""

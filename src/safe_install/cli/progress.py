"""The output of a command while it works: lines and progress bars on stderr, pip's own lines where
pip prints them."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Dict, List, Optional

from safe_install.cli.json_document import escape_unprintable
from safe_install.cli.terminal import (
    WIDE,
    can_write,
    find_width,
    one_line,
    printable,
    read_settings,
    restore_settings,
    wrap,
    write_line,
)
from safe_install.cli.text import hint_as_typed, render_finding
from safe_install.cli.translation.speech import say
from safe_install.events import Reporter, TaskOutcome
from safe_install.models import Finding

if TYPE_CHECKING:
    # Imported where a task is shown, to start faster.
    from rich.progress import Progress, ProgressColumn, Task, TaskID
    from rich.table import Column

SLOW = 1.0  # seconds after which a task is worth a line on a terminal
# elsewhere: scripts take what stands on stderr for trouble, and pip says nothing there
SLOW_UNSEEN = 10.0
BAR_FROM = 60  # columns: on a narrower terminal what is said needs the room of the bar
AGAIN = 30.0  # seconds between two lines about a task that goes on, where there is no terminal


@dataclass
class _Task:
    """A running task."""

    started: float  # monotonic
    total: Optional[float]
    unit: str
    next_line: float = SLOW_UNSEEN  # seconds after its start, where there is no terminal


def render_amount(done: float, total: Optional[float], unit: str) -> str:
    """`3/7 files`, `12/804 MB`; "" where nothing is known."""
    if unit == "bytes":
        done, total, unit = done / 1e6, total / 1e6 if total else None, "MB"
    if total:
        return f"{done:.0f}/{total:.0f} {unit}".rstrip()
    return f"{done:.0f} {unit}" if done and unit else ""


def render_minutes(seconds: float) -> str:
    """`2:10`, `1:02:10`."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _make_clock(column: Column) -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Clock(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(render_minutes(task.elapsed or 0.0))

    return Clock(table_column=column)


class TextReporter(Reporter):
    """Prints lines on stderr, with progress bars on a terminal; pip's own lines go where pip prints
    them."""

    def __init__(
        self,
        *,
        quiet: int = 0,
        json_on_stdout: bool = False,
        notes: bool = True,
        program: str = "safe-install",
    ) -> None:
        """`program`: the command line with which other commands work on the same environment."""
        self.quiet = quiet
        self.program = program
        self.notes = notes
        self._open_question: Optional[List[Any]] = None  # how the terminal was before it
        self.made: Optional[str] = None  # the transaction that this command committed
        self.said: List[Finding] = []  # what the result need not show again
        self._pip_stdout = sys.stderr if json_on_stdout else sys.stdout
        self._bars: Optional[Progress] = None
        self._tasks: Dict[str, TaskID] = {}
        self._running: Dict[str, _Task] = {}

    def note(self, text: str) -> None:
        """Print a decision."""
        if self.notes and self.quiet < 1:
            self._say(say(printable(text)))

    def warn(self, text: str) -> None:
        """Print a warning, unless -qq."""
        if self.quiet < 2:
            self._say(say(f"warning: {printable(text)}"))

    def found(self, finding: Finding) -> None:
        """Print a finding with its hint, as in the result."""
        if self.quiet < 2:
            self.said.append(finding)
            for line in render_finding(finding):
                self._say(hint_as_typed(line, self.program))

    def change_made(self, transaction: str) -> None:
        """A change was committed: "nothing was changed" would be wrong from now on."""
        self.made = transaction

    def change_taken_back(self) -> None:
        """The change was undone."""
        self.made = None

    def output(self, line: str) -> None:
        """Print a line of pip's stdout."""
        if self.quiet < 1:
            self._line(self._pip_stdout, printable(line))

    def announce(self, line: str) -> None:
        """Print a line of pip on a change that we made, on stdout and into the file of --log."""
        self.output(line)
        if self.log_file is not None:
            append_to_log(self.log_file, printable(line))

    def ask(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """Ask on the terminal, or read from stdin. A question is shown even with -q."""
        if self._bars is not None:
            self._bars.stop()
        self._open_question = read_settings()
        try:
            if is_secret:
                import getpass

                return getpass.getpass(printable(question))
            self._pip_stdout.write(printable(question))
            self._pip_stdout.flush()
            answer = sys.stdin.readline()
        except EOFError:
            return None
        finally:
            self._open_question = None
            if self._bars is not None:
                self._bars.start()
        if not answer:
            self._pip_stdout.write("\n")
            return None
        return answer.rstrip("\r\n")

    def pip_warning(self, line: str) -> None:
        """Print a warning of pip on stderr."""
        if self.quiet < 2:
            self._line(sys.stderr, printable(line))

    def document(self, text: str) -> None:
        """Print a requested document on stdout, even with -q."""
        print(escape_unprintable(text), file=self._pip_stdout, flush=True)

    def error_output(self, line: str) -> None:
        """Print a line of pip's stderr."""
        self._line(sys.stderr, printable(line))

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """Show a bar on a terminal until the task ends."""
        self._running[task] = _Task(time.monotonic(), total, unit)
        if self.quiet or not self.shows_progress or not sys.stderr.isatty():
            return
        bars = self._progress()
        self._tasks[task] = bars.add_task(say(printable(task)), total=total, amount="")

    def task_advanced(
        self, task: str, done: float, text: str = "", total: Optional[float] = None
    ) -> None:
        """Move the bar. Without a terminal, a long task prints a line from time to time."""
        running = self._running.get(task)
        if running is None:
            return
        running.total = total or running.total
        amount = render_amount(done, running.total, running.unit)
        if task in self._tasks and self._bars is not None:
            name = say(task)
            label = one_line(f"{name}  {text.strip()}" if text else name)
            self._bars.update(
                self._tasks[task],
                completed=done,
                total=running.total,
                description=label,
                amount=amount,
            )
        elif self.quiet < 1 and self.shows_progress and not sys.stderr.isatty():
            self._plain_progress(task, running, amount)

    def task_ended(
        self, task: str, text: str = "", outcome: TaskOutcome = TaskOutcome.DONE
    ) -> None:
        """Remove the bar; a slow task leaves a line."""
        running = self._running.pop(task, None)
        seconds = time.monotonic() - running.started if running is not None else 0.0
        if task in self._tasks and self._bars is not None:
            self._bars.remove_task(self._tasks.pop(task))
            if not self._tasks:
                self._bars.stop()
                self._bars = None
        if seconds > (SLOW if sys.stderr.isatty() else SLOW_UNSEEN) or text:
            self.note(f"{task}: {text or outcome.value} ({seconds:.1f} s)")

    def _leave_question(self) -> None:
        """After an interrupted question: switch the terminal's echo on again, and begin a new
        line."""
        if self._open_question is not None:
            restore_settings(self._open_question)
            self._open_question = None
            print(file=sys.stderr)

    def close(self) -> None:
        """Remove all bars."""
        self._leave_question()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _plain_progress(self, task: str, running: _Task, amount: str) -> None:
        seconds = time.monotonic() - running.started
        if seconds < running.next_line:
            return
        if running.next_line == SLOW_UNSEEN:
            self.note(f"{task} ...")
        else:
            self.note(
                f"{task}: {', '.join(part for part in (amount, render_minutes(seconds)) if part)}"
            )
        running.next_line = seconds + AGAIN

    def _say(self, text: str) -> None:
        """Print a text of ours on stderr."""
        if self._bars is None:
            write_line(text, sys.stderr)
            sys.stderr.flush()
            return
        width = find_width(sys.stderr) or WIDE
        for line in text.split("\n"):
            for part in wrap(line, width):
                self._line(sys.stderr, part)

    def _line(self, stream: IO[str], text: str) -> None:
        """Print a line without wrapping it: pip's lines are printed as they are. Bars stay below
        it."""
        self._leave_question()
        if self._bars is not None and stream.isatty():
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        print(text, file=stream, flush=True)

    def _progress(self) -> Progress:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
            from rich.table import Column

            # On a narrow terminal the end of the description is cut.
            has_more = can_write("\u2026\u280b", sys.stderr)
            front = Column(ratio=1, no_wrap=True, overflow="ellipsis" if has_more else "crop")
            has_room = (find_width(sys.stderr) or WIDE) >= BAR_FROM
            self._bars = Progress(
                SpinnerColumn("dots" if has_more else "line"),
                TextColumn("{task.description}", markup=False, table_column=front),
                *([BarColumn(bar_width=12)] if has_room else []),
                TextColumn(
                    "{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)
                ),
                _make_clock(Column(no_wrap=True)),
                console=Console(stderr=True),
                transient=True,
                expand=True,
            )
            self._bars.start()
        return self._bars


def append_to_log(path: Path, line: str) -> None:
    """Append a line in the format of pip's log. Errors are ignored: pip itself reports a log that
    cannot be written."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{stamp},{int(now * 1000) % 1000:03} {line}\n")
    except OSError:
        pass

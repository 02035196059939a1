"""Results, plans, findings and events as text or as the JSON document. The only module that prints.

Text: pip's own lines and the outcome go to stdout, what we decided and why to stderr. With --json stdout holds one
document (install_result.schema.json) and everything else goes to stderr.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence

from safe_install import __version__
from safe_install.errors import PipFailed, SafeInstallError
from safe_install.events import Reporter, TaskOutcome
from safe_install.models import (
    Action,
    Driver,
    DriverLibrary,
    Environment,
    Finding,
    HealthReport,
    HostAnswer,
    ImportResult,
    InstallResult,
    Outcome,
    Plan,
    Rejection,
    Severity,
    Step,
)
from safe_install.redaction import redact

SCHEMA = 1
REFUSED = (10, 11)  # exit statuses
CHANGING = ("install", "uninstall", "undo")
WIDE = 1000  # columns of what is no terminal
SLOW = 1.0  # seconds after which a task is worth a line on a terminal
SLOW_UNSEEN = 10.0  # elsewhere: scripts take what stands on stderr for trouble, and pip says nothing there
AGAIN = 30.0  # seconds between two lines about a task that goes on, where there is no terminal


# --- the JSON document -----------------------------------------------------------------------------


def make_document(result: InstallResult, error: Optional[SafeInstallError] = None) -> Dict[str, Any]:
    """The JSON document of a result, or of an error raised before there was one."""
    findings = tuple(result.findings) + (tuple(error.findings) if error else ())
    rejections = (result.plan.rejections if result.plan else ()) + (error.rejections if error else ())
    return {
        "schema": SCHEMA,
        "tool": {"name": "torch-safe-install", "version": __version__},
        "command": result.command,
        "exit_code": error.exit_status if error else result.exit_status,
        "outcome": result.outcome.value,
        "environment": _environment(result.environment) if result.environment else None,
        "plan": {
            "steps": [_step(step) for step in (result.plan.steps if result.plan else ())],
            "hosts": [_answer(answer) for answer in (result.plan.answers if result.plan else ())],
        },
        "before": _health(result.before) if result.before else None,
        "after": _health(result.after) if result.after else None,
        "findings": [_finding(finding) for finding in findings],
        "rejections": [_rejection(rejection) for rejection in rejections],
        "transaction": result.transaction,
        "timings": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "details": dict(result.details),
        "error": {"code": error.code, "message": error.message, "hint": error.hint} if error else None,
    }


def _environment(environment: Environment) -> Dict[str, Any]:
    interpreter, torch, driver = environment.interpreter, environment.torch, environment.driver
    return {
        "python": interpreter.version,
        "executable": str(interpreter.executable),
        "prefix": str(interpreter.prefix),
        "platform": interpreter.platform,
        "libc": " ".join(interpreter.libc).strip(),
        "torch": None
        if torch is None
        else {
            "version": torch.runtime_version,
            "accelerator": torch.accelerator,
            "cuda": torch.cuda,
            "cxx11_abi": torch.cxx11_abi,
        },
        "driver": None
        if driver is None
        else {
            "version": driver.version,
            "cuda": driver.cuda,
            "declared": driver.declared,
            "problem": driver.problem,
            "devices": [
                {"name": device.name, "compute_capability": device.compute_capability} for device in driver.devices
            ],
        },
    }


def _step(step: Step) -> Dict[str, Any]:
    return {
        "action": step.action.value,
        "name": step.name,
        "version": step.version,
        "from_version": step.from_version,
        "url": step.url,
        "sha256": step.sha256,
        "kind": step.kind,
        "requested": step.requested,
        "because": step.because,
    }


def _answer(answer: HostAnswer) -> Dict[str, Any]:
    return {
        "project": answer.project,
        "host": answer.host,
        "url": answer.url,
        "answer": answer.kind.value,
        "detail": answer.detail,
        "gap": answer.gap,
    }


def _health(report: HealthReport) -> Dict[str, Any]:
    return {
        "torch_version": report.torch_version,
        "accelerator": report.accelerator,
        "torch_cuda": report.torch_cuda,
        "cuda_available": report.cuda_available,
        "device_count": report.device_count,
        "imports": {name: _import_result(answer) for name, answer in report.imports.items()},
        "operations": {name: _import_result(answer) for name, answer in report.operations.items()},
        "warnings": list(report.warnings),
        "unmet": list(report.unmet),
        "asked": report.asked,
        "crashed": report.crashed,
        "torch_folder": report.torch_folder,
        "libcuda": _driver_library(report.driver_library) if report.driver_library else None,
    }


def _driver_library(library: DriverLibrary) -> Dict[str, Any]:
    return {"path": library.path, "cuda": library.cuda, "status": library.status, "devices": library.devices}


def _import_result(answer: ImportResult) -> Dict[str, Any]:
    seconds = None if answer.seconds is None else round(answer.seconds, 4)
    return {"ok": answer.ok, "seconds": seconds, "error": answer.error}


def _finding(finding: Finding) -> Dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "detail": finding.detail,
        "hint": finding.hint,
    }


def _rejection(rejection: Rejection) -> Dict[str, Any]:
    return {
        "name": rejection.candidate.name,
        "version": str(rejection.candidate.version),
        "url": rejection.candidate.link.url,
        "rule": rejection.rule.value,
        "detail": rejection.detail,
    }


# --- text ------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """A text from outside without the control characters that would steer a terminal."""
    text = redact(text)
    return "".join(character if character.isprintable() or character in "\t\n" else "?" for character in text)


def one_line(text: str) -> str:
    """The same, for what must not look like a line of ours: a name, an address, a row."""
    return printable(text).replace("\n", "?")


def render_finding(finding: Finding) -> List[str]:
    """One finding as lines of text."""
    lines = [f"{finding.severity.value}: {printable(finding.detail)}"]
    if finding.hint:
        lines.append(f"  hint: {printable(finding.hint)}")
    return lines


def render_steps(plan: Plan) -> List[str]:
    """The plan as a table, one line a step."""
    lines = []
    for step in plan.steps:
        if step.action is Action.REMOVE:
            change = f"- {step.name} {step.from_version}"
        elif step.action is Action.REPLACE:
            change = f"~ {step.name} {step.from_version} -> {step.version}"
        else:
            change = f"+ {step.name} {step.version}"
        origin = f"  [{step.kind}] {step.url}" if step.url else ""
        why = f"  ({step.because})" if step.because else ""
        lines.append(one_line(f"  {change}{why}{origin}"))
    return lines


def render_health(report: HealthReport) -> str:
    """One line that says how torch and its extensions are."""
    parts = [f"torch {report.torch_version}" if report.torch_version else "no torch"]
    if report.torch_version:
        available = {True: "CUDA available", False: "CUDA not available", None: "CUDA not asked (no driver here)"}
        parts.append("built without CUDA" if is_without_cuda(report) else available[report.cuda_available])
        if report.cuda_available:
            parts[-1] += f", {report.device_count} device{'' if report.device_count == 1 else 's'}"
    good = [name for name, answer in report.imports.items() if answer.ok and name != "torch"]
    if good:
        parts.append("imports " + ", ".join(good))
    bad = [name for name, answer in (*report.imports.items(), *report.operations.items()) if not answer.ok]
    if bad:
        parts.append("FAILS: " + ", ".join(bad))
    return "; ".join(parts)


def is_without_cuda(report: HealthReport) -> bool:
    """A build for the CPU or another accelerator: CUDA cannot be there."""
    return report.asked == "import" and report.torch_cuda is None and not report.cuda_available


def render_rejections(rejections: Sequence[Rejection], limit: Optional[int] = None) -> List[str]:
    """Each rejected candidate with its rule, in the order given: nearest first. Past `limit` a count by rule."""
    shown = rejections if limit is None else rejections[:limit]
    lines = [one_line(f"  {item.candidate.link.filename}: {item.rule.value}: {item.detail}") for item in shown]
    rest = rejections[len(shown) :]
    if rest:
        counts: Dict[str, int] = {}
        for item in rest:
            counts[item.rule.value] = counts.get(item.rule.value, 0) + 1
        told = ", ".join(f"{count} by {rule}" for rule, count in sorted(counts.items()))
        lines.append(f"  and {len(rest)} more: {told} (all with --json)")
    return lines


def render_error(error: SafeInstallError) -> List[str]:
    """The error as people read it: findings, message, hint."""
    lines: List[str] = []
    for finding in error.findings:
        if finding.detail not in error.message:
            lines += render_finding(finding)
    if isinstance(error, PipFailed) and not error.was_relayed:
        lines += [printable(line) for line in error.output.splitlines()]
    if not (isinstance(error, PipFailed) and error.was_relayed):
        # Otherwise pip has said it already, in the words that people look for.
        lines.append(f"error: {printable(error.message)}")
    if error.rejections:
        lines += render_rejections(error.rejections, 8)
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    return lines


# --- what is seen while it happens -----------------------------------------------------------------


@dataclass
class _Task:
    """A task that goes on."""

    started: float  # monotonic
    total: Optional[float]
    unit: str
    next_line: float = SLOW_UNSEEN  # seconds after its start, where there is no terminal


def render_amount(done: float, total: Optional[float], unit: str) -> str:
    """`3/7 files`, `12/804 MB`; empty where nothing is known."""
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


def _make_clock(column: Any) -> Any:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Clock(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(render_minutes(task.elapsed or 0.0))

    return Clock(table_column=column)


class TextReporter(Reporter):
    """Lines on stderr; bars there when it is a terminal; pip's own lines where pip would write them."""

    def __init__(self, *, quiet: int = 0, json_on_stdout: bool = False, notes: bool = True) -> None:
        self.quiet = quiet
        self.notes = notes
        self._open_question: Optional[Any] = None  # how the terminal was before it
        self.made: Optional[str] = None  # the transaction that this command committed
        self._pip_stdout = sys.stderr if json_on_stdout else sys.stdout
        self._bars: Optional[Any] = None
        self._tasks: Dict[str, Any] = {}
        self._running: Dict[str, _Task] = {}

    def note(self, text: str) -> None:
        """A decision."""
        if self.notes and self.quiet < 1:
            self._line(sys.stderr, printable(text))

    def warn(self, text: str) -> None:
        """A warning is shown unless -qq."""
        if self.quiet < 2:
            self._line(sys.stderr, f"warning: {printable(text)}")

    def change_made(self, transaction: str) -> None:
        """From now on "nothing was changed" would be wrong."""
        self.made = transaction

    def output(self, line: str) -> None:
        """pip's stdout."""
        if self.quiet < 1:
            self._line(self._pip_stdout, printable(line))

    def announce(self, line: str) -> None:
        """pip's words, of what we did: to stdout, and into the log that pip writes for --log."""
        self.output(line)
        if self.log_file is not None:
            append_to_log(self.log_file, printable(line))

    def ask(self, question: str, *, is_secret: bool = False) -> Optional[str]:
        """On the terminal, or whatever stands on stdin. However quiet the rest is, a question is shown."""
        if self._bars is not None:
            self._bars.stop()
        self._open_question = _read_terminal()
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
        """On stderr, as a warning of pip's."""
        if self.quiet < 2:
            self._line(sys.stderr, printable(line))

    def document(self, text: str) -> None:
        """What the person asked for on stdout is shown however quiet the rest is."""
        print(_escaped(text), file=self._pip_stdout, flush=True)

    def error_output(self, line: str) -> None:
        """pip's stderr."""
        self._line(sys.stderr, printable(line))

    def task_started(self, task: str, total: Optional[float] = None, unit: str = "") -> None:
        """A bar on a terminal, gone when the task is over."""
        self._running[task] = _Task(time.monotonic(), total, unit)
        if self.quiet or not self.shows_progress or not sys.stderr.isatty():
            return
        bars = self._progress()
        self._tasks[task] = bars.add_task(printable(task), total=total, amount="")

    def task_advanced(self, task: str, done: float, text: str = "", total: Optional[float] = None) -> None:
        """The bar moves; elsewhere a task that takes long is named again from time to time."""
        running = self._running.get(task)
        if running is None:
            return
        running.total = total or running.total
        amount = render_amount(done, running.total, running.unit)
        if task in self._tasks and self._bars is not None:
            label = one_line(f"{task}  {text}" if text else task)
            self._bars.update(self._tasks[task], completed=done, total=running.total, description=label, amount=amount)
        elif self.quiet < 1 and self.shows_progress and not sys.stderr.isatty():
            self._plain_progress(task, running, amount)

    def task_ended(self, task: str, text: str = "", outcome: TaskOutcome = TaskOutcome.DONE) -> None:
        """The bar goes; a slow task leaves a line."""
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
        """An interrupted question leaves the terminal without echo, and the cursor behind its words."""
        if self._open_question is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._open_question)
            self._open_question = None
            print(file=sys.stderr)

    def close(self) -> None:
        """Take every bar away."""
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
            self.note(f"{task}: {', '.join(part for part in (amount, render_minutes(seconds)) if part)}")
        running.next_line = seconds + AGAIN

    def _line(self, stream: IO[str], text: str) -> None:
        self._leave_question()
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        print(text, file=stream, flush=True)

    def _progress(self) -> Any:
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
            from rich.table import Column

            # Only the description gives way on a narrow terminal, and it loses its end.
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn(
                    "{task.description}",
                    markup=False,
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
                _make_clock(Column(no_wrap=True)),
                console=Console(stderr=True),
                transient=True,
                expand=True,
            )
            self._bars.start()
        return self._bars


def _read_terminal() -> Optional[Any]:
    """The state of the terminal on stdin; None where there is none."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    try:
        import termios
    except ImportError:  # Windows
        return None
    return termios.tcgetattr(sys.stdin.fileno())


# --- the end ---------------------------------------------------------------------------------------

OUTCOME_SENTENCES: Mapping[Outcome, str] = {
    Outcome.ROLLED_BACK: "Rolled back: the environment is exactly as it was.",
    Outcome.REFUSED: "Refused: nothing was changed.",
    Outcome.UNHEALTHY: "Not healthy.",
}


def show_result(result: InstallResult, *, quiet: int = 0, program: str = "safe-install") -> None:
    """The result as text: findings to stderr, what was done and the outcome to stdout."""
    for finding in result.findings:
        if quiet < 1 or finding.severity is Severity.ERROR:
            for line in render_finding(finding):
                print(line, file=sys.stderr)
    sys.stderr.flush()
    if quiet:
        return
    for line in _result_lines(result, program):
        print(printable(line))
    sys.stdout.flush()


def _result_lines(result: InstallResult, program: str) -> List[str]:
    plan = result.plan or Plan()
    if result.outcome is Outcome.PLANNED:
        if not plan.steps:
            return [result.message] if result.message else []
        return [*render_steps(plan), f"Would install {_listed_names(plan)}"]
    if result.outcome is Outcome.EXPLAINED:
        return [*_explained_lines(plan)]
    if result.outcome is Outcome.INSTALLED:
        # "Successfully installed" was said when it was.
        return _place_line("Installed into", result) + _verified_lines(result, program)
    if result.outcome is Outcome.UNINSTALLED:
        return _place_line("Uninstalled from", result) + _verified_lines(result, program)
    if result.command == "wheels":
        lines = []
        for table in result.details.get("tables", ()):
            lines += [*render_table(table["title"], table["columns"], table["rows"]), ""]
        return lines + result.message.splitlines()
    if result.command == "verify" and result.after is not None and result.after.torch_version is not None:
        return _examined_lines(result, result.after)
    sentence = result.message or OUTCOME_SENTENCES.get(result.outcome, "")
    return sentence.splitlines()


def _examined_lines(result: InstallResult, health: HealthReport) -> List[str]:
    """What was looked at, then the outcome: which torch, from where, what it computed on."""
    driver = result.environment.driver if result.environment is not None else None
    lines = [f"torch {health.torch_version} in {health.torch_folder}" if health.torch_folder else "torch"]
    lines.append(f"CUDA: {render_cuda(health, driver)}")
    for verb, answers in (("imported", health.imports), ("computed", health.operations)):
        good = [name for name, answer in answers.items() if answer.ok]
        if good:
            lines.append(f"{verb}: {', '.join(good)}")
    if result.outcome is not Outcome.HEALTHY:
        return [*lines, OUTCOME_SENTENCES[Outcome.UNHEALTHY]]
    return [*lines, f"Healthy: {render_health(health)}."]


def render_cuda(health: HealthReport, driver: Optional[Driver]) -> str:
    """Yes or no, the driver, the GPUs that torch sees."""
    if driver is None or driver.declared:
        here = ""
    else:
        here = f"driver {driver.version or 'of an unknown version'}" + (f" (CUDA {driver.cuda})" if driver.cuda else "")
    if is_without_cuda(health):
        return f"torch is built without it{f', {here} is here' if here else ''}"
    if health.cuda_available is None:
        return f"not tried, {f'although {here} is here' if here else 'there is no driver here'}"
    if not health.cuda_available:
        return f"not available{f', {here}' if here else ''}"
    count = health.device_count or 0
    devices = f"{count} device{'' if count == 1 else 's'}"
    names = [f"{device.name} ({device.compute_capability})" for device in driver.devices] if driver and here else []
    # A variable may hide some of the driver's: then which ones torch sees is not known here.
    named = f": {', '.join(names)}" if len(names) == count else f" of {len(names)}" if names else ""
    return f"available, {f'{here}, ' if here else ''}{devices}{named}"


def render_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """A table as lines of text; on a terminal that is too narrow, its columns in several tables below each other."""
    import shutil

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDE
    sizes = [max(len(column), *(len(row[n]) for row in rows), 1) + 4 for n, column in enumerate(columns)]
    lines: List[str] = []
    first, shown = columns[0], 1
    while shown < len(columns):
        stop, used = shown, sizes[0]
        while stop < len(columns) and (stop == shown or used + sizes[stop] <= width):
            used += sizes[stop]
            stop += 1
        part = [[row[0], *row[shown:stop]] for row in rows]
        if shown > 1 or stop < len(columns):
            part = [row for row in part if any(row[1:])]  # a part of a wide table shows the rows that it has
        lines += _draw_table(title, [first, *columns[shown:stop]], part, width=width)
        title, shown = "", stop
    return lines


def _draw_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> List[str]:
    import io

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*[Text(printable(cell)) for cell in row])
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False)
    console.print(table)
    return [*([title] if title else []), *(line.rstrip() for line in out.getvalue().splitlines())]


def _explained_lines(plan: Plan) -> List[str]:
    lines = []
    for step in plan.steps:
        lines.append(f"{step.name} {step.version} ({step.because})")
        lines.append(printable(f"  {step.url}"))
        is_open = any(answer.gap for answer in plan.answers if answer.project == step.name)
        from_source = "from source: no wheel that fits is known here" if is_open else "from source: no wheel fits"
        origin = {"sdist": from_source, "built": "built here before"}.get(step.kind)
        if origin:
            lines.append(f"  {origin}")
        if step.candidate is not None and step.candidate.link.found_in:
            lines.append(printable(f"  found in {step.candidate.link.found_in}"))
        rejected = [item for item in plan.rejections if item.candidate.name == step.name]
        if rejected:
            lines.append("  not taken:")
            lines += [f"  {line}" for line in render_rejections(rejected, 12)]
    lines.append("hosts:")
    lines += [
        printable(f"  {item.project}: {item.host}: {item.kind.value}{f' ({item.detail})' if item.detail else ''}")
        for item in plan.answers
    ]
    return lines


def _listed_names(plan: Plan) -> str:
    """As pip lists them: by the names of their metadata."""
    found = sorted((step.written_name or step.name, step.version) for step in plan.steps if step.version)
    return " ".join(f"{name}-{version}" for name, version in found)


def _place_line(verb: str, result: InstallResult) -> List[str]:
    if result.environment is None:
        return []
    torch = result.after.torch_version if result.after is not None else None
    return [f"{verb} {render_environment(result.environment, torch)}."]


def render_environment(environment: Environment, torch_version: Optional[str] = None) -> str:
    """`./env (Python 3.11.7, torch 2.13.0+cpu)`. `torch_version`: the one after a change, where that is known."""
    interpreter = environment.interpreter
    if torch_version is None and environment.torch is not None:
        torch_version = environment.torch.runtime_version
    torch = f", torch {torch_version}" if torch_version else ""
    return printable(f"{_short_path(interpreter.prefix)} (Python {interpreter.version}{torch})")


def _short_path(path: Path) -> str:
    """Below the working folder `./env`, else the whole path."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except (ValueError, OSError):
        return str(path)


def _verified_lines(result: InstallResult, program: str) -> List[str]:
    lines: List[str] = []
    if result.after is not None and result.after.torch_version is not None:
        lines.append(f"Verified: {render_health(result.after)}.")
    if result.transaction:
        interpreter = result.environment.interpreter if result.environment is not None else None
        user = " --user" if interpreter is not None and interpreter.prefix == interpreter.user_base else ""
        lines.append(f"Undo with: {program} undo{user} {result.transaction}")
    return lines


def show_document(document: Mapping[str, Any]) -> None:
    """The one JSON document on stdout."""
    text = json.dumps(_redacted(document), indent=2, ensure_ascii=False)
    print(_escaped(text), flush=True)


def _escaped(text: str) -> str:
    """JSON escapes fewer characters than a terminal obeys."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def append_to_log(path: Path, line: str) -> None:
    """A line in the form of pip's log; a log that cannot be written is pip's to complain about."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{stamp},{int(now * 1000) % 1000:03} {line}\n")
    except OSError:
        pass


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(key)): _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, (list, tuple)) else value


def show_traceback(error: BaseException) -> None:
    """Where a mistake of ours happened, on stderr."""
    for line in traceback.format_exception(type(error), error, error.__traceback__):
        print(printable(line.rstrip("\n")), file=sys.stderr)


def show_error(error: SafeInstallError, command: str = "") -> None:
    """The error on stderr; a refused change ends with the outcome and the environment that it is about."""
    for line in render_error(error):
        print(line, file=sys.stderr)
    if command in CHANGING and error.exit_status in REFUSED and error.environment is not None:
        print(f"Refused: nothing was changed in {render_environment(error.environment)}.", file=sys.stderr)
    sys.stderr.flush()


def show_lines(lines: Sequence[str]) -> None:
    """Plain lines on stdout."""
    for line in lines:
        print(printable(line))
    sys.stdout.flush()

"""Results, plans and findings as text.

pip's own lines and the outcome go to stdout; our decisions and their reasons to stderr. With
--json, stdout has one document (`json_document`) and everything else goes to stderr.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import traceback
from typing import Collection, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from safe_install.cli.explained import explained_lines, render_rejections
from safe_install.cli.planned import (
    counted_line,
    listed_names,
    render_environment,
    render_steps,
)
from safe_install.cli.table import render_table
from safe_install.cli.terminal import printable, write_document, write_line
from safe_install.cli.translation.speech import say
from safe_install.errors import PipFailed, SafeInstallError
from safe_install.models import (
    Action,
    Driver,
    Finding,
    HealthReport,
    InstallResult,
    Outcome,
    Plan,
    Severity,
)
from safe_install.resolve.command_line import ALL_COMMANDS

REFUSED = (10, 11)  # exit statuses
CHANGING = ("install", "uninstall", "undo", "sync", "stage", "commit")
# Checks of a wheel's shared objects (wheels.abi), of which dozens may fail in the same way.
FILE_CHECKS = frozenset(
    ["does-not-load", "built-for-another-torch", "load-unknown", "optional-part-does-not-load"]
)
HINTS = ("hint:", "  hint:")  # what a line begins with that may hold a line to type
LONGEST = 230  # letters of what is said of one shared object: three lines of a terminal
FEW_REJECTIONS = 3  # of an error: those that were nearest to fit


# "safe-install" in front of a command, an option or a version is a line to type, else our name.
_LINE_TO_TYPE = re.compile(rf"\bsafe-install (?=(?:{'|'.join(sorted(ALL_COMMANDS))})\b|-|\S+==)")


class Shown(NamedTuple):
    """A finding to show, and the number of similar ones that are not shown."""

    finding: Finding
    more: int = 0


def render_finding(finding: Finding, *, more: int = 0) -> List[str]:
    """One finding as lines of text. `more`: the number of similar ones that are not shown."""
    lines = [f"{finding.severity.value}: {printable(finding.detail)}", *_more_lines(more)]
    if finding.hint:
        lines.append(f"  hint: {printable(finding.hint)}")
    return lines


def as_typed(line: str, program: str) -> str:
    """The line with its commands as they have to be typed: for this program, on this
    environment."""
    return _LINE_TO_TYPE.sub(lambda found: f"{program} ", line)


def _more_lines(count: int) -> List[str]:
    return [f"  and {count} more like it (all with --json)"] if count else []


def select_findings(
    findings: Sequence[Finding], *, said: str = "", verbose: bool = False
) -> List[Shown]:
    """The findings to show: of a wheel's files that fail in the same way only the first, and no
    hint twice.

    Further notes on a refused wheel are left out. `said`: a hint that is shown anyway. `verbose`:
    show all.
    """
    if verbose:
        return [Shown(finding) for finding in findings]
    shown: List[Shown] = []
    hints = {said}
    for group in _group_findings(findings):
        first = group[0]
        if first.hint in hints:
            first = dataclasses.replace(first, hint="")
        hints.add(first.hint)
        if first.check in FILE_CHECKS:
            first = dataclasses.replace(first, detail=shorten(first.detail))
        shown.append(Shown(first, len(group) - 1))
    return shown


def _group_findings(findings: Sequence[Finding]) -> Iterable[Sequence[Finding]]:
    """Those on files of a wheel that fail in the same way together, each other one for itself."""
    refused = {finding.subject for finding in findings if finding.severity is Severity.ERROR}
    groups: Dict[Tuple[str, ...], List[Finding]] = {}
    for number, finding in enumerate(findings):
        key: Tuple[str, ...] = (str(number),)
        if finding.check in FILE_CHECKS:
            if finding.severity is Severity.NOTE and finding.subject in refused:
                continue
            key = (finding.check, finding.severity.value, finding.subject)
        groups.setdefault(key, []).append(finding)
    return groups.values()


def shorten(text: str) -> str:
    """At most LONGEST characters, cut at a space: names of C++ symbols may be very long."""
    if len(text) <= LONGEST:
        return text
    return text[:LONGEST].rpartition(" ")[0] + " ..."


def render_health(report: HealthReport) -> str:
    """One line on the health of torch and its extensions."""
    parts = [f"torch {report.torch_version}" if report.torch_version else "no torch"]
    if report.torch_version:
        available = {
            True: "CUDA available",
            False: "CUDA not available",
            None: "CUDA not asked (no driver here)",
        }
        parts.append(
            "built without CUDA" if is_without_cuda(report) else available[report.cuda_available]
        )
        if report.cuda_available:
            parts[-1] += f", {report.device_count} device{'' if report.device_count == 1 else 's'}"
    good = [name for name, answer in report.imports.items() if answer.ok and name != "torch"]
    if good:
        parts.append("imports " + ", ".join(good))
    bad = [
        name
        for name, answer in (*report.imports.items(), *report.operations.items())
        if not answer.ok
    ]
    if bad:
        parts.append("FAILS: " + ", ".join(bad))
    return "; ".join(parts)


def is_without_cuda(report: HealthReport) -> bool:
    """Is it a build for the CPU or another accelerator, which cannot have CUDA?"""
    return report.asked == "import" and report.torch_cuda is None and not report.cuda_available


def render_error(error: SafeInstallError, *, verbose: bool = False) -> List[str]:
    """The error as text: findings, message, hint."""
    lines: List[str] = []
    message = error.message
    if not verbose and any(
        finding.detail == message and finding.check in FILE_CHECKS for finding in error.findings
    ):
        message = shorten(message)
    more = 0
    for shown in select_findings(error.findings, said=error.hint, verbose=verbose):
        if shown.finding.detail in message:
            more = shown.more
        else:
            lines += render_finding(shown.finding, more=shown.more)
    if isinstance(error, PipFailed) and not error.was_relayed:
        lines += [printable(line) for line in error.output.splitlines()]
    if not (isinstance(error, PipFailed) and error.was_relayed):
        # Otherwise pip has printed it already, in words that people search for.
        lines.append(f"error: {printable(message)}")
        lines += _more_lines(more)
    if error.rejections:
        lines += render_rejections(error.rejections, None if verbose else FEW_REJECTIONS)
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    return lines


def hint_as_typed(line: str, program: str) -> str:
    """A line in the user's language; a hint with its commands as they have to be typed. Other texts
    may quote other programs."""
    return as_typed(say(line), program) if line.startswith(HINTS) else say(line)


# --- the result -----------------------------------------------------------------------------------

OUTCOME_SENTENCES: Mapping[Outcome, str] = {
    Outcome.REFUSED: "Refused: nothing was changed.",
}


def show_result(
    result: InstallResult,
    *,
    quiet: int = 0,
    program: str = "safe-install",
    verbose: bool = False,
    said: Collection[Finding] = (),
) -> None:
    """Show the result: findings on stderr, what was done and the outcome on stdout. `said`:
    findings that were shown before."""
    findings = [finding for finding in result.findings if finding not in said]
    if "report" in result.details:
        findings = []  # it has them
    for shown in select_findings(findings, verbose=verbose):
        # As pip, also with -q: requirements that the install has broken.
        is_conflict = result.command == "install" and shown.finding.check == "requirement-unmet"
        if quiet < 1 or is_conflict or shown.finding.severity is Severity.ERROR:
            for line in render_finding(shown.finding, more=shown.more):
                write_line(hint_as_typed(line, program), sys.stderr)
    sys.stderr.flush()
    document = result.details.get("document") if result.command == "export" else None
    if document is not None:
        write_document(str(document))
        return
    if quiet:
        return
    for line in _result_lines(result, verbose=verbose):
        # A report is for an issue, which others read.
        said_line = line if "report" in result.details else say(line)
        write_line(printable(as_typed(said_line, program)), sys.stdout)
    sys.stdout.flush()


DIFFERING_SYNC = ("sync", Outcome.DIFFERS)  # `sync --check` that found something


def _result_lines(result: InstallResult, *, verbose: bool = False) -> List[str]:
    plan = result.plan or Plan()
    if result.command == "fleet":
        from safe_install.cli.fleet_front import fleet_lines

        return fleet_lines(result)
    if result.outcome is Outcome.PLANNED or (result.command, result.outcome) == DIFFERING_SYNC:
        return _planned_lines(result, plan)
    if result.outcome is Outcome.EXPLAINED:
        return explained_lines(plan, result.details, verbose=verbose)
    kept = _kept_sentence(result)
    if kept is not None:
        return _place_line(kept, result) + _verified_lines(result)
    if result.outcome is Outcome.ROLLED_BACK and not result.message:
        return [_rolled_back_line(result)]
    if result.command == "wheels" or (
        result.outcome is Outcome.LISTED and "tables" in result.details
    ):
        return _wheel_lines(result)
    if result.command == "doctor":
        return _doctor_lines(result)
    if (
        result.command == "verify"
        and result.after is not None
        and result.after.torch_version is not None
    ):
        return _examined_lines(result, result.after)
    if result.outcome is Outcome.UNHEALTHY and result.transaction:
        return _place_line("Not healthy, and kept as --no-rollback says, in", result) + _undo_lines(
            result
        )
    if result.outcome is Outcome.UNHEALTHY and not result.message:
        return [f"Not healthy{_of_environment(result)}."]
    sentence = result.message or OUTCOME_SENTENCES.get(result.outcome, "")
    return sentence.splitlines()


def _planned_lines(result: InstallResult, plan: Plan) -> List[str]:
    if result.command == "sync":
        return [*render_steps(plan), counted_line(plan, result.environment)]
    if plan.steps and result.command != "bundle":
        return [*render_steps(plan), f"Would install {listed_names(plan)}"]
    return [result.message] if result.message else []


def _kept_sentence(result: InstallResult) -> Optional[str]:
    """What was done and is kept, up to the environment's name. "Successfully installed" was printed
    before."""
    if result.outcome is Outcome.INSTALLED:
        return "Installed into"
    if result.outcome is Outcome.UNINSTALLED:
        return "Uninstalled from"
    if result.outcome is Outcome.SYNCED:
        return f"As {result.details['file']} says now:"
    if result.outcome is Outcome.UNDONE:
        return " ".join([result.message.rstrip(".") or "Undone", "in"])
    return None


def _rolled_back_line(result: InstallResult) -> str:
    place = (
        "the environment" if result.environment is None else render_environment(result.environment)
    )
    if any(finding.check == "left-changed" for finding in result.findings):
        return f"Rolled back: our change of {place} was undone; what something else changed is named above."
    return f"Rolled back: {place} is exactly as it was."


def _doctor_lines(result: InstallResult) -> List[str]:
    """The report alone, or the four questions with answers, what could not be checked, and the
    verdict with what to do."""
    if "report" in result.details:
        return str(result.details["report"]).splitlines()
    questions = result.details["questions"]
    width = max(len(name) for name, _ in questions)
    lines = [f"{name.ljust(width)}  {say(answer)}" for name, answer in questions]
    checks = result.details["checks"]
    lines += [
        f"{check['name']}: cannot tell, because {check['because']}"
        for check in checks
        if check["status"] == "cannot-tell"
    ]
    asked = [check for check in checks if check["status"] in ("passed", "found")]
    errors = [finding for finding in result.findings if finding.severity is Severity.ERROR]
    if not errors:
        lines.append(f"{len(asked)} checks, no error{_of_environment(result)}.")
        return lines + _undo_lines(result)
    found = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    lines.append(f"{len(asked)} checks, {found}{_of_environment(result)}.")
    lines += _undo_lines(result)
    hints = [finding.hint for finding in errors if finding.hint]
    return [*lines, *(f"Next: {hint}" for hint in hints[:1])]


def _wheel_lines(result: InstallResult) -> List[str]:
    lines: List[str] = []
    for table in result.details.get("tables", ()):
        lines += [*render_table(table["title"], table["columns"], table["rows"]), ""]
    return lines + result.message.splitlines()


def _examined_lines(result: InstallResult, health: HealthReport) -> List[str]:
    """What was checked, then the outcome: which torch, from where, on which device it computed."""
    driver = result.environment.driver if result.environment is not None else None
    lines = [
        f"torch {health.torch_version} in {health.torch_folder}" if health.torch_folder else "torch"
    ]
    lines.append(f"CUDA: {render_cuda(health, driver)}")
    for verb, answers in (("imported", health.imports), ("computed", health.operations)):
        good = [name for name, answer in answers.items() if answer.ok]
        if good:
            lines.append(f"{verb}: {', '.join(good)}")
    if result.outcome is not Outcome.HEALTHY:
        return [*lines, f"Not healthy{_of_environment(result)}."]
    return [*lines, f"Healthy{_of_environment(result)}."]


def _of_environment(result: InstallResult) -> str:
    if result.environment is None:
        return ""
    return f": {render_environment(result.environment)}"


def render_cuda(health: HealthReport, driver: Optional[Driver]) -> str:
    """Is CUDA available? With the driver, and the GPUs that torch sees."""
    if driver is None or driver.declared:
        here = ""
    else:
        here = f"driver {driver.version or 'of an unknown version'}" + (
            f" (CUDA {driver.cuda})" if driver.cuda else ""
        )
    if is_without_cuda(health):
        return f"torch is built without it{f', {here} is here' if here else ''}"
    if health.cuda_available is None:
        return f"not tried, {f'although {here} is here' if here else 'there is no driver here'}"
    if not health.cuda_available:
        return f"not available{f', {here}' if here else ''}"
    count = health.device_count or 0
    devices = f"{count} device{'' if count == 1 else 's'}"
    names = (
        [f"{device.name} ({device.compute_capability})" for device in driver.devices]
        if driver and here
        else []
    )
    # A variable may hide some GPUs; which ones torch sees is then not known here.
    named = f": {', '.join(names)}" if len(names) == count else f" of {len(names)}" if names else ""
    return f"available, {f'{here}, ' if here else ''}{devices}{named}"


def _place_line(verb: str, result: InstallResult) -> List[str]:
    if result.environment is None:
        return []
    torch = result.after.torch_version if result.after is not None else None
    steps = result.plan.steps if result.plan is not None else ()
    if any(step.name == "torch" and step.action is Action.REMOVE for step in steps):
        torch = ""
    return [f"{verb} {render_environment(result.environment, torch)}."]


def _verified_lines(result: InstallResult) -> List[str]:
    lines: List[str] = []
    if result.after is not None and result.after.torch_version is not None:
        lines.append(f"Verified: {render_health(result.after)}.")
    return lines + _undo_lines(result)


def _undo_lines(result: InstallResult) -> List[str]:
    if not result.transaction:
        return []
    several = result.details.get("undo", ())
    if len(several) > 1:
        return ["Undo with, in this order:", *(f"  {line}" for line in several)]
    if several:
        return [f"Undo with: {several[0]}"]
    interpreter = result.environment.interpreter if result.environment is not None else None
    user = (
        " --user" if interpreter is not None and interpreter.prefix == interpreter.user_base else ""
    )
    return [f"Undo with: safe-install undo{user} {result.transaction}"]


def show_traceback(error: BaseException) -> None:
    """Print the traceback of an error of this program on stderr."""
    for line in traceback.format_exception(type(error), error, error.__traceback__):
        print(printable(line.rstrip("\n")), file=sys.stderr)


def show_error(
    error: SafeInstallError,
    command: str = "",
    *,
    program: str = "safe-install",
    verbose: bool = False,
) -> None:
    """Print the error on stderr. A refused change ends with the outcome and the environment's
    name."""
    for line in render_error(error, verbose=verbose):
        write_line(hint_as_typed(line, program), sys.stderr)
    if command in CHANGING and error.exit_status in REFUSED and error.environment is not None:
        is_changed = any(finding.check == "changed-meanwhile" for finding in error.findings)
        place = render_environment(error.environment)
        refused = f"Refused: nothing was changed in {place}."
        if is_changed:
            refused = f"Refused: nothing was installed into {place}."
        write_line(say(refused), sys.stderr)
    sys.stderr.flush()

"""Every error has a code and an exit status that scripts may rely on."""

from __future__ import annotations

import ast
import errno
import re
import signal
from pathlib import Path

import pytest

from safe_install import errors
from safe_install.models import Finding, Severity

# The contract: what a script may tell apart.
EXIT_STATUSES = {
    "SafeInstallError": 1,
    "SystemFailed": 1,
    "UsageError": 2,
    "InputError": 1,
    "PipFailed": 1,
    "NoCandidate": 10,
    "Refused": 11,
    "ExternallyManaged": 1,
    "BuildFailed": 1,
    "RollBackFailed": 13,
    "EnvironmentLocked": 14,
    "LeaderFailed": 1,
    "ProbeFailed": 15,
    "DownloadFailed": 1,
    "HashMismatch": 11,
    "WheelInvalid": 11,
    "BundleInvalid": 11,
    "EngineFailed": 1,
    "IndexInvalid": 1,
    "Unexpected": 1,
    "Interrupted": 130,
}


def every_class(base=errors.SafeInstallError):
    found = [base]
    for child in base.__subclasses__():
        found += [name for name in every_class(child) if name not in found]
    return [name for name in found if name.__module__ == errors.__name__]


def test_every_class_keeps_its_exit_status():
    assert {error.__name__: error.exit_status for error in every_class()} == EXIT_STATUSES


def test_codes_are_kebab_case_and_unique():
    codes = [error.code for error in every_class()]
    assert [code for code in codes if not re.match(r"^[a-z]+(-[a-z0-9]+)*$", code)] == []
    assert len(codes) == len(set(codes))


def test_an_error_carries_what_was_seen():
    finding = Finding("torch-moved", Severity.ERROR, "torch", "torch would move")
    error = errors.Refused("no", hint="do this", findings=[finding])
    assert (str(error), error.message, error.hint) == ("no", "no", "do this")
    assert (error.findings, error.rejections, error.environment) == ((finding,), (), None)


def test_pips_exit_status_and_words_are_kept():
    error = errors.PipFailed("pip failed", output="ERROR: no\n", exit_status=23)
    assert (error.exit_status, error.output, errors.PipFailed("x").exit_status) == (
        23,
        "ERROR: no\n",
        1,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_the_status_of_a_shell(number, status):
    assert errors.Interrupted("ended", signal_number=number).exit_status == status


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "the user that owns this environment"),
        (errno.EPERM, "the user that owns this environment"),
        (errno.EROFS, "read-only"),
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EAGAIN, "no more processes"),
        (errno.EBUSY, "Something else works there"),
        (errno.EIO, "Look at that path and its disk"),
    ],
)
def test_what_to_do_about_the_operating_system(number, told):
    assert told in errors.hint_for_oserror(OSError(number, "no"))


def hints_in(path):
    """The beginnings of the hints that a module writes."""
    text = path.read_text(encoding="utf-8")
    if "hint=" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        for keyword in getattr(node, "keywords", ()):
            value = keyword.value
            if isinstance(value, ast.JoinedStr) and value.values:
                value = value.values[0]
            if keyword.arg == "hint" and isinstance(value, ast.Constant) and value.value:
                yield str(value.value)


@pytest.mark.any_python
def test_hints_begin_with_a_capital_letter():
    """Unless with a command or a path, which are written as they are typed."""
    package = Path(errors.__file__).parent
    written = [
        (path.name, hint) for path in sorted(package.rglob("*.py")) for hint in hints_in(path)
    ]
    assert len(written) > 100
    small = [
        (name, hint)
        for name, hint in written
        if hint[0].islower() and not re.match(r"safe-install |unset |\w+/", hint)
    ]
    assert small == []


def test_a_refusal_has_the_words_of_its_first_error():
    note = Finding("cpu-build", Severity.NOTE, "x", "a note", "Nothing.")
    error = Finding("torch-moved", Severity.ERROR, "torch", "torch would change", "Leave it.")
    refused = errors.Refused.by([note, error])
    assert (refused.message, refused.hint, refused.findings) == (
        "torch would change",
        "Leave it.",
        (note, error),
    )
    assert errors.Refused.by([note]).message == "a note"

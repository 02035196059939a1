"""main(): which exit status, which streams, which document."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pkgutil
import signal
import sys
from pathlib import Path

import jsonschema
import pytest

from safe_install import __version__, errors
from safe_install.cli import main as cli
from safe_install.cli.locations import read_location
from safe_install.events import Reporter
from safe_install.models import Finding, InstallResult, Outcome, Severity
from safe_install.ports import World
from safe_install.resolve.command_line import parse_command_line
from safe_install.resolve.pip_options import COMMANDS
from safe_install.system import pip
from tests.factories import make_environment
from tests.unit.test_errors import every_class

VALIDATOR = jsonschema.Draft202012Validator(
    json.loads(pkgutil.get_data("safe_install", "result.schema.json"))
)
WORLD = World({}, Reporter(), Path("/cache"))
FINDING = Finding("torch-moved", Severity.ERROR, "torch", "torch would move", "Leave it.")


@pytest.fixture(autouse=True)
def _quiet_surroundings(monkeypatch):
    monkeypatch.setattr(cli, "_catch_signals", lambda: None)
    monkeypatch.setattr(cli, "_ignore_signals", lambda: None)
    for name in ("SAFE_INSTALL_JSON", "SAFE_INSTALL_PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ends(monkeypatch):
    """Make `verify` end with a value or an exception."""

    def make(end):
        def run(invocation, reporter):
            reporter.output("a line of pip's")
            if isinstance(end, BaseException):
                raise end
            return end

        monkeypatch.setitem(cli.COMMANDS, "verify", run)

    return make


def make_error(error_class):
    if error_class is errors.Interrupted:
        error = errors.Interrupted("ended by SIGTERM", signal_number=signal.SIGTERM, hint="mend it")
    elif error_class is errors.PipFailed:
        error = errors.PipFailed(
            "pip failed: no", hint="mend it", output="ERROR: no", exit_status=23
        )
        error.was_relayed = True
    else:
        error = error_class("it went wrong", hint="mend it", findings=[FINDING])
    error.environment = make_environment(torch="1.8.1+cu111")
    return error


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        (
            KeyboardInterrupt(),
            130,
            "error: interrupted after the change was made, verified and kept (T-1)",
        ),
        (
            errors.Interrupted(
                "ended by SIGTERM: nothing was changed", signal_number=signal.SIGTERM
            ),
            143,
            "error: ended by SIGTERM after the change was made",
        ),
    ],
)
def test_what_ends_it_after_the_commit_does_not_say_that_nothing_was_changed(
    monkeypatch, capsys, end, status, said
):
    def run(invocation, reporter):
        reporter.change_made("T-1")
        raise end

    monkeypatch.setattr(sys, "argv", ["safe-install"])
    monkeypatch.setitem(cli.COMMANDS, "verify", run)
    assert cli.main(["verify"]) == status
    told = capsys.readouterr().err
    assert said in told
    assert "nothing was changed" not in told
    assert "safe-install undo T-1" in told


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "space"),
        (errno.EACCES, "user"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "disk"),
    ],
)
def test_an_error_of_the_file_system_names_the_path_and_the_mend(ends, capsys, code, hint):
    ends(OSError(code, os.strerror(code), "/some/path"))
    assert cli.main(["verify"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert "/some/path" in told[0]
    assert hint in told[-1]


# What a document says of each error. A new class needs its line here.
OUTCOMES = {
    "BuildFailed": "error",
    "DownloadFailed": "error",
    "EnvironmentLocked": "error",
    "EngineFailed": "error",
    "ExternallyManaged": "error",
    "HashMismatch": "refused",
    "IndexInvalid": "error",
    "InputError": "error",
    "Interrupted": "rolled-back",
    "LeaderFailed": "error",
    "NoCandidate": "refused",
    "PipFailed": "error",
    "ProbeFailed": "error",
    "Refused": "refused",
    "RollBackFailed": "rollback-failed",
    "SafeInstallError": "error",
    "SystemFailed": "error",
    "Unexpected": "error",
    "UsageError": "error",
    "WheelInvalid": "refused",
    "BundleInvalid": "refused",
}


@pytest.mark.parametrize("error_class", every_class(), ids=lambda error: error.__name__)
def test_an_error_ends_with_its_status_and_its_hint(error_class, ends, capsys):
    error = make_error(error_class)
    ends(error)
    assert cli.main(["verify"]) == error.exit_status
    told = capsys.readouterr()
    assert told.out == "a line of pip's\n"
    assert told.err.splitlines()[-1] == "hint: mend it"
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("words", "started_as", "expected"),
    [
        (["torch-scatter"], "/home/me/.local/bin/safe-install", "safe-install"),
        (["x"], "/site-packages/safe_install/__main__.py", "python -m safe_install"),
        (["x"], "./dist/safe-install.pyz", "./dist/safe-install.pyz"),
        (["--python", "my env", "install", "x"], "safe-install", "safe-install --python 'my env'"),
        (
            ["install", "--python=.venv", "x"],
            "a b/safe-install.pyz",
            "'a b/safe-install.pyz' --python .venv",
        ),
        (["--python", sys.executable, "install", "x"], "%safe_install", "%safe_install"),
        (["--python", ".venv", "verify"], "%safe_install", "%safe_install --python .venv"),
    ],
)
def test_the_command_that_undoes_works_as_printed(words, started_as, expected):
    assert cli._program(parse_command_line(words).words, started_as) == expected


@pytest.mark.parametrize("command", ["install", "uninstall", "undo"])
def test_a_refused_change_ends_with_the_environment(command, monkeypatch, capsys):
    error = errors.Refused("no", hint="mend it")
    error.environment = make_environment(torch="2.13.0+cpu")

    def run(invocation, reporter):
        raise error

    monkeypatch.setitem(cli.COMMANDS, command, run)
    assert cli.main([command, "x"]) == 11
    expected = "Refused: nothing was changed in /env (Python 3.11.7, torch 2.13.0+cpu)."
    assert capsys.readouterr().err.splitlines()[-1] == expected


@pytest.mark.parametrize("error_class", every_class(), ids=lambda error: error.__name__)
def test_with_json_an_error_is_one_valid_document(error_class, ends, capsys):
    error = make_error(error_class)
    ends(error)
    assert cli.main(["verify", "--json"]) == error.exit_status
    told = capsys.readouterr()
    document = json.loads(told.out)
    VALIDATOR.validate(document)
    assert document["error"] == {
        "code": error_class.code,
        "message": error.message,
        "hint": "mend it",
    }
    assert (document["command"], document["exit_code"]) == ("verify", error.exit_status)
    assert document["outcome"] == OUTCOMES[error_class.__name__]
    assert document["environment"]["torch"]["version"] == "1.8.1+cu111"
    assert [finding["check"] for finding in document["findings"]] == [
        item.check for item in error.findings
    ]
    assert "a line of pip's" in told.err
    assert "hint: mend it" in told.err


def test_what_pip_has_said_is_not_said_again(ends, capsys):
    ends(make_error(errors.PipFailed))
    assert cli.main(["verify"]) == 23
    assert "error:" not in capsys.readouterr().err


def test_an_interrupt(ends, capsys):
    ends(KeyboardInterrupt())
    assert cli.main(["verify", "--json"]) == 130
    told = capsys.readouterr()
    document = json.loads(told.out)
    VALIDATOR.validate(document)
    assert (document["error"]["code"], document["exit_code"]) == ("interrupted", 130)
    assert "interrupted" in told.err


@pytest.mark.parametrize("variable", [None, "1", "true"])
def test_a_result_as_document(variable, ends, capsys, monkeypatch):
    ends(InstallResult("verify", Outcome.UNHEALTHY, 1, findings=(FINDING,)))
    if variable:
        monkeypatch.setenv("SAFE_INSTALL_JSON", variable)
    assert cli.main(["verify"] if variable else ["--json", "verify"]) == 1
    document = json.loads(capsys.readouterr().out)
    VALIDATOR.validate(document)
    assert document["outcome"] == "unhealthy"


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ([], "a line of pip's\nNot healthy.\n", True),
        (["-q"], "", True),
        (["-qq"], "", True),
        (["--quiet"], "", True),
    ],
)
def test_a_result_as_text(options, out, err, ends, capsys):
    ends(InstallResult("verify", Outcome.UNHEALTHY, 1, findings=(FINDING,)))
    assert cli.main(["verify", *options]) == 1
    told = capsys.readouterr()
    assert told.out == out
    assert ("torch would move" in told.err) is err


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_that_pip_did_ends_with_pips_status(status, ends, capsys):
    ends(status)
    assert cli.main(["verify"]) == status


@pytest.mark.parametrize("argv", [["--version"], ["-V"]])
def test_version(argv, capsys):
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.startswith(f"safe-install {__version__} (Python ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], ["install", "verify", "explain", "undo", "history", "recover"]),
        (["--help"], ["install", "uninstall"]),
        (["install", "--help"], ["--allow-torch-change", "--target-gpu", "--dry-run"]),
        (["install", "torch", "-h"], ["--allow-torch-change"]),
        (["verify", "--help"], ["--require-cuda", "--json"]),
        (["explain", "--help"], ["--cxx11-abi", "--torch"]),
    ],
)
def test_help(argv, said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert [word for word in said if word not in out] == []


def test_the_help_names_every_command_and_fits_a_terminal(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "Usage: safe-install REQ... [OPTIONS]"
    assert max(map(len, lines)) < 80
    assert out.isascii()
    for command in cli.COMMANDS:
        assert any(line.startswith(f"  {command} ") for line in lines), command


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
@pytest.mark.parametrize("words", [["help", "{}"], ["-q", "help", "{}"], ["{}", "--help"]])
def test_the_help_of_our_commands_is_ours(command, words, capsys):
    assert cli.main([word.format(command) for word in words]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: safe-install {command} ")


def test_help_alone_is_the_help_of_all(capsys):
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: safe-install REQ...")


@pytest.fixture
def pip_calls(monkeypatch):
    """What reaches pip; it ends with status 7."""
    calls = []

    def passthrough(executable, arguments):
        calls.append((str(executable), list(arguments)))
        return 7

    monkeypatch.setattr(pip, "passthrough", passthrough)
    return calls


@pytest.mark.parametrize("command", sorted(COMMANDS - set(cli.COMMANDS)))
def test_pips_commands_end_with_pips_status(command, pip_calls):
    assert cli.main([command, "--json", "-q", "--help"]) == 7
    assert [arguments for _, arguments in pip_calls] == [[command, "--json", "-q", "--help"]]


@pytest.mark.parametrize("topic", ["freeze", "nosuch", "help"])
def test_the_help_of_all_other_topics_is_pips(topic, pip_calls):
    assert cli.main(["help", topic]) == 7
    assert pip_calls[0][1] == ["help", topic]


def test_the_completion_of_an_unknown_shell_is_refused(capsys):
    assert cli.main(["--show-completion", "tcsh"]) == 2
    assert "Name one of bash, zsh, fish" in capsys.readouterr().err


def test_an_unknown_command_goes_to_pip(pip_calls):
    assert cli.main(["?!", "x"]) == 7
    assert pip_calls[0][1] == ["?!", "x"]


@pytest.mark.parametrize(
    "words",
    [
        ["download", "-rfile.txt", "-qv", "--dest", "x", "y"],
        ["show", "-f", "--verbose", "torch"],
        ["list", "--format", "json", "--no-such"],
        ["-qq", "config", "get", "--", "--python"],
    ],
)
def test_words_reach_pip_as_they_were_written(words, pip_calls):
    assert cli.main(words) == 7
    assert pip_calls[0][1] == words


@pytest.mark.parametrize(
    "words",
    [["doctor", "--python", ""], ["--python=", "install", "x"], ["freeze", "--python", ""]],
)
def test_an_empty_python_is_not_the_default_one(words, pip_calls, capsys):
    assert cli.main(words) == 2
    assert "error: --python is empty" in capsys.readouterr().err
    assert pip_calls == []


@pytest.mark.parametrize("words", [["instal", "x", "--help"], ["--json", "undoo"]])
def test_an_unknown_command_is_refused_also_where_help_was_asked_for(words, capsys):
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert "unknown command" in err
    assert out.startswith("{") is ("--json" in words)


@pytest.mark.parametrize(
    ("argv", "reached"),
    [
        (["--python", "{}", "list", "-v"], ["list", "-v"]),
        (["--python={}", "list", "-v"], ["list", "-v"]),
        # pip refuses it there, and uv does not
        (["list", "-v", "--python", "{}"], ["list", "-v"]),
    ],
)
def test_python_chooses_whose_pip(argv, reached, pip_calls, tmp_path):
    executable = tmp_path / "bin" / "python"
    executable.parent.mkdir()
    executable.touch(mode=0o755)
    assert cli.main([word.format(executable) for word in argv]) == 7
    assert pip_calls == [(str(executable), [word.format(executable) for word in reached])]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["explain"], "needs a requirement"),
        (["install", "x", "--python", "/no/such/python"], "/no/such/python"),
        (["list", "--python", "/no/such/python"], "/no/such/python"),
        (["verify", "--no-such-option"], "--no-such-option"),
    ],
)
def test_usage_errors(argv, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    check_error(argv, 2, said, capsys)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["install"], "at least one requirement"),
        (["-r", "missing.txt"], "missing.txt"),
        (["uninstall"], "at least one requirement"),
        (["uninstall", "./x"], "./x"),
    ],
)
def test_what_pip_ends_with_1_for(argv, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    check_error(argv, 1, said, capsys)


def check_error(argv, status, said, capsys):
    assert cli.main(argv) == status
    err = capsys.readouterr().err
    assert said in err
    assert "hint: " in err


@pytest.mark.parametrize(
    ("started_as", "is_pip"),
    [
        ("/usr/local/bin/pip", True),
        ("pip3", True),
        ("/x/pip3.11", True),
        ("/x/safe-install", False),
        ("/x/pipx", False),
        ("/x/pip-audit", False),
        ("/x/safe_install/__main__.py", False),
    ],
)
def test_the_version_is_pips_where_the_program_is_called_pip(
    started_as, is_pip, pip_calls, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", [started_as, "--version"])
    for word in ("--version", "-V"):
        assert cli.main([word]) == (7 if is_pip else 0)
    assert [arguments for _, arguments in pip_calls] == ([["--version"], ["-V"]] if is_pip else [])
    assert capsys.readouterr().out.startswith("" if is_pip else "safe-install ")


@pytest.mark.parametrize("written", ["{}", "file://{}"])
def test_requirements_files_are_read(written, tmp_path):
    path = tmp_path / "a b.txt"
    path.write_bytes(b"\xef\xbb\xbftorch\n")
    location = written.format(path)
    assert (
        read_location(location.replace(" ", "%20") if "://" in location else location, world=WORLD)
        == "torch\n"
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_requirements_file_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "r.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.UsageError, match=r"r\.txt"):
        read_location(str(path), world=WORLD)


def test_signals_become_interrupts(monkeypatch):
    handlers = {}
    monkeypatch.undo()  # the real _catch_signals
    monkeypatch.setattr(cli.signal, "getsignal", lambda number: signal.SIG_DFL)
    monkeypatch.setattr(cli.signal, "signal", handlers.__setitem__)
    cli._catch_signals()
    assert set(handlers) == {signal.SIGTERM, signal.SIGHUP}
    with pytest.raises(errors.Interrupted) as caught:
        handlers[signal.SIGTERM](signal.SIGTERM, None)
    assert caught.value.exit_status == 143


def test_signals_that_somebody_ignores_stay_ignored(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(cli.signal, "getsignal", lambda number: signal.SIG_IGN)
    monkeypatch.setattr(cli.signal, "signal", lambda *arguments: pytest.fail("changed a handler"))
    cli._catch_signals()


# --- variables of other programs ------------------------------------------------------------------


@pytest.mark.parametrize("command", ["install", "explain", "bundle", "sync", "check_wheel"])
def test_a_variable_that_says_nothing_is_warned_of_once(command, monkeypatch, tmp_path, capsys):
    (tmp_path / "requirements.txt").write_text("alpha==1\n")
    words = {
        "explain": ["explain", "alpha"],
        "bundle": ["bundle", "--dry-run", "alpha"],
        "sync": ["sync", str(tmp_path / "requirements.txt")],
        "check_wheel": ["check-wheel", "alpha-1-py3-none-any.whl"],
    }
    empty = InstallResult("x", Outcome.ALREADY_SATISFIED, 0)
    monkeypatch.setattr(f"safe_install.commands.{command}.{command}", lambda *a, **k: empty)
    monkeypatch.setattr(cli, "probing", lambda invocation: contextlib.nullcontext())
    monkeypatch.setenv("UV_CUDA_DRIVER_VERSION", "abc")
    assert cli.main(words.get(command, ["install", "alpha"])) == 0
    said = "warning: UV_CUDA_DRIVER_VERSION=abc is no driver version: it is passed over\n"
    assert capsys.readouterr().err.count(said) == 1

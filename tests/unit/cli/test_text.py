"""Results and errors as the JSON document and as text."""

from __future__ import annotations

import dataclasses
import io
import json
import pkgutil
import re
import sys

import jsonschema
import pytest
from packaging.version import Version

from safe_install import errors
from safe_install.cli import json_document, progress
from safe_install.cli import text as cli_text
from safe_install.errors import Interrupted, Refused
from safe_install.models import (
    Action,
    Candidate,
    CandidateKind,
    Device,
    Driver,
    Finding,
    HostAnswer,
    HostAnswerKind,
    InstallResult,
    Link,
    Origin,
    Outcome,
    Plan,
    Rejection,
    Rule,
    Severity,
    Step,
)
from safe_install.resolve.command_line import OUR_COMMANDS
from tests.factories import make_environment, make_health

SCHEMA = json.loads(pkgutil.get_data("safe_install", "result.schema.json"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DRIVER = Driver("535.104.05", "12.2", (Device("NVIDIA A100", "8.0"),))
ESCAPE = "\x1b[2J\x1b]0;title\x07"


def make_rejection(version="2.0.8", rule=Rule.ACCELERATOR, detail="is for cpu"):
    filename = f"torch_scatter-{version}-cp38-cp38-linux_x86_64.whl"
    link = Link(f"https://h/{filename}", filename)
    return Rejection(
        Candidate("torch-scatter", Version(version), CandidateKind.WHEEL, link), rule, detail
    )


STEPS = (
    Step(
        Action.ADD,
        "torch-scatter",
        "2.0.8",
        url="https://h/s.whl",
        sha256="0" * 64,
        requested=True,
        because="fits",
    ),
    Step(Action.REPLACE, "numpy", "1.26.4", "2.0.0", url="https://h/n.whl", origin=Origin.BUILT),
    Step(Action.REMOVE, "scipy", None, "1.13"),
)
FINDING = Finding(
    "cuda-lost", Severity.ERROR, "torch", "CUDA was available and is not", "Look at nvidia-smi."
)
FULL = InstallResult(
    "install",
    Outcome.INSTALLED,
    0,
    environment=make_environment(torch="1.8.1+cu111", driver=DRIVER),
    plan=Plan(
        STEPS,
        rejections=tuple(make_rejection(rule=rule) for rule in Rule),
        answers=tuple(
            HostAnswer("torch-scatter", "h", "https://h", kind, "told") for kind in HostAnswerKind
        ),
    ),
    before=make_health(imports={"torch": None, "torch_scatter": "OSError: undefined symbol"}),
    after=make_health(
        available=None, operations={"torch_scatter": "wrong result"}, crashed="signal SIGSEGV"
    ),
    findings=(FINDING,),
    transaction="20261123T101112Z-3f2a",
    timings={"probe": 0.05123456},
    details={"torch": "1.8.1"},
)


def check(document):
    """The document, if it is valid and survives the way through JSON."""
    VALIDATOR.validate(document)
    assert json.loads(json.dumps(document)) == document
    return document


# --- the JSON document ----------------------------------------------------------------------------


def test_the_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_makes_a_valid_document(outcome):
    document = check(json_document.make_document(dataclasses.replace(FULL, outcome=outcome)))
    assert document["outcome"] == outcome.value
    check(json_document.make_document(InstallResult("verify", outcome, 0)))


@pytest.mark.parametrize("command", OUR_COMMANDS)
def test_every_command_is_in_the_schema(command):
    check(json_document.make_document(InstallResult(command, Outcome.HEALTHY, 0)))


@pytest.mark.parametrize("origin", list(Origin))
def test_readers_of_the_document_know_four_kinds(origin):
    plan = Plan((Step(Action.ADD, "demo", "1.0", origin=origin),))
    document = check(
        json_document.make_document(InstallResult("install", Outcome.PLANNED, 0, plan=plan))
    )
    expected = "sdist" if origin is Origin.REPOSITORY else origin.value
    assert document["plan"]["steps"][0]["kind"] == expected


def test_what_the_document_says():
    document = check(json_document.make_document(FULL))
    assert document["schema"] == 1
    assert document["tool"]["name"] == "torch-safe-install"
    torch = {"version": "1.8.1+cu111", "accelerator": "cu111", "cuda": "11.1", "cxx11_abi": None}
    assert document["environment"]["torch"] == torch
    assert document["environment"]["driver"]["devices"] == [
        {"name": "NVIDIA A100", "compute_capability": "8.0"}
    ]
    assert [step["action"] for step in document["plan"]["steps"]] == ["add", "replace", "remove"]
    assert document["after"]["operations"]["torch_scatter"] == {
        "ok": False,
        "seconds": 0.1,
        "error": "wrong result",
    }
    assert document["findings"][0]["check"] == "cuda-lost"
    assert {item["rule"] for item in document["rejections"]} == {rule.value for rule in Rule}
    assert document["timings"] == {"probe": 0.0512}
    assert document["error"] is None


@pytest.mark.parametrize(
    "broken",
    [
        {"schema": 2},
        {"outcome": "great"},
        {"command": "pip"},
        {"exit_code": -1},
        {"more": 1},
        {"plan": None},
    ],
)
def test_the_schema_refuses_other_documents(broken):
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({**json_document.make_document(FULL), **broken})


def test_an_error_makes_a_valid_document_too():
    error = errors.NoCandidate(
        "none fits", hint="mend", rejections=[make_rejection()], findings=[FINDING]
    )
    document = check(
        json_document.make_document(InstallResult("install", Outcome.REFUSED, 10), error)
    )
    assert document["error"] == {"code": "no-candidate", "message": "none fits", "hint": "mend"}
    assert (document["exit_code"], len(document["rejections"]), len(document["findings"])) == (
        10,
        1,
        1,
    )


# --- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 安装", "plain, größer, 安装"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("\x1b]0;title\x07", "?]0;title?"),
        ("over\rwritten", "over?written"),
        ("\x9b2J", "?2J"),
        ("wheel\u202elhw.exe", "wheel?lhw.exe"),
    ],
)
def test_printable(text, shown):
    assert cli_text.printable(text) == shown


def test_nothing_from_outside_steers_the_terminal():
    rejection = make_rejection(detail=ESCAPE)
    finding = Finding("x", Severity.NOTE, "x", f"detail {ESCAPE}", f"hint {ESCAPE}")
    step = dataclasses.replace(STEPS[0], url=f"https://h/{ESCAPE}", because=ESCAPE)
    error = errors.Refused(
        f"message {ESCAPE}", hint=f"hint {ESCAPE}", findings=[finding], rejections=[rejection]
    )
    lines = [
        *cli_text.render_error(error),
        *cli_text.render_finding(finding),
        *cli_text.render_steps(Plan((step,))),
        *cli_text.render_rejections([rejection]),
    ]
    assert lines
    assert [line for line in lines if "\x1b" in line or "\x07" in line] == []


@pytest.mark.parametrize("secret", ["https://user:hunter2@host/x", "https://host/x?token=hunter2"])
def test_no_secret_of_an_address_is_shown(secret, capsys):
    finding = Finding("x", Severity.NOTE, "x", f"detail {secret}", f"hint {secret}")
    step = dataclasses.replace(STEPS[0], url=secret, because=secret)
    answer = HostAnswer("torch-scatter", "host", secret, HostAnswerKind.DOWN, secret)
    plan = Plan((step,), rejections=(make_rejection(detail=secret),), answers=(answer,))
    explained = InstallResult("explain", Outcome.EXPLAINED, 0, plan=plan, findings=(finding,))
    reporter = progress.TextReporter()
    for say in (reporter.note, reporter.warn, reporter.output, reporter.error_output):
        say(secret)
    cli_text.show_result(explained)
    cli_text.show_result(dataclasses.replace(explained, outcome=Outcome.PLANNED))
    cli_text.show_error(errors.PipFailed(secret, output=secret))
    json_document.show_document(
        json_document.make_document(explained, errors.Refused(secret, findings=[finding]))
    )
    cli_text.show_traceback(ValueError(secret))
    out, err = capsys.readouterr()
    assert "host" in out and "host" in err
    assert "hunter2" not in out + err


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\u202elhw", "\x7f", "\udc80"])
def test_neither_pips_words_nor_the_document_steer_the_terminal(text, capsys):
    reporter = progress.TextReporter()
    reporter.output(text)
    reporter.error_output(text)
    cli_text.show_error(errors.PipFailed("x", output=text))
    cli_text.show_traceback(ValueError(text))
    document = json_document.make_document(FULL, errors.Refused(text))
    json_document.show_document(document)
    out, err = capsys.readouterr()
    assert text[0] not in out + err
    assert json.loads(out[out.index("{") :])["error"]["message"] == text


def test_a_name_cannot_look_like_a_line_of_ours():
    step = dataclasses.replace(
        STEPS[0], because="wanted\nSuccessfully installed torch-scatter-2.0.8"
    )
    assert len(cli_text.render_steps(Plan((step,)))) == 1


def test_render_steps():
    assert cli_text.render_steps(Plan(STEPS)) == [
        "  + torch-scatter 2.0.8  (fits)  [wheel] https://h/s.whl",
        "  ~ numpy 2.0.0 -> 1.26.4  [built] https://h/n.whl",
        "  - scipy 1.13",
    ]


@pytest.mark.parametrize(
    ("health", "parts"),
    [
        (make_health(torch=None), ["no torch"]),
        (make_health(devices=1), ["torch 1.8.1+cu111", "CUDA available, 1 device"]),
        (make_health(devices=8), ["torch 1.8.1+cu111", "CUDA available, 8 devices"]),
        (make_health(available=False), ["torch 1.8.1+cu111", "CUDA not available"]),
        (
            make_health(
                imports={"torch": None, "a": None, "b": None, "c": "no"},
                operations={"a": "no", "b": None},
            ),
            ["torch 1.8.1+cu111", "CUDA available, 1 device", "imports a, b", "FAILS: c, a"],
        ),
    ],
)
def test_render_health(health, parts):
    assert cli_text.render_health(health).split("; ") == parts


def test_without_a_driver_cuda_was_not_asked():
    assert "not asked" in cli_text.render_health(make_health(available=None))


def test_rejections_are_shown_in_their_order_and_the_rest_is_counted():
    rejections = [
        make_rejection("2.0", Rule.PYTHON),
        make_rejection("1.0", Rule.PYTHON),
        make_rejection("2.0", Rule.TORCH_VERSION),
        make_rejection("1.0", Rule.TORCH_VERSION),
        make_rejection("3.0", Rule.SPECIFIER),
    ]
    lines = cli_text.render_rejections(rejections, 2)
    assert len(lines) == 3
    assert "and 3 more: 1 by specifier, 2 by torch-version" in lines[-1]
    assert len(cli_text.render_rejections(rejections)) == 5


def test_an_error_shows_a_few_rejections_and_all_with_verbose():
    error = errors.Refused("refused: no", rejections=[make_rejection()] * 5)
    short, long = (len(cli_text.render_error(error, verbose=asked)) for asked in (False, True))
    assert (short, long) == (1 + 3 + 1, 1 + 5)


def test_render_error():
    error = errors.Refused(
        "refused: no", hint="mend", findings=[FINDING], rejections=[make_rejection()]
    )
    finding, hint, message, rejection, last = cli_text.render_error(error)
    assert finding == "error: CUDA was available and is not"
    assert hint.strip() == "hint: Look at nvidia-smi."
    assert message == "error: refused: no"
    assert (
        rejection.strip()
        == "torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl: accelerator: is for cpu"
    )
    assert last == "hint: mend"


def test_a_finding_that_the_message_quotes_is_not_said_twice():
    error = errors.Refused(f"refused: {FINDING.detail}", findings=[FINDING])
    assert cli_text.render_error(error) == [f"error: refused: {FINDING.detail}"]


@pytest.mark.parametrize(
    ("quiet", "severities"),
    [(0, ["error", "warning", "note"]), (1, ["error"]), (2, ["error"])],
)
def test_quiet_shows_errors_only(quiet, severities, capsys):
    findings = tuple(Finding("x", severity, "x", f"a {severity.value}") for severity in Severity)
    cli_text.show_result(dataclasses.replace(FULL, findings=findings), quiet=quiet)
    told = capsys.readouterr()
    assert [line.partition(":")[0] for line in told.err.splitlines()] == severities
    assert bool(told.out) == (quiet == 0)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (
            Outcome.INSTALLED,
            [
                "Installed into /env (Python 3.11.7, torch 1.8.1+cu111).\n",
                "Verified: torch",
                "\nUndo with: safe-install undo",
            ],
        ),
        (Outcome.UNINSTALLED, ["Uninstalled from /env (Python 3.11.7"]),
        (
            Outcome.PLANNED,
            ["+ torch-scatter 2.0.8", "Would install numpy-1.26.4 torch-scatter-2.0.8"],
        ),
        (
            Outcome.ROLLED_BACK,
            ["Rolled back: /env (Python 3.11.7, torch 1.8.1+cu111) is exactly as it was."],
        ),
        (
            Outcome.UNDONE,
            [
                "Undone in /env (Python 3.11.7, torch 1.8.1+cu111).",
                "\nUndo with: safe-install undo",
            ],
        ),
        (Outcome.REFUSED, ["nothing was changed"]),
        (
            Outcome.UNHEALTHY,
            [
                "Not healthy, and kept as --no-rollback says, in /env (Python",
                "\nUndo with: safe-install undo",
            ],
        ),
    ],
)
def test_the_outcome_is_said_in_words(outcome, said, capsys):
    plan = Plan((STEPS[2],)) if outcome is Outcome.UNINSTALLED else Plan(STEPS[:2])
    cli_text.show_result(dataclasses.replace(FULL, outcome=outcome, plan=plan))
    out = capsys.readouterr().out
    assert [sentence for sentence in said if sentence not in out] == []


def test_the_environment_is_named_as_a_person_would(monkeypatch):
    environment = make_environment(torch="2.13.0+cpu")
    assert cli_text.render_environment(environment) == "/env (Python 3.11.7, torch 2.13.0+cpu)"
    assert (
        cli_text.render_environment(environment, "2.14.1+cu130")
        == "/env (Python 3.11.7, torch 2.14.1+cu130)"
    )
    assert cli_text.render_environment(make_environment(torch=None)) == "/env (Python 3.11.7)"
    monkeypatch.chdir("/")
    assert cli_text.render_environment(environment).startswith("./env (")


TORCH_FOLDER = "/env/site-packages/torch"


def test_verify_names_the_environment_also_where_torch_is_not_there(capsys):
    environment = make_environment(torch=None)
    cli_text.show_result(InstallResult("verify", Outcome.UNHEALTHY, 1, environment))
    assert capsys.readouterr().out == "Not healthy: /env (Python 3.11.7).\n"


@pytest.mark.parametrize(
    ("fields", "cuda", "last"),
    [
        (
            {"devices": 1},
            "CUDA: available, driver 535.104.05 (CUDA 12.2), 1 device: NVIDIA A100 (8.0)",
            "Healthy: /env (Python 3.11.7).",
        ),
        (
            {"available": None, "driver": None},
            "CUDA: not tried, there is no driver here",
            "Healthy: /env (Python 3.11.7).",
        ),
        (
            {"torch": "2.13.0+cpu", "cuda": None, "available": None, "driver": None},
            "CUDA: torch is built without it",
            "Healthy: /env (Python 3.11.7).",
        ),
        (
            {"available": False, "outcome": Outcome.UNHEALTHY},
            "CUDA: not available, driver 535.104.05 (CUDA 12.2)",
            "Not healthy: /env (Python 3.11.7).",
        ),
        (
            {"available": None, "outcome": Outcome.UNHEALTHY},
            "CUDA: not tried, although driver 535.104.05 (CUDA 12.2) is here",
            "Not healthy: /env (Python 3.11.7).",
        ),
    ],
)
def test_verify_says_what_it_looked_at(fields, cuda, last, capsys):
    driver = fields.pop("driver", Driver("535.104.05", "12.2", (Device("NVIDIA A100", "8.0"),)))
    outcome = fields.pop("outcome", Outcome.HEALTHY)
    answers = {
        "imports": {"torch": None, "a": None, "b": "no"},
        "operations": {"torch on cpu": None, "a on cpu": "no"},
    }
    if outcome is Outcome.HEALTHY:
        answers = {"imports": {"torch": None, "a": None}, "operations": {"torch on cpu": None}}
    health = make_health(torch_folder=TORCH_FOLDER, **answers, **fields)
    cli_text.show_result(
        InstallResult("verify", outcome, 0, make_environment(driver=driver), after=health)
    )
    first, *rest, said = capsys.readouterr().out.splitlines()
    assert first == f"torch {health.torch_version} in {TORCH_FOLDER}"
    assert rest == [cuda, "imported: torch, a", "computed: torch on cpu"]
    assert said == last


def test_of_several_gpus_torch_may_see_some():
    driver = Driver(
        "535.104.05", "12.2", (Device("NVIDIA A100", "8.0"), Device("NVIDIA T4", "7.5"))
    )
    assert cli_text.render_cuda(make_health(devices=1), driver).endswith("1 device of 2")
    assert cli_text.render_cuda(make_health(devices=2), driver).endswith(
        "2 devices: NVIDIA A100 (8.0), NVIDIA T4 (7.5)"
    )
    assert cli_text.render_cuda(make_health(devices=2), None) == "available, 2 devices"


def test_what_changed_can_be_undone(capsys):
    cli_text.show_result(FULL)
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("Undo with: safe-install undo 20261123T101112Z-3f2a")
    )


def test_show_document_is_one_document(capsys):
    json_document.show_document(json_document.make_document(FULL))
    check(json.loads(capsys.readouterr().out))


# --- what is seen while it happens ----------------------------------------------------------------


def speak(reporter):
    reporter.note(f"a note {ESCAPE}")
    reporter.warn("a warning")
    reporter.output("pip's line")
    reporter.error_output("pip's error")
    reporter.task_started("build a", total=2)
    reporter.task_advanced("build a", 1, "half")
    reporter.task_ended("build a", "made")
    reporter.close()


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ({}, ["pip's line"], ["a note", "warning: a warning", "pip's error", "build a: made"]),
        ({"notes": False}, ["pip's line"], ["warning: a warning", "pip's error"]),
        ({"quiet": 1}, [], ["warning: a warning", "pip's error"]),
        ({"quiet": 2}, [], ["pip's error"]),
        (
            {"json_on_stdout": True},
            [],
            ["a note", "warning: a warning", "pip's line", "pip's error", "build a: made"],
        ),
    ],
)
def test_lines_where_there_is_no_terminal(options, out, err, capsys):
    speak(progress.TextReporter(**options))
    told = capsys.readouterr()
    assert told.out.splitlines() == out
    lines = told.err.splitlines()
    assert [line.startswith(begin) for line, begin in zip(lines, err)] == [True] * len(err)
    assert len(lines) == len(err)
    assert "\x1b" not in told.err


@pytest.mark.parametrize(("quiet", "count"), [(0, 1), (1, 1), (2, 0)])
def test_what_was_said_before_the_change_is_not_said_again(quiet, count, capsys):
    warning = Finding("torch-accelerator", Severity.WARNING, "torch", "another CUDA", "Look twice.")
    reporter = progress.TextReporter(quiet=quiet)
    reporter.found(warning)
    before = capsys.readouterr().err
    result = dataclasses.replace(FULL, findings=(warning, FINDING))
    cli_text.show_result(result, quiet=quiet, said=reporter.said)
    after = capsys.readouterr().err
    assert before.count("warning: another CUDA\n  hint: Look twice.\n") == count
    assert "another CUDA" not in after and "CUDA was available" in after


def test_a_slow_task_is_told_once(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.TextReporter()
    reporter.task_started("build a")
    reporter.task_advanced("build a", 1)
    now[0] = progress.SLOW + 0.5  # a script may take what stands on stderr for trouble
    reporter.task_advanced("build a", 1)
    now[0] = progress.SLOW_UNSEEN + 0.5
    reporter.task_advanced("build a", 2)
    reporter.task_advanced("build a", 3)
    reporter.task_ended("build a")
    reporter.task_started("quick")
    reporter.task_ended("quick")
    assert capsys.readouterr().err.splitlines() == ["build a ...", "build a: done (10.5 s)"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_bars_on_a_terminal(no_color, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(progress, "SLOW", -1.0)
    reporter = progress.TextReporter()
    reporter.task_started("build [bold]a[/bold]", total=2)
    reporter.task_advanced("build [bold]a[/bold]", 1)
    reporter._bars.refresh()
    reporter.note("a note")
    reporter.task_ended("build [bold]a[/bold]")
    reporter.close()
    shown = terminal.getvalue()
    assert "build [bold]a[/bold]" in shown  # words, not markup
    assert "a note" in shown
    coloured = "\x1b[38;" in shown or "\x1b[3" in shown.replace("\x1b[3m", "")
    assert coloured is not no_color


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("To bring it back: safe-install undo 1.", "To bring it back: P --python x undo 1."),
        ("safe-install list shows the names.", "P --python x list shows the names."),
        ("Ask for it: safe-install torch==2.8.0", "Ask for it: P --python x torch==2.8.0"),
        ("Ask for it: safe-install -U torch", "Ask for it: P --python x -U torch"),
        ("Leave it to safe-install, which builds.", "Leave it to safe-install, which builds."),
        ("This is a mistake of safe-install: x", "This is a mistake of safe-install: x"),
    ],
)
def test_a_line_to_type_names_the_environment_that_was_named(hint, shown, capsys):
    error = Refused("no", hint=hint)
    cli_text.show_error(error, "undo", program="P --python x")
    assert capsys.readouterr().err.splitlines() == ["error: no", f"hint: {shown}"]


def test_so_does_the_hint_of_what_is_said_meanwhile(capsys):
    finding = Finding("x", Severity.NOTE, "a", "a word", "See safe-install explain a.")
    progress.TextReporter(program="safe-install --python x").found(finding)
    told = capsys.readouterr().err.splitlines()
    assert told == ["note: a word", "  hint: See safe-install --python x explain a."]


def test_the_line_that_undoes_names_the_environment_once(capsys):
    result = InstallResult("install", Outcome.INSTALLED, 0, transaction="T-1")
    cli_text.show_result(result, program="safe-install --python x")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Undo with: safe-install --python x undo T-1"


def test_beside_a_bar_pips_lines_still_go_where_stdout_goes(monkeypatch):
    """`safe-install ... > log` on a terminal."""
    terminal, log = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", log)
    monkeypatch.setenv("TERM", "xterm-256color")
    reporter = progress.TextReporter()
    reporter.task_started("fetch a")
    reporter.output("Successfully built a")
    reporter.error_output("WARNING: words of pip")
    reporter.close()
    assert log.getvalue() == "Successfully built a\n"
    assert "Successfully" not in terminal.getvalue()
    assert "WARNING: words of pip" in terminal.getvalue()


def test_a_task_that_goes_on_is_named_every_half_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.TextReporter()
    reporter.task_started("build torch-scatter", unit="files")
    for seconds in (2, 12, 50, 60, 141, 3741):
        now[0] = float(seconds)
        reporter.task_advanced("build torch-scatter", 3 if seconds > 100 else 0, "scatter.cpp", 7)
    assert capsys.readouterr().err.splitlines() == [
        "build torch-scatter ...",
        "build torch-scatter: 0/7 files, 0:50",
        "build torch-scatter: 3/7 files, 2:21",
        "build torch-scatter: 3/7 files, 1:02:21",
    ]


@pytest.mark.parametrize(
    ("error", "word"),
    [(None, "done"), (KeyboardInterrupt(), "interrupted"), (Interrupted("x", signal_number=15), "interrupted"),
     (ValueError("x"), "failed"), (Refused("x"), "failed")],
)  # fmt: skip
def test_only_what_was_done_is_called_done(error, word, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.TextReporter()
    try:
        with reporter.task("build a"):
            now[0] = 50.3
            if error is not None:
                raise error
    except BaseException as raised:  # noqa: BLE001 - an interrupt is the subject
        assert raised is error
    assert capsys.readouterr().err.splitlines() == [f"build a: {word} (50.3 s)"]


@pytest.mark.parametrize(
    ("done", "total", "unit", "amount"),
    [
        (3, 7, "files", "3/7 files"),
        (0, 7, "files", "0/7 files"),
        (0, None, "files", ""),
        (12_400_000, 804_100_000, "bytes", "12/804 MB"),
        (12_400_000, None, "bytes", "12 MB"),
        (0, None, "", ""),
    ],
)
def test_how_much_is_done(done, total, unit, amount):
    assert progress.render_amount(done, total, unit) == amount


@pytest.mark.parametrize("width", [80, 60, 120])
def test_a_bar_keeps_its_front_its_count_and_its_clock(width, monkeypatch):
    """The last column of the terminal cuts the name of the file that is compiled, and nothing
    else."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    reporter = progress.TextReporter()
    reporter.task_started("build torch-scatter", unit="files")
    reporter.task_advanced(
        "build torch-scatter", 3, "a_very_long_name_of_a_source_file_" * 3 + ".cu", 7
    )
    with reporter._bars._lock:
        for task in reporter._bars.tasks:
            task.start_time = task.get_time() - 130.0
    reporter._bars.refresh()
    line = [
        text
        for text in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", terminal.getvalue())
        if "2:10" in text
    ][-1]
    reporter.close()
    assert len(line) <= width
    assert "build torch-scatter  a_very" in line
    assert re.search(r" 3/7 files +2:10 *$", line)


def test_a_name_cannot_steer_the_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    reporter = progress.TextReporter()
    reporter.task_started("build a", unit="files")
    reporter.task_advanced("build a", 1, "x\n\x1b]0;owned\x07.cpp", 2)
    reporter._bars.refresh()
    reporter.close()
    assert "\x1b]0;" not in terminal.getvalue()


LONG_NAME = (
    "at::Tensor torch::something("
    + ", ".join(["std::vector<long, std::allocator<long> > const&"] * 20)
    + ")"
)


def make_file_findings(count, severity=Severity.ERROR, check="does-not-load"):
    """So many files of one wheel that fail in the same way."""
    return [
        Finding(
            check,
            severity,
            "xformers",
            f"lib{number}.so needs 3 symbols: {LONG_NAME}",
            "Take the build for this torch.",
        )
        for number in range(count)
    ]


def refuse(findings):
    return Refused(findings[0].detail, hint=findings[0].hint, findings=findings)


def test_files_that_fail_alike_are_refused_in_four_lines(capsys):
    notes = make_file_findings(9, Severity.NOTE, "optional-part-does-not-load")
    error = refuse([*make_file_findings(30), *notes])
    error.environment = make_environment(torch="1.8.1+cu111")
    cli_text.show_error(error, "install")
    first, more, hint, outcome = capsys.readouterr().err.splitlines()
    assert first.startswith("error: lib0.so needs 3 symbols: at::Tensor torch::something(")
    assert len(first) < 250
    assert more == "  and 29 more like it (all with --json)"
    assert hint == "hint: Take the build for this torch."
    assert outcome.startswith("Refused: nothing was changed in ")


def test_verbose_shows_every_file(capsys):
    error = refuse(make_file_findings(30))
    cli_text.show_error(error, "install", verbose=True)
    told = capsys.readouterr().err
    assert all(f"lib{number}.so" in told for number in range(30))
    assert "more like it" not in told
    assert LONG_NAME in told
    assert (
        len(
            json_document.make_document(InstallResult("install", Outcome.REFUSED, 11), error)[
                "findings"
            ]
        )
        == 30
    )


def test_findings_of_two_wheels_or_of_other_checks_are_not_counted_together():
    findings = [
        Finding("does-not-load", Severity.ERROR, "a", "a.so", "One."),
        Finding("does-not-load", Severity.ERROR, "b", "b.so", "One."),
        Finding("torch-moved", Severity.ERROR, "c", "c moves", "Two."),
        Finding("torch-moved", Severity.ERROR, "c", "c moves again", "Three."),
        Finding("optional-part-does-not-load", Severity.NOTE, "a", "part of a"),
        Finding("optional-part-does-not-load", Severity.NOTE, "d", "part of d"),
    ]
    shown = cli_text.select_findings(findings)
    assert [(one.finding.detail, one.finding.hint, one.more) for one in shown] == [
        ("a.so", "One.", 0),
        ("b.so", "", 0),
        ("c moves", "Two.", 0),
        ("c moves again", "Three.", 0),
        ("part of d", "", 0),
    ]


def test_a_hint_of_the_error_is_not_said_twice():
    other = Finding("does-not-load", Severity.ERROR, "b", "b.so", "Take another.")
    lines = cli_text.render_error(Refused("a.so", hint="Take another.", findings=[other]))
    assert lines == ["error: b.so", "error: a.so", "hint: Take another."]


# --- pip's words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quiet", "as_json", "out", "err"), [(0, False, "said", ""), (0, True, "", "said")]
)
def test_what_we_say_in_pips_words_is_in_its_log_too(quiet, as_json, out, err, capsys, tmp_path):
    reporter = progress.TextReporter(quiet=quiet, json_on_stdout=as_json)
    reporter.log_file = tmp_path / "folder" / "log.txt"
    reporter.announce("said")
    reporter.output("relayed")  # pip has it in the log
    told = capsys.readouterr()
    assert (told.out.split("\n")[0], told.err.split("\n")[0]) == (out, err)
    (line,) = reporter.log_file.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} said", line)


def test_quiet_keeps_the_log(capsys, tmp_path):
    reporter = progress.TextReporter(quiet=1)
    reporter.log_file = tmp_path / "log.txt"
    reporter.announce("said")
    assert capsys.readouterr().out == ""
    assert reporter.log_file.read_text().endswith(" said\n")


@pytest.mark.parametrize(("quiet", "shown"), [(0, True), (1, True), (2, False)])
def test_a_warning_of_pips_is_hidden_as_pip_hides_it(quiet, shown, capsys):
    progress.TextReporter(quiet=quiet).pip_warning("WARNING: x")
    assert bool(capsys.readouterr().err) is shown


@pytest.mark.parametrize(("as_json", "stream"), [(False, "out"), (True, "err")])
def test_a_document_is_shown_however_quiet(as_json, stream, capsys):
    progress.TextReporter(quiet=3, json_on_stdout=as_json).document('{\n  "a": "\x9b"\n}')
    assert getattr(capsys.readouterr(), stream) == '{\n  "a": "\\u009b"\n}\n'


@pytest.mark.parametrize(
    ("typed", "answer", "out"),
    [("yes\n", "yes", "Proceed? "), ("\n", "", "Proceed? "), ("", None, "Proceed? \n")],
)
def test_a_question(typed, answer, out, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert progress.TextReporter(quiet=1).ask("Proceed? ") == answer
    assert capsys.readouterr().out == out


def test_progress_can_be_switched_off(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.TextReporter()
    reporter.shows_progress = False
    reporter.task_started("build a")
    now[0] = progress.SLOW_UNSEEN + 1
    reporter.task_advanced("build a", 1)
    assert capsys.readouterr().err == ""


# --- the torch that explain chooses ---------------------------------------------------------------

CHOSEN = InstallResult(
    "explain",
    Outcome.EXPLAINED,
    0,
    plan=Plan(
        (
            Step(Action.ADD, "torch", "2.8.0", because="requested"),
            Step(
                Action.ADD,
                "torch-scatter",
                "2.1.2",
                url="https://h/torch_scatter.whl",
                because="requested",
            ),
        ),
        rejections=(
            Rejection(
                Candidate(
                    "torch-scatter",
                    Version("2.1"),
                    CandidateKind.WHEEL,
                    Link("https://h/old.whl", "old.whl"),
                ),
                Rule.PYTHON,
                "for cp39-cp39, here is cp311",
            ),
        ),
        answers=(HostAnswer("torch-scatter", "h", "https://h/", HostAnswerKind.LISTED, "2 files"),),
    ),
    details={
        "torch": {"version": "2.8.0+cu128", "page": "https://pypi.org/simple/torch/"},
        "not_taken": [
            {"torch": "2.15.0+cu132", "reason": "is too new"},
            {"torch": "2.15.0+cu130", "reason": "is too new, too"},
            # three builds of it were never made
            *[{"torch": "2.14.1", "reason": "has no wheel for Python 3.6"}] * 3,
            {"torch": "2.14.0+cu130", "reason": "no torch-scatter was built for it"},
        ],
        "not_taken_releases": [
            {"torch": ["2.15.0+cu132"], "reason": "is too new"},
            {
                "torch": ["2.14.0", "2.13.0", "2.12.0", "2.11.0"],
                "reason": "no torch-scatter was built for it",
            },
        ],
        "command": "safe-install torch==2.8.0 torch-scatter",
    },
)


def test_the_torch_that_is_chosen_its_files_and_what_to_type(capsys):
    cli_text.show_result(CHOSEN)
    assert capsys.readouterr().out.splitlines() == [
        "torch 2.8.0+cu128 (requested)",
        "  https://pypi.org/simple/torch/",
        "  not taken:",
        "    2.15.0+cu132: is too new",
        "    2.14.0 to 2.11.0 (4 releases): no torch-scatter was built for it",
        "torch-scatter 2.1.2 (requested)",
        "  https://h/torch_scatter.whl",
        "Install with: safe-install torch==2.8.0 torch-scatter",
    ]


def test_verbose_has_every_build_file_and_host(capsys):
    cli_text.show_result(CHOSEN, verbose=True)
    said = capsys.readouterr().out
    for line in (
        "    2.15.0+cu130: is too new, too",
        "    old.whl: python: for cp39-cp39",
        "  torch-scatter: h: listed",
    ):
        assert line in said
    assert said.count("    2.14.1: has no wheel for Python 3.6") == 1


def test_without_a_host_there_is_no_heading_for_hosts(capsys):
    assert CHOSEN.plan is not None
    result = dataclasses.replace(CHOSEN, plan=dataclasses.replace(CHOSEN.plan, answers=()))
    cli_text.show_result(result, verbose=True)
    said = capsys.readouterr().out
    assert "not taken:" in said
    assert "hosts:" not in said


def test_what_only_an_error_has_to_say_stands_in_the_document():
    error = errors.NoCandidate("no torch has both")
    error.details = {"conflict": {"wishes": ["a", "b"]}}
    result = InstallResult("explain", Outcome.REFUSED, 10, details=error.details)
    assert json_document.make_document(result, error)["details"] == {
        "conflict": {"wishes": ["a", "b"]}
    }

"""The verdict: what counts as worse, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.version import Version
from tests.factories import MARKERS, make_distribution, make_environment, make_health

from safe_install.health.report import (
    compare_health,
    crash_event,
    explain_deaths,
    first_line,
    hint_for,
    make_report,
    missing_answers,
    parse_answers,
    replace_undecided,
    undecided_files,
    unmet_requirements,
)
from safe_install.models import DriverLibrary, HealthReport, ImportResult, Severity, TorchBuild


def errors(before, after, requested=(), **options):
    options.setdefault("torch_requested", False)
    findings = compare_health(before, after, requested=requested, **options)
    return [finding.check for finding in findings if finding.severity is Severity.ERROR]


GOOD = make_health()


@pytest.mark.parametrize(
    ("before", "after", "requested", "expected"),
    [
        pytest.param(GOOD, GOOD, (), [], id="nothing changed"),
        pytest.param(GOOD, make_health(available=False, devices=0), (), ["cuda-lost"], id="CUDA lost"),
        pytest.param(GOOD, make_health(available=None, devices=0), (), ["cuda-lost"], id="driver out of sight"),
        pytest.param(make_health(devices=4), make_health(devices=3), (), ["devices-lost"], id="fewer devices"),
        pytest.param(
            GOOD,
            make_health(torch="2.4.1+cu121", cuda="12.1"),
            (),
            ["torch-moved", "torch-moved"],
            id="torch moved though CUDA works",
        ),
        pytest.param(GOOD, make_health(cuda="11.3"), (), ["torch-moved"], id="other CUDA build, same version"),
        pytest.param(
            make_health(available=False, devices=0),
            make_health(available=False, devices=0),
            (),
            [],
            id="CUDA was not available before either",
        ),
        pytest.param(
            make_health(available=None, devices=0),
            make_health(available=None, devices=0),
            (),
            [],
            id="no driver here",
        ),
        pytest.param(
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            (),
            [],
            id="broken before and after",
        ),
        pytest.param(
            make_health(imports={"torch": None, "torch_sparse": None}),
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            (),
            ["import-failed"],
            id="another extension broke",
        ),
        pytest.param(
            GOOD,
            make_health(imports={"torch": None, "torch_scatter": "OSError"}),
            ("torch_scatter",),
            ["import-failed"],
            id="the requested one does not import",
        ),
        pytest.param(
            GOOD,
            make_health(operations={"torch-scatter on cuda": "RuntimeError"}),
            ("torch-scatter",),
            ["operation-failed"],
            id="the requested one fails on the GPU",
        ),
        pytest.param(
            make_health(asked="loader"),
            make_health(imports={"torch": None, "torchvision": "RuntimeError"}),
            (),
            ["import-failed"],
            id="what a loader was not asked counts as good",
        ),
        pytest.param(
            GOOD,
            make_health(imports={"torch": None, "torchvision": "RuntimeError"}),
            (),
            [],
            id="what an import did not know before is only a warning",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": None}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="the bridge to numpy broke",
        ),
        pytest.param(
            make_health(asked="loader"),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="the bridge to numpy counts as good until the old environment is asked",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            ("numpy",),
            [],
            id="the bridge to numpy never worked",
        ),
        pytest.param(
            HealthReport(imports={"torch": ImportResult(False, error="no answer", unknown=True)}),
            HealthReport(imports={"torch": ImportResult(False, error="no answer", unknown=True)}),
            (),
            ["import-failed"],
            id="nobody knows, neither before nor after",
        ),
        pytest.param(
            make_health(operations={"torch on cpu": None}),
            make_health(operations={"torch on cpu": "signal SIGILL"}),
            (),
            ["operation-failed"],
            id="torch does not compute any more",
        ),
        pytest.param(
            make_health(unmet=("a 1 requires b, which is not installed",)),
            make_health(unmet=("a 1 requires b, which is not installed",)),
            (),
            [],
            id="unmet before",
        ),
        pytest.param(
            make_health(unmet=("a 1 requires b<2,>=1, but you have b 3 which is incompatible.",)),
            make_health(unmet=("a 1 requires b<2,>=1, but you have b 4 which is incompatible.",)),
            (),
            [],
            id="unmet before, by another version",
        ),
        pytest.param(
            GOOD,
            make_health(unmet=("a 1 requires b, which is not installed",)),
            (),
            ["requirement-unmet"],
            id="unmet now",
        ),
        pytest.param(
            make_health(torch_folder="/env/torch"),
            make_health(torch_folder="/else/torch"),
            (),
            ["torch-moved"],
            id="torch is imported from another folder",
        ),
        pytest.param(
            make_health(), make_health(torch_folder="/env/torch"), (), [], id="the folder was not known before"
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": None}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="numpy's bridge broke",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            [],
            id="numpy's bridge was broken before",
        ),
        pytest.param(
            make_health(),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            [],
            id="there was no numpy before",
        ),
        pytest.param(
            GOOD, make_health(crashed="signal SIGSEGV"), (), ["check-crashed"], id="crashed between questions"
        ),
    ],
)
def test_verdict(before, after, requested, expected):
    assert errors(before, after, requested) == expected


def test_a_torch_that_was_asked_for_may_move_but_must_keep_cuda():
    after = make_health(torch="2.4.1+cu121", cuda="12.1", available=False, devices=0)
    assert errors(GOOD, after, torch_requested=True) == ["cuda-lost"]


def test_naming_a_cpu_build_asks_for_the_loss_of_cuda():
    after = make_health(torch="2.4.1+cpu", cuda=None, available=False, devices=0)
    assert errors(GOOD, after, torch_requested=True, cuda_loss_requested=True) == []


def test_the_reason_that_torch_gives_is_passed_on():
    after = make_health(available=False, devices=0, warnings=("The NVIDIA driver on your system is too old",))
    (finding,) = compare_health(GOOD, after, requested=(), torch_requested=False)
    assert "too old" in finding.detail


@pytest.mark.parametrize(
    ("name", "torch", "hint"),
    [
        ("torch.from_numpy", "2.2.2+cu121", 'Ask for "numpy<2"'),
        ("torch.from_numpy", "1.8.1", 'Ask for "numpy<2"'),
        ("torch.from_numpy", "2.3.0", ""),
        ("torch.from_numpy", "2.10.0", ""),
        ("torch.from_numpy", None, ""),
        ("torch on cpu", "2.2.2", ""),
    ],
)
def test_the_remedy_for_numpy(name, torch, hint):
    assert hint_for(name, torch).startswith(hint)
    assert bool(hint_for(name, torch)) == bool(hint)


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        '{"event": "end"}',
        '{"event": "begin"}',
        '{"event": "begin", "kind": "import", "name": []}',
        '{"event": "end", "kind": "import", "name": "torch", "ok": "yes", "error": null, "seconds": 1}',
        '{"event": "end", "kind": "import", "name": {}, "ok": true, "error": null, "seconds": 1}',
        '{"event": "torch", "version": null}',
        '{"event": "torch", "version": "2.9.1", "cuda": null, "hip": null}',
        '{"event": "end", "kind": "native", "name": "x", "ok": false, "error": "", "seconds": 1, "files": 1}',
        '{"event": "end", "kind": "native", "name": "x", "ok": false, "error": "", "seconds": 1, "unknown": true}',
        "[" * 100_000,
        '{"event": "cuda", "available": "yes", "devices": 1}',
        '{"event": "libraries"}',
        '{"event": "libcuda"}',
        '{"event": "warning", "text": 1}',
        '{"event": "nobody knows it"}',
        '{"event": ["end"]}',
    ],
)
def test_what_is_no_answer_is_passed_over(line):
    answers = parse_answers(with_words([line, *step_lines("torch"), line]), WORDS)
    assert [event["name"] for event in answers.events] == ["torch"]
    assert not answers.done
    make_report(answers.events, torch=None, asked="import", seconds=1.0)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "RuntimeError: Could not load libtorchcodec. Likely causes: 1. FFmpeg is not properly installed",
            "Install FFmpeg",
        ),
        ("OSError: libavutil.so.56: cannot open shared object file: No such file or directory", "Install FFmpeg"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file or directory", "Install OpenGL"),
        ("OSError: libgomp.so.1: cannot open shared object file", "Install GCC's OpenMP"),
        ("ImportError: libcudart.so.13: cannot open shared object file", ""),
        ("AssertionError", ""),
        (None, ""),
    ],
)
def test_the_remedy_for_a_library_of_the_system(error, hint):
    found = hint_for("torchcodec", "2.14.1+cu130", error)
    assert found.startswith(hint)
    assert bool(found) == bool(hint)


def test_of_a_long_exception_the_finding_has_the_first_line():
    """torch appends advice and the stack of C++; the JSON document has all of it."""
    long = "RuntimeError: CUDA error: operation not supported\nSearch for `cudaErrorNotSupported'\n  frame #1"
    after = make_health(imports={"torch": None, "torch_scatter": long})
    (finding,) = compare_health(make_health(), after, requested={"torch_scatter"}, torch_requested=False)
    assert finding.detail == "torch_scatter does not import: RuntimeError: CUDA error: operation not supported"
    assert first_line(None) == first_line("\n \n") == "no reason was given"


def test_a_report_has_the_folder_and_what_libcuda_answered():
    events = [
        {"event": "torch", "version": "2.9.1+cu128", "cuda": "12.8", "hip": None, "folder": "/env/torch"},
        {"event": "cuda", "available": False, "devices": 0},
        {"event": "libcuda", "path": "/usr/lib/libcuda.so.1", "cuda": "12.2", "status": 100, "devices": None},
    ]
    report = make_report(events, torch=None, asked="import", seconds=1.0)
    assert report.torch_folder == "/env/torch"
    assert report.driver_library == DriverLibrary("/usr/lib/libcuda.so.1", "12.2", 100, None)


def test_a_loader_is_asked_about_the_torch_whose_files_were_read():
    build = TorchBuild(Version("2.9.1"), "2.9.1+cu128", "cu128", "12.8", folder=Path("/env/torch"))
    assert make_report([], torch=build, asked="loader", seconds=0.1).torch_folder == "/env/torch"
    assert make_report([], torch=build, asked="import", seconds=0.1).torch_folder is None


WORDS = [f"word{number}" for number in range(20)]
DONE = '{"event": "done"}'


def with_words(lines):
    return [f"{word} {line}" for word, line in zip(WORDS, lines)]


def step_lines(name, ok=True):
    step = {"kind": "import", "name": name}
    end = {"event": "end", **step, "ok": ok, "error": None if ok else "OSError: gone", "seconds": 1.5}
    return [json.dumps({"event": "begin", **step}), json.dumps(end)]


FORGED = step_lines("x")[1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["word0 " + step_lines("x")[0], "word1 " + FORGED, "word2 " + DONE], ({"x": True}, None, True)),
        (["word0 " + step_lines("x")[0], FORGED, DONE], ({}, "import x", False)),
        (["word0 " + step_lines("x")[0], "word0 " + FORGED, "word0 " + DONE], ({}, "import x", False)),
        (["word0 " + step_lines("x")[0], "word99 " + FORGED], ({}, "import x", False)),
        (["word0 " + FORGED, "word1 " + DONE], ({}, None, True)),
        (["word0 " + step_lines("y")[0], "word1 " + FORGED], ({}, "import y", False)),
        (["word0 " + step_lines("x")[0], "word2 " + FORGED, "word1 " + DONE], ({"x": True}, None, False)),
        (["word0 " + step_lines("x")[0], "word2 " + DONE], ({"x": False}, None, True)),
        (["word0 " + step_lines("x")[0], "word1 " + step_lines("y")[0]], ({"x": False}, "import y", False)),
        (["x" * 100_000, "word0", "word0 " + DONE], ({}, None, True)),
    ],
    ids=[
        "whole",
        "without words",
        "a word that had its turn",
        "a word that nobody gave",
        "an end without a beginning",
        "the end of another step",
        "not in order",
        "done without an end",
        "the next step without an end",
        "junk",
    ],
)
def test_only_a_line_with_the_next_word_is_an_answer(lines, expected):
    answers = parse_answers(lines, WORDS)
    assert ({event["name"]: event["ok"] for event in answers.events}, answers.unfinished, answers.done) == expected


def test_a_step_without_an_answer_has_failed():
    (event,) = missing_answers(["import torch", "import x"], [json.loads(step_lines("torch")[1])], "not asked")
    assert (event["kind"], event["name"], event["ok"], event["error"]) == ("import", "x", False, "not asked")


@pytest.mark.parametrize("crashed_before", [None, "signal SIGSEGV"])
def test_a_check_that_was_cut_off_says_so_once(crashed_before):
    before = HealthReport(cuda_available=True, device_count=1, crashed=crashed_before)
    after = HealthReport(crashed="no answer")
    checks = [finding.check for finding in compare_health(before, after, requested=(), torch_requested=False)]
    assert checks == (["check-crashed"] if crashed_before is None else ["cuda-lost"])


def test_a_crash_names_the_step_in_which_it_happened():
    lines = [
        '{"event": "begin", "kind": "import", "name": "torch"}',
        '{"event": "end", "kind": "import", "name": "torch", "ok": true, "error": null, "seconds": 1.0}',
        '{"event": "begin", "kind": "import", "name": "torch_scatter"}',
        '{"event": "en',
    ]
    answers = parse_answers(with_words(lines), WORDS)
    assert not answers.done
    assert answers.unfinished == "import torch_scatter"
    events = [*answers.events, crash_event(answers.unfinished, "signal SIGSEGV")]
    report = make_report(events, torch=None, asked="import", seconds=1.0)
    assert report.imports["torch"].ok
    assert report.imports["torch_scatter"].error == "signal SIGSEGV"


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        (["b>=1"], ()),
        (["b>=2"], ("a 1.0 requires b>=2, but you have b 1.5 which is incompatible.",)),
        (["c"], ("a 1.0 requires c, which is not installed.",)),
        (["c ; extra == 'more'"], ()),
        (["c ; python_version < '3.8'"], ()),
        (["c ; python_version >= '3.8'"], ("a 1.0 requires c, which is not installed.",)),
        (["not a requirement at all !!"], ()),
    ],
)
def test_unmet_requirements(requires, expected):
    environment = make_environment(make_distribution("a", "1.0", requires=requires), make_distribution("b", "1.5"))
    assert unmet_requirements(environment.installed, MARKERS) == expected


def test_only_the_distributions_of_interest_are_asked():
    environment = make_environment(make_distribution("new", "1", requires=["gone"]))
    assert unmet_requirements(environment.installed, MARKERS, of=()) == ()


# --- files that a copy of the asking process died of -------------------------------------------------

DIED = {
    "event": "end",
    "kind": "native",
    "name": "scatter",
    "ok": False,
    "error": "Died: /site/scatter/_x_cpu.so",
    "seconds": 0.1,
    "file": "/site/scatter/_x_cpu.so",
    "status": -6,
    "stderr": "terminate called\n  what():  registered twice\nframe #0: f\n",
    "files": [["/site/scatter/_x_cpu.so"]],
}
FINE = {"event": "end", "kind": "native", "name": "scatter", "ok": True, "error": None, "seconds": 0.2}
OTHER = {"event": "end", "kind": "import", "name": "scatter", "ok": True, "error": None, "seconds": 0.2}


def test_files_that_a_copy_died_of_are_asked_again():
    assert undecided_files([OTHER, DIED, FINE]) == {"scatter": [["/site/scatter/_x_cpu.so"]]}
    assert undecided_files([OTHER, FINE]) == {}


@pytest.mark.parametrize(
    ("settled", "events"),
    [
        pytest.param([FINE], [OTHER, FINE], id="it loads where nothing else is loaded"),
        pytest.param([{**DIED, "files": [["x"]]}], [OTHER, {**DIED, "files": [["x"]]}], id="it dies there, too"),
        pytest.param([], [OTHER, DIED], id="the second process gave no answer"),
        pytest.param([crash_event("import torch", "signal SIGSEGV")], [OTHER, DIED], id="it did not come so far"),
    ],
)
def test_the_second_answer_counts_where_there_is_one(settled, events):
    assert replace_undecided([OTHER, DIED], settled) == events


def test_a_death_is_told_by_its_last_words():
    (other, died) = explain_deaths([OTHER, DIED])
    assert other == OTHER
    assert died["error"] == "_x_cpu.so: signal SIGABRT (registered twice)"
    assert make_report([died], torch=None, asked="import", seconds=1.0).operations["scatter native part"].error == (
        "_x_cpu.so: signal SIGABRT (registered twice)"
    )

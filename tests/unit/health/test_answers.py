"""What a process answered: forged, cut off, dead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.health.answers import (
    Subject,
    crash_event,
    explain_crashes,
    make_report,
    missing_answers,
    parse_answers,
    replace_undecided,
    undecided_files,
)
from safe_install.models import DriverLibrary, TorchBuild


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


def test_a_report_has_the_folder_and_what_libcuda_answered():
    events = [
        {
            "event": "torch",
            "version": "2.9.1+cu128",
            "cuda": "12.8",
            "hip": None,
            "folder": "/env/torch",
        },
        {"event": "cuda", "available": False, "devices": 0},
        {
            "event": "libcuda",
            "path": "/usr/lib/libcuda.so.1",
            "cuda": "12.2",
            "status": 100,
            "devices": None,
        },
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
    end = {
        "event": "end",
        **step,
        "ok": ok,
        "error": None if ok else "OSError: gone",
        "seconds": 1.5,
    }
    return [json.dumps({"event": "begin", **step}), json.dumps(end)]


FORGED = step_lines("x")[1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["word0 " + step_lines("x")[0], "word1 " + FORGED, "word2 " + DONE],
            ({"x": True}, None, True),
        ),
        (["word0 " + step_lines("x")[0], FORGED, DONE], ({}, "import x", False)),
        (
            ["word0 " + step_lines("x")[0], "word0 " + FORGED, "word0 " + DONE],
            ({}, "import x", False),
        ),
        (["word0 " + step_lines("x")[0], "word99 " + FORGED], ({}, "import x", False)),
        (["word0 " + FORGED, "word1 " + DONE], ({}, None, True)),
        (["word0 " + step_lines("y")[0], "word1 " + FORGED], ({}, "import y", False)),
        (
            ["word0 " + step_lines("x")[0], "word2 " + FORGED, "word1 " + DONE],
            ({"x": True}, None, False),
        ),
        (["word0 " + step_lines("x")[0], "word2 " + DONE], ({"x": False}, None, True)),
        (
            ["word0 " + step_lines("x")[0], "word1 " + step_lines("y")[0]],
            ({"x": False}, "import y", False),
        ),
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
    assert (
        {event["name"]: event["ok"] for event in answers.events},
        answers.unfinished,
        answers.done,
    ) == expected


def test_a_step_without_an_answer_has_failed():
    (event,) = missing_answers(
        ["import torch", "import x"], [json.loads(step_lines("torch")[1])], "not asked"
    )
    assert (event["kind"], event["name"], event["ok"], event["error"]) == (
        "import",
        "x",
        False,
        "not asked",
    )


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


# --- files that a copy of the asking process died of ----------------------------------------------

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
FINE = {
    "event": "end",
    "kind": "native",
    "name": "scatter",
    "ok": True,
    "error": None,
    "seconds": 0.2,
}
OTHER = {
    "event": "end",
    "kind": "import",
    "name": "scatter",
    "ok": True,
    "error": None,
    "seconds": 0.2,
}


def test_files_that_a_copy_died_of_are_asked_again():
    assert undecided_files([OTHER, DIED, FINE]) == {"scatter": [["/site/scatter/_x_cpu.so"]]}
    assert undecided_files([OTHER, FINE]) == {}


@pytest.mark.parametrize(
    ("settled", "events"),
    [
        pytest.param([FINE], [OTHER, FINE], id="it loads where nothing else is loaded"),
        pytest.param(
            [{**DIED, "files": [["x"]]}],
            [OTHER, {**DIED, "files": [["x"]]}],
            id="it dies there, too",
        ),
        pytest.param([], [OTHER, DIED], id="the second process gave no answer"),
        pytest.param(
            [crash_event("import torch", "signal SIGSEGV")],
            [OTHER, DIED],
            id="it did not come so far",
        ),
    ],
)
def test_the_second_answer_counts_where_there_is_one(settled, events):
    assert replace_undecided([OTHER, DIED], settled) == events


def test_a_death_is_told_by_its_last_words():
    (other, died) = explain_crashes([OTHER, DIED])
    assert other == OTHER
    assert died["error"] == "_x_cpu.so: signal SIGABRT (registered twice)"
    assert make_report([died], torch=None, asked="import", seconds=1.0).operations[
        "scatter native part"
    ].error == ("_x_cpu.so: signal SIGABRT (registered twice)")


def test_a_subject_is_written_for_the_script():
    subject = Subject(
        "torch-scatter", ("torch_scatter",), ("torch_scatter/_*.so",), "assert device"
    )
    assert subject.as_json() == {
        "name": "torch-scatter",
        "imports": ["torch_scatter"],
        "native": ["torch_scatter/_*.so"],
        "operation": "assert device",
    }


def test_what_is_no_step_is_an_event_also_between_two_steps():
    warning = '{"event": "warning", "text": "The NVIDIA driver on your system is too old"}'
    answers = parse_answers(with_words([*step_lines("torch"), warning, DONE]), WORDS)
    assert make_report(answers.events, torch=None, asked="import", seconds=1.0).warnings == (
        "The NVIDIA driver on your system is too old",
    )
    assert answers.done


def end(kind, name, error=None):
    return {
        "event": "end",
        "kind": kind,
        "name": name,
        "ok": error is None,
        "error": error,
        "seconds": 0.1,
    }


@pytest.mark.parametrize(
    ("events", "available", "imports", "operations"),
    [
        pytest.param([], None, {}, {}, id="nothing was answered"),
        pytest.param(
            [{"event": "cuda", "available": True, "devices": 1}, end("cuda", "available")],
            True,
            {},
            {},
            id="CUDA",
        ),
        pytest.param(
            [end("cuda", "available", "RuntimeError: x")],
            False,
            {},
            {"cuda available": "RuntimeError: x"},
            id="asking for CUDA fails",
        ),
        pytest.param(
            [
                end("import", "a"),
                end("import", "b", "ImportError"),
                end("operation", "a on cpu"),
                end("native", "a"),
            ],
            None,
            {"a": None, "b": "ImportError"},
            {"a on cpu": None, "a native part": None},
            id="results by their kind",
        ),
    ],
)
def test_a_report_has_each_result_in_its_place(events, available, imports, operations):
    report = make_report(events, torch=None, asked="import", seconds=1.0)
    assert report.cuda_available is available
    assert {name: result.error for name, result in report.imports.items()} == imports
    assert {name: result.error for name, result in report.operations.items()} == operations


def test_a_step_for_which_there_was_no_time_may_work():
    events = missing_answers(["import torch"], [], "stopped after 300 s", unknown=True)
    report = make_report(events, torch=None, asked="import", seconds=1.0)
    assert report.imports["torch"].unknown
    certain = missing_answers(["import torch"], [], "signal SIGSEGV")
    report = make_report(certain, torch=None, asked="import", seconds=1.0)
    assert not report.imports["torch"].unknown

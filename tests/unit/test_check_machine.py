"""What a machine lacks for scripts/demo and scripts/test, by a table over facts; and who may skip a
test."""

from __future__ import annotations

import ssl
import types
import urllib.error

import pytest

from tests import conftest
from tests.scripts import load_script

GIGABYTE = 10**9


@pytest.fixture(scope="module")
def script():
    return load_script("check_machine")


def make_facts(script, **changes):
    """A machine that has everything: Debian 12, root."""
    whole = {
        "python": (3, 11),
        "system": True,
        "venv": True,
        "headers": True,
        "compiler": True,
        "git": True,
        "root": True,
        "free": 50 * GIGABYTE,
        "temporary": 50 * GIGABYTE,
        "same_disk": False,
        "package_index": "",
        "pytorch": "",
        "managers": ["apt"],
    }
    return script.Facts(**{**whole, **changes})


@pytest.mark.parametrize("purpose", ["demo", "build", "test", "ci"])
def test_nothing_is_said_where_nothing_is_missing(script, purpose):
    facts = make_facts(script)
    assert script.describe(script.find_problems(purpose, facts), facts) == []


# purpose, what is missing: what is needed, what is only said.
MISSING = [
    ("demo", {"venv": False}, ["the modules venv"], []),
    ("demo", {"compiler": False, "headers": False, "git": False}, [], []),
    (
        "build",
        {"compiler": False, "headers": False, "git": False},
        ["a C++ compiler", "Python.h"],
        [],
    ),
    (
        "test",
        {"compiler": False, "headers": False, "git": False},
        [],
        ["a C++ compiler", "Python.h", "git"],
    ),
    (
        "ci",
        {"compiler": False, "headers": False, "git": False},
        ["a C++ compiler", "Python.h", "git"],
        [],
    ),
    ("demo", {"python": (3, 9)}, ["Python 3.10 or newer: this is 3.9"], []),
    ("test", {"python": (3, 8)}, [], []),
    ("test", {"python": (3, 7)}, ["Python 3.8 or newer: this is 3.7"], []),
    (
        "demo",
        {"package_index": "pypi.org does not answer (refused)"},
        ["the package index: pypi.org does not answer"],
        [],
    ),
    (
        "demo",
        {"pytorch": "download.pytorch.org does not answer (x)"},
        [],
        ["the host of torch's CPU builds"],
    ),
    ("test", {"pytorch": "download.pytorch.org does not answer (x)"}, [], []),
    ("demo", {"free": 2 * GIGABYTE}, ["disk space here: 2.0 GB are free, 2.5 GB are needed"], []),
    (
        "demo",
        {"free": 3 * GIGABYTE, "same_disk": True},
        ["disk space here: 3.0 GB are free, 3.5 GB are needed"],
        [],
    ),
    (
        "test",
        {"temporary": GIGABYTE},
        ["disk space for temporary files (TMPDIR names another folder): 1.0 GB"],
        [],
    ),
    (
        "build",
        {"venv": False, "headers": False, "free": 0, "package_index": "x"},
        ["the modules venv", "Python.h", "the package index", "disk space"],
        [],
    ),
]


@pytest.mark.parametrize(("purpose", "changes", "needed", "said"), MISSING)
def test_everything_that_is_missing_is_said_at_once(script, purpose, changes, needed, said):
    problems = script.find_problems(purpose, make_facts(script, **changes))
    by_need = {True: [], False: []}
    for problem in problems:
        by_need[problem.needed].append(problem.text)
    assert len(by_need[True]) == len(needed), by_need
    assert all(text.startswith(start) for text, start in zip(by_need[True], needed)), by_need
    assert len(by_need[False]) == len(said), by_need
    assert all(text.startswith(start) for text, start in zip(by_need[False], said)), by_need


BARE = {"venv": False, "headers": False, "compiler": False}
LINES = [
    ({}, ["apt-get update && apt-get install -y python3.11-venv g++ python3.11-dev"]),
    (
        {"root": False},
        ["sudo apt-get update && sudo apt-get install -y python3.11-venv g++ python3.11-dev"],
    ),
    (
        {"python": (3, 13)},
        ["apt-get update && apt-get install -y python3.13-venv g++ python3.13-dev"],
    ),
    ({"system": False}, ["apt-get update && apt-get install -y python3-venv g++ python3-dev"]),
    ({"managers": ["dnf"], "root": False}, ["sudo dnf install -y python3 gcc-c++ python3-devel"]),
    (
        {"managers": ["conda"], "root": False},
        ["conda install -y -c conda-forge python cxx-compiler"],
    ),
    (
        {"managers": []},
        [
            "apt-get update && apt-get install -y python3.11-venv g++ python3.11-dev",
            "dnf install -y python3 gcc-c++ python3-devel",
            "conda install -y -c conda-forge python cxx-compiler",
        ],
    ),
]


@pytest.mark.parametrize(("changes", "lines"), LINES)
def test_one_line_to_copy(script, changes, lines):
    facts = make_facts(script, **{**BARE, **changes})
    assert script.make_lines(script.find_problems("build", facts), facts) == lines


def test_what_no_package_brings_has_no_line(script):
    facts = make_facts(script, free=0)
    assert script.describe(script.find_problems("demo", facts), facts) == [
        "Missing on this machine:",
        "  - disk space here: 0.0 GB are free, 2.5 GB are needed",
    ]


def test_the_index_of_pips_configuration_is_the_one_that_is_asked(script, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(script, "_ask", lambda url: asked.append(url) or "")
    for name in ("PIP_NO_INDEX", "PIP_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "pip").mkdir(parents=True)
    (tmp_path / "config" / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://mirror.example/simple%2F\n"
    )
    script._ask_index()
    monkeypatch.setenv("PIP_INDEX_URL", "https://other.example/simple")
    script._ask_index()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    script._ask_index()
    assert asked == ["https://mirror.example/simple%2F", "https://other.example/simple"]


ANSWERS = [
    (urllib.error.HTTPError("u", 403, "forbidden", None, None), ""),
    (urllib.error.URLError(ssl.SSLError("unknown certificate")), ""),
    (urllib.error.URLError(OSError("no route")), "index.example does not answer (no route)"),
    (TimeoutError("timed out"), "index.example does not answer (timed out)"),
]


@pytest.mark.parametrize(
    ("error", "told"), ANSWERS, ids=["refused", "certificate", "no route", "time limit"]
)
def test_a_host_is_asked_without_credentials(script, monkeypatch, error, told):
    asked = []

    def answer(request, timeout):
        asked.append(request.full_url)
        raise error

    monkeypatch.setattr(script.urllib.request, "urlopen", answer)
    assert script._ask("https://user:secret@index.example/simple") == told
    assert script._ask("file:///opt/index") == ""
    assert asked == ["https://index.example/"]


# --- skips ----------------------------------------------------------------------------------------


def make_skip(reason, name="tests/x.py::test_y"):
    return types.SimpleNamespace(nodeid=name, longrepr=("x.py", 1, f"Skipped: {reason}"))


STORY = make_skip("no Python 3.8 here", "tests/functional/test_founding_story.py::test_a")
GPU = make_skip("needs a real NVIDIA GPU: run with --run-gpu")
BROWSER = make_skip("/usr/bin/chromium: not there (Debian: chromium, chromium-driver)")


def test_skips_are_counted_by_reason_in_one_line(monkeypatch):
    monkeypatch.delenv(conftest.NO_SKIPS, raising=False)
    assert conftest.describe_skips({}) == []
    assert conftest.describe_skips({"skipped": [GPU, STORY, STORY]}) == [
        "skipped: no Python 3.8 here (2), needs a real NVIDIA GPU: run with --run-gpu (1)"
    ]
    assert conftest.find_forbidden_skips({"skipped": [STORY]}) == []


def test_where_nothing_may_be_skipped_the_founding_story_is_a_failure(monkeypatch):
    monkeypatch.setenv(conftest.NO_SKIPS, "1")
    assert conftest.find_forbidden_skips({"skipped": [GPU, STORY, BROWSER]}) == [STORY]
    (_, line) = conftest.describe_skips({"skipped": [GPU, STORY, BROWSER]})
    assert line.endswith("tests/functional/test_founding_story.py::test_a")

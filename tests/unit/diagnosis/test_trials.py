"""What is tried once more, and what is read out of the answer."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from safe_install.diagnosis import trials
from safe_install.diagnosis.facts import StartProblem, Trial
from tests.factories import make_distribution, make_environment, make_interpreter

PYTHON = Path("/env/bin/python")


@pytest.fixture
def variables(monkeypatch):
    """Those that the check would inherit."""
    chosen = {"PATH": "/bin", "PYTHONIOENCODING": "utf-8"}
    monkeypatch.setattr(trials, "child_environment", lambda extra=None: {**chosen, **(extra or {})})
    return chosen


def importing(monkeypatch, works):
    """`works`: which variables torch imports with."""
    asked = []

    def answer(executable, variables, timeout, folder=Path("/")):
        asked.append(sorted(variables))
        return "" if works(variables) else "it fails"

    monkeypatch.setattr(trials, "_import", answer)
    return asked


def test_without_suspects_nothing_is_asked(variables, monkeypatch):
    asked = importing(monkeypatch, lambda given: True)
    assert trials.try_without(PYTHON, None) == ()
    assert asked == []


def test_one_question_tells_that_no_variable_is_to_blame(variables, monkeypatch):
    variables.update(TORCH_LOGS="x", LD_PRELOAD="y")
    asked = importing(monkeypatch, lambda given: False)
    assert trials.try_without(PYTHON, None) == ()
    assert asked == [["PATH", "PYTHONIOENCODING"]]


def test_the_one_to_blame_is_found(variables, monkeypatch):
    variables.update(TORCH_LOGS="x", LD_PRELOAD="y")
    importing(monkeypatch, lambda given: "TORCH_LOGS" not in given)
    assert trials.try_without(PYTHON, None) == (Trial("TORCH_LOGS", "x"),)


def test_two_that_are_to_blame_together(variables, monkeypatch):
    variables.update(TORCH_LOGS="x", LD_PRELOAD="y")
    importing(monkeypatch, lambda given: not {"TORCH_LOGS", "LD_PRELOAD"} & set(given))
    subjects = {trial.subject for trial in trials.try_without(PYTHON, None)}
    assert subjects == {"TORCH_LOGS", "LD_PRELOAD"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def here():
    """The running Python, with a torch that requires something."""
    version = "{}.{}.{}".format(*sys.version_info[:3])
    interpreter = dataclasses.replace(
        make_interpreter(), version=version, base_prefix=Path(sys.base_prefix)
    )
    torch = make_distribution("torch", "2.13.0+cpu", requires=["typing-extensions>=4", "(bad"])
    return make_environment(torch, torch="2.13.0+cpu", interpreter=interpreter)


def test_names_of_modules_in_the_working_folder(folder):
    for name in ("random.py", "typing_extensions.py", "mine.py", "test.py", "torch.py", "notes"):
        (folder / name).write_text("")
    for name in ("numpy", "test", "json"):
        (folder / name).mkdir()
    (folder / "numpy" / "__init__.py").write_text("")
    (folder / "test" / "__init__.py").write_text("")
    found = trials.find_hiding(folder, here())
    assert found == ["numpy", "random.py", "typing_extensions.py"]


def test_a_folder_that_cannot_be_listed(folder):
    assert trials.find_hiding(folder / "gone", here()) == []


def test_the_file_that_stands_in_the_traceback_is_named(folder, variables, monkeypatch):
    for name in ("random.py", "queue.py"):
        (folder / name).write_text("")
    error = f'  File "{folder}/random.py", line 1\nImportError: no Random\n'
    monkeypatch.setattr(trials, "_import", lambda *words: error)
    (one,) = trials.try_as_typed(here(), {}, None)
    assert one == Trial(str(folder / "random.py"), "", "ImportError: no Random")
    assert trials.try_as_typed(here(), {"PYTHONSAFEPATH": "1"}, None) == ()


@pytest.mark.parametrize("answer", ["", None])
def test_what_works_or_cannot_be_told_is_no_trial(folder, variables, monkeypatch, answer):
    (folder / "random.py").write_text("")
    monkeypatch.setattr(trials, "_import", lambda *words: answer)
    assert trials.try_as_typed(here(), {"PYTHONWARNINGS": "error"}, None) == ()


def test_a_variable_that_the_check_leaves_out(folder, variables, monkeypatch):
    importing(monkeypatch, lambda given: "PYTHONWARNINGS" not in given)
    found = trials.try_as_typed(here(), {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": ""}, None)
    assert found == (Trial("PYTHONWARNINGS", "error", "it fails"),)


# --- what fails at every start --------------------------------------------------------------------

SAID = """\
Error processing line 2 of /env/lib/python3.11/site-packages/a.pth:

  Traceback (most recent call last):
    File "<frozen site>", line 186, in addpackage
  ModuleNotFoundError: No module named 'gone'

Remainder of file ignored
Error in sitecustomize; set PYTHONVERBOSE for traceback:
ImportError: no
"""


def test_each_file_with_its_exception():
    assert trials.parse_start_problems(SAID) == (
        StartProblem(
            "/env/lib/python3.11/site-packages/a.pth", "ModuleNotFoundError: No module named 'gone'"
        ),
        StartProblem("sitecustomize", "ImportError: no"),
    )


@pytest.mark.parametrize("text", ["", "hello\n", "Error\n"])
def test_other_words_are_none(text):
    assert trials.parse_start_problems(text) == ()


def test_a_file_without_words():
    assert trials.parse_start_problems("Error processing line 1 of /a.pth:") == (
        StartProblem("/a.pth", ""),
    )

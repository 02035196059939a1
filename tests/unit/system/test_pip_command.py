"""Whose pip is taken where the environment's own is too old, and with which variables it runs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys

import pytest
from packaging.version import Version

from safe_install.system import pip_command
from safe_install.system.pip_command import find_own_pip, isolated_environment, pip_environment
from tests.factories import make_interpreter

INTERPRETER = make_interpreter()
FOREIGN = ("--python", str(INTERPRETER.executable))


@pytest.mark.parametrize(
    ("beside", "carried", "words"),
    [
        ("26.2", "23.1", ("-m", "pip")),
        ("23.1", None, ("-m", "pip")),
        # too old for `pip --python`, or none: what our own Python carries
        ("23.0.1", "24.0", ("pip-24.0-py3-none-any.whl/pip",)),
        (None, "24.0", ("pip-24.0-py3-none-any.whl/pip",)),
        ("no version", "24.0", ("pip-24.0-py3-none-any.whl/pip",)),
        (None, "22.3", None),
        (None, None, None),
    ],
)
def test_our_own_pip_works_for_another_interpreter(beside, carried, words, tmp_path, monkeypatch):
    bundled = tmp_path / "ensurepip" / "_bundled"
    bundled.mkdir(parents=True)
    if carried is not None:
        (bundled / f"pip-{carried}-py3-none-any.whl").touch()
        (bundled / "setuptools-65.5.0-py3-none-any.whl").touch()
    monkeypatch.setattr(os, "__file__", str(tmp_path / "os.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: beside)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: beside)
    found = find_own_pip(INTERPRETER)
    if words is None:
        assert found is None
        return
    first, *rest = found.command
    assert (first, tuple(rest[-2:])) == (sys.executable, FOREIGN)
    assert tuple(word.replace(f"{bundled}/", "") for word in rest[:-2]) == words
    assert (str(found.version), found.origin) == (beside if words[0] == "-m" else carried, "ours")


VARIABLES = {
    "PIP_INDEX_URL": "https://h/simple",
    "PIP_TARGET": "/elsewhere",
    "PIP_DRY_RUN": "1",
    "PIP_REPORT": "-",
    "FORCE_COLOR": "1",
    "PIP_REQUIREMENT": "r.txt",
    "PIP_REQUIRE_HASHES": "1",
    "PIP_CONSTRAINT": "c.txt",
    "PIP_USE_DEPRECATED": "legacy-resolver",
}


@pytest.fixture
def variables(monkeypatch):
    monkeypatch.setattr(pip_command.process, "inherited_variables", lambda: dict(VARIABLES))


@pytest.mark.parametrize(
    ("version", "named_only", "gone"),
    [
        ("26.2", False, set()),
        # what is fetched is named one by one: nobody else names more
        ("26.1", True, {"PIP_REQUIREMENT", "PIP_REQUIRE_HASHES", "PIP_USE_DEPRECATED"}),
        # the constraints are for what is built with, until pip has an option of its own for that
        (
            "26.2",
            True,
            {"PIP_REQUIREMENT", "PIP_REQUIRE_HASHES", "PIP_USE_DEPRECATED", "PIP_CONSTRAINT"},
        ),
    ],
)
def test_the_persons_variables_reach_pip_but_send_it_nowhere_else(
    version, named_only, gone, variables
):
    found = pip_environment(Version(version), named_only=named_only)
    elsewhere = {"PIP_TARGET", "PIP_DRY_RUN", "PIP_REPORT", "FORCE_COLOR"}
    assert VARIABLES.keys() - found.keys() == elsewhere | gone
    assert found["PIP_DISABLE_PIP_VERSION_CHECK"] == "1"


def test_another_deprecated_feature_is_the_persons(monkeypatch):
    chosen = {"PIP_USE_DEPRECATED": "legacy-certs"}
    monkeypatch.setattr(pip_command.process, "inherited_variables", lambda: dict(chosen))
    assert pip_environment(Version("26.2"), named_only=True).items() >= chosen.items()


def test_what_is_staged_was_decided_and_no_variable_of_pip_counts(variables):
    found = isolated_environment()
    ours = {name for name in found if name.startswith("PIP_")} - VARIABLES.keys()
    assert not {name for name in found if name in VARIABLES} - {"FORCE_COLOR"}
    assert found["PIP_CONFIG_FILE"] == os.devnull
    assert ours == {
        "PIP_CONFIG_FILE",
        "PIP_DISABLE_PIP_VERSION_CHECK",
        "PIP_ROOT_USER_ACTION",
        "PIP_BREAK_SYSTEM_PACKAGES",
    }

"""doctor, run as people run it, in an environment of the lab."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from tests.chinese import assert_said_in_chinese
from tests.functional.conftest import Environment, read_document, run_process
from tests.lab import LabWheels
from tests.lab.breakage import Lab
from tests.lab.breakage.recipe import CPU, DRIVER_OF, replace

PYTHON = "3.11"


@pytest.fixture
def make_lab(
    make_environment: Callable[..., Environment],
    lab_wheels: Callable[[str], LabWheels],
    tmp_path: Path,
) -> Iterator[Callable[..., Lab]]:
    """`make_lab(CUDA)`: an environment with that torch, active in the shell, on a machine that
    serves it."""
    with contextlib.ExitStack() as stack:

        def make(base: Any = CPU, *, python: str = PYTHON, **options: Any) -> Lab:
            environment = make_environment(python, *base, **options)
            torch = base[:1]
            if torch in DRIVER_OF:
                environment.variables["FAKE_DRIVER_CUDA"] = DRIVER_OF[torch]
            else:
                without_driver(environment.variables)
            return activate(environment, lab_wheels(python), tmp_path, stack)

        yield make


def without_driver(variables: Dict[str, str]) -> None:
    """A machine without a driver of NVIDIA, that of the lab aside."""
    variables["DRIVER_OF_THE_LAB"] = variables.pop("LD_LIBRARY_PATH")


def activate(
    environment: Environment, wheels: LabWheels, folder: Path, stack: contextlib.ExitStack
) -> Lab:
    """As `source bin/activate` does it."""
    start_own_python(environment)
    variables = environment.variables
    variables["PATH"] = f"{environment.prefix}/bin{os.pathsep}{variables['PATH']}"
    return Lab(environment, folder, wheels.index, wheels.extensions, wheels.foreign, stack)


def start_own_python(environment: Environment) -> None:
    """Its scripts start its own Python, and not that of the template that it was copied from."""
    for script in environment.prefix.glob("bin/*"):
        if script.is_symlink() or not script.read_bytes().startswith(b"#!"):
            continue
        rest = script.read_text().split("\n", 1)[1]
        mode = script.stat().st_mode
        replace(script, f"{start_of_script(environment.executable)}{rest}".encode())
        script.chmod(mode)


def start_of_script(executable: Path) -> str:
    """The first lines of a script, as pip writes them."""
    if " " not in str(executable):
        return f"#!{executable}\n"
    return f"#!/bin/sh\n'''exec' \"{executable}\" \"$0\" \"$@\"\n' '''\n"


def run_doctor(lab: Lab, *words: str) -> Dict[str, Any]:
    """What it says with --json: an answer, whatever is broken."""
    command = [*lab.prefix_words, sys.executable, "-m", "safe_install", "doctor", "--json"]
    named = ["--python", str(lab.environment.executable)]
    done = run_process([*command, *named, *lab.words, *words], lab.variables, cwd=lab.folder)
    assert "Traceback" not in done.stderr
    document = read_document(done)
    assert document["error"] is None, document["error"]
    assert_said_in_chinese(document)
    return document


def row_of(document: Dict[str, Any], check: str) -> Dict[str, Any]:
    """How a check ended."""
    (row,) = [row for row in document["details"]["checks"] if row["name"] == check]
    return dict(row)


def findings_of(document: Dict[str, Any], check: str) -> List[Dict[str, Any]]:
    """What a check of doctor found."""
    listed = row_of(document, check)["findings"]
    return [one for one in document["findings"] if one["check"] in listed]


def checks_with_errors(document: Dict[str, Any]) -> List[str]:
    """The names of the checks that found an error."""
    found = []
    for row in document["details"]["checks"]:
        severities = [one["severity"] for one in findings_of(document, row["name"])]
        if "error" in severities:
            found.append(row["name"])
    return found

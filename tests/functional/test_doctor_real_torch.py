"""`safe-install doctor` in environments with the real torch 2.13.0+cpu that are really broken, and its
report beside torch's own collect_env. One template, hard links; a few seconds each."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.functional.conftest import Environment, clean_variables, run_process
from tests.functional.doctor_lab import run_doctor, start_own_python
from tests.functional.test_doctor import assert_mended, assert_named
from tests.functional.test_doctor_healthy import assert_healthy
from tests.lab.breakage import Lab
from tests.lab.breakage.real_torch import RECIPES

pytestmark = [pytest.mark.slow, pytest.mark.torch]


@pytest.fixture
def lab(environment: Path, tmp_path: Path) -> Lab:
    """That environment, active in the shell."""
    for name in ("home", "index"):
        (tmp_path / name).mkdir()
    variables = clean_variables({}, tmp_path / "index", tmp_path / "home")
    variables["PATH"] = f"{environment}/bin:{variables['PATH']}"
    made = Environment(environment, variables)
    start_own_python(made)
    nowhere = tmp_path / "nowhere"
    return Lab(made, tmp_path, nowhere, nowhere, nowhere)


def test_a_healthy_one(lab):
    assert_healthy(run_doctor(lab))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_cause_is_named_and_nothing_else(recipe, lab):
    recipe.breaks(lab)
    document = run_doctor(lab)
    assert_named(document, recipe)
    if recipe.mends:
        (finding,) = [one for one in document["findings"] if one["severity"] == "error"][:1]
        assert_mended(lab, recipe, finding["hint"])


# --- the report, beside torch's own ---------------------------------------------------------------

# With a compiler of CUDA on PATH collect_env "could not collect" what a build without CUDA has.
SAID_BETTER = "CUDA used to build PyTorch"


def test_the_report_has_the_fields_and_the_values_of_collect_env(lab):
    python = str(lab.environment.executable)
    theirs = run_process([python, "-m", "torch.utils.collect_env"], lab.variables, cwd=lab.folder)
    command = [sys.executable, "-m", "safe_install", "doctor", "--report", "--python", python]
    ours = run_process(command, lab.variables, cwd=lab.folder)
    names = field_names(lab.torch / "utils" / "collect_env.py")
    expected, found = read_fields(theirs.stdout, names), read_fields(ours.stdout, names)
    printed = [name for name in names if name in found]
    assert list(found) == printed, "in its order"
    assert len(printed) >= 20
    if expected[SAID_BETTER] == "Could not collect":
        assert found.pop(SAID_BETTER) == "None"
    libraries = "Versions of relevant libraries"
    listed = found.pop(libraries).split("\n")
    assert set(expected[libraries].split("\n")) <= set(listed)
    assert found == {name: expected[name] for name in found}


def field_names(path: Path) -> List[str]:
    """In the order of its format."""
    spec = importlib.util.spec_from_file_location("collect_env", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return re.findall(r"(?m)^([^:\n{]+):", module.env_info_fmt)


def read_fields(text: str, names: List[str]) -> Dict[str, str]:
    """What stands behind each name, up to the next one or to an empty line."""
    found: Dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        first, colon, rest = line.partition(":")
        if colon and first in names and first not in found:
            name = first
            found[name] = rest.strip()
        elif not line.strip():
            name = ""
        elif name:
            found[name] = f"{found[name]}\n{line}".strip()
    return found

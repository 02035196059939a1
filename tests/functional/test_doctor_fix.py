"""`doctor --fix` in environments that are really broken: afterwards the tree is the one before the
break."""

from __future__ import annotations

import pytest

from tests.functional.doctor_lab import checks_with_errors, run_doctor
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage import RECIPES

BY_NAME = {recipe.name: recipe for recipe in RECIPES}
PUT_RIGHT = (
    "a library of torch is gone",
    "a module of torch is gone",
    "a library of torch is cut",
    "all files of torch are gone",
)


@pytest.mark.parametrize("name", PUT_RIGHT)
def test_files_come_back(name, make_lab):
    recipe = BY_NAME[name]
    lab = make_lab(recipe.base)
    healthy = lab.environment.tree()
    recipe.breaks(lab)
    assert lab.environment.tree() != healthy
    document = run_doctor(lab, "--fix")
    assert checks_with_errors(document) == []
    assert (document["exit_code"], document["outcome"]) == (0, "healthy")
    assert document["transaction"] is not None
    assert lab.environment.tree() == healthy


def test_a_dry_run_changes_nothing(make_lab):
    recipe = BY_NAME["a library of torch is gone"]
    lab = make_lab(recipe.base)
    recipe.breaks(lab)
    broken = lab.environment.tree()
    document = run_doctor(lab, "--fix", "--dry-run")
    assert document["details"]["mends"] == [
        ["install", "--force-reinstall", "--no-deps", "torch==2.13.0+cpu"]
    ]
    assert document["exit_code"] == 1
    assert lab.environment.tree() == broken


def test_what_lies_outside_is_only_told(make_lab):
    recipe = BY_NAME["the driver is too old"]
    lab = make_lab(recipe.base)
    recipe.breaks(lab)
    before = lab.environment.tree()
    document = run_doctor(lab, "--fix")
    assert document["details"]["mends"] == []
    assert len(document["details"]["outside"]) == 1
    assert lab.environment.tree() == before

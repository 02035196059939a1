"""doctor beside the real torch 2.13.0+cpu: the same recipes, and no false alarm."""

from __future__ import annotations

import contextlib

import pytest

from tests.functional.conftest import Environment, clean_variables
from tests.functional.doctor_lab import activate, run_doctor
from tests.functional.test_doctor import assert_named
from tests.functional.test_doctor_healthy import assert_healthy
from tests.lab import LabWheels
from tests.lab.breakage import RECIPES, Recipe

pytestmark = [pytest.mark.slow, pytest.mark.torch]
CHOSEN = (
    "a library of torch is gone",
    "a library of torch is cut",
    "a module of torch is gone",
    "an empty libc10 on LD LIBRARY PATH",
    "pip was killed while it replaced torch",
    "the metadata of torch has no RECORD",
)


@pytest.fixture
def lab(environment, tmp_path):
    """The copy is of hard links: recipes replace files and never write into one."""
    variables = clean_variables({}, tmp_path, tmp_path / "home")
    wheels = LabWheels.at(tmp_path / "wheels")
    with contextlib.ExitStack() as stack:
        yield activate(Environment(environment, variables), wheels, tmp_path, stack)


def test_a_healthy_one(lab):
    assert_healthy(run_doctor(lab))


@pytest.mark.parametrize(
    "recipe",
    [recipe for recipe in RECIPES if recipe.name in CHOSEN],
    ids=lambda recipe: recipe.name,
)
def test_the_cause_is_named_and_nothing_else(recipe: Recipe, lab):
    recipe.breaks(lab)
    assert_named(run_doctor(lab), recipe)

"""`safe-install doctor` in environments that are really broken (tests/lab/breakage): it names the
cause, and raises no other alarm."""

from __future__ import annotations

import sys

import pytest

from tests.choice import long_unless
from tests.functional.conftest import read_document, run_process
from tests.functional.doctor_lab import checks_with_errors, findings_of, row_of, run_doctor
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage import RECIPES, Recipe

# One for each check, and of those that are not mended where it can be: a mend is another doctor,
# and often a pip.
CHOSEN = {recipe.check: recipe for recipe in sorted(RECIPES, key=lambda one: not one.mends)}


def is_chosen(recipe: Recipe) -> bool:
    """Does it come without --all?"""
    return CHOSEN[recipe.check] is recipe


def assert_named(document, *recipes: Recipe) -> None:
    """The check of each recipe found it, says what it is, and nothing else is an error."""
    expected = set()
    for recipe in recipes:
        assert_said(document, recipe)
        expected.update(recipe.follows)
        if recipe.severity == "error":
            expected.add(recipe.check)
    assert set(checks_with_errors(document)) <= expected, document["findings"]


def assert_said(document, recipe: Recipe) -> None:
    assert row_of(document, recipe.check)["status"] == recipe.status, document["findings"]
    if recipe.status != "found":
        return
    found = findings_of(document, recipe.check)
    assert recipe.severity in [one["severity"] for one in found]
    said = " | ".join(f"{one['subject']}: {one['detail']} {one['hint']}" for one in found)
    for words in recipe.says:
        assert words in said
    assert all(one["detail"] and one["hint"] for one in found), "a cause and a mend"


@pytest.mark.parametrize("recipe", long_unless(is_chosen, RECIPES), ids=lambda recipe: recipe.name)
def test_the_cause_is_named_and_nothing_else(recipe: Recipe, make_lab):
    lab = make_lab(recipe.base)
    recipe.breaks(lab)
    document = run_doctor(lab)
    assert_named(document, recipe)
    if recipe.mends:
        (finding,) = findings_of(document, recipe.check)
        assert_mended(lab, recipe, finding["hint"])


def assert_mended(lab, recipe: Recipe, hint: str) -> None:
    """The line, typed in the same shell."""
    tool = f'safe-install() {{ "{sys.executable}" -m safe_install "$@"; }}'
    doctor = f'safe-install doctor --json --python "{lab.environment.executable}"'
    typed = f"{tool}; {{ {hint}; }} >&2 && {doctor}"
    done = run_process(["bash", "-c", typed], lab.variables, cwd=lab.folder)
    document = read_document(done)
    assert findings_of(document, recipe.check) == [], done.stderr
    assert checks_with_errors(document) == [], (document["findings"], done.stderr)

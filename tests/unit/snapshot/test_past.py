"""The environment as it was after a past change."""

from __future__ import annotations

import pytest

from safe_install.snapshot.past import Change, versions_after


def step(action, name, version, from_version=None):
    return {"action": action, "name": name, "version": version, "from_version": from_version}


ADD = Change("1", (step("add", "torch-scatter", "2.0"), step("add", "six", "1.16")))
REPLACE = Change("2", (step("replace", "numpy", "2.0", "1.26"),))
REMOVE = Change("3", (step("remove", "Six", None, "1.16"),))
TODAY = {"numpy": "2.0", "torch-scatter": "2.0"}


@pytest.mark.parametrize(
    ("later", "versions"),
    [
        ([], TODAY),
        ([REMOVE], {"numpy": "2.0", "torch-scatter": "2.0", "six": "1.16"}),
        ([REMOVE, REPLACE], {"numpy": "1.26", "torch-scatter": "2.0", "six": "1.16"}),
        ([REMOVE, REPLACE, ADD], {"numpy": "1.26"}),
    ],
)
def test_later_changes_are_taken_back(later, versions):
    past = versions_after(TODAY, later)
    assert past.versions == versions
    assert past.foreign == ()


def test_an_undo_is_a_change_like_any_other():
    undo = Change("4", (step("replace", "numpy", "1.26", "2.0"),))
    past = versions_after({"numpy": "1.26"}, [undo])
    assert past.versions == {"numpy": "2.0"}


def test_what_somebody_else_has_changed_is_named():
    past = versions_after({"numpy": "3.0"}, [REPLACE, ADD])
    assert past.versions == {"numpy": "1.26"}
    assert past.foreign == ("numpy", "six", "torch-scatter")

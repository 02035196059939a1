"""What would miss a requirement after an undo, and came later."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.utils import canonicalize_name

from safe_install.commands.undo import find_needed, versions_before
from safe_install.models import Action, Plan, Step
from safe_install.transaction.history import HistoryEntry
from tests.factories import make_distribution, make_environment

GAMMA, BETA = canonicalize_name("gamma"), canonicalize_name("beta")
UNDO_OF_BETA = Plan((Step(Action.REMOVE, BETA, None, from_version="1"),))


def make_entry(identifier, **versions):
    steps = [
        {"name": name, "from_version": None, "version": version}
        for name, version in versions.items()
    ]
    return HistoryEntry(identifier, ("install",), created=0.0, steps=tuple(steps))


ENTRIES = (
    make_entry("e", gamma="3"),
    make_entry("d", beta="1"),
    make_entry("c", gamma="2", alpha="1"),
    make_entry("b", alpha=None),
    make_entry("a", gamma="1", alpha="2"),
)


@pytest.mark.parametrize(
    ("number", "versions"),
    [
        (0, {"beta": "1", "gamma": "2", "alpha": "1"}),
        (1, {"gamma": "2", "alpha": "1"}),
        (2, {"alpha": None, "gamma": "1"}),
        (4, {}),
    ],
)
def test_the_versions_that_were_there(number, versions):
    assert versions_before(ENTRIES[number], ENTRIES) == versions


@pytest.mark.parametrize(
    ("before", "is_needed"),
    [
        ({}, True),
        ({GAMMA: "1"}, True),
        ({GAMMA: None}, True),
        ({GAMMA: "2"}, False),  # it was there without beta, whatever the time of its files
    ],
)
def test_what_was_there_before_in_this_version_was_there_without_it(tmp_path, before, is_needed):
    gamma = make_distribution("gamma", "2", requires=("beta",))
    gamma = dataclasses.replace(gamma, metadata_path=tmp_path)
    here = make_environment(gamma, make_distribution("beta", "1"))
    needed = find_needed(UNDO_OF_BETA, here, 0.0, before)
    assert [one.name for one in needed] == ([GAMMA] if is_needed else [])


def test_what_is_older_than_the_change_was_there(tmp_path):
    gamma = make_distribution("gamma", "2", requires=("beta",))
    gamma = dataclasses.replace(gamma, metadata_path=tmp_path)
    here = make_environment(gamma, make_distribution("beta", "1"))
    later = tmp_path.stat().st_ctime + 1
    assert find_needed(UNDO_OF_BETA, here, later, {}) == ()

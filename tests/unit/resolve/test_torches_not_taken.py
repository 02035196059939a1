"""Why each torch before the chosen one was not taken, by build and by release."""

from __future__ import annotations

import dataclasses

import pytest

from safe_install.resolve.torch_choice import PassedOver, TorchChoice
from safe_install.resolve.torch_ranking import Exclusion, TorchOption
from safe_install.resolve.torch_reason import Reason, predicate
from safe_install.resolve.torches_not_taken import (
    NotTaken,
    group_reasons,
    list_not_taken,
    nearest_of_each_release,
)
from tests.factories import planned_torch


def build(version):
    return planned_torch(version, "linux_x86_64")


def option(version, excluded=None, reason=None, warning=""):
    return TorchOption(build(version), excluded, reason, warning)


DRIVER = "needs driver 580.65.06 or newer, declared is 535.104.05"
OPTIONS = (
    option("2.15.0", Exclusion.DRIVER, predicate(DRIVER)),
    option("2.14.1", Exclusion.DRIVER, predicate(DRIVER)),
    option("2.14.1+cu126"),
    option(
        "2.13.0",
        Exclusion.DRIVER,
        Reason("no kernel image for sm_70, which is declared"),
    ),
    option("2.13.0+cu126"),
    option("2.13.0+cu129"),
    option("2.12.1"),
    option("2.13.0+cu111", None, predicate("would not run"), "torch 2.13.0+cu111 would not run"),
)
CHOICE = TorchChoice(
    passed_over=(PassedOver(build("2.14.1+cu126"), Reason("no torch-scatter was built for it")),)
)


def test_newer_releases_and_what_comes_first_of_the_same():
    found = list_not_taken(OPTIONS, CHOICE, OPTIONS[4])
    assert [(row.version, row.reason, row.is_near) for row in found] == [
        ("2.15.0+cu132", DRIVER, False),
        ("2.14.1+cu130", DRIVER, False),
        ("2.14.1+cu126", "no torch-scatter was built for it", True),
        ("2.13.0+cu130", "no kernel image for sm_70, which is declared", False),
        ("2.13.0+cu111", "would not run", False),
    ]


def test_of_the_newest_there_is_nothing_to_say():
    assert list_not_taken(OPTIONS, TorchChoice(), OPTIONS[0]) == ()


@pytest.mark.parametrize(
    ("excluded", "version", "reason", "expected"),
    [
        (
            Exclusion.BUILD,
            "2.14.0+cu126",
            predicate("has no build for cu126"),
            ("2.14.0", "has no build for cu126"),
        ),
        (
            Exclusion.PYTHON,
            "2.14.0",
            predicate("has no wheel for X"),
            ("2.14.0", "has no wheel for X"),
        ),
        (
            Exclusion.REQUIREMENT,
            "2.14.0",
            predicate("is excluded"),
            ("2.14.0+cu130", "is excluded"),
        ),
    ],
)
def test_a_build_that_nobody_published_is_named_by_its_release(excluded, version, reason, expected):
    options = (option(version, excluded, reason), option("2.13.0"))
    (row,) = list_not_taken(options, TorchChoice(), options[1])
    assert (row.version, row.reason) == expected


@pytest.mark.parametrize(
    ("rows", "nearest"),
    [
        ([(Exclusion.DRIVER, False), (None, True)], 1),  # it lacks only a wheel
        ([(Exclusion.ACCELERATOR, False), (Exclusion.BUILD, False)], 1),  # no other accelerator
        ([(Exclusion.DRIVER, False), (Exclusion.BUILD, False)], 0),  # the one that comes first
    ],
)
def test_the_nearest_of_a_release(rows, nearest):
    names = ("2.14.0", "2.14.0+cu126")
    options = [option(name, excluded) for name, (excluded, _) in zip(names, rows)]
    listed = [NotTaken(build(name), name, "r", is_near) for name, (_, is_near) in zip(names, rows)]
    assert nearest_of_each_release(options, listed) == (listed[nearest],)


def test_of_builds_for_newer_drivers_the_nearest_needs_the_oldest():
    needed = {
        "2.14.1": "580.65.06",
        "2.14.1+cu126": "525.60.13",
        "2.14.1+cu129": "525.60.13",
        "2.14.1+cu118": "",  # it has no code for the declared GPU
    }
    options = [
        dataclasses.replace(option(name, Exclusion.DRIVER), needed_driver=driver)
        for name, driver in needed.items()
    ]
    listed = [NotTaken(build(name), name, "r") for name in needed]
    assert nearest_of_each_release(options, listed) == (listed[1],)


def test_a_release_without_the_requested_build_is_named_once():
    options = (
        option("2.15.0", Exclusion.ACCELERATOR, predicate("is a build for cu132")),
        option("2.15.0+cu118", Exclusion.BUILD, predicate("has no build for cu118")),
        option("2.14.0", Exclusion.ACCELERATOR, predicate("is a build for cu130")),
        option("2.14.0+cu118", Exclusion.REQUIREMENT, predicate("is excluded")),
        option("2.13.0+cu118"),
    )
    untried = PassedOver(build("2.15.0"), predicate("has no build for cu118"), is_untried=True)
    rows = list_not_taken(options, TorchChoice(passed_over=(untried,)), options[4])
    assert [(row.version, row.reason) for row in rows] == [
        ("2.15.0", "has no build for cu118"),
        ("2.14.0+cu130", "is a build for cu130"),
        ("2.14.0+cu118", "is excluded"),
    ]


def test_one_line_for_one_reason():
    listed = [
        NotTaken(build("2.14.0"), name, reason)
        for name, reason in (("3", "a"), ("2", "a"), ("1", "b"))
    ]
    assert group_reasons(listed) == [(("3", "2"), "a"), (("1",), "b")]

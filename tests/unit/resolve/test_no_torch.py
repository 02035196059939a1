"""What is said where no torch may come: each reason once, and a hint that helps; a table over frozen
values."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement

from safe_install.index.torch_files import Absent, Listing
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.no_torch import no_torch
from safe_install.resolve.torch_choice import PassedOver, TorchChoice
from safe_install.resolve.torch_ranking import Exclusion, TorchTerms, rank_torches
from safe_install.resolve.torch_reason import Reason
from tests.factories import planned_torch
from tests.unit.resolve.test_torch_choice import (
    CATALOG,
    MIDDLE,
    PLATFORM,
    declared,
    machine,
)

OPTION = "--accelerator"
AUTO = "--accelerator names {}: --accelerator auto lets the driver decide."
DOWN = Absent("h does not answer (HTTP 500)", "Try again when h answers.")
OFFLINE = Absent("h was not asked (--offline)", "Leave --offline out to ask h.", "--offline")
# torch 2.14.1 from the package index
INDEX = "The package index has that build: safe-install --accelerator cu130 torch==2.14.1"
ON_38, ON_311 = machine(version="3.8.18"), machine()
ON_OLD_DRIVER = machine(driver=declared(MIDDLE))
NEEDS = "driver 580.65.06 or newer, declared is 535.104.05 (CUDA 12.2)"

CASES = {
    # name: machine, requirement, accelerator, origin, problem of the page, message, hint
    "no wheel for this Python": (
        ON_38, "torch>=2.9", "cpu", OPTION, None,
        "no torch for cpu can come: torch 2.14.1 and 4 older releases have no wheel for Python 3.8",
        "Ask for torch 2.2.2, the newest for cpu that Python 3.8 has.",
    ),
    "one release, and so one reason": (
        ON_38, "torch==2.9.1", "cpu", OPTION, None,
        "no torch for cpu can come: torch 2.9.1 has no wheel for Python 3.8",
        "Ask for torch 2.2.2, the newest for cpu that Python 3.8 has.",
    ),
    "two releases": (
        ON_38, "torch>=2.13.1", "cpu", OPTION, None,
        "no torch for cpu can come: torch 2.14.1 and 2.13.1 have no wheel for Python 3.8",
        "Ask for torch 2.2.2, the newest for cpu that Python 3.8 has.",
    ),
    "an accelerator that none of them has": (
        ON_311, "torch>=2.10", "cu118", OPTION, None,
        "no torch for cu118 can come: torch 2.14.1 and 2 older releases have no build for cu118",
        f"{AUTO.format('cu118')} Or ask for torch 2.2.2, the newest for cu118 that Python 3.11 has.",
    ),
    "an accelerator that a variable names": (
        ON_311, "torch==2.14.1", "cu126", "UV_TORCH_BACKEND", None,
        "no torch for cu126 can come: torch 2.14.1 has no build for cu126",
        "UV_TORCH_BACKEND names cu126: --accelerator auto lets the driver decide. Or ask for torch "
        "2.13.1, the newest for cu126 that Python 3.11 has.",
    ),
    "a build by name that there is not": (
        ON_311, "torch==2.14.1+cu126", "cu126", "", None,
        "no torch for cu126 can come: torch 2.14.1 has no build for cu126",
        "Ask for torch 2.13.1, the newest for cu126 that Python 3.11 has.",
    ),
    "a declared driver, and older releases that have no such build": (
        ON_OLD_DRIVER, "torch", "cu130", OPTION, None,
        f"no torch for cu130 can come: torch 2.14.1+cu130 and 3 older releases need {NEEDS}",
        "Use a newer driver, or take a build that runs there: safe-install torch==2.13.1+cu126",
    ),
    "a declared driver, whatever a host that does not answer has": (
        ON_OLD_DRIVER, "torch", "cu130", OPTION, DOWN,
        f"no torch for cu130 can come: torch 2.14.1+cu130 and 3 older releases need {NEEDS}",
        "Use a newer driver, or take a build that runs there: safe-install torch==2.13.1+cu126",
    ),
    "a declared driver, and a build by name: the package index does not help": (
        ON_OLD_DRIVER, "torch==2.14.1+cu130", "cu130", "", None,
        f"no torch for cu130 can come: torch 2.14.1+cu130 needs {NEEDS}",
        "Use a newer driver, or take a build that runs there: safe-install torch==2.13.1+cu126",
    ),
    "a version that is known nowhere": (
        ON_311, "torch==9.9", "cpu", OPTION, None,
        "no torch for cpu can come: no release that is known here meets torch==9.9",
        "Ask for torch 2.14.1, the newest for cpu that Python 3.11 has.",
    ),
    "a host that is down": (
        ON_311, "torch", "cu126", OPTION, DOWN,
        f"no torch for cu126 can come: {DOWN.reason}", DOWN.remedy,
    ),
    "a host that is down, and a build that the package index has": (
        ON_311, "torch==2.14.1+cu130", "cu130", "", DOWN,
        f"no torch for cu130 can come: {DOWN.reason}", INDEX,
    ),
    "the same beside another torch": (
        machine(torch="2.13.0+cpu"), "torch==2.14.1+cu130", "cu130", "", DOWN,
        f"no torch for cu130 can come: {DOWN.reason}", INDEX,
    ),
    "offline no index helps": (
        ON_311, "torch==2.14.1+cu130", "cu130", "", OFFLINE,
        f"no torch for cu130 can come: {OFFLINE.reason}", OFFLINE.remedy,
    ),
    "a page that is not there": (
        ON_311, "torch", "rocm5.0", OPTION, Absent("there is no page P (HTTP 404)"),
        "no torch for rocm5.0 can come: there is no page P (HTTP 404)", AUTO.format("rocm5.0"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_why_no_torch_may_come(name):
    here, text, accelerator, origin, problem, message, hint = CASES[name]
    terms = TorchTerms((Requirement(text),), accelerator=accelerator, origin=origin)
    options = rank_torches(None, terms, here, CATALOG)
    listing = Listing("https://h/torch/", problem=problem)
    error = no_torch(Selection(here, here), options, Wanted((), torch=terms), listing)
    assert (error.message, error.hint) == (message, hint)


def test_what_was_tried_is_grouped_too():
    """The page of the accelerator is there, and has none of them."""
    terms = TorchTerms((Requirement("torch"),), accelerator="cpu", origin=OPTION)
    passed = tuple(
        PassedOver(planned_torch(f"{release}+cpu", PLATFORM), Reason("P has no wheel of it"))
        for release in ("2.14.1", "2.13.1", "2.13.0")
    )
    selection = Selection(ON_311, ON_311, torch_choice=TorchChoice(passed_over=passed))
    options = rank_torches(None, terms, ON_311, CATALOG)
    possible = [dataclasses.replace(option, excluded=None) for option in options]
    # an exclusion without a reason of its own says nothing
    of_cpu = next(option for option in options if option.build.accelerator == "cpu")
    silent = dataclasses.replace(of_cpu, excluded=Exclusion.DRIVER, reason=None)
    error = no_torch(selection, [*possible, silent], Wanted((), torch=terms), Listing("P"))
    assert error.message == (
        "no torch for cpu can come: torch 2.14.1+cpu and 2 older releases: P has no wheel of it"
    )

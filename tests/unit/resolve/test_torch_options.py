"""Why a newer torch does not come, though nothing was passed over for it."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Candidate, CandidateKind, Link, Plan, Step
from safe_install.resolve.carried import Tie
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.torch_choice import PassedOver
from safe_install.resolve.torch_options import (
    MAX_REFUSED,
    describe_carried,
    newer_options,
    note_newer,
    possible_options,
)
from safe_install.resolve.torch_ranking import Exclusion, TorchOption, TorchTerms
from safe_install.resolve.torch_reason import Reason
from tests.factories import make_distribution, make_environment, planned_torch

NEWEST = max(bundled_catalog().torch.releases, key=Version)
OLDER = ("2.13.0", ("torchvision", ["torch==2.13.0"]))


def terms(*requirements, constraints=()):
    return TorchTerms(tuple(map(Requirement, requirements)), tuple(map(Requirement, constraints)))


@pytest.mark.parametrize(
    ("version", "other", "wanted", "reason"),
    [
        (*OLDER, Wanted(()), "torchvision 1.0 requires torch==2.13.0"),
        (*OLDER, Wanted((), torch=terms("torch>=2")), "torchvision 1.0 requires torch==2.13.0"),
        # the person says it
        (*OLDER, Wanted((), torch=terms("torch<2.14")), None),
        (*OLDER, Wanted((), torch=terms(constraints=["torch<=2.13"])), None),
        (*OLDER, Wanted((), has_lock=True), None),
        # nobody does: the index has no newer one
        ("2.13.0", ("torchvision", ["torch>=2"]), Wanted(()), None),
        ("2.13.0", ("torchvision", ["torch<2.14 ; extra == 'old'"]), Wanted(()), None),
        # it is the newest
        (NEWEST, ("timm", ["torch"]), Wanted(()), None),
    ],
)
def test_what_requires_an_older_torch_is_named(version, other, wanted, reason):
    here = make_environment()
    name, requires = other
    steps = (
        Step(Action.ADD, "torch", version),
        Step(Action.ADD, name, "1.0", requires=tuple(requires)),
    )
    coming = planned_torch(version, "linux_x86_64")
    selection = Selection(here, dataclasses.replace(here, torch=coming), coming_torch=coming)
    details = [
        finding.detail for finding in note_newer(selection, Plan(steps), wanted, bundled_catalog())
    ]
    expected = f"torch {NEWEST}: {reason}; {coming.runtime_version} is taken"
    assert details == ([expected] if reason else [])


def option(version, **fields):
    return TorchOption(planned_torch(version, "linux_x86_64"), **fields)


@pytest.mark.parametrize(
    ("installed", "newer"),
    [
        ("2.13.0", ["2.14.1", "2.15.0"]),
        ("2.15.0", []),
        ("2.12.0", ["2.14.1", "2.13.0"]),
        (None, []),
    ],
)
def test_which_builds_are_preferred_to_the_installed_one(installed, newer):
    """In the order of preference, which is not that of the versions."""
    ranked = ["2.14.1", "2.15.0", "2.13.0"] if installed == "2.13.0" else ["2.15.0"]
    if installed in ("2.12.0", None):
        ranked = ["2.14.1", "2.13.0", "2.12.0"]
    options = [option(version, is_installed=version == installed) for version in ranked]
    assert [one.release for one in newer_options(options)] == newer


@pytest.mark.parametrize("count", range(MAX_REFUSED + 1))
def test_what_several_plans_required_excludes_the_others(count):
    passed = [
        PassedOver(
            planned_torch("2.15.0", "linux_x86_64"), Reason("taken by nobody"), wishes=(wish,)
        )
        for wish in ("torch<2.15", "torch<2.14")[:count]
    ]
    options = [option("2.14.1"), option("2.13.0"), option("2.12.0", excluded=Exclusion.BUILD)]
    found = [one.release for one in possible_options(options, passed)]
    assert found == (["2.14.1", "2.13.0"] if count < MAX_REFUSED else ["2.13.0"])


@pytest.mark.parametrize(
    ("kind", "fields", "end"),
    [
        (CandidateKind.WHEEL, {}, "goes along with torch"),
        (CandidateKind.SDIST, {}, "as there is no wheel of it for torch 2.14.1"),
        (CandidateKind.SDIST, {"may_be_kept": True}, "very torch, else it is built from source"),
    ],
)
def test_what_becomes_of_an_extension_that_goes_along(kind, fields, end):
    here = make_environment(make_distribution("torch-scatter", "2.1.2"), torch="2.13.0+cu130")
    coming = planned_torch("2.14.1", "linux_x86_64")
    selection = Selection(
        here,
        dataclasses.replace(here, torch=coming),
        coming_torch=coming,
        bound={"torch-scatter": Tie("2.13.0+cu130")},
    )
    link = Link("https://h/x.whl", "x.whl")
    told = describe_carried(
        Candidate("torch-scatter", Version("2.1.2"), kind, link, **fields), selection
    )
    assert told.startswith("torch-scatter 2.1.2, built for torch 2.13.0+cu130, goes along")
    assert told.endswith(end)

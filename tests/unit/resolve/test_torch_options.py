"""Why a newer torch does not come, though nothing was passed over for it."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Plan, Step
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.torch_options import note_newer
from safe_install.resolve.torch_ranking import TorchTerms
from tests.factories import make_environment, planned_torch

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

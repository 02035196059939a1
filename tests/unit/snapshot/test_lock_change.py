"""What files say of themselves, and what a lock permits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.version import Version

from safe_install.errors import HashMismatch
from safe_install.models import Action, Plan, Step
from safe_install.snapshot.lock_change import permits_cuda_loss, with_files
from tests.factories import planned_torch


def artifact(name="six", version="1.0"):
    return SimpleNamespace(
        name=name,
        version=Version(version),
        written_version=version,
        written_name=name.title(),
        requires_dist=["attrs"],
        path=Path(f"/w/{name}-{version}-py3-none-any.whl"),
    )


def plan(name="six", version="1.0", action=Action.ADD):
    return Plan((Step(action, name, version),))


def test_a_file_says_what_it_requires():
    (step,) = with_files(plan(version="1.0.0"), {"six": artifact()}).steps
    assert (step.version, step.requires, step.written_name) == ("1.0", ("attrs",), "Six")


def test_a_version_that_only_the_file_has():
    (step,) = with_files(plan(version=None), {"six": artifact(version="3.0")}).steps
    assert step.version == "3.0"


def test_what_has_no_file_stays():
    removal = plan(version=None, action=Action.REMOVE)
    assert with_files(removal, {}) == removal


@pytest.mark.parametrize("other", [artifact(name="seven"), artifact(version="1.1")])
def test_a_file_of_another_distribution(other):
    with pytest.raises(HashMismatch, match=r"holds .* and six 1\.0 was named"):
        with_files(plan(), {"six": other})


CPU = planned_torch("2.13.0+cpu", "linux_x86_64")
CUDA = planned_torch("2.13.0+cu130", "linux_x86_64")


@pytest.mark.parametrize(
    ("steps", "torch", "is_permitted"),
    [
        (plan(), CPU, False),
        (plan("torch", "2.13.0+cpu"), CPU, True),
        (plan("torch", "2.13.0+cu130"), CUDA, False),
        (plan("torch", None, Action.REMOVE), None, True),
    ],
)
def test_cuda_goes_with_the_torch_that_the_file_names(steps, torch, is_permitted):
    assert permits_cuda_loss(steps, torch) == is_permitted

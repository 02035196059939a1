"""What moves torch is refused, and what may move is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from safe_install.models import Origin, Plan, Severity, TorchPlace
from safe_install.resolve.guard import (
    check_plan,
    guard_constraints,
    guarded_distributions,
    names_released,
    names_released_by,
    refuse_other_files,
    same_version_steps,
)
from safe_install.resolve.plan import steps_of_report
from safe_install.torch_family import is_guarded, is_library_of_torch
from tests.factories import make_distribution, make_environment
from tests.unit.resolve.test_plan import TORCH_ENVIRONMENT, entry


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", True),
        ("torchvision", True),
        ("nvidia-cublas-cu12", True),
        ("triton", True),
        ("pytorch-triton-xpu", True),
        ("torchtext", True),
        ("cuda-bindings", True),
        ("torch-scatter", False),
        ("numpy", False),
    ],
)
def test_what_moves_with_torch(name, expected):
    assert is_guarded(canonicalize_name(name)) is expected


def test_constraints_carry_the_full_versions():
    assert guard_constraints(TORCH_ENVIRONMENT, released=()) == (
        "nvidia-nccl-cu12==2.18.1",
        "torch==1.8.1+cu111",
        "torchvision==0.9.1+cu111",
    )


def test_without_torch_nothing_is_guarded():
    environment = make_environment(make_distribution("nvidia-nccl-cu12", "2.18.1"))
    assert guard_constraints(environment, released=()) == ()


@pytest.mark.parametrize(
    ("named", "allow", "expected"),
    [
        ((), False, set()),
        (("numpy",), False, set()),
        (("torchvision",), False, {"torchvision"}),
        (("torch",), False, {"torch", "torchvision", "nvidia-nccl-cu12"}),
        ((), True, {"torch", "torchvision", "nvidia-nccl-cu12"}),
    ],
)
def test_what_may_move(named, allow, expected):
    assert names_released(TORCH_ENVIRONMENT, named=named, allow_torch_change=allow) == expected


def test_a_plan_that_moves_torch_is_refused_and_names_who_wanted_it():
    steps = steps_of_report(
        {
            "install": [
                entry("harmful-tools", "1.0", requires=["torch==2.4.1"], requested=True),
                entry("torch", "2.4.1"),
            ]
        },
        TORCH_ENVIRONMENT,
        {},
    )
    (finding,) = check_plan(Plan(steps), TORCH_ENVIRONMENT, released=())
    assert finding.check == "torch-moved"
    assert "harmful-tools 1.0 requires torch==2.4.1" in finding.detail
    assert check_plan(Plan(steps), TORCH_ENVIRONMENT, released={"torch"}) == ()


def test_adding_a_companion_is_no_move():
    steps = steps_of_report({"install": [entry("torchaudio", "0.8.1")]}, TORCH_ENVIRONMENT, {})
    assert check_plan(Plan(steps), TORCH_ENVIRONMENT, released=()) == ()


def test_a_torch_without_metadata_is_guarded():
    """Its files are imported, and pip does not know it: what requires torch would bring another
    one."""
    installed = {name: one for name, one in TORCH_ENVIRONMENT.installed.items() if name != "torch"}
    bare = dataclasses.replace(TORCH_ENVIRONMENT, installed=installed)
    public = TORCH_ENVIRONMENT.torch.version.public
    assert guard_constraints(bare, released=())[-1] == f"torch=={public}"
    assert not [
        line for line in guard_constraints(bare, released={"torch"}) if line.startswith("torch==")
    ]
    steps = steps_of_report({"install": [entry("torch", "9.0")]}, bare, {})
    (finding,) = check_plan(Plan(steps), bare, released=())
    assert (finding.check, finding.severity) == ("torch-without-metadata", Severity.ERROR)
    assert f"--force-reinstall --no-deps torch=={public}" in finding.hint
    assert check_plan(Plan(steps), bare, released={"torch"}) == ()
    assert "torch" in names_released(bare, named={"torch"}, allow_torch_change=False)
    assert "torch" in names_released(bare, named=(), allow_torch_change=True)
    assert names_released(bare, named={"numpy"}, allow_torch_change=False) == set()
    nothing = dataclasses.replace(bare, torch=None)
    assert guard_constraints(nothing, released=()) == ()
    assert check_plan(Plan(steps), nothing, released=()) == ()


def hidden_torch(**changes):
    """torch is imported from a folder on PYTHONPATH, before the one that is installed."""
    torch = dataclasses.replace(
        TORCH_ENVIRONMENT.torch, has_metadata=False, folder=Path("/sources/torch"), **changes
    )
    return dataclasses.replace(TORCH_ENVIRONMENT, torch=torch)


def test_a_torch_that_hides_the_installed_one_is_guarded():
    hidden = hidden_torch()
    # One line for torch: that of the one that pip knows.
    lines = guard_constraints(hidden, released=())
    assert [line for line in lines if line.startswith("torch==")] == [
        f"torch=={hidden.installed['torch'].version}"
    ]
    steps = steps_of_report({"install": [entry("torch", "9.0")]}, hidden, {})
    (finding,) = check_plan(Plan(steps), hidden, released=())
    assert finding.check == "torch-without-metadata"
    assert "/sources/torch has no metadata" in finding.detail


def test_a_torch_that_does_not_say_its_version_is_guarded():
    place = TorchPlace(Path("/sources"), Path("/sources/torch"), "package")
    bare = dataclasses.replace(TORCH_ENVIRONMENT, torch=None, installed={}, torch_places=(place,))
    steps = steps_of_report({"install": [entry("torch", "9.0")]}, bare, {})
    (finding,) = check_plan(Plan(steps), bare, released=())
    assert "the torch in /sources/torch has no metadata" in finding.detail
    assert check_plan(Plan(steps), bare, released={"torch"}) == ()
    left = dataclasses.replace(bare, torch_places=(dataclasses.replace(place, files="namespace"),))
    assert check_plan(Plan(steps), left, released=()) == ()


VISION = make_environment(
    make_distribution("torchvision", "0.28.0"),
    make_distribution("nvidia-nccl-cu13", "2.30.7"),
    make_distribution("torch", "2.13.0+cpu", requires=["nvidia-nccl-cu13==2.31.0"]),
    torch="2.13.0+cpu",
)


@pytest.mark.parametrize(
    ("entries", "named", "allow", "expected"),
    [
        # torch is named and stays: what moves with it may not move alone.
        ([("torchvision", "0.27.0")], {"torch"}, False, {"torchvision": "companion-moved"}),
        ([("torchvision", "0.27.0")], {"torch", "torchvision"}, False, {}),
        ([("torchvision", "0.27.0")], {"torch"}, True, {}),
        ([("torchvision", "0.27.0"), ("torch", "2.12.0+cpu")], {"torch"}, False, {}),
        (
            [("torchvision", "0.27.0"), ("torch", "2.13.0+cpu")],
            {"torch"},
            False,
            {"torchvision": "companion-moved"},
        ),
        # A library in the version that torch requires is a repair.
        ([("nvidia-nccl-cu13", "2.31.0")], set(), False, {}),
        ([("nvidia-nccl-cu13", "2.32.0")], set(), False, {"nvidia-nccl-cu13": "companion-moved"}),
        # The same version again: its files are compared later.
        ([("torch", "2.13.0+cpu")], set(), False, {}),
        ([("torchvision", "0.28.0")], set(), False, {}),
    ],
)
def test_what_may_move_with_torch(entries, named, allow, expected):
    report = {"install": [entry(name, version) for name, version in entries]}
    plan = Plan(steps_of_report(report, VISION, {}))
    released = names_released_by(plan, VISION, named=named, allow_torch_change=allow)
    assert {
        one.subject: one.check for one in check_plan(plan, VISION, released=released)
    } == expected


def test_the_same_version_again():
    report = {
        "install": [entry("torchvision", "0.28.0"), entry("numpy", "1.0"), entry("torch", "2.12.0")]
    }
    plan = Plan(steps_of_report(report, VISION, {}))
    assert [step.name for step in same_version_steps(plan, released=())] == ["torchvision"]
    assert same_version_steps(plan, released={"torchvision"}) == ()
    built = Plan(
        tuple(
            dataclasses.replace(step, origin=Origin.SDIST, url="git+x") for step in plan.steps[:1]
        )
    )
    (finding,) = check_plan(built, VISION, released=())
    assert "torchvision 0.28.0 would be replaced by one built from git+x" in finding.detail
    detail = refuse_other_files(plan.steps[0], ["a", "b", "c", "d", "e"]).detail
    assert "other files of the same version (a, b, c and 2 more)" in detail


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch", True),
        ("triton", True),
        ("nvidia-nccl-cu13", True),
        ("torchvision", False),
        ("torch-scatter", False),
    ],
)
def test_what_is_not_built_against_torch(name, expected):
    assert is_library_of_torch(canonicalize_name(name)) is expected


@pytest.mark.parametrize(
    ("version", "requires", "is_repair"),
    [
        ("not-a-version", "nvidia-nccl-cu12==2.18.1", False),
        ("2.19", "nvidia-nccl-cu12==2.19; python_version < '3'", False),  # the marker is not true
        ("2.19", "nvidia-nccl-cu12==2.19", True),
        ("2.19", "nvidia-nccl-cu12==2.18.1", False),  # what is there is what is required
        ("2.19", "sympy", False),
    ],
)
def test_a_repair_is_what_torch_requires(version, requires, is_repair):
    environment = make_environment(
        make_distribution("torch", "2.4.0", requires=[requires]),
        make_distribution("nvidia-nccl-cu12", "2.18.1"),
        torch="2.4.0",
    )
    plan = Plan(steps_of_report({"install": [entry("nvidia-nccl-cu12", version)]}, environment, {}))
    assert (check_plan(plan, environment, released=()) == ()) is is_repair


def test_a_version_that_is_none_is_no_constraint():
    environment = make_environment(make_distribution("torchvision", "odd version"), torch="2.4.0")
    assert guard_constraints(environment, released=()) == ("torch==2.4.0",)
    assert guarded_distributions(make_environment(make_distribution("torchvision", "0.1"))) == ()


def test_a_guarded_distribution_that_is_added_is_no_move():
    environment = make_environment(make_distribution("torch", "2.4.0"), torch="2.4.0")
    plan = Plan(steps_of_report({"install": [entry("torchvision", "0.19")]}, environment, {}))
    assert check_plan(plan, environment, released=()) == ()

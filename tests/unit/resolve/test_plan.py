"""pip's report becomes steps; what moves torch is refused; pip's words are understood."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.models import Action, Plan, Severity, TorchBuild, TorchPlace
from safe_install.resolve.plan import (
    AskedOfTorch,
    are_satisfied,
    beside_installed,
    check_plan,
    check_torch_change,
    conflict_reason,
    guard_constraints,
    is_satisfied,
    names_in_failure,
    names_released,
    names_released_by,
    needed_by_torch,
    planned_distributions,
    refuse_other_files,
    same_version_steps,
    steps_of_report,
    with_own_hash,
)
from safe_install.torch_family import is_guarded, is_library_of_torch
from tests.factories import make_distribution, make_environment

TORCH_ENVIRONMENT = make_environment(
    make_distribution("torchvision", "0.9.1+cu111"),
    make_distribution("nvidia-nccl-cu12", "2.18.1"),
    make_distribution("numpy", "1.24.4"),
    torch="1.8.1+cu111",
)


def test_what_the_legacy_resolver_lists_twice_is_one_step():
    folder = entry("numpy", "2.0", url="file:///src/numpy")
    assert len(steps_of_report({"install": [folder, folder]}, make_environment(), {})) == 1


@pytest.mark.parametrize(
    ("hashes", "kept"),
    [([], "aa"), (["aa"], "aa"), (["bb", "aa"], "aa"), (["bb"], "bb"), (["bb", "cc"], None)],
)
def test_the_hash_of_the_person_is_stronger_than_that_of_a_page(hashes, kept):
    archive = {"archive_info": {"hashes": {"sha256": "aa"}}}
    (step,) = steps_of_report({"install": [entry("numpy", "2.0", **archive)]}, make_environment(), {})
    stronger = with_own_hash(step, hashes)
    assert stronger.sha256 == kept
    if kept is not None:
        assert stronger.download_info["archive_info"]["hashes"] == {"sha256": kept}


@pytest.mark.parametrize(
    ("name", "installed", "has_record", "is_beside"),
    [
        ("numpy", "1.24.4", True, True),
        ("numpy", "2.0", True, False),  # the same version is replaced
        ("numpy", "2.0", False, True),
        ("torchvision", "1.0", True, False),
        ("nvidia-nccl-cu12", "1.0", False, False),
        ("numpy", None, True, False),
    ],
)
def test_what_ignore_installed_leaves_alone(name, installed, has_record, is_beside):
    there = () if installed is None else (make_distribution(name, installed, has_record=has_record),)
    environment = make_environment(*there)
    steps = steps_of_report({"install": [entry(name, "2.0")]}, environment, {})
    (step,) = beside_installed(steps, environment)
    assert step.action is (Action.ADD if is_beside or installed is None else Action.REPLACE)
    assert step.from_version == (None if is_beside else installed)


def entry(name, version, *, requires=(), requested=False, url=None, **download):
    return {
        "metadata": {"name": name, "version": version, "requires_dist": list(requires)},
        "download_info": {"url": url or f"https://host/{name}-{version}-py3-none-any.whl", **download},
        "requested": requested,
        "is_direct": False,
    }


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


def test_steps_say_why():
    report = {
        "install": [
            entry("harmful-tools", "1.0", requires=["torch==2.4.1"], requested=True),
            entry("torch", "2.4.1"),
        ]
    }
    first, second = steps_of_report(report, TORCH_ENVIRONMENT, {})
    assert (first.action, first.because) == (Action.ADD, "requested")
    assert (second.action, second.from_version) == (Action.REPLACE, "1.8.1+cu111")
    assert second.because == "harmful-tools 1.0 requires torch==2.4.1"


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


def test_kinds_and_hashes_are_read_from_the_report():
    entries = [
        entry("a", "1", archive_info={"hash": "sha256=aa"}),
        entry("b", "1", url="https://host/b-1.tar.gz", archive_info={"hashes": {"sha256": "bb"}}),
        entry("c", "1", url="file:///src/c", dir_info={"editable": True}),
    ]
    steps = steps_of_report({"install": entries}, TORCH_ENVIRONMENT, {})
    assert [(step.kind, step.sha256) for step in steps] == [
        ("wheel", "aa"),
        ("sdist", "bb"),
        ("editable", None),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numpy", True),
        ("numpy<2", True),
        ("numpy>=2", False),
        ("torch>=1.8", True),
        ("torch==1.8.1", True),
        ("torch==1.8.1+cu113", False),
        ("absent", False),
        ("numpy[extra]", False),
        ("numpy @ https://host/numpy.whl", False),
    ],
)
def test_satisfied(text, expected):
    assert is_satisfied(Requirement(text), TORCH_ENVIRONMENT) is expected


def test_dependencies_that_come_along_count_as_satisfied():
    assert are_satisfied(["torch-scatter", "numpy"], TORCH_ENVIRONMENT, coming={"torch-scatter"})
    assert not are_satisfied(["scipy"], TORCH_ENVIRONMENT, coming=())
    assert are_satisfied(["scipy; python_version < '3'"], TORCH_ENVIRONMENT, coming=())


def test_a_torch_without_metadata_is_guarded():
    """Its files are imported, and pip does not know it: what requires torch would bring another one."""
    installed = {name: one for name, one in TORCH_ENVIRONMENT.installed.items() if name != "torch"}
    bare = dataclasses.replace(TORCH_ENVIRONMENT, installed=installed)
    public = TORCH_ENVIRONMENT.torch.version.public
    assert guard_constraints(bare, released=())[-1] == f"torch=={public}"
    assert not [line for line in guard_constraints(bare, released={"torch"}) if line.startswith("torch==")]
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
    torch = dataclasses.replace(TORCH_ENVIRONMENT.torch, has_metadata=False, folder=Path("/sources/torch"), **changes)
    return dataclasses.replace(TORCH_ENVIRONMENT, torch=torch)


def test_a_torch_that_hides_the_installed_one_is_guarded():
    hidden = hidden_torch()
    # One line for torch: that of the one that pip knows.
    lines = guard_constraints(hidden, released=())
    assert [line for line in lines if line.startswith("torch==")] == [f"torch=={hidden.installed['torch'].version}"]
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
        ([("torchvision", "0.27.0"), ("torch", "2.13.0+cpu")], {"torch"}, False, {"torchvision": "companion-moved"}),
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
    assert {one.subject: one.check for one in check_plan(plan, VISION, released=released)} == expected


def test_the_same_version_again():
    report = {"install": [entry("torchvision", "0.28.0"), entry("numpy", "1.0"), entry("torch", "2.12.0")]}
    plan = Plan(steps_of_report(report, VISION, {}))
    assert [step.name for step in same_version_steps(plan, released=())] == ["torchvision"]
    assert same_version_steps(plan, released={"torchvision"}) == ()
    built = Plan(tuple(dataclasses.replace(step, kind="sdist", url="git+x") for step in plan.steps[:1]))
    (finding,) = check_plan(built, VISION, released=())
    assert "torchvision 0.28.0 would be replaced by one built from git+x" in finding.detail
    detail = refuse_other_files(plan.steps[0], ["a", "b", "c", "d", "e"]).detail
    assert "other files of the same version (a, b, c and 2 more)" in detail


def test_planned_distributions():
    steps = steps_of_report({"install": [entry("numpy", "2.0", requires=["x"])]}, TORCH_ENVIRONMENT, {})
    after = planned_distributions(Plan(steps), TORCH_ENVIRONMENT)
    assert after["numpy"].version == "2.0"
    assert after["numpy"].requires == ("x",)


# What pip 23.2.1 and 26.3 really printed for these requests beside torch 2.13.0+cpu.
CONFLICT = """
ERROR: Cannot install harmful-tools==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    harmful-tools 1.0 depends on torch==2.4.1
    The user requested (constraint) torch==1.8.1+cu111

To fix this you could try to:
"""


def test_a_conflict_with_the_guard_names_the_requirement():
    reason = conflict_reason(CONFLICT, ["torch==1.8.1+cu111"])
    assert reason == "harmful-tools 1.0 requires torch==2.4.1, but torch==1.8.1+cu111 is installed"


def test_two_specifiers_are_joined_as_a_requirement_has_them():
    text = CONFLICT.replace("torch==2.4.1", "torch<2.1 and >=2.0")
    reason = conflict_reason(text, ["torch==1.8.1+cu111"])
    assert reason == "harmful-tools 1.0 requires torch<2.1,>=2.0, but torch==1.8.1+cu111 is installed"


def test_a_conflict_of_others_is_not_ours():
    text = CONFLICT.replace("torch", "left-pad")
    assert conflict_reason(text, ["torch==1.8.1+cu111"]) is None


def test_no_version_left_names_the_requirement():
    text = "ERROR: Could not find a version that satisfies the requirement torch>=2 (from versions: 1.0)"
    assert conflict_reason(text, ["torch==1.8.1"]) == "torch>=2 was wanted, but torch==1.8.1 is installed"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ERROR: No matching distribution found for torch-scatter==2.1.2", ("torch-scatter",)),
        ("Collecting torch_sparse>=0.6 (from inner)", ("torch-sparse",)),
        ("ERROR: Failed building wheel for torch_scatter", ("torch-scatter",)),
        ("Looking in links: /home/me/pyg-lib/wheels", ()),
        ("ERROR: Could not open requirements file: /home/me/torch-scatter/r.txt", ()),
        ("ERROR: No matching distribution found for torch-scatter-lightning", ()),
        ("Requirement already satisfied: pyg-lib", ()),
    ],
)
def test_projects_of_the_index_are_found_in_a_failure(line, expected):
    text = f"Looking in indexes: https://pypi.org/simple\n{line}\nhint: see above\n"
    assert names_in_failure(text, {"torch-scatter", "torch-sparse", "pyg-lib"}) == expected


def torch_build(version):
    local = version.partition("+")[2]
    cuda = f"{local[2:-1]}.{local[-1]}" if local.startswith("cu") else None
    return TorchBuild(Version(version), version, local, cuda)


CUDA_INDEX = "https://download.pytorch.org/whl/cu130"


@pytest.mark.parametrize(
    ("installed", "coming", "asked", "expected"),
    [
        ("2.13.0+cpu", "2.14.1+cpu", AskedOfTorch(("torch",)), {}),
        ("2.13.0+cpu", "2.13.0+cpu", AskedOfTorch(("torch",)), {}),
        # Another accelerator: named by nobody, by its version, by its index, or permitted.
        ("2.13.0+cpu", "2.12.0+cu130", AskedOfTorch(("torch==2.12.0",)), {"torch-accelerator": "error"}),
        ("2.13.0+cu130", "2.13.0+cpu", AskedOfTorch(("torch==2.13.0",)), {"torch-accelerator": "error"}),
        ("2.13.0+cpu", "2.14.1+cu130", AskedOfTorch(("torch",)), {"torch-accelerator": "error"}),
        ("2.13.0+cpu", "2.12.0+cu130", AskedOfTorch(("torch==2.12.0+cu130",)), {"torch-accelerator": "warning"}),
        ("2.13.0+cpu", "2.14.1+cu130", AskedOfTorch(("torch",), (CUDA_INDEX,)), {"torch-accelerator": "warning"}),
        ("2.13.0+cpu", "2.14.1+cu130", AskedOfTorch(("torch",), (f"{CUDA_INDEX}x",)), {"torch-accelerator": "error"}),
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch @ https://h/torch-2.12.0%2Bcu130-cp311-cp311-linux_x86_64.whl",)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch==2.12.0",), allow_change=True),
            {"torch-accelerator": "warning"},
        ),
        # Each release has its own CUDA on the package index; who names no release gets no other one.
        ("2.8.0+cu128", "2.14.1+cu130", AskedOfTorch(("torch==2.14.1",)), {"torch-accelerator": "warning"}),
        ("2.8.0+cu128", "2.14.1+cu130", AskedOfTorch(("torch",)), {"torch-accelerator": "error"}),
        # An older release is one that somebody named.
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch==2.12.0",)), {}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch<2.13",)), {}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch @ https://h/torch-2.12.0%2Bcpu-cp311.whl",)), {}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch>=2.0",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch!=2.1,<3",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(('torch; python_version >= "3"',)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch",), allow_change=True), {}),
        # A specifier that the installed one satisfies names no other release.
        ("2.13.0+cu126", "2.14.1+cu130", AskedOfTorch(("torch>=1",)), {"torch-accelerator": "error"}),
        ("2.13.0+cu126", "2.14.1+cu130", AskedOfTorch(("torch[opt-einsum]",)), {"torch-accelerator": "error"}),
        ("2.13.0+cu126", "2.13.0+cu130", AskedOfTorch(("torch==2.13.0",)), {"torch-accelerator": "error"}),
        ("2.13.0+cu126", "2.13.0+cu130", AskedOfTorch(("torch==2.*",)), {"torch-accelerator": "error"}),
        ("2.13.0+cu126", "2.13.0+cu130", AskedOfTorch(("torch==2.13.0+cu130",)), {"torch-accelerator": "warning"}),
        ("2.13.0+cu126", "2.14.1+cu130", AskedOfTorch(("torch>=2.14",)), {"torch-accelerator": "warning"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch[opt-einsum]",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch>=1", "torch<2.13")), {}),
        ("2.14.0.dev20261101+cpu", "2.13.0+cpu", AskedOfTorch(("torch",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.14.0.dev20261101+cpu", AskedOfTorch(("torch",)), {}),
        # What it was built for is not known: nothing is said.
        ("2.13.0+cpu", "9.9.0", AskedOfTorch(("torch",)), {}),
        (None, "2.12.0+cpu", AskedOfTorch(("torch",)), {}),
    ],
)
def test_another_kind_of_torch(installed, coming, asked, expected):
    found = check_torch_change(torch_build(installed) if installed else None, torch_build(coming), asked)
    assert {one.check: one.severity.value for one in found} == expected
    for one in found:
        assert not one.hint or "\n" not in one.hint


def test_the_way_to_the_accelerator_that_is_there():
    (found,) = check_torch_change(
        torch_build("2.13.0+cpu"), torch_build("2.12.0+cu130"), AskedOfTorch(("torch==2.12.0",))
    )
    assert "2.13.0+cpu is a build for cpu" in found.detail and "is one for cu130" in found.detail
    assert "torch==2.12.0+cpu --index-url https://download.pytorch.org/whl/cpu" in found.hint


@pytest.mark.parametrize(
    ("name", "expected"),
    [("torch", True), ("triton", True), ("nvidia-nccl-cu13", True), ("torchvision", False), ("torch-scatter", False)],
)
def test_what_is_not_built_against_torch(name, expected):
    assert is_library_of_torch(canonicalize_name(name)) is expected


def test_what_torch_needs():
    """Itself or through another; no extras, nothing whose marker does not hold, no ring without an end."""
    environment = make_environment(
        make_distribution("torch", "2.4.0", requires=("sympy", "numpy; extra == 'n'", "tbb; python_version < '3'")),
        make_distribution("sympy", "1.13", requires=("mpmath>=1", "torch")),
        make_distribution("mpmath", "1.3"),
        make_distribution("numpy", "1.26"),
        make_distribution("tbb", "2021"),
        make_distribution("torch-scatter", "2.1.2", requires=("torch",)),
        torch="2.4.0",
    )
    assert needed_by_torch(environment) == {"torch", "sympy", "mpmath"}
    assert needed_by_torch(make_environment(make_distribution("sympy", "1.13"))) == set()


@pytest.mark.parametrize(
    ("place", "is_named"),
    [
        ("https://download.pytorch.org/whl/cpu", True),
        ("https://download.pytorch.org/whl/cpu/", True),
        ("https://mirror/whl/CPU/simple", True),
        ("https://host/cpu-images/simple", False),
        ("https://host/cpu.internal/simple", False),
        ("https://host/whl/cpu_old", False),
        ("https://cpu/simple", True),
    ],
)
def test_an_index_of_an_accelerator(place, is_named):
    assert AskedOfTorch(places=(place,)).names("cpu") is is_named

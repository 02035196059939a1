"""pip's report becomes steps; what is met needs no pip."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.models import Action, Candidate, CandidateKind, Link, Plan, Step
from safe_install.resolve.plan import (
    are_satisfied,
    beside_installed,
    explained,
    is_satisfied,
    kept_names,
    needed_by_torch,
    newly_unmet,
    planned_distributions,
    removed_names,
    steps_of_pins,
    steps_of_report,
    steps_of_torch,
    with_own_hash,
)
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
    (step,) = steps_of_report(
        {"install": [entry("numpy", "2.0", **archive)]}, make_environment(), {}
    )
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
        ("nvidia-nccl-cu12", "2.0", False, True),  # it gets a RECORD
        ("nvidia-nccl-cu12", "2.0", True, False),
        ("numpy", None, True, False),
    ],
)
def test_what_ignore_installed_leaves_alone(name, installed, has_record, is_beside):
    there = (
        () if installed is None else (make_distribution(name, installed, has_record=has_record),)
    )
    environment = make_environment(*there)
    steps = steps_of_report({"install": [entry(name, "2.0")]}, environment, {})
    (step,) = beside_installed(steps, environment)
    assert step.action is (Action.ADD if is_beside or installed is None else Action.REPLACE)
    assert step.from_version == (None if is_beside else installed)


def entry(name, version, *, requires=(), requested=False, url=None, **download):
    return {
        "metadata": {"name": name, "version": version, "requires_dist": list(requires)},
        "download_info": {
            "url": url or f"https://host/{name}-{version}-py3-none-any.whl",
            **download,
        },
        "requested": requested,
        "is_direct": False,
    }


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


def test_origins_and_hashes_are_read_from_the_report():
    entries = [
        entry("a", "1", archive_info={"hash": "sha256=aa"}),
        entry("b", "1", url="https://host/b-1.tar.gz", archive_info={"hashes": {"sha256": "bb"}}),
        entry("c", "1", url="file:///src/c", dir_info={"editable": True}),
        entry("d", "1", url="file:///src/d", dir_info={}),
        entry("e", "1", url="https://host/e.git", vcs_info={"vcs": "git", "commit_id": "1" * 40}),
    ]
    steps = steps_of_report({"install": entries}, TORCH_ENVIRONMENT, {})
    assert [(step.origin.value, step.sha256) for step in steps] == [
        ("wheel", "aa"),
        ("sdist", "bb"),
        ("editable", None),
        ("sdist", None),
        ("repository", None),
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


def test_planned_distributions():
    steps = steps_of_report(
        {"install": [entry("numpy", "2.0", requires=["x"])]}, TORCH_ENVIRONMENT, {}
    )
    after = planned_distributions(Plan(steps), TORCH_ENVIRONMENT)
    assert after["numpy"].version == "2.0"
    assert after["numpy"].requires == ("x",)


def test_what_torch_needs():
    """Itself or through another; no extras, nothing whose marker does not hold, no ring without an
    end."""
    environment = make_environment(
        make_distribution(
            "torch", "2.4.0", requires=("sympy", "numpy; extra == 'n'", "tbb; python_version < '3'")
        ),
        make_distribution("sympy", "1.13", requires=("mpmath>=1", "torch")),
        make_distribution("mpmath", "1.3"),
        make_distribution("numpy", "1.26"),
        make_distribution("tbb", "2021"),
        make_distribution("torch-scatter", "2.1.2", requires=("torch",)),
        torch="2.4.0",
    )
    assert needed_by_torch(environment) == {"torch", "sympy", "mpmath"}
    assert needed_by_torch(make_environment(make_distribution("sympy", "1.13"))) == set()


def make_pin(name, version, kind=CandidateKind.BUILT, requires=()):
    link = Link(f"file:///store/{name}-{version}.whl", f"{name}-{version}.whl", sha256="cc")
    return Candidate(
        canonicalize_name(name), Version(version), kind, link, requires=tuple(requires)
    )


def test_steps_of_our_pins():
    """One for each that is not there; a pin that pip planned, too, keeps its real origin."""
    pins = [make_pin("torch-scatter", "2.1"), make_pin("numpy", "1.24.4", CandidateKind.INSTALLED)]
    (step,) = steps_of_pins(pins, TORCH_ENVIRONMENT, requested={"torch-scatter"})
    assert (step.name, step.version, step.origin.value, step.sha256, step.requested) == (
        "torch-scatter",
        "2.1",
        "built",
        "cc",
        True,
    )
    assert step.candidate is pins[0]
    planned = {
        "install": [entry("torch-scatter", "2.1", url="file:///links/x.whl", requires=["numpy"])]
    }
    (step,) = steps_of_report(planned, TORCH_ENVIRONMENT, {pins[0].name: pins[0]})
    assert (step.url, step.candidate, step.download_info) == (pins[0].link.url, pins[0], None)
    assert step.requires == ("numpy",)


def test_a_version_that_is_none_meets_nothing():
    environment = make_environment(make_distribution("odd", "not-a-version"))
    assert not is_satisfied(Requirement("odd>=1"), environment)
    assert not are_satisfied(["not a requirement"], environment, coming=())


def test_the_hash_of_the_person_stands_in_the_record_of_the_download():
    info = {"archive_info": {"hash": "sha256=aa", "hashes": {"sha256": "aa"}}}
    (step,) = steps_of_report({"install": [entry("numpy", "2.0", **info)]}, make_environment(), {})
    changed = with_own_hash(step, ["bb"])
    assert changed.download_info["archive_info"] == {
        "hash": "sha256=bb",
        "hashes": {"sha256": "bb"},
    }
    without = with_own_hash(dataclasses.replace(step, download_info={"url": "x"}), ["bb"])
    assert (without.sha256, without.download_info) == ("bb", {"url": "x"})


def test_what_a_plan_breaks():
    """Only what stays, and only what was met before."""
    environment = make_environment(
        make_distribution("numpy", "1.24.4"),
        make_distribution("old", "1.0"),
        make_distribution("needs", "1.0", requires=["numpy<2", "old", "missing"]),
        make_distribution("gone", "1.0", requires=["numpy<2"]),
    )
    steps = (
        Step(Action.REPLACE, "numpy", "2.0", "1.24.4"),
        Step(Action.REMOVE, "old", None, "1.0"),
        Step(Action.REMOVE, "gone", None, "1.0"),
    )
    plan = Plan(steps)
    assert kept_names(plan, environment) == {"needs"}
    assert "old" not in planned_distributions(plan, environment)
    assert tuple(map(str, newly_unmet(plan, environment))) == (
        "needs 1.0 requires numpy<2, but you have numpy 2.0 which is incompatible.",
        "needs 1.0 requires old, which is not installed.",
    )


def test_a_requirement_that_names_nothing_explains_nothing():
    steps = explained(
        (
            Step(Action.ADD, "alpha", "1.0", requires=("???", "beta>1")),
            Step(Action.ADD, "beta", "2.0"),
        ),
        make_environment(),
    )
    assert [step.because for step in steps] == ["dependency", "alpha 1.0 requires beta>1"]


def test_what_moves_a_distribution_is_the_requirement_that_excludes_it():
    requires = ("torch>=2.13", "torch>=2.14", "torch>=2.14.1", "numpy", "numpy<3")
    steps = explained(
        (
            Step(Action.ADD, "alpha", "1.0", requires=requires),
            Step(Action.REPLACE, "torch", "2.14.1", from_version="2.13.0"),
            Step(Action.REPLACE, "numpy", "2.1", from_version="2.0"),
        ),
        make_environment(),
    )
    because = [step.because for step in steps[1:]]
    assert because == ["alpha 1.0 requires torch>=2.14", "alpha 1.0 requires numpy"]


def test_only_a_requirement_that_applies_explains_a_step():
    """pip's report lists all requirements of a project: those of its tests and documentation, too."""
    entries = [
        entry("science", "1.0", requires=['tool<2; extra == "doc"', 'tool; python_version<"3"']),
        {
            **entry(
                "user",
                "1.0",
                requested=True,
                requires=['user[graphs,Tables]; extra == "full"', 'plots[fast]; extra == "tables"'],
            ),
            "requested_extras": ["full"],
        },
        entry("plots", "1.0", requires=["science", 'Tool>=2; extra == "fast"', "plots[own]"]),
        entry("tool", "2.0"),
        entry("alone", "1.0"),
    ]
    steps = steps_of_report({"install": entries}, make_environment(), {})
    assert {step.name: step.because for step in steps} == {
        "science": "plots 1.0 requires science",
        "user": "requested",
        "plots": "user 1.0 requires plots[fast]",
        "tool": "plots 1.0 requires Tool>=2",
        "alone": "dependency",
    }


def test_what_torch_requires_in_a_plan():
    """Itself, through others, and by extras: what does not apply is not in the plan."""
    steps = (
        Step(Action.ADD, "base", "1", requires=("torch", "numpy")),
        Step(
            Action.ADD,
            "torch",
            "2.14.1",
            requires=("sympy>=1", "cuda-toolkit[cublas]==13.0", "absent", "???"),
        ),
        Step(Action.ADD, "cuda-toolkit", "13.0", requires=('nvidia-cublas; extra == "cublas"',)),
        Step(Action.ADD, "nvidia-cublas", "13.0"),
        Step(Action.ADD, "sympy", "1.14", requires=("mpmath", "torch")),
        Step(Action.ADD, "mpmath", "1.3"),
        Step(Action.ADD, "numpy", "2.0"),
    )
    names = {step.name for step in steps_of_torch(steps)}
    assert names == {"torch", "cuda-toolkit", "nvidia-cublas", "sympy", "mpmath"}
    assert steps_of_torch(steps[:1]) == ()


def test_what_is_replaced_is_not_removed():
    plan = Plan(
        (
            Step(Action.REMOVE, "old", None, from_version="1.0"),
            Step(Action.REPLACE, "torch", "2.0", from_version="1.0"),
            Step(Action.ADD, "new", "1.0"),
        )
    )
    assert removed_names(plan) == {"old"}

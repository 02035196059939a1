"""Plans at their edges: removals, our own pins, versions that are none, and the words of pip when
only we object."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.models import Action, BuiltFor, Candidate, CandidateKind, Link, Origin, Plan, Step
from safe_install.pip_output import find_constraint_conflict
from safe_install.resolve.guard import check_plan
from safe_install.resolve.plan import (
    are_satisfied,
    is_satisfied,
    kept_names,
    newly_unmet,
    planned_distributions,
    steps_of_pins,
    steps_of_report,
    with_own_hash,
)
from tests.factories import make_distribution, make_environment

URL = "https://data.pyg.org/whl/torch_scatter-2.1.2%2Bpt213cpu-cp311-cp311-linux_x86_64.whl"
ENVIRONMENT = make_environment(
    make_distribution("numpy", "1.26.4"),
    make_distribution("pandas", "2.2.3", requires=["numpy<2", "pytz"]),
    make_distribution("old", "unknown"),
    torch="2.13.0+cpu",
)


def make_pin(
    name="torch-scatter", version="2.1.2+pt213cpu", *, kind=CandidateKind.WHEEL, sha256="1" * 64
):
    return Candidate(
        name=canonicalize_name(name),
        version=Version(version),
        kind=kind,
        link=Link(URL, URL.rsplit("/", 1)[-1], sha256),
        built_for=BuiltFor("2.13.0", "cpu"),
        requires=("numpy",),
    )


def test_a_pin_is_a_step_unless_it_is_installed():
    pins = [
        make_pin(),
        make_pin("numpy", "1.26.4", kind=CandidateKind.INSTALLED),
        make_pin("pandas", "3.0"),
    ]
    added, replaced = steps_of_pins(pins, ENVIRONMENT, requested={"torch-scatter"})
    assert (added.action, added.name, added.version, added.from_version) == (
        Action.ADD,
        "torch-scatter",
        "2.1.2+pt213cpu",
        None,
    )
    assert (added.url, added.sha256, added.origin, added.requested) == (
        URL,
        "1" * 64,
        Origin.WHEEL,
        True,
    )
    assert (added.requires, added.candidate) == (("numpy",), pins[0])
    assert (replaced.action, replaced.from_version, replaced.requested) == (
        Action.REPLACE,
        "2.2.3",
        False,
    )


@pytest.mark.parametrize(("sha256", "kept"), [("1" * 64, "1" * 64), (None, "2" * 64)])
def test_in_pips_report_our_pin_keeps_its_origin(sha256, kept):
    """pip saw it in a folder of ours."""
    entry = {
        "metadata": {"name": "torch_scatter", "version": "2.1.2+pt213cpu"},
        "download_info": {
            "url": "file:///tmp/links/x.whl",
            "archive_info": {"hashes": {"sha256": "2" * 64}},
        },
        "is_direct": True,
    }
    pin = make_pin(sha256=sha256)
    (step,) = steps_of_report({"install": [entry]}, ENVIRONMENT, {pin.name: pin})
    assert (step.url, step.sha256, step.download_info, step.is_direct) == (URL, kept, None, False)
    assert step.candidate == pin


def test_what_the_plan_removes_is_not_there_afterwards():
    plan = Plan((Step(Action.REMOVE, "numpy", None, from_version="1.26.4"),))
    assert "numpy" not in planned_distributions(plan, ENVIRONMENT)
    assert kept_names(plan, ENVIRONMENT) == {"pandas", "old", "torch"}
    assert tuple(map(str, newly_unmet(plan, ENVIRONMENT))) == (
        "pandas 2.2.3 requires numpy<2, which is not installed.",
    )


def test_only_what_was_met_before_is_newly_unmet():
    plan = Plan((Step(Action.REPLACE, "numpy", "2.0", from_version="1.26.4"),))
    assert tuple(map(str, newly_unmet(plan, ENVIRONMENT))) == (
        "pandas 2.2.3 requires numpy<2, but you have numpy 2.0 which is incompatible.",
    )
    assert (
        newly_unmet(
            Plan((Step(Action.REPLACE, "pandas", "3.0", from_version="2.2.3"),)), ENVIRONMENT
        )
        == ()
    )


@pytest.mark.parametrize(
    ("text", "answer"), [("old>=1", False), ("numpy>=1", True), ("numpy>=2", False)]
)
def test_a_version_that_is_none_satisfies_nothing(text, answer):
    assert is_satisfied(Requirement(text), ENVIRONMENT) is answer


def test_a_requirement_that_cannot_be_read_is_not_met():
    assert are_satisfied(["numpy", "pandas ; python_version < '3'"], ENVIRONMENT, coming=())
    assert not are_satisfied(["numpy", "(damaged"], ENVIRONMENT, coming=())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            "The user requested torch==2.4.1",
            "torch==2.4.1 was wanted, but torch==1.8.1 is installed",
        ),
        ("The user requested left-pad", "torch was wanted, but torch==1.8.1 is installed"),
    ],
)
def test_a_conflict_with_the_person_alone(asked, reason):
    output = f"The conflict is caused by:\n    {asked}\n    The user requested (constraint) torch==1.8.1\n"
    assert str(find_constraint_conflict(output, ["torch==1.8.1"])) == reason


def test_the_same_party_is_named_once():
    output = "    a 1.0 depends on torch==2.4.1\n    a 1.0 depends on torch==2.4.1\n"
    assert (
        str(find_constraint_conflict(output, ["torch==1.8.1"]))
        == "a 1.0 requires torch==2.4.1, but torch==1.8.1 is installed"
    )


def test_no_version_left_of_another_project_is_not_ours():
    output = "ERROR: No matching distribution found for left-pad\n"
    assert find_constraint_conflict(output, ["torch==1.8.1"]) is None


def test_the_hash_of_the_person_where_the_report_has_no_archive():
    step = Step(Action.ADD, "demo", "1.0", url="https://h/x.whl", sha256="1" * 64, download_info={})
    found = with_own_hash(step, ["2" * 64])
    assert (found.sha256, found.download_info) == ("2" * 64, {})


def test_a_requirement_that_names_nothing_gives_no_reason():
    metadata = {"name": "a", "version": "1.0", "requires_dist": ["(damaged", "b"]}
    report = {"install": [{"metadata": metadata}, {"metadata": {"name": "b", "version": "2.0"}}]}
    steps = steps_of_report(report, ENVIRONMENT, {})
    assert [step.because for step in steps] == ["dependency", "a 1.0 requires b"]


@pytest.mark.parametrize(
    ("requires", "version", "checks"),
    [
        (["nvidia-nccl-cu12==2.18.1"], "2.19.0", ["companion-moved"]),
        # what is there does not fit torch, what comes does
        (["nvidia-nccl-cu12==2.19.0"], "2.19.0", []),
        (["nvidia-nccl-cu12==2.19.0"], "2.20.0", ["companion-moved"]),
        (["nvidia-nccl-cu12==2.19.0"], "unknown", ["companion-moved"]),
        (
            ["(damaged", "nvidia-nccl-cu12==2.19.0 ; python_version < '3'"],
            "2.19.0",
            ["companion-moved"],
        ),
    ],
)
def test_what_moves_with_torch_may_be_repaired(requires, version, checks):
    environment = make_environment(
        make_distribution("torch", "2.13.0", requires=requires),
        make_distribution("nvidia-nccl-cu12", "2.18.1"),
        torch="2.13.0",
    )
    step = Step(Action.REPLACE, "nvidia-nccl-cu12", version, from_version="2.18.1")
    assert [
        finding.check for finding in check_plan(Plan((step,)), environment, released=())
    ] == checks

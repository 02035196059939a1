"""What is said of a choice."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.models import (
    Action,
    Candidate,
    CandidateKind,
    HostAnswer,
    HostAnswerKind,
    Link,
    Plan,
    Step,
)
from safe_install.pipeline.choice_text import (
    describe_pins,
    describe_satisfied,
    describe_silent_hosts,
    describe_torch,
    note_torch,
)
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.provider import Resolution
from tests.factories import make_distribution, make_environment


def test_nothing_is_said_of_a_torch_that_stays():
    here = make_environment(torch="2.13.0+cpu")
    steps = (Step(Action.ADD, "torchvision", "1.0", requires=("torch==2.13.0",)),)
    assert note_torch(Selection(here, here), Plan(steps), Wanted(()), bundled_catalog()) == ()


def test_what_is_there_is_told_as_pip_does():
    here = make_environment(make_distribution("torch-scatter", "2.1"), torch="2.13.0+cpu")
    asked = [Requirement("Torch_Scatter>=2"), Requirement("torch-sparse")]
    (line,) = describe_satisfied(asked, Selection(here, here))
    assert line.startswith("Requirement already satisfied: Torch_Scatter>=2 in ")
    assert line.endswith("(2.1)")


@pytest.mark.parametrize(
    ("torch", "expected"),
    [
        ("1.8.1+cu111", "torch 1.8.1+cu111, cp311, linux_x86_64"),
        (None, "torch not installed, cp311, linux_x86_64"),
    ],
)
def test_the_machine_in_one_line(torch, expected):
    assert describe_torch(make_environment(torch=torch)) == expected


def candidate(name, kind, **fields):
    link = Link(f"https://h/{name}-1.0.whl", f"{name}-1.0.whl")
    return Candidate(name, Version("1.0"), kind, link, **fields)


def test_where_each_file_comes_from():
    pins = (
        candidate("a", CandidateKind.WHEEL),
        candidate("b", CandidateKind.BUILT),
        candidate("c", CandidateKind.SDIST),
        candidate("d", CandidateKind.SDIST, may_be_kept=True),
        candidate("e", CandidateKind.INSTALLED),
    )
    assert describe_pins(Resolution(pins, (), ())) == [
        "a 1.0: https://h/a-1.0.whl",
        "b 1.0: built here before",
        "c 1.0: from source",
        "d 1.0: from source, unless the wheel that was built here before is for this very torch",
    ]


def test_a_host_that_was_silent_is_named_where_something_is_built():
    def answer(project, kind, **fields):
        return HostAnswer(project, "data.pyg.org", "https://data.pyg.org/", kind, **fields)

    pins = [candidate("b", CandidateKind.SDIST), candidate("w", CandidateKind.WHEEL)]
    answers = [
        answer("b", HostAnswerKind.DOWN, detail="timed out"),
        answer("b", HostAnswerKind.NOT_ASKED, gap="its files are known in part only"),
        answer("b", HostAnswerKind.NOT_ASKED),
        answer("b", HostAnswerKind.LISTED),
        answer("w", HostAnswerKind.DOWN, detail="timed out"),
    ]
    assert describe_silent_hosts(pins, answers) == [
        "b: data.pyg.org does not answer (timed out)",
        "b: data.pyg.org was not asked, and its files are known in part only",
    ]

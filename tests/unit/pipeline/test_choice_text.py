"""What is said of a choice."""

from __future__ import annotations

from packaging.requirements import Requirement

from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Plan, Step
from safe_install.pipeline.choice_text import describe_satisfied, note_torch
from safe_install.resolve.decisions import Selection, Wanted
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

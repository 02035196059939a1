"""What a person is asked before something is removed, and what they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from safe_install.commands.uninstall import _confirmed, removal_listing
from safe_install.errors import UsageError
from safe_install.events import Reporter
from safe_install.models import Action, Plan, Step
from safe_install.ports import World
from safe_install.resolve.own_options import OwnOptions
from safe_install.resolve.request import UninstallRequest
from tests.factories import make_distribution, make_environment

NAMES = ("alpha", "beta")
PLAN = Plan(tuple(Step(Action.REMOVE, canonicalize_name(name), None) for name in NAMES))
HERE = make_environment(*(make_distribution(name, "1.0") for name in NAMES))


class Person(Reporter):
    """Answers one question after the other."""

    def __init__(self, *answers):
        self.answers, self.lines, self.told = list(answers), [], []

    def ask(self, question, *, is_secret=False):
        assert question == "Proceed (Y/n)? "
        return self.answers.pop(0) if self.answers else None

    def announce(self, line):
        self.lines.append(line)

    def output(self, line):
        self.told.append(line)


def confirmed(person, *, yes=False):
    request = UninstallRequest(OwnOptions(), NAMES, yes=yes)
    plan = _confirmed(request, PLAN, HERE, World({}, person, Path("/cache")))
    return [step.name for step in plan.steps]


@pytest.mark.parametrize(
    ("answers", "removed"),
    [
        (["y", "n"], ["alpha"]),
        (["", " Y "], ["alpha", "beta"]),
        (["n", "N"], []),
    ],
)
def test_each_distribution_is_asked_for(answers, removed):
    person = Person(*answers)
    assert confirmed(person) == removed
    assert "Found existing installation: beta 1.0" in person.lines
    assert "Uninstalling beta-1.0:" in person.lines


def test_another_answer_is_asked_again():
    person = Person("perhaps", "y", "n")
    assert confirmed(person) == ["alpha"]
    assert person.told == [
        "Your response ('perhaps') was not one of the expected responses: y, n, "
    ]


def test_where_nobody_can_answer_nothing_is_removed():
    with pytest.raises(UsageError, match="stdin is not a terminal") as caught:
        confirmed(Person("y"))
    assert caught.value.hint == "Add -y."


def test_who_said_yes_is_not_asked():
    person = Person()
    assert confirmed(person, yes=True) == list(NAMES)
    assert person.lines == []


def test_the_files_are_listed_by_their_folders(tmp_path):
    """As pip shows them: what is a package by its folder, bytecode not at all."""
    info = tmp_path / "demo-1.0.dist-info"
    info.mkdir()
    rows = (
        "demo/__init__.py",
        "demo/inner/__init__.py",
        "demo/inner/data.txt",
        "demo/__pycache__/__init__.cpython-311.pyc",
        "single.py",
        "../bin/demo",
        "demo-1.0.dist-info/RECORD",
    )
    (info / "RECORD").write_text("".join(f"{row},,\n" for row in rows))
    found = make_distribution("demo", "1.0", metadata_path=info, location=tmp_path)
    first, *listed = removal_listing(found)
    assert first == "Would remove:"
    assert set(listed) == {
        f"  {tmp_path.parent}/bin/demo",
        f"  {info}/*",
        f"  {tmp_path}/demo/*",
        f"  {tmp_path}/single.py",
    }

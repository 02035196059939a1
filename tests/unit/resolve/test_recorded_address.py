"""Of which files is the address recorded?"""

from __future__ import annotations

import dataclasses

import pytest
from packaging.version import Version

from safe_install.models import Action, Candidate, CandidateKind, Link, Origin, Plan, Step
from safe_install.resolve.command_line import split_words
from safe_install.resolve.recorded_address import with_addresses
from safe_install.resolve.request import parse_install

PAGE = "https://data.pyg.org/whl/torch-2.1.0%2Bcu121.html"
WHEEL = "https://data.pyg.org/whl/torch-2.1.0%2Bcu121/a-1.0-py3-none-any.whl"
ON_PYPI = "https://files.pythonhosted.org/packages/a-1.0-py3-none-any.whl"


def request(*words):
    return parse_install(split_words(["a", *words]), environ={}, configuration={}, read=str)


def step(url, found_in, kind=CandidateKind.WHEEL):
    link = Link(url, "a-1.0-py3-none-any.whl", found_in=found_in)
    candidate = Candidate("a", Version("1.0"), kind, link)
    return Step(Action.ADD, "a", "1.0", url=url, origin=Origin(kind.value), candidate=candidate)


def recorded(one, *words):
    (found,) = with_addresses(Plan((one,)), request(*words)).steps
    return found.is_hosted, found.records_address


@pytest.mark.parametrize(
    ("one", "words", "expected"),
    [
        (step(WHEEL, PAGE), [], (True, True)),
        (step(WHEEL, "bundled facts"), [], (True, True)),
        (step(WHEEL, PAGE), ["--no-direct-url"], (True, False)),
        # of a package index, the person's or the common one
        (step(ON_PYPI, "https://pypi.org/simple/a/"), [], (False, False)),
        (step(ON_PYPI, "bundled facts"), [], (False, False)),
        (step(WHEEL, "https://i.example/simple/a/"), ["-i", "https://i.example/simple"], (False, False)),
        # another index than the one that listed it does not have it
        (step(WHEEL, PAGE), ["-i", "https://i.example/simple"], (True, True)),
        # files of this machine, and what was built on it
        (step("file:///w/a-1.0-py3-none-any.whl", "file:///w"), [], (False, False)),
        (step("file:///s/a.whl", "built here", CandidateKind.BUILT), [], (False, False)),
        (step("https://h/a.tar.gz", PAGE, CandidateKind.SDIST), [], (False, False)),
        # what pip chose is pip's
        (dataclasses.replace(step(WHEEL, PAGE), candidate=None), [], (False, False)),
    ],
)  # fmt: skip
def test_wheels_of_wheel_hosts_have_their_address_recorded(one, words, expected):
    assert recorded(one, *words) == expected

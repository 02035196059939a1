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
TORCH = "https://download.pytorch.org/whl/cpu/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl"
OF_TORCH = ["-i", "https://download.pytorch.org/whl/cpu"]
ON_PYPI = "https://files.pythonhosted.org/packages/a-1.0-py3-none-any.whl"


def request(*words, **configuration):
    words = split_words(["a", *words])
    return parse_install(words, environ={}, configuration=configuration, read=str)


def step(url, found_in, kind=CandidateKind.WHEEL):
    link = Link(url, "a-1.0-py3-none-any.whl", found_in=found_in)
    candidate = Candidate("a", Version("1.0"), kind, link)
    return Step(Action.ADD, "a", "1.0", url=url, origin=Origin(kind.value), candidate=candidate)


def step_of_pip(url, version, **fields):
    return Step(Action.ADD, "a", version, url=url, **fields)


def recorded(one, *words, **configuration):
    (found,) = with_addresses(Plan((one,)), request(*words, **configuration)).steps
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


@pytest.mark.parametrize(
    ("one", "words", "expected"),
    [
        # where pip looks on this command alone: no later one finds it by its version
        (step_of_pip(TORCH, "2.13.0+cpu"), OF_TORCH, (True, True)),
        (step_of_pip(TORCH, "2.13.0+cpu"), ["-f", "https://download.pytorch.org/"], (True, True)),
        (step_of_pip(TORCH, "2.13.0+cpu"), [*OF_TORCH, "--no-direct-url"], (True, False)),
        # a version that pypi.org may have, too, as pip has it
        (step_of_pip(TORCH, "2.13.0"), OF_TORCH, (False, False)),
        (step_of_pip(TORCH, "2004d"), OF_TORCH, (False, False)),  # no version of today's
        (step_of_pip(ON_PYPI, "1.0+cpu"), [], (False, False)),
        (step_of_pip("file:///w/a-1.0+cpu-py3-none-any.whl", "1.0+cpu"), [], (False, False)),
        # named by its address: pip writes that; a built one has no address
        (step_of_pip(TORCH, "2.13.0+cpu", is_direct=True), [], (False, False)),
        (step_of_pip("https://h/a.tar.gz", "1.0+cpu", origin=Origin.SDIST), [], (False, False)),
    ],
)
def test_local_versions_of_pip_have_their_address_recorded(one, words, expected):
    assert recorded(one, *words) == expected


@pytest.mark.parametrize("key", ["index_url", "extra_index_url"])
def test_a_local_version_of_a_configured_index_is_found_by_its_version(key):
    one = step_of_pip("https://i.example/files/a-1.0+cpu-py3-none-any.whl", "1.0+cpu")
    configuration = {key.replace("_", "-"): "https://me:secret@i.example/simple"}
    assert recorded(one, **configuration) == (False, False)
    assert recorded(one) == (True, True)

"""What is near the torch that is there, and what a file that the person points to is taken to be."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.tags import parse_tag
from packaging.version import Version

from safe_install.index.catalog import load_project
from safe_install.index.facts import HostEntry, Layout
from safe_install.index.search import (
    Search,
    assume_torch,
    describe_near_files,
    describe_other_files,
    is_near,
    tags_fit,
)
from safe_install.models import BuiltFor, Candidate, CandidateKind, HostAnswerKind, Link
from tests.factories import environment_for

HERE = environment_for(torch="2.13.0+cu126", python_version="3.11", platform="linux_x86_64")
CONTAINER = environment_for(
    torch="2.11.0a0+a6c236b9fd.nv26.02.46836102", python_version="3.12", platform="linux_x86_64"
)
NO_TORCH = dataclasses.replace(HERE, torch=None)


def candidate(torch=None, accelerator=None, *, kind=CandidateKind.WHEEL, python="cp311", name="x"):
    return Candidate(
        "torch-scatter",
        Version("2.1.2"),
        kind,
        Link(f"https://h/{name}", name),
        parse_tag(f"{python}-{python}-linux_x86_64"),
        built_for=BuiltFor(torch, accelerator),
    )


SDIST = candidate(kind=CandidateKind.SDIST)


@pytest.mark.parametrize(
    ("found", "project", "here", "near"),
    [
        (candidate("2.13.1"), "torch-scatter", HERE, True),
        (candidate("2.1.3"), "torch-scatter", HERE, False),
        (candidate("2.12.0"), "torch-scatter", HERE, False),
        # a pin, as companions have it
        (candidate("==2.13.0"), "torchvision", HERE, True),
        (candidate("<2.13"), "torchvision", HERE, False),
        # what says nothing: of a project whose files say their torch it is for another one
        (candidate(), "torch-scatter", HERE, True),
        (candidate(), "torchvision", HERE, False),
        # a source distribution is near where it can be built
        (SDIST, "torch-scatter", HERE, True),
        (SDIST, "bitsandbytes", HERE, False),
        # the torch of a container is no release, and its files are for nothing else
        (candidate("nv26.02"), "torch-scatter", CONTAINER, True),
        (candidate("nv26.1"), "torch-scatter", CONTAINER, False),
        (candidate("2.11.0"), "torch-scatter", CONTAINER, False),
        (candidate("nv26.2"), "torch-scatter", HERE, False),
        # nothing to be far from
        (candidate("2.12.0"), "torch-scatter", NO_TORCH, True),
    ],
)
def test_what_is_near(found, project, here, near):
    search = Search(load_project(project), here, tags_fit(here))
    assert is_near(found, search) is near


@pytest.mark.parametrize(
    ("found", "here", "built_for"),
    [
        (candidate(), HERE, BuiltFor("2.13.0", "cu126")),
        (candidate(None, "cpu"), HERE, BuiltFor("2.13.0", "cpu")),
        # what its name says stays
        (candidate("2.12.0"), HERE, BuiltFor("2.12.0", None)),
        (SDIST, HERE, BuiltFor(None, None)),
        (candidate(), NO_TORCH, BuiltFor(None, None)),
    ],
)
def test_a_file_that_the_person_points_to_is_taken_to_be_for_their_torch(found, here, built_for):
    assert assume_torch(found, here).built_for == built_for


def test_each_file_is_there_once_and_one_that_is_wanted_ends_the_search():
    search = Search(load_project("torch-scatter"), HERE, tags_fit(HERE))
    search.add([candidate(python="cp38"), SDIST, candidate(python="cp38")])
    assert (len(search.candidates), search.satisfied) == (1, False)
    search.add([candidate(name="y")])
    assert (len(search.candidates), search.satisfied) == (2, True)


def test_the_hosts_that_could_not_be_asked():
    search = Search(load_project("torch-scatter"), HERE, tags_fit(HERE))
    for kind in HostAnswerKind:
        host = HostEntry(kind.value, Layout.FIND_LINKS, "pyg-tagged")
        search.add_answer(host, "https://h/", kind, "")
    assert sorted(search.unanswered()) == ["host-down", "not-asked"]


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        (HERE.torch, "24 files that may be for torch 2.13"),
        (CONTAINER.torch, "24 files that may be for torch 2.11"),
        (
            dataclasses.replace(HERE.torch, runtime_version="vendor build"),
            "24 files that may be for this torch",
        ),
        (None, "24 files"),
    ],
)
def test_near_files_are_not_said_to_fit(torch, said):
    assert describe_near_files(24, torch) == said


@pytest.mark.parametrize(
    ("found", "links", "said"),
    [
        ([], [], "the page lists 0 files, none of this project"),
        ([candidate()], [Link("u", "f")], "the page lists 1 files, none of this project"),
        (
            [candidate("2.12.0"), candidate("2.11.0"), candidate("2.12.0")],
            [],
            "it has files for torch 2.11.0, 2.12.0",
        ),
    ],
)
def test_what_a_page_has_instead(found, links, said):
    assert describe_other_files(found, links) == said

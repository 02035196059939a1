"""What the bundled facts settle, and what they leave open: the definition as a table."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.specifiers import SpecifierSet

from safe_install.index.bundled import (
    bundled_files,
    bundled_wheels,
    gap_in_facts,
    nearest_torch,
    versions_only_on_page,
)
from safe_install.index.catalog import load_project, torch_table
from safe_install.index.facts import Build
from tests.factories import environment_for

LINUX, MAC, WINDOWS = "linux_x86_64", "macosx_14_0_arm64", "win_amd64"
PYG, ASTRAL, OPENMMLAB = "data.pyg.org", "wheels.astral.sh", "download.openmmlab.com"


def environment(torch, platform=LINUX, python="3.11"):
    return environment_for(torch=torch, python_version=python, platform=platform)


def host_of(project, host):
    return next(entry for entry in load_project(project).hosts if entry.host == host)


@pytest.mark.parametrize(
    ("project", "host", "where", "specifier", "gap"),
    [
        # The rows are all that it has.
        ("torch-scatter", PYG, environment("1.8.1+cu111"), "", ""),
        ("torch-scatter", PYG, environment("2.10.0+cu128"), "", ""),
        ("torch-scatter", PYG, environment("1.8.1+cu111"), "==2.0.8", ""),
        ("torch-scatter", PYG, environment("1.8.1+cu111"), "<3", ""),
        ("torch-scatter", ASTRAL, environment("1.8.1+cu111"), "", ""),
        # A torch that is newer than what is complete.
        (
            "torch-scatter",
            PYG,
            environment("2.11.0+cu128"),
            "",
            "its files for torch 2.11.0 are known in part only",
        ),
        (
            "torch-scatter",
            PYG,
            environment("9.9.0+cu999"),
            "",
            "its files for torch 9.9.0 are known in part only",
        ),
        # A version that is newer than all rows.
        (
            "torch-scatter",
            PYG,
            environment("1.8.1+cu111"),
            "==9.9",
            "versions after 2.1.2 are not known here",
        ),
        (
            "torch-scatter",
            PYG,
            environment("1.8.1+cu111"),
            ">=9.9",
            "versions after 2.1.2 are not known here",
        ),
        # A file name that only the page has: no template, or a tag that was not seen.
        (
            "torch-scatter",
            ASTRAL,
            environment("2.9.1+cu128"),
            "",
            "it has 2.1.2 for this torch, its address is only on the live page",
        ),
        (
            "torch-scatter",
            PYG,
            environment("2.4.0", MAC, "3.12"),
            "",
            "it has 2.1.2 for this torch, its address is only on the live page",
        ),
        ("torch-scatter", PYG, environment("2.4.0", MAC, "3.10"), "", ""),  # this one was seen
        ("torch-scatter", PYG, environment("2.4.0", MAC, "3.12"), "==2.0.9", ""),
        ("torch-scatter", PYG, environment("2.4.0", MAC, "3.7"), "", ""),
        # Rows that are what was seen.
        (
            "mmcv",
            OPENMMLAB,
            environment("2.1.0+cu121"),
            "",
            "its files for torch 2.1.0 are known in part only",
        ),
        (
            "torchvision",
            "download.pytorch.org",
            environment("2.4.0", MAC),
            "",
            "its files for torch 2.4.0 are known in part only",
        ),
        (
            "torch-scatter",
            PYG,
            environment(None),
            "",
            "its files are known in part only",
        ),
        # The package index.
        (
            "torchvision",
            "pypi.org",
            environment("2.4.0"),
            "",
            "it may have files that are not known here",
        ),
    ],
)
def test_gap(project, host, where, specifier, gap):
    found = gap_in_facts(
        load_project(project), where, host_of(project, host), specifier=SpecifierSet(specifier)
    )
    assert found == gap


@pytest.mark.parametrize(
    ("where", "versions"),
    [
        (environment("2.9.1+cu128"), ("2.1.2",)),
        (environment("2.9.1+cu128", python="3.8"), ()),
        (environment("2.9.1+cu118"), ()),
        (environment("2.9.1+cpu", WINDOWS), ()),
        (environment("2.4.0+cu121", "linux_aarch64"), ()),
    ],
)
def test_known_elsewhere(where, versions):
    assert (
        versions_only_on_page(
            load_project("torch-scatter"), where, host_of("torch-scatter", ASTRAL)
        )
        == versions
    )


@pytest.mark.parametrize(
    ("torch", "containers"),
    [
        ("2.11.0a0+a6c236b9fd.nv26.02.46836102", {"nv26.02"}),
        ("2.7.0a0+79aa17489c.nv25.4", {"nv25.04"}),
        ("2.7.0+cu128", set()),
        ("2.7.0a0+79aa17489c.nv20.01", set()),
    ],
)
def test_wheels_for_a_container_are_offered_for_that_container(torch, containers):
    project = load_project("causal-conv1d")
    hosts = [host.host for host in project.hosts]
    found = bundled_wheels(project, environment(torch, python="3.12"), hosts=hosts)
    torches = {candidate.built_for.torch for candidate in found}
    assert {torch for torch in torches if torch.startswith("nv")} == containers


def test_the_nearest_torch():
    rows = [
        Build("host", torch, "1.0", ("cpu",), LINUX, ("3.11",))
        for torch in ("2.1.0", "2.4.0", "2.9.0")
    ]
    assert [nearest_torch(rows, torch) for torch in ("1.0.0", "2.4.1", "3.0.0", "junk")] == [
        "2.1.0",
        "2.4.0",
        "2.9.0",
        "2.1.0",
    ]


def test_an_address_that_names_no_wheel_of_the_project_gives_none():
    project = load_project("torchcodec")
    first = project.wheels[0]
    strange = dataclasses.replace(
        first, url="https://files.pythonhosted.org/packages/aa/torchcodec-latest.whl"
    )
    found = list(
        bundled_files(dataclasses.replace(project, wheels=(strange, first)), torch_table())
    )
    assert [candidate.link.url for candidate in found] == [first.url]

"""Whose word counts about the hash of a file."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.version import Version

from safe_install.index.bundled import bundled_files, bundled_sdists
from safe_install.index.candidates import make_candidates, untagged_accelerator, with_known_hash
from safe_install.index.catalog import known_projects, load_project, torch_table
from safe_install.index.facts import HostEntry, Layout
from safe_install.models import Link

PYG = "https://data.pyg.org/whl/torch-1.8.0%2Bcu111/torch_scatter-2.0.8-cp38-cp38-linux_x86_64.whl"
SDIST = "https://files.pythonhosted.org/packages/aa/torch_scatter-2.1.2.tar.gz"
KNOWN, OTHER = "1" * 64, "2" * 64
HOST = HostEntry("data.pyg.org", Layout.FIND_LINKS, "pyg-tagged")


@pytest.fixture
def project():
    return dataclasses.replace(load_project("torch-scatter"), sha256={PYG: KNOWN, SDIST: KNOWN})


@pytest.mark.parametrize("url", [PYG, PYG.replace("%2B", "+"), SDIST])
@pytest.mark.parametrize(("stated", "conflicting"), [(None, None), (KNOWN, None), (OTHER, OTHER)])
def test_what_the_index_knows_comes_first(project, url, stated, conflicting):
    (candidate,) = make_candidates(
        project, HOST, [Link(url, url.rsplit("/", 1)[-1], stated)], torch_table()
    )
    assert (
        candidate.link.sha256,
        candidate.link.hash_from_index,
        candidate.link.conflicting_hash,
    ) == (
        KNOWN,
        True,
        conflicting,
    )


@pytest.mark.parametrize("stated", [None, OTHER])
def test_a_file_that_the_index_does_not_know_is_as_its_page_says(project, stated):
    """The same name elsewhere is another file."""
    link = Link(PYG.replace("cu111", "cu102"), PYG.rsplit("/", 1)[-1], stated)
    assert with_known_hash(project, link) == link


def test_what_the_index_offers_itself_is_vouched_for():
    for name in sorted(known_projects()):
        project = load_project(name)
        for candidate in (*bundled_files(project, torch_table()), *bundled_sdists(project)):
            assert candidate.link.hash_from_index and candidate.link.sha256, candidate.link.url


@pytest.mark.parametrize(
    "filename",
    [
        "torch_scatter-2.0.8.whl",
        "torch_scatter-two-cp38-cp38-linux_x86_64.whl",
        "torch_scatter-2.1.2.tar.xz",
        "torch-scatter-extra-1.0.tar.gz",
        "torch_scatter.tar.gz",
        "torch_sparse-0.6.18-cp38-cp38-linux_x86_64.whl",
    ],
)
def test_what_is_no_file_of_the_project_is_no_candidate(project, filename):
    link = Link(f"https://data.pyg.org/{filename}", filename)
    assert list(make_candidates(project, HOST, [link], torch_table())) == []


@pytest.mark.parametrize(
    ("version", "platform", "accelerator"),
    [
        ("0.20.1", "macosx_11_0_arm64", "cpu"),
        ("0.20.1", "win_amd64", "cpu"),
        ("0.20.1", "manylinux_2_28_s390x", None),
        # that of the torch there which it belongs to: their wheels have 2 MB and 8 MB
        ("0.25.0", "manylinux_2_28_aarch64", "cpu"),
        ("0.26.0", "manylinux_2_28_aarch64", "cu130"),
        ("0.26.0", "manylinux_2_28_x86_64", "cu130"),
        ("0.29.2", "manylinux_2_28_aarch64", "cu13"),  # it serves every later torch
    ],
)
def test_an_untagged_wheel_for_another_system(version, platform, accelerator):
    project = load_project("torchvision")
    assert untagged_accelerator(project, Version(version), platform, torch_table()) == accelerator

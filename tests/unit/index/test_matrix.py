from __future__ import annotations

import dataclasses

import pytest

from safe_install.index.catalog import known_projects, load_project
from safe_install.index.facts import Build
from safe_install.index.matrix import PINNED, is_for_platform, make_matrix, newest_version


def test_the_newest_version_of_the_founding_cell():
    matrix = make_matrix(load_project("torch-scatter"), platform="linux_x86_64")
    cell = matrix.find("1.8", "cu111")
    assert (cell.version, cell.hosts) == ("2.0.8", ("data.pyg.org",))
    assert set(cell.python) == {"3.6", "3.7", "3.8", "3.9"}
    assert matrix.find("1.8", "cu113") is None
    assert matrix.torches[-1] == "1.4"
    assert matrix.accelerators[:3] == ("cpu", "cu92", "cu100")


def test_a_host_that_comes_first_is_named_first_and_the_newer_version_wins():
    matrix = make_matrix(load_project("torch-scatter"), platform="linux_x86_64")
    assert matrix.find("2.10", "cu128").hosts == ("data.pyg.org", "wheels.astral.sh")


@pytest.mark.parametrize(
    ("platform", "accelerator", "known"),
    [
        ("win_amd64", "cu128", True),
        ("linux_aarch64", "cpu", True),
        ("macosx_14_0_arm64", "cpu", True),
    ],
)
def test_other_machines(platform, accelerator, known):
    matrix = make_matrix(load_project("torch-scatter"), platform=platform)
    assert (matrix.find("2.7", accelerator) is not None) is known
    assert len(matrix.cells) < len(
        make_matrix(load_project("torch-scatter"), platform="linux_x86_64").cells
    )


def test_a_patch_release_has_a_row_of_its_own_where_it_matters():
    matrix = make_matrix(load_project("pytorch3d"), platform="linux_x86_64")
    assert "2.0.1" in matrix.torches
    assert "2.11" in matrix.torches  # of the host that binds to the minor


def test_versions_that_only_a_pin_tells_of():
    matrix = make_matrix(load_project("xformers"), platform="linux_x86_64")
    assert matrix.find("2.9.1", PINNED).version == "0.0.33.post2"


def test_somebody_elses_builds_count_when_they_are_named():
    project = load_project("flash-attn")
    mine = make_matrix(project, platform="linux_x86_64")
    theirs = make_matrix(project, platform="linux_x86_64", third_party=("mjun0812",))
    assert mine.find("2.11", "cu130") is None
    assert theirs.find("2.11", "cu130").version == "2.8.3"
    everybody = dataclasses.replace(
        project, hosts=tuple(dataclasses.replace(host, optional="") for host in project.hosts)
    )
    assert (newest_version(project), newest_version(everybody)) == ("2.8.3.post2", "2.8.4")


@pytest.mark.parametrize("name", sorted(known_projects()))
@pytest.mark.parametrize(
    "platform", ["linux_x86_64", "linux_aarch64", "win_amd64", "macosx_14_0_arm64"]
)
def test_every_project_has_a_table(name, platform):
    project = load_project(name)
    matrix = make_matrix(project, platform=platform)
    assert len({(cell.torch, cell.accelerator) for cell in matrix.cells}) == len(matrix.cells)
    for cell in matrix.cells:
        assert cell.torch in matrix.torches
        assert cell.accelerator in matrix.accelerators
    optional = {host.host for host in project.hosts if host.optional}
    rows = [
        build
        for build in project.builds
        if build.host not in optional and is_for_platform(build, platform)
    ]
    assert any(cell.accelerator != PINNED for cell in matrix.cells) == bool(rows)
    for cell in matrix.cells:
        assert cell.version in project.pins or cell.accelerator != PINNED


@pytest.mark.parametrize(
    ("row", "machine", "answer"),
    [
        ("linux_x86_64", "linux_x86_64", True),
        ("manylinux_2_28_x86_64", "linux_x86_64", True),
        ("manylinux_2_34_x86_64.manylinux_2_35_x86_64", "linux_x86_64", True),
        ("linux_aarch64", "linux_x86_64", False),
        ("win_amd64", "win_amd64", True),
        ("macos", "macosx_14_0_arm64", True),
        ("macos", "linux_x86_64", False),
        ("macosx_10_15_x86_64", "linux_x86_64", False),
        ("macosx_10_15_x86_64", "macosx_14_0_x86_64", True),
        ("macosx_10_15_x86_64", "macosx_14_0_arm64", False),
        ("macosx_10_9_universal2", "macosx_14_0_arm64", True),
        ("linux_x86_64", "macosx_14_0_x86_64", False),
    ],
)
def test_for_which_machine_a_row_is(row, machine, answer):
    build = Build("host", "2.4.0", "1.0", ("cpu",), row, ("3.11",))
    assert is_for_platform(build, machine) is answer


def test_containers_stand_below_the_releases_the_newest_first():
    torches = make_matrix(load_project("causal-conv1d"), platform="linux_x86_64").torches
    containers = [torch for torch in torches if torch.startswith("nv")]
    assert torches[-len(containers) :] == tuple(containers)
    assert containers == sorted(containers, reverse=True)


def test_an_address_without_a_version_is_not_the_newest():
    wheel = load_project("torchcodec").wheels[0]
    strange = dataclasses.replace(
        wheel, url="https://files.pythonhosted.org/packages/aa/torchcodec-latest.whl"
    )
    project = dataclasses.replace(load_project("torchcodec"), wheels=(strange,))
    assert newest_version(project) == newest_version(dataclasses.replace(project, wheels=()))

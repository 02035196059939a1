"""The documents of the wheel index: canonical, consistent with one another, and nothing but
https."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.bundled import make_candidate
from safe_install.index.catalog import (
    cuda_table,
    known_projects,
    load_project,
    read_document,
    torch_table,
)
from safe_install.index.document import build_order, parse_project, render_document
from safe_install.index.facts import canonical_url
from safe_install.index.filename import build_filename, is_grammar, parse_filename
from safe_install.index.location import FIELDS, fields_of_template, read_wheel_url
from safe_install.tags import parse_accelerator
from safe_install.wheel_index import DATE

FOLDER = Path(__file__).parents[2] / "wheel_index"
DOCUMENTS = sorted(path.name for path in FOLDER.glob("*.json") if path.name != "schema.json")
# Names that are nobody's extension: they stand in the index to tell people what they meant.
NOT_EXTENSIONS = {"pytorch", "pytorch-triton", "torchtriton"}
PROJECTS = sorted(known_projects())


def read(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_is_canonical(name):
    assert render_document(json.loads(read(name))) == read(name)


@pytest.mark.parametrize("name", [f"{project}.json" for project in PROJECTS])
def test_follows_the_schema(name):
    schema = json.loads(read("schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(read(name)))


@pytest.mark.parametrize("name", PROJECTS)
def test_rows_stand_in_order_and_once(name):
    builds = load_project(name).builds
    assert list(builds) == sorted(builds, key=build_order)
    cells = [
        (b.host, b.torch, b.version, b.platform, b.filename, accelerator, python)
        for b in builds
        for accelerator in b.accelerators
        for python in b.python
    ]
    assert len(cells) == len(set(cells))


@pytest.mark.parametrize("name", PROJECTS)
def test_every_cell_makes_a_name_that_reads_back(name):
    project = load_project(name)
    hosts = {host.host: host for host in project.hosts}
    for build in project.builds:
        assert build.accelerators, build
        assert build.python, build
        for accelerator in build.accelerators:
            assert str(parse_accelerator(accelerator)) == accelerator
            for abi in build.cxx11_abi or (None,):
                check_cell(project, hosts[build.host], build, accelerator, abi)


def check_cell(project, host, build, accelerator, abi):
    filename = build_filename(
        project.name, build, host, accelerator=accelerator, python=build.python[0], cxx11_abi=abi
    )
    parsed = parse_filename(filename)
    assert parsed is not None
    assert parsed.filename == filename
    assert parsed.project == project.name
    assert parsed.parsed_version.public == build.version
    assert parsed.built_for.accelerator in (accelerator, None)
    assert parsed.built_for.cxx11_abi in (abi, None)
    if host.wheel is None or build.platform == "macos":
        return
    candidate = make_candidate(
        project, host, build, accelerator=accelerator, python=build.python[0], cxx11_abi=abi
    )
    # The address says the same as the row, read back by the host's own templates.
    read = read_wheel_url(candidate.link.url, project)
    assert read.filename == filename
    assert read.built_for.accelerator in (accelerator, None), candidate.link.url
    assert read.built_for.torch is None or minor(read.built_for.torch) == minor(build.torch), (
        candidate.link.url
    )


def minor(torch):
    return torch.split(".")[:2]


@pytest.mark.parametrize("name", PROJECTS)
def test_is_complete(name):
    project = load_project(name)
    assert project.imports or name in NOT_EXTENSIONS
    if project.operation is not None:
        assert "assert" in project.operation
        compile(project.operation, name, "exec")
    assert project.sources
    assert time.strptime(project.checked, "%Y-%m-%d")
    assert project.checked <= DATE
    for requirement in project.requires:
        Requirement(requirement)
    for host in project.hosts:
        assert is_grammar(host.filename), host
        for template in (*host.pages, host.wheel or "", host.tag):
            assert set(fields_of_template(template)) <= set(FIELDS), template
    for build in project.builds:
        assert build.filename is None or is_grammar(build.filename)
    assert is_reachable(project), "nothing says where it could come from"


def is_reachable(project):
    """A host, a source, or another name: a person is never left without a next step."""
    return bool(project.hosts or project.source or project.family or project.package_index.note)


@pytest.mark.parametrize("name", PROJECTS)
def test_names_of_a_family_know_each_other(name):
    project = load_project(name)
    for other in project.family:
        relative = load_project(other)
        assert relative.imports == project.imports
        assert (
            relative.accelerator is not None
            or name not in relative.family
            or relative.package_index.note
        )


@pytest.mark.parametrize("name", PROJECTS)
def test_known_hashes_are_of_addresses_as_they_are_written(name):
    project = load_project(name)
    for url in project.sha256:
        assert canonical_url(url) == url
        assert read_wheel_url(url, project).project == project.name
    for wheel in project.wheels:
        assert re.fullmatch(r"[0-9a-f]{64}", wheel.sha256)
        assert parse_filename(wheel.url.rsplit("/", 1)[-1]).project == project.name


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "torchtext"])
def test_companions_of_torch_and_pins_agree(name):
    project = load_project(name)
    for release in torch_table().releases.values():
        version = release.companions.get(name)
        if version is not None:
            assert SpecifierSet(project.pins[version]).contains(release.version), (
                version,
                release.version,
            )
    for build in project.builds:
        assert torch_table().releases[build.torch].companions[name] == build.version
        assert set(build.accelerators) <= set(torch_table().releases[build.torch].accelerators)


def test_torch_releases_are_in_order():
    versions = [Version(version) for version in torch_table().releases]
    assert versions == sorted(versions)


@pytest.mark.parametrize(
    ("torch", "accelerator", "platform", "abi"),
    [
        ("1.8.1", "cu111", "linux_x86_64", False),
        ("2.5.1", "cu124", "linux_x86_64", False),
        ("2.6.0", "cpu", "linux_x86_64", False),
        ("2.6.0", "cu124", "linux_x86_64", False),
        ("2.6.0", "cu126", "linux_x86_64", True),
        ("2.6.0", "rocm6.2", "linux_x86_64", True),
        ("2.6.0", "cpu", "linux_aarch64", True),
        ("2.7.0", "cu118", "manylinux_2_28_x86_64", True),
        ("2.15.0", "cu132", "linux_x86_64", True),
        ("2.15.0", "cpu", "win_amd64", None),
        ("not a version", "cpu", "linux_x86_64", None),
    ],
)
def test_cxx11_abi_of_public_builds(torch, accelerator, platform, abi):
    assert torch_table().cxx11_abi_of(torch, accelerator, platform=platform) is abi


@pytest.mark.parametrize(
    ("driver", "system", "cuda"),
    [
        ("535.104.05", "linux", "12.2"),
        ("535.54.03", "linux", "12.2"),
        ("530.41.03", "linux", "12.1"),
        ("470.256.02", "linux", "11.4"),
        ("580.65.06", "linux", "13.0"),
        ("600.10", "linux", "13.2"),
        ("580", "linux", "13.0"),
        ("300.0", "linux", None),
        ("537.13", "windows", "12.2"),
        ("junk", "linux", None),
    ],
)
def test_cuda_that_a_driver_serves(driver, system, cuda):
    assert cuda_table().cuda_of_driver(driver, system=system) == cuda


@pytest.mark.parametrize(
    ("accelerator", "system", "floor"),
    [
        ("cu102", "linux", "440.33"),
        ("cu111", "linux", "450.80.02"),
        ("cu128", "linux", "525.60.13"),
        ("cu12", "linux", "525.60.13"),
        ("cu131", "linux", "580.65.06"),
        ("cu130", "windows", None),
        ("cu118", "windows", "452.39"),
        ("cpu", "linux", None),
        ("rocm6.2", "linux", None),
    ],
)
def test_oldest_driver_of_an_accelerator(accelerator, system, floor):
    assert cuda_table().driver_floor(accelerator, system=system) == floor


def test_loading_everything_is_quick():
    started = time.process_time()
    for name in PROJECTS:
        parse_project(read_document(name), name)
    # 45 projects are to fit into 30 ms; ten times that is left for a slow machine.
    assert time.process_time() - started < 0.3 * len(PROJECTS) / 45 + 0.05

"""Addresses that were seen in public files are the truth: each is read, and made again from what
was read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from safe_install.index.bundled import make_candidate
from safe_install.index.catalog import known_projects, load_project
from safe_install.index.facts import canonical_url
from safe_install.index.filename import parse_filename
from safe_install.index.location import read_wheel_url
from safe_install.tags import container_of_name
from tests.scripts import load_script

HERE = Path(__file__).parent
ROWS = [json.loads(line) for line in (HERE / "wheel_urls.jsonl").read_text().splitlines()]
report_hosts = load_script("report_hosts")


def project_of(row):
    return parse_filename(row["url"].rsplit("/", 1)[-1]).project


KNOWN = [row for row in ROWS if project_of(row) in known_projects()]
SAYS_TORCH = re.compile(r"(torch|pt)[-_.]?\d")
SAYS_ACCELERATOR = re.compile(r"(?<![a-z])(cu|cuda|rocm)[-_.]?\d|(?<![a-z])cpu")
PYG = [row["url"] for row in ROWS if "data.pyg.org" in row["url"]]
REASONS = ("not a project of the wheel index", "is no host of the wheel index for it")


@pytest.fixture(scope="module")
def outcomes():
    return [report_hosts.measure(row["url"]) for row in ROWS]


def test_99_of_100_come_out_again_and_each_other_has_a_reason(outcomes):
    missed = [outcome for outcome in outcomes if outcome.kind == "missed"]
    assert len(outcomes) == 1169
    assert len(missed) <= len(outcomes) / 100
    for outcome in missed:
        assert outcome.reason.endswith(REASONS), outcome


def test_the_report_says_what_is_measured(outcomes):
    assert report_hosts.render(outcomes) in report_hosts.REPORT.read_text("utf-8")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["url"][-70:])
def test_the_name_is_kept_to_the_letter(row):
    last = row["url"].rsplit("/", 1)[-1]
    assert parse_filename(last).filename == unquote(last)


def test_only_these_are_no_projects_of_the_index():
    # torch is pip's business
    assert {project_of(row) for row in ROWS} - set(known_projects()) == {"torch", "pymesh2"}
    assert {project_of(row) for row in ROWS if row.get("sha256")} - set(known_projects()) == {
        "torch"
    }


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row["url"][-70:])
def test_says_all_that_its_name_says(row):
    """What is read is in the address, and what is not read is not there."""
    url = row["url"]
    name = parse_filename(url.rsplit("/", 1)[-1])
    built = read_wheel_url(report_hosts.unmirrored(url), load_project(name.project)).built_for
    plain = unquote(url)
    digits = "".join((built.torch or "").split(".")[:2])
    container = container_of_name(built.torch or "")
    assert container is None or f"torch{container}cxx11" in plain
    if built.torch is None:
        assert not SAYS_TORCH.search(plain)
    else:
        assert container or built.torch in plain or digits in plain or built.torch[:-2] in plain
    if built.accelerator is None:
        assert not SAYS_ACCELERATOR.search(plain)
    elif built.accelerator != "cpu":
        cuda = built.accelerator.replace("cu", "")
        assert cuda in plain or f"{cuda[:-1]}.{cuda[-1:]}" in plain
    assert ("cxx11abi" in plain) == (built.cxx11_abi is not None)


@pytest.mark.parametrize("url", [url for url in PYG if "macosx" not in url])
def test_is_in_the_bundled_facts(url):
    name = parse_filename(url.rsplit("/", 1)[-1])
    project = load_project(name.project)
    built = read_wheel_url(url, project).built_for
    hosts = {host.host: host for host in project.hosts}
    python = f"3.{name.python[3:]}"
    made = {
        make_candidate(
            project, hosts[build.host], build, accelerator=built.accelerator, python=python
        ).link.url
        for build in project.builds
        if build.host == "data.pyg.org"
        and build.torch == built.torch
        and built.accelerator in build.accelerators
        and python in build.python
    }
    assert url in made


@pytest.mark.parametrize(
    "row", [row for row in KNOWN if row.get("sha256")], ids=lambda row: row["url"][-60:]
)
def test_known_hashes_are_kept(row):
    assert (
        load_project(project_of(row)).sha256[canonical_url(report_hosts.unmirrored(row["url"]))]
        == row["sha256"]
    )

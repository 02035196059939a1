"""URLs that were seen in public files are the truth: each is read, and written again as it was."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from safe_install.index.bundled import _candidate
from safe_install.index.catalog import load_project
from safe_install.index.filename import (
    expand_template,
    grammar_of,
    parse_location,
    parse_wheel_url,
    render_filename,
)

ROWS = [json.loads(line) for line in (Path(__file__).parent / "wheel_urls.jsonl").read_text().splitlines()]
URLS = [row["url"] for row in ROWS]
PYG = [url for url in URLS if "data.pyg.org" in url]


def written(url: str):
    """All URLs that the hosts of the project make from what was read."""
    name = parse_wheel_url(url)
    project = load_project(name.project)
    location = parse_location(url)
    platform = name.platform
    for host in project.hosts:
        if host.wheel is None:
            continue
        for grammar in {grammar_of(name), host.filename}:
            filename = render_filename(
                project.name,
                name.parsed_version.public,
                grammar=grammar,
                torch=name.built_for.torch or "",
                accelerator=name.built_for.accelerator if platform != "macosx" else "",
                tags=(name.python, name.abi, platform),
            )
            values = {"accelerator": location.accelerator, "project": project.name, "file": filename}
            yield expand_template(host.wheel, base=location.torch or "", **values)


@pytest.mark.parametrize("url", URLS)
def test_reads_and_writes(url):
    name = parse_wheel_url(url)
    assert name is not None
    assert name.filename == unquote(url.rsplit("/", 1)[1])
    assert name.built_for.accelerator is not None
    if "data.pyg.org" in url:
        assert name.built_for.torch in url
    # macOS names of pyg-lib say pt24 without cpu: the page lists them, no grammar writes them.
    if "pyg_lib" in url and "macosx" in url:
        return
    assert url in set(written(url))


@pytest.mark.parametrize("url", [url for url in PYG if "macosx" not in url])
def test_is_in_the_bundled_facts(url):
    name = parse_wheel_url(url)
    project = load_project(name.project)
    hosts = {host.host: host for host in project.hosts}
    python = f"3.{name.python[3:]}"
    made = {
        _candidate(project, hosts[build.host], build, name.built_for.accelerator, python).link.url
        for build in project.builds
        if build.host == "data.pyg.org"
        and build.torch == name.built_for.torch
        and name.built_for.accelerator in build.accelerators
        and python in build.python
    }
    assert url in made


@pytest.mark.parametrize("row", [row for row in ROWS if row.get("sha256")], ids=lambda row: row["url"][-60:])
def test_known_hashes_are_kept(row):
    project = load_project(parse_wheel_url(row["url"]).project)
    assert project.sha256[row["url"]] == row["sha256"]

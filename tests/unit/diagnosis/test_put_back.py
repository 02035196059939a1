"""What brings a distribution back as it was recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from safe_install.diagnosis.facts import Facts
from safe_install.diagnosis.put_back import recorded_requirement
from tests.factories import make_distribution, make_environment

ALPHA = make_distribution("alpha", "1.0")
WHEEL = "https://example.org/alpha-1.0-py3-none-any.whl"
NAME = canonicalize_name("alpha")


def facts(**fields):
    return Facts(Path("/env/bin/python"), make_environment(ALPHA), **fields)


@pytest.mark.parametrize(
    ("direct_url", "requirement"),
    [
        (None, "alpha==1.0"),
        ({}, "alpha==1.0"),
        ({"url": WHEEL, "archive_info": {}}, f"alpha @ {WHEEL}"),
        ({"url": WHEEL, "archive_info": None}, f"alpha @ {WHEEL}"),
        (
            {"url": WHEEL, "archive_info": {"hashes": {"sha256": "ab12"}}},
            f"alpha @ {WHEEL}#sha256=ab12",
        ),
        ({"url": WHEEL, "archive_info": {"hashes": "ab12"}}, f"alpha @ {WHEEL}"),
        (
            {"url": f"{WHEEL}#egg=a", "archive_info": {"hashes": {"sha256": "ab12"}}},
            f"alpha @ {WHEEL}#egg=a",
        ),
        (
            {"url": "https://example.org/alpha", "vcs_info": {"vcs": "git", "commit_id": "f00"}},
            "alpha @ git+https://example.org/alpha@f00",
        ),
        ({"url": "file:///src/alpha", "dir_info": {}}, "alpha @ file:///src/alpha"),
    ],
)
def test_it_comes_from_where_it_was_installed_from(direct_url, requirement):
    distribution = dataclasses.replace(ALPHA, direct_url=direct_url)
    assert recorded_requirement(distribution, facts()) == requirement


def test_what_is_gone_or_editable_comes_by_its_version():
    here = dataclasses.replace(ALPHA, direct_url={"url": "file:///gone.whl"})
    assert recorded_requirement(here, facts(lost_archives=frozenset([NAME]))) == "alpha==1.0"
    hosted = dataclasses.replace(ALPHA, direct_url={"url": "https://host.example/alpha.whl"})
    assert recorded_requirement(hosted, facts(hosted=frozenset([NAME]))) == "alpha==1.0"
    editable = dataclasses.replace(here, editable=True)
    assert recorded_requirement(editable, facts()) == "alpha==1.0"

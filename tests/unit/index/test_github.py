"""Releases on GitHub as links: only the repository's own files, whatever the answer holds."""

from __future__ import annotations

import json

import pytest

from safe_install.index.github import parse_feed, parse_releases

START = "https://github.com/o/r/releases/download/v1"
WHEEL = {
    "browser_download_url": f"{START}/x-1-py3-none-any.whl",
    "size": 3,
    "digest": "sha256:" + "a" * 64,
}


def releases(*assets, **fields):
    return json.dumps([{"tag_name": "v1", "assets": list(assets), **fields}])


def test_a_release():
    tags, (link,) = parse_releases(releases(WHEEL), "o/r")
    assert tags == ("v1",)
    assert (link.url, link.filename, link.size) == (
        WHEEL["browser_download_url"],
        "x-1-py3-none-any.whl",
        3,
    )
    assert (link.sha256, link.found_in) == ("a" * 64, "https://github.com/o/r/releases")


@pytest.mark.parametrize(
    "asset",
    [
        None,
        {},
        {"browser_download_url": 3},
        {
            "browser_download_url": "https://github.com/other/r/releases/download/v1/x-1-py3-none-any.whl"
        },
        {"browser_download_url": f"{START}/x.exe"},
        {"browser_download_url": f"{START}/..%2Fx-1-py3-none-any.whl"},
    ],
)
def test_other_files_are_passed_over(asset):
    assert len(parse_releases(releases(asset, WHEEL), "o/r")[1]) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", -1),
        ("size", True),
        ("size", "3"),
        ("digest", "md5:00"),
        ("digest", None),
        ("digest", 3),
    ],
)
def test_a_size_or_digest_that_is_none_is_left_out(field, value):
    (link,) = parse_releases(releases({**WHEEL, field: value}), "o/r")[1]
    assert (link.size if field == "size" else link.sha256) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "3",
        "[null]",
        releases(WHEEL, draft=True),
        '[{"assets": 3}]',
        '{"message": "limit"}',
    ],
)
def test_what_is_no_release_gives_nothing(text):
    assert parse_releases(text, "o/r") == ((), ())


def test_a_feed():
    entry = '<link rel="alternate" href="https://github.com/o/r/releases/tag/{}"/>'
    assert parse_feed(entry.format("v1%2Bcu128") + entry.format("v1") + entry.format("v1")) == (
        "v1+cu128",
        "v1",
    )
    assert parse_feed("<feed/>") == ()

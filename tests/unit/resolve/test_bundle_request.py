"""The words of `bundle`."""

from __future__ import annotations

import pytest

from safe_install.errors import UsageError
from safe_install.resolve.bundle_request import parse_bundle
from safe_install.resolve.command_line import parse_command_line


def parse(*words, configuration=None):
    line = parse_command_line(["bundle", *words])
    return parse_bundle(
        line.words, environ={}, configuration=configuration or {}, read=lambda name: "idna\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "FILE.zip", "x"],
        ["-oFILE.zip", "x"],
        ["x", "--output=FILE.zip"],
        ["--output", "other.zip", "x", "-o", "FILE.zip"],
    ],
)
def test_the_file(words):
    request = parse(*words)
    assert request.output == "FILE.zip"
    assert [entry.text for entry in request.install.entries] == ["x"]
    assert not request.is_elsewhere


def test_a_dry_run_needs_none():
    assert parse("--dry-run", "x").output is None
    with pytest.raises(UsageError, match="needs a file"):
        parse("x")


@pytest.mark.parametrize(
    "words",
    [
        ["--torch", "2.8.0+cu126"],
        ["--python-version", "3.11"],
        ["--platform", "manylinux_2_28_x86_64"],
    ],
)
def test_for_elsewhere_nothing_is_built(words):
    """pip has two of these options, too, and another meaning for them."""
    request = parse("-oF", *words, "x")
    assert request.is_elsewhere
    assert request.install.own.no_build
    assert request.install.own.is_elsewhere
    assert request.install.place is None
    assert words[0] not in request.install.dry_run_arguments


def test_pips_own_words_stay():
    request = parse("-oF", "--pre", "-i", "https://index.example/simple", "-r", "r.txt")
    assert request.install.pre
    assert request.install.index_url == "https://index.example/simple"
    assert request.install.dry_run_arguments[:1] == ("--pre",)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-oF", "-e", "."], "editable"),
        (["-oF", "--target", "d", "x"], "--target"),
        (["-oF", "--user", "x"], "--user"),
        (["-oF", "-r", "pylock.toml"], "lock files"),
        (["-oF"], "at least one requirement"),
        (["-oF", "--cxx11-abi", "maybe", "x"], "neither true nor false"),
        (["-o"], "-o needs a value"),
        (["-oF", "x", "--no-rollback"], "bundle has no option --no-rollback"),
    ],
)
def test_what_cannot_be_bundled(words, message):
    with pytest.raises(UsageError, match=message):
        parse(*words)

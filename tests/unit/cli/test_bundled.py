"""The words of an install from a bundle."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from safe_install.cli import bundled
from safe_install.errors import UsageError
from safe_install.resolve.command_line import parse_command_line
from tests.unit.snapshot.test_supply import IDNA, supply


def words_of(tmp_path, *words):
    line = parse_command_line(["--python", "ENV", "install", *words])
    made = bundled.words_for(line.words, supply(tmp_path, IDNA), ["idna", "rich>=1"])
    return made, [word.value for word in made.all if word.argument]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], ["idna", "rich>=1"]),
        (["--dry-run", "--json"], ["idna", "rich>=1"]),
        (["idna"], ["idna"]),
        (["-U", "idna", "rich"], ["idna", "rich"]),
        (["-r", "requirements.txt"], []),
    ],
)
def test_what_is_installed(tmp_path, words, named):
    made, found = words_of(tmp_path, *words)
    assert found == named
    assert made.value("--python") == "ENV"
    keys = {word.key or word.name for word in made.all}
    assert {"--offline", "no-index", "find-links", "only-binary", "constraint"} <= keys


@pytest.mark.parametrize(
    "words", [["-i", "https://h"], ["--extra-index-url=https://h"], ["-f", "."], ["--no-index"]]
)
def test_where_to_look_is_settled(tmp_path, words):
    with pytest.raises(UsageError, match="from its own wheels"):
        words_of(tmp_path, *words)


def test_pips_settings_are_left_out(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PIP_INDEX_URL": "https://h", "PATH": "/bin"})
    bundled.leave_out_settings()
    assert os.environ == {"PIP_CONFIG_FILE": os.devnull, "PATH": "/bin"}


@pytest.mark.parametrize(
    ("argv", "heard"),
    [
        (["check-bundle"], ["check-bundle", "FILE.zip"]),
        (["check-bundle", "--json"], ["check-bundle", "--json", "FILE.zip"]),
        (["check-bundle", "other.zip"], ["check-bundle", "other.zip"]),
        (["verify"], ["verify"]),
    ],
)
def test_commands_of_a_bundle(monkeypatch, argv, heard):
    seen = []

    def main(words, commands):
        seen.append((words, commands))
        return 0

    surface = SimpleNamespace(main=main, COMMANDS={"verify": None, "install": None})
    monkeypatch.setattr(bundled, "surface", surface)
    monkeypatch.setattr(bundled, "leave_out_settings", lambda: None)
    assert bundled.main(argv, bundled.Path("FILE.zip")) == 0
    ((words, commands),) = seen
    assert words == heard
    assert set(commands) == {"verify", "install", "stage"}
    assert commands["install"] is not None
    assert commands["stage"] is commands["install"]

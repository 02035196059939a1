"""A command by a server (tests/lab/warm.py) is that of a new Python."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from tests.lab.warm import Server, run_cold


@pytest.fixture(scope="module")
def server():
    found = Server(os.environ)
    yield found
    found.end()


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["--no-such-option"],
        ["wheels", "no-such-project"],
        ["history", "--python", "ENV"],
        ["status", "--json", "--python", "nowhere"],
        ["--complete", "ins"],
    ],
    ids=" ".join,
)
def test_the_same_words_and_the_same_status(server, tmp_path, words):
    os.symlink(sys.prefix, tmp_path / "ENV")
    (tmp_path / "random.py").write_text("raise SystemExit('of the working folder')")
    variables = {**os.environ, "SAFE_INSTALL_CACHE_DIR": "cache", "PIP_AUTO_COMPLETE": ""}
    found, expected = (run(words, variables, cwd=tmp_path) for run in (server.run, run_cold))
    ends = [(one.returncode, one.stdout, one.stderr) for one in (found, expected)]
    assert ends[0] == ends[1]
    assert ends[0][1] + ends[0][2]


def test_a_signal_that_ends_it_is_told(server, tmp_path):
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nkill -9 $PPID\n")
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    words = ["history", "--python", str(interpreter)]
    assert server.run(words, os.environ).returncode == -9
    assert server.run(["--version"], os.environ).returncode == 0


def test_one_takes_nothing_from_another(server, tmp_path):
    """Its variables and its folder are its own."""
    words = ["history", "--python", "."]
    first = server.run(words, {**os.environ, "SAFE_INSTALL_LANGUAGE": "zh"}, cwd=tmp_path)
    other = server.run(words, {**os.environ, "SAFE_INSTALL_LANGUAGE": "en"}, cwd=tmp_path)
    assert first.stderr != other.stderr
    assert other.stderr.isascii()

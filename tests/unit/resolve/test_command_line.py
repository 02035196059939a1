"""The words of a command line, split once: what each of them is, and what is wrong with them."""

from __future__ import annotations

import pytest

from safe_install.errors import UsageError
from safe_install.resolve.command_line import PASSED_OPTIONS, parse_command_line, split_words


def kinds(words):
    """Each word as `name=value`, `key=value` or an argument."""
    found = []
    for word in words.all:
        name = word.name or word.key or ("" if word.argument else "?")
        found.append(
            f"{name}={word.value}" if name and word.value is not None else name or word.value
        )
    return found


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-qU", "x"], ["quiet", "upgrade", "x"]),
        (["-rfile", "-r", "file"], ["requirement=file", "requirement=file"]),
        (["-Ur", "file"], ["upgrade", "requirement=file"]),
        (["--python", "p", "--python=q"], ["--python=p", "--python=q"]),
        (["--requirement=file", "--find-l", "x"], ["requirement=file", "find-links=x"]),
        (["--no-such", "x"], ["?", "x"]),
        (["-", "--", "-x"], ["-", "?", "-x"]),
        ([], []),
    ],
)
def test_words_are_options_with_values_and_arguments(argv, expected):
    words = split_words(argv)
    assert kinds(words) == expected
    assert words.problem is None
    assert words.checked() == words.all


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["x", "--python"], "--python needs a value", "Write --python VALUE."),
        (["-r"], "-r needs a value", "Write -r VALUE."),
        (["--requirement"], "--requirement needs a value", "Write --requirement VALUE."),
        (["--json=1"], "--json takes no value", "Write --json alone."),
        (["--jsn"], "no such option: --jsn", "Did you mean: --json?"),
        (["--upgrad", "--jsn"], "no such option: --upgrad", "Did you mean: --upgrade?"),
        (["--jsn", "--offlin", "--python"], "no such option: --jsn", "Did you mean: --json?"),
    ],
)
def test_the_first_problem_is_the_error_of_whoever_needs_all_words(argv, message, hint):
    words = split_words(argv)
    with pytest.raises(UsageError) as caught:
        words.checked()
    assert (str(caught.value), caught.value.hint) == (message, hint)


def test_words_behind_a_problem_are_understood():
    words = split_words(["--jsn", "--json", "-qq", "--python", "p", "--json=1"])
    assert words.has("--json")
    assert not words.has("--offline")
    assert words.count("quiet") == 2
    assert words.value("--python") == "p"
    assert words.value("--target-gpu") is None
    assert not split_words(["--json=1"]).has("--json")


@pytest.mark.parametrize(
    ("argv", "command", "expected"),
    [
        # Options before the command count; `-f` has a value for install, and none for pip's show.
        (
            ["-q", "--python", "p", "install", "-f", "x", "y"],
            "install",
            ["quiet", "--python=p", "find-links=x", "y"],
        ),
        (["show", "-f", "--python", "p", "x"], "pip", ["show", "?", "--python=p", "x"]),
        (["download", "-rfile", "-qv", "--log", "l"], "pip", ["download", "?", "quiet", "log=l"]),
        (
            ["-q", "--proxy", "h", "wheels", "--check", "x"],
            "wheels",
            ["quiet", "proxy=h", "--check", "x"],
        ),
        (["explain", "--torch", "2.1", "x"], "explain", ["--torch=2.1", "x"]),
        (["--json", "instal", "x"], "unknown", ["--json", "instal", "x"]),
        (["--help"], "help", ["help"]),
    ],
)
def test_a_line_is_routed_and_split(argv, command, expected):
    line = parse_command_line(argv)
    assert line.route.command == command
    assert kinds(line.words) == expected
    assert line.argv == tuple(argv)


def test_the_words_of_pip_stay_as_they_are():
    argv = ["download", "-rfile", "-qv", "--dest=d", "--", "-x"]
    words = split_words(argv, PASSED_OPTIONS, pips=frozenset())
    assert [text for word in words.all for text in word.text] == argv

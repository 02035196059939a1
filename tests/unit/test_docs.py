"""The documents say what the program does: its options, its commands, its modules; and both READMEs
the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from safe_install.diagnosis.checks import CHECKS
from safe_install.models import HostAnswerKind, Outcome
from safe_install.resolve.command_line import route
from safe_install.resolve.options_table import BY_COMMAND, OPTIONS
from tests.unit.resolve.test_options_table import commands_of

ROOT = Path(__file__).resolve().parents[2]
READMES = ("README.md", "README.zh-CN.md")
REFERENCE = "docs/reference.md"
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def headings(text):
    return re.findall(r"^(#+) ", CODE.sub("", text), re.MULTILINE)


def commands_and_output(text):
    """The code blocks; a comment behind a command is translated."""
    return [
        (kind, re.sub(r"^(\$ .*?) +# .*$", r"\1", block, flags=re.MULTILINE))
        for kind, block in CODE.findall(text)
    ]


def table_rows(text):
    """The first cell of each row of each table."""
    rows = re.findall(r"^\| ([^|]*(?:\\\|[^|]*)?) \|", CODE.sub("", text), re.MULTILINE)
    return [re.findall(r"`([^`]+)`", row) for row in rows]


@pytest.mark.parametrize("command", sorted(BY_COMMAND))
def test_every_command_stands_in_the_reference(command):
    assert f"`safe-install {command}`" in read(REFERENCE)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_stands_in_the_reference(option):
    """With its value, and the commands that have it."""
    metavar = f" {option.metavar}" if option.metavar else ""
    written = re.escape(f"| `{option.name}{metavar}` | ".replace("true|false", "true\\|false"))
    row = re.search(rf"^{written}([^|]*) \|", read(REFERENCE), re.MULTILINE)
    assert row is not None
    named = set(row.group(1).split(", "))
    assert named == {"all"} or named >= set(commands_of(option))
    if named == {"all"}:
        assert set(commands_of(option)) == set(BY_COMMAND)


def test_the_reference_invents_no_option():
    known = {option.name for option in OPTIONS} | {"--help"}
    rows = re.findall(r"^\| `(--[a-z0-9-]+)", read(REFERENCE), re.MULTILINE)
    assert set(rows) == known
    assert len(rows) == len(known)


def test_both_readmes_have_the_same_structure():
    english, chinese = (read(name) for name in READMES)
    assert headings(english) == headings(chinese)
    assert commands_and_output(english) == commands_and_output(chinese)
    assert table_rows(english) == table_rows(chinese)


def test_the_commands_of_the_readme_exist():
    lines = [line for _, block in CODE.findall(read("README.md")) for line in block.splitlines()]
    shown = [line[2:] for line in lines if line.startswith("$ ")]
    scripts = {
        words[0] for words in (line.split() for line in shown) if words[0].startswith("./scripts/")
    }
    assert scripts >= {"./scripts/demo", "./scripts/test", "./scripts/build_zipapp"}
    for script in scripts:
        assert os.access(str(ROOT / script), os.X_OK), script
    ours = [line.split() for line in shown if line.startswith("safe-install ")]
    assert {route(words[1:]).command for words in ours} >= {
        "install",
        "verify",
        "explain",
        "history",
        "undo",
    }
    # Every option that an example uses is one of ours; pip's own are not used there.
    for words in ours:
        command = route(words[1:]).command
        options = (
            [option.name for option in BY_COMMAND[command].options] if command in BY_COMMAND else []
        )
        for word in (
            word
            for word in words[1 : (words.index("|") if "|" in words else None)]
            if word.startswith("--")
        ):
            assert word == "--version" or word in options, (command, word)


def test_links_lead_somewhere():
    documents = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
    for name in (*READMES, "CHANGELOG.md", *documents):
        folder = (ROOT / name).parent
        for target in re.findall(r"\]\(([^)#:]+)\)", read(name)):
            assert (folder / target).exists(), (name, target)


def test_the_readme_never_tells_to_install_the_other_project():
    for name in READMES:
        assert not re.search(r"(pip|pipx|uv tool) install (-\S+ )*safe-install\b", read(name))


def test_every_module_stands_in_the_architecture():
    (listing,) = [
        block
        for _, block in CODE.findall(read("docs/architecture.md"))
        if "src/safe_install/" in block
    ]
    source = ROOT / "src" / "safe_install"
    folder, told = "", set()
    for line in listing.partition("src/safe_install/\n")[2].partition("\nscripts/")[0].splitlines():
        head = re.match(r"^  ([\w/]+)/ ", line)
        if head:
            folder = f"{head.group(1)}/"
        elif not line.startswith("    "):
            folder = ""
        told |= {f"{folder}{name}" for name in re.findall(r"(?<![/\w])(\w+\.py)\b", line)}
    real = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert told == {
        path for path in real if path == "__init__.py" or not path.endswith("__init__.py")
    }


def test_the_changelog_names_the_outcomes_and_answers_beyond_the_common_ones():
    text = read("CHANGELOG.md")
    for outcome in (
        Outcome.UNINSTALLED,
        Outcome.UNDONE,
        Outcome.RECOVERED,
        Outcome.LISTED,
        Outcome.EXPLAINED,
    ):
        assert f"`{outcome.value}`" in text
    for kind in HostAnswerKind:
        assert f"`{kind.value}`" in text


def test_every_check_of_doctor_has_a_section_in_its_order():
    sections = re.findall(r"^### ([a-z-]+)$", read("docs/doctor.md"), re.MULTILINE)
    assert sections == [check.name for check in CHECKS]


def test_the_numbers_of_pips_own_tests_add_up():
    text = (ROOT / "docs" / "drop-in.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| test_[^|]* \| (\d+) \| (\d+) \| (\d+) \|$", text, re.M)
    passed, differ, fail_with_pip = (sum(map(int, column)) for column in zip(*rows))
    told = re.search(
        r"Of the other (\d+)\npip passes (\d+) .*safe-install \*\*(\d+), which is ([\d.]+) %", text
    )
    other, by_pip, by_us, share = told.groups()
    assert passed == int(by_us)
    assert passed + differ == int(by_pip)
    assert passed + differ + fail_with_pip == int(other)
    assert f"{100 * passed / (passed + differ):.1f}" == share

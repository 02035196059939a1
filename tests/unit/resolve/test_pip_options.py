"""The table of pip's options against the help of every pip on this machine."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.resolve.pip_options import (
    BY_NAME,
    COMMAND_OPTIONS,
    COMMANDS,
    FETCH_GROUPS,
    OPTIONS,
    find_option,
)
from tests.choice import long_unless

OTHERS = Path("~/.pyenv/versions").expanduser().glob("3.[!6]*/bin/python")
PYTHONS = long_unless(sys.executable.__eq__, [sys.executable, *sorted(map(str, OTHERS))])
# "  -r, --requirement <file>    Install from ..." or "  --no-deps   Don't ..."; what is wrapped is
# indented further.
LINE = re.compile(r"^  ((?:-\w, )?--[\w-]+(?:, --[\w-]+)*)(?: (<[^>]+>))?(?:  |$)")


# pip's own entry, once for each command: one start of pip is most of the time that a help takes.
PRINT_HELPS = """
import contextlib, io, json, sys
from pip._internal.cli.main import main
found = {}
for command in sys.argv[1].split(","):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            status = main([*command.split(), "--help"])
        except SystemExit as end:
            status = end.code
    found[command] = "" if status else text.getvalue()
print(json.dumps(found))
"""


@functools.lru_cache(maxsize=None)
def pip_helps(python):
    """The help of each command by its name; nothing where that Python has no pip."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))
    }
    variables.update(COLUMNS="200", NO_COLOR="1", PIP_CONFIG_FILE=os.devnull)
    commands = ["", "install", "uninstall", "wheel"]
    if python == sys.executable:
        commands += sorted(COMMAND_OPTIONS.keys() - commands)
    line = [python, "-c", PRINT_HELPS, ",".join(commands)]
    answer = subprocess.run(line, capture_output=True, encoding="utf-8", env=variables, check=False)
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def pip_help(python, command=""):
    """What `pip [command] --help` prints, or nothing where that Python has no pip, or that pip no
    such command."""
    return pip_helps(python).get(command, "")


def read_options(python, command):
    """Names and arity of every option in a command's help."""
    text = pip_help(python, command)
    if not text:
        pytest.skip(f"{python} has no pip")
    found = [LINE.match(line) for line in text.splitlines()]
    printed = [(match.group(1).split(", "), match.group(2) is not None) for match in found if match]
    assert len(printed) >= 20, "the help could not be read"
    return printed


@pytest.mark.real_process
@pytest.mark.parametrize("python", PYTHONS)
def test_every_option_that_a_real_pip_prints_is_known(python):
    for command in ("install", "uninstall"):
        for names, takes_value in read_options(python, command):
            for name in names:
                option = BY_NAME.get(name)
                assert option is not None, f"pip {command}: {name} is unknown"
                assert option.takes_value == takes_value, f"pip {command}: {name}"
                assert option is BY_NAME[names[-1]], f"pip {command}: {names}"


@pytest.mark.real_process
@pytest.mark.parametrize("python", PYTHONS)
def test_every_command_that_a_real_pip_prints_is_known(python):
    text = pip_help(python)
    if not text:
        pytest.skip(f"{python} has no pip")
    listed = text.split("Commands:")[1].split("General Options:")[0]
    printed = set(re.findall(r"^  ([a-z]+) ", listed, re.M))
    assert {"install", "list", "freeze"} <= printed
    assert printed <= COMMANDS


@pytest.mark.real_process
@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_fetching_run_is_handed_is_known_to_pip_wheel(python):
    install, wheel = (
        {name for names, _ in read_options(python, command) for name in names}
        for command in ("install", "wheel")
    )
    handed = {name for name in install if BY_NAME[name].group in FETCH_GROUPS}
    assert {"--index-url", "--no-build-isolation", "--pre", "--quiet"} <= handed
    assert handed - wheel == set()


def test_names_are_unique():
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names)) == len(BY_NAME)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("-r", "requirement"),
        ("--requirement", "requirement"),
        ("--no-dep", "no-deps"),
        ("--no-depe", "no-deps"),
        ("--upg", None),  # --upgrade, --upgrade-strategy
        ("--upgrade", "upgrade"),
        ("--upgrade-", "upgrade-strategy"),
        ("--no-bin", "no-binary"),
        ("--index", "index-url"),
        ("--pypi", "index-url"),
        ("--local-log", "log"),
        ("--no-", None),
        ("--", None),
        ("-", None),
        ("-Z", None),
        ("--nonsense", None),
    ],
)
def test_find_option(name, key):
    option = find_option(name)
    assert (option and option.key) == key


# Options that newer pips no longer have.
REMOVED = frozenset(
    [
        "--use-pep517",
        "--global-option",
        "--build-option",
        "--no-python-version-warning",
        "--install-option",
    ]
)


@pytest.mark.real_process
def test_the_options_of_the_other_commands_are_those_that_pip_prints():
    """Of the pip here; an older one lacks some of them, and has none but removed ones that the
    table has not."""
    for command, text in COMMAND_OPTIONS.items():
        printed, _, general = pip_help(sys.executable, command).partition("General Options:")
        if not printed:
            continue  # a command that this pip does not have
        for line in printed.splitlines():
            match = LINE.match(line)
            if match:
                first = next(name for name in match.group(1).split(", ") if name.startswith("--"))
                assert first in text.split() or first in general or first in REMOVED, (
                    f"pip {command}: {first}"
                )

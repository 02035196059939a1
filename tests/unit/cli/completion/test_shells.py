"""Which shell is meant, what starts the program there, and where the script has to lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from safe_install.cli.completion import shells
from safe_install.cli.completion.shells import (
    Place,
    choose_shell,
    find_place,
    find_program,
    install_script,
    parent_name,
    render_script,
)
from safe_install.errors import UsageError


@pytest.mark.parametrize(
    ("named", "parent", "login", "shell"),
    [
        ("fish", "bash", "/bin/zsh", "fish"),
        (None, "zsh", "/bin/bash", "zsh"),
        (None, "make", "/usr/bin/fish", "fish"),
        (None, None, "/bin/bash", "bash"),
    ],
)
def test_the_shell_is_the_one_that_was_named_or_started_us(named, parent, login, shell):
    assert choose_shell(named, parent, {"SHELL": login}) == shell


@pytest.mark.parametrize(
    ("named", "login", "message", "hint"),
    [
        ("tcsh", "/bin/bash", "completion for tcsh is not known", "Name one of bash, zsh, fish."),
        (None, "/bin/tcsh", "the shell is not known", "--install-completion bash"),
        (None, "", "the shell is not known", "--install-completion bash"),
    ],
)
def test_another_shell_is_an_error_that_names_those_that_are_known(named, login, message, hint):
    with pytest.raises(UsageError) as raised:
        choose_shell(named, "make", {"SHELL": login})
    assert raised.value.message == message
    assert hint in raised.value.hint


def test_the_process_that_started_us(monkeypatch):
    monkeypatch.setattr(os, "getppid", os.getpid)
    assert parent_name() == Path("/proc/self/comm").read_text().strip()
    monkeypatch.setattr(os, "getppid", lambda: 2**31 - 1)
    assert parent_name() is None


def test_a_program_on_the_path_goes_by_its_name(tmp_path):
    program = tmp_path / "bin" / "safe-install"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    on_path = {"PATH": str(program.parent)}
    assert find_program("/elsewhere/safe-install", on_path) == ("safe-install", ("safe-install",))
    elsewhere = find_program("/elsewhere/safe-install", {"PATH": str(tmp_path)})
    assert elsewhere == ("safe-install", ("/elsewhere/safe-install",))
    as_module = find_program("/x/safe_install/__main__.py", on_path)
    assert as_module == ("safe-install", (sys.executable, "-m", "safe_install"))


HOME = Path("/home/me")


@pytest.mark.parametrize(
    ("shell", "variables", "script", "start_file"),
    [
        ("bash", {}, ".local/share/torch-safe-install/si.bash", ".bashrc"),
        ("zsh", {}, ".local/share/torch-safe-install/si.zsh", ".zshrc"),
        ("fish", {}, ".config/fish/completions/si.fish", None),
        ("zsh", {"ZDOTDIR": "/home/me/z"}, ".local/share/torch-safe-install/si.zsh", "z/.zshrc"),
        ("bash", {"XDG_DATA_HOME": "/home/me/d"}, "d/torch-safe-install/si.bash", ".bashrc"),
        ("fish", {"XDG_CONFIG_HOME": "/home/me/c"}, "c/fish/completions/si.fish", None),
    ],
)
def test_where_a_shell_finds_its_script(shell, variables, script, start_file):
    place = find_place(shell, "si", {"HOME": str(HOME), **variables})
    assert place == Place(HOME / script, HOME / start_file if start_file else None)


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_words_of_the_program_are_quoted(shell):
    script = render_script(shell, "si", ("/a folder/python", "-m", "safe_install"))
    before = "" if shell == "fish" else "command "
    assert f"{before}'/a folder/python' -m safe_install --complete" in script


@pytest.mark.parametrize("content", [None, b"", b"alias ll='ls -l'", b"alias ll='ls -l'\n"])
def test_the_start_file_gets_one_line_at_its_end(content, tmp_path):
    """However often, and whatever ended the file before."""
    start = tmp_path / ".bashrc"
    if content is not None:
        start.write_bytes(content)
    place = Place(tmp_path / "share" / "si.bash", start)
    for _ in range(2):
        told = install_script("# script\n", place, "si")
    *before, last = start.read_bytes().splitlines()
    assert before == (content or b"").splitlines()
    assert last.endswith(b"# completion of si")
    assert place.script.read_text() == "# script\n"
    assert told[0] == f"Written: {place.script}"
    assert told[2].startswith(f"Undo with: rm {place.script}; sed -i ")


def test_fish_needs_no_start_file(tmp_path):
    place = Place(tmp_path / "si.fish", None)
    told = install_script("# script\n", place, "si")
    assert told == [
        f"Written: {place.script}",
        f"Undo with: rm {place.script}",
        "It works in the next shell.",
    ]

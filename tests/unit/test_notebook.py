"""The magic of notebooks: the command that is run, and what the cell shows."""

from __future__ import annotations

import sys

import pytest

import safe_install
from safe_install import notebook


class Shell:
    """As much of IPython's shell as an extension uses."""

    def __init__(self):
        self.magics = {}

    def register_magic_function(self, function, magic_kind, magic_name):
        self.magics[magic_kind, magic_name] = function


@pytest.fixture
def magic():
    shell = Shell()
    safe_install.load_ipython_extension(shell)
    return shell.magics["line", "safe_install"]


def test_the_environment_is_that_of_the_kernel():
    command = notebook.command_of("install 'six>=1'")
    assert command[0] == sys.executable
    assert command[3:] == ["--python", sys.executable, "install", "six>=1"]


def test_another_environment_may_be_named():
    assert notebook.command_of("--python /env verify")[3:] == ["--python", "/env", "verify"]


@pytest.mark.real_process
def test_the_output_comes_into_the_cell(magic, capsys):
    magic("--version")
    assert capsys.readouterr().out.startswith(f"safe-install {safe_install.__version__} ")


@pytest.mark.real_process
def test_a_failure_is_told(magic, capsys):
    magic("fleets")
    out = capsys.readouterr().out
    assert "safe-install ended with exit status 2" in out


def test_what_the_kernel_has_in_memory_is_told(magic, capsys, monkeypatch):
    said = "this process has torch 2.11.0 in memory, 2.13.0 is installed: restart it"
    monkeypatch.setattr(notebook, "run_program", lambda command: 0)
    monkeypatch.setattr(notebook, "check_running", lambda: [said])
    magic("install torch")
    out = capsys.readouterr().out
    assert out == "this kernel has torch 2.11.0 in memory, 2.13.0 is installed: restart it\n"

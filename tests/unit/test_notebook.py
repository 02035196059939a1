"""The magic of notebooks: the command that is run, and what the cell shows."""

from __future__ import annotations

import sys
from types import SimpleNamespace

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


def test_another_environment_may_be_named_in_one_word():
    assert notebook.command_of("verify --python=/env")[3:] == ["verify", "--python=/env"]


def test_a_line_with_one_quotation_mark_is_told(magic, capsys):
    magic("install 'six")
    assert capsys.readouterr().out == "safe-install: No closing quotation: install 'six\n"


# Ends at its second interrupt.
STUBBORN = """
import os, signal, sys, time
pressed = []
def handle(*words):
    pressed.append(words)
    os.write(1, b"interrupt %d\\n" % len(pressed))  # print cannot be interrupted by print
    if len(pressed) == 2:
        sys.exit(7)
signal.signal(signal.SIGINT, handle)
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""


@pytest.mark.real_process
def test_each_interrupt_is_passed_on(monkeypatch):
    """A second one raises no error in the cell while the program is still at work."""
    written = []

    def write(text):
        written.append(text)
        if text in ("ready\n", "interrupt 1\n"):
            raise KeyboardInterrupt  # the kernel's, while it waits for the next line

    monkeypatch.setattr(notebook.sys, "stdout", SimpleNamespace(write=write, flush=lambda: None))
    assert notebook.run_program([sys.executable, "-c", STUBBORN]) == 7
    assert written == ["ready\n", "interrupt 1\n", "interrupt 2\n"]


@pytest.mark.real_process
def test_what_to_type_next_is_for_a_cell(magic, capsys):
    magic("instal six")
    assert "Did you mean: %safe_install install?" in capsys.readouterr().out

"""Lines on a terminal and elsewhere: width, colour, encoding."""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import re
import sys
import termios

import pytest

from safe_install.cli import json_document, progress, table, terminal
from safe_install.cli import main as cli
from safe_install.cli import text as cli_text
from safe_install.cli.translation import speech
from safe_install.models import Finding, InstallResult, Outcome, Severity
from tests.factories import make_environment

URL = "https://download.pytorch.org/whl/cu128/torch-2.8.0%2Bcu128-cp311-cp311-manylinux_2_28_x86_64.whl"
HASH = "sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
UNDO = "撤销命令：safe-install undo 20261124T124125Z-f55012"
TRANSLATION = "safe_install.cli.translation."
PATH = "/home/somebody/projects/a-long-name/.venv/lib/python3.11/site-packages/torch_scatter/_scatter_cpu.so"


class Terminal(io.StringIO):
    """A terminal of some encoding."""

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


def use_terminal(monkeypatch):
    """Both streams are one coloured terminal of 50 columns, from now on: pytest sets its own before
    each test."""
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("PIP_NO_COLOR", raising=False)
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("short", ["short"]),
        ("", [""]),
        ("error: one two three four", ["error: one two", "  three four"]),
        ("  hint: one two three four", ["  hint: one two", "    three four"]),
        (
            "error: the-long-name-of-something is wrong",
            ["error:", "  the-long-name-of-something", "  is wrong"],
        ),
        (
            "Undo with: safe-install undo 20261123T101112Z-3f2a",
            ["Undo with: safe-install undo 20261123T101112Z-3f2a"],
        ),
    ],
)
def test_a_line_is_cut_at_spaces(line, parts):
    assert terminal.wrap(line, 16) == parts


@pytest.mark.parametrize("word", [URL, HASH, PATH, "20261123T101112Z-3f2a"])
@pytest.mark.parametrize("width", [20, 50, 80])
def test_what_people_copy_stays_whole(word, width):
    parts = terminal.wrap(
        f"error: the file that was promised is {word} and something else was found there", width
    )
    assert sum(word in part for part in parts) == 1
    assert all(len(part) <= width or word in part for part in parts)


def test_a_result_fits_the_terminal(monkeypatch):
    screen = use_terminal(monkeypatch)
    finding = Finding(
        "x",
        Severity.WARNING,
        "torch",
        "torch computes nothing at all on this machine today",
        "Wait for it.",
    )
    environment = make_environment(torch="1.8.1+cu111")
    cli_text.show_result(
        InstallResult(
            "undo", Outcome.UNHEALTHY, 1, environment, findings=[finding], message="a " * 40
        )
    )
    lines = screen.getvalue().replace("\x1b[33m", "").replace("\x1b[0m", "").splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 50


def test_no_terminal_gets_whole_lines_without_colour(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    terminal.write_line("error: " + "word " * 30, sys.stdout)
    assert capsys.readouterr().out == "error: " + "word " * 30 + "\n"


@pytest.mark.parametrize(
    ("variables", "words", "coloured"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"TERM": "dumb"}, [], False),
        ({"PIP_NO_COLOR": "1"}, [], False),
        ({"PIP_NO_COLOR": "0"}, [], True),
        ({}, ["--no-color"], False),
    ],
)
def test_colour_is_for_a_terminal_whose_person_wants_it(variables, words, coloured, monkeypatch):
    screen = use_terminal(monkeypatch)
    monkeypatch.setattr(cli, "_catch_signals", lambda: None)
    monkeypatch.setenv("NO_COLOR", "")  # given back after the test, whatever main makes of it
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.main([*words, "rollback"]) == 2
    shown = screen.getvalue()
    assert ("\x1b[" in shown) is coloured
    if coloured:
        assert "\x1b[1;31merror:\x1b[0m rollback" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_table_is_ruled_with_what_the_encoding_has(encoding, monkeypatch):
    use_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", Terminal(encoding))
    lines = table.render_table("a", ["torch", "cpu"], [["2.8", "1.0"]])
    assert terminal.can_write("".join(lines), sys.stdout)
    assert any("\u2500" in line for line in lines) is (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_the_document_is_json_in_every_encoding(encoding, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.prepare_streams({})
    json_document.show_document({"path": "/\u65e5\u672c/\u00e9"})
    assert json.loads(out.buffer.getvalue().decode(encoding)) == {"path": "/\u65e5\u672c/\u00e9"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_character_is_an_error(encoding, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    terminal.prepare_streams({})
    terminal.write_line("/\u65e5\u672c \u2192 \u2026", sys.stdout)
    out.flush()
    assert out.buffer.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_bar_is_drawn_with_what_the_encoding_has(encoding, monkeypatch):
    use_terminal(monkeypatch)
    shown = Terminal(encoding)
    monkeypatch.setattr(sys, "stderr", shown)
    reporter = progress.TextReporter()
    reporter.task_started("build a", total=2, unit="files")
    reporter.task_advanced("build a", 1, "a_long_name_of_a_file_that_is_compiled.cpp")
    reporter.close()
    assert "build a" in shown.getvalue()
    assert terminal.can_write(shown.getvalue(), shown)


# --- Chinese --------------------------------------------------------------------------------------


@pytest.fixture
def speaks_english_again():
    yield
    speech.speak("en")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("错误：没有驱动", ["错误：没有驱动"]),
        # 20 columns, two for each of these characters; none begins with a closing sign
        ("错误：一二三四五六七八九十", ["错误：一二三四五六七", "  八九十"]),
        ("错误：一二三四五六，八九十", ["错误：一二三四五六，", "  八九十"]),
        ("错误：一二三四五六七，八九十", ["错误：一二三四五六", "  七，八九十"]),
        # words, options and paths stay whole
        (
            "提示：请用 --allow-torch-change 允许",
            ["提示：请用", "  --allow-torch-change", "  允许"],
        ),
        ("  提示：一二三四五六 (torch)", ["  提示：一二三四五六", "    (torch)"]),
        (UNDO, [UNDO]),
    ],
)
def test_a_chinese_line_is_cut_by_its_columns(line, parts):
    assert terminal.wrap(line, 20) == parts


@pytest.mark.parametrize(
    ("text", "columns"), [("torch", 5), ("驱动", 4), ("无：a", 5), ("e\u0301", 1), ("", 0)]
)
def test_a_chinese_character_takes_two_columns(text, columns):
    assert terminal.count_columns(text) == columns


@pytest.mark.parametrize(
    ("variables", "encoding", "said"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "utf-8", "错误：没有 torch"),
        ({"LANG": "zh_CN.GB18030"}, "gb18030", "错误：没有 torch"),
        ({"LANG": "zh_CN.UTF-8"}, "ascii", "error: no torch"),
        ({"SAFE_INSTALL_LANGUAGE": "zh"}, "latin-1", "error: no torch"),
        ({"LANG": "en_US.UTF-8"}, "utf-8", "error: no torch"),
    ],
)
def test_the_language_is_one_that_both_streams_have(
    variables, encoding, said, monkeypatch, speaks_english_again
):
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    terminal.prepare_streams(variables)
    assert speech.say("error: no torch") == said


@pytest.mark.parametrize(
    "beginning",
    ["错误", "警告", "提示", "  提示", "说明", "已拒绝", "已回滚", "不健康", "健康"],
)
def test_what_a_chinese_line_begins_with_is_coloured(beginning):
    line = f"{beginning}：没有 torch"
    coloured = terminal.paint(line)
    assert coloured.startswith("\x1b[")
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == line


def test_english_loads_no_catalogue(monkeypatch, speaks_english_again):
    for name in [name for name in sys.modules if name.startswith(TRANSLATION)]:
        monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module(f"{TRANSLATION}speech")
    assert fresh.say("no torch") == "no torch"
    assert sorted(name for name in sys.modules if name.startswith(TRANSLATION)) == [
        f"{TRANSLATION}language",
        f"{TRANSLATION}speech",
    ]


# --- the settings of the terminal that we run on --------------------------------------------------


@pytest.fixture
def device(monkeypatch):
    """A terminal of the test's own in the place of /dev/tty."""
    master, slave = os.openpty()

    def open_device(path, mode, buffering):
        assert path == "/dev/tty"
        return os.fdopen(os.dup(slave), mode, buffering=buffering)

    monkeypatch.setattr(terminal, "open", open_device, raising=False)
    yield slave
    os.close(master)
    os.close(slave)


def echoes(device):
    return bool(termios.tcgetattr(device)[3] & termios.ECHO)


def test_a_question_that_was_broken_off_leaves_a_terminal_that_echoes(device):
    """Who asks for a password switches the echo off."""
    before = terminal.read_settings()
    changed = termios.tcgetattr(device)
    changed[3] &= ~termios.ECHO
    termios.tcsetattr(device, termios.TCSANOW, changed)
    assert not echoes(device)
    terminal.restore_settings(before)
    assert echoes(device)


def test_without_a_terminal_there_are_no_settings(device, monkeypatch):
    before = terminal.read_settings()

    def refuse(*arguments, **options):
        raise OSError(errno.ENXIO, "no such device")

    monkeypatch.setattr(terminal, "open", refuse)
    assert terminal.read_settings() is None
    terminal.restore_settings(before)  # it is gone: nothing to give back, and no error
    monkeypatch.setitem(sys.modules, "termios", None)  # Windows
    assert terminal.read_settings() is None


@pytest.mark.parametrize(
    ("columns", "size", "width"),
    [
        ("50", 120, 50),
        ("0", 120, 120),
        ("wide", 120, 120),
        ("", 120, 120),
        ("", 0, 80),  # a terminal that does not know
        ("", None, 80),
    ],
)
def test_the_width_is_that_of_the_terminal_unless_the_person_says_another(
    columns, size, width, monkeypatch
):
    def size_of(descriptor):
        if size is None:
            raise OSError
        return os.terminal_size((size, 24))

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(os, "get_terminal_size", size_of)
    shown = Terminal()
    shown.fileno = lambda: 1
    assert terminal.find_width(shown) == width
    assert terminal.find_width(io.StringIO()) is None


@pytest.mark.parametrize(
    ("encoding", "can"), [("utf-8", True), ("ascii", False), ("no-such-encoding", False)]
)
def test_can_an_encoding_write_it(encoding, can):
    assert terminal.can_write("…", Terminal(encoding)) is can

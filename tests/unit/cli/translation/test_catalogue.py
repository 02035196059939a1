"""A catalogue, and sentences of the program translated by it."""

from __future__ import annotations

import time

import pytest

from safe_install.cli.translation.catalogue import Catalogue, parse_catalogue, read_catalogue

TEXT = """\
# a comment
msgid ""
msgstr ""
"Language: zh_CN\\n"

#: a/file.py
msgctxt "beginning"
msgid "error: "
msgstr "错误："

msgid "{word} needs {what_word}"
msgstr "{word} 需要 "
"{what_word}"

msgid "\\"driver\\""
msgstr "驱动"

msgid "{name} fails: {error}"
msgstr "{name} 失败：{error}"

msgid "Take it."
msgstr "拿去。"

msgid "Or leave it to {name}."
msgstr "或把它留给 {name}"

msgid "Write {command}."
msgstr "请写 {command}。"

msgid "{name} says: {what_said}"
msgstr "{name} 说：{what_said}"

msgid "type {what_typed}"
msgstr "请输入 {what_typed}"

msgctxt "alone"
msgid "commit"
msgstr "提交"

msgid "these are gone:\\n  {paths}"
msgstr "缺少：\\n  {paths}"
"""


@pytest.fixture
def catalogue():
    return Catalogue(parse_catalogue(TEXT))


def test_the_entries_of_a_file():
    entries = parse_catalogue(TEXT)
    assert len(entries) == 11
    assert (entries[0].context, entries[0].source) == ("beginning", "error: ")
    assert entries[1].translation == "{word} 需要 {what_word}"
    assert entries[2].source == '"driver"'


def test_what_is_no_string_is_an_error():
    with pytest.raises(ValueError, match="no string"):
        parse_catalogue("msgid {name}\n")


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("torch needs numpy", "torch 需要 numpy"),
        ('torch needs "driver"', "torch 需要驱动"),  # a sentence in a sentence
        ("  error: torch needs numpy", "  错误：torch 需要 numpy"),
        ("error: something else", "错误：something else"),
        ("wheel.whl: rule: torch needs numpy", "wheel.whl：rule：torch 需要 numpy"),
        ("torch needs numpy; b needs c", "torch 需要 numpy；b 需要 c"),
        ("Take it. Or leave it to torch. Take it.", "拿去。或把它留给 torch。拿去。"),
        ("Take it. Then leave.", "Take it. Then leave."),
        ("torch fails: x needs y", "torch 失败：x needs y"),  # the words of others stay
        ("error: these are gone:\n  a\n  b", "错误：缺少：\n  a\n  b"),
        ("error: a needs b\n  c needs d\nunknown", "错误：a 需要 b\n  c 需要 d\nunknown"),
        ("Successfully installed torch-2.13.0", "Successfully installed torch-2.13.0"),
        ("", ""),
    ],
)
def test_lines_are_translated(catalogue, english, chinese):
    assert catalogue.translate(english) == chinese


@pytest.mark.parametrize(
    "sentence",
    [
        "Write seconds, or 30m or 2h (0: no limit).",
        "Write the number of nodes.",
        "torch needs a driver that is newer",
        "the torch that is here: torch needs numpy",
        "torch needs numpy; it is not there",
    ],
)
def test_a_sentence_is_translated_whole_or_not_at_all(catalogue, sentence):
    """What a wider sentence matches, and nobody has translated, stays English."""
    assert catalogue.translate(sentence) == sentence
    assert catalogue.translate(f"hint: {sentence}") == f"hint: {sentence}"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("Write safe-install undo.", "请写 safe-install undo。"),
        ("Write `the name of it`.", "请写 `the name of it`。"),
        ("Write a, an.b or_c.", "请写 a, an.b or_c。"),
        ("numpy says: the disk is full", "numpy 说：the disk is full"),  # others may have said it
        ("numpy says: torch needs numpy", "numpy 说：torch 需要 numpy"),
        ("type commit, and torch needs numpy", "请输入 commit, and torch needs numpy"),
        ("torch needs numpy: torch needs numpy", "torch 需要 numpy：torch 需要 numpy"),
        ("commit", "提交"),  # a cell of a table
        ("Write commit.", "请写 commit。"),  # a name
    ],
)
def test_values(catalogue, english, chinese):
    assert catalogue.translate(english) == chinese


def test_find_knows_what_is_a_sentence_of_the_catalogue(catalogue):
    assert catalogue.find("torch needs numpy") == "torch 需要 numpy"
    assert catalogue.find("a: torch needs numpy") is None
    assert catalogue.find("unknown") is None


@pytest.mark.parametrize(
    "text",
    [
        "a: b; c: d; " * 800,
        "torch has and is needs " * 400,
        "error: " * 1400,
        "\n".join(["x y"] * 2400),
        "a: " * 3300,
        "x needs " * 100_000,
    ],
    ids=["clauses", "words", "beginnings", "lines", "names", "long"],
)
def test_a_text_of_others_takes_no_time_to_speak_of(text):
    catalogue = read_catalogue("zh_CN")
    started = time.process_time()
    catalogue.translate(text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    "line",
    [
        "Collecting torch-scatter",
        "Requirement already satisfied: numpy in ./.venv/lib/python3.11/site-packages (1.26.4)",
        "Installing collected packages: torch, torch-scatter",
        "  Attempting uninstall: torch",
        "    Found existing installation: torch 2.13.0+cpu",
        "    Uninstalling torch-2.13.0+cpu:",
        "      Successfully uninstalled torch-2.13.0+cpu",
        "Successfully installed torch-scatter-2.1.2",
        "Would install torch-scatter-2.1.2",
        "Looking in indexes: https://pypi.org/simple, https://mirror.example/simple",
        "Proceed (Y/n)? ",
        "torchvision 0.20.1 requires torch==2.5.1, but you have torch 2.13.0 which is incompatible.",
        "a 1.0 requires b>=2, which is not installed.",
        "WARNING: Skipping x as it is not installed.",
        "20261124T124125Z-f55012  2026-11-24 12:41     0.0 MB  +torch-scatter 2.1.2",
    ],
)
def test_the_words_of_pip_stay(line):
    assert read_catalogue("zh_CN").translate(line) == line


@pytest.mark.parametrize(
    "text",
    [
        "ImportError: libc10.so: cannot open shared object file: No such file or directory",
        "RuntimeError: operator torchvision::nms does not exist",
        "ImportError: cannot import name 'Literal' from 'typing' (/usr/lib/python3.7/typing.py)",
        "AttributeError: module 'torch' has no attribute 'cuda'",
        "RuntimeError: CUDA error: out of memory",
        "CUDA error: no kernel image is available for execution on the device",
        "g++: fatal error: Killed signal terminated program cc1plus",
        "setup.py: error: foo is not a package, use bar instead; see the README",
        "[Errno 28] No space left on device: '/home/me/.venv/lib'",
        "NVML error 18: Driver/library version mismatch",
        "HTTPSConnectionPool(host='pypi.org', port=443): Read timed out. (read timeout=15)",
    ],
)
def test_what_others_say_stays(text):
    """Also where it is a value of a sentence of ours, or a line by itself."""
    catalogue = read_catalogue("zh_CN")
    assert catalogue.translate(text) == text
    assert catalogue.translate(f"error: {text}") == f"错误：{text}"
    assert text in catalogue.translate(f"torch-scatter fails: {text}")
    assert text in catalogue.translate(f"torch does not import: {text}")

"""Sentences with fields, and finished sentences."""

from __future__ import annotations

import pytest

from safe_install.cli.translation.template import fill, is_prose, parse_template


@pytest.mark.parametrize(
    ("template", "text", "values"),
    [
        ("{name} is gone", "torch is gone", {"name": "torch"}),
        ("{name} is gone", "torch is gone away", None),
        ("{name} is gone", "is gone", None),
        ("{a}: {b}", "one: two: three", {"a": "one", "b": "two: three"}),
        ("no {a} for {b}.", "no torch for cu126.", {"a": "torch", "b": "cu126"}),
        ("no {a} for {b}.", "no torch for cu126", None),
        ("will come{why}", "will come", {"why": ""}),
        ("a {b} a", "a a", None),
        # typed fields
        ("{number} files", "3 files", {"number": "3"}),
        ("{number} files", "no files", None),
        ("torch {version} stays", "torch 2.13.0+cpu stays", {"version": "2.13.0+cpu"}),
        ("torch {version} stays", "torch which stays stays", None),
        ("build {word}", "build torch-scatter", {"word": "torch-scatter"}),
        ("build {word}", "build of a wheel", None),
        # a field takes no second line, unless the sentence itself has one
        ("{name} and {other}", "one\nand two and\nthree", None),
        ("gone:\n  {paths}", "gone:\n  a\n  b", {"paths": "a\n  b"}),
    ],
)
def test_a_finished_sentence_gives_its_values(template, text, values):
    sentence = parse_template(template)
    assert sentence.match(text) == values
    assert sentence.may_have_ends(text[0], text[-1]) or values is None


@pytest.mark.parametrize(
    ("template", "first", "last", "expected"),
    [
        ("no {a} for {b}.", "n", ".", True),
        ("no {a} for {b}.", "n", "e", False),
        ("no {a} for {b}.", "t", ".", False),
        ("{a} is {b}", "t", "x", True),
        ("{a} is gone", "t", "e", True),
        ("{a} is gone", "t", "x", False),
    ],
)
def test_most_sentences_are_told_apart_by_their_ends(template, first, last, expected):
    assert parse_template(template).may_have_ends(first, last) is expected


def test_a_translation_puts_the_values_where_it_wants_them():
    values = {"name": "torch", "place": "a b"}
    assert fill("{place} 里没有 {name}", values, values) == "a b 里没有 torch"


def test_chinese_in_chinese_stands_without_spaces():
    values = {"what": "a driver", "why": "gone"}
    told = {"what": "驱动", "why": "gone"}
    assert fill("需要 {what} 或 {why} 。", values, told) == "需要驱动或 gone 。"


def test_a_value_keeps_its_own_spaces():
    values = {"path": "/home/我的 文件"}
    assert fill("在 {path} 里", values, values) == "在 /home/我的 文件 里"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("seconds, or 30m or 2h (0: no limit)", True),
        ("the disk is full", True),
        ("a file was changed", True),
        ("(the system)", True),
        ("torch 2.13.0+cpu", False),
        ("a, b and c", False),
        ("a.so, b.so, an.so", False),
        ("./.venv (Python 3.11.7, torch 2.13.0+cpu)", False),
        ("pip install --no-deps 'torch'", False),
        ("'no such file'", False),
        ("/home/me/in/the/folder x", False),
        ("here", False),
    ],
)
def test_prose_is_told_from_names_and_lines_to_type(text, is_one):
    assert is_prose(text) is is_one

"""The order in which the files of tests begin (tests/conftest.py)."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

from tests.conftest import LONGEST, order_of
from tests.coverage_report import ROOT


def test_each_of_the_longest_is_a_file_and_stands_once():
    assert [path for path, count in Counter(LONGEST).items() if count > 1] == []
    assert [path for path in LONGEST if not (ROOT / path).is_file()] == []


def test_the_longest_begin_and_the_quick_ones_end():
    files = ["tests/unit/test_tags.py", "tests/shapes/test_x.py", LONGEST[1], LONGEST[0]]
    items = [SimpleNamespace(nodeid=f"{file}::test") for file in files]
    assert sorted(items, key=order_of) == items[::-1]

"""What the assertions of a binary say of the torch that it was built for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.wheels.fingerprint import (
    MIN_ASSERTIONS,
    Fingerprint,
    find_assertion_lines,
    find_assertions,
    identify_torch,
    known_minors,
    minor_of,
    share_in_headers,
)
from safe_install.wheels.inspection import headers_table

HASH, PTR = "c10/util/hash.h", "c10/util/intrusive_ptr.h"
TABLE = {
    "a.h": {"1,2,3": ["2.1.2"], "2,3,4": ["2.2.2"], "5": ["2.10.0", "2.11.0"]},
    "b.h": {"7": ["2.1.2", "2.2.2"], "8": ["2.10.0", "2.11.0"], "9": ["2.13.0+cpu"]},
}

# --- in a binary ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rodata", "found"),
    [
        (b"", set()),
        (b'x\0"/pytorch/torch/include/c10/util/hash.h":174, please report a bug\0', {(HASH, 174)}),
        (b"/env/torch/include/c10/util/hash.h:174\0", {(HASH, 174)}),
        (
            b'torch/include/c10/util/hash.h":1\0torch/include/c10/util/hash.h":2\0',
            {(HASH, 1), (HASH, 2)},
        ),
        (b'torch/include/c10/util/hash.h":1\0torch/include/c10/util/hash.h":1\0', {(HASH, 1)}),
        (
            b'torch/include/ATen/x-y.cuh":12\0torch/include/a/b.hpp":3\0',
            {("ATen/x-y.cuh", 12), ("a/b.hpp", 3)},
        ),
        (
            b'torch/include/torch/csrc/api/include/torch/a.inl":5',
            {("torch/csrc/api/include/torch/a.inl", 5)},
        ),
        (b'csrc/cpu/scatter.cpp":12\0', set()),
        (b'torch/include/c10/util/hash.h"\0', set()),
        (b'torch/include/c10/util/hash.h":x\0', set()),
        (b'torch/include/c10/util/hash.h":1234567\0', set()),
        (b"torch/include/" + b"x" * 300 + b'.h":1\0', set()),
        (b'torch/include/\xff\xfe.h":1\0', set()),
    ],
)
@pytest.mark.parametrize("form", [bytes, memoryview])
def test_assertions_in_read_only_data(rodata, found, form):
    assert find_assertions(form(rodata)) == found


@given(st.binary(max_size=200))
def test_any_data_is_searched(data):
    find_assertions(b'torch/include/a/b.h":1' + data + b"torch/include/" + data)


# --- against the table ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("assertions", "said"),
    [
        ([("a.h", 1), ("a.h", 2), ("b.h", 7)], Fingerprint(3, ("2.1",), 1.0)),
        ([("a.h", 2), ("a.h", 4), ("b.h", 7)], Fingerprint(3, ("2.2",), 1.0)),
        # neighbours that do not differ
        ([("a.h", 2), ("a.h", 3), ("b.h", 7)], Fingerprint(3, ("2.1", "2.2"), 1.0)),
        # by number
        ([("a.h", 5), ("b.h", 8), ("b.h", 7), ("a.h", 99)], Fingerprint(4, ("2.10", "2.11"), 0.5)),
        ([("a.h", 1), ("b.h", 7), ("b.h", 9)], Fingerprint(3, ("2.1",), 2 / 3)),
        ([("b.h", 9), ("a.h", 98), ("a.h", 99)], Fingerprint(3, ("2.13",), 1 / 3)),
        ([("a.h", 1), ("b.h", 7)], Fingerprint(2)),  # too few
        # a header that the table does not know
        ([("a.h", 1), ("b.h", 7), ("c.h", 1)], Fingerprint(2)),
        ([("c.h", 1), ("c.h", 2), ("c.h", 3)], Fingerprint(0)),
        ([("a.h", 97), ("a.h", 98), ("a.h", 99)], Fingerprint(3)),  # known headers, no such lines
        ([("a.h", 12), ("a.h", 23), ("a.h", 34)], Fingerprint(3)),  # "1,2,3" has no 12 and no 23
        ([], Fingerprint(0)),
    ],
)
def test_the_minors_that_fit_best(assertions, said):
    assert identify_torch(assertions, TABLE) == said


@pytest.mark.parametrize(
    ("version", "minor"),
    [("2.13.0+cpu", "2.13"), ("2.8.0", "2.8"), ("2.8", "2.8"), ("2.9.0a0+git1", "2.9"), ("2", "2")],
)
def test_minors(version, minor):
    assert minor_of(version) == minor


def test_known_minors():
    assert known_minors(TABLE) == {"2.1", "2.2", "2.10", "2.11", "2.13"}
    assert known_minors({}) == set()


@pytest.mark.parametrize(
    ("assertions", "share"),
    [
        ([], None),
        ([("a.h", 1)] * (MIN_ASSERTIONS - 1), None),
        ([("a.h", 1), ("a.h", 2), ("b.h", 9)], 1.0),
        ([("a.h", 1), ("a.h", 2), ("b.h", 8)], 2 / 3),
        ([("c.h", 1), ("c.h", 2), ("c.h", 3)], 0.0),
    ],
)
def test_the_share_that_stands_in_headers(assertions, share):
    assert share_in_headers(assertions, {"a.h": frozenset({1, 2}), "b.h": frozenset({9})}) == share


# --- in a header ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", set()),
        ("int f();\n", set()),
        ("TORCH_CHECK(x);\n", {1}),
        ("\n\n  TORCH_INTERNAL_ASSERT(x, y);\n", {3}),
        ("TORCH_CHECK(\n  x,\n  y);\n", {1, 3}),  # compilers name the first line or the last
        ("TORCH_CHECK(f(x),\n  g(y, (z)));\nint i;", {1, 2}),
        ("A_CHECK(x); B_ASSERT(y);\n", {1}),
        ("CAFFE_ENFORCE_EQ (x,\n y)\n", {1, 2}),
        ("TORCH_CHECK_WITH(E,\n x);\nTORCH_INTERNAL_ASSERT_DEBUG_ONLY(y);", {1, 2, 3}),
        ("checked(x); check(y);", set()),
        ("TORCH_CHECK;\nTORCH_CHECK x", set()),
        ("TORCH_CHECK(x", {1}),  # never closed
        ("TORCH_CHECK(\n" + "x" * 5000 + ")", {1}),  # closed too far away
    ],
)
def test_lines_of_assertions(text, lines):
    assert find_assertion_lines(text) == lines


@given(st.text("TORCH_CHECK()\n x,", max_size=200))
def test_any_header_is_read(text):
    assert all(1 <= line <= text.count("\n") + 1 for line in find_assertion_lines(text))


# --- the table that is shipped --------------------------------------------------------------------

RELEASES = {
    "2.0.1",
    "2.1.2",
    "2.2.2",
    "2.3.1",
    "2.4.1",
    "2.5.1",
    "2.6.0",
    "2.7.1",
    "2.8.0",
    "2.9.1",
    "2.10.0",
    "2.11.0",
}
RELEASES |= {"2.12.1", "2.13.0+cpu", "2.14.1", "2.15.0"}


def test_every_version_in_the_shipped_table_is_a_release():
    versions = {
        version for rows in headers_table().values() for names in rows.values() for version in names
    }
    assert versions >= RELEASES
    assert all(re.fullmatch(r"\d+\.\d+\.\d+(\+\w+)?", version) for version in versions)
    minors = [minor_of(version) for version in versions]
    assert len(set(minors)) == len(minors)  # patches do not differ
    assert known_minors(headers_table()) >= {minor_of(version) for version in RELEASES}


def test_the_shipped_table_holds_lines():
    table = headers_table()
    assert len(table) > 500
    for header, rows in table.items():
        assert re.fullmatch(r"[\w+./-]+\.(h|hpp|cuh|inl)", header)
        names = [version for versions in rows.values() for version in versions]
        assert len(set(names)) == len(names)  # one row for each version
        for lines in rows:
            numbers = [int(line) for line in lines.split(",")]
            assert numbers == sorted(set(numbers)) and numbers[0] > 0


def test_lines_that_only_2_13_has():
    rows = {
        version: lines for lines, versions in headers_table()[PTR].items() for version in versions
    }
    assert "232" in rows["2.13.0+cpu"].split(",") and "1194" in rows["2.13.0+cpu"].split(",")
    assertions = [(PTR, int(line)) for line in rows["2.13.0+cpu"].split(",")]
    assert identify_torch(assertions, headers_table()) == Fingerprint(
        len(assertions), ("2.13",), 1.0
    )


@pytest.mark.parametrize("version", sorted(RELEASES))
def test_every_release_is_told_from_the_others_by_its_own_lines(version):
    lines = [
        (header, int(line))
        for header, rows in headers_table().items()
        for numbers, versions in rows.items()
        if version in versions
        for line in numbers.split(",")
    ]
    assert identify_torch(lines, headers_table()) == Fingerprint(
        len(lines), (minor_of(version),), 1.0
    )

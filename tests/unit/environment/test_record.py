"""RECORD: what its rows say, in every spelling that installers use, and in those that nobody
should."""

from __future__ import annotations

import csv
import importlib
import io
import os
from pathlib import Path

import pytest

from safe_install.environment.record import (
    RecordEntry,
    make_entry,
    parse_record,
    read_record,
    read_record_text,
    render_record,
)

LONG = "x" * 131_073
TABLE = {
    "as pip writes it": (
        "p/a.py,sha256=abc,3\r\np/b.py,,\r\n",
        [("p/a.py", "sha256=abc", "3"), ("p/b.py", "", "")],
    ),
    "as uv writes it": (
        "p/a.py,sha256=abc,3\np/b.py,,\n",
        [("p/a.py", "sha256=abc", "3"), ("p/b.py", "", "")],
    ),
    "ends of lines of old Macs": ("a,,\rb,,\r", [("a", "", ""), ("b", "", "")]),
    "without the last end of line": ("a,,\nb,,", [("a", "", ""), ("b", "", "")]),
    "empty": ("", []),
    "empty lines": ("\n\na,,\r\n\r\n", [("a", "", "")]),
    "a row of a path only": ("a\n", [("a", "", "")]),
    "a row without a size": ("a,sha256=abc\n", [("a", "sha256=abc", "")]),
    "a row with too much": ("a,sha256=abc,3,more,\n", [("a", "sha256=abc", "3")]),
    "a row without a path": (",sha256=abc,3\na,,\n", [("a", "", "")]),
    "a comma in quotes": ('"a,b.py",sha256=abc,3\n', [("a,b.py", "sha256=abc", "3")]),
    "a quote in quotes": ('"a""b.py",,\n', [('a"b.py', "", "")]),
    "quotes where none are needed": ('"a.py","sha256=abc","3"\n', [("a.py", "sha256=abc", "3")]),
    "the end of a line in quotes": (
        '"a\nb",,\n"c\r\nd",,\ne,,\n',
        [("a\nb", "", ""), ("c\r\nd", "", ""), ("e", "", "")],
    ),
    "a form feed is no end of a line": ("a\x0cb\u2028c,,\n", [("a\x0cb\u2028c", "", "")]),
    "an absolute path": ("/opt/p/a.py,,\n", [("/opt/p/a.py", "", "")]),
    "a path that leads out": (
        "../../../bin/p,sha256=abc,3\n",
        [("../../../bin/p", "sha256=abc", "3")],
    ),
    "bytes that are no UTF-8": ("p/\udce9.py,,\n", [("p/\udce9.py", "", "")]),
    "letters beyond ASCII": ("p/é中.py,,\n", [("p/é中.py", "", "")]),
    "a NUL names no file": ("a\0b,,\nc,,\n", [("c", "", "")]),
    "longer than any path": (f"{LONG},,\na,,\n", [("a", "", "")]),
    "quotes that do not end": ('a,,\n"b,,\nc,,\n', [("a", "", ""), ("b,,\nc,,\n", "", "")]),
}


@pytest.mark.parametrize(("text", "expected"), TABLE.values(), ids=list(TABLE))
def test_rows(tmp_path: Path, text: str, expected: list) -> None:  # type: ignore[type-arg]
    assert list(parse_record(text)) == expected
    (tmp_path / "RECORD").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert list(read_record(tmp_path)) == expected


def test_what_is_written_reads_the_same() -> None:
    entries = [RecordEntry(*row) for _, expected in TABLE.values() for row in expected]
    written = render_record(entries)
    assert list(parse_record(written.decode("utf-8", "surrogateescape"))) == entries
    # Another reader of the same format, as the standard library has it.
    text = io.StringIO(written.decode("utf-8", "surrogateescape"), newline="")
    assert [tuple(row) for row in csv.reader(text)] == entries


def test_the_row_of_a_file() -> None:
    # printf 'x = 1\n' | openssl dgst -sha256 -binary | basenc --base64url
    assert make_entry("p/a.py", b"x = 1\n") == (
        "p/a.py",
        "sha256=nia_NpkRxFwkPGhBR7I_yeHc_PJX0pmhxjIBam_NM_Q",
        "6",
    )


def test_no_record_has_no_rows(tmp_path: Path) -> None:
    assert read_record_text(tmp_path) is None
    assert list(read_record(tmp_path / "missing")) == []
    (tmp_path / "file").write_text("")
    assert read_record_text(tmp_path / "file") is None


def test_a_fifo_or_a_folder_in_its_place_is_none(tmp_path: Path) -> None:
    for make in (os.mkfifo, os.mkdir):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(str(folder / "RECORD"))
        assert read_record_text(folder) is None


def test_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "RECORD").symlink_to("RECORD")  # a link to itself: root cannot read it either
    with pytest.raises(OSError, match="symbolic links"):
        read_record_text(tmp_path)


def test_a_RECORD_that_would_fill_the_memory_is_not_read(tmp_path):
    with (tmp_path / "RECORD").open("wb") as file:
        file.truncate(5_000_000_000)
    with pytest.raises(OSError, match="File too large"):
        read_record_text(tmp_path)


def test_metadata_that_is_no_file_or_has_no_end_is_none(tmp_path):
    """As the probe reads it, in the managed interpreter."""
    script = importlib.import_module("safe_install.environment.script")
    for name in ("METADATA", "libc10.so"):
        os.mkfifo(tmp_path / name)
    with (tmp_path / "direct_url.json").open("wb") as file:
        file.truncate(5_000_000_000)
    assert script.read_metadata(str(tmp_path / "METADATA")) is None
    assert script.read_direct_url(str(tmp_path)) is None
    assert script.cxx11_abi(str(tmp_path)) is None

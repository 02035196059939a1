"""Reads, parses and writes RECORD, the list of a distribution's files.

Source: packaging.python.org/en/latest/specifications/recording-installed-packages. A row has a
path, a hash (`sha256=...`) and a size in bytes. Hash and size may be empty. The path is absolute,
or relative to the folder that contains the dist-info. `wheels/archive` checks the RECORD of a
wheel.
"""

from __future__ import annotations

import base64
import csv
import errno
import io
import os
import stat
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Optional

LARGEST = 100_000_000  # bytes; the RECORD of torch has 2 million


class RecordEntry(NamedTuple):
    """One row of a RECORD."""

    path: str
    hash: str  # "sha256=...", or ""
    size: str  # bytes, or ""


def read_record_text(folder: Path) -> Optional[str]:
    """The text of the RECORD in a dist-info folder; None: there is none, or it is not a file.

    Bytes that are not UTF-8 become surrogates, as in the paths of `os`. Errors: OSError, if it
    cannot be read.
    """
    content = read_plain_file(folder / "RECORD")
    return None if content is None else content.decode("utf-8", "surrogateescape")


def read_plain_file(path: Path) -> Optional[bytes]:
    """The content of a file; None: there is none, or it is not a regular file. Errors: OSError, if
    it cannot be read."""
    try:
        # O_NONBLOCK, since opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    if status.st_size > LARGEST:
        os.close(descriptor)
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def split_rows(text: str) -> List[str]:
    """The rows of a RECORD as text. A path in quotes may contain the end of a line."""
    # Not str.splitlines(), which also splits at form feeds and other characters.
    lines = io.StringIO(text, newline="").readlines()
    if '"' not in text:
        return lines
    rows: List[str] = []
    unfinished = ""
    for line in lines:
        unfinished += line
        if unfinished.count('"') % 2 == 0:
            rows.append(unfinished)
            unfinished = ""
    if unfinished:
        rows.append(unfinished)
    return rows


def parse_rows(rows: Iterable[str]) -> Iterator[RecordEntry]:
    """The entries of these rows. Rows that cannot name a file are left out: their path is empty,
    contains a NUL, or is too long."""
    reader = csv.reader(rows)
    while True:
        try:
            for cells in reader:
                if len(cells) != 3:
                    cells = [*cells, "", "", ""][:3]
                entry = RecordEntry(*cells)
                if entry.path and "\0" not in entry.path:
                    yield entry
            return
        except csv.Error:  # a cell of more than 131,072 characters; a NUL, before Python 3.11
            continue


def parse_record(text: str) -> Iterator[RecordEntry]:
    """The entries of a RECORD's text."""
    return parse_rows(split_rows(text))


def read_record(folder: Path) -> Iterator[RecordEntry]:
    """The entries of the RECORD in a dist-info folder; none without a RECORD. Errors: those of
    `read_record_text`."""
    return parse_record(read_record_text(folder) or "")


def render_record(entries: Iterable[RecordEntry]) -> bytes:
    """The bytes of a RECORD with these entries. Lines end as in pip's RECORDs."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(entries)
    return text.getvalue().encode("utf-8", "surrogateescape")


def make_entry(path: str, content: bytes) -> RecordEntry:
    """The row of a file with this content."""
    import hashlib  # late: it loads OpenSSL, which only a change needs

    return RecordEntry(path, make_hash(hashlib.sha256(content).digest()), str(len(content)))


def make_hash(digest: bytes) -> str:
    """The hash of a row for the digest of a sha256."""
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

"""Reads RECORDs, the lists of the files of distributions."""

import base64
import csv
import hashlib
import io
import os
from typing import List, Set, Tuple

from safe_install.transaction.recovery.disk import open_regular_file, read_regular_file
from safe_install.transaction.recovery.rows import JournalInvalid


def read_record(path: str) -> List[Tuple[str, str]]:
    """(path relative to site-packages, hash such as `sha256=...`) of each row of a RECORD; no rows
    where it cannot be read."""
    try:
        text = read_regular_file(path).decode("utf-8", "surrogateescape")
        # Not splitlines(), which also splits at a form feed in a name.
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    except (OSError, JournalInvalid, csv.Error):
        return []
    return [(os.path.normpath(row[0]), row[1] if len(row) > 1 else "") for row in rows]


def list_dist_infos(sites: Set[str]) -> List[str]:
    """The dist-info folders in these directories."""
    found: List[str] = []
    for site in sites:
        names = os.listdir(site) if os.path.isdir(site) else []
        found += [os.path.join(site, name) for name in names if name.endswith(".dist-info")]
    return found


def has_hash(path: str, written: str) -> bool:
    """Is there a regular file with this hash, in the form of a RECORD (`sha256=...`)?"""
    algorithm, _, encoded = written.partition("=")
    try:
        digest = hashlib.new(algorithm)
        with open_regular_file(path) as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
        found = digest.digest()
    except (OSError, ValueError, TypeError, JournalInvalid):
        return False  # TypeError: shake_128 needs a length
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode("ascii") == encoded

"""RECORDs, the lists of files of distributions."""

import base64
import csv
import hashlib
import io
import os
from typing import List, Set, Tuple

from safe_install.transaction.recovery.disk import read_regular_file
from safe_install.transaction.recovery.rows import JournalInvalid


def read_record(path: str) -> List[Tuple[str, str]]:
    """(path relative to site-packages, hash as written) of each row of a RECORD; none where it
    cannot be read."""
    try:
        text = read_regular_file(path).decode("utf-8", "surrogateescape")
        # Not splitlines(), which also ends a line where a name holds a form feed.
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
    """Has the file at `path` the hash of a RECORD, "sha256=..."?"""
    name, _, encoded = written.partition("=")
    try:
        digest = hashlib.new(name, read_regular_file(path)).digest()
    except (OSError, ValueError, JournalInvalid):
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii") == encoded

"""Keeps the URLs and hashes of files whose transactions were pruned, because these files may still
be installed."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from safe_install.system.atomic_write import write_atomically
from safe_install.transaction.recovery.disk import read_regular_file
from safe_install.transaction.recovery.rows import STATE_DIRECTORY, JournalInvalid
from safe_install.transaction.summary import StepRow

FILE = "sources.json"
KEPT_ROWS = 2000  # the newest; half a megabyte
FIELDS = ("name", "version", "kind", "url", "sha256", "size", "direct", "listed")


def read_kept_sources(prefix: Path) -> Tuple[Mapping[str, object], ...]:
    """The kept rows, in the form of the steps of a summary, newest first; empty if they cannot
    be read."""
    return tuple(_read(Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY / FILE))


def keep_sources(prefix: Path, changes: Iterable[Sequence[StepRow]]) -> None:
    """Keep the rows of pruned changes. `changes`: newest first. Disk errors are ignored."""
    path = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY / FILE
    old = _read(path)
    rows: List[Mapping[str, object]] = []
    for steps in changes:
        rows += filter(_names_a_file, steps)
    kept: Dict[Tuple[object, object], Mapping[str, object]] = {}
    for row in (*rows, *old):
        plain = {field: row.get(field) for field in FIELDS}
        kept.setdefault((row["name"], row["version"]), plain)
    newest = list(kept.values())[:KEPT_ROWS]
    if newest == old:
        return
    with contextlib.suppress(OSError):
        write_atomically(path, json.dumps(newest).encode("utf-8"), mode=0o600)


def _read(path: Path) -> List[Mapping[str, object]]:
    try:
        found = json.loads(read_regular_file(str(path)).decode("utf-8"))
    except (OSError, ValueError, RecursionError, JournalInvalid):
        return []
    return list(filter(_names_a_file, found)) if isinstance(found, list) else []


def _names_a_file(row: object) -> bool:
    """Does a row name a distribution, and a file by URL and hash?"""
    if not isinstance(row, dict):
        return False
    return all(isinstance(row.get(field), str) for field in ("name", "version", "url", "sha256"))

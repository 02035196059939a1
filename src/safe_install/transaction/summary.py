"""Reads the summary beside the journal of a committed change: its steps, and when it was committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, TypedDict

from safe_install.transaction.recovery.disk import read_regular_file
from safe_install.transaction.recovery.rows import JournalInvalid

FILE = "summary.json"


class _Step(TypedDict):
    action: str
    name: str
    version: Optional[str]
    from_version: Optional[str]


class StepOrigin(TypedDict, total=False):
    """Where the file of a step came from; checked by those who read that."""

    kind: object
    url: object
    sha256: object
    size: object
    requested: object
    direct: object
    listed: object


class StepRow(_Step, StepOrigin):
    """A step in the form that `pipeline.health_gate.summarize` writes."""


class _CommandAndSteps(TypedDict):
    command: List[str]
    steps: List[StepRow]


class ChangeSummary(_CommandAndSteps, total=False):
    """The summary of a change, as it is written."""

    undoes: str  # the ID of the change that an undo takes back
    created: float  # of a staged change, in seconds since the epoch
    expires: Optional[float]


class Summary(NamedTuple):
    """What is read of the summary of a committed change."""

    steps: Tuple[StepRow, ...] = ()
    committed: Optional[float] = None  # seconds since the epoch


def read_summary(directory: Path) -> Summary:
    """The summary in the folder of a transaction, without values of unexpected types."""
    try:
        found = json.loads(read_regular_file(str(directory / FILE)).decode("utf-8"))
    except (OSError, ValueError, RecursionError, JournalInvalid):
        return Summary()
    if not isinstance(found, dict):
        return Summary()
    steps, committed = found.get("steps"), found.get("committed")
    return Summary(
        tuple(row for row in steps if _is_step(row)) if isinstance(steps, list) else (),
        committed if isinstance(committed, (int, float)) else None,
    )


def _is_step(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    if not isinstance(row.get("name"), str) or not isinstance(row.get("action"), str):
        return False
    versions = [row.get("version", 0), row.get("from_version", 0)]
    return all(version is None or isinstance(version, str) for version in versions)


def describe_changes(steps: Sequence[StepRow]) -> str:
    """The steps of a transaction in one line: `+six 1.16.0, ~numpy 2.0`."""
    parts = []
    for row in steps:
        sign = {"add": "+", "remove": "-", "replace": "~"}.get(row["action"], "?")
        parts.append(f"{sign}{row['name']} {row['version'] or row['from_version'] or ''}".rstrip())
    return ", ".join(parts) or "(no steps)"

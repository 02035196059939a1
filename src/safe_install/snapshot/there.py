"""What a machine has already, by its `inventory`: the wheels of that need not be brought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Mapping

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.record import RecordEntry, make_hash
from safe_install.environment.tree_hash import hash_rows
from safe_install.errors import InputError
from safe_install.wheels.archive import Artifact

LARGEST = 64 * 2**20  # bytes of the file


def read_there(path: Path) -> Mapping[NormalizedName, str]:
    """Name -> the hash of its files, from the document of `inventory --json`. Errors: InputError."""
    found: Dict[NormalizedName, str] = {}
    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(LARGEST).decode("utf-8"))
        for row in document["details"]["distributions"]:
            found[canonicalize_name(row["name"])] = str(row["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path} is no inventory: {error}",
            hint="Write one on the machine: safe-install inventory --json > FILE.",
        ) from error
    return found


def is_there(artifact: Artifact, there: Mapping[NormalizedName, str]) -> bool:
    """Are the files of this wheel the installed ones, as both RECORDs have them? A wheel whose files
    go to several places is taken for one that is not."""
    rows = []
    for row in artifact.record:
        written = ""
        if row.algorithm == "sha256" and row.digest is not None:
            written = make_hash(row.digest)
        rows.append(RecordEntry(row.path, written, ""))
    found = hash_rows(artifact.name, artifact.written_version, rows)
    return there.get(artifact.name) == found

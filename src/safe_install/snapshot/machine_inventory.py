"""Reads which distributions and wheels a machine already has, by its `inventory`: a bundle for it
does not need them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, Mapping

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.record import RecordEntry, make_hash
from safe_install.environment.tree_hash import hash_rows
from safe_install.errors import InputError
from safe_install.wheels.archive import Artifact

LARGEST = 64 * 2**20  # bytes of the file


@dataclass(frozen=True)
class MachineInventory:
    """The installed files and cached wheels of a machine."""

    installed: Mapping[NormalizedName, str] = field(default_factory=dict)  # -> hash of its files
    wheels: FrozenSet[str] = frozenset()  # the SHA-256 of the wheels in its cache

    def has_installed(self, artifact: Artifact) -> bool:
        """Are the files of this wheel installed, by both RECORDs? False for a wheel that installs
        into several folders."""
        rows = []
        for row in artifact.record:
            recorded = ""
            if row.algorithm == "sha256" and row.digest is not None:
                recorded = make_hash(row.digest)
            rows.append(RecordEntry(row.path, recorded, ""))
        files_hash = hash_rows(artifact.name, artifact.written_version, rows)
        return self.installed.get(artifact.name) == files_hash


def read_inventory(path: Path) -> MachineInventory:
    """Read the output of `inventory --json`; that of an older version has no wheels. Errors:
    InputError."""
    installed: Dict[NormalizedName, str] = {}
    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(LARGEST).decode("utf-8"))
        details = document["details"]
        for row in details["distributions"]:
            installed[canonicalize_name(row["name"])] = str(row["sha256"])
        wheels = frozenset(str(sha256) for sha256 in details.get("wheels", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is no inventory: {error}",
            hint="Write one on the machine: safe-install inventory --json > FILE.",
        ) from error
    return MachineInventory(installed, wheels)

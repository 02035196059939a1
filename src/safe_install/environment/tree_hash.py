"""Hashes the installed distributions. Equal environments have equal hashes on every machine.

The hash is made of names, versions and RECORDs; the files themselves are not read. Left out is what
differs between equal environments: bytecode, scripts (they contain the path of their interpreter),
and the notes of installers. The hash does not change if a file was edited after the install;
`doctor --deep` compares files.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Tuple

from packaging.utils import NormalizedName

from safe_install.environment.record import RecordEntry, parse_record, read_record_text
from safe_install.models import InstalledDistribution

COVERS = (
    "name, version and the RECORD rows of every distribution; not bytecode, scripts, notes of "
    "installers, nor edits after the install"
)
_NOTES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws"})


@dataclass(frozen=True)
class DistributionHash:
    """One distribution, and the hash of its files."""

    name: NormalizedName
    version: str
    sha256: str


def hash_rows(name: str, version: str, rows: Iterable[RecordEntry]) -> str:
    """The hash of a distribution with these rows in its RECORD."""
    digest = hashlib.sha256(f"{name}\0{version}\0".encode())
    counted = sorted((row.path, row.hash) for row in rows if _counts(row.path))
    for path, written in counted:
        digest.update(f"{path}\0{written}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _counts(path: str) -> bool:
    """Is the file part of the hash?"""
    folder, _, name = path.rpartition("/")
    if path.startswith(("/", "../")) or path.endswith(".pyc"):
        return False
    return not (name in _NOTES and folder.endswith(".dist-info"))


def hash_tree(distributions: Iterable[DistributionHash]) -> str:
    """The hash of all of them together."""
    rows = sorted((one.name, one.version, one.sha256) for one in distributions)
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def hash_installed(
    installed: Mapping[NormalizedName, InstalledDistribution],
) -> Tuple[DistributionHash, ...]:
    """The hash of each installed distribution, sorted by name. A RECORD that cannot be read counts
    as empty."""
    found: List[DistributionHash] = []
    for name in sorted(installed):
        distribution = installed[name]
        try:
            text = read_record_text(distribution.metadata_path) or ""
        except OSError:
            text = ""
        value = hash_rows(name, distribution.version, parse_record(text))
        found.append(DistributionHash(name, distribution.version, value))
    return tuple(found)

"""What the files of a wheel would do where they are installed: differences, clashes, code that runs
at start."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from safe_install.models import Finding, InstalledDistribution, Severity
from safe_install.transaction.ownership import read_hashes
from safe_install.wheels.archive import Artifact, find_case_clashes
from safe_install.wheels.record import RecordNote
from safe_install.wheels.startup import (
    find_activation_files,
    find_prefix_libraries,
    find_start_files,
    runs_code,
)


def find_changed_files(artifact: Artifact, installed: InstalledDistribution) -> Tuple[str, ...]:
    """The files that differ between a wheel and the installed distribution, as sorted names.

    The hashes of both RECORDs are compared. Left out: scripts, which each installer writes in its
    own way, bytecode, and what an installer adds to dist-info (INSTALLER, direct_url.json,
    uv_cache.json).
    """
    old = _files_in(
        os.path.realpath(installed.location), read_hashes([str(installed.metadata_path)])
    )
    new = _hash_members(artifact)
    added = {
        name for name in old.keys() - new.keys() if name.rpartition("/")[0].endswith(".dist-info")
    }
    compared = (old.keys() | new.keys()) - added
    return tuple(sorted(name for name in compared if old.get(name) != new.get(name)))


def _hash_members(artifact: Artifact) -> Mapping[str, str]:
    """The hashes of a wheel's files by their names in site-packages, as a RECORD writes them."""
    noted = {note.path for note in artifact.record_notes}
    found: Dict[str, str] = {}
    with zipfile.ZipFile(str(artifact.path)) as archive:
        for row in artifact.record:
            name = _name_in_site(artifact, row.path)
            if row.digest is None or name is None:
                continue
            digest, algorithm = row.digest, row.algorithm
            if row.path in noted and row.path in artifact.files:
                # RECORD is wrong about this file, so it is hashed.
                digest, algorithm = hashlib.sha256(archive.read(row.path)).digest(), "sha256"
            found[name] = f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    return found


def _files_in(site: str, hashes: Mapping[str, str]) -> Dict[str, str]:
    """The hashes of a RECORD for files that came from the wheel, by path below site-packages."""
    found = {}
    for path, written in hashes.items():
        name = os.path.relpath(path, site)
        if not name.startswith("..") and not name.endswith(".pyc"):
            found[name] = written
    return found


def _name_in_site(artifact: Artifact, path: str) -> Optional[str]:
    """The path of a wheel's member below site-packages; None where it is installed elsewhere."""
    data = f"{artifact.dist_info[: -len('.dist-info')]}.data/"
    if not path.startswith(data):
        return path
    key, _, rest = path[len(data) :].partition("/")
    return rest if key in ("purelib", "platlib") else None


RUNS_CODE = "code that runs at every start of this Python"


def contents_findings(
    artifact: Artifact, *, folds_case: bool, hidden: Mapping[str, Optional[str]], beside_torch: bool
) -> Tuple[Finding, ...]:
    """Notes and warnings on the files of a wheel. `hidden`: its scripts, each with the command of
    the same name that it would hide. `beside_torch`: code that runs at start is a warning, not a
    note.

    Paths that differ only in case are two files on most Linux file systems (wheels with Linux
    headers have them). Where they are one file, one of them would be lost: an error.
    """
    findings = _check_case(artifact, folds_case=folds_case)
    details = _record_details(artifact.record_notes)
    if details:
        findings.append(
            Finding(
                "record",
                Severity.NOTE,
                artifact.name,
                f"{artifact.path.name}: {list_names(details)}",
            )
        )
    for check, files, what in _files_with_effects(artifact):
        if files:
            detail = f"{artifact.name} brings {list_names(files)}: {what}"
            severity = Severity.WARNING if what == RUNS_CODE and beside_torch else Severity.NOTE
            findings.append(Finding(check, severity, artifact.name, detail))
    hiding = [f"{name} ({place})" for name, place in sorted(hidden.items()) if place is not None]
    if hiding:
        findings.append(
            Finding(
                "hides-command",
                Severity.NOTE,
                artifact.name,
                f"{artifact.name} brings commands that come before others on PATH: "
                f"{list_names(hiding)}",
            )
        )
    return tuple(findings)


def _check_case(artifact: Artifact, *, folds_case: bool) -> List[Finding]:
    clashes = find_case_clashes(artifact.files)
    if not clashes:
        return []
    first, second = clashes[0]
    return [
        Finding(
            "case-clash",
            Severity.ERROR if folds_case else Severity.NOTE,
            artifact.name,
            f"{artifact.path.name} holds {first} and {second}: one file where a file system "
            "folds case",
            "Install it on a file system that tells them apart." if folds_case else "",
        )
    ]


def _files_with_effects(artifact: Artifact) -> Tuple[Tuple[str, Sequence[str], str], ...]:
    """(the check, the files, what they do) of each kind of file that acts without being called."""
    files, folder = artifact.files, artifact.dist_info
    starting = find_start_files(files, folder)
    running = _with_code(artifact, starting)
    return (
        ("runs-at-start", running, RUNS_CODE),
        (
            "runs-at-start",
            [path for path in starting if path not in running],
            "read at every start of this Python",
        ),
        (
            "runs-at-activation",
            find_activation_files(files, folder),
            "read by the shell that activates this environment",
        ),
        (
            "library-in-prefix",
            find_prefix_libraries(files, folder),
            "conda's Python finds them before other libraries",
        ),
    )


def _with_code(artifact: Artifact, paths: Sequence[str]) -> List[str]:
    """Those of the files read at start that run code, without setuptools' own, which nearly every
    environment has."""
    known = "distutils-precedence.pth" if artifact.name == "setuptools" else ""
    paths = [path for path in paths if path != known]
    if not paths:
        return []
    with zipfile.ZipFile(str(artifact.path)) as archive:
        return [path for path in paths if runs_code(path, archive.read(path))]


def _record_details(notes: Sequence[RecordNote]) -> List[str]:
    details = [note.detail for note in notes if not note.group]
    groups: Dict[str, List[str]] = {}
    for note in notes:
        if note.group:
            groups.setdefault(note.group, []).append(note.path)
    return details + [f"{group} {list_names(paths)}" for group, paths in groups.items()]


def list_names(names: Sequence[str]) -> str:
    """The first five names, and the number of the others."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# Only these: that a virtual environment hides the commands of other Pythons is its purpose.
SYSTEM_FOLDERS = ("/bin", "/sbin", "/usr/bin", "/usr/sbin")


def system_path(prefix: Path, environ: Mapping[str, str]) -> str:
    """The folders on PATH that hold the operating system's commands, as a PATH."""
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(
        folder
        for folder in folders
        if folder in SYSTEM_FOLDERS and prefix not in Path(folder).parents
    )


def find_hidden(names: Iterable[str], scripts: Path, path: str) -> Dict[str, Optional[str]]:
    """New scripts for the folder `scripts`, each with the command on `path` that it would hide, or
    None. A script that exists there already is left out: it hides the command today."""
    new = [name for name in names if not os.path.lexists(scripts / name)]
    return {name: shutil.which(name, path=path) for name in new}

"""Compares the files of every distribution with its RECORD."""

from __future__ import annotations

import os
import stat
from typing import (
    Callable,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.utils import NormalizedName

from safe_install.diagnosis.facts import ChangedFile, RecordState
from safe_install.environment.record import make_hash, parse_record, read_record_text
from safe_install.models import Environment, InstalledDistribution

# Files that other installers rewrite. They are not compared.
REWRITTEN = ("direct_url.json", "INSTALLER", "REQUESTED", "RECORD")
BYTECODE = (".pyc", ".pyo")
# Installers that change files after the RECORD is written (strip them, move programs).
SYSTEM_INSTALLERS = ("debian", "rpm", "apk", "conda")
SYSTEM_SITES = ("/usr/lib/python3/dist-packages",)  # of Debian, which writes no INSTALLER
# Only the sizes of these are compared. Other files may be edited on purpose (settings, certificates
# in certifi).
CODE_ENDINGS = (".py", ".so")


class Row(NamedTuple):
    """One row of a RECORD."""

    path: str
    hash: str
    size: str


Rows = Mapping[NormalizedName, Sequence[Row]]
Listings = Dict[str, Optional[FrozenSet[str]]]


def read_records(
    environment: Environment,
    *,
    deep: bool = False,
    only: Callable[[NormalizedName], bool] = lambda name: True,
) -> Tuple[RecordState, ...]:
    """The distributions whose files differ from their RECORD. Sizes are compared, and hashes of
    files that two RECORDs list.

    `deep`: the hash of every file is compared. `only`: which distributions are compared. Editable
    installs are left out, and distributions of the operating system and conda, which change files
    after they are recorded.
    """
    rows: Dict[NormalizedName, Sequence[Row]] = {}
    states: List[RecordState] = []
    for name in sorted(environment.installed):
        distribution = environment.installed[name]
        if distribution.editable or is_of_system(distribution) or not only(name):
            continue
        problem = ""
        if distribution.has_record:
            rows[name], problem = _read_rows(distribution)
        elif distribution.metadata_path.name.endswith(".dist-info"):
            problem = f"{distribution.metadata_path} has no RECORD"
        if problem:
            states.append(RecordState(name, distribution.version, problem=problem))
    shared = _find_shared(environment, rows)
    for name, recorded in rows.items():
        state = _compare(environment.installed[name], recorded, shared, deep=deep)
        if state is not None:
            states.append(state)
    return tuple(states)


def is_of_system(distribution: InstalledDistribution) -> bool:
    """Does it belong to the operating system or to conda?"""
    if (distribution.installer or "").lower() in SYSTEM_INSTALLERS:
        return True
    return str(distribution.location) in SYSTEM_SITES


def _read_rows(distribution: InstalledDistribution) -> Tuple[Sequence[Row], str]:
    """The rows of files that stay as they were installed, and what is wrong with the RECORD."""
    try:
        text = read_record_text(distribution.metadata_path) or ""
    except OSError as error:
        return (), f"its RECORD cannot be read: {error.strerror or error}"
    entries = parse_record(text) if '"' in text else _split(text)
    found: List[Row] = []
    for path, recorded_hash, size in entries:
        if not path.endswith(BYTECODE) and not path.endswith(REWRITTEN):
            found.append(Row(path, recorded_hash, size))
    # Every RECORD lists at least the METADATA beside it.
    return found, "" if found else "its RECORD lists no file"


def _split(text: str) -> Iterator[Tuple[str, str, str]]:
    """The rows of a RECORD without quotes. Not by a CSV parser: there are tens of thousands."""
    for line in text.split("\n"):
        cells = line.rstrip("\r").split(",")
        if len(cells) == 3 and cells[0] and "\0" not in line:
            yield cells[0], cells[1], cells[2]


def _find_shared(
    environment: Environment, rows: Rows
) -> Mapping[Tuple[str, str], Sequence[NormalizedName]]:
    """(folder on sys.path, path) -> distributions, for the files that several RECORDs list with
    different hashes."""
    common = _find_common(environment, rows)
    first: Dict[Tuple[str, str], Tuple[NormalizedName, str]] = {}
    shared: Dict[Tuple[str, str], List[NormalizedName]] = {}
    if not common:
        return shared
    for name, recorded in rows.items():
        location = str(environment.installed[name].location)
        for row in recorded:
            key = (location, row.path)
            if key not in common:
                continue
            other = first.setdefault(key, (name, row.hash))
            if other[0] != name and other[1] != row.hash:
                shared.setdefault(key, [other[0]]).append(name)
    return shared


def _find_common(environment: Environment, rows: Rows) -> Set[Tuple[str, str]]:
    """(folder on sys.path, path) of the files that several RECORDs list. Compared as sets, because
    torch alone has 12,000 files, and nearly always nothing is common."""
    listed: Dict[str, Set[str]] = {}
    common: Set[Tuple[str, str]] = set()
    for name, recorded in rows.items():
        location = str(environment.installed[name].location)
        before = listed.setdefault(location, set())
        paths = {row.path for row in recorded}
        common.update((location, path) for path in before & paths)
        before.update(paths)
    return common


def _compare(
    distribution: InstalledDistribution,
    rows: Sequence[Row],
    shared: Mapping[Tuple[str, str], Sequence[NormalizedName]],
    *,
    deep: bool,
) -> Optional[RecordState]:
    """The state of a distribution's files; None if every file is as recorded."""
    location = str(distribution.location)
    top = f"{location}{os.sep}"
    missing: List[str] = []
    changed: List[ChangedFile] = []
    closed: List[str] = []
    listings: Listings = {}
    for row in rows:
        file = _locate(top, row.path)
        try:
            if not _is_code(row.path) and not deep and not shared:
                _look_for(file, listings)
                continue
            status = _read_status(file)
        except PermissionError:
            closed.append(row.path)
            continue
        except (OSError, ValueError):
            missing.append(row.path)
            continue
        owners = shared.get((location, row.path), ()) if shared else ()
        has_other_size = _is_code(row.path) and not _has_size(status, row.size)
        if has_other_size or ((owners or deep) and not _has_hash(file, row.hash)):
            others = tuple(name for name in owners if name != distribution.name)
            changed.append(ChangedFile(row.path, others))
    if not missing and not changed and not closed:
        return None
    return RecordState(
        distribution.name,
        distribution.version,
        tuple(missing),
        tuple(changed),
        closed=tuple(closed),
    )


def _read_status(file: str) -> os.stat_result:
    """The status of a readable file. Errors: PermissionError if this user may not read it;
    OSError if it does not exist."""
    status = os.stat(file)
    # Nearly always everybody may read it, which saves the second system call.
    if not status.st_mode & stat.S_IROTH and not os.access(file, os.R_OK):
        raise PermissionError(file)
    return status


def _locate(top: str, path: str) -> str:
    """The absolute path of a recorded path. `top`: site-packages, with a separator at its end."""
    if path.startswith(os.sep):
        return path
    if not path.startswith(os.pardir):
        return top + path
    # "../../../bin/pip": the installer counted folders in the text, but where site-packages is a
    # link, the system follows the link first.
    normalized = os.path.normpath(top + path)
    return normalized if os.path.lexists(normalized) else top + path


def _has_size(status: os.stat_result, size: str) -> bool:
    """Is it a file of the recorded size? `size`: the text in the RECORD; one that is no number is
    ignored."""
    if not stat.S_ISREG(status.st_mode):
        return False
    return not size.isdecimal() or size == str(status.st_size)


def _look_for(file: str, listings: Listings) -> None:
    """Check that a file exists, by the listing of its folder: one listing serves all headers of a
    folder. Errors: PermissionError, FileNotFoundError."""
    folder, _, name = file.rpartition(os.sep)
    listing = _list_folder(folder, listings)
    if listing is None:
        raise PermissionError(folder)
    if name not in listing:
        raise FileNotFoundError(file)


def _list_folder(folder: str, listings: Listings) -> Optional[FrozenSet[str]]:
    """The names in a folder; None if this user may not list it."""
    if folder not in listings:
        try:
            listings[folder] = frozenset(os.listdir(folder))
        except PermissionError:
            listings[folder] = None
        except (OSError, ValueError):
            listings[folder] = frozenset()
    return listings[folder]


def _is_code(path: str) -> bool:
    return path.endswith(CODE_ENDINGS) or ".so." in path


def _has_hash(path: str, recorded: str) -> bool:
    """Does a file have the recorded hash? True if there is no SHA-256, or it cannot be read."""
    if not recorded.startswith("sha256="):
        return True
    import hashlib  # late: it loads OpenSSL, and is rarely needed

    if not os.path.isfile(path):
        return False  # not opened: reading a FIFO would wait for a writer
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while True:
                block = file.read(1 << 20)
                if not block:
                    return make_hash(digest.digest()) == recorded
                digest.update(block)
    except OSError:
        return True

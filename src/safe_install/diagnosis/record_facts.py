"""The files of every distribution, compared with its RECORD."""

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

# Files that are written anew by those who use them, or by the installer of another distribution.
REWRITTEN = ("direct_url.json", "INSTALLER", "REQUESTED", "RECORD")
BYTECODE = (".pyc", ".pyo")
# What writes a RECORD, or none, and then changes the files: strips them, moves programs.
SYSTEM_INSTALLERS = ("debian", "rpm", "apk", "conda")
SYSTEM_SITES = ("/usr/lib/python3/dist-packages",)  # Debian's, whose INSTALLER names none
# Others are edited on purpose: certificates of a company in certifi, settings.
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
    """The distributions whose files are not as their RECORDs say: by size, and by hash where two
    distributions brought the same file. `deep`: every file by its hash. `only`: of these.

    Editable ones are left out: nothing is promised of their files. So are those of the operating
    system and of conda, which patch and strip what a RECORD lists.
    """
    rows: Dict[NormalizedName, Sequence[Row]] = {}
    states: List[RecordState] = []
    for name in sorted(environment.installed):
        distribution = environment.installed[name]
        if distribution.editable or is_of_system(distribution) or not only(name):
            continue
        problem = _problem_of(distribution)
        if problem:
            states.append(RecordState(name, distribution.version, problem=problem))
        if not distribution.has_record:
            continue
        try:
            rows[name] = _read_rows(distribution)
            # Every RECORD lists at least the METADATA beside it.
            problem = "" if rows[name] else "its RECORD lists no file"
        except OSError as error:
            problem = f"its RECORD cannot be read: {error.strerror or error}"
        if problem:
            states.append(RecordState(name, distribution.version, problem=problem))
    owners = _find_shared(environment, rows)
    for name, recorded in rows.items():
        state = _compare(environment.installed[name], recorded, owners, deep=deep)
        if state is not None:
            states.append(state)
    return tuple(states)


def is_of_system(distribution: InstalledDistribution) -> bool:
    """Is it the operating system's, or conda's?"""
    if (distribution.installer or "").lower() in SYSTEM_INSTALLERS:
        return True
    return str(distribution.location) in SYSTEM_SITES


def _problem_of(distribution: InstalledDistribution) -> str:
    is_dist_info = distribution.metadata_path.name.endswith(".dist-info")
    if distribution.has_record or not is_dist_info:
        return ""
    return f"{distribution.metadata_path} has no RECORD"


def _read_rows(distribution: InstalledDistribution) -> Sequence[Row]:
    """The rows of files that stay as they were installed. Errors: OSError."""
    text = read_record_text(distribution.metadata_path) or ""
    entries = parse_record(text) if '"' in text else _split(text)
    found: List[Row] = []
    for path, written, size in entries:
        if not path.endswith(BYTECODE) and not path.endswith(REWRITTEN):
            found.append(Row(path, written, size))
    return found


def _split(text: str) -> Iterator[Tuple[str, str, str]]:
    """The rows of a RECORD in which nothing is quoted: ten thousands, so without a parser."""
    for line in text.split("\n"):
        cells = line.rstrip("\r").split(",")
        if len(cells) == 3 and cells[0] and "\0" not in line:
            yield cells[0], cells[1], cells[2]


def _find_shared(
    environment: Environment, rows: Rows
) -> Mapping[Tuple[str, str], Sequence[NormalizedName]]:
    """(folder on sys.path, path) of files that several RECORDs list, with different contents."""
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
    """What several RECORDs list. Sets of paths, because nearly always there is nothing: a torch has
    12,000 files."""
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
    """None where every file is as recorded."""
    location = str(distribution.location)
    top = f"{location}{os.sep}"
    missing: List[str] = []
    changed: List[ChangedFile] = []
    closed: List[str] = []
    listings: Listings = {}
    for path, written, size in rows:
        file = path if path.startswith(os.sep) else top + path
        if path.startswith(os.pardir):
            file = _leave(top, path)
        try:
            if not _is_code(path) and not deep and not shared:
                _look_for(file, listings)
                continue
            status = _read_status(file)
        except PermissionError:
            closed.append(path)
            continue
        except (OSError, ValueError):
            missing.append(path)
            continue
        names = shared.get((location, path), ()) if shared else ()
        is_other = _is_code(path) and not _has_size(status, size)
        if is_other or ((names or deep) and not _has_hash(file, written)):
            others = tuple(name for name in names if name != distribution.name)
            changed.append(ChangedFile(path, others))
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
    """Errors: PermissionError where this user may not read the file; OSError where it is not
    there."""
    status = os.stat(file)
    # Nearly always everybody may read it: then nothing more is asked of the system.
    if not status.st_mode & stat.S_IROTH and not os.access(file, os.R_OK):
        raise PermissionError(file)
    return status


def _leave(top: str, path: str) -> str:
    """A recorded path that leads out of site-packages: `../../../bin/pip`. Where that is a link, the
    system follows it first; the installer has counted the folders as they are written."""
    written = os.path.normpath(top + path)
    return written if os.path.lexists(written) else top + path


def _has_size(status: os.stat_result, size: str) -> bool:
    """`size`: as it is written; a folder in the place of a file has none. Compared as text: a RECORD
    may say anything."""
    if not stat.S_ISREG(status.st_mode):
        return False
    return not size.isdecimal() or size == str(status.st_size)


def _look_for(file: str, listings: Listings) -> None:
    """Is a file there whose size does not matter? One listing of a folder answers for all its
    headers. Errors: PermissionError, FileNotFoundError."""
    folder, _, name = file.rpartition(os.sep)
    listing = _list_folder(folder, listings)
    if listing is None:
        raise PermissionError(folder)
    if name not in listing:
        raise FileNotFoundError(file)


def _list_folder(folder: str, listings: Listings) -> Optional[FrozenSet[str]]:
    """The names in a folder; None where this user may not list it."""
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


def _has_hash(path: str, written: str) -> bool:
    """True where it cannot be told."""
    if not written.startswith("sha256="):
        return True
    import hashlib  # late: OpenSSL, for what is rarely asked

    if not os.path.isfile(path):
        return False  # something else in its place, which may be waited for without end
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while True:
                block = file.read(1 << 20)
                if not block:
                    return make_hash(digest.digest()) == written
                digest.update(block)
    except OSError:
        return True

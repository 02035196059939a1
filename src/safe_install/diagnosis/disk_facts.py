"""What lies on the disk of an environment, as the checks of `doctor` look at it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.diagnosis.facts import (
    CachedWheel,
    ChangedFile,
    CondaPackage,
    MetadataFolder,
    RecordState,
    Room,
    ShadowingLibrary,
)
from safe_install.environment.record import RecordEntry, parse_record, read_record_text
from safe_install.index.catalog import known_projects
from safe_install.models import Environment, InstalledDistribution
from safe_install.transaction.recovery.disk import is_bytecode
from safe_install.transaction.room import read_room
from safe_install.wheels.libraries import search_folders

NAME_AND_VERSION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info$")
HEADER_SIZE = 4096  # bytes of METADATA: name and version stand at its top
# What writes a RECORD and then changes the files: strips them, moves programs.
SYSTEM_INSTALLERS = ("debian", "rpm", "conda")
SYSTEM_SITES = ("/usr/lib/python3/dist-packages",)  # Debian's, whose INSTALLER names none
# Others are edited on purpose: certificates of a company in certifi, settings.
CODE_ENDINGS = (".py", ".so")
# Written anew by those who use them, or by the installer of another distribution.
REWRITTEN = ("direct_url.json", "INSTALLER", "REQUESTED", "RECORD")


def find_metadata(paths: Iterable[Path]) -> Tuple[MetadataFolder, ...]:
    """Every dist-info folder, in the order of sys.path; also those that are hidden, or broken."""
    found: List[MetadataFolder] = []
    for folder in paths:
        site = Path(os.path.realpath(folder))
        for name in _list_folder(folder):
            match = NAME_AND_VERSION.match(name)
            if match is None or name.startswith("~"):
                continue
            path = folder / name
            found.append(
                MetadataFolder(
                    path,
                    site,
                    canonicalize_name(match.group("name")),
                    match.group("version"),
                    _is_readable(path),
                )
            )
    return tuple(found)


def _list_folder(folder: Path) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_readable(folder: Path) -> bool:
    try:
        with open(folder / "METADATA", "rb") as file:
            head = file.read(HEADER_SIZE)
    except OSError:
        return False
    lines = (b"\n" + head).lower()
    return b"\nname:" in lines and b"\nversion:" in lines


# --- recorded files -------------------------------------------------------------------------------


def read_records(environment: Environment) -> Tuple[RecordState, ...]:
    """The distributions whose files are not as their RECORDs say, by sizes.

    Editable ones and those without a RECORD are left out: nothing is promised of their files. So
    are those of the operating system and of conda, which patch and strip what a RECORD lists.
    """
    rows: Dict[NormalizedName, Sequence[RecordEntry]] = {}
    states: List[RecordState] = []
    for name in sorted(environment.installed):
        distribution = environment.installed[name]
        if distribution.editable or not distribution.has_record or _is_of_system(distribution):
            continue
        try:
            rows[name] = tuple(parse_record(read_record_text(distribution.metadata_path) or ""))
        except OSError as error:
            problem = error.strerror or str(error)
            states.append(RecordState(name, distribution.version, problem=problem))
    for name, entries in rows.items():
        state = _compare(environment.installed[name], entries)
        if state is not None:
            states.append(_with_owners(state, environment, rows))
    return tuple(states)


def _is_of_system(distribution: InstalledDistribution) -> bool:
    if (distribution.installer or "").lower() in SYSTEM_INSTALLERS:
        return True
    return str(distribution.location) in SYSTEM_SITES


def _compare(
    distribution: InstalledDistribution, entries: Sequence[RecordEntry]
) -> Optional[RecordState]:
    """None where every file is as recorded."""
    top = str(distribution.location)
    missing: List[str] = []
    changed: List[ChangedFile] = []
    for entry in entries:
        if is_bytecode(entry.path) or entry.path.endswith(REWRITTEN):
            continue
        try:
            size = os.stat(os.path.join(top, entry.path)).st_size
        except OSError:
            missing.append(entry.path)
            continue
        is_code = entry.path.endswith(CODE_ENDINGS) or ".so." in entry.path
        if is_code and entry.size.isdigit() and size != int(entry.size):
            changed.append(ChangedFile(entry.path))
    if not missing and not changed:
        return None
    return RecordState(distribution.name, distribution.version, tuple(missing), tuple(changed))


def _with_owners(
    state: RecordState,
    environment: Environment,
    rows: Mapping[NormalizedName, Sequence[RecordEntry]],
) -> RecordState:
    """The same, with who else lists the changed files."""
    if not state.changed:
        return state
    location = environment.installed[state.name].location
    wanted = {file.path for file in state.changed}
    owners: Dict[str, List[NormalizedName]] = {}
    for name, entries in rows.items():
        if name == state.name or environment.installed[name].location != location:
            continue
        for entry in entries:
            if entry.path in wanted:
                owners.setdefault(entry.path, []).append(name)
    changed = [ChangedFile(file.path, tuple(owners.get(file.path, ()))) for file in state.changed]
    return RecordState(state.name, state.version, state.missing, tuple(changed))


# --- libraries ------------------------------------------------------------------------------------


def find_shadowing(
    environment: Environment, variables: Mapping[str, str]
) -> Tuple[ShadowingLibrary, ...]:
    """Libraries in the folders of LD_LIBRARY_PATH that have the name of one of torch's own."""
    folders = [Path(folder) for folder in search_folders(dict(variables))]
    if not folders or environment.torch is None:
        return ()
    own = _own_libraries(environment)
    own_folders = {os.path.realpath(path.parent) for path in own.values()}
    found: Dict[str, ShadowingLibrary] = {}
    for folder in folders:
        if os.path.realpath(folder) in own_folders:
            continue
        for name in _list_folder(folder):
            if name in own and name not in found:
                found[name] = ShadowingLibrary(name, folder / name, own[name])
    return tuple(found.values())


def _own_libraries(environment: Environment) -> Dict[str, Path]:
    """torch's own libraries by name: torch/lib, and the lib folders of the nvidia packages."""
    folders: List[Path] = []
    if environment.torch is not None and environment.torch.lib_dir is not None:
        folders.append(environment.torch.lib_dir)
    for site in environment.interpreter.paths:
        folders += sorted(site.glob("nvidia/*/lib"))
    own: Dict[str, Path] = {}
    for folder in folders:
        for name in _list_folder(folder):
            if ".so" in name:
                own.setdefault(name, folder / name)
    return own


# --- around it ------------------------------------------------------------------------------------


def read_rooms(folders: Iterable[Path]) -> Tuple[Room, ...]:
    """Free space on each file system once; of a folder that is not there, its parent's."""
    rooms: List[Room] = []
    seen = set()
    for folder in folders:
        present = folder
        while not present.exists() and present != present.parent:
            present = present.parent
        try:
            device = os.stat(present).st_dev
            room = read_room(present)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            rooms.append(Room(present, room.size))
    return tuple(rooms)


def read_conda(prefix: Path) -> Tuple[CondaPackage, ...]:
    """What conda recorded of torch and MKL."""
    packages: List[CondaPackage] = []
    for pattern in ("pytorch-*.json", "libtorch-*.json", "mkl-*.json"):
        for path in sorted((prefix / "conda-meta").glob(pattern)):
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
                package = CondaPackage(value["name"], value["version"], str(value.get("build", "")))
            except (OSError, ValueError, KeyError, TypeError):
                continue
            packages.append(package)
    return tuple(packages)


def find_cached_wheels(
    variables: Mapping[str, str], settings: Mapping[str, str]
) -> Tuple[CachedWheel, ...]:
    """The wheels in pip's cache of projects that the wheel index knows.

    Facts: pip.pypa.io/en/stable/topics/caching: below `wheels` lie those that pip built itself.
    """
    chosen = settings.get("cache-dir")
    home = Path(variables.get("HOME", "~")).expanduser()
    cache = Path(variables.get("XDG_CACHE_HOME") or home / ".cache")
    folder = Path(chosen) if chosen else cache / "pip"
    known = known_projects()
    found: List[CachedWheel] = []
    for path in sorted(folder.glob("wheels/*/*/*/*/*.whl")):
        name, _, rest = path.name.partition("-")
        project = canonicalize_name(name)
        if project in known:
            found.append(CachedWheel(path, project, rest.partition("-")[0]))
    return tuple(found)

"""Reads the files of an environment for the checks of `doctor`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.diagnosis.facts import (
    CachedWheel,
    CondaPackage,
    ForeignWheel,
    FreeSpace,
    LockFile,
    LostSource,
    MetadataFolder,
    OtherPython,
    ShadowingLibrary,
)
from safe_install.diagnosis.record_facts import is_of_system
from safe_install.environment.record import read_plain_file
from safe_install.folders import find_home
from safe_install.models import Environment, InstalledDistribution, Interpreter, Scheme
from safe_install.requirements import is_version
from safe_install.torch_family import TORCH
from safe_install.wheels.libraries import search_folders

NAME_AND_VERSION = re.compile(r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info$")
NAME_LINE = re.compile(rb"(?mi)^Name:")
VERSION_LINE = re.compile(rb"(?mi)^Version:(.*)$")
HEADER_SIZE = 4096  # bytes of METADATA; name and version are at its top


def find_metadata(paths: Iterable[Path]) -> Tuple[MetadataFolder, ...]:
    """All dist-info folders in the order of sys.path, including hidden and broken ones."""
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


def find_unreadable(paths: Iterable[Path]) -> Tuple[Path, ...]:
    """The folders of sys.path that this user may not list."""
    return tuple(path for path in paths if path.is_dir() and not os.access(path, os.R_OK | os.X_OK))


def find_closed(paths: Iterable[Path]) -> Tuple[Path, ...]:
    """Folders of torch and dist-info folders that this user may not read, or whose METADATA he may
    not read: root installed them with a narrow umask."""
    found: List[Path] = []
    for folder in paths:
        for name in _list_folder(folder):
            if name == TORCH or name.endswith(".dist-info"):
                path = folder / name
                if path.is_dir() and not _is_open(path):
                    found.append(path)
    return tuple(found)


def _is_open(folder: Path) -> bool:
    if not os.access(folder, os.R_OK | os.X_OK):
        return False
    metadata = folder / "METADATA"
    return not metadata.exists() or os.access(metadata, os.R_OK)


def _list_folder(folder: Path) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_readable(folder: Path) -> bool:
    try:
        # O_NONBLOCK: opening a FIFO would wait for a writer.
        descriptor = os.open(folder / "METADATA", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        head = os.read(descriptor, HEADER_SIZE)
    except OSError:  # a folder, or a FIFO that has no writer
        return False
    finally:
        os.close(descriptor)
    found = VERSION_LINE.search(head)
    return (
        NAME_LINE.search(head) is not None
        and found is not None
        and is_version(found.group(1).decode("utf-8", "replace"))
    )


def find_other_pythons(interpreter: Interpreter) -> Tuple[OtherPython, ...]:
    """The site-packages of a virtual environment for other versions of Python. They are left where
    the Python of the environment was replaced."""
    if not interpreter.is_virtual:
        return ()
    own = {os.path.realpath(path) for path in interpreter.paths}
    found: List[OtherPython] = []
    for folder in sorted(interpreter.prefix.glob("lib/python3.*/site-packages")):
        if os.path.realpath(folder) in own:
            continue
        matches = [NAME_AND_VERSION.match(name) for name in _list_folder(folder)]
        names = sorted({canonicalize_name(match.group("name")) for match in matches if match})
        if names:
            version = folder.parent.name[len("python") :]
            found.append(OtherPython(folder, version, tuple(names)))
    return tuple(found)


TAG = re.compile(r"(?m)^Tag:[ \t]*([^\s-]+-[^\s-]+-[^\s-]+)[ \t\r]*$")


def find_foreign_wheels(
    distributions: Iterable[InstalledDistribution], interpreter: Interpreter
) -> Tuple[ForeignWheel, ...]:
    """Distributions without a wheel tag for this Python and machine: their files were copied from
    another environment."""
    found: List[ForeignWheel] = []
    for distribution in distributions:
        if distribution.editable or is_of_system(distribution):
            continue
        try:
            content = read_plain_file(distribution.metadata_path / "WHEEL") or b""
        except OSError:
            continue
        made_for = []
        for tag_set in TAG.findall(content.decode("utf-8", "replace")):
            made_for += [made_elsewhere(tag, interpreter) for tag in parse_tag(tag_set)]
        if made_for and all(made_for):
            found.append(ForeignWheel(distribution.name, distribution.version, made_for[0]))
    return tuple(found)


def made_elsewhere(tag: Tag, interpreter: Interpreter) -> str:
    """The other Python or other kind of machine for which a wheel was made; "" if it was made
    for this one. The version of the C library is not compared."""
    abi = re.match(r"cp(\d)(\d+)", tag.abi)
    if abi is not None and tag.interpreter != interpreter.python_tag:
        return f"Python {abi.group(1)}.{abi.group(2)}"
    system, _, machine = interpreter.platform.partition("_")
    is_same = system in tag.platform and tag.platform.endswith(machine)
    if tag.platform == "any" or system != "linux" or is_same:
        return ""
    return tag.platform


def find_unwritable(scheme: Scheme) -> Tuple[Path, ...]:
    """The site-packages folders to which this user may not write, or the torch in them: `sudo pip
    install` leaves a torch of root in a folder of the user."""
    found: List[Path] = []
    for site in dict.fromkeys((scheme.purelib, scheme.platlib)):
        for folder in (site, site / TORCH):
            if folder.is_dir() and not os.access(folder, os.W_OK):
                found.append(folder)
                break
    return tuple(found)


# --- libraries ------------------------------------------------------------------------------------


def find_shadowing(
    environment: Environment, variables: Mapping[str, str]
) -> Tuple[ShadowingLibrary, ...]:
    """Libraries in the folders of LD_LIBRARY_PATH with the name of one of torch's own libraries."""
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
    """Name -> path of torch's own libraries, in torch/lib and in nvidia's lib folders."""
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


# --- around the environment -----------------------------------------------------------------------


def read_rooms(folders: Iterable[Path]) -> Tuple[FreeSpace, ...]:
    """The free space of these folders, once for each file system. For a missing folder its nearest
    parent counts."""
    rooms: List[FreeSpace] = []
    seen = set()
    for folder in folders:
        present = folder
        # a home of somebody else counts as not there
        while not os.path.exists(present) and present != present.parent:
            present = present.parent
        try:
            device = os.stat(present).st_dev
            status = os.statvfs(present)
        except OSError:
            continue
        if device not in seen:
            seen.add(device)
            free = status.f_bavail * status.f_frsize
            rooms.append(FreeSpace(present, free, status.f_favail if status.f_files else None))
    return tuple(rooms)


# Lock file -> the tool that syncs the .venv beside it.
LOCK_FILES = {"uv.lock": "uv", "poetry.lock": "poetry", "pdm.lock": "pdm"}


def find_lock_files(prefix: Path) -> Tuple[LockFile, ...]:
    """The lock files of the project whose .venv (or pixi's .pixi/envs/NAME) this is."""
    found: List[LockFile] = []
    if prefix.name == ".venv":
        for name, tool in LOCK_FILES.items():
            if (prefix.parent / name).is_file():
                found.append(LockFile(prefix.parent / name, tool))
    if prefix.parent.name == "envs" and prefix.parent.parent.name == ".pixi":
        path = prefix.parent.parent.parent / "pixi.lock"
        if path.is_file():
            found.append(LockFile(path, "pixi"))
    return tuple(found)


def find_lost_sources(distributions: Iterable[InstalledDistribution]) -> Tuple[LostSource, ...]:
    """Editable installs whose folder is missing."""
    found: List[LostSource] = []
    for distribution in distributions:
        folder = _source_here(distribution)
        if distribution.editable and folder is not None and not os.path.exists(folder):
            found.append(LostSource(distribution.name, distribution.version, folder))
    return tuple(found)


def find_lost_archives(
    distributions: Iterable[InstalledDistribution],
) -> FrozenSet[NormalizedName]:
    """Distributions that were installed from a local file or folder which no longer exists."""
    found = set()
    for distribution in distributions:
        source = _source_here(distribution)
        if source is not None and not os.path.exists(source):
            found.add(distribution.name)
    return frozenset(found)


def _source_here(distribution: InstalledDistribution) -> Optional[Path]:
    return path_of_address(str((distribution.direct_url or {}).get("url", "")))


def path_of_address(address: str) -> Optional[Path]:
    """The path of a `file:` URL; None for other texts."""
    if not address.startswith("file:"):
        return None
    try:
        return Path(unquote(urlsplit(address).path))
    except ValueError:  # "file://["
        return None


def read_conda(prefix: Path) -> Tuple[CondaPackage, ...]:
    """conda's records of torch and MKL."""
    packages: List[CondaPackage] = []
    for pattern in ("pytorch-*.json", "libtorch-*.json", "mkl-*.json"):
        for path in sorted((prefix / "conda-meta").glob(pattern)):
            package = _read_conda_package(path)
            if package is not None:
                packages.append(package)
    return tuple(packages)


def _read_conda_package(path: Path) -> Optional[CondaPackage]:
    try:
        value = json.loads(read_plain_file(path) or b"")
    except (OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    name, version = value.get("name"), value.get("version")
    if not isinstance(name, str) or not isinstance(version, str):
        return None
    return CondaPackage(name, version, str(value.get("build", "")))


def find_cached_wheels(
    variables: Mapping[str, str], settings: Mapping[str, str]
) -> Tuple[CachedWheel, ...]:
    """Wheels in pip's cache of projects that the wheel index has.

    Fact: the folder `wheels` of the cache has the wheels that pip built itself
    (pip.pypa.io/en/stable/topics/caching).
    """
    chosen = settings.get("cache-dir")
    home = find_home(variables)
    cache = Path(variables.get("XDG_CACHE_HOME") or home / ".cache")
    folder = Path(chosen) if chosen else cache / "pip"
    # Path.glob raises where the folder may not be looked for, as in somebody else's home.
    paths = sorted(folder.glob("wheels/*/*/*/*/*.whl")) if os.path.isdir(folder) else []
    if not paths:
        return ()
    from safe_install.index.catalog import known_projects  # slow: a tenth of `doctor --quick`

    known = known_projects()
    found: List[CachedWheel] = []
    for path in paths:
        name, _, rest = path.name.partition("-")
        project = canonicalize_name(name)
        if project in known:
            found.append(CachedWheel(path, project, rest.partition("-")[0]))
    return tuple(found)

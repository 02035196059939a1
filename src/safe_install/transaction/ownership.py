"""Finds the owner of each file by the RECORDs, which are read once, and only as far as a change
needs.

A row is trusted only where its resolved directory is one of the environment's own. pip removes
whatever a row names (measured with pip 26.3: outside of a virtual environment any file of the
machine).
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from safe_install.environment.record import (
    parse_record,
    parse_rows,
    read_record,
    read_record_text,
    split_rows,
)
from safe_install.models import InstalledDistribution
from safe_install.transaction.eggs import find_egg_files, find_egg_link, walk_paths
from safe_install.transaction.moves import Areas, MoveRefusal, is_within, is_within_any
from safe_install.transaction.recovery.records import has_hash
from safe_install.transaction.walk import walk_files

# `name.cpython-311.pyc`, `name.cpython-311.opt-1.pyc`, `name.pypy39.pyc`
_CACHED = re.compile(r"(.+)\.[a-z]+-?\d+[a-z]*(?:\.opt-\w+)?\.pyc")
_OUTSIDE = ".."  # the first component of paths that do not begin in a site directory


class Resolver:
    """Rows of RECORD -> real paths, with one `realpath` call for each directory, not for each
    row."""

    def __init__(self) -> None:
        self._directories: Dict[str, str] = {}

    def resolve(self, location: str, row: str) -> Optional[str]:
        """The path that a row names, its parent without symbolic links; None if it names no
        file."""
        directory, _, name = row.rpartition("/")
        if name in ("", ".", ".."):
            return None
        parent = os.path.join(location, directory) if directory or row.startswith("/") else location
        if row.startswith("/"):
            parent = directory or "/"
        real = self._directories.get(parent)
        if real is None:
            real = self._directories[parent] = os.path.realpath(parent)
        return os.path.join(real, name)


def read_hashes(metadata_folders: Iterable[str]) -> Dict[str, str]:
    """Real path -> hash of every row that has one, in the RECORDs of these folders."""
    resolver, found = Resolver(), {}
    for folder in metadata_folders:
        for entry in read_record(Path(folder)):
            path = resolver.resolve(os.path.dirname(folder), entry.path)
            if path is not None and entry.hash:
                found[path] = entry.hash
    return found


def has_recorded_content(path: str, recorded: Mapping[str, str]) -> bool:
    """Does a file have its hash in `recorded`? False if it is not listed there."""
    return path in recorded and has_hash(path, recorded[path])


class Ownership:
    """The owner of each path among the distributions that stay."""

    def __init__(
        self, keep: Sequence[InstalledDistribution], areas: Areas, resolver: Resolver
    ) -> None:
        self._keep, self._areas, self._resolver = keep, areas, resolver
        self._rows: Optional[List[Tuple[InstalledDistribution, List[str]]]] = None  # not yet parsed
        self._loaded: Set[str] = set()
        self._owners: Dict[str, str] = {}

    def load(self, tops: Set[str]) -> None:
        """Read the owners of everything below these names in site-packages (".." for paths
        outside)."""
        missing = tops - self._loaded
        if not missing:
            return
        self._loaded |= missing
        if self._rows is None:
            self._rows = [(item, _read_rows(item)) for item in self._keep]
        for distribution, rows in self._rows:
            location = str(distribution.location)
            chosen = (row for row in rows if find_top(row) in missing)
            for entry in parse_rows(chosen):
                path = self._resolver.resolve(location, entry.path)
                if path is not None:
                    self._owners.setdefault(path, str(distribution.name))

    def find_owner(self, path: str) -> Optional[str]:
        """The name of a remaining distribution that lists `path`, or None."""
        # A row may name a file of site-packages by its absolute path.
        self.load({self._find_top_of_path(path), _OUTSIDE})
        return self._owners.get(path)

    def _find_top_of_path(self, path: str) -> str:
        for site in self._areas.sites:
            if is_within(path, site):
                return path[len(site) + 1 :].split("/", 1)[0]
        return _OUTSIDE


def _read_rows(distribution: InstalledDistribution) -> List[str]:
    return split_rows(read_record_text(distribution.metadata_path) or "")


def find_top(row: str) -> str:
    """The first component of a path in RECORD; ".." for a path outside of site-packages."""
    if row.startswith('"'):
        path = next((entry.path for entry in parse_rows([row])), "")
    else:
        path = row.partition(",")[0].rstrip("\r\n")
    top = path.partition("/")[0]
    return top if top not in ("", ".") else _OUTSIDE


def find_old_files(
    remove: Sequence[InstalledDistribution], areas: Areas, ownership: Ownership, resolver: Resolver
) -> Union[Set[str], MoveRefusal]:
    """The existing files of these distributions: the rows of RECORD, their bytecode, and the whole
    dist-info; or a refusal."""
    old: Set[str] = set()
    for distribution in remove:
        refusal = find_refusal(distribution, areas)
        if refusal is not None:
            return refusal
        if not str(distribution.metadata_path).endswith(".dist-info"):
            old.update(_find_egg_paths(distribution, areas, resolver))
            continue
        rows = _read_rows(distribution)
        ownership.load({find_top(row) for row in rows})
        for entry in parse_rows(rows):
            path = resolver.resolve(str(distribution.location), entry.path)
            if path is not None and _is_trusted(path, bool(entry.hash), areas):
                old.add(path)
        old.update(walk_files(os.path.realpath(str(distribution.metadata_path))))
    old = {path for path in old if _is_file(path) and ownership.find_owner(path) is None}
    old.update(_find_bytecode(old, areas, ownership))
    return old


def _find_egg_paths(
    distribution: InstalledDistribution, areas: Areas, resolver: Resolver
) -> Iterator[str]:
    """The files of a distribution without dist-info, as far as they are scripts or in
    site-packages."""
    found = find_egg_files(distribution, areas)
    for written in walk_paths(found.paths) if found is not None else ():
        path = resolver.resolve("/", written)
        if path is None or path in areas.structure or areas.find_objection(path) is not None:
            continue
        if os.path.dirname(path) == areas.scripts or is_within_any(path, areas.sites):
            yield path


def find_overwritten(
    targets: Iterable[str],
    beside: Sequence[InstalledDistribution],
    areas: Areas,
    ownership: Ownership,
    resolver: Resolver,
) -> Set[str]:
    """The existing files among `targets` that the distributions `beside` lose, because a new one is
    installed over them (pip --ignore-installed).

    For a distribution without a RECORD these are all files that no other distribution lists.
    """
    listed: Set[str] = set()
    has_unlisted = False
    for distribution in beside:
        record = read_record_text(distribution.metadata_path)
        has_unlisted = has_unlisted or record is None
        for entry in parse_record(record or ""):
            path = resolver.resolve(str(distribution.location), entry.path)
            if path is not None:
                listed.add(path)
    found: Set[str] = set()
    for target in targets:
        path = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
        is_theirs = has_unlisted or path in listed
        if not is_theirs or not _is_file(path) or areas.find_objection(path) is not None:
            continue
        if ownership.find_owner(path) is None:
            found.add(path)
    found.update(_find_bytecode(found, areas, ownership))
    return found


def _is_trusted(path: str, has_hash: bool, areas: Areas) -> bool:
    if areas.find_objection(path) is not None or path in areas.structure:
        return False
    return has_hash or is_within_any(path, areas.sites)


def find_refusal(distribution: InstalledDistribution, areas: Areas) -> Optional[MoveRefusal]:
    """Why a distribution cannot be removed from here; None if it can."""
    folder = os.path.realpath(str(distribution.metadata_path))
    name = f"{distribution.name} {distribution.version}"
    if distribution.editable and find_egg_link(distribution, areas) is not None:
        return None
    if not is_within_any(folder, areas.sites):
        return MoveRefusal(
            folder,
            f"holds {name}, outside of the environment's site-packages",
            "It was installed elsewhere (a system or user directory): remove it there with the "
            "tool that installed it, or leave it there and install beside it: --ignore-installed.",
        )
    if not folder.endswith(".dist-info"):
        if find_egg_files(distribution, areas) is not None:
            return None
        return _refuse_without_list(distribution, folder)
    if not os.path.isfile(os.path.join(folder, "RECORD")):
        return _refuse_without_record(distribution, folder)
    return None


def _refuse_without_list(distribution: InstalledDistribution, folder: str) -> MoveRefusal:
    name = f"{distribution.name} {distribution.version}"
    return MoveRefusal(
        folder,
        f"is all that distutils left of {name}: Cannot uninstall {name}, nothing says which files "
        "belong to it",
        "Leave it there and install over it: "
        f"safe-install install --ignore-installed {distribution.name}.",
    )


def _refuse_without_record(distribution: InstalledDistribution, folder: str) -> MoveRefusal:
    """The refusal, with pip's message."""
    spelled = os.path.basename(folder)[: -len(".dist-info")].rpartition("-")[0]
    hint = (
        f"You might be able to recover from this via: "
        f"pip install --ignore-installed --no-deps {spelled}=={distribution.version}"
    )
    installer = distribution.installer or ""
    # An INSTALLER that is not UTF-8 is ignored.
    if installer not in ("", "pip") and "\ufffd" not in installer:
        hint = f"The package was installed by {installer}."
    return MoveRefusal(
        folder,
        f"has no RECORD. Cannot uninstall {spelled} {distribution.version}: "
        f"no RECORD file was found for {spelled}, and so its files are not known",
        hint,
    )


def _is_file(path: str) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def _find_bytecode(old: Set[str], areas: Areas, ownership: Ownership) -> Iterator[str]:
    """The cached bytecode of removed modules, and bytecode without a source in their packages."""
    for directory in {os.path.dirname(path) for path in old if path.endswith(".py")}:
        cache = os.path.join(directory, "__pycache__")
        if os.path.islink(cache) or not os.path.isdir(cache):
            continue
        for name in os.listdir(cache):
            match = _CACHED.fullmatch(name)
            if match is None:
                continue
            source = os.path.join(directory, match.group(1) + ".py")
            path = os.path.join(cache, name)
            is_left = directory not in areas.sites and not os.path.lexists(source)
            if (source in old or is_left) and ownership.find_owner(path) is None:
                yield path


def find_conda_package(distribution: InstalledDistribution, prefix: str) -> Optional[str]:
    """The conda package that installed a distribution; None if conda did not install it."""
    database = os.path.join(prefix, "conda-meta")
    folder = os.path.relpath(os.path.realpath(str(distribution.metadata_path)), prefix)
    listed = [f'"{folder}/{name}"'.encode() for name in ("METADATA", "PKG-INFO")]
    names = os.listdir(database) if os.path.isdir(database) else []
    for name in sorted(name for name in names if name.endswith(".json")):
        try:
            with open(os.path.join(database, name), "rb") as file:
                content = file.read()
            if any(path in content for path in listed):
                return str(json.loads(content.decode("utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    is_of_conda = (distribution.installer or "").strip().lower() == "conda"
    return str(distribution.name) if is_of_conda else None

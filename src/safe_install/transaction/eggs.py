"""The files of distributions that setuptools installed without a RECORD: egg-info folders, eggs,
development installs (egg-link).

The rules of `pip uninstall`: installed-files.txt, else the packages in top_level.txt; the folder of
an egg; the egg-link of a development install, whose sources stay; the scripts in entry_points.txt;
the line in easy-install.pth. An egg-info that is a file (distutils) lists no files.
"""

from __future__ import annotations

import os
from configparser import Error as ConfigError
from configparser import RawConfigParser
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from packaging.utils import canonicalize_name

from safe_install.models import InstalledDistribution
from safe_install.transaction.moves import Areas
from safe_install.transaction.walk import walk_files

EASY_INSTALL = "easy-install.pth"


class EggFiles(NamedTuple):
    """What is removed with a distribution. Paths are not resolved, and need not exist."""

    paths: Tuple[str, ...]  # files and folders
    line: Optional[str] = None  # of easy-install.pth


def find_egg_files(distribution: InstalledDistribution, areas: Areas) -> Optional[EggFiles]:
    """The files of a distribution without a dist-info folder; None if they are not listed
    anywhere."""
    folder = str(distribution.metadata_path)
    commands = _find_commands(folder, areas)
    if distribution.editable:
        link = find_egg_link(distribution, areas)
        source = (_read_lines(link) or [""])[0] if link is not None else ""
        return EggFiles((link, *commands), source) if link is not None else None
    if os.path.basename(folder) == "EGG-INFO":
        egg = os.path.dirname(folder)
        return EggFiles((egg, *commands), f"./{os.path.basename(egg)}")
    if not folder.endswith(".egg-info") or not os.path.isdir(folder):
        return None
    listed = _read_lines(os.path.join(folder, "installed-files.txt"))
    if listed is not None:
        paths = [os.path.normpath(os.path.join(folder, line)) for line in listed]
        return EggFiles((folder, *paths, *commands))
    packages = _find_packages(folder)
    return None if packages is None else EggFiles((folder, *packages, *commands))


def find_egg_link(distribution: InstalledDistribution, areas: Areas) -> Optional[str]:
    """The egg-link file of a development install; None if there is none."""
    for site in filter(os.path.isdir, areas.sites):
        for name in sorted(os.listdir(site)):
            stem, ending = os.path.splitext(name)
            if ending == ".egg-link" and canonicalize_name(stem) == distribution.name:
                return os.path.join(site, name)
    return None


def find_path_edits(
    distributions: Sequence[InstalledDistribution], areas: Areas
) -> Dict[str, bytes]:
    """The new contents of each easy-install.pth, without the lines of these distributions."""
    lines: Set[str] = set()
    for distribution in distributions:
        found = None if _has_dist_info(distribution) else find_egg_files(distribution, areas)
        if found is not None and found.line:
            lines.add(found.line)
            if found.line.startswith("/"):
                lines.add(os.path.realpath(found.line))
    if not lines:
        return {}
    edits: Dict[str, bytes] = {}
    for site in areas.sites:
        path = os.path.join(site, EASY_INSTALL)
        if not os.path.isfile(path) or os.path.islink(path):
            continue
        with open(path, "rb") as file:
            content = file.read().splitlines(True)
        kept = [line for line in content if os.fsdecode(line.strip()) not in lines]
        if len(kept) < len(content):
            edits[path] = b"".join(kept)
    return edits


def find_missing_path_file(distribution: InstalledDistribution) -> Optional[Path]:
    """The easy-install.pth of a development install if it is missing. Another .pth may then
    name the sources, and would still do so after the removal."""
    if not distribution.editable or _has_dist_info(distribution):
        return None
    path = distribution.location / EASY_INSTALL
    return None if path.is_file() else path


def _has_dist_info(distribution: InstalledDistribution) -> bool:
    return str(distribution.metadata_path).endswith(".dist-info")


def walk_paths(paths: Iterable[str]) -> Iterator[str]:
    """The files among `paths`, and all files below its folders; links are not followed."""
    for path in paths:
        if os.path.islink(path) or not os.path.isdir(path):
            yield path
        else:
            yield from walk_files(path)


def _find_packages(folder: str) -> Optional[List[str]]:
    """The packages and modules in top_level.txt, without namespace packages that are shared."""
    names = _read_lines(os.path.join(folder, "top_level.txt"))
    if names is None:
        return None
    shared = _read_lines(os.path.join(folder, "namespace_packages.txt")) or []
    found: List[str] = []
    for name in names:
        if name not in shared and name.isidentifier():
            path = os.path.join(os.path.dirname(folder), name)
            found += [path, f"{path}.py", f"{path}.pyc", f"{path}.pyo"]
    return found


def _find_commands(folder: str, areas: Areas) -> List[str]:
    """The paths of the scripts in entry_points.txt and in the folder `scripts`."""
    parser = RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    names: Set[str] = set()
    try:
        parser.read(os.path.join(folder, "entry_points.txt"), encoding="utf-8")
    except (ConfigError, UnicodeDecodeError):
        return []
    for section in ("console_scripts", "gui_scripts"):
        if parser.has_section(section):
            names.update(parser.options(section))
    scripts = os.path.join(folder, "scripts")
    names.update(os.listdir(scripts) if os.path.isdir(scripts) else [])
    return [os.path.join(areas.scripts, name) for name in sorted(names) if "/" not in name]


def _read_lines(path: str) -> Optional[List[str]]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [line.strip() for line in file if line.strip()]
    except (FileNotFoundError, NotADirectoryError):
        return None

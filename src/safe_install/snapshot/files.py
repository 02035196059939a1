"""Finds sources of installed files on disk."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional

from packaging.tags import Tag, parse_tag
from packaging.utils import NormalizedName

from safe_install.environment.record import RecordEntry, parse_record, read_record
from safe_install.models import Environment, InstalledDistribution, Link
from safe_install.snapshot.sources import InstalledFiles, is_named_by, path_of_url
from safe_install.snapshot.values import FileSource
from safe_install.wheels.archive import hash_file
from safe_install.wheels.fetch import FirstSeenFile, find_local_path, first_seen_folder
from safe_install.wheels.store import WheelStore

# Files that an installer writes or changes.
REWRITTEN = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
MAX_METADATA = 16 * 2**20  # bytes


def read_installed_files(folder: Path) -> InstalledFiles:
    """The facts in a dist-info folder about the wheel; empty if they cannot be read."""
    wheel = _read(folder / "WHEEL").decode("utf-8", "replace")
    metadata = _read(folder / "METADATA")
    tags: List[Tag] = []
    for line in wheel.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "tag":
            tags += _parse_tags(value.strip())
    sha256 = hashlib.sha256(metadata).hexdigest() if metadata else ""
    return InstalledFiles(frozenset(tags), sha256)


def _parse_tags(text: str) -> FrozenSet[Tag]:
    try:
        return parse_tag(text)
    except ValueError:
        return frozenset()


def _read(path: Path) -> bytes:
    """The content of a file; empty if it is missing, larger than MAX_METADATA, or unreadable."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_METADATA:
            return b""
        return path.read_bytes()
    except OSError:
        return b""


def find_built(
    distribution: InstalledDistribution, environment: Environment, store: WheelStore
) -> Optional[FileSource]:
    """The installed wheel in our store if its RECORD matches the installed files."""
    if not (store.folder / distribution.name).is_dir():
        return None
    for candidate in store.find(distribution.name, environment):
        path = find_local_path(candidate.link.url)
        if path is None or not has_wheel_of(path, distribution):
            continue
        link = candidate.link
        return FileSource(str(path), path.name, str(link.sha256), link.size, is_built_here=True)
    return None


def find_named(distribution: InstalledDistribution) -> Optional[FileSource]:
    """The local wheel that a direct_url.json names without a hash (uv writes none) if it still
    matches the installed files."""
    url = str((distribution.direct_url or {}).get("url", ""))
    path = Path(path_of_url(url))
    is_here = url.startswith("file:") and path.suffix == ".whl" and path.is_file()
    if not is_here or not has_wheel_of(path, distribution):
        return None
    return FileSource(str(path), path.name, hash_file(path), path.stat().st_size)


def has_wheel_of(wheel: Path, distribution: InstalledDistribution) -> bool:
    """Do the installed files match a wheel, by both RECORDs?"""
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/RECORD")]
            text = archive.read(name).decode("utf-8", "surrogateescape")
        return is_same_content(read_record(distribution.metadata_path), parse_record(text))
    except (OSError, ValueError, zipfile.BadZipFile, KeyError):
        return False


def is_same_content(installed: Iterable[RecordEntry], wheel: Iterable[RecordEntry]) -> bool:
    """Does each file of the wheel have the same hash in the environment? Metadata and scripts are
    ignored, because installers rewrite them."""
    present = _hashes_of(installed)
    expected = _hashes_of(wheel)
    plain = {path: value for path, value in expected.items() if ".data/" not in path}
    return bool(plain) and all(present.get(path) == value for path, value in plain.items())


def _hashes_of(entries: Iterable[RecordEntry]) -> Mapping[str, str]:
    found: Dict[str, str] = {}
    for entry in entries:
        is_rewritten = entry.path.rpartition("/")[2] in REWRITTEN
        if entry.hash and not is_rewritten and not entry.path.endswith(".pyc"):
            found[entry.path] = entry.hash
    return found


def read_wheels_of(folder: Path, name: NormalizedName, version: str) -> Iterator[Link]:
    """The wheels of this name and version in a folder, as links with hashes."""
    for path in sorted(folder.glob("*.whl")):
        if is_named_by(path.name, name, version):
            sha256, size = hash_file(path), path.stat().st_size
            metadata = _hash_of_metadata(path)
            yield Link(path.as_uri(), path.name, sha256=sha256, size=size, metadata=metadata)


def _hash_of_metadata(wheel: Path) -> str:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            (name,) = [one for one in names if one.endswith(".dist-info/METADATA")]
            return hashlib.sha256(archive.read(name)).hexdigest()
    except (OSError, ValueError, zipfile.BadZipFile, KeyError):
        return ""


def find_first_seen(url: str) -> Optional[str]:
    """The SHA-256 that a URL had when it was first fetched; None if it never was."""
    seen = FirstSeenFile(first_seen_folder(), url).read()
    return None if seen is None else seen.sha256

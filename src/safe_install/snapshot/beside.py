"""The files of a snapshot beside the document that names them."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from safe_install.errors import Refused
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    Snapshot,
)
from safe_install.system.atomic_write import replacing_file

BLOCK = 1 << 20  # bytes


def put_files_beside(snapshot: Snapshot, wheels: Path, document: Path) -> Snapshot:
    """Copy the files that only this machine has into `wheels`, and name them relative to the folder
    `document`. Errors: Refused, where one is not the file that was installed."""
    wheels.mkdir(parents=True, exist_ok=True)
    found = tuple(_copied(one, wheels, document) for one in snapshot.distributions)
    return replace(snapshot, distributions=found)


def _copied(one: RecordedDistribution, wheels: Path, document: Path) -> RecordedDistribution:
    source = one.source
    if not isinstance(source, FileSource):
        return one
    target = wheels / source.filename
    _copy(Path(source.path), target, source.sha256)
    size = target.stat().st_size
    return replace(one, source=replace(source, path=_relative(target, document), size=size))


def _copy(path: Path, target: Path, sha256: str) -> None:
    if target.is_file() and _hash_of(target) == sha256:
        return
    with path.open("rb") as stream, replacing_file(target) as copy:
        shutil.copyfileobj(stream, copy, BLOCK)
    if _hash_of(target) != sha256:
        target.unlink()
        raise Refused(
            f"{path} is not the file that was installed any more: its sha256 is another",
            hint="Leave --wheels out, or install that distribution again.",
        )


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def name_folders_below(snapshot: Snapshot, document: Path) -> Snapshot:
    """Folders of sources below that of the document are named relative to it: who has the one has
    the other."""
    found = tuple(_renamed(one, document) for one in snapshot.distributions)
    return replace(snapshot, distributions=found)


def _renamed(one: RecordedDistribution, document: Path) -> RecordedDistribution:
    source = one.source
    if not isinstance(source, DirectorySource):
        return one
    place, own = Path(os.path.realpath(source.path)), Path(os.path.realpath(document))
    if place != own and own not in place.parents:
        return one
    return replace(one, source=replace(source, path=_relative(place, own)))


def _relative(path: Path, folder: Path) -> str:
    """With slashes, as documents have them."""
    return Path(os.path.relpath(path, folder)).as_posix()

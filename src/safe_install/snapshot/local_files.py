"""Copies the local files of a snapshot to a folder beside the document, and names them relative to
it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Dict, List

from safe_install.errors import Refused
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    Snapshot,
)
from safe_install.system.atomic_write import replacing_file
from safe_install.wheels.archive import copy_and_hash, hash_file


def copy_files_beside(snapshot: Snapshot, wheels: Path, document: Path) -> Snapshot:
    """Copy the local files of a snapshot into `wheels`. `document`: the folder of the document; the
    paths in the result are relative to it. Errors: Refused if a file is not the installed one
    any more."""
    wheels.mkdir(parents=True, exist_ok=True)
    targets: Dict[Path, str] = {}  # path -> the SHA-256 of the file there
    found: List[RecordedDistribution] = []
    for one in snapshot.distributions:
        if isinstance(one.source, FileSource):
            target = _free_place(wheels, one.source, targets)
            targets[target] = one.source.sha256
            one = _copy_beside(one, one.source, target, document)
        found.append(one)
    return replace(snapshot, distributions=tuple(found))


def _free_place(wheels: Path, source: FileSource, targets: Dict[Path, str]) -> Path:
    """The target of a file. Different source archives may have the same name, such as master.zip:
    the second one gets its own subfolder."""
    target = wheels / source.filename
    if targets.get(target, source.sha256) == source.sha256:
        return target
    return wheels / source.sha256[:12] / source.filename


def _copy_beside(
    one: RecordedDistribution, source: FileSource, target: Path, document: Path
) -> RecordedDistribution:
    target.parent.mkdir(exist_ok=True)
    _copy(Path(source.path), target, source.sha256)
    size = target.stat().st_size
    return replace(one, source=replace(source, path=_relative(target, document), size=size))


def _copy(path: Path, target: Path, sha256: str) -> None:
    if target.is_file() and hash_file(target) == sha256:
        return
    with replacing_file(target) as copy:
        if copy_and_hash(path, copy) != sha256:
            raise Refused(
                f"{path} is not the file that was installed any more: its sha256 is another",
                hint="Leave --wheels out, or install that distribution again.",
            )


def name_folders_below(snapshot: Snapshot, document: Path) -> Snapshot:
    """The snapshot with relative paths of source folders that lie below `document`, so that both
    can be moved together. `document`: the folder of the document."""
    found = tuple(_with_relative_folder(one, document) for one in snapshot.distributions)
    return replace(snapshot, distributions=found)


def _with_relative_folder(one: RecordedDistribution, document: Path) -> RecordedDistribution:
    source = one.source
    if not isinstance(source, DirectorySource):
        return one
    place, own = Path(os.path.realpath(source.path)), Path(os.path.realpath(document))
    if place != own and own not in place.parents:
        return one
    return replace(one, source=replace(source, path=_relative(place, own)))


def _relative(path: Path, folder: Path) -> str:
    """A relative path with slashes."""
    return Path(os.path.relpath(path, folder)).as_posix()

"""The wheels in the cache, by hash, fetched or built here. They need not be fetched again."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from safe_install.wheels.kept_downloads import DOWNLOADS, mark_used
from safe_install.wheels.store import WheelStore

MAX_NAMED = 256  # wheels; of more than that those that were used last
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KeptWheel:
    """A wheel in the cache. Its hash is checked when it is used."""

    path: Path
    sha256: str  # as it was when it was stored
    folder: Path  # its time is that of the last use


def find_kept_wheels(cache: Path) -> Mapping[str, KeptWheel]:
    """The wheels in the cache by sha256, most recently used first."""
    found: List[Tuple[float, KeptWheel]] = []
    for wheel in (*_fetched(cache), *_built(cache)):
        with contextlib.suppress(OSError):
            found.append((wheel.folder.stat().st_mtime, wheel))
    found.sort(key=lambda row: row[0], reverse=True)
    wheels: Dict[str, KeptWheel] = {}
    for _, wheel in found:
        wheels.setdefault(wheel.sha256, wheel)
    return wheels


def name_kept_wheels(cache: Path) -> Sequence[str]:
    """The hashes of the most recently used wheels."""
    return list(find_kept_wheels(cache))[:MAX_NAMED]


def _fetched(cache: Path) -> Iterator[KeptWheel]:
    """CACHE/downloads/ADDRESS/SHA256/FILENAME"""
    with contextlib.suppress(OSError):
        for path in (cache / DOWNLOADS).glob("*/*/*.whl"):
            if _SHA256.fullmatch(path.parent.name):
                yield KeptWheel(path, path.parent.name, path.parents[1])


def _built(cache: Path) -> Iterator[KeptWheel]:
    with contextlib.suppress(OSError):
        for path, record in WheelStore(cache).list_all():
            if _SHA256.fullmatch(record.sha256):
                yield KeptWheel(path, record.sha256, path.parent)


def take_kept_wheel(wheel: KeptWheel, destination: Path) -> bool:
    """Copy a wheel and compare its hash. False where its bytes differ; it is then removed, where
    possible. Errors: OSError."""
    from safe_install.wheels.archive import copy_and_hash  # late: inventory takes none

    mark_used(wheel.folder)
    with destination.open("wb") as target:
        found = copy_and_hash(wheel.path, target)
    if found == wheel.sha256:
        return True
    destination.unlink()
    with contextlib.suppress(OSError):
        wheel.path.unlink()
    return False

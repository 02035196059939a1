"""The members of a wheel, written to files: one pass over the bytes, which are compared with RECORD
on their way."""

from __future__ import annotations

import os
import stat
import zipfile
from concurrent.futures import Executor, Future
from typing import BinaryIO, Dict, Iterable, Iterator, List, Mapping

from safe_install.wheels.archive import Artifact
from safe_install.wheels.record import RecordRow, read_hashed
from safe_install.wheels.zip_archive import CheckedZip

# Bytes. zlib and the disk work without the interpreter's lock, so that large members get threads.
# Of small ones most is Python: two threads of them would pass the lock to each other all the time.
LARGE = 1024 * 1024


class Members:
    """The members of one wheel that was opened."""

    def __init__(self, artifact: Artifact) -> None:
        """Its structure is looked at once more: the file may be another one since.

        Errors: WheelInvalid, OSError.
        """
        self._path = artifact.path
        with self._path.open("rb") as stream:
            self._archive = CheckedZip(artifact.path, artifact.path.name, stream)
            self._infos = self._archive.read_files()
        self._rows = find_rows_to_compare(artifact)
        self._executable_mode = _executable_mode()

    def is_large(self, member: str) -> bool:
        """Is it worth a thread?"""
        return self._infos[member].file_size >= LARGE

    def start(self, targets: Mapping[str, str], pool: Executor) -> List[Future[None]]:
        """Write members to new files in the threads of a pool, the largest first. `targets`: as
        `write` has them. What went wrong comes out of the futures, as `write` says it."""
        _make_parents(targets)
        order = sorted(targets, key=lambda target: -self._infos[targets[target]].file_size)
        return [pool.submit(self._write_alone, target, targets[target]) for target in order]

    def write(self, targets: Mapping[str, str]) -> None:
        """Write members to new files, with pip's modes. `targets`: names of members, by the paths
        of the files.

        Errors: WheelInvalid, OSError; what was written stays.
        """
        _make_parents(targets)
        with self._path.open("rb") as stream:
            for target, member in targets.items():
                self._write(target, member, stream)

    def compare(self, members: Iterable[str]) -> None:
        """Compare members that are not written with RECORD. Errors: WheelInvalid, OSError."""
        hashed = [member for member in members if member in self._rows]
        if not hashed:
            return
        with self._path.open("rb") as stream:
            for member in hashed:
                for _ in self._read(member, stream):
                    pass

    def _write_alone(self, target: str, member: str) -> None:
        with self._path.open("rb") as stream:
            self._write(target, member, stream)

    def _write(self, target: str, member: str, stream: BinaryIO) -> None:
        if os.path.lexists(target):
            os.unlink(target)  # of another wheel of this change: the last one counts, as with pip
        with open(target, "xb") as out:
            for chunk in self._read(member, stream):
                out.write(chunk)
        if _is_executable(self._infos[member]):
            os.chmod(target, self._executable_mode)

    def _read(self, member: str, stream: BinaryIO) -> Iterator[bytes]:
        info, row = self._infos[member], self._rows.get(member)
        if row is None:
            return self._archive.inflate(info, stream)
        return read_hashed(self._archive, info, row, stream)


def _make_parents(targets: Iterable[str]) -> None:
    for parent in {target.rpartition("/")[0] for target in targets}:
        os.makedirs(parent, exist_ok=True)


def find_rows_to_compare(artifact: Artifact) -> Dict[str, RecordRow]:
    """The rows of RECORD whose hashes nobody has compared yet, by their paths.

    METADATA was compared when the wheel was opened. A row with another size than its file has was
    taken then all the same, with a note: its hash is another one, too.
    """
    if not artifact.needs_hashing:
        return {}
    compared = {f"{artifact.dist_info}/RECORD", f"{artifact.dist_info}/METADATA"}
    sizes = dict(artifact.sizes)
    return {
        row.path: row
        for row in artifact.record
        if row.algorithm is not None
        and row.path not in compared
        and row.size in (None, sizes[row.path])
    }


def _executable_mode() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return 0o777 & ~mask | 0o111


def _is_executable(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16
    return bool(mode and stat.S_ISREG(mode) and mode & 0o111)

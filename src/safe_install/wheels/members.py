"""The members of a wheel, written to files: one pass over the bytes, which are compared with RECORD
on their way."""

from __future__ import annotations

import os
import stat
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO, Callable, Dict, Iterable, Iterator, Mapping, Optional, Tuple, TypeVar

from safe_install.wheels.archive import Artifact
from safe_install.wheels.record import RecordRow, read_hashed
from safe_install.wheels.zip_archive import CheckedZip

THREADS = 4  # zlib and the disk work without the interpreter's lock

Work = TypeVar("Work")


class Members:
    """The members of one wheel that was opened."""

    def __init__(self, artifact: Artifact) -> None:
        """Its structure is looked at once more: the file may be another one since.

        Errors: WheelInvalid, OSError.
        """
        with artifact.path.open("rb") as stream:
            self._archive = CheckedZip(artifact.path, artifact.path.name, stream)
            self._infos = self._archive.read_files()
        self._rows = find_rows_to_compare(artifact)

    def write(self, targets: Mapping[str, str]) -> None:
        """Write members to new files, with pip's modes. `targets`: paths by the members' names.

        Errors: WheelInvalid, OSError; what was written stays.
        """
        for parent in {target.rpartition("/")[0] for target in targets.values()}:
            os.makedirs(parent, exist_ok=True)
        # of two members for one path the last one counts
        members = {target: member for member, target in targets.items()}
        # the largest first, so that no thread is left alone with it
        order = sorted(members.items(), key=lambda item: -self._infos[item[1]].file_size)
        self._do(partial(self._write, _executable_mode()), order)
        self.compare(sorted(set(targets) - set(members.values())))

    def compare(self, names: Iterable[str]) -> None:
        """Compare members that are not written with RECORD. Errors: WheelInvalid, OSError."""
        self._do(self._compare, [name for name in names if name in self._rows])

    def _do(self, action: Callable[[_OwnStream, Work], None], work: Iterable[Work]) -> None:
        """In several threads."""
        items = list(work)
        if not items:
            return
        threads = min(THREADS, os.cpu_count() or 1)
        with ExitStack() as stack, ThreadPoolExecutor(threads) as pool:
            own = _OwnStream(self._archive.path, stack)
            for _ in pool.map(partial(action, own), items):
                pass  # an error of a thread comes out here

    def _write(self, executable_mode: int, own: _OwnStream, item: Tuple[str, str]) -> None:
        target, member = item
        if os.path.lexists(target):
            os.unlink(target)  # of another wheel of this change: the last one counts, as with pip
        with open(target, "xb") as out:
            for chunk in self._read(member, own):
                out.write(chunk)
        if _is_executable(self._infos[member]):
            os.chmod(target, executable_mode)

    def _compare(self, own: _OwnStream, member: str) -> None:
        for _ in self._read(member, own):
            pass

    def _read(self, member: str, own: _OwnStream) -> Iterator[bytes]:
        info, row = self._infos[member], self._rows.get(member)
        if row is None:
            return self._archive.inflate(info, own.open())
        return read_hashed(self._archive, info, row, own.open())


class _OwnStream(threading.local):
    """What each thread has for itself: the archive, opened once more."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """The file is closed with the stack."""
        self._path, self._stack = path, stack
        self._stream: Optional[BinaryIO] = None

    def open(self) -> BinaryIO:
        """The archive."""
        if self._stream is None:
            self._stream = self._stack.enter_context(self._path.open("rb"))
        return self._stream


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

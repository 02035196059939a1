"""A bundle as a file: a program that Python runs (zipapp), with the wheels that it installs.

    python FILE.zip --python ENV install

The file has the wheels, then the program, the lock and the manifest, which has the offset of each
wheel. All of them are members of a zip archive; the wheels are stored uncompressed. Python before
3.13 does not run an archive that needs zip64. So in a large bundle the archive begins after the
wheels and has only the other files: any bytes may precede an archive.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Dict, Iterator, Mapping, Optional, Sequence

from safe_install.errors import BundleInvalid, HashMismatch, Refused, SystemFailed, hint_for_oserror
from safe_install.events import Reporter
from safe_install.program_archive import LOCK, MAIN, MANIFEST, WHEELS, hash_program, is_of_program
from safe_install.snapshot.manifest import (
    COPY_AGAIN,
    BundledWheel,
    Manifest,
    check_filename,
    parse_manifest,
    render_manifest,
    with_offsets,
)
from safe_install.system.atomic_write import replacing_file
from safe_install.transaction.room import find_shortage, read_room

CHUNK = 2**20  # bytes
# Above this size zipfile writes zip64 extensions.
LARGEST_PLAIN = zipfile.ZIP64_LIMIT
LARGEST_LIST = 64 * 2**20  # bytes
LARGEST_PROGRAM = 64 * 2**20
PER_MEMBER = 1024  # bytes; the largest size of the headers and the name of a member
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest time in an archive
# If the end of the file is missing, Python runs it as a script, and its error message shows the
# line with the unclosed quotation mark. True for every Python from 3.6 on.
BEGINNING = b"""#!/usr/bin/env python3
'This bundle is damaged or incomplete: copy it again, and compare its sha256 with the one shown when it was made
"""
# Written after each wheel. A wheel is a zip archive, too: in a bundle that is cut after a small
# wheel, the end record of that wheel would pass for the end of the bundle. The guard is an end
# record with impossible numbers.
GUARD = b"PK\x05\x06" + b"\xff" * 18
EXTRA_FIELD = (
    b"SI" + len(GUARD).to_bytes(2, "little") + GUARD
)  # the guard in the header of a member
# Start scripts. Their syntax is valid on old Pythons, too, which get the message.
START_OF_BUNDLE = """\
import sys

if sys.version_info < ({major}, {minor}):
    sys.exit("The program in this bundle needs Python {major}.{minor} or newer: start it with the Python of ENV")
from safe_install.packed import start

start("safe_install.cli.bundled", "{sha256}")
"""
START_ALONE = """\
import sys

if sys.version_info < ({major}, {minor}):
    sys.exit("safe-install needs Python {major}.{minor} or newer")
from safe_install.packed import start

start("safe_install.__main__", "{sha256}")
"""


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; only its manifest has been read."""

    path: Path
    manifest: Manifest


# --- write ----------------------------------------------------------------------------------------


def write_bundle(
    path: Path,
    manifest: Manifest,
    files: Mapping[str, Path],
    program: Mapping[str, bytes],
    lock: str,
    reporter: Reporter,
    *,
    largest_plain: int = LARGEST_PLAIN,
) -> str:
    """Write a bundle atomically; its SHA-256.

    `files`: file name -> path of the wheels that are in the bundle; the others are only listed in
    the manifest. `program`: name -> content. `largest_plain`: see LARGEST_PLAIN. Errors: Refused
    if there is no room; HashMismatch for a changed wheel; SystemFailed.
    """
    size = _estimate_size(manifest, program, lock)
    try:
        shortage = find_shortage(read_room(path.parent), size=size)
        if shortage is not None:
            raise Refused(shortage, hint="Make room, or name a file elsewhere: -o FILE.zip.")
        task = f"write {path.name}"
        with reporter.task(task, size, "bytes"), replacing_file(path, mode=0o777) as stream:
            _write(
                stream,
                manifest,
                files,
                program,
                lock,
                _Progress(reporter, task),
                size < largest_plain,
            )
        return hash_whole(path, reporter)
    except OSError as error:
        raise SystemFailed(
            f"{path} could not be written: {error.strerror or error}", hint=hint_for_oserror(error)
        ) from error


def _estimate_size(manifest: Manifest, program: Mapping[str, bytes], lock: str) -> int:
    """The largest possible size of the file in bytes."""
    others = sum(map(len, program.values())) + len(lock.encode()) + len(render_manifest(manifest))
    members = len(program) + len(manifest.wheels) + 10
    return manifest.size + others + members * PER_MEMBER


def _write(
    stream: BinaryIO,
    manifest: Manifest,
    files: Mapping[str, Path],
    program: Mapping[str, bytes],
    lock: str,
    progress: _Progress,
    is_plain: bool,
) -> None:
    stream.write(BEGINNING)
    offsets: Dict[str, int] = {}
    inside = [wheel for wheel in manifest.wheels if wheel.is_inside]
    if not is_plain:
        for wheel in inside:
            offsets[wheel.filename] = stream.tell()
            _copy(files[wheel.filename], stream, wheel, progress)
            stream.write(GUARD)
        behind = io.BytesIO()
        with zipfile.ZipFile(behind, "w") as archive:
            _add_members(archive, _other_members(with_offsets(manifest, offsets), program, lock))
        stream.write(behind.getvalue())
        return
    with zipfile.ZipFile(stream, "w") as archive:
        for wheel in inside:
            member = _member(WHEELS + wheel.filename, zipfile.ZIP_STORED)
            member.file_size = wheel.size
            with archive.open(member, "w") as target:
                offsets[wheel.filename] = stream.tell()
                _copy(files[wheel.filename], target, wheel, progress)
        _add_members(archive, _other_members(with_offsets(manifest, offsets), program, lock))


def _other_members(
    manifest: Manifest, program: Mapping[str, bytes], lock: str
) -> Mapping[str, bytes]:
    return {
        MAIN: _render_main(START_OF_BUNDLE, manifest.program_python, manifest.program_sha256),
        **program,
        LOCK: lock.encode(),
        MANIFEST: render_manifest(manifest).encode(),
    }


def _render_main(template: str, python: str, sha256: str) -> bytes:
    """The start script. `python`: the oldest version that runs the program; `sha256`: of the
    program."""
    major, minor = python.split(".")
    return template.format(major=major, minor=minor, sha256=sha256).encode()


def render_program(program: Mapping[str, bytes], python: str) -> bytes:
    """The program without wheels, as an archive that Python runs. The same files give the same
    bytes. `python`: the oldest version that runs it, "3.8"."""
    stream = io.BytesIO()
    stream.write(BEGINNING)
    with zipfile.ZipFile(stream, "w") as archive:
        main = _render_main(START_ALONE, python, hash_program(program))
        _add_members(archive, {**program, MAIN: main})
    return stream.getvalue()


def _member(name: str, compression: int) -> zipfile.ZipInfo:
    """A member with constant metadata, so that archives are reproducible."""
    member = zipfile.ZipInfo(name, EARLIEST)
    member.compress_type = compression
    member.create_system = 3  # Unix, wherever it is written
    member.external_attr = 0o100644 << 16
    member.extra = EXTRA_FIELD
    return member


def _add_members(archive: zipfile.ZipFile, members: Mapping[str, bytes]) -> None:
    for name in sorted(members):
        archive.writestr(_member(name, zipfile.ZIP_DEFLATED), members[name])


class _Progress:
    """Reports the progress in bytes."""

    def __init__(self, reporter: Reporter, task: str) -> None:
        self._reporter, self._task = reporter, task
        self._done = 0

    def add(self, size: int) -> None:
        """Add finished bytes."""
        self._done += size
        self._reporter.task_advanced(self._task, self._done)


def _copy(source: Path, target: IO[bytes], wheel: BundledWheel, progress: _Progress) -> None:
    """Copy a wheel, and compare its hash. Errors: HashMismatch."""
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        for chunk in _chunks(stream, wheel.size):
            digest.update(chunk)
            target.write(chunk)
            progress.add(len(chunk))
        is_longer = bool(stream.read(1))
    if is_longer or digest.hexdigest() != wheel.sha256:
        raise HashMismatch(
            f"{source} was replaced after it had been checked: it had sha256 {wheel.sha256}",
            hint="Something else writes to that file: run the command again when that has ended.",
        )


def _chunks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The next `size` bytes, or fewer at the end."""
    left = size
    while left:
        chunk = stream.read(min(CHUNK, left))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk


def hash_whole(path: Path, reporter: Reporter) -> str:
    """The SHA-256 of a file."""
    task = f"hash {path.name}"
    size = path.stat().st_size
    digest = hashlib.sha256()
    progress = _Progress(reporter, task)
    with reporter.task(task, size, "bytes"), path.open("rb") as stream:
        for chunk in _chunks(stream, size):
            digest.update(chunk)
            progress.add(len(chunk))
    return digest.hexdigest()


# --- read -----------------------------------------------------------------------------------------


def is_bundle(path: Path) -> bool:
    """Is a file a bundle, by its beginning or its name?"""
    return path.suffix == ".zip" or begins_as_bundle(path)


def begins_as_bundle(path: Path) -> bool:
    """Does a file begin like a bundle, whether the rest is damaged or not?"""
    try:
        with path.open("rb") as stream:
            return stream.read(len(BEGINNING)) == BEGINNING
    except OSError:
        return False


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and read its manifest. Errors: BundleInvalid, SystemFailed."""
    with _reading(path) as archive:
        text = _read_member(path, archive, MANIFEST)
        end = path.stat().st_size
    return Bundle(path, parse_manifest(text.decode("utf-8", "replace"), place=str(path), end=end))


def read_lock(path: Path) -> str:
    """The text of the lock file in a bundle. Errors: BundleInvalid, SystemFailed."""
    bundle = open_bundle(path)
    with _reading(path) as archive:
        lock = _read_member(path, archive, LOCK)
    if hashlib.sha256(lock).hexdigest() != bundle.manifest.lock_sha256:
        raise _damaged(path, LOCK)
    return lock.decode("utf-8")


def unpack_wheels(
    bundle: Bundle, wheels: Sequence[BundledWheel], folder: Path, reporter: Reporter
) -> None:
    """Write these wheels of the bundle into a folder, and compare their hashes. Errors:
    BundleInvalid, Refused, SystemFailed."""
    try:
        size = sum(wheel.size for wheel in wheels)
        shortage = find_shortage(read_room(folder.parent), size=size)
        if shortage is not None:
            raise Refused(shortage, hint="Name a folder with more room: TMPDIR=/path/to/folder.")
        folder.mkdir(exist_ok=True)
        _read_wheels(bundle.path, wheels, folder, reporter, f"unpack {len(wheels)} wheels")
    except OSError as error:
        raise SystemFailed(
            f"the wheels of {bundle.path} could not be unpacked to {folder}: "
            f"{error.strerror or error}",
            hint=hint_for_oserror(error),
        ) from error


def check_bundle(path: Path, reporter: Reporter) -> Bundle:
    """Compare everything in a bundle with its hash. Errors: BundleInvalid, SystemFailed."""
    bundle = open_bundle(path)
    read_lock(path)
    with _reading(path) as archive:
        program = _read_program(path, archive)
        main = _read_member(path, archive, MAIN)
    sha256 = bundle.manifest.program_sha256
    started = _render_main(START_OF_BUNDLE, bundle.manifest.program_python, sha256)
    if main != started or hash_program(program) != sha256:
        raise _damaged(path, "the program")
    inside = [wheel for wheel in bundle.manifest.wheels if wheel.is_inside]
    _read_wheels(path, inside, None, reporter, f"read {path.name}")
    return bundle


def _read_program(path: Path, archive: zipfile.ZipFile) -> Dict[str, bytes]:
    """The files of the program: name -> content. Their size is limited, because a malicious bundle
    may unpack to terabytes. Errors: BundleInvalid."""
    program: Dict[str, bytes] = {}
    size = 0
    for name in filter(is_of_program, archive.namelist()):
        program[name] = _read_member(path, archive, name)
        size += len(program[name])
        if size > LARGEST_PROGRAM:
            raise _damaged(path, "the program")
    return program


def _read_wheels(
    path: Path,
    wheels: Sequence[BundledWheel],
    folder: Optional[Path],
    reporter: Reporter,
    task: str,
) -> None:
    """Compare the hashes of the wheels; write them into `folder`, unless that is None."""
    progress = _Progress(reporter, task)
    size = sum(wheel.size for wheel in wheels)
    with reporter.task(task, size, "bytes"), path.open("rb") as stream:
        for wheel in wheels:
            check_filename(wheel.filename)
            stream.seek(wheel.offset or 0)
            destination = os.devnull if folder is None else folder / wheel.filename
            digest = hashlib.sha256()
            with open(destination, "wb") as target:  # noqa: PTH123 - the null device, too
                for chunk in _chunks(stream, wheel.size):
                    digest.update(chunk)
                    target.write(chunk)
                    progress.add(len(chunk))
            if digest.hexdigest() != wheel.sha256:
                raise _damaged(path, wheel.filename)


class _reading:  # noqa: N801 - used as a function
    """Opens the archive. Errors: BundleInvalid, SystemFailed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> zipfile.ZipFile:
        try:
            self._stream = self._path.open("rb")
        except OSError as error:
            raise SystemFailed(
                f"{self._path} cannot be read: {error.strerror or error}",
                hint=hint_for_oserror(error),
            ) from error
        try:
            return zipfile.ZipFile(self._stream)
        except Exception as error:  # zipfile raises many kinds for a damaged archive
            self._stream.close()
            message = f"{self._path} is no bundle, or its end is missing: {error}"
            if begins_as_bundle(self._path):
                message = f"{self._path} is damaged, or its end is missing: {error}"
            raise BundleInvalid(message, hint=COPY_AGAIN) from error

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as stream:
            found = stream.read(LARGEST_LIST + 1)
    except KeyError as error:
        if begins_as_bundle(path):
            raise BundleInvalid(
                f"{path} is damaged, or its end is missing: {name} is not in it", hint=COPY_AGAIN
            ) from error
        raise BundleInvalid(
            f"{path} is no bundle: {name} is missing in it",
            hint="A bundle is made with safe-install bundle REQ... -o FILE.zip.",
        ) from error
    except Exception as error:  # zlib.error, BadZipFile, NotImplementedError
        raise _damaged(path, name) from error
    if len(found) > LARGEST_LIST:
        raise _damaged(path, name)
    return found


def _damaged(path: Path, what: str) -> BundleInvalid:
    return BundleInvalid(
        f"{path} is damaged: {what} is not what its list says; nothing was changed",
        hint=COPY_AGAIN,
    )

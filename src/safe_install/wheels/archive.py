"""Opens a wheel file, and refuses one that differs from its name, its RECORD or its zip directory.

Neither pip nor uv compares a wheel's files with its RECORD, and zip readers interpret ambiguous
archives differently. A wheel that passes here reads the same for every reader, and writes only into
the folders of its scheme. A gap in RECORD is an error, or a note where the whole file's hash is
known to be right.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor
from configparser import Error as ConfigError
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    BinaryIO,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from packaging.tags import Tag, parse_tag
from packaging.utils import (
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import Version

from safe_install.errors import HashMismatch
from safe_install.index.filename import parse_filename
from safe_install.wheels.record import RecordCheck, RecordNote, RecordRow
from safe_install.wheels.startup import find_site_path
from safe_install.wheels.zip_archive import CHUNK, CheckedZip, is_deceptive

if TYPE_CHECKING:
    from email.message import Message

MAX_RECORD = 32 * 1024 * 1024  # bytes
MAX_METADATA = 8 * 1024 * 1024  # bytes of each other metadata file
MAX_REQUIREMENTS = 10_000

_DATA_KEYS = {"purelib", "platlib", "headers", "scripts", "data"}
_NATIVE = re.compile(r"\.(so(\.\d+)*|pyd|dll|dylib)$")
_PROTECTED_SCRIPT = r"(?i)^(python[\d.]*w?|pip[\d.]*|(de)?activate([._].*)?)(\.exe)?$"
_CALLABLE = re.compile(r"^\w+(\.\w+)*(:\w+(\.\w+)*)?\s*(\[[^\]]*\])?\s*$")
_INSTALLED = re.compile(r"(?i)\.(dist-info|egg-info|egg-link|egg)$")


class EntryPoint(NamedTuple):
    """One line of entry_points.txt."""

    group: str
    name: str
    value: str


@dataclass(frozen=True)
class Artifact:
    """A verified wheel file."""

    path: Path
    sha256: str
    name: NormalizedName
    version: Version  # of METADATA
    tags: FrozenSet[Tag]  # of the file name; the WHEEL file may have others for good reasons
    wheel_tags: FrozenSet[Tag]  # of the WHEEL file
    requires_dist: Tuple[str, ...]
    requires_python: Optional[str]
    extras: Tuple[str, ...]
    root_is_purelib: bool
    dist_info: str  # name of the folder
    files: Tuple[str, ...]  # archive paths of all files
    native_objects: Tuple[str, ...]  # those of them that a loader would map
    top_level: Tuple[str, ...]  # import names that the wheel brings
    entry_points: Tuple[EntryPoint, ...]
    record: Tuple[RecordRow, ...]
    sizes: Tuple[Tuple[str, int], ...]  # of each file: path, bytes when unpacked
    record_notes: Tuple[RecordNote, ...] = ()
    written_name: str = ""  # as METADATA writes it
    written_version: str = ""
    # its members are still to be hashed when they are unpacked
    needs_hashing: bool = False

    @property
    def installable_filename(self) -> str:
        """A file name that pip accepts, with the version of METADATA.

        Some hosts rename wheels after the build (`2.8.3` becomes `2.8.3+cu12torch2.8cxx11abiTRUE`),
        which pip then reports as inconsistent; other names have two `+`, which pip cannot parse.
        """
        named = parse_filename(self.path.name)
        if named is None or named.version == str(self.version):
            return self.path.name
        return named.with_version(str(self.version)).filename

    @property
    def console_scripts(self) -> Tuple[str, ...]:
        """The names of the scripts for `console_scripts` entry points."""
        return tuple(point.name for point in self.entry_points if point.group == "console_scripts")

    @property
    def scripts(self) -> Tuple[str, ...]:
        """The names of all scripts that it installs."""
        commands = [
            e.name for e in self.entry_points if e.group in ("console_scripts", "gui_scripts")
        ]
        data = f"{self.dist_info[: -len('.dist-info')]}.data/scripts/"
        return tuple(
            sorted({*commands, *(n[len(data) :] for n in self.files if n.startswith(data))})
        )


def find_case_clashes(files: Iterable[str]) -> Tuple[Tuple[str, str], ...]:
    """Pairs of paths that would be one file on a file system that ignores case or Unicode form."""
    seen: Dict[str, str] = {}
    clashes = []
    for name in files:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            clashes.append((other, name))
    return tuple(clashes)


def open_wheel(
    path: Path,
    *,
    filename: Optional[str] = None,
    sha256: Optional[str] = None,
    verify_members: bool = True,
    is_promised: Callable[[], bool] = lambda: False,
    strict_records: bool = False,
) -> Artifact:
    """Read and verify the wheel at `path`.

    `filename`: the wheel's name, where `path` has another. `sha256` (hex): that of the whole file.
    `verify_members=False`: members are inflated and hashed when they are unpacked (for torch that
    takes seconds). `is_promised`: are these bytes promised by an index or by the user? It is called
    only where the answer matters: for promised bytes, a RECORD that is wrong about METADATA, does
    not list a file, has no hash for it, or lists a missing one gets a RecordNote and is no error;
    the same for a Wheel-Version before 1. `strict_records`: a missing hash and a missing file are
    errors all the same.
    Sources: the specifications of wheels and of RECORD.
    Errors: WheelInvalid, HashMismatch, or OSError where the file cannot be read.
    """
    filename = filename or path.name
    with path.open("rb") as stream:
        digest = hash_stream(stream)
        if sha256 is not None and digest != sha256.lower():
            raise HashMismatch(
                f"{filename}: the file has sha256 {digest}, promised was {sha256.lower()}",
                hint=f"Remove {path} and fetch it again; if it stays so, the host serves another file.",
            )
        reader = _WheelReader(path, filename, stream, is_promised, strict_records=strict_records)
        return reader.read(digest, verify_members=verify_members)


def hash_stream(stream: BinaryIO) -> str:
    """The sha256 (hex) of an open file, from its beginning."""
    stream.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """The sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def copy_and_hash(source: Path, target: BinaryIO) -> str:
    """Copy the bytes of a file. The result: the sha256 (hex) of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
            target.write(chunk)
    return digest.hexdigest()


def extract_members(artifact: Artifact, names: Iterable[str], folder: Path) -> Tuple[Path, ...]:
    """Write the named members of a verified wheel below `folder` under their archive paths."""
    targets = {name: folder.joinpath(*name.split("/")) for name in names}
    for parent in {target.parent for target in targets.values()}:
        parent.mkdir(parents=True, exist_ok=True)

    def write(name: str) -> Path:
        with archive.open(name) as source, targets[name].open("wb") as out:
            for chunk in iter(lambda: source.read(CHUNK), b""):
                out.write(chunk)
        return targets[name]

    # zlib releases the interpreter's lock, so two processors need half the time for a large wheel.
    with zipfile.ZipFile(str(artifact.path)) as archive, ThreadPoolExecutor(
        min(4, os.cpu_count() or 1)
    ) as pool:
        return tuple(pool.map(write, targets))


class _WheelReader:
    """Reads one wheel: names, metadata, and the checks of its archive and its RECORD."""

    def __init__(
        self,
        path: Path,
        filename: str,
        stream: BinaryIO,
        is_promised: Callable[[], bool],
        *,
        strict_records: bool,
    ) -> None:
        self.path = path
        self.filename = filename
        self.archive = CheckedZip(path, filename, stream)
        self.record = RecordCheck(self.archive, is_promised, strict=strict_records)

    def invalid(self, reason: str) -> NoReturn:
        self.archive.invalid(reason)

    def read(self, sha256: str, *, verify_members: bool) -> Artifact:
        name, version, tags = self._parse_filename()
        files = self.archive.read_files()
        dist_info = self._find_dist_info(files, name, version)
        self._check_destinations(files, dist_info)
        metadata = self._read_metadata(files, dist_info)
        real_version = self._check_identity(metadata, name, version)
        wheel = self._read_wheel_headers(files, dist_info)
        record = self._read_record(files, dist_info, tags)
        entry_points = self._read_entry_points(files, dist_info)
        written = metadata.get("Version", "").strip()
        self.record.check_files(files, record, dist_info, written, hash_all=verify_members)
        return Artifact(
            path=self.path,
            sha256=sha256,
            name=name,
            version=real_version,
            tags=tags,
            wheel_tags=_parse_tags(_values_of(wheel, "Tag")),
            requires_dist=_values_of(metadata, "Requires-Dist"),
            requires_python=metadata.get("Requires-Python"),
            extras=_values_of(metadata, "Provides-Extra"),
            root_is_purelib=_is_purelib(wheel),
            dist_info=dist_info,
            files=tuple(files),
            native_objects=tuple(filter(_NATIVE.search, files)),
            top_level=_find_top_level(files, dist_info),
            entry_points=entry_points,
            record=tuple(record.values()),
            sizes=_sizes_of(files),
            record_notes=tuple(self.record.notes.values()),
            written_name=metadata.get("Name", "").strip(),
            written_version=written,
            needs_hashing=not verify_members,
        )

    def _parse_filename(self) -> Tuple[NormalizedName, Version, FrozenSet[Tag]]:
        try:
            name, version, _build, tags = parse_wheel_filename(self.filename)
        except (InvalidWheelFilename, ValueError) as error:
            # Only this program reads names with two "+", as of 2020.
            named = parse_filename(self.filename) if self.filename.count("+") > 1 else None
            if named is None:
                self.invalid(f"not a wheel file name ({error})")
            return named.project, named.parsed_version, named.tags
        return name, version, tags

    def _find_dist_info(
        self, files: Dict[str, zipfile.ZipInfo], name: NormalizedName, version: Version
    ) -> str:
        tops = {path.split("/", 1)[0] for path in files if "/" in path}
        found = sorted(top for top in tops if top.lower().endswith(".dist-info"))
        if len(found) != 1:
            self.invalid(
                f"{len(found)} .dist-info folders ({', '.join(found) or 'none'}) where one must be"
            )
        data = sorted(top for top in tops if top.lower().endswith(".data"))
        for folder in [*found, *data]:
            if not _is_folder_of(folder, name, version):
                self.invalid(f"its folder {folder} does not belong to {name} {version}")
        if len(data) > 1:
            self.invalid(f"{len(data)} .data folders where at most one may be")
        return found[0]

    def _check_destinations(self, files: Dict[str, zipfile.ZipInfo], dist_info: str) -> None:
        name = canonicalize_name(dist_info[: -len(".dist-info")].rpartition("-")[0])
        for path in files:
            parts = path.split("/")
            self._check_installed(path, parts, dist_info, name)
            if parts[0].lower().endswith(".data") and len(parts) > 1:
                self._check_data_file(path, parts)
            if parts[-2:-1] == ["__pycache__"]:
                source = "/".join([*parts[:-2], parts[-1].split(".", 1)[0] + ".py"])
                if source not in files:
                    self.invalid(f"the bytecode {path} has no source beside it")

    def _check_installed(
        self, path: str, parts: Sequence[str], dist_info: str, name: NormalizedName
    ) -> None:
        """A wheel must not contain metadata of other distributions, nor files in their place."""
        site_path = find_site_path(path, dist_info)
        if site_path is None:
            return
        is_in_data = site_path != path
        top = site_path.split("/")[0]
        if top == dist_info and not is_in_data:
            return
        if _INSTALLED.search(top) and (
            is_in_data or canonicalize_name(re.split(r"-|\.egg", top)[0]) != name
        ):
            self.invalid(f"{path} would be the record of another distribution")

    def _check_data_file(self, path: str, parts: Sequence[str]) -> None:
        if len(parts) < 3 or parts[1] not in _DATA_KEYS:
            self.invalid(f"{path} is for no known installation scheme")
        is_command = parts[1] == "scripts" or (
            parts[1] == "data" and len(parts) > 3 and parts[2].lower() in ("bin", "scripts")
        )
        if is_command and re.match(_PROTECTED_SCRIPT, parts[-1]):
            self.invalid(f"{path} would replace the environment's own {parts[-1]}")

    def _read_metadata(self, files: Dict[str, zipfile.ZipInfo], dist_info: str) -> Message:
        metadata = _parse_headers(self._read_text(files, f"{dist_info}/METADATA"))
        if len(_values_of(metadata, "Requires-Dist")) > MAX_REQUIREMENTS:
            self.invalid(f"its metadata has more than {MAX_REQUIREMENTS} requirements")
        return metadata

    def _check_identity(self, metadata: Message, name: NormalizedName, version: Version) -> Version:
        """The version of METADATA, where it agrees with the file name."""
        said_name, said_version = metadata.get("Name"), metadata.get("Version")
        if said_name is None or canonicalize_name(said_name.strip()) != name:
            self.invalid(
                f"its metadata says the project is {said_name!r}, its file name says {name!r}"
            )
        try:
            real = Version((said_version or "").strip())
        except ValueError:  # InvalidVersion, and numbers that Python will not read
            self.invalid(f"its metadata says the version is {(said_version or '')[:80] or None!r}")
        # Some hosts write the torch build into the file name only: the local version identifier may
        # differ.
        if real.public != version.public:
            self.invalid(f"its metadata says version {real}, its file name says {version}")
        return real

    def _read_wheel_headers(self, files: Dict[str, zipfile.ZipInfo], dist_info: str) -> Message:
        """The WHEEL file. Wheels from before the standard (PEP 427, 2012) have version 0.1 and the
        same format."""
        path = f"{dist_info}/WHEEL"
        wheel = _parse_headers(self._read_text(files, path))
        said = wheel.get("Wheel-Version")
        reason = f"its wheel format version is {said!r}; only 1.x is known"
        if re.match(r"^\s*0\.\d+\s*$", said or ""):
            self.record.note_or_refuse(path, reason)
        elif not re.match(r"^\s*1\.\d+\s*$", said or ""):
            self.invalid(reason)
        return wheel

    def _read_record(
        self, files: Dict[str, zipfile.ZipInfo], dist_info: str, tags: FrozenSet[Tag]
    ) -> Dict[str, RecordRow]:
        text = self._read_text(files, f"{dist_info}/RECORD")
        return self.record.parse(text, files, is_for_windows=_is_for_windows(tags))

    def _read_text(self, files: Dict[str, zipfile.ZipInfo], name: str) -> str:
        info = files.get(name)
        if info is None:
            self.invalid(f"{name} is missing")
        if info.file_size > (MAX_RECORD if name.endswith("/RECORD") else MAX_METADATA):
            self.invalid(f"{name} has {info.file_size} bytes, which is no sensible size for it")
        content = b"".join(self.archive.inflate(info))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            self.invalid(f"{name} is not UTF-8 text")

    def _read_entry_points(
        self, files: Dict[str, zipfile.ZipInfo], dist_info: str
    ) -> Tuple[EntryPoint, ...]:
        name = f"{dist_info}/entry_points.txt"
        if name not in files:
            return ()
        parser = RawConfigParser(delimiters=("=",), strict=False)
        parser.optionxform = str  # type: ignore[method-assign,assignment]
        try:
            parser.read_string(self._read_text(files, name))
        except ConfigError as error:
            self.invalid(f"entry_points.txt cannot be read ({str(error).splitlines()[0]})")
        points = tuple(
            EntryPoint(group, key, value)
            for group in parser.sections()
            for key, value in parser.items(group)
        )
        for point in points:
            if point.group in ("console_scripts", "gui_scripts"):
                self._check_command(point.name, point.value)
        return points

    def _check_command(self, command: str, calls: str) -> None:
        if re.search(r"[/\\\s=]", command) or command in ("", ".", "..") or is_deceptive(command):
            self.invalid(f"its command {command!r} is not a plain file name")
        if not _CALLABLE.match(calls):
            self.invalid(
                f"its command {command!r} calls {calls[:80]!r}, which is no name of Python"
            )
        if re.match(_PROTECTED_SCRIPT, command) and not self.filename.startswith("pip-"):
            self.invalid(f"its command {command!r} would replace the environment's own")


def _parse_tags(rows: Iterable[str]) -> FrozenSet[Tag]:
    """The tags that can be parsed: nvidia-nvimgcodec-cu12 0.2.0.7 has
    `py3-manylinux2014_x86_64`."""
    tags: Set[Tag] = set()
    for row in rows:
        try:
            tags |= parse_tag(row.strip())
        except ValueError:
            continue
    return frozenset(tags)


def _is_for_windows(tags: FrozenSet[Tag]) -> bool:
    return all(tag.platform.startswith("win") for tag in tags)


def _parse_headers(text: str) -> Message:
    from email.parser import HeaderParser  # slow to import, and most commands open no wheel

    return HeaderParser().parsestr(text)


def _values_of(headers: Message, name: str) -> Tuple[str, ...]:
    """The values of a header that may occur several times."""
    return tuple(headers.get_all(name, []))


def _sizes_of(files: Dict[str, zipfile.ZipInfo]) -> Tuple[Tuple[str, int], ...]:
    return tuple((path, info.file_size) for path, info in files.items())


def _is_folder_of(folder: str, name: NormalizedName, version: Version) -> bool:
    """Does a folder `NAME-VERSION.dist-info` belong to this project and version?"""
    stem, _, number = folder.rpartition(".")[0].rpartition("-")
    if canonicalize_name(stem) != name:
        return False
    try:
        return Version(number.replace("_", "-")).public == version.public
    except ValueError:
        return False


def _is_purelib(wheel: Message) -> bool:
    return str(wheel.get("Root-Is-Purelib", "")).strip().lower() == "true"


def _find_top_level(files: Iterable[str], dist_info: str) -> Tuple[str, ...]:
    """The import names, from the files themselves: top_level.txt is often missing and sometimes
    wrong."""
    names: Set[str] = set()
    for path in files:
        parts = path.split("/")
        if parts[0].endswith(".data"):
            if parts[1] not in ("purelib", "platlib"):
                continue
            parts = parts[2:]
        if parts[0] == dist_info:
            continue
        stem, _, suffix = parts[0].partition(".")
        # "x.py", "x.cpython-311-x86_64-linux-gnu.so"; a folder "x.libs" holds libraries and is no
        # package.
        is_module = len(parts) == 1 and (suffix == "py" or _NATIVE.search(parts[0]))
        if stem.isidentifier() and (is_module or (len(parts) > 1 and not suffix)):
            names.add(stem)
    return tuple(sorted(names))

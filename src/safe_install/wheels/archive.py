"""Opens a wheel file and refuses what is not exactly what its name, its RECORD and its own directory say.

Neither pip nor uv compares a wheel's files with its RECORD, and zip readers differ about ambiguous archives.
A wheel that passes here reads the same for every reader, and writes only below its schemes. What its RECORD leaves out
is an error, or a note where the whole file is known to be the one that was meant.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import mmap
import os
import re
import struct
import unicodedata
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from configparser import Error as ConfigError
from configparser import RawConfigParser
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    BinaryIO,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
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

from safe_install.errors import HashMismatch, WheelInvalid
from safe_install.index.filename import parse_filename
from safe_install.wheels.startup import find_site_path

if TYPE_CHECKING:
    from email.message import Message

MAX_ENTRIES = 100_000
MAX_DIRECTORY = 64 * 1024 * 1024  # bytes of the archive's directory; torch's 14,000 entries take 1.6 MB
MAX_PATH_PART = 255  # bytes
MIN_UNPACKED_LIMIT = 200 * 1024 * 1024  # bytes
MAX_RATIO = 20  # unpacked bytes to archive bytes, where the archive is not small
MAX_RECORD = 32 * 1024 * 1024  # bytes
MAX_METADATA = 8 * 1024 * 1024  # bytes of each other metadata file
MAX_REQUIREMENTS = 10_000

_CHUNK = 1024 * 1024
_SIGNATURES = {"RECORD.jws", "RECORD.p7s"}
_DATA_KEYS = {"purelib", "platlib", "headers", "scripts", "data"}
_NATIVE = re.compile(r"\.(so(\.\d+)*|pyd|dll|dylib)$")
_PROTECTED_SCRIPT = re.compile(r"^(python[\d.]*w?|pip[\d.]*|(de)?activate([._].*)?)(\.exe)?$", re.IGNORECASE)
_STRONG_HASHES = {"sha256", "sha384", "sha512"}
_DIRECTORY_ENTRY = b"PK\x01\x02"
_END_RECORD = 22  # bytes
# Written by the Rust crate `zip`: every wheel that maturin built until 2021 has it (orjson, polars, tokenizers).
_KNOWN_COMMENT = b"zip-rs"
# Local version identifiers that publishers cut from a wheel which they upload to PyPI, where none is permitted.
_LOCAL_VERSIONS = (
    "cpu",
    "xpu",
    *(f"cu{number}" for number in range(90, 200)),
    *(f"rocm{major}.{minor}" for major in range(3, 10) for minor in range(10)),
)
_UNICODE_PATH = 0x7075  # an extra field with a second name, which Python reads since 3.12 and others always
# Characters that turn the direction of a line, so that a listing shows another name than the file has.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CALLABLE = re.compile(r"^\w+(\.\w+)*(:\w+(\.\w+)*)?\s*(\[[^\]]*\])?\s*$")
_INSTALLED = re.compile(r"(?i)\.(dist-info|egg-info|egg-link|egg)$")


@dataclass(frozen=True)
class RecordRow:
    """One row of RECORD; the rows of RECORD itself and of its signatures carry no hash."""

    path: str
    algorithm: Optional[str]  # "sha256"
    digest: Optional[bytes]
    size: Optional[int]  # bytes


@dataclass(frozen=True)
class RecordNote:
    """RECORD says something else than the archive about one file, and the wheel is taken all the same."""

    path: str
    detail: str
    group: str = ""  # what it has in common with others, where many are usual: "RECORD does not list"


@dataclass(frozen=True)
class EntryPoint:
    """One line of entry_points.txt."""

    group: str
    name: str
    value: str


@dataclass(frozen=True)
class Artifact:
    """A wheel file that is what it says."""

    path: Path
    sha256: str
    name: NormalizedName
    version: Version  # of METADATA
    tags: FrozenSet[Tag]  # of the file name; the WHEEL file may say others in good faith
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

    @property
    def installable_filename(self) -> str:
        """A file name under which pip takes it: the version is that of METADATA.

        Some hosts rename wheels after the build (`2.8.3` becomes `2.8.3+cu12torch2.8cxx11abiTRUE`), and pip then calls
        what a page lists inconsistent; others wrote two `+`, which pip does not read at all.
        """
        named = parse_filename(self.path.name)
        if named is None or named.version == str(self.version):
            return self.path.name
        return named.with_version(str(self.version)).filename

    @property
    def unpacked_size(self) -> int:
        """The bytes of all files together."""
        return sum(size for _, size in self.sizes)

    @property
    def console_scripts(self) -> Tuple[str, ...]:
        """The commands that pip makes for a terminal."""
        return tuple(point.name for point in self.entry_points if point.group == "console_scripts")

    @property
    def scripts(self) -> Tuple[str, ...]:
        """Names of the commands that it installs."""
        commands = [e.name for e in self.entry_points if e.group in ("console_scripts", "gui_scripts")]
        data = f"{self.dist_info[: -len('.dist-info')]}.data/scripts/"
        return tuple(sorted({*commands, *(n[len(data) :] for n in self.files if n.startswith(data))}))


def find_case_clashes(files: Iterable[str]) -> Tuple[Tuple[str, str], ...]:
    """Pairs of paths that are one file where a file system does not tell case or Unicode form apart."""
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

    `filename` is the wheel's name where `path` has another. `sha256` (hex) is what the whole file must have.
    `verify_members=False` leaves out only the inflating and hashing of members (seconds for torch),
    right where a trusted source pinned the whole file. Facts: the specifications of wheels and of RECORD.
    `is_promised`: are these the bytes that an index or the person promised? Only asked where the answer matters: what
    RECORD then says wrongly of METADATA, does not say of a file, or says of a file that is not there, is a RecordNote
    instead of an error, and so is a Wheel-Version before 1. `strict_records`: of these only METADATA and files that
    RECORD does not list.
    Raises WheelInvalid, HashMismatch, or OSError when the file cannot be read.
    """
    filename = filename or path.name
    with path.open("rb") as stream:
        digest = hash_stream(stream)
        if sha256 is not None and digest != sha256.lower():
            raise HashMismatch(
                f"{filename}: the file has sha256 {digest}, promised was {sha256.lower()}",
                hint=f"remove {path} and fetch it again; if it stays so, the host serves another file",
            )
        reader = _Reader(path, filename, stream, is_promised, strict_records=strict_records)
        return reader.read(digest, verify_members=verify_members)


def hash_stream(stream: BinaryIO) -> str:
    """sha256 (hex) of an open file, from its beginning."""
    stream.seek(0)
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """sha256 (hex) of a file."""
    with path.open("rb") as stream:
        return hash_stream(stream)


def extract_members(artifact: Artifact, names: Iterable[str], folder: Path) -> Tuple[Path, ...]:
    """Write the named members of a verified wheel below `folder` under their archive paths."""
    targets = {name: folder.joinpath(*name.split("/")) for name in names}
    for parent in {target.parent for target in targets.values()}:
        parent.mkdir(parents=True, exist_ok=True)

    def write(name: str) -> Path:
        with archive.open(name) as source, targets[name].open("wb") as out:
            for chunk in iter(lambda: source.read(_CHUNK), b""):
                out.write(chunk)
        return targets[name]

    # zlib works without the interpreter's lock: half the time for a large wheel on two processors.
    with zipfile.ZipFile(str(artifact.path)) as archive, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(write, targets))


class _Reader:
    """One pass over one archive; holds what the checks share."""

    def __init__(
        self, path: Path, filename: str, stream: BinaryIO, is_promised: Callable[[], bool], *, strict_records: bool
    ) -> None:
        self.path = path
        self.filename = filename
        self.stream = stream
        self.is_promised = lru_cache(maxsize=None)(is_promised)  # the answer may cost a request
        self.strict_records = strict_records
        self.notes: Dict[str, RecordNote] = {}  # by path
        self.size = path.stat().st_size
        self.limit = max(MIN_UNPACKED_LIMIT, MAX_RATIO * self.size)
        self.inflated = 0
        self.starts: Dict[str, int] = {}  # where the bytes of each entry begin

    def invalid(self, reason: str) -> NoReturn:
        raise WheelInvalid(
            f"{self.filename}: {reason}",
            hint="nothing was installed from it; take another file, and tell the project or its host",
        )

    def read(self, sha256: str, *, verify_members: bool) -> Artifact:
        name, version, tags = self._parse_filename()
        self._check_directory()
        try:
            archive = zipfile.ZipFile(self.stream)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
            self.invalid(f"not a readable zip archive ({error})")
        with archive:
            infos = archive.infolist()
            self._check_entries(infos)
            self._check_layout(infos, archive.start_dir)
            files = {info.filename: info for info in infos if not info.is_dir()}
            dist_info = self._find_dist_info(files, name, version)
            self._check_destinations(files, dist_info)
            metadata = _parse_headers(self._read_text(files, f"{dist_info}/METADATA"))
            real_version = self._check_identity(metadata.get("Name"), metadata.get("Version"), name, version)
            wheel = _parse_headers(self._read_text(files, f"{dist_info}/WHEEL"))
            self._check_wheel_version(wheel.get("Wheel-Version"), f"{dist_info}/WHEEL")
            if len(metadata.get_all("Requires-Dist", [])) > MAX_REQUIREMENTS:
                self.invalid(f"its metadata has more than {MAX_REQUIREMENTS} requirements")
            record = self._read_record(files, dist_info, is_for_windows=_is_for_windows(tags))
            entry_points = self._read_entry_points(files, dist_info)
            self._check_record(files, record, dist_info, metadata.get("Version", "").strip(), hash_all=verify_members)
        return Artifact(
            path=self.path,
            sha256=sha256,
            name=name,
            version=real_version,
            tags=tags,
            wheel_tags=_parse_tags(wheel.get_all("Tag", [])),
            requires_dist=tuple(metadata.get_all("Requires-Dist", [])),
            requires_python=metadata.get("Requires-Python"),
            extras=tuple(metadata.get_all("Provides-Extra", [])),
            root_is_purelib=wheel.get("Root-Is-Purelib", "").strip().lower() == "true",
            dist_info=dist_info,
            files=tuple(files),
            native_objects=tuple(n for n in files if _NATIVE.search(n)),
            top_level=_find_top_level(files, dist_info),
            entry_points=entry_points,
            record=tuple(record.values()),
            sizes=tuple((path, info.file_size) for path, info in files.items()),
            record_notes=tuple(self.notes.values()),
        )

    def _parse_filename(self) -> Tuple[NormalizedName, Version, FrozenSet[Tag]]:
        try:
            name, version, _build, tags = parse_wheel_filename(self.filename)
        except (InvalidWheelFilename, ValueError) as error:
            # The names of 2020 with two "+" are read by nobody else.
            named = parse_filename(self.filename) if self.filename.count("+") > 1 else None
            if named is None:
                self.invalid(f"not a wheel file name ({error})")
            return named.project, named.parsed_version, named.tags
        return name, version, tags

    # --- the zip archive ---------------------------------------------------------------------------

    def _check_entries(self, infos: Sequence[zipfile.ZipInfo]) -> None:
        if len(infos) > MAX_ENTRIES:
            self.invalid(f"{len(infos)} entries, more than {MAX_ENTRIES}")
        seen: Set[str] = set()
        for info in infos:
            self._check_entry(info)
            name = info.filename.rstrip("/")
            if name in seen:
                self.invalid(f"the path {name!r} stands in it twice")
            seen.add(name)
        folders = {parent for name in seen for parent in _parents(name)}
        for info in infos:
            if not info.is_dir() and info.filename in folders:
                self.invalid(f"{info.filename!r} is a file and a folder at once")
        total = sum(info.file_size for info in infos)
        if total > self.limit:
            self.invalid(f"would unpack to {total} bytes, more than the limit of {self.limit}")

    def _check_entry(self, info: zipfile.ZipInfo) -> None:
        # orig_filename is what the archive says; zipfile cuts at NUL and turns the platform's separator.
        name = info.orig_filename
        parts = name[:-1].split("/") if name.endswith("/") else name.split("/")
        if _has_second_name(info.extra):  # before the comparison: Python 3.12 and newer take it for the name
            self.invalid(f"the entry of {name!r} carries a second name")
        if name != info.filename or "\\" in name or any(_steers(character) for character in name):
            self.invalid(f"the path {name!r} has characters that readers treat differently")
        if name.startswith("/") or ":" in parts[0]:
            self.invalid(f"the path {name!r} is absolute")
        if any(part in ("", ".", "..") for part in parts):
            self.invalid(f"the path {name!r} leaves its folder or is not in its simplest form")
        if any(len(part.encode("utf-8", "surrogateescape")) > MAX_PATH_PART for part in parts):
            self.invalid(f"a part of the path {name[:80]!r}... is longer than {MAX_PATH_PART} bytes")
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            self.invalid(f"{name!r} is stored in {info.compress_size} bytes and is said to have {info.file_size}")
        if info.flag_bits & 0x2041:
            self.invalid(f"{name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self.invalid(f"{name!r} is compressed in a way ({info.compress_type}) that not every reader knows")
        mode = info.external_attr >> 16
        kind = mode & 0o170000
        if kind not in ((0, 0o040000) if info.is_dir() else (0, 0o100000)):
            self.invalid(f"{name!r} is a link or a special file")
        if mode & 0o6000:
            self.invalid(f"{name!r} has a set-user-id or set-group-id bit")
        if info.is_dir() and info.file_size:
            self.invalid(f"the folder {name!r} has contents of its own")

    def _check_directory(self) -> None:
        """One end record and one directory that it describes, counted before an object is made of each entry.

        A directory of a million entries costs zipfile ten seconds and most of a gigabyte.
        """
        if self.size < 22:
            self.invalid("not a zip archive")
        with mmap.mmap(self.stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, end, total = self._read_end(data)
            if end - start > MAX_DIRECTORY:
                self.invalid(f"a directory of {end - start} bytes, more than the limit of {MAX_DIRECTORY}")
            count, position = 0, start
            while data[position : position + 4] == _DIRECTORY_ENTRY and position + 46 <= end:
                count += 1
                if count > MAX_ENTRIES:
                    self.invalid(f"more than {MAX_ENTRIES} entries")
                position += 46 + sum(struct.unpack_from("<HHH", data, position + 28))
            if position != end or count != total:
                self.invalid(f"{count} entries in its directory, where its end record says {total}")

    def _check_layout(self, infos: Sequence[zipfile.ZipInfo], start_of_directory: int) -> None:
        """The file must be: entry after entry, the central directory, one end record, and nothing else."""
        with mmap.mmap(self.stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if self._read_end(data)[0] != start_of_directory:
                self.invalid("two directories, of which readers take one or the other")
            position = 0
            for info in sorted(infos, key=lambda i: i.header_offset):
                if info.header_offset != position:
                    self.invalid("bytes before, between or inside its entries that belong to none")
                position = self._check_local_header(data, info)
            if position != start_of_directory:
                self.invalid("bytes between its last entry and its directory")

    def _check_local_header(self, data: mmap.mmap, info: zipfile.ZipInfo) -> int:
        """Compare one local header with the directory; return the offset behind the entry."""
        start = info.header_offset
        header = data[start : start + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            self.invalid(f"no entry where the directory says {info.filename!r} is")
        _, flags, method, _, _, crc, packed, size, name_length, extra_length = struct.unpack("<HHHHHIIIHH", header[4:])
        name = data[start + 30 : start + 30 + name_length]
        encoding = "utf-8" if flags & 0x800 else "cp437"
        if name.decode(encoding, "replace") != info.orig_filename or method != info.compress_type:
            self.invalid(f"the entry of {info.filename!r} says something else than the directory")
        deferred = bool(flags & 0x8)
        if not deferred and crc != info.CRC:
            self.invalid(f"the entry of {info.filename!r} has another checksum than the directory")
        # 0xFFFFFFFF: the sizes stand in the 64-bit extra field.
        for local, central in ((packed, info.compress_size), (size, info.file_size)):
            if local != central and local != 0xFFFFFFFF and not (deferred and local == 0):
                self.invalid(f"the entry of {info.filename!r} has another size than the directory")
        if _has_second_name(data[start + 30 + name_length : start + 30 + name_length + extra_length]):
            self.invalid(f"the entry of {info.filename!r} carries a second name")
        self.starts[info.filename] = start + 30 + name_length + extra_length
        end = self.starts[info.filename] + info.compress_size
        return self._skip_descriptor(data, end, info) if deferred else end

    def _skip_descriptor(self, data: mmap.mmap, end: int, info: zipfile.ZipInfo) -> int:
        forms = ["<IQQ"] if max(info.compress_size, info.file_size) > 0xFFFFFFFF else ["<III", "<IQQ"]
        values = (info.CRC, info.compress_size, info.file_size)
        known = [p + struct.pack(form, *values) for p in (b"PK\x07\x08", b"") for form in forms]
        length = next((len(k) for k in known if data[end : end + len(k)] == k), None)
        if length is None:
            self.invalid(f"the data descriptor of {info.filename!r} says something else than the directory")
        return end + length

    def _read_end(self, data: mmap.mmap) -> Tuple[int, int, int]:
        """Where the directory begins and ends, and how many entries it is said to have."""
        comment_length = len(_KNOWN_COMMENT) if data[-len(_KNOWN_COMMENT) :] == _KNOWN_COMMENT else 0
        end = self.size - _END_RECORD - comment_length
        if end < 0 or data[end : end + 4] != b"PK\x05\x06":
            self.invalid("data behind the end of the archive, or an archive comment, or not a zip archive")
        disk, directory_disk, here, total, length, offset, comment = struct.unpack(
            "<HHHHIIH", data[end + 4 : end + _END_RECORD]
        )
        if comment != comment_length or disk not in (0, 0xFFFF) or directory_disk not in (0, 0xFFFF) or here != total:
            self.invalid("more than one part, or an archive comment")
        if 0xFFFFFFFF in (length, offset) or total == 0xFFFF:
            end, total, length, offset = self._read_end64(data, end, total, length, offset)
        if offset + length != end:
            self.invalid("data before the archive, or a directory that its end record does not describe")
        return offset, end, total

    def _read_end64(self, data: mmap.mmap, end: int, total: int, length: int, offset: int) -> Tuple[int, int, int, int]:
        locator = end - 20
        if locator < 0 or data[locator : locator + 4] != b"PK\x06\x07":
            return end, total, length, offset  # 65,535 entries and no 64-bit record
        (where,) = struct.unpack("<Q", data[locator + 8 : locator + 16])
        record = data[where : where + 56]
        if len(record) < 56 or record[:4] != b"PK\x06\x06" or where + 56 != locator:
            self.invalid("a 64-bit end record that readers treat differently")
        _here, total64, length64, offset64 = struct.unpack("<QQQQ", record[24:56])
        return where, total64, length64, offset64

    # --- names and metadata ------------------------------------------------------------------------

    def _find_dist_info(self, files: Dict[str, zipfile.ZipInfo], name: NormalizedName, version: Version) -> str:
        tops = {path.split("/", 1)[0] for path in files if "/" in path}
        found = sorted(top for top in tops if top.lower().endswith(".dist-info"))
        if len(found) != 1:
            self.invalid(f"{len(found)} .dist-info folders ({', '.join(found) or 'none'}) where one must be")
        data = sorted(top for top in tops if top.lower().endswith(".data"))
        for folder in [*found, *data]:
            stem, _, number = folder.rpartition(".")[0].rpartition("-")
            try:
                same = canonicalize_name(stem) == name and Version(number.replace("_", "-")).public == version.public
            except ValueError:
                same = False
            if not same:
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

    def _check_installed(self, path: str, parts: Sequence[str], dist_info: str, name: NormalizedName) -> None:
        """A wheel is one distribution: it must not say that others are installed, nor take their place."""
        site_path = find_site_path(path, dist_info)
        if site_path is None:
            return
        is_in_data = site_path != path
        top = site_path.split("/")[0]
        if top == dist_info and not is_in_data:
            return
        if _INSTALLED.search(top) and (is_in_data or canonicalize_name(re.split(r"-|\.egg", top)[0]) != name):
            self.invalid(f"{path} would be the record of another distribution")

    def _check_data_file(self, path: str, parts: Sequence[str]) -> None:
        if len(parts) < 3 or parts[1] not in _DATA_KEYS:
            self.invalid(f"{path} is for no known installation scheme")
        is_command = parts[1] == "scripts" or (
            parts[1] == "data" and len(parts) > 3 and parts[2].lower() in ("bin", "scripts")
        )
        if is_command and _PROTECTED_SCRIPT.match(parts[-1]):
            self.invalid(f"{path} would replace the environment's own {parts[-1]}")

    def _check_identity(
        self, said_name: Optional[str], said_version: Optional[str], name: NormalizedName, version: Version
    ) -> Version:
        if said_name is None or canonicalize_name(said_name.strip()) != name:
            self.invalid(f"its metadata says the project is {said_name!r}, its file name says {name!r}")
        try:
            real = Version((said_version or "").strip())
        except ValueError:  # InvalidVersion, and numbers that Python will not read
            self.invalid(f"its metadata says the version is {(said_version or '')[:80] or None!r}")
        # Some hosts write the torch build into the file name only: the local version identifier may differ.
        if real.public != version.public:
            self.invalid(f"its metadata says version {real}, its file name says {version}")
        return real

    def _check_wheel_version(self, said: Optional[str], path: str) -> None:
        """Before the format was agreed upon (PEP 427, 2012) wheels said 0.1, and had the same form."""
        reason = f"its wheel format version is {said!r}; only 1.x is known"
        if re.match(r"^\s*0\.\d+\s*$", said or ""):
            self._note_or_refuse(path, reason)
        elif not re.match(r"^\s*1\.\d+\s*$", said or ""):
            self.invalid(reason)

    def _read_text(self, files: Dict[str, zipfile.ZipInfo], name: str) -> str:
        info = files.get(name)
        if info is None:
            self.invalid(f"{name} is missing")
        if info.file_size > (MAX_RECORD if name.endswith("/RECORD") else MAX_METADATA):
            self.invalid(f"{name} has {info.file_size} bytes, which is no sensible size for it")
        content = b"".join(self._inflate(info))
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            self.invalid(f"{name} is not UTF-8 text")

    def _read_entry_points(self, files: Dict[str, zipfile.ZipInfo], dist_info: str) -> Tuple[EntryPoint, ...]:
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
            EntryPoint(group, key, value) for group in parser.sections() for key, value in parser.items(group)
        )
        for point in points:
            if point.group in ("console_scripts", "gui_scripts"):
                self._check_command(point.name, point.value)
        return points

    def _check_command(self, command: str, calls: str) -> None:
        if re.search(r"[/\\\s=]", command) or command in ("", ".", "..") or any(map(_steers, command)):
            self.invalid(f"its command {command!r} is not a plain file name")
        if not _CALLABLE.match(calls):
            self.invalid(f"its command {command!r} calls {calls[:80]!r}, which is no name of Python")
        if _PROTECTED_SCRIPT.match(command) and not self.filename.startswith("pip-"):
            self.invalid(f"its command {command!r} would replace the environment's own")

    # --- RECORD ------------------------------------------------------------------------------------

    def _read_record(
        self, files: Dict[str, zipfile.ZipInfo], dist_info: str, *, is_for_windows: bool
    ) -> Dict[str, RecordRow]:
        """The rows by path. Official wheels for Windows write their paths with backslashes; no other wheel may."""
        text = self._read_text(files, f"{dist_info}/RECORD")
        rows: Dict[str, RecordRow] = {}
        try:
            lines = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            self.invalid(f"RECORD cannot be read ({error})")
        for cells in lines:
            if cells:
                row = self._parse_row(cells)
                if is_for_windows:
                    row = replace(row, path=row.path.replace("\\", "/"))
                if rows.get(row.path, row) != row:
                    self.invalid(f"RECORD lists {row.path} twice, with different rows")
                if row.path in rows:
                    self._note_or_refuse(row.path, f"RECORD lists {row.path} twice")
                rows[row.path] = row
        for path in sorted(set(rows) - set(files)):
            self._check_missing(path)
            del rows[path]
        return rows

    def _check_missing(self, path: str) -> None:
        """A row without a file. One that leads out would let a later removal take somebody else's file."""
        reason = f"RECORD lists {path}, which is not in the archive"
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\\" in part or any(map(_steers, part)) for part in parts) or ":" in parts[0]:
            self.invalid(reason)
        self._note_or_refuse(path, reason, "the archive has not what RECORD lists:")

    def _note_or_refuse(self, path: str, reason: str, group: str = "") -> None:
        """pip takes it: so do we, where the whole file is the one that was meant."""
        if self.strict_records or not self.is_promised():
            self.invalid(reason)
        self.notes.setdefault(path, RecordNote(path, reason, group))

    def _check_record(
        self,
        files: Dict[str, zipfile.ZipInfo],
        rows: Dict[str, RecordRow],
        dist_info: str,
        version: str,
        *,
        hash_all: bool,
    ) -> None:
        """Compare each file with its row; `hash_all=False` hashes METADATA alone and compares the sizes of the rest."""
        own, metadata = f"{dist_info}/RECORD", f"{dist_info}/METADATA"
        unhashed = {f"{dist_info}/{name}" for name in _SIGNATURES}
        for path, info in files.items():
            row = rows.get(path)
            if path == own or (path in unhashed and (row is None or row.digest is None)):
                continue
            reason = self._find_disagreement(info, row, is_hashed=hash_all or path == metadata)
            if reason is None:
                continue
            cut = self._find_cut_version(info, row, version, is_metadata=path == metadata)
            if cut is not None:
                detail = (
                    f"RECORD knows {path} with version {version}+{cut}: +{cut} was taken out after RECORD was written"
                )
                self.notes[path] = RecordNote(path, detail)
            elif (row is None or path == metadata) and self.is_promised():
                self.notes[path] = RecordNote(path, reason, "" if row is not None else "RECORD does not list")
            elif row is not None and row.algorithm is None and row.size in (None, info.file_size):
                self._note_or_refuse(path, reason)
            else:
                self.invalid(reason)

    def _find_disagreement(self, info: zipfile.ZipInfo, row: Optional[RecordRow], *, is_hashed: bool) -> Optional[str]:
        """What RECORD says otherwise of a file, or does not say."""
        path = info.filename
        if row is None:
            for _ in self._inflate(info):
                pass  # its size and its checksum are looked at all the same
            return f"RECORD does not list {path}"
        if row.size is not None and row.size != info.file_size:
            return f"RECORD says {path} has {row.size} bytes, the archive has {info.file_size}"
        if row.algorithm is None:
            for _ in self._inflate(info):
                pass
            return f"RECORD has no hash for {path}"
        if not is_hashed:
            return None
        digest = hashlib.new(row.algorithm)
        for chunk in self._inflate(info):
            digest.update(chunk)
        return (
            None if digest.digest() == row.digest else f"the contents of {path} do not have the hash that RECORD says"
        )

    def _find_cut_version(
        self, info: zipfile.ZipInfo, row: Optional[RecordRow], version: str, *, is_metadata: bool
    ) -> Optional[str]:
        """The local version identifier that was taken out of a file after RECORD was written; None for another change.

        torch, torchvision and torchaudio of 2021 and 2022 on PyPI were built as 1.8.1+cu102, and renamed afterwards.
        With the identifier put back the file has the hash that RECORD says: so nothing else was changed.
        """
        if row is None or row.algorithm is None or row.size is None or info.file_size > MAX_METADATA:
            return None
        length = row.size - info.file_size - len("+")
        content = b"".join(self._inflate(info))
        written = (f"\nVersion: {version}" if is_metadata else version).encode()
        before, found, behind = content.partition(written)
        if not found:
            return None
        for local in _LOCAL_VERSIONS:
            if len(local) == length:
                original = before + written + b"+" + local.encode() + behind
                if hashlib.new(row.algorithm, original).digest() == row.digest:
                    return local
        return None

    def _parse_row(self, cells: Sequence[str]) -> RecordRow:
        if len(cells) != 3:
            reason = f"RECORD has a row with {len(cells)} columns: {','.join(cells)[:100]!r}"
            self._note_or_refuse(cells[0], reason)
        path, hash_text, size_text = (*cells, "", "")[:3]
        if size_text and not re.match(r"^[0-9]{1,18}$", size_text):
            self.invalid(f"RECORD says {path} has {size_text[:40]!r} bytes")
        size = int(size_text) if size_text else None
        if not hash_text:
            return RecordRow(path, None, None, size)
        algorithm, _, encoded = hash_text.partition("=")
        if algorithm not in _STRONG_HASHES:
            self._note_or_refuse(path, f"RECORD hashes {path} with {algorithm!r}; sha256 or better is required")
            return RecordRow(path, None, None, size)
        try:
            digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            self.invalid(f"RECORD has no readable hash for {path}")
        return RecordRow(path, algorithm, digest, size)

    def _inflate(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """The member's bytes, counted while inflating: what the headers promise binds nobody.

        zipfile stops at the promised size and looks no further, so that other readers may find more than we have seen.
        """
        self.stream.seek(self.starts[info.filename])
        left, size, checksum = info.compress_size, 0, 0
        for chunk in self._unpack(info, left):
            size += len(chunk)
            self.inflated += len(chunk)
            if size > info.file_size:
                self.invalid(f"{info.filename} unpacks to more than the {info.file_size} bytes that its header says")
            if self.inflated > 2 * self.limit:
                self.invalid(f"unpacks to more than {self.limit} bytes")
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if size != info.file_size or checksum != info.CRC:
            self.invalid(f"{info.filename} cannot be unpacked (its size or its checksum is another)")

    def _unpack(self, info: zipfile.ZipInfo, left: int) -> Iterator[bytes]:
        inflater = None if info.compress_type == zipfile.ZIP_STORED else zlib.decompressobj(-15)
        try:
            while left:
                packed = self.stream.read(min(left, _CHUNK))
                if not packed:
                    self.invalid(f"{info.filename} cannot be unpacked (it is cut off)")
                left -= len(packed)
                if inflater is None:
                    yield packed
                    continue
                while packed:
                    yield inflater.decompress(packed, _CHUNK)
                    packed = inflater.unconsumed_tail
                    if inflater.eof and (packed or inflater.unused_data or left):
                        self.invalid(f"{info.filename} has bytes behind its end")
            if inflater is not None:
                yield inflater.flush()  # a match that began before the last chunk was full
                if not inflater.eof:
                    self.invalid(f"{info.filename} cannot be unpacked (it is cut off)")
        except (zlib.error, OSError) as error:
            self.invalid(f"{info.filename} cannot be unpacked ({error})")


def _parse_tags(rows: Iterable[str]) -> FrozenSet[Tag]:
    """The tags that can be read: nvidia-nvimgcodec-cu12 0.2.0.7 says `py3-manylinux2014_x86_64`."""
    tags: Set[Tag] = set()
    for row in rows:
        try:
            tags |= parse_tag(row.strip())
        except ValueError:
            continue
    return frozenset(tags)


def _is_for_windows(tags: FrozenSet[Tag]) -> bool:
    return all(tag.platform.startswith("win") for tag in tags)


def _has_second_name(extra: bytes) -> bool:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == _UNICODE_PATH:
            return True
        position += 4 + length
    return False


def _steers(character: str) -> bool:
    """Would it steer a terminal, or make a listing lie?"""
    return ord(character) < 32 or 127 <= ord(character) < 160 or character in _TURNING


def _parse_headers(text: str) -> Message:
    from email.parser import HeaderParser  # slow to import, and most commands open no wheel

    return HeaderParser().parsestr(text)


def _parents(path: str) -> List[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _find_top_level(files: Iterable[str], dist_info: str) -> Tuple[str, ...]:
    """Import names from the files themselves: top_level.txt is often missing and sometimes wrong."""
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
        # "x.py", "x.cpython-311-x86_64-linux-gnu.so"; a folder "x.libs" holds libraries and is no package.
        is_module = len(parts) == 1 and (suffix == "py" or _NATIVE.search(parts[0]))
        if stem.isidentifier() and (is_module or (len(parts) > 1 and not suffix)):
            names.add(stem)
    return tuple(sorted(names))

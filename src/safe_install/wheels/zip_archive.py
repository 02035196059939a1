"""One zip archive that reads the same for every reader: its structure is checked before its
contents are inflated."""

from __future__ import annotations

import mmap
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, NoReturn, Optional, Sequence, Set

from safe_install.errors import WheelInvalid

MAX_ENTRIES = 100_000
# bytes of the archive's directory; torch's 14,000 entries take 1.6 MB
MAX_DIRECTORY = 64 * 1024 * 1024
MAX_PATH_PART = 255  # bytes
MIN_UNPACKED_LIMIT = 200 * 1024 * 1024  # bytes
MAX_RATIO = 20  # unpacked bytes to archive bytes, where the archive is not small

CHUNK = 1024 * 1024  # bytes that are read or inflated at once
_DIRECTORY_ENTRY = b"PK\x01\x02"
_END_RECORD = 22  # bytes
# Written by the Rust crate `zip`: every wheel that maturin built until 2021 has it (orjson, polars,
# tokenizers).
_KNOWN_COMMENT = b"zip-rs"
# an extra field with a second name, which Python reads since 3.12 and others always
_UNICODE_PATH = 0x7075
# Characters that steer a terminal, and those that turn the direction of a line, so that a listing
# shows another name than the file has.
_DECEPTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class _EndRecord(NamedTuple):
    """The end record of an archive, and what it says of the directory."""

    at: int  # where it lies
    entries: int  # in the directory
    length: int  # of the directory
    start: int  # of the directory


class _LocalHeader(NamedTuple):
    """What stands before the bytes of an entry."""

    version: int
    flags: int
    method: int
    time: int
    date: int
    checksum: int
    packed: int
    size: int
    name_length: int
    extra_length: int

    @property
    def is_deferred(self) -> bool:
        """Do checksum and sizes stand behind the bytes?"""
        return bool(self.flags & 0x8)


class CheckedZip:
    """One pass over one archive; holds what the checks share."""

    def __init__(self, path: Path, filename: str, stream: BinaryIO) -> None:
        """`filename`: for messages; `stream`: the file at `path`, open."""
        self.path = path
        self.filename = filename
        self.stream = stream
        self.size = path.stat().st_size
        self.limit = max(MIN_UNPACKED_LIMIT, MAX_RATIO * self.size)
        self.inflated = 0
        self.starts: Dict[str, int] = {}  # where the bytes of each entry begin

    def invalid(self, reason: str) -> NoReturn:
        """Raise WheelInvalid."""
        raise WheelInvalid(
            f"{self.filename}: {reason}",
            hint="Nothing was installed from it; take another file, and tell the project or its host.",
        )

    def read_files(self) -> Dict[str, zipfile.ZipInfo]:
        """The files by their paths, after all checks of the structure. Raises WheelInvalid."""
        self._check_directory()
        try:
            archive = zipfile.ZipFile(self.stream)
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            struct.error,
        ) as error:
            self.invalid(f"not a readable zip archive ({error})")
        with archive:
            infos = archive.infolist()
            self._check_entries(infos)
            self._check_layout(infos, archive.start_dir)
        return {info.filename: info for info in infos if not info.is_dir()}

    def _check_entries(self, infos: Sequence[zipfile.ZipInfo]) -> None:
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
        """Check its path, how its bytes are kept, and its kind."""
        self._check_path(info)
        self._check_storage(info)
        self._check_kind(info)

    def _check_path(self, info: zipfile.ZipInfo) -> None:
        # orig_filename is what the archive says; zipfile cuts at NUL and turns the platform's
        # separator.
        name = info.orig_filename
        parts = name[:-1].split("/") if name.endswith("/") else name.split("/")
        # before the comparison: Python 3.12 and newer take it for the name
        if _has_second_name(info.extra):
            self.invalid(f"the entry of {name!r} carries a second name")
        if name != info.filename or "\\" in name or is_deceptive(name):
            self.invalid(f"the path {name!r} has characters that readers treat differently")
        if name.startswith("/") or ":" in parts[0]:
            self.invalid(f"the path {name!r} is absolute")
        if any(part in ("", ".", "..") for part in parts):
            self.invalid(f"the path {name!r} leaves its folder or is not in its simplest form")
        if any(len(part.encode("utf-8", "surrogateescape")) > MAX_PATH_PART for part in parts):
            self.invalid(
                f"a part of the path {name[:80]!r}... is longer than {MAX_PATH_PART} bytes"
            )

    def _check_storage(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            self.invalid(
                f"{name!r} is stored in {info.compress_size} bytes and is said to have "
                f"{info.file_size}"
            )
        if info.flag_bits & 0x2041:
            self.invalid(f"{name!r} is encrypted")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            self.invalid(
                f"{name!r} is compressed in a way ({info.compress_type}) that not every reader "
                "knows"
            )

    def _check_kind(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        mode = info.external_attr >> 16
        kind = mode & 0o170000
        if kind not in ((0, 0o040000) if info.is_dir() else (0, 0o100000)):
            self.invalid(f"{name!r} is a link or a special file")
        if mode & 0o6000:
            self.invalid(f"{name!r} has a set-user-id or set-group-id bit")
        if info.is_dir() and info.file_size:
            self.invalid(f"the folder {name!r} has contents of its own")

    def _check_directory(self) -> None:
        """One end record and one directory that it describes, counted before an object is made of
        each entry.

        A directory of a million entries costs zipfile ten seconds and most of a gigabyte.
        """
        if self.size < 22:
            self.invalid("not a zip archive")
        with mmap.mmap(self.stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            record = self._read_end(data)
            if record.length > MAX_DIRECTORY:
                self.invalid(
                    f"a directory of {record.length} bytes, more than the limit of {MAX_DIRECTORY}"
                )
            count, position = 0, record.start
            while data[position : position + 4] == _DIRECTORY_ENTRY and position + 46 <= record.at:
                count += 1
                if count > MAX_ENTRIES:
                    self.invalid(f"more than {MAX_ENTRIES} entries")
                position += 46 + sum(struct.unpack_from("<HHH", data, position + 28))
            if position != record.at or count != record.entries:
                self.invalid(
                    f"{count} entries in its directory, where its end record says {record.entries}"
                )

    def _check_layout(self, infos: Sequence[zipfile.ZipInfo], start_of_directory: int) -> None:
        """The file must be: entry after entry, the central directory, one end record, and nothing
        else."""
        with mmap.mmap(self.stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if self._read_end(data).start != start_of_directory:
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
        local = _LocalHeader._make(struct.unpack("<HHHHHIIIHH", header[4:]))
        name_end = start + 30 + local.name_length
        name = data[start + 30 : name_end]
        encoding = "utf-8" if local.flags & 0x800 else "cp437"
        is_same_name = name.decode(encoding, "replace") == info.orig_filename
        if not is_same_name or local.method != info.compress_type:
            self.invalid(f"the entry of {info.filename!r} says something else than the directory")
        self._compare_sizes(local, info)
        extra_end = name_end + local.extra_length
        if _has_second_name(data[name_end:extra_end]):
            self.invalid(f"the entry of {info.filename!r} carries a second name")
        self.starts[info.filename] = extra_end
        end = extra_end + info.compress_size
        return self._skip_descriptor(data, end, info) if local.is_deferred else end

    def _compare_sizes(self, local: _LocalHeader, info: zipfile.ZipInfo) -> None:
        if not local.is_deferred and local.checksum != info.CRC:
            self.invalid(f"the entry of {info.filename!r} has another checksum than the directory")
        for said, central in ((local.packed, info.compress_size), (local.size, info.file_size)):
            # 0xFFFFFFFF: the sizes stand in the 64-bit extra field.
            is_elsewhere = said == 0xFFFFFFFF or (local.is_deferred and said == 0)
            if said != central and not is_elsewhere:
                self.invalid(f"the entry of {info.filename!r} has another size than the directory")

    def _skip_descriptor(self, data: mmap.mmap, end: int, info: zipfile.ZipInfo) -> int:
        forms = (
            ["<IQQ"] if max(info.compress_size, info.file_size) > 0xFFFFFFFF else ["<III", "<IQQ"]
        )
        values = (info.CRC, info.compress_size, info.file_size)
        known = [p + struct.pack(form, *values) for p in (b"PK\x07\x08", b"") for form in forms]
        length = next((len(k) for k in known if data[end : end + len(k)] == k), None)
        if length is None:
            self.invalid(
                f"the data descriptor of {info.filename!r} says something else than the directory"
            )
        return end + length

    def _read_end(self, data: mmap.mmap) -> _EndRecord:
        """The end record, which lies right behind the directory."""
        comment_length = (
            len(_KNOWN_COMMENT) if data[-len(_KNOWN_COMMENT) :] == _KNOWN_COMMENT else 0
        )
        end = self.size - _END_RECORD - comment_length
        if end < 0 or data[end : end + 4] != b"PK\x05\x06":
            self.invalid(
                "data behind the end of the archive, or an archive comment, or not a zip archive"
            )
        disk, directory_disk, here, total, length, offset, comment = struct.unpack(
            "<HHHHIIH", data[end + 4 : end + _END_RECORD]
        )
        if (
            comment != comment_length
            or disk not in (0, 0xFFFF)
            or directory_disk not in (0, 0xFFFF)
            or here != total
        ):
            self.invalid("more than one part, or an archive comment")
        record = self._read_end64(data, _EndRecord(end, total, length, offset))
        if record.start + record.length != record.at:
            self.invalid(
                "data before the archive, or a directory that its end record does not describe"
            )
        return record

    def _read_end64(self, data: mmap.mmap, record: _EndRecord) -> _EndRecord:
        """The same by the 64-bit record, where there is one. zipfile writes it from 2 GiB on, and
        leaves true numbers beside it up to 4 GiB: some readers take those, others these."""
        locator = record.at - 20
        if locator < 0 or data[locator : locator + 4] != b"PK\x06\x07":
            return record
        (where,) = struct.unpack("<Q", data[locator + 8 : locator + 16])
        content = data[where : where + 56]
        if len(content) < 56 or content[:4] != b"PK\x06\x06" or where + 56 != locator:
            self.invalid("a 64-bit end record that readers treat differently")
        _here, count, length, start = struct.unpack("<QQQQ", content[24:56])
        is_same = (
            record.entries in (0xFFFF, count)
            and record.length in (0xFFFFFFFF, length)
            and record.start in (0xFFFFFFFF, start)
        )
        if not is_same:
            self.invalid("a 64-bit end record that readers treat differently")
        return _EndRecord(where, count, length, start)

    def inflate(self, info: zipfile.ZipInfo, stream: Optional[BinaryIO] = None) -> Iterator[bytes]:
        """The member's bytes, counted while inflating: what the headers promise binds nobody.

        `stream`: the same file, opened once more, for a thread of its own. zipfile stops at the
        promised size and looks no further, so that other readers may find more than we have seen.
        """
        stream = self.stream if stream is None else stream
        stream.seek(self.starts[info.filename])
        size, checksum = 0, 0
        for chunk in self._unpack(info, stream):
            size += len(chunk)
            self.inflated += len(chunk)
            if size > info.file_size:
                self.invalid(
                    f"{info.filename} unpacks to more than the {info.file_size} bytes that its "
                    "header says"
                )
            if self.inflated > 2 * self.limit:
                self.invalid(f"unpacks to more than {self.limit} bytes")
            checksum = zlib.crc32(chunk, checksum)
            yield chunk
        if size != info.file_size or checksum != info.CRC:
            self.invalid(
                f"{info.filename} cannot be unpacked (its size or its checksum is another)"
            )

    def _unpack(self, info: zipfile.ZipInfo, stream: BinaryIO) -> Iterator[bytes]:
        left = info.compress_size
        inflater = None if info.compress_type == zipfile.ZIP_STORED else zlib.decompressobj(-15)
        try:
            while left:
                packed = stream.read(min(left, CHUNK))
                if not packed:
                    self.invalid(f"{info.filename} cannot be unpacked (it is cut off)")
                left -= len(packed)
                if inflater is None:
                    yield packed
                    continue
                while packed:
                    yield inflater.decompress(packed, CHUNK)
                    packed = inflater.unconsumed_tail
                    if inflater.eof and (packed or inflater.unused_data or left):
                        self.invalid(f"{info.filename} has bytes behind its end")
            if inflater is not None:
                yield inflater.flush()  # a match that began before the last chunk was full
                if not inflater.eof:
                    self.invalid(f"{info.filename} cannot be unpacked (it is cut off)")
        except (zlib.error, OSError) as error:
            self.invalid(f"{info.filename} cannot be unpacked ({error})")


def _has_second_name(extra: bytes) -> bool:
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == _UNICODE_PATH:
            return True
        position += 4 + length
    return False


def is_deceptive(name: str) -> bool:
    """Would it steer a terminal, or make a listing lie?"""
    return _DECEPTIVE.search(name) is not None


def _parents(path: str) -> List[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]

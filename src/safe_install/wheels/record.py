"""Compares the RECORD of a wheel with the files of its archive.

Neither pip nor uv does. A gap in RECORD is an error, or a note where the whole file's hash is known
to be right.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import zipfile
from functools import lru_cache
from typing import BinaryIO, Callable, Dict, Iterator, NamedTuple, Optional, Sequence

from safe_install.wheels.zip_archive import CheckedZip, is_deceptive

_MAX_RENAMED = 8 * 1024 * 1024  # bytes of a file in which a local version identifier is looked for
_SIGNATURES = {"RECORD.jws", "RECORD.p7s"}
_STRONG_HASHES = {"sha256", "sha384", "sha512"}
# Local version identifiers that publishers remove before an upload to PyPI, which permits none.
_LOCAL_VERSIONS = (
    "cpu",
    "xpu",
    *(f"cu{number}" for number in range(90, 200)),
    *(f"rocm{major}.{minor}" for major in range(3, 10) for minor in range(10)),
)


class RecordRow(NamedTuple):
    """A row of RECORD. The rows of RECORD itself and of its signatures have no hash."""

    path: str
    algorithm: Optional[str]  # "sha256"
    digest: Optional[bytes]
    size: Optional[int]  # bytes


def read_hashed(
    archive: CheckedZip, info: zipfile.ZipInfo, row: RecordRow, stream: Optional[BinaryIO] = None
) -> Iterator[bytes]:
    """The bytes of a member with a hash; at their end it is refused where the hash differs.

    `stream`: see `CheckedZip.inflate`.
    """
    digest = hashlib.new(row.algorithm or "")
    for chunk in archive.inflate(info, stream):
        digest.update(chunk)
        yield chunk
    if digest.digest() != row.digest:
        archive.invalid(_wrong_hash(row.path))


def _wrong_hash(path: str) -> str:
    return f"the contents of {path} do not have the hash that RECORD says"


class RecordNote(NamedTuple):
    """A difference between RECORD and the archive for one file, in a wheel that is accepted all the
    same."""

    path: str
    detail: str
    # a common text for notes that often occur for many files: "RECORD does not list"
    group: str = ""


class RecordCheck:
    """The checks of one RECORD. `notes`: the accepted differences, by path."""

    def __init__(
        self, archive: CheckedZip, is_promised: Callable[[], bool], *, strict: bool
    ) -> None:
        """`is_promised`, `strict`: see `open_wheel`."""
        self._archive = archive
        self._is_promised = lru_cache(maxsize=None)(
            is_promised
        )  # cached, because it may ask a host
        self._strict = strict
        self.notes: Dict[str, RecordNote] = {}

    def parse(
        self, text: str, files: Dict[str, zipfile.ZipInfo], *, is_for_windows: bool
    ) -> Dict[str, RecordRow]:
        """The rows by path. Official wheels for Windows have backslashes in their paths; others
        must not."""
        rows: Dict[str, RecordRow] = {}
        try:
            lines = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            self._archive.invalid(f"RECORD cannot be read ({error})")
        for cells in lines:
            if cells:
                row = self._parse_row(cells)
                if is_for_windows:
                    row = row._replace(path=row.path.replace("\\", "/"))
                if rows.get(row.path, row) != row:
                    self._archive.invalid(f"RECORD lists {row.path} twice, with different rows")
                if row.path in rows:
                    self.note_or_refuse(row.path, f"RECORD lists {row.path} twice")
                rows[row.path] = row
        for path in sorted(set(rows) - set(files)):
            self._check_missing(path)
            del rows[path]
        return rows

    def _check_missing(self, path: str) -> None:
        """Refuse or note a row without a file. A path outside of the environment would let a later
        removal delete another program's file, so it is always refused."""
        reason = f"RECORD lists {path}, which is not in the archive"
        parts = path.split("/")
        if (
            any(part in ("", ".", "..") or "\\" in part or is_deceptive(part) for part in parts)
            or ":" in parts[0]
        ):
            self._archive.invalid(reason)
        self.note_or_refuse(path, reason, "the archive has not what RECORD lists:")

    def note_or_refuse(self, path: str, reason: str, group: str = "") -> None:
        """Note a difference that pip accepts, too, where the bytes are promised; else refuse it."""
        if self._strict or not self._is_promised():
            self._archive.invalid(reason)
        self.notes.setdefault(path, RecordNote(path, reason, group))

    def check_files(
        self,
        files: Dict[str, zipfile.ZipInfo],
        rows: Dict[str, RecordRow],
        dist_info: str,
        version: str,
        *,
        hash_all: bool,
    ) -> None:
        """Compare each file with its row. `hash_all=False`: only METADATA is hashed, the others are
        compared by size."""
        own, metadata = f"{dist_info}/RECORD", f"{dist_info}/METADATA"
        unhashed = {f"{dist_info}/{name}" for name in _SIGNATURES}
        for path, info in files.items():
            row = rows.get(path)
            if path == own or (path in unhashed and (row is None or row.digest is None)):
                continue
            is_metadata = path == metadata
            reason = self._find_disagreement(info, row, is_hashed=hash_all or is_metadata)
            if reason is None:
                continue
            cut = self._find_cut_version(info, row, version, is_metadata=is_metadata)
            if cut is None:
                self._judge_disagreement(info, row, reason, is_metadata=is_metadata)
                continue
            detail = (
                f"RECORD knows {path} with version {version}+{cut}: +{cut} was taken out "
                "after RECORD was written"
            )
            self.notes[path] = RecordNote(path, detail)

    def _judge_disagreement(
        self, info: zipfile.ZipInfo, row: Optional[RecordRow], reason: str, *, is_metadata: bool
    ) -> None:
        """Note it where the whole file was promised, or where RECORD only says too little; else
        raise WheelInvalid."""
        path = info.filename
        if (row is None or is_metadata) and self._is_promised():
            group = "" if row is not None else "RECORD does not list"
            self.notes[path] = RecordNote(path, reason, group)
        elif row is not None and row.algorithm is None and row.size in (None, info.file_size):
            self.note_or_refuse(path, reason)
        else:
            self._archive.invalid(reason)

    def _find_disagreement(
        self, info: zipfile.ZipInfo, row: Optional[RecordRow], *, is_hashed: bool
    ) -> Optional[str]:
        """How RECORD differs from a file; None where it agrees."""
        path = info.filename
        if row is None:
            for _ in self._archive.inflate(info):
                pass  # its size and its checksum are looked at all the same
            return f"RECORD does not list {path}"
        if row.size is not None and row.size != info.file_size:
            return f"RECORD says {path} has {row.size} bytes, the archive has {info.file_size}"
        if row.algorithm is None:
            for _ in self._archive.inflate(info):
                pass
            return f"RECORD has no hash for {path}"
        if not is_hashed:
            return None
        digest = hashlib.new(row.algorithm)
        for chunk in self._archive.inflate(info):
            digest.update(chunk)
        return None if digest.digest() == row.digest else _wrong_hash(path)

    def _find_cut_version(
        self, info: zipfile.ZipInfo, row: Optional[RecordRow], version: str, *, is_metadata: bool
    ) -> Optional[str]:
        """The local version identifier that was removed from a file after RECORD was written; None
        for another change.

        On PyPI, torch, torchvision and torchaudio of 2021 and 2022 were built as 1.8.1+cu102 and
        renamed. With the identifier put back the file has the hash in RECORD, which proves that
        nothing else was changed.
        """
        if (
            row is None
            or row.algorithm is None
            or row.size is None
            or info.file_size > _MAX_RENAMED
        ):
            return None
        length = row.size - info.file_size - len("+")
        content = b"".join(self._archive.inflate(info))
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
            self.note_or_refuse(cells[0], reason)
        path, hash_text, size_text = (*cells, "", "")[:3]
        if size_text and not re.match(r"^[0-9]{1,18}$", size_text):
            self._archive.invalid(f"RECORD says {path} has {size_text[:40]!r} bytes")
        size = int(size_text) if size_text else None
        if not hash_text:
            return RecordRow(path, None, None, size)
        algorithm, _, encoded = hash_text.partition("=")
        if algorithm not in _STRONG_HASHES:
            self.note_or_refuse(
                path, f"RECORD hashes {path} with {algorithm!r}; sha256 or better is required"
            )
            return RecordRow(path, None, None, size)
        try:
            digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            self._archive.invalid(f"RECORD has no readable hash for {path}")
        return RecordRow(path, algorithm, digest, size)

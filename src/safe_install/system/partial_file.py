"""A file while it is downloaded. If the download breaks off, the part is kept. A later download
continues it, if the host still has the same file."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Optional, Tuple

from safe_install.errors import DownloadFailed, HashMismatch
from safe_install.redaction import redact
from safe_install.system.http_body import ConnectionBroken, read_number

if TYPE_CHECKING:
    from safe_install.system.network import Response

ProgressReader = Callable[[int, Optional[int]], None]


class FileRefused(DownloadFailed):
    """The host does not send the file, or must not be asked for it."""


class OtherBytes(HashMismatch):
    """The downloaded file has another hash than expected."""

    def __init__(self, message: str, *, hint: str, found: str, is_continued: bool) -> None:
        super().__init__(message, hint=hint)
        self.found = found  # its sha256
        self.is_continued = is_continued  # does it consist of several answers?


class PartialFile:
    """The part of a file that has arrived, and the validator of the file (ETag or date). It is
    hashed while it arrives."""

    def __init__(self, destination: Path) -> None:
        self._destination = Path(destination)
        self._digest = hashlib.sha256()
        self._hashed = 0  # bytes that are in the digest
        self._is_continued = False
        self._bytes = self._destination.with_name(self._destination.name + ".part")
        self._state = self._destination.with_name(self._destination.name + ".part.json")

    def size(self) -> int:
        """The bytes that have arrived."""
        try:
            return self._bytes.stat().st_size
        except OSError:
            return 0

    def validator(self) -> str:
        """The validator of the file that began to arrive; "" if the host gave none."""
        try:
            found = json.loads(self._state.read_text("utf-8")).get("validator", "")
            return found if isinstance(found, str) else ""
        except (OSError, ValueError, AttributeError):
            return ""

    def remove(self) -> None:
        """Remove what has arrived."""
        for path in (self._bytes, self._state):
            try:
                path.unlink()
            except OSError:
                pass  # it does not exist

    def write(
        self,
        chunks: Iterator[bytes],
        *,
        have: int,
        headers: Mapping[str, str],
        size_limit: Optional[int],
        total: Optional[int],
        on_progress: Optional[ProgressReader],
        url: str,
    ) -> None:
        """Append `chunks` to the first `have` bytes. Errors: ConnectionBroken, DownloadFailed.

        `headers`: of the answer. `size_limit`, `total`: bytes of the whole file. `url`: for
        messages.
        """
        self._destination.parent.mkdir(parents=True, exist_ok=True)
        etag = headers.get("ETag", "")
        # Files with the same weak ETag may have different bytes (RFC 9110, 13.1.5).
        validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")
        self._state.write_text(json.dumps({"validator": validator}), "utf-8")
        self._is_continued = have > 0
        self._hash_first(have)
        done = have
        with self._bytes.open("ab" if have else "wb") as stream:
            for chunk in chunks:
                done += len(chunk)
                if size_limit is not None and done > size_limit:
                    stream.close()
                    self.remove()
                    raise DownloadFailed(
                        f"{redact(url)} sends more than the limit of {size_limit} bytes",
                        hint="The host serves another file than its index lists.",
                    )
                stream.write(chunk)
                self._digest.update(chunk)
                self._hashed = done
                if on_progress is not None:
                    on_progress(done, total)
        if total is not None and done != total:
            raise ConnectionBroken(f"broke off after {done} of {total} bytes")

    def _hash_first(self, have: int) -> None:
        """Hash the first bytes, unless they are in the digest already."""
        if have and self._hashed == have:
            return
        self._digest, self._hashed = hashlib.sha256(), have
        if not have:
            return
        with self._bytes.open("rb") as stream:
            for chunk in iter(lambda: stream.read(1024 * 1024), b""):
                self._digest.update(chunk)

    def finish(self, sha256: Optional[str], url: str) -> str:
        """Move the complete file to its destination. The result: its sha256. `sha256`: the expected
        one. Errors: OtherBytes."""
        found = self._digest.hexdigest()
        if sha256 is not None and found != sha256.lower():
            self.remove()
            raise OtherBytes(
                f"{redact(url)} has sha256 {found}, promised was {sha256.lower()}",
                hint="It was changed after it was listed, or damaged on its way; try again or another host.",
                found=found,
                is_continued=self._is_continued,
            )
        self._bytes.replace(self._destination)
        self.remove()
        return found


def check_answer(
    response: Response, url: str, have: int, part: PartialFile, size_limit: Optional[int]
) -> Tuple[int, Optional[int]]:
    """How many of the `have` bytes are continued, and the size of the whole file (None: not known).
    Errors: ConnectionBroken, DownloadFailed."""
    if response.status_code == 416:
        part.remove()  # the part is of another file
    _check_file_status(response, url)
    if response.status_code == 206:
        _check_range(response, have, part)
    else:
        have = 0
    length = read_number(response.headers.get("Content-Length", ""))
    total = None if length is None else have + length
    if size_limit is not None and total is not None and total > size_limit:
        part.remove()
        raise DownloadFailed(
            f"{redact(url)} has {total} bytes, more than the limit of {size_limit}",
            hint="The host serves another file than its index lists.",
        )
    return have, total


def _check_file_status(response: Response, url: str) -> None:
    code = response.status_code
    if code in (200, 206):
        return
    if code >= 500 or code == 429:
        raise ConnectionBroken(f"{code} {response.reason or ''}".strip())
    if code == 416:
        raise ConnectionBroken("the host's file is not the one that began to arrive")
    raise FileRefused(
        f"{redact(url)} cannot be fetched: {code} {response.reason or ''}".strip(),
        hint="The host does not give a file that it lists or should have; another version may fit.",
    )


def _check_range(response: Response, have: int, part: PartialFile) -> None:
    """The answer must continue our part. Errors: ConnectionBroken."""
    found = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    if not have or found is None or int(found.group(1)) != have:
        part.remove()
        raise ConnectionBroken("the host answers with another part of the file than was asked for")

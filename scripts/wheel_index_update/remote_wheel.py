"""Reads one file out of a wheel on a host that sends parts of files; the wheel stays there."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any, Optional, Sequence

import requests

from safe_install.models import NetworkSettings
from safe_install.system.mirrors import MirrorRule, apply_mirrors
from safe_install.system.network import Connections, make_session, request_options

PART = 64 * 1024  # bytes that are asked for at once, at least
MAX_ASKED = 64 * 1024 * 1024  # bytes of one wheel: a table of contents of torch has 2 MB
MAX_FILE = 1024 * 1024  # bytes of the file that is read
TIMEOUT = 30.0  # seconds of silence


class RemoteWheels:
    """Reads files out of wheels."""

    def __init__(self, mirrors: Sequence[MirrorRule], network: NetworkSettings) -> None:
        self._mirrors, self._network = tuple(mirrors), network
        self._session: Optional[requests.Session] = None

    def read(self, url: str, name: str) -> Optional[str]:
        """The text of the file `name` in the wheel at `url`; None where the host sends no parts,
        or where there is no such file. Never raises for what a host does."""
        if self._session is None:
            self._session = make_session(self._network, Connections())
        target = apply_mirrors(url, self._mirrors)
        options = request_options(target, self._network)
        try:
            parts = RemoteFile(self._session, target, options)
            with io.BufferedReader(parts, PART) as file, zipfile.ZipFile(file) as archive:
                entry = archive.getinfo(name)
                if entry.file_size > MAX_FILE:
                    return None
                return archive.read(entry).decode("utf-8", "replace")
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            NotImplementedError,
            RuntimeError,
            zipfile.BadZipFile,
        ):
            return None


class RemoteFile(io.RawIOBase):
    """A file behind an address, whose parts are asked for when they are read. Errors: OSError."""

    def __init__(self, session: requests.Session, url: str, options: Any) -> None:
        super().__init__()
        self._session, self._url, self._options = session, url, options
        self._place = 0
        self._left = MAX_ASKED
        self._size = 0
        self._ask(0, 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError("before the beginning of the file")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._place)
        if wanted <= 0:
            return 0
        content = self._ask(self._place, wanted)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _ask(self, start: int, length: int) -> bytes:
        """Exactly this part."""
        self._left -= length
        if self._left < 0:
            raise OSError("more of the file was asked for than is read of a wheel")
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        with self._session.get(
            self._url, headers=headers, stream=True, timeout=TIMEOUT, **self._options
        ) as response:
            said = response.headers.get("Content-Range", "")
            found = re.match(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})$", said, re.ASCII)
            if response.status_code != 206 or found is None or int(found.group(1)) != start:
                raise OSError("the host sends no parts of files")
            self._size = int(found.group(2))
            content = bytearray()
            for piece in response.iter_content(PART):
                content += piece
                if len(content) >= length:
                    break
        if len(content) < length:
            raise OSError("less was sent than was asked for")
        return bytes(content[:length])

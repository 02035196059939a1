"""The shared objects on disk, as they will be after a change: the only place that opens them.

Every path is the final one. A file of the change is read from its stage, which has the whole path
below its folder; a file that the change removes does not exist.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from safe_install.wheels.elf import NotElf, SharedObject

CACHE = "/etc/ld.so.cache"
DEFAULT_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_CACHE_MAGIC = b"glibc-ld.so.cache1.1"


class DiskFiles:
    """Shared objects by final path, each mapped and parsed once."""

    def __init__(
        self,
        *,
        stage: Optional[Path] = None,
        is_removed: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._stage = str(stage) if stage is not None else None
        self._is_removed = is_removed
        self._known: Dict[str, Optional[SharedObject]] = {}
        self._maps: List[mmap.mmap] = []
        self._cache: Optional[Dict[str, str]] = None

    def place_of(self, path: str) -> Optional[str]:
        """Where the bytes of a final path are now; None where there will be no file."""
        if self._stage is not None and os.path.isabs(path):
            staged = self._stage + path
            if os.path.isfile(staged):
                return staged
        return path if os.path.isfile(path) and not self._is_removed(path) else None

    def exists(self, path: str) -> bool:
        """Will there be a file?"""
        return self.place_of(path) is not None

    def read(self, path: str) -> Optional[SharedObject]:
        """The shared object at a final path, None where there is none that can be read."""
        if path not in self._known:
            self._known[path] = self._open(path)
        return self._known[path]

    def _open(self, path: str) -> Optional[SharedObject]:
        place = self.place_of(path)
        if place is None:
            return None
        try:
            with open(place, "rb") as stream:
                data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps.append(data)
            return SharedObject(data)
        except (OSError, ValueError, NotElf):
            return None  # empty, a linker script, of another kind

    def find_in_system(self, name: str) -> Optional[str]:
        """The path of a library in the loader's cache or the default folders; None where it is in
        none."""
        if self._cache is None:
            self._cache = read_loader_cache()
        path = self._cache.get(name)
        if path is not None and os.path.isfile(path):
            return path
        for folder in DEFAULT_FOLDERS:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
        return None


def read_loader_cache(path: str = CACHE) -> Dict[str, str]:
    """/etc/ld.so.cache as name -> path; the first entry of a name counts, as for the loader. Empty
    where it is damaged.

    Format: sysdeps/generic/dl-cache.h of the GNU C library, "new" format.
    """
    try:
        data = Path(path).read_bytes()
    except OSError:
        return {}
    start = data.find(_CACHE_MAGIC)
    if start == -1:
        return {}
    found: Dict[str, str] = {}
    try:
        count, _ = struct.unpack_from("<II", data, start + len(_CACHE_MAGIC))
        for number in range(min(count, 100_000)):
            flags, key, value = struct.unpack_from("<iII", data, start + 48 + 24 * number)
            if flags & 0xFF not in (1, 3):  # ELF, and ELF for libc6
                continue
            found.setdefault(_text(data, start + key), _text(data, start + value))
    except struct.error:
        return {}
    return found


def _text(data: bytes, at: int) -> str:
    end = data.find(b"\0", at)
    return data[at:end].decode("utf-8", "surrogateescape") if end != -1 else ""


def search_folders(variables: Dict[str, str]) -> Tuple[str, ...]:
    """The folders in LD_LIBRARY_PATH."""
    return tuple(
        folder
        for folder in variables.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":")
        if folder
    )

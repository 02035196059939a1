"""The GPU code in a shared object: the compute capabilities of its machine code, and its PTX.

`.nv_fatbin` is a sequence of containers with entries, whose headers have kind, architecture and
size; nothing is decompressed. The format was checked with the output of nvcc 13.0 and cuobjdump
(docs/abi.md).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import FrozenSet, Iterable, Mapping, Optional, Set, Tuple

from safe_install.tags import ComputeCapability
from safe_install.wheels.elf import Buffer

_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")
_PTX, _CUBIN = 1, 2
_ARCHITECTURE_ONLY, _FAMILY = 0x100000, 0x200000
MAX_ENTRIES = 1_000_000
PtxVersion = Tuple[int, int]
# The oldest CUDA that supports a version of PTX (PTX ISA, release notes). nvcc writes the newest
# version of its toolkit.
CUDA_OF_PTX: Mapping[PtxVersion, Tuple[int, int]] = {
    (6, 3): (10, 0),
    (6, 4): (10, 1),
    (6, 5): (10, 2),
    **{(7, minor): (11, minor) for minor in range(9)},
    **{(8, minor): (12, minor) for minor in range(6)},
    (8, 6): (12, 7),
    (8, 7): (12, 8),
    (8, 8): (12, 9),
    **{(9, minor): (13, minor) for minor in range(3)},
}


@dataclass(frozen=True)
class DeviceCode:
    """The GPU code of a shared object."""

    cubins: FrozenSet[ComputeCapability] = frozenset()
    ptx: FrozenSet[ComputeCapability] = frozenset()
    is_complete: bool = True  # False: a part could not be read
    ptx_version: PtxVersion = (0, 0)  # the newest version of PTX in it

    def __bool__(self) -> bool:
        """Is there any code?"""
        return bool(self.cubins or self.ptx)

    def runs_on(self, device: ComputeCapability, *, driver_cuda: Optional[str] = None) -> bool:
        """Is there machine code for the device, or PTX that the driver can compile for it?

        `driver_cuda`: the newest CUDA that the driver supports, "12.2"; it cannot read PTX of a
        newer one.
        """
        if any(code.runs_on(device) for code in self.cubins):
            return True
        return self.is_ptx_read_by(driver_cuda) and any(code.runs_on(device) for code in self.ptx)

    def is_ptx_read_by(self, driver_cuda: Optional[str]) -> bool:
        """Can a driver for this CUDA read the PTX? True where one of the two is not known."""
        oldest = CUDA_OF_PTX.get(self.ptx_version)
        if driver_cuda is None or oldest is None:
            return True
        major, _, minor = driver_cuda.partition(".")
        return (int(major), int(minor or 0)) >= oldest

    def __str__(self) -> str:
        """`8.0, 9.0a, 9.0+PTX`."""
        codes = [*sorted(self.cubins), *sorted(self.ptx)]
        return ", ".join(map(str, codes)) or "none"


def union(codes: Iterable[DeviceCode]) -> DeviceCode:
    """The code of several shared objects together."""
    together = DeviceCode()
    for code in codes:
        together = DeviceCode(
            together.cubins | code.cubins,
            together.ptx | code.ptx,
            together.is_complete and code.is_complete,
            max(together.ptx_version, code.ptx_version),
        )
    return together


def _zeros(section: Buffer, position: int) -> int:
    """How many of the next bytes are zero."""
    chunk = bytes(section[position : position + 65536])
    return len(chunk) - len(chunk.lstrip(b"\0"))


def read_fatbin(section: Optional[Buffer]) -> DeviceCode:
    """The code in `.nv_fatbin`; empty for None. It never raises: damaged data ends the reading."""
    found = _Found()
    is_complete = section is None or _read_containers(section, found)
    return DeviceCode(frozenset(found.cubins), frozenset(found.ptx), is_complete, found.ptx_version)


class _Found:
    """The code that has been read so far."""

    def __init__(self) -> None:
        self.cubins: Set[ComputeCapability] = set()
        self.ptx: Set[ComputeCapability] = set()
        self.ptx_version: PtxVersion = (0, 0)
        self.entries = 0

    def add(self, section: Buffer, entry: int, kind: int) -> None:
        """Add the entry at `entry`; kinds that are not executable are ignored."""
        minor, major, architecture = struct.unpack_from("<HHI", section, entry + 24)
        (flags,) = struct.unpack_from("<Q", section, entry + 40)
        if kind not in (_PTX, _CUBIN) or not 10 <= architecture < 1000:
            return
        suffix = "a" if flags & _ARCHITECTURE_ONLY else "f" if flags & _FAMILY else ""
        code = ComputeCapability(architecture // 10, architecture % 10, suffix, ptx=kind == _PTX)
        if kind == _CUBIN:
            self.cubins.add(code)
            return
        self.ptx.add(code)
        self.ptx_version = max(self.ptx_version, (major, minor))


def _read_containers(section: Buffer, found: _Found) -> bool:
    """Read all containers; False where something is damaged."""
    position, size = 0, len(section)
    while position + _CONTAINER.size <= size:
        magic, _, header, length = _CONTAINER.unpack_from(section, position)
        if magic == 0:
            zeros = _zeros(section, position) // 8 * 8  # containers begin at multiples of 8
            if not zeros:
                return False
            position += zeros
            continue
        end = position + header + length
        if magic != _MAGIC or header < _CONTAINER.size or end > size:
            return False
        if not _read_entries(section, position + header, end, found):
            return False
        position = (end + 7) // 8 * 8
    return True


def _read_entries(section: Buffer, entry: int, end: int, found: _Found) -> bool:
    while entry + 48 <= end:
        if found.entries == MAX_ENTRIES:
            return False
        found.entries += 1
        kind, _, header, length = struct.unpack_from("<HHIQ", section, entry)
        if header < 48 or entry + header + length > end:
            return False
        found.add(section, entry, kind)
        entry += header + length
    return True

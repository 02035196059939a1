"""The GPU code in a shared object: which compute capabilities its machine code is for, and which PTX it carries.

`.nv_fatbin` is a row of containers, each with entries whose headers say kind, architecture and size; nothing is
decompressed. The form was checked against nvcc 13.0's output and cuobjdump (docs/abi.md).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, List, Optional, Set, Tuple

_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")
_PTX, _CUBIN = 1, 2
_ARCHITECTURE_ONLY, _FAMILY = 0x100000, 0x200000
MAX_ENTRIES = 1_000_000


@dataclass(frozen=True)
class DeviceCode:
    """What a shared object brings for GPUs."""

    cubins: FrozenSet[str] = frozenset()  # "8.0", "9.0a", "10.0f"
    ptx: FrozenSet[str] = frozenset()
    is_complete: bool = True  # False: what follows could not be read

    def __bool__(self) -> bool:
        """Is there any?"""
        return bool(self.cubins or self.ptx)

    def runs_on(self, device: str) -> bool:
        """Machine code runs on its own major version from its minor on ("a": there alone, "f": in its family); PTX on
        every device that is as new or newer (of a variant: where its machine code would)."""
        here = parse_capability(device)
        for capability in (*self.cubins, *self.ptx):
            there = parse_capability(capability)
            if there == here or (not capability.endswith("a") and there[0] == here[0] and there <= here):
                return True
        return any(parse_capability(capability) <= here for capability in self.ptx if capability[-1] not in "af")

    def __str__(self) -> str:
        """`8.0, 9.0a, 9.0+PTX`."""
        names = [*_sorted(self.cubins), *(f"{capability}+PTX" for capability in _sorted(self.ptx))]
        return ", ".join(names) or "none"


def parse_capability(text: str) -> Tuple[int, int]:
    """`"9.0a"` -> (9, 0)."""
    major, _, minor = text.rstrip("af").partition(".")
    return int(major), int(minor or 0)


def _sorted(capabilities: Iterable[str]) -> List[str]:
    return sorted(capabilities, key=lambda text: (parse_capability(text), text))


def union(codes: Iterable[DeviceCode]) -> DeviceCode:
    """All that several shared objects bring."""
    found = list(codes)
    return DeviceCode(
        frozenset().union(*(code.cubins for code in found)),
        frozenset().union(*(code.ptx for code in found)),
        all(code.is_complete for code in found),
    )


def _zeros(section: Any, position: int) -> int:
    """How many of the next bytes are zero."""
    chunk = bytes(section[position : position + 65536])
    return len(chunk) - len(chunk.lstrip(b"\0"))


def read_fatbin(section: Optional[Any]) -> DeviceCode:
    """The code in `.nv_fatbin`; empty for None. Never raises: what is damaged ends the reading."""
    if section is None:
        return DeviceCode()
    cubins: Set[str] = set()
    ptx: Set[str] = set()
    position, size, entries = 0, len(section), 0
    while position + _CONTAINER.size <= size:
        magic, _, header, length = _CONTAINER.unpack_from(section, position)
        if magic != _MAGIC:
            if magic != 0:
                return DeviceCode(frozenset(cubins), frozenset(ptx), is_complete=False)
            position += max(8, _zeros(section, position) // 8 * 8)  # containers begin at multiples of 8
            continue
        end = position + header + length
        if header < _CONTAINER.size or end > size:
            return DeviceCode(frozenset(cubins), frozenset(ptx), is_complete=False)
        entry = position + header
        while entry + 48 <= end and entries < MAX_ENTRIES:
            entries += 1
            kind, _, own, length_of_entry = struct.unpack_from("<HHIQ", section, entry)
            (architecture,) = struct.unpack_from("<I", section, entry + 28)
            (flags,) = struct.unpack_from("<Q", section, entry + 40)
            if own < 48 or entry + own + length_of_entry > end:
                return DeviceCode(frozenset(cubins), frozenset(ptx), is_complete=False)
            if kind in (_PTX, _CUBIN) and 10 <= architecture < 1000:
                suffix = "a" if flags & _ARCHITECTURE_ONLY else "f" if flags & _FAMILY else ""
                name = f"{architecture // 10}.{architecture % 10}{suffix}"
                (ptx if kind == _PTX else cubins).add(name)
            entry += own + length_of_entry
        position = (end + 7) // 8 * 8
    return DeviceCode(frozenset(cubins), frozenset(ptx))

"""A shared object as the dynamic loader sees it: libraries that it needs, symbols that it uses,
symbols that it defines.

It is read from program headers and the dynamic section alone (System V ABI; GNU hash section and
symbol versions as written by the GNU linker), because section headers may be stripped. Symbols are
looked up through the GNU hash and never listed: libtorch_cpu.so defines 80,000. Nothing is
executed. Reading always ends, whatever the file contains: with a value, or NotElf.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from safe_install.wheels.elf_format import (
    HEADER,
    SECTION,
    SEGMENT,
    SYMBOL,
    GnuHash,
    Header,
    Section,
    Segment,
    Symbol,
    SysvHash,
)

if TYPE_CHECKING:
    import mmap

FileBytes = Union[bytes, "mmap.mmap"]  # searched and sliced, never written
Buffer = Union[bytes, memoryview]  # of a section

MACHINES: Mapping[int, str] = {62: "x86_64", 183: "aarch64"}
MAX_SYMBOLS = 4_000_000
MAX_NEEDED = 4096
MAX_NAME = 16_384  # bytes of one symbol: mangled templates reach 8,000
MAX_STEPS = 1_000_000  # along hash chains, of all lookups in one file beyond the first entry
MAX_TEXT = 128 * 1024 * 1024  # bytes of all names: libtorch_cuda.so has 10
MAX_VERSIONS = 10_000  # of all needed libraries together

_LOAD, _DYNAMIC = 1, 2
_NO_BITS = 8  # a section without bytes in the file
_NEEDED, _HASH, _STRTAB, _SYMTAB, _RELA, _RELASZ, _STRSZ = 1, 4, 5, 6, 7, 8, 10
_SONAME, _RPATH, _JMPREL, _PLTRELSZ, _RUNPATH = 14, 15, 23, 2, 29
_GNU_HASH, _VERSYM, _VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = (
    0x6FFFFEF5,
    0x6FFFFFF0,
    0x6FFFFFFC,
    0x6FFFFFFD,
    0x6FFFFFFE,
    0x6FFFFFFF,
)
_WEAK, _LOCAL = 2, 0
_ABSOLUTE, _THREAD_LOCAL = 0xFFF1, 6
_HIDDEN = 0x8000


@lru_cache(maxsize=65536)
def _gnu_hash(name: bytes) -> int:
    """The GNU hash of a name. It is cached, because one name is looked up in dozens of
    libraries."""
    hashed = 5381
    for byte in name:
        hashed = (hashed * 33 + byte) & 0xFFFFFFFF
    return hashed


class NotElf(ValueError):
    """The file is no readable shared object; the text says why."""


class WantedSymbol(NamedTuple):
    """A symbol that the file uses and does not define."""

    name: str
    version: Optional[str] = None  # "GLIBC_2.27"
    library: Optional[str] = None  # that is to define this version, "libc.so.6"
    weak: bool = False


class VersionNeed(NamedTuple):
    """A version that a needed library must define, for any user of it."""

    library: str
    version: str
    weak: bool = False


class SharedObject:
    """A shared object over its bytes; symbols are looked up when they are asked for."""

    def __init__(self, data: FileBytes) -> None:
        """Raises NotElf."""
        self._data = data
        self._size = len(data)
        self._steps = MAX_STEPS
        self._text_left = MAX_TEXT
        self._texts: Dict[int, str] = {}
        try:
            self._header = self._read_header()
            self.machine = MACHINES[self._header.machine]
            segments = self._read_segments()
            self._loads = [segment for segment in segments if segment.kind == _LOAD]
            self._dynamic = self._read_dynamic(segments)
            self._strings = self._address(_STRTAB, "string table")
            self._string_end = min(self._size, self._strings + self._dynamic.get(_STRSZ, [0])[0])
            self._symbols = self._address(_SYMTAB, "symbol table")
            self._read_libraries()
            self._versym = self._optional(_VERSYM)
            self._needed_versions = self._read_verneed()
            self._defined_versions = self._read_verdef()
            self._gnu = self._read_gnu_hash()
            self._sysv = None if self._gnu is not None else self._read_sysv_hash()
        except (struct.error, IndexError, OverflowError, MemoryError) as error:
            raise NotElf(f"truncated or damaged ({error})") from error

    def _read_libraries(self) -> None:
        """What it is called, what it needs, and where that is searched."""
        self.soname = next((self._string(at) for at in self._dynamic.get(_SONAME, [])), None)
        self.needed = tuple(self._string(at) for at in self._dynamic.get(_NEEDED, [])[:MAX_NEEDED])
        self.rpath = self._paths(_RPATH)
        self.runpath = self._paths(_RUNPATH)

    # --- symbols that it uses ---------------------------------------------------------------------

    @property
    def version_needs(self) -> Tuple[VersionNeed, ...]:
        """The versions of its needed libraries."""
        return tuple(need for _, need in sorted(self._needed_versions.items()))

    @property
    def defined_versions(self) -> FrozenSet[str]:
        """The versions that it defines itself."""
        return frozenset(self._defined_versions.values())

    @property
    def has_symbol_versions(self) -> bool:
        """Do its symbols have versions, or at least those that it uses?"""
        return self._versym is not None

    def wanted(self) -> Tuple[WantedSymbol, ...]:
        """The symbols that it uses. A symbol without a relocation is left out, because the loader
        never looks it up.

        Errors: NotElf.
        """
        try:
            return self._read_wanted()
        except (struct.error, IndexError, OverflowError, MemoryError) as error:
            raise NotElf(f"truncated or damaged ({error})") from error

    def _read_wanted(self) -> Tuple[WantedSymbol, ...]:
        used = self._used_symbols()
        found = []
        for index in range(1, self._first_defined()):
            if index not in used:
                continue
            symbol = self._symbol(index)
            if symbol.section != 0 or not symbol.name_at:
                continue
            need = self._needed_versions.get(self._version_index(index) & ~_HIDDEN)
            found.append(
                WantedSymbol(
                    self._string(symbol.name_at),
                    need.version if need else None,
                    need.library if need else None,
                    symbol.binding == _WEAK,
                )
            )
        return tuple(found)

    def _first_defined(self) -> int:
        """The index of the first defined symbol: the GNU hash sorts the used ones before the
        defined ones."""
        if self._gnu is not None:
            first = self._gnu.first
            return first if first > 1 or self._gnu_has_entries() else self._count_without_hash()
        return self._sysv.symbols if self._sysv is not None else self._count_without_hash()

    def _gnu_has_entries(self) -> bool:
        assert self._gnu is not None  # noqa: S101 - asked by the caller
        numbers = range(min(self._gnu.bucket_count, 1024))
        return any(self._u32(self._gnu.buckets + 4 * number) for number in numbers)

    def _count_without_hash(self) -> int:
        """The highest symbol that a relocation names."""
        return min(max(self._used_symbols(), default=0) + 1, MAX_SYMBOLS)

    def _used_symbols(self) -> Set[int]:
        found: Set[int] = set()
        for table, size in ((_RELA, _RELASZ), (_JMPREL, _PLTRELSZ)):
            start = self._optional(table)
            length = self._dynamic.get(size, [0])[0] // 24 * 24
            if start is None or not length:
                continue
            if start + length > self._size:
                raise NotElf("a relocation table ends behind the file")
            # r_info is the second of three 64-bit words; its upper half is the symbol.
            words = memoryview(self._data)[start : start + length].cast("I")
            found.update(words[3::6].tolist())
            words.release()
        found.discard(0)
        return found

    # --- symbols that it defines ------------------------------------------------------------------

    def defines(self, name: str, version: Optional[str] = None) -> bool:
        """Would the loader find `name` here? Versions are compared where this file has versions.
        Errors: NotElf."""
        encoded = name.encode("utf-8", "surrogateescape")
        candidates = (
            self._lookup_gnu(encoded) if self._gnu is not None else self._lookup_sysv(encoded)
        )
        try:
            return any(self._is_definition(index, version) for index in candidates)
        except (struct.error, IndexError, OverflowError, MemoryError) as error:
            raise NotElf(f"truncated or damaged ({error})") from error

    def _step(self) -> None:
        """Limit the steps along hash chains, which may contain cycles."""
        self._steps -= 1
        if self._steps < 0:
            raise NotElf("its symbol hash does not end")

    def _is_definition(self, index: int, version: Optional[str]) -> bool:
        symbol = self._symbol(index)
        if symbol.section == 0 or symbol.binding == _LOCAL:
            return False
        if symbol.value == 0 and symbol.section != _ABSOLUTE and symbol.kind != _THREAD_LOCAL:
            return False
        if self._versym is None or not self._defined_versions:
            return True
        own = self._version_index(index)
        if version is None:
            return own & _HIDDEN == 0 or own & ~_HIDDEN <= 2
        return own & ~_HIDDEN == 1 or self._defined_versions.get(own & ~_HIDDEN) == version

    def _lookup_gnu(self, name: bytes) -> Iterator[int]:
        assert self._gnu is not None  # noqa: S101 - asked by the caller
        count, first, bloom_size, shift, buckets, chains, bloom = self._gnu
        hashed = _gnu_hash(name)
        word = self._u64(bloom + 8 * (hashed // 64 % bloom_size))
        if not (word >> (hashed % 64)) & (word >> ((hashed >> shift) % 64)) & 1:
            return
        index = self._u32(buckets + 4 * (hashed % count))
        if index < first:
            return
        while True:
            link = self._u32(chains + 4 * (index - first))
            if link | 1 == hashed | 1 and self._is_named(index, name):
                yield index
            if link & 1:
                return
            index += 1
            self._step()

    def _lookup_sysv(self, name: bytes) -> Iterator[int]:
        if self._sysv is None:
            return
        count, symbols, buckets, chains = self._sysv
        hashed = 0
        for byte in name:
            hashed = (hashed << 4) + byte
            high = hashed & 0xF0000000
            hashed = (hashed ^ (high >> 24)) & ~high & 0xFFFFFFFF
        index = self._u32(buckets + 4 * (hashed % count)) if count else 0
        for _ in range(symbols + 1):
            if index == 0 or index >= symbols:
                return
            if self._is_named(index, name):
                yield index
            self._step()
            index = self._u32(chains + 4 * index)
        raise NotElf("its symbol hash does not end")

    def _is_named(self, index: int, name: bytes) -> bool:
        start = self._strings + self._symbol(index).name_at
        return bytes(self._data[start : start + len(name) + 1]) == name + b"\0"

    # --- parts of the file ------------------------------------------------------------------------

    def section(self, wanted: str) -> Optional[memoryview]:
        """The bytes of a section by its name; None where it is missing, or section headers are
        stripped."""
        header = self._header
        end = header.sections_at + header.section_size * header.section_count
        if not header.sections_at or header.section_size != SECTION.size or end > self._size:
            return None
        if header.names_section >= header.section_count:
            return None
        names = self._read_section(header.names_section)
        for number in range(header.section_count):
            found = self._read_section(number)
            if found.kind == _NO_BITS or found.start + found.length > self._size:
                continue
            if self._is_section_named(found, names, wanted.encode()):
                return memoryview(self._data)[found.start : found.start + found.length]
        return None

    def _read_section(self, number: int) -> Section:
        at = self._header.sections_at + self._header.section_size * number
        return Section._make(SECTION.unpack_from(self._data, at))

    def _is_section_named(self, section: Section, names: Section, wanted: bytes) -> bool:
        if section.name_at >= names.length:
            return False
        start = names.start + section.name_at
        limit = names.start + min(names.length, section.name_at + 256)
        end = self._data.find(b"\0", start, limit)
        return end != -1 and bytes(self._data[start:end]) == wanted

    def _read_header(self) -> Header:
        if self._size < HEADER.size or bytes(self._data[:4]) != b"\x7fELF":
            raise NotElf("no ELF file")
        header = Header._make(HEADER.unpack_from(self._data, 0))
        if header.ident[4] != 2 or header.ident[5] != 1:
            raise NotElf("not a 64-bit little-endian file")
        if header.kind not in (2, 3):
            raise NotElf("no shared object and no program")
        if header.machine not in MACHINES:
            raise NotElf(f"for machine {header.machine}")
        return header

    def _read_segments(self) -> List[Segment]:
        header = self._header
        end = header.segments_at + header.segment_size * header.segment_count
        if header.segment_size != SEGMENT.size or end > self._size:
            raise NotElf("its program headers end behind the file")
        found = []
        for number in range(header.segment_count):
            at = header.segments_at + header.segment_size * number
            found.append(Segment._make(SEGMENT.unpack_from(self._data, at)))
        return found

    def _read_dynamic(self, segments: Sequence[Segment]) -> Dict[int, List[int]]:
        dynamic = None
        for segment in segments:
            if segment.kind == _DYNAMIC:
                dynamic = segment
        if dynamic is None or dynamic.start + dynamic.length > self._size:
            raise NotElf("no dynamic section")
        found: Dict[int, List[int]] = {}
        for number in range(dynamic.length // 16):
            tag, value = struct.unpack_from("<QQ", self._data, dynamic.start + 16 * number)
            if tag == 0:
                break
            found.setdefault(tag, []).append(value)
        return found

    def _offset(self, address: int) -> Optional[int]:
        for one in self._loads:
            if one.address <= address < one.address + one.length:
                return min(address - one.address + one.start, self._size)
        return None

    def _optional(self, tag: int) -> Optional[int]:
        values = self._dynamic.get(tag)
        return self._offset(values[0]) if values else None

    def _address(self, tag: int, what: str) -> int:
        found = self._optional(tag)
        if found is None:
            raise NotElf(f"no {what}")
        return found

    def _string(self, at: int) -> str:
        text = self._texts.get(at)
        if text is None:
            text = self._texts[at] = self._read_string(at)
        return text

    def _read_string(self, at: int) -> str:
        start = self._strings + at
        end = (
            self._data.find(b"\0", start, min(self._string_end, start + MAX_NAME))
            if at >= 0
            else -1
        )
        if end == -1:
            raise NotElf("a name that does not end")
        self._text_left -= end - start
        if self._text_left < 0:
            raise NotElf("its names take too much")
        return bytes(self._data[start:end]).decode("utf-8", "surrogateescape")

    def _paths(self, tag: int) -> Tuple[str, ...]:
        return tuple(
            part
            for at in self._dynamic.get(tag, [])[:1]
            for part in self._string(at).split(":")
            if part
        )

    def _symbol(self, index: int) -> Symbol:
        return Symbol._make(SYMBOL.unpack_from(self._data, self._symbols + 24 * index))

    def _u32(self, at: int) -> int:
        return int(struct.unpack_from("<I", self._data, at)[0])

    def _u64(self, at: int) -> int:
        return int(struct.unpack_from("<Q", self._data, at)[0])

    def _version_index(self, index: int) -> int:
        return (
            int(struct.unpack_from("<H", self._data, self._versym + 2 * index)[0])
            if self._versym is not None
            else 1
        )

    def _read_gnu_hash(self) -> Optional[GnuHash]:
        at = self._optional(_GNU_HASH)
        if at is None:
            return None
        count, first, bloom_size, shift = struct.unpack_from("<IIII", self._data, at)
        bloom = at + 16
        buckets = bloom + 8 * bloom_size
        chains = buckets + 4 * count
        if not count or not bloom_size or first > MAX_SYMBOLS or chains > self._size:
            raise NotElf("its symbol hash is damaged")
        return GnuHash(count, first, bloom_size, shift % 64, buckets, chains, bloom)

    def _read_sysv_hash(self) -> Optional[SysvHash]:
        at = self._optional(_HASH)
        if at is None:
            return None
        count, symbols = struct.unpack_from("<II", self._data, at)
        if symbols > MAX_SYMBOLS or at + 8 + 4 * (count + symbols) > self._size:
            raise NotElf("its symbol hash is damaged")
        return SysvHash(count, symbols, at + 8, at + 8 + 4 * count)

    def _read_verneed(self) -> Dict[int, VersionNeed]:
        at = self._optional(_VERNEED)
        found: Dict[int, VersionNeed] = {}
        if at is None:
            return found
        left = MAX_VERSIONS
        for _ in range(min(self._dynamic.get(_VERNEEDNUM, [0])[0], MAX_NEEDED)):
            _, count, library, first, following = struct.unpack_from("<HHIII", self._data, at)
            entry = at + first
            for _ in range(count):
                left -= 1
                if left < 0:
                    raise NotElf("its table of versions does not end")
                _, flags, index, name, further = struct.unpack_from("<IHHII", self._data, entry)
                found[index & ~_HIDDEN] = VersionNeed(
                    self._string(library), self._string(name), bool(flags & 2)
                )
                if not further:
                    break
                entry += further
            if not following:
                break
            at += following
        return found

    def _read_verdef(self) -> Dict[int, str]:
        at = self._optional(_VERDEF)
        found: Dict[int, str] = {}
        if at is None:
            return found
        for _ in range(min(self._dynamic.get(_VERDEFNUM, [0])[0], MAX_NEEDED)):
            _, flags, index, _, _, auxiliary, following = struct.unpack_from(
                "<HHHHIII", self._data, at
            )
            if not flags & 1:  # the base definition is the file's own name
                (name,) = struct.unpack_from("<I", self._data, at + auxiliary)
                found[index & ~_HIDDEN] = self._string(name)
            if not following:
                break
            at += following
        return found

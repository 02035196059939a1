"""The parts of an ELF file, as the System V ABI and the GNU linker lay them out: 64 bits, little
endian. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")


class Header(NamedTuple):
    """The head of the file (Elf64_Ehdr)."""

    ident: bytes
    kind: int
    machine: int
    version: int
    entry: int
    segments_at: int
    sections_at: int
    flags: int
    size: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int
    names_section: int


class Segment(NamedTuple):
    """A part of the file that is mapped, or told about (Elf64_Phdr)."""

    kind: int
    flags: int
    start: int
    address: int
    physical_address: int
    length: int
    length_in_memory: int
    alignment: int


class Section(NamedTuple):
    """A named part of the file (Elf64_Shdr)."""

    name_at: int
    kind: int
    flags: int
    address: int
    start: int
    length: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    """A row of the symbol table (Elf64_Sym)."""

    name_at: int
    info: int
    other: int
    section: int
    value: int
    size: int

    @property
    def binding(self) -> int:
        """Local, global or weak."""
        return self.info >> 4

    @property
    def kind(self) -> int:
        """A function, an object, a thread-local one ..."""
        return self.info & 0xF


class GnuHash(NamedTuple):
    """Where the parts of the GNU hash are."""

    bucket_count: int
    first: int  # the first symbol in it
    bloom_size: int
    shift: int  # of the second bit in the Bloom filter
    buckets: int
    chains: int
    bloom: int


class SysvHash(NamedTuple):
    """Where the parts of the older hash are."""

    bucket_count: int
    symbols: int
    buckets: int
    chains: int

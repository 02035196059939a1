"""ELF64 shared objects made in memory, without a compiler; everything that a test does not name is
right."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from safe_install.wheels.elf import NotElf, SharedObject
from safe_install.wheels.fatbin import read_fatbin
from safe_install.wheels.fingerprint import find_assertions
from safe_install.wheels.loader import Problems

X86_64, AARCH64 = 62, 183
PROGRAM, SHARED = 2, 3
BASE = 0x10000  # the address of the first byte: addresses are no offsets
FUNCTION, THREAD_LOCAL = 2, 6
NOWHERE, ABSOLUTE, HERE = 0, 0xFFF1, 5  # sections of symbols


@dataclass(frozen=True)
class Symbol:
    """A row of the symbol table."""

    name: str
    version: Optional[str] = None
    library: Optional[str] = None  # that is to define the version
    weak: bool = False
    local: bool = False
    hidden: bool = False  # its version is not the default one
    used: bool = True  # a relocation names it
    lazy: bool = False  # in DT_JMPREL and not in DT_RELA
    value: int = 0x40
    kind: int = FUNCTION
    section: int = NOWHERE


Written = Union[str, Symbol]


def want(text: str, **fields: Any) -> Symbol:
    """`sqrt`, or `sqrt@libm.so.6:GLIBC_2.29`."""
    name, _, rest = text.partition("@")
    library, _, version = rest.partition(":")
    return Symbol(name, version or None, library or None, **{"value": 0, **fields})


def define(text: str, **fields: Any) -> Symbol:
    """`f`, `f@@V1` (the default version), `f@V1` (a hidden one), as linkers write it."""
    name, _, rest = text.partition("@")
    version = rest.lstrip("@") or None
    hidden = bool(rest) and not rest.startswith("@")
    return Symbol(name, version, **{"hidden": hidden, "used": False, "section": HERE, **fields})


@dataclass(frozen=True)
class Built:
    """A file, and where its parts lie."""

    data: bytes
    at: Mapping[str, int]

    def patched(self, part: str, offset: int, form: str, *values: int) -> bytes:
        """The file with other numbers in a part."""
        return patch(self.data, self.at[part] + offset, struct.pack(form, *values))

    def with_tag(self, tag: int, value: int) -> bytes:
        """The file with another value of a dynamic tag."""
        start = self.at["dynamic"]
        while True:
            found = struct.unpack_from("<Q", self.data, start)[0]
            assert found or not tag, f"no tag {tag}"
            if found == tag:
                return patch(self.data, start + 8, struct.pack("<Q", value))
            start += 16


def patch(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def make_elf(**fields: Any) -> bytes:
    """The bytes of `build_elf`."""
    return build_elf(**fields).data


def build_elf(
    *,
    needed: Sequence[str] = (),
    soname: Optional[str] = None,
    rpath: Optional[str] = None,
    runpath: Optional[str] = None,
    wants: Iterable[Written] = (),
    defines: Iterable[Written] = (),
    versions: Sequence[str] = (),  # beside those of `defines`
    version_needs: Sequence[str] = (),  # "libc.so.6:GLIBC_2.2.5", beside those of `wants`
    weak_version_needs: Sequence[str] = (),
    with_versym: Optional[bool] = None,  # None: where there are versions
    hashes: Sequence[str] = ("gnu",),  # "gnu", "sysv"
    buckets: int = 2,
    sections: Optional[Mapping[str, bytes]] = None,  # None: no section headers at all
    machine: int = X86_64,
    kind: int = SHARED,
    extra_tags: Sequence[Tuple[int, int]] = (),
    behind: bytes = b"",  # in the part "behind"
) -> Built:
    """A shared object."""
    asked = [want(one) if isinstance(one, str) else one for one in wants]
    given = [define(one) if isinstance(one, str) else one for one in defines]
    plain = [one for one in given if one.local or one.section == NOWHERE]
    hashed = sorted(
        (one for one in given if one not in plain), key=lambda one: _gnu_hash(one.name) % buckets
    )
    symbols = [Symbol("", value=0, used=False), *asked, *plain, *hashed]
    first = len(symbols) - len(hashed)
    strings = _Strings()
    own = list(dict.fromkeys([*versions, *(one.version for one in hashed if one.version)]))
    needs = [
        (*one.split(":"), one in weak_version_needs)
        for one in (*version_needs, *weak_version_needs)
    ]
    needs += [(one.library, one.version, False) for one in asked if one.version]
    needs = list(dict.fromkeys(needs))
    numbers = {name: number for number, name in enumerate(own, 2)}
    needed_numbers = {need[:2]: number for number, need in enumerate(needs, 2 + len(own))}

    parts: Dict[str, bytes] = {}
    parts["symbols"] = b"".join(_symbol(one, strings) for one in symbols)
    if "gnu" in hashes:
        parts["gnu"] = _gnu_table(hashed, first, buckets)
    if "sysv" in hashes:
        parts["sysv"] = _sysv_table(symbols, buckets)
    if with_versym if with_versym is not None else bool(own or needs):
        parts["versym"] = _versym(symbols, numbers, needed_numbers)
    if needs:
        parts["verneed"] = _verneed(needs, needed_numbers, strings)
    if own:
        parts["verdef"] = _verdef([soname or "base", *own], strings)
    for name, lazy in (("rela", False), ("jmprel", True)):
        used = [index for index, one in enumerate(symbols) if one.used and one.lazy is lazy]
        if used:
            parts[name] = b"".join(struct.pack("<QQq", BASE, index << 32 | 6, 0) for index in used)
    tags: List[Tuple[int, Union[int, str]]] = [(1, strings.add(name)) for name in needed]
    tags += [
        (tag, strings.add(text))
        for tag, text in ((14, soname), (15, rpath), (29, runpath))
        if text is not None
    ]
    parts["strings"] = strings.data
    if sections is not None:
        parts.update(sections)
        names = _Strings()
        wrote = [names.add(name) for name in (*sections, ".shstrtab")]
        parts[".shstrtab"] = names.data
    parts["behind"] = behind

    tags += [(5, "strings"), (6, "symbols"), (10, len(parts["strings"])), (11, 24)]
    tags += [(tag, name) for tag, name in _TAGS.items() if name in parts]
    tags += [(tag, len(parts[name])) for tag, name in ((8, "rela"), (2, "jmprel")) if name in parts]
    tags += [(9, 24)] if "rela" in parts else []
    tags += [(0x6FFFFFFF, len({need[0] for need in needs}))] if needs else []
    tags += [(0x6FFFFFFD, len(own) + 1)] if own else []
    tags += [*extra_tags, (0, 0)]

    at = {"header": 0, "segments": 64, "dynamic": 64 + 2 * 56}
    position = at["dynamic"] + 16 * len(tags)
    for name, content in parts.items():
        at[name] = position = (position + 7) // 8 * 8
        position += len(content)
    end = position
    dynamic = b"".join(
        struct.pack("<QQ", t, BASE + at[v] if isinstance(v, str) else v) for t, v in tags
    )
    count = len(sections) + 2 if sections is not None else 0
    at["headers"] = (end + 7) // 8 * 8
    data = bytearray(at["headers"])
    header = (
        b"\x7fELF\2\1\1" + bytes(9),
        kind,
        machine,
        1,
        0,
        64,
        at["headers"] if count else 0,
        0,
    )
    struct.pack_into("<16sHHIQQQIHHHHHH", data, 0, *header, 64, 56, 2, 64, count, max(count - 1, 0))
    struct.pack_into("<IIQQQQQQ", data, 64, 1, 5, 0, BASE, BASE, end, end, 0x1000)
    place = (
        at["dynamic"],
        BASE + at["dynamic"],
        BASE + at["dynamic"],
        len(dynamic),
        len(dynamic),
        8,
    )
    struct.pack_into("<IIQQQQQQ", data, 64 + 56, 2, 6, *place)
    for name, content in {"dynamic": dynamic, **parts}.items():
        data[at[name] : at[name] + len(content)] = content
    if sections is not None:
        data += bytes(64)
        for name, name_at in zip((*sections, ".shstrtab"), wrote):
            kind_of = 3 if name == ".shstrtab" else 1
            place = (BASE + at[name], at[name], len(parts[name]))
            data += struct.pack("<IIQQQQIIQQ", name_at, kind_of, 2, *place, 0, 0, 8, 0)
    return Built(bytes(data), at)


_TAGS = {
    0x6FFFFEF5: "gnu",
    4: "sysv",
    0x6FFFFFF0: "versym",
    0x6FFFFFFE: "verneed",
    0x6FFFFFFC: "verdef",
    7: "rela",
    23: "jmprel",
}


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        if not text:
            return 0
        written = b"\0" + text.encode("utf-8", "surrogateescape") + b"\0"
        if written not in self.data:
            self.data += written[1:]
        return self.data.index(written) + 1


def _symbol(one: Symbol, strings: _Strings) -> bytes:
    binding = 0 if one.local or not one.name else 2 if one.weak else 1
    return struct.pack(
        "<IBBHQQ", strings.add(one.name), binding << 4 | one.kind, 0, one.section, one.value, 0
    )


def _gnu_hash(name: str) -> int:
    hashed = 5381
    for byte in name.encode():
        hashed = (hashed * 33 + byte) & 0xFFFFFFFF
    return hashed


def _sysv_hash(name: str) -> int:
    hashed = 0
    for byte in name.encode():
        hashed = (hashed << 4) + byte
        high = hashed & 0xF0000000
        hashed = (hashed ^ high >> 24) & ~high
    return hashed


def _gnu_table(hashed: Sequence[Symbol], first: int, count: int) -> bytes:
    shift, bloom = 6, [0, 0]
    starts, chain = [0] * count, []
    for index, one in enumerate(hashed):
        value = _gnu_hash(one.name)
        bloom[value // 64 % 2] |= 1 << value % 64 | 1 << (value >> shift) % 64
        starts[value % count] = starts[value % count] or first + index
        following = hashed[index + 1 : index + 2]
        is_last = not following or _gnu_hash(following[0].name) % count != value % count
        chain.append(value & ~1 | is_last)
    table = struct.pack("<IIII2Q", count, first, 2, shift, *bloom)
    return table + struct.pack(f"<{count + len(chain)}I", *starts, *chain)


def _sysv_table(symbols: Sequence[Symbol], count: int) -> bytes:
    starts, chain = [0] * count, [0] * len(symbols)
    for index, one in enumerate(symbols):
        if index:
            bucket = _sysv_hash(one.name) % count
            chain[index], starts[bucket] = starts[bucket], index
    return struct.pack(f"<II{count + len(chain)}I", count, len(chain), *starts, *chain)


def _versym(
    symbols: Sequence[Symbol],
    own: Mapping[str, int],
    needed: Mapping[Tuple[Optional[str], str], int],
) -> bytes:
    rows = []
    for index, one in enumerate(symbols):
        number = 0 if not index or one.local else 1
        if one.version:
            number = own[one.version] if one.section else needed[(one.library, one.version)]
        rows.append(number | (0x8000 if one.hidden else 0))
    return struct.pack(f"<{len(rows)}H", *rows)


def _verneed(
    needs: Sequence[Tuple[str, str, bool]],
    numbers: Mapping[Tuple[str, str], int],
    strings: _Strings,
) -> bytes:
    libraries = list(dict.fromkeys(library for library, _, _ in needs))
    table = b""
    for library in libraries:
        rows = [need for need in needs if need[0] == library]
        following = 0 if library == libraries[-1] else 16 + 16 * len(rows)
        table += struct.pack("<HHIII", 1, len(rows), strings.add(library), 16, following)
        for row in rows:
            number, further = numbers[row[:2]], 0 if row is rows[-1] else 16
            table += struct.pack(
                "<IHHII",
                _sysv_hash(row[1]),
                2 if row[2] else 0,
                number,
                strings.add(row[1]),
                further,
            )
    return table


def _verdef(names: Sequence[str], strings: _Strings) -> bytes:
    table = b""
    for number, name in enumerate(names, 1):
        following = 0 if number == len(names) else 28
        table += struct.pack("<HHHHIII", 1, number == 1, number, 1, _sysv_hash(name), 20, following)
        table += struct.pack("<II", strings.add(name), 0)
    return table


def rich_elf(**fields: Any) -> Built:
    """A file with every part that the reader knows."""
    return build_elf(
        **{
            "needed": ["libc.so.6", "libtorch.so"],
            "soname": "libdemo.so",
            "runpath": "$ORIGIN:/opt/lib",
            "wants": [
                "malloc@libc.so.6:GLIBC_2.2.5",
                want("gone", weak=True),
                want("idle", used=False),
                "_ZN2at1xEv",
            ],
            "defines": [
                "f@@V2",
                "f@V1",
                "plain",
                define("thread", kind=THREAD_LOCAL, value=0),
                define("own", local=1),
            ],
            "hashes": ("gnu", "sysv"),
            "sections": {
                ".rodata": b'torch/include/c10/util/hash.h":12\0',
                ".nv_fatbin": make_fatbin(),
            },
            **fields,
        }
    )


# --- GPU code -------------------------------------------------------------------------------------

PTX, CUBIN, NVVM = 1, 2, 8


@dataclass(frozen=True)
class Entry:
    """An entry of a container: kind, version, architecture and flags are all that counts."""

    architecture: int
    kind: int = CUBIN
    flags: int = 0
    content: bytes = bytes(24)
    header: int = 64
    version: Tuple[int, int] = (0, 0)  # of the PTX


def is_clean(problems: Problems) -> bool:
    """Would it load, on a machine with a driver where it needs one?"""
    return not (problems.missing or problems.undefined or problems.versions)


def cubin(capability: str, **fields: Any) -> Entry:
    """`cubin("9.0a")`."""
    flags = {"a": 0x100000, "f": 0x200000}.get(capability[-1], 0)
    return replace(Entry(int(capability.rstrip("af").replace(".", "")), flags=flags), **fields)


def ptx(capability: str, **fields: Any) -> Entry:
    return cubin(capability, kind=PTX, **fields)


def make_container(*entries: Entry) -> bytes:
    rows = bytearray()
    for one in entries:
        head = struct.pack("<HHIQ", one.kind, 0x101, one.header, len(one.content)) + bytes(8)
        head += struct.pack(
            "<HHIIIQ", one.version[1], one.version[0], one.architecture, 0, 0, one.flags
        )
        rows += head.ljust(one.header, b"\0") + one.content
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(rows)) + bytes(rows)


def make_fatbin(*entries: Entry) -> bytes:
    return make_container(*(entries or (cubin("8.0"), cubin("9.0a"), ptx("9.0"))))


# --- everything that is asked of a file -----------------------------------------------------------

NAMES = ("f", "plain", "malloc", "own", "_ZN2at1xEv", "", "\udcff")


def ask_everything(data: Any) -> List[Any]:
    """All that can be asked, each answered by a value or by NotElf."""
    try:
        found = SharedObject(data)
    except NotElf:
        return []
    answers = [found.machine, found.soname, found.needed, found.rpath, found.runpath]
    answers += [found.version_needs, found.defined_versions, found.has_symbol_versions]
    answers.append(_or_none(found.wanted))
    answers += [
        _or_none(found.defines, name, version)
        for name in NAMES
        for version in (None, "V1", "GLIBC_2.2.5")
    ]
    rodata = _or_none(found.section, ".rodata")
    answers.append(find_assertions(rodata) if rodata is not None else None)
    answers.append(read_fatbin(_or_none(found.section, ".nv_fatbin")))
    return answers


def _or_none(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except NotElf:
        return None

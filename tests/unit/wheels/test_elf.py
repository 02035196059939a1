"""What is read of a shared object, and that no file, whatever it holds, ends the reading otherwise
than it should."""

from __future__ import annotations

import mmap
import struct
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safe_install.wheels import elf
from safe_install.wheels.elf import NotElf, SharedObject, VersionNeed, WantedSymbol
from tests.unit.wheels.elffiles import (
    AARCH64,
    ABSOLUTE,
    BASE,
    FUNCTION,
    NOWHERE,
    THREAD_LOCAL,
    Built,
    ask_everything,
    build_elf,
    define,
    make_elf,
    patch,
    rich_elf,
    want,
)

HASHES = [("gnu",), ("sysv",), ("gnu", "sysv")]
SECONDS = 2.0  # for one file, whatever it holds
MEMORY = 32 * 2**20


def read(**fields):
    return SharedObject(make_elf(**fields))


# --- what it says of itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, {"needed": (), "soname": None, "rpath": (), "runpath": ()}),
        ({"needed": ["libc.so.6", "libm.so.6"]}, {"needed": ("libc.so.6", "libm.so.6")}),
        ({"soname": "libdemo.so.1"}, {"soname": "libdemo.so.1"}),
        (
            {"rpath": "$ORIGIN/../lib:/opt/lib"},
            {"rpath": ("$ORIGIN/../lib", "/opt/lib"), "runpath": ()},
        ),
        ({"runpath": "/a::/b:"}, {"rpath": (), "runpath": ("/a", "/b")}),
        ({"rpath": "/a", "runpath": "/b"}, {"rpath": ("/a",), "runpath": ("/b",)}),
        ({"needed": ["lib\udcff.so"]}, {"needed": ("lib\udcff.so",)}),
        ({"needed": ["libé.so"]}, {"needed": ("libé.so",)}),
        ({"machine": AARCH64}, {"machine": "aarch64"}),
        ({"kind": 2}, {"machine": "x86_64"}),
    ],
)
def test_its_names(fields, said):
    found = read(**fields)
    assert {name: getattr(found, name) for name in said} == said


def test_it_is_read_from_a_map_as_from_bytes(tmp_path):
    path = tmp_path / "demo.so"
    path.write_bytes(rich_elf().data)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mapped = SharedObject(data)
        assert (mapped.needed, mapped.wanted()) == (
            ("libc.so.6", "libtorch.so"),
            SharedObject(path.read_bytes()).wanted(),
        )
        assert mapped.defines("f", "V1")
        del mapped


# --- symbols that it asks for ---------------------------------------------------------------------


@pytest.mark.parametrize("hashes", [*HASHES, ()])
@pytest.mark.parametrize(
    ("symbols", "wanted"),
    [
        ([], []),
        (["f"], [WantedSymbol("f")]),
        ([want("f", weak=True)], [WantedSymbol("f", weak=True)]),
        ([want("f", lazy=True), "g"], [WantedSymbol("f"), WantedSymbol("g")]),
        ([want("idle", used=False), "f"], [WantedSymbol("f")]),
        ([want("idle", used=False)], []),
        (["f@libx.so:V1", "g"], [WantedSymbol("f", "V1", "libx.so"), WantedSymbol("g")]),
        (
            ["f@libx.so:V1", "g@libx.so:V2"],
            [WantedSymbol("f", "V1", "libx.so"), WantedSymbol("g", "V2", "libx.so")],
        ),
        (
            ["f@libx.so:V1", "g@liby.so:V1"],
            [WantedSymbol("f", "V1", "libx.so"), WantedSymbol("g", "V1", "liby.so")],
        ),
        ([want("f@libx.so:V1", weak=True)], [WantedSymbol("f", "V1", "libx.so", weak=True)]),
    ],
)
@pytest.mark.parametrize(
    "defines", [[], ["own", define("used", used=True), define("hers", local=True, used=True)]]
)
def test_undefined_symbols(hashes, symbols, wanted, defines):
    assert list(read(wants=symbols, defines=defines, hashes=hashes).wanted()) == wanted


def test_without_relocations_nothing_is_asked_for():
    assert read(wants=[want("f", used=False)], defines=["g"]).wanted() == ()


def test_versions_that_it_needs():
    found = read(
        version_needs=["libc.so.6:GLIBC_2.34"],
        weak_version_needs=["libx.so:V9"],
        wants=["f@libc.so.6:V1"],
    )
    assert set(found.version_needs) == {
        VersionNeed("libc.so.6", "GLIBC_2.34"),
        VersionNeed("libc.so.6", "V1"),
        VersionNeed("libx.so", "V9", weak=True),
    }
    assert not found.defined_versions


# --- symbols that it defines ----------------------------------------------------------------------

NAMES = [f"_ZN4demo{number}" for number in range(300)]


@pytest.mark.parametrize("hashes", HASHES)
@pytest.mark.parametrize("buckets", [1, 2, 67])
def test_defined_symbols_are_found_by_their_hash(hashes, buckets):
    found = read(wants=["malloc", "other"], defines=NAMES, hashes=hashes, buckets=buckets)
    assert all(map(found.defines, NAMES))
    for name in (
        "malloc",
        "other",
        "",
        "_ZN4demo",
        "_ZN4demo300",
        "_ZN4demo1x",
        "\udcff",
        "x" * 10_000,
    ):
        assert not found.defines(name)


def test_without_a_hash_nothing_is_defined():
    assert not read(defines=["f"], hashes=()).defines("f")


@pytest.mark.parametrize("hashes", HASHES)
@pytest.mark.parametrize(
    ("symbol", "is_defined"),
    [
        (define("f"), True),
        (define("f", weak=True), True),
        (define("f", kind=THREAD_LOCAL, value=0), True),
        (define("f", local=True), False),
        (define("f", section=NOWHERE), False),
        (define("f", value=0), False),
        (define("f", kind=FUNCTION, section=ABSOLUTE), True),
    ],
)
def test_what_counts_as_a_definition(hashes, symbol, is_defined):
    assert read(defines=[symbol, "other"], hashes=hashes).defines("f") is is_defined


def test_an_absolute_zero_is_a_definition():
    assert read(defines=[define("f", value=0, section=ABSOLUTE)]).defines("f")


@pytest.mark.parametrize("hashes", HASHES)
@pytest.mark.parametrize(
    ("defines", "asked", "is_defined"),
    [
        (["f@@V1"], ("f", "V1"), True),
        (["f@@V1"], ("f", "V2"), False),
        (["f@@V1"], ("f", None), True),
        (["f@V1"], ("f", "V1"), True),  # hidden, for those who name it
        (["f@V1", "f@@V2"], ("f", "V1"), True),
        (["f@V1", "f@@V2"], ("f", "V2"), True),
        (["f@V1", "f@@V2"], ("f", "V3"), False),
        # the oldest one that there is, for those without a version
        (["f@V2", "f@V3"], ("f", None), True),
        (["g@@V1", "f@V2"], ("f", None), False),  # hidden, and not the oldest
        (["f", "g@@V1"], ("f", "V1"), True),  # base: not bound to a version
        (["f", "g@@V1"], ("f", None), True),
        (["f"], ("f", "V1"), True),  # no versions at all
        (["f"], ("g", "V1"), False),
    ],
)
def test_versions_of_defined_symbols(hashes, defines, asked, is_defined):
    assert read(defines=defines, hashes=hashes).defines(*asked) is is_defined


def test_a_library_that_needs_versions_and_defines_none_defines_for_every_version():
    found = read(wants=["malloc@libc.so.6:GLIBC_2.2.5"], defines=["f"])
    assert found.defines("f", "V1") and not found.defined_versions


def test_versions_that_it_defines():
    found = read(soname="libx.so", defines=["f@@V2", "g@V1"], versions=["EMPTY"])
    assert found.defined_versions == {"V1", "V2", "EMPTY"}  # not libx.so, the base
    assert found.defined_versions


# --- sections -------------------------------------------------------------------------------------


def test_sections_by_name():
    found = read(sections={".rodata": b"read only", ".empty": b"", ".nv_fatbin": b"code"})
    assert [bytes(found.section(name)) for name in (".rodata", ".nv_fatbin", ".empty")] == [
        b"read only",
        b"code",
        b"",
    ]
    assert found.section(".data") is None
    assert found.section("rodata") is None


def test_without_section_headers_all_but_sections_is_read():
    whole, stripped = SharedObject(rich_elf().data), SharedObject(rich_elf(sections=None).data)
    assert whole.section(".rodata") is not None and stripped.section(".rodata") is None
    assert (stripped.needed, stripped.wanted()) == (whole.needed, whole.wanted())
    assert stripped.defines("f", "V1")


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(40, "<Q", 2**63), (58, "<H", 63), (60, "<H", 0xFFFF), (62, "<H", 99)],
    ids=["place", "size", "count", "names"],
)
def test_damaged_section_headers_are_none(offset, form, value):
    assert (
        SharedObject(rich_elf().patched("header", offset, form, value)).section(".rodata") is None
    )


# --- what is no shared object ---------------------------------------------------------------------

PLAIN = build_elf(needed=["libc.so.6"], wants=["f"], defines=["g"])
NOT_ELF = {
    "empty": (b"", "no ELF"),
    "short": (b"\x7fELF", "no ELF"),
    "text": (b"INPUT(-lm)".ljust(100), "no ELF"),
    "archive": (b"!<arch>\n".ljust(100), "no ELF"),
    "32 bit": (patch(PLAIN.data, 4, b"\1"), "64-bit"),
    "big-endian": (patch(PLAIN.data, 5, b"\2"), "little-endian"),
    "object file": (make_elf(kind=1), "no shared object"),
    "core dump": (make_elf(kind=4), "no shared object"),
    "riscv": (make_elf(machine=243), "machine 243"),
    "i386": (make_elf(machine=3), "machine 3"),
    "static": (PLAIN.patched("segments", 56, "<I", 4), "no dynamic section"),
    "program headers of another size": (PLAIN.patched("header", 54, "<H", 32), "program headers"),
    "program headers behind the end": (PLAIN.patched("header", 32, "<Q", 2**63), "program headers"),
    "dynamic section behind the end": (
        PLAIN.patched("segments", 56 + 8, "<Q", 2**63),
        "no dynamic section",
    ),
    "nothing loaded": (PLAIN.patched("segments", 0, "<I", 4), "no string table"),
    "strings elsewhere": (PLAIN.with_tag(5, 5), "no string table"),
    "symbols elsewhere": (PLAIN.with_tag(6, 5), "no symbol table"),
    "name behind the strings": (PLAIN.with_tag(1, 5000), "does not end"),
    "name far behind": (PLAIN.with_tag(1, 2**64 - 1), "does not end"),
    "no strings": (PLAIN.with_tag(10, 0), "does not end"),
    "no buckets": (PLAIN.patched("gnu", 0, "<I", 0), "hash is damaged"),
    "no bloom filter": (PLAIN.patched("gnu", 8, "<I", 0), "hash is damaged"),
    "many buckets": (PLAIN.patched("gnu", 0, "<I", 2**32 - 1), "hash is damaged"),
    "many symbols before the hash": (PLAIN.patched("gnu", 4, "<I", 2**32 - 1), "hash is damaged"),
    "many symbols": (
        build_elf(hashes=["sysv"]).patched("sysv", 4, "<I", 2**32 - 1),
        "hash is damaged",
    ),
}


@pytest.mark.parametrize(("data", "reason"), NOT_ELF.values(), ids=NOT_ELF.keys())
def test_other_files_are_refused_with_a_reason(data, reason):
    with pytest.raises(NotElf, match=reason):
        SharedObject(data)


@pytest.mark.parametrize("hashes", HASHES)
def test_symbols_behind_the_end_are_refused_when_they_are_asked_for(hashes):
    plain = rich_elf(hashes=hashes)
    (loaded,) = struct.unpack_from("<Q", plain.data, 64 + 32)
    table = BASE + loaded - 1
    found = SharedObject(plain.with_tag(6, table)[:loaded])
    with pytest.raises(NotElf, match="truncated or damaged"):
        found.wanted()


# --- hostile files --------------------------------------------------------------------------------

SMALL = {hashes: rich_elf(hashes=hashes) for hashes in HASHES}


def value_or_not_elf(data):
    """Reads it; what it then says of itself is a value."""
    try:
        SharedObject(data)
    except NotElf:
        return


def measured(function, data):
    """Runs it, and holds it against the limits of time and memory."""
    start = time.process_time()
    function(data)
    seconds = time.process_time() - start
    assert seconds < SECONDS
    if seconds < SECONDS / 10:  # tracing takes its time
        tracemalloc.start()
        try:
            function(data)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("built", SMALL.values(), ids=["gnu", "sysv", "both"])
def test_cut_off_anywhere(built):
    for length in range(len(built.data)):
        ask_everything(built.data[:length])


@pytest.mark.parametrize("built", SMALL.values(), ids=["gnu", "sysv", "both"])
def test_one_byte_is_another(built):
    for at in range(len(built.data)):
        for byte in b"\x00\xff\x7f" if at < built.at["symbols"] else b"\xff":
            ask_everything(patch(built.data, at, bytes([byte])))


BIG = {
    "program headers": rich_elf().patched("header", 56, "<H", 0xFFFF),
    "section headers": rich_elf().patched("header", 60, "<H", 0xFFFF),
    "symbols before the hash": rich_elf().patched("gnu", 4, "<I", 3_999_999),
    "bloom filter": rich_elf().patched("gnu", 8, "<I", 0x0FFFFFFF),
    "SysV buckets": SMALL["sysv",].patched("sysv", 0, "<I", 2**32 - 1),
    "SysV symbols": SMALL["sysv",].patched("sysv", 4, "<I", 3_999_999),
    "symbol of a relocation": rich_elf(hashes=()).patched("rela", 12, "<I", 2**31),
    "relocations": rich_elf().with_tag(8, 2**62),
    "strings": rich_elf().with_tag(10, 2**64 - 1),
    "version needs": rich_elf().with_tag(0x6FFFFFFF, 2**64 - 1),
    "versions": rich_elf().with_tag(0x6FFFFFFD, 2**64 - 1),
    "dynamic section": rich_elf().patched("segments", 56 + 32, "<Q", 2**64 - 1),
    "libraries": make_elf(needed=["libc.so.6"] * 30_000),
    "names": make_elf(needed=["x" * 16_000], wants=["y" * 16_000], soname="z" * 16_384),
}


@pytest.mark.any_python
@pytest.mark.parametrize("data", BIG.values(), ids=BIG.keys())
def test_large_numbers_cost_nothing(data):
    measured(ask_everything, data)


ADDRESSES = [0, BASE - 1, BASE + 3, 2**32, 2**63, 2**64 - 1]
TAGS = {"strings": 5, "symbols": 6, "gnu": 0x6FFFFEF5, "versym": 0x6FFFFFF0, "rela": 7}
TAGS = {**TAGS, "verneed": 0x6FFFFFFE, "verdef": 0x6FFFFFFC}


@pytest.mark.parametrize("part", TAGS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_lead_elsewhere(part, address):
    measured(ask_everything, rich_elf().with_tag(TAGS[part], address))


@pytest.mark.parametrize("part", TAGS)
def test_parts_at_the_very_end(part):
    built = rich_elf(behind=bytes(9))
    for back in (1, 2, 8):
        measured(value_or_not_elf, built.with_tag(TAGS[part], BASE + built.at["behind"] + 9 - back))


def cyclic_chain(*hashes):
    """One bucket, and every symbol's next one is the first."""
    built = rich_elf(hashes=hashes, buckets=1)
    count, symbols = struct.unpack_from("<II", built.data, built.at["sysv"])
    return built.patched("sysv", 8 + 4 * count, f"<{symbols}I", *[1] * symbols)


def test_a_cyclic_chain_beside_a_gnu_hash_is_not_read():
    measured(ask_everything, cyclic_chain("gnu", "sysv"))


def test_a_cyclic_chain_ends():
    measured(ask_everything, cyclic_chain("sysv"))


def test_an_endless_gnu_chain_ends_with_the_file():
    built = build_elf(defines=["f"], buckets=1)
    data = (
        built.data
        + struct.pack("<I", struct.unpack("<I", built.data[built.at["gnu"] + 36 :][:4])[0] & ~1)
        * 10_000
    )
    found = SharedObject(data)
    assert found.defines("f")


def overlapping(count):
    """Each row of this table reads as a library and as a version: `count` times `count` of them."""
    row = struct.pack("<HHIII", 1, 0xFFFF, 1, 16, 16)
    built = rich_elf(behind=row * count * 2 + bytes(16))
    tagged = Built(built.with_tag(0x6FFFFFFE, BASE + built.at["behind"]), built.at)
    return tagged.with_tag(0x6FFFFFFF, count)


def test_a_version_table_that_leads_to_itself_ends():
    built = rich_elf()
    for offset in (8, 12, 16 + 12):  # where the versions begin, the next library, the next version
        for value in (0, 1, 4, 16, 2**32 - 16):
            measured(value_or_not_elf, built.patched("verneed", offset, "<I", value))
            measured(value_or_not_elf, built.patched("verdef", min(offset, 16), "<I", value))


def test_overlapping_version_tables_end():
    measured(value_or_not_elf, overlapping(700))  # 23 kB; with 4096 rows it takes minutes


@pytest.mark.parametrize(
    "data",
    [make_elf(needed=["x" * 16_000] * 4000), make_elf(wants=["x" * 16_000] * 4000)],
    ids=["libraries", "symbols"],
)
def test_shared_names_cost_their_size_once(data):
    measured(ask_everything, data)


HEADER = rich_elf().data[:176]


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=2000))
def test_whatever_follows_a_header(content):
    value_or_not_elf(HEADER + content)


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(HASHES),
    st.lists(
        st.tuples(st.integers(0, 1800), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
    ),
)
def test_whatever_is_changed(hashes, changes):
    data = SMALL[hashes].data
    for at, new in changes:
        data = patch(data, at % len(data), new)
    value_or_not_elf(data[: len(SMALL[hashes].data)])


NAME = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, blacklist_characters="@:"),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(NAME, max_size=20, unique=True),
    st.lists(NAME, max_size=20, unique=True),
    st.sampled_from(HASHES),
    st.integers(1, 40),
)
def test_what_is_written_is_read(wants, defines, hashes, buckets):
    wants = [name for name in wants if name not in defines]
    found = read(
        wants=wants, defines=defines, hashes=hashes, buckets=buckets, needed=wants, soname="lib.so"
    )
    assert [one.name for one in found.wanted()] == list(found.needed) == wants
    assert all(map(found.defines, defines)) and not any(map(found.defines, wants))


def test_chains_have_a_limit_together(monkeypatch):
    monkeypatch.setattr(elf, "MAX_STEPS", 3)
    found = SharedObject(rich_elf(hashes=("sysv",), buckets=1).data)
    with pytest.raises(NotElf, match="does not end"):
        for number in range(100):
            found.defines(f"nothing{number}")


def test_names_have_a_limit_together(monkeypatch):
    monkeypatch.setattr(elf, "MAX_TEXT", 1000)
    with pytest.raises(NotElf, match="take too much"):
        SharedObject(make_elf(needed=[f"{number:0300}.so" for number in range(5)]))

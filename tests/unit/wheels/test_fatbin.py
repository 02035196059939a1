"""The GPU code of crafted `.nv_fatbin` sections."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safe_install.tags import parse_capability
from safe_install.wheels import fatbin
from safe_install.wheels.elf import SharedObject
from safe_install.wheels.fatbin import DeviceCode, read_fatbin, union
from safe_install.wheels.inspection import gpu_code
from tests.unit.wheels.elffiles import NVVM, Entry, cubin, make_container, make_elf, patch, ptx


def code(*cubins, ptx=(), is_complete=True):
    return DeviceCode(
        frozenset(parse_capability(text) for text in cubins),
        frozenset(parse_capability(f"{text}+PTX") for text in ptx),
        is_complete,
    )


CONTAINERS = {
    "nothing": (b"", code()),
    "one entry": (make_container(cubin("8.0")), code("8.0")),
    "several": (
        make_container(cubin("7.5"), cubin("8.6"), ptx("8.6")),
        code("7.5", "8.6", ptx=["8.6"]),
    ),
    "three digits": (make_container(cubin("10.0"), cubin("12.1")), code("10.0", "12.1")),
    "variants": (
        make_container(cubin("9.0a"), cubin("10.0f"), cubin("9.0")),
        code("9.0a", "10.0f", "9.0"),
    ),
    "PTX of a variant": (make_container(ptx("9.0a")), code(ptx=["9.0a"])),
    "compressed": (
        make_container(cubin("9.0a", flags=0x108000), ptx("9.0", flags=0x8000)),
        code("9.0a", ptx=["9.0"]),
    ),
    "larger headers": (
        make_container(*(cubin("8.0", header=n) for n in (48, 64, 80, 96, 112))),
        code("8.0"),
    ),
    "kinds that do not run": (
        make_container(Entry(80, kind=NVVM), Entry(80, kind=4), cubin("7.0")),
        code("7.0"),
    ),
    "no architecture": (make_container(Entry(0), Entry(5), Entry(5000), cubin("7.0")), code("7.0")),
    "empty container": (make_container(), code()),
    "several containers": (
        make_container(cubin("8.0")) + make_container(ptx("9.0")),
        code("8.0", ptx=["9.0"]),
    ),
    "padding": (
        make_container(cubin("8.0", content=bytes(21)))
        + bytes(3 + 24)
        + make_container(cubin("9.0"))
        + bytes(40),
        code("8.0", "9.0"),
    ),
    "a rest of a few bytes": (make_container(cubin("8.0")) + b"\1\2\3", code("8.0")),
    "zeros": (bytes(400), code()),
    "text": (b"not a container at all", code(is_complete=False)),
    "text behind": (make_container(cubin("8.0")) + b"x" * 64, code("8.0", is_complete=False)),
    "container behind the end": (make_container(cubin("8.0"))[:-1], code(is_complete=False)),
    "text behind zeros": (
        make_container(cubin("8.0")) + bytes(4) + b"x" * 28,
        code("8.0", is_complete=False),
    ),
    "huge container": (
        patch(make_container(cubin("8.0")), 8, b"\xff" * 8),
        code(is_complete=False),
    ),
    "small header": (patch(make_container(cubin("8.0")), 6, b"\0\0"), code(is_complete=False)),
    "huge entry": (
        patch(make_container(cubin("8.0")), 16 + 8, b"\xff" * 8),
        code(is_complete=False),
    ),
    "entry with a small header": (
        patch(make_container(cubin("8.0")), 16 + 4, bytes(4)),
        code(is_complete=False),
    ),
    "second entry too long": (
        patch(make_container(cubin("8.0"), cubin("9.0")), 16 + 88 + 8, b"\xff" * 8),
        code("8.0", is_complete=False),
    ),
}


@pytest.mark.parametrize(("section", "found"), CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize("form", [bytes, memoryview, bytearray])
def test_containers(section, found, form):
    assert read_fatbin(form(section)) == found


def test_what_was_linked_counts_and_else_what_could_be():
    sections = {
        "__nv_relfatbin": make_container(cubin("8.0")),
        ".nv_fatbin": make_container(cubin("9.0")),
    }
    assert gpu_code(SharedObject(make_elf(sections=sections))) == code("9.0")
    del sections[".nv_fatbin"]
    assert gpu_code(SharedObject(make_elf(sections=sections))) == code("8.0")
    assert gpu_code(SharedObject(make_elf())) == code()
    damaged = gpu_code(SharedObject(make_elf(sections={**sections, ".nv_fatbin": b"damaged!" * 4})))
    assert not damaged
    assert not damaged.is_complete
    assert not read_fatbin(None)


@pytest.mark.parametrize(
    ("found", "device", "runs"),
    [
        (code("8.6"), "8.6", True),
        (code("8.6"), "8.9", True),
        (code("8.6"), "8.0", False),
        (code("8.6"), "9.0", False),
        (code("8.0"), "7.5", False),
        (code("7.5", "8.0"), "8.6", True),
        (code("9.0a"), "9.0", True),
        (code("9.0a"), "10.0", False),
        (code("10.0a"), "10.3", False),
        (code("10.0a"), "10.0", True),
        (code("10.0f"), "10.0", True),
        (code("10.0f"), "10.3", True),
        (code("10.3f"), "10.0", False),
        (code("10.0f"), "12.0", False),
        (code("12.0"), "12.1", True),
        (code(ptx=["8.0"]), "8.0", True),
        (code(ptx=["8.0"]), "12.0", True),
        (code(ptx=["9.0"]), "8.9", False),
        (code("7.0", ptx=["9.0"]), "8.0", False),
        (code("7.0", ptx=["8.0"]), "9.0", True),
        (code(), "8.0", False),
    ],
)
def test_where_code_runs(found, device, runs):
    assert found.runs_on(parse_capability(device)) is runs


@pytest.mark.parametrize(
    ("capability", "device"), [("9.0a", "10.0"), ("9.0a", "12.0"), ("10.0f", "12.0")]
)
def test_ptx_of_a_variant_is_not_for_newer_devices(capability, device):
    assert not code(ptx=[capability]).runs_on(parse_capability(device))


@pytest.mark.parametrize(
    ("capability", "device"), [("9.0a", "9.0"), ("10.0f", "10.0"), ("10.0f", "10.3")]
)
def test_ptx_of_a_variant_is_for_its_own(capability, device):
    assert code(ptx=[capability]).runs_on(parse_capability(device))


@pytest.mark.parametrize(
    ("version", "driver_cuda", "runs"),
    [
        ((8, 7), "12.8", True),
        ((8, 7), "13.0", True),
        ((8, 7), "12.6", False),
        ((8, 7), "12", False),
        ((9, 0), "12.9", False),
        ((7, 1), "11.1", True),
        ((7, 1), "10.2", False),
        ((8, 7), None, True),  # the driver is not known
        ((0, 0), "11.0", True),  # the PTX does not say
        ((99, 0), "13.0", True),  # newer than the table
    ],
)
def test_a_driver_reads_no_newer_ptx(version, driver_cuda, runs):
    found = read_fatbin(
        make_container(cubin("7.0"), ptx("8.0", version=(7, 0)), ptx("8.0", version=version))
    )
    assert found.runs_on(parse_capability("9.0"), driver_cuda=driver_cuda) is runs
    assert found.runs_on(parse_capability("7.5"), driver_cuda=driver_cuda)  # by its machine code


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (code(), "none"),
        (code("8.0"), "8.0"),
        (code("10.0", "9.0a", "9.0", "8.6", ptx=["9.0"]), "8.6, 9.0, 9.0a, 10.0, 9.0+PTX"),
        (code(ptx=["12.0", "7.5"]), "7.5+PTX, 12.0+PTX"),
    ],
)
def test_people_read(found, text):
    assert str(found) == text
    assert bool(found) is (text != "none")


def test_several_files_bring_what_each_brings():
    assert union([code("8.0"), code("9.0", ptx=["9.0"])]) == code("8.0", "9.0", ptx=["9.0"])
    assert union([code("8.0"), code(is_complete=False)]) == code("8.0", is_complete=False)
    assert union([]) == code()


# --- damaged --------------------------------------------------------------------------------------

WHOLE = make_container(cubin("8.0"), ptx("9.0")) + bytes(16) + make_container(cubin("9.0a"))


def test_cut_off_anywhere():
    complete = read_fatbin(WHOLE)
    for length in range(len(WHOLE)):
        found = read_fatbin(WHOLE[:length])
        assert found.cubins <= complete.cubins and found.ptx <= complete.ptx


def test_one_byte_is_another():
    for at in range(len(WHOLE)):
        for byte in b"\x00\xff\x7f":
            str(read_fatbin(patch(WHOLE, at, bytes([byte]))))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 65535), st.integers(0, 2**64 - 1))
def test_whatever_it_holds(content, header, size):
    for section in (
        content,
        struct.pack("<IHHQ", 0xBA55ED50, 1, header, size) + content,
        WHOLE + content,
    ):
        found = read_fatbin(section)
        assert found.runs_on(parse_capability("8.0")) in (True, False) and str(found)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8)), max_size=5
    )
)
def test_whatever_is_changed(changes):
    section = WHOLE
    for at, new in changes:
        section = patch(section, at, new)
    str(read_fatbin(section))


CAPABILITY = st.tuples(st.integers(3, 12), st.integers(0, 9), st.sampled_from(["", "a", "f"])).map(
    lambda c: "{}.{}{}".format(*c)
)


@settings(max_examples=50)
@given(st.lists(st.tuples(CAPABILITY, st.booleans(), st.integers(0, 3)), max_size=12))
def test_what_is_written_is_read(rows):
    entries = [
        (ptx if is_ptx else cubin)(name, content=bytes(8 * size)) for name, is_ptx, size in rows
    ]
    found = read_fatbin(make_container(*entries[:5]) + make_container(*entries[5:]))
    assert {str(one) for one in found.cubins} == {name for name, is_ptx, _ in rows if not is_ptx}
    assert {str(one) for one in found.ptx} == {f"{name}+PTX" for name, is_ptx, _ in rows if is_ptx}


LARGE = {
    "containers": lambda: make_container() * 100_000,
    "entries": lambda: make_container(*[cubin("8.0", content=b"", header=48)] * 50_000),
    "zeros": lambda: bytes(64 * 2**20),
    "zeros and others by turns": lambda: (bytes(4) + b"\1\0\0\0") * 2**17,
}


@pytest.mark.parametrize("what", LARGE)
def test_large_sections_are_read_fast(what):
    section = LARGE[what]()
    start = time.process_time()
    read_fatbin(section)
    del section  # a failing test would show it
    assert time.process_time() - start < 1


def test_more_entries_than_are_read_is_not_all_of_them(monkeypatch):
    monkeypatch.setattr(fatbin, "MAX_ENTRIES", 2)
    assert read_fatbin(make_container(cubin("8.0"), cubin("9.0"))).is_complete
    found = read_fatbin(make_container(cubin("8.0"), cubin("9.0"), cubin("10.0")))
    assert found == code("8.0", "9.0", is_complete=False)

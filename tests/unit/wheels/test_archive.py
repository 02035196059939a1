"""Wheels as they should be, and every way to be hostile that is known to get past an installer."""

from __future__ import annotations

import hashlib
import re
import struct
import time
import zipfile

import pytest
from packaging.tags import Tag
from packaging.version import Version

from safe_install.errors import HashMismatch, WheelInvalid
from safe_install.wheels import archive
from safe_install.wheels.archive import EntryPoint, extract_members, open_wheel
from tests.unit.wheels.crafted import METADATA, WHEEL, make_entry, make_row, make_wheel

CP311 = Tag("cp311", "cp311", "linux_x86_64")


def test_a_wheel_is_read(tmp_path):
    files = {
        "demo/__init__.py": "",
        "demo/_C.cpython-311-x86_64-linux-gnu.so": b"\x7fELF",
        "demo.libs/libgomp-1.so.1.0.0": b"\x7fELF",
        "single.py": "",
        "_native.cpython-311.so": b"\x7fELF",
        "demo-1.0.data/platlib/other/__init__.py": "",
        "demo-1.0.data/scripts/demo-run": "#!python\n",
        "demo.pth": "import demo\n",
        "demo-1.0.dist-info/entry_points.txt": "[console_scripts]\ndemo = demo:Main\n",
    }
    path = make_wheel(tmp_path, files)
    artifact = open_wheel(path)
    assert (artifact.name, artifact.version, artifact.tags) == ("demo", Version("1.0"), {CP311})
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert artifact.requires_dist == ("torch>=1.8",)
    assert artifact.requires_python == ">=3.8"
    assert artifact.native_objects == (
        "demo/_C.cpython-311-x86_64-linux-gnu.so",
        "demo.libs/libgomp-1.so.1.0.0",
        "_native.cpython-311.so",
    )
    assert artifact.top_level == ("_native", "demo", "other", "single")
    assert artifact.entry_points == (EntryPoint("console_scripts", "demo", "demo:Main"),)
    assert artifact.scripts == ("demo", "demo-run")
    assert artifact.path_files == ("demo.pth",)
    assert {row.path for row in artifact.record} == {*files, *(f"demo-1.0.dist-info/{n}" for n in _INFO)}


_INFO = ("METADATA", "WHEEL", "RECORD")


def test_members_are_extracted_under_their_paths(tmp_path):
    artifact = open_wheel(make_wheel(tmp_path))
    (written,) = extract_members(artifact, artifact.native_objects, tmp_path / "out")
    assert written == tmp_path / "out" / "demo" / "_C.so"
    assert written.read_bytes() == b"\x7fELF"


@pytest.mark.parametrize(
    ("filename", "options"),
    [
        pytest.param("demo-1.0+pt18cu111-cp311-cp311-linux_x86_64.whl", {}, id="local version only in the file name"),
        pytest.param("demo-1.0-py3-none-any.whl", {}, id="WHEEL has other tags than the file name"),
        pytest.param("demo-1.0-1-cp311-cp311-linux_x86_64.whl", {}, id="build tag"),
        pytest.param(
            "demo-1.0+cu118-cp311-cp311-linux_x86_64.whl",
            {"dist_info": "demo-1.0+cu118.dist-info", "metadata": METADATA.replace("1.0", "1.0+cu118")},
            id="local version everywhere",
        ),
        pytest.param("Demo-1.0-py3-none-any.whl", {"dist_info": "Demo-1.0.dist-info"}, id="capital letter"),
    ],
)
def test_oddities_in_good_faith_are_accepted(tmp_path, filename, options):
    assert open_wheel(make_wheel(tmp_path, filename=filename, **options)).name == "demo"


def test_streamed_archives_with_data_descriptors_are_accepted(tmp_path):
    plain = make_wheel(tmp_path)
    streamed = tmp_path / "streamed" / plain.name
    streamed.parent.mkdir()

    class Unseekable:
        def __init__(self, stream):
            self.write, self.flush = stream.write, stream.flush

    with streamed.open("wb") as stream:
        target = zipfile.ZipFile(Unseekable(stream), "w", zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(plain) as source, target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
    assert b"PK\x07\x08" in streamed.read_bytes()
    assert open_wheel(streamed).files == open_wheel(plain).files


def drop_row(name):
    return lambda text: "".join(line for line in text.splitlines(True) if not line.startswith(name))


def rewrite(old, new):
    return lambda text: re.sub(old, new, text)


HOSTILE = {
    "content differs from RECORD": ({"record": rewrite(r"(demo/_C.so,sha256=)\w{4}", r"\1AAAA")}, "hash that RECORD"),
    "file not in RECORD": ({"extra": [("demo/more.py", "")]}, "does not list demo/more.py"),
    "row without file": ({"record": lambda t: t + make_row("demo/gone.py", "")}, "demo/gone.py, which is not"),
    "row twice": ({"record": lambda t: t + make_row("demo/_C.so", b"\x7fELF")}, "demo/_C.so twice"),
    "row without hash": ({"record": rewrite(r"demo/_C.so,.*", "demo/_C.so,,")}, "no hash for demo/_C.so"),
    "row with md5": ({"record": rewrite(r"demo/_C.so,sha256=\S+", "demo/_C.so,md5=AAAA,4")}, "'md5'"),
    "row with another size": ({"record": rewrite(r"(demo/_C.so,.*),4\n", r"\1,5\n")}, "5 bytes, the archive has 4"),
    "row with two columns": ({"record": lambda t: t + "x,y\n"}, "2 columns"),
    "no RECORD": ({"leave_out": ["demo-1.0.dist-info/RECORD"]}, "RECORD is missing"),
    "no METADATA": ({"leave_out": ["demo-1.0.dist-info/METADATA"]}, "METADATA is missing"),
    "no WHEEL": (
        {"leave_out": ["demo-1.0.dist-info/WHEEL"], "record": drop_row("demo-1.0.dist-info/WHEEL")},
        "WHEEL is",
    ),
    "wheel format 2": ({"wheel": WHEEL.replace("1.0", "2.0")}, "wheel format version"),
    "other name": ({"metadata": METADATA.replace("demo", "torch")}, "'torch', its file name says 'demo'"),
    "other version": ({"metadata": METADATA.replace("1.0", "1.1")}, "version 1.1, its file name says 1.0"),
    "no version": ({"metadata": "Name: demo\n"}, "version is None"),
    "not a wheel name": ({"filename": "demo.whl"}, "not a wheel file name"),
    "dist-info of another": ({"dist_info": "other-1.0.dist-info"}, "does not belong to demo 1.0"),
    "second dist-info": ({"files": {"pip-1.0.dist-info/METADATA": ""}}, "2 .dist-info folders"),
    "data of another": ({"files": {"pip-1.0.data/purelib/pip.py": ""}}, "does not belong to demo 1.0"),
    "unknown scheme": ({"files": {"demo-1.0.data/stdlib/os.py": ""}}, "no known installation scheme"),
    "replaces python": ({"files": {"demo-1.0.data/scripts/python3.11": ""}}, "environment's own python3.11"),
    "replaces python.exe": ({"files": {"demo-1.0.data/scripts/Python.exe": ""}}, "environment's own"),
    "replaces activate": ({"files": {"demo-1.0.data/scripts/activate.fish": ""}}, "environment's own activate"),
    "replaces python through data": ({"files": {"demo-1.0.data/data/bin/python": ""}}, "environment's own python"),
    "command with a path": (
        {"files": {"demo-1.0.dist-info/entry_points.txt": "[console_scripts]\n../../x = demo:m\n"}},
        "not a plain file name",
    ),
    "command python": (
        {"files": {"demo-1.0.dist-info/entry_points.txt": "[console_scripts]\npython = demo:m\n"}},
        "'python' would replace",
    ),
    "unreadable entry points": (
        {"files": {"demo-1.0.dist-info/entry_points.txt": "demo = demo:m\n"}},
        "cannot be read",
    ),
    "bytecode of another module": ({"files": {"six/__pycache__/six.cpython-311.pyc": b""}}, "no source beside it"),
    "parent folder": ({"files": {"../../evil.py": ""}}, "leaves its folder"),
    "parent folder inside": ({"files": {"demo/../os.py": ""}}, "leaves its folder"),
    "absolute": ({"files": {"/etc/passwd": ""}}, "is absolute"),
    "drive": ({"files": {"C:/evil.py": ""}}, "is absolute"),
    "backslash": ({"files": {"demo\\evil.py": ""}}, "readers treat differently"),
    "double slash": ({"files": {"demo//evil.py": ""}}, "simplest form"),
    "long name": ({"files": {"demo/" + "x" * 256 + ".py": ""}}, "longer than 255"),
    "symbolic link": ({"extra": [(make_entry("demo/link", mode=0o120777), "/etc/passwd")]}, "is a link"),
    "device": ({"extra": [(make_entry("demo/null", mode=0o020666), "")]}, "special file"),
    "set-user-id": ({"extra": [(make_entry("demo/su", mode=0o104755), "")]}, "set-user-id"),
    "file and folder": ({"extra": [("demo", "")]}, "a file and a folder at once"),
    "bzip2": ({"compression": zipfile.ZIP_BZIP2}, "compressed in a way"),
}


@pytest.mark.parametrize(("options", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_wheels_are_refused(tmp_path, options, reason):
    path = make_wheel(tmp_path, **options)
    with pytest.raises(WheelInvalid) as caught:
        open_wheel(path)
    assert reason in caught.value.message
    assert caught.value.message.startswith(path.name)
    assert caught.value.hint


def test_the_same_path_twice_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = make_wheel(tmp_path, extra=[("demo/__init__.py", "evil = 1\n")])
    with pytest.raises(WheelInvalid, match="twice"):
        open_wheel(path)


def change(path, old, new):
    raw = path.read_bytes()
    assert raw.count(old) >= 1
    path.write_bytes(raw.replace(old, new, 1))


LAYOUT = {
    "data before": lambda raw: b"#!/bin/sh\n" + raw,
    "data behind": lambda raw: raw + b"more",
    "a second archive behind": lambda raw: raw + raw,
    "archive comment": lambda raw: raw[:-2] + b"\x04\x00note",
    "cut off": lambda raw: raw[:-30],
    "no archive": lambda raw: b"<html>not found</html>",
    "empty": lambda raw: b"",
    "local name differs": lambda raw: raw.replace(b"demo/_C.so", b"demo/_D.so", 1),
    "encrypted": lambda raw: set_flag(raw, 0x1),
    "count in the end record": lambda raw: raw[:-12] + struct.pack("<HH", 1, 1)[2:] + raw[-10:],
}


def set_flag(raw, flag):
    """Set a general purpose flag in the first entry of the central directory."""
    at = raw.index(b"PK\x01\x02") + 8
    (flags,) = struct.unpack("<H", raw[at : at + 2])
    return raw[:at] + struct.pack("<H", flags | flag) + raw[at + 2 :]


@pytest.mark.parametrize("damage", LAYOUT.values(), ids=LAYOUT.keys())
def test_ambiguous_archives_are_refused(tmp_path, damage):
    path = make_wheel(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WheelInvalid):
        open_wheel(path, verify_members=False)


def test_bytes_between_entries_are_refused(tmp_path):
    path = make_wheel(tmp_path)
    raw = path.read_bytes()
    second = raw.index(b"PK\x03\x04", 4)
    start = raw.index(b"PK\x01\x02")
    moved = bytearray(raw[:second] + b"hide" + raw[second:])
    at, shift = start + 4, 4
    while moved[at : at + 4] == b"PK\x01\x02":
        lengths = struct.unpack("<HHH", moved[at + 28 : at + 34])
        (offset,) = struct.unpack("<I", moved[at + 42 : at + 46])
        if offset:
            moved[at + 42 : at + 46] = struct.pack("<I", offset + shift)
        at += 46 + sum(lengths)
    moved[-6:-2] = struct.pack("<I", start + shift)
    path.write_bytes(moved)
    assert zipfile.ZipFile(path).testzip() is None  # other readers see nothing
    with pytest.raises(WheelInvalid, match="belong to none"):
        open_wheel(path)


def test_contents_damaged_inside_the_archive_are_refused(tmp_path):
    path = make_wheel(tmp_path, compression=zipfile.ZIP_STORED)
    change(path, b"\x7fELF", b"\x7fELG")
    with pytest.raises(WheelInvalid, match=r"demo/_C\.so cannot be unpacked"):
        open_wheel(path)


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = make_wheel(tmp_path, {"demo/zeros": bytes(archive.MIN_UNPACKED_LIMIT + 1)})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(WheelInvalid, match="more than the limit"):
        open_wheel(path)


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 4)
    with pytest.raises(WheelInvalid, match="5 entries"):
        open_wheel(make_wheel(tmp_path))


def test_without_member_verification_names_are_still_checked(tmp_path):
    wrong_hash = make_wheel(tmp_path, record=rewrite(r"(demo/_C.so,sha256=)\w{4}", r"\1AAAA"))
    assert open_wheel(wrong_hash, verify_members=False).name == "demo"
    with pytest.raises(WheelInvalid, match="does not list"):
        open_wheel(make_wheel(tmp_path, extra=[("demo/more.py", "")]), verify_members=False)


def test_the_whole_file_is_compared_with_what_was_promised(tmp_path):
    path = make_wheel(tmp_path)
    promised = hashlib.sha256(path.read_bytes()).hexdigest()
    assert open_wheel(path, sha256=promised.upper()).sha256 == promised
    with pytest.raises(HashMismatch) as caught:
        open_wheel(path, sha256="0" * 64)
    assert promised in caught.value.message and "0" * 64 in caught.value.message


def test_a_small_wheel_takes_no_time(tmp_path):
    path = make_wheel(tmp_path, {f"demo/m{i}.py": "x = 1\n" for i in range(20)})
    best = min(_seconds(open_wheel, path) for _ in range(5))
    assert best < 0.015


def _seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start

"""A bundle as a file, in both of its forms: what is written is read, what is damaged is refused."""

from __future__ import annotations

import io
import os
import zipfile
from types import SimpleNamespace

import pytest

from safe_install.errors import BundleInvalid, HashMismatch, Refused, SystemFailed
from safe_install.events import Reporter
from safe_install.snapshot import bundle_file
from safe_install.snapshot.bundle_file import (
    BEGINNING,
    EXTRA_FIELD,
    GUARD,
    check_bundle,
    hash_whole,
    is_bundle,
    open_bundle,
    read_lock,
    unpack_wheels,
)
from safe_install.snapshot.manifest import COPY_AGAIN
from tests.unit.snapshot.bundles import CONTENTS, LOCK, PROGRAM, without_offsets, write

REPORTER = Reporter()
FORMS = {"plain": bundle_file.LARGEST_PLAIN, "large": 1}


@pytest.fixture(params=sorted(FORMS))
def limit(request):
    """From which size on the directory names the program alone."""
    return FORMS[request.param]


def test_what_is_written_is_read(tmp_path, limit):
    path, manifest, sha256 = write(tmp_path, largest_plain=limit)
    bundle = open_bundle(path)
    assert without_offsets(bundle.manifest) == manifest
    assert read_lock(path) == LOCK
    assert check_bundle(path, REPORTER) == bundle
    assert hash_whole(path, REPORTER) == sha256
    unpack_wheels(bundle, bundle.manifest.wheels, tmp_path / "wheels", REPORTER)
    found = {entry.name: entry.read_bytes() for entry in (tmp_path / "wheels").iterdir()}
    assert found == CONTENTS
    unpack_wheels(bundle, bundle.manifest.wheels[1:2], tmp_path / "one", REPORTER)
    (one,) = (tmp_path / "one").iterdir()
    assert one.name == bundle.manifest.wheels[1].filename


def test_what_lies_on_the_machine_is_named_and_not_in_it(tmp_path, limit):
    whole = write(tmp_path)[0].read_bytes()
    named = "torch_scatter-2.1.2+pt28cu126-cp311-cp311-linux_x86_64.whl"
    path = write(tmp_path, left_out=[named], largest_plain=limit)[0]
    assert CONTENTS[named] in whole
    assert CONTENTS[named] not in path.read_bytes()
    assert path.stat().st_size < len(whole) - len(CONTENTS[named])
    bundle = check_bundle(path, REPORTER)
    outside = [one.filename for one in bundle.manifest.wheels if not one.is_inside]
    assert (outside, len(bundle.manifest.wheels)) == ([named], len(CONTENTS))


def test_what_is_a_bundle_is_told_by_its_beginning_or_its_name(tmp_path, limit):
    path, _, _ = write(tmp_path, largest_plain=limit)
    renamed = path.rename(tmp_path / "program")
    cut, other = tmp_path / "cut", tmp_path / "other.zip"
    cut.write_bytes(renamed.read_bytes()[:500])
    other.write_text("#!/bin/sh")
    assert [is_bundle(one) for one in (renamed, cut, other)] == [True, True, True]
    for text in ("", "#!/usr/bin/env python3\n", "six==1.0\n"):
        (tmp_path / "file").write_text(text)
        assert not is_bundle(tmp_path / "file")
    assert not is_bundle(tmp_path / "missing")


def test_the_same_contents_have_the_same_bytes(tmp_path, limit, monkeypatch):
    path, _, _ = write(tmp_path, largest_plain=limit)
    first = path.read_bytes()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    (tmp_path / "again").mkdir()
    write(tmp_path / "again", largest_plain=limit)
    assert (tmp_path / "again" / "FILE.zip").read_bytes() == first


def test_a_plain_one_is_an_archive_of_everything(tmp_path):
    path, _, _ = write(tmp_path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        members = {info.filename: info for info in archive.infolist()}
        for name, content in CONTENTS.items():
            assert archive.read(f"wheels/{name}") == content
            assert members[f"wheels/{name}"].compress_type == zipfile.ZIP_STORED
        for name, content in PROGRAM.items():
            assert archive.read(name) == content
    assert path.read_bytes().startswith(BEGINNING)


def test_a_large_one_is_an_archive_behind_the_wheels(tmp_path):
    """Nothing in it needs zip64, however far behind it begins."""
    path, _, _ = write(tmp_path, largest_plain=1)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {
            "__main__.py", "pylock.toml", "safe_install_bundle.json", *PROGRAM
        }  # fmt: skip
        start = min(info.header_offset for info in archive.infolist())
    wheels = [CONTENTS[name] + GUARD for name in sorted(CONTENTS)]
    assert content[:start] == BEGINNING + b"".join(wheels)


def test_sizes_from_which_python_writes_zip64_are_not_plain():
    """Python before 3.13 does not run such an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x", b"")
        archive.start_dir = 0
        archive.filelist[0].header_offset = bundle_file.LARGEST_PLAIN
    assert b"PK\x06\x06" not in stream.getvalue()
    assert bundle_file.LARGEST_PLAIN <= 2**31


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_bundle_without_its_end_is_none(tmp_path, limit, part):
    path, _, _ = write(tmp_path, largest_plain=limit)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    for read in (open_bundle, read_lock, lambda path: check_bundle(path, REPORTER)):
        with pytest.raises(BundleInvalid, match="its end is missing"):
            read(path)


ALONE = "sample-1.0-py3-none-any.whl"


def wheel_with_an_end() -> bytes:
    """An archive, as a wheel is; its end could pass for that of the bundle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("sample.py", "x = 1\n")
    return stream.getvalue()


def test_wherever_a_bundle_of_a_small_wheel_breaks_off_it_is_damaged(tmp_path, limit):
    """Also right behind the wheel."""
    path, _, _ = write(tmp_path, contents={ALONE: wheel_with_an_end()}, largest_plain=limit)
    content = path.read_bytes()
    wheel = open_bundle(path).manifest.wheels[0]
    behind = wheel.offset + wheel.size
    for length in (*range(len(BEGINNING), behind + 200), *range(behind + 200, len(content), 97)):
        path.write_bytes(content[:length])
        with pytest.raises(BundleInvalid, match="is damaged, or its end is missing") as caught:
            open_bundle(path)
        assert caught.value.hint == COPY_AGAIN


def test_behind_a_small_wheel_no_end_passes_for_that_of_the_bundle(tmp_path, limit):
    """Python, too, would take it for one, and say that it has no program."""
    path, _, _ = write(tmp_path, contents={ALONE: wheel_with_an_end()}, largest_plain=limit)
    content = path.read_bytes()
    wheel = open_bundle(path).manifest.wheels[0]
    for length in range(content.index(GUARD, wheel.offset) + 4, len(content)):
        path.write_bytes(content[:length])
        # OSError: of Python 3.8, which looks for the rest before the beginning of the file
        with pytest.raises((zipfile.BadZipFile, OSError)):
            zipfile.ZipFile(path).close()


def test_an_archive_that_is_no_bundle(tmp_path):
    path = tmp_path / "other.zip"
    path.write_bytes(wheel_with_an_end())
    with pytest.raises(BundleInvalid, match=r"is no bundle: safe_install_bundle\.json is missing"):
        open_bundle(path)


def test_a_byte_of_a_wheel(tmp_path, limit):
    path, _, _ = write(tmp_path, largest_plain=limit)
    content = bytearray(path.read_bytes())
    content[content.index(b"scatterscatter") + 500] ^= 1
    path.write_bytes(bytes(content))
    bundle = open_bundle(path)
    with pytest.raises(BundleInvalid, match=r"torch_scatter.* nothing was changed"):
        unpack_wheels(bundle, bundle.manifest.wheels, tmp_path / "wheels", REPORTER)
    with pytest.raises(BundleInvalid, match="torch_scatter"):
        check_bundle(path, REPORTER)


def test_every_byte_that_counts_is_checked(tmp_path, limit):
    """What is not refused has changed nothing that is used: dates, versions, the first lines."""
    path, _, _ = write(tmp_path, largest_plain=limit)
    content = path.read_bytes()
    whole = check_bundle(path, REPORTER)
    passed = []
    for place in range(len(BEGINNING), len(content), 37):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            assert check_bundle(path, REPORTER) == whole
            passed.append(place)
        except BundleInvalid:
            pass
    # of each member the names, sizes and dates before it, which nobody reads, and what guards an end
    guards = content.count(EXTRA_FIELD) * len(EXTRA_FIELD)
    assert len(passed) < (0.1 * len(content) + guards) / 37, (len(passed), len(content))


def test_another_list_in_its_place(tmp_path):
    path, _, _ = write(tmp_path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name).replace(b"torch-scatter", b"torch-spatter"))
    with pytest.raises(BundleInvalid):
        check_bundle(other, REPORTER)


@pytest.mark.parametrize("name", ["pylock.toml", "safe_install_bundle.json", "__main__.py"])
def test_a_member_that_is_missing(tmp_path, name):
    path, _, _ = write(tmp_path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(other, "w") as copy:
        for member in archive.namelist():
            if member != name:
                copy.writestr(member, archive.read(member))
    with pytest.raises(BundleInvalid, match=name.replace(".", r"\.")):
        check_bundle(other, REPORTER)


def test_a_program_of_many_files_is_not_held_in_memory(tmp_path, monkeypatch):
    """Each of which would be small enough."""
    read = []
    whole = bundle_file._read_member

    def reading(path, archive, name):
        read.append(name)
        return whole(path, archive, name)

    path, _, _ = write(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(50):
            archive.writestr(f"x{number}.py", "0" * 2**20, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(bundle_file, "_read_member", reading)
    monkeypatch.setattr(bundle_file, "LARGEST_PROGRAM", 3 * 2**20)
    with pytest.raises(BundleInvalid, match="the program is not what its list says"):
        check_bundle(path, REPORTER)
    assert [name for name in read if name.startswith("x")] == ["x0.py", "x1.py", "x2.py"]


def test_a_program_that_was_changed(tmp_path):
    path, _, _ = write(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("safe_install/more.py", "import os\n")
    with pytest.raises(BundleInvalid, match="the program"):
        check_bundle(path, REPORTER)


@pytest.mark.parametrize("content", [b"", b"PK", b"#!/bin/sh\n" * 9, b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle(tmp_path, content):
    path = tmp_path / "FILE.zip"
    path.write_bytes(content)
    with pytest.raises(BundleInvalid):
        open_bundle(path)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(SystemFailed, match="No such file"):
        open_bundle(tmp_path / "none.zip")
    with pytest.raises(SystemFailed, match="directory"):
        open_bundle(tmp_path)


# --- written whole or not at all ------------------------------------------------------------------


def left_in(folder):
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".whl"))


def test_a_wheel_that_was_replaced_meanwhile(tmp_path):
    path, manifest, _ = write(tmp_path)
    before = path.read_bytes()
    name = manifest.wheels[0].filename
    for content in (b"other", CONTENTS[name] + b"more"):
        (tmp_path / name).write_bytes(content)
        files = {wheel.filename: tmp_path / wheel.filename for wheel in manifest.wheels}
        with pytest.raises(HashMismatch, match=name):
            bundle_file.write_bundle(path, manifest, files, PROGRAM, LOCK, REPORTER)
    assert (path.read_bytes(), left_in(tmp_path)) == (before, ["FILE.zip"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, os.strerror(28))])
def test_an_interruption_leaves_nothing(tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(bundle_file, "_add_members", fail)
    expected = SystemFailed if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(tmp_path)
    assert left_in(tmp_path) == []


def test_without_room_nothing_is_written(tmp_path, monkeypatch):
    """For the file, and where its wheels are unpacked."""
    path, manifest, _ = write(tmp_path)
    full = SimpleNamespace(f_bavail=1, f_frsize=4096, f_favail=99)
    monkeypatch.setattr("safe_install.transaction.room.os.statvfs", lambda folder: full)
    with pytest.raises(Refused, match="MiB free and this needs"):
        write(tmp_path, name="second.zip")
    with pytest.raises(Refused, match="MiB free and this needs"):
        unpack_wheels(open_bundle(path), manifest.wheels, tmp_path / "wheels", REPORTER)
    assert left_in(tmp_path) == ["FILE.zip"]


def test_how_far_it_is_is_told(tmp_path):
    told = []

    class Told(Reporter):
        def task_advanced(self, task, done, text="", total=None):
            told.append((task, done))

    path, _, _ = write(tmp_path)
    check_bundle(path, Told())
    assert told[-1] == ("read FILE.zip", sum(map(len, CONTENTS.values())))


def test_a_list_that_is_too_large(tmp_path, monkeypatch):
    path, _, _ = write(tmp_path)
    monkeypatch.setattr(bundle_file, "LARGEST_LIST", 99)
    with pytest.raises(BundleInvalid, match=r"safe_install_bundle\.json is not what"):
        open_bundle(path)

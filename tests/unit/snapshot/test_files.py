"""What installed files, and wheels of our store, say of where they came from."""

from __future__ import annotations

import hashlib
import zipfile

import pytest
from packaging.tags import parse_tag

from safe_install.environment.record import RecordEntry
from safe_install.snapshot.files import (
    find_named,
    has_wheel_of,
    is_same_content,
    read_installed_files,
    read_wheels_of,
)
from safe_install.snapshot.sources import InstalledFiles
from safe_install.snapshot.values import FileSource
from tests.factories import make_distribution
from tests.lab.wheels import write_wheel


def entries(**hashes):
    return [
        RecordEntry(path.replace("__", "/"), f"sha256={value}", "1")
        for path, value in hashes.items()
    ]


INSTALLED = [
    *entries(a__x="1", a__y="2"),
    RecordEntry("a-1.dist-info/INSTALLER", "sha256=9", "4"),
    RecordEntry("a/__pycache__/x.pyc", "", ""),
]


@pytest.mark.parametrize(
    ("wheel", "same"),
    [
        (entries(a__x="1", a__y="2"), True),
        (entries(a__x="1"), True),
        (entries(a__x="1", a__y="3"), False),
        (entries(a__x="1", a__z="2"), False),
        ([*entries(a__x="1"), RecordEntry("a-1.data/scripts/run", "sha256=5", "1")], True),
        ([*entries(a__x="1"), RecordEntry("a-1.dist-info/RECORD", "", "")], True),
        ([], False),
    ],
)
def test_the_installed_files_are_those_of_a_wheel(wheel, same):
    assert is_same_content(INSTALLED, wheel) is same


def test_what_a_dist_info_folder_says(tmp_path):
    assert read_installed_files(tmp_path) == InstalledFiles()
    (tmp_path / "WHEEL").write_text("Wheel-Version: 1.0\nTag: cp311-cp311-linux_x86_64\nTag: bad\n")
    (tmp_path / "METADATA").write_bytes(b"Name: a\n")
    found = read_installed_files(tmp_path)
    assert found.tags == frozenset(parse_tag("cp311-cp311-linux_x86_64"))
    assert found.metadata == hashlib.sha256(b"Name: a\n").hexdigest()


def test_a_wheel_is_compared_by_its_record(tmp_path):
    wheel = write_wheel(tmp_path, "a", "1.0", {"a.py": "x = 1\n"})
    other = write_wheel(tmp_path / "other", "a", "1.0", {"a.py": "x = 2\n"})
    info = tmp_path / "a-1.0.dist-info"
    info.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        (info / "RECORD").write_bytes(archive.read("a-1.0.dist-info/RECORD"))
    distribution = make_distribution("a", "1.0", metadata_path=info)
    assert has_wheel_of(wheel, distribution)
    assert not has_wheel_of(other, distribution)
    (tmp_path / "broken.whl").write_bytes(b"no archive")
    assert not has_wheel_of(tmp_path / "broken.whl", distribution)
    assert not has_wheel_of(tmp_path / "missing.whl", distribution)


def test_a_wheel_that_is_named_without_its_hash(tmp_path):
    """As uv names one of this machine."""
    wheel = write_wheel(tmp_path / "my wheels", "a", "1.0", {"a.py": "x = 1\n"})
    info = tmp_path / "a-1.0.dist-info"
    info.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        (info / "RECORD").write_bytes(archive.read("a-1.0.dist-info/RECORD"))

    def named(url):
        direct_url = {"url": url, "archive_info": {}}
        return find_named(make_distribution("a", "1.0", metadata_path=info, direct_url=direct_url))

    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    expected = FileSource(str(wheel), wheel.name, sha256, wheel.stat().st_size)
    assert named(wheel.as_uri()) == expected
    assert named(f"https://h.example{wheel}") is None
    assert named((tmp_path / "my wheels").as_uri()) is None
    write_wheel(tmp_path / "my wheels", "a", "1.0", {"a.py": "x = 2\n"})
    assert named(wheel.as_uri()) is None
    wheel.unlink()
    assert named(wheel.as_uri()) is None


def test_the_wheels_of_a_folder(tmp_path):
    """Of this name and version, with what a page would say of them."""
    torch = write_wheel(tmp_path, "torch", "2.13.0+cpu", {"torch.py": ""})
    for name, version in (("torch", "2.13.0"), ("torchvision", "2.13.0+cpu")):
        write_wheel(tmp_path, name, version, {"x.py": ""})
    (tmp_path / "torch-2.13.0+cpu-py2-none-any.whl").write_bytes(b"no archive")
    broken, found = read_wheels_of(tmp_path, "torch", "2.13.0+cpu")
    assert (found.url, found.size) == (torch.as_uri(), torch.stat().st_size)
    assert found.sha256 == hashlib.sha256(torch.read_bytes()).hexdigest()
    with zipfile.ZipFile(torch) as archive:
        metadata = archive.read("torch-2.13.0+cpu.dist-info/METADATA")
    assert found.metadata == hashlib.sha256(metadata).hexdigest()
    assert broken.metadata == ""

"""Source archives: plain ones are unpacked, hostile ones are refused before anything is written
outside."""

from __future__ import annotations

import os
import tarfile
import zipfile

import pytest

from safe_install.errors import Refused
from safe_install.wheels.source import unpack_sdist
from tests.unit.wheels.crafted import add_member, make_sdist


def test_a_source_archive_is_unpacked(tmp_path):
    source = unpack_sdist(
        make_sdist(tmp_path, {"setup.py": "x", "csrc/a.cpp": "y"}), tmp_path / "out"
    )
    assert source == tmp_path / "out" / "demo-1.0"
    assert (source / "csrc" / "a.cpp").read_text() == "y"


def test_a_zip_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "demo-1.0.zip", "w") as archive:
        archive.writestr("demo-1.0/setup.py", "x")
    assert (
        unpack_sdist(tmp_path / "demo-1.0.zip", tmp_path / "out") / "setup.py"
    ).read_text() == "x"


def test_links_inside_the_tree_are_kept(tmp_path):
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add_member(archive, "demo-1.0/README.md", "text")
        link = tarfile.TarInfo("demo-1.0/docs/README.md")
        link.type, link.linkname = tarfile.SYMTYPE, "../README.md"
        archive.addfile(link)
    assert (unpack_sdist(path, tmp_path / "out") / "docs" / "README.md").read_text() == "text"


def make_special(kind, name="demo-1.0/x", target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(make_special(tarfile.SYMTYPE, target="/etc/passwd"), id="absolute link"),
        pytest.param(make_special(tarfile.SYMTYPE, target="../../etc"), id="link out"),
        pytest.param(
            make_special(tarfile.SYMTYPE, target="a/../../.."), id="link out in two steps"
        ),
        pytest.param(
            make_special(tarfile.SYMTYPE, "demo-1.0", "."), id="link in place of the top folder"
        ),
        pytest.param(make_special(tarfile.LNKTYPE, target="/etc/passwd"), id="hard link"),
        pytest.param(make_special(tarfile.CHRTYPE), id="device"),
        pytest.param(make_special(tarfile.FIFOTYPE), id="pipe"),
        pytest.param(make_special(tarfile.REGTYPE, "../evil"), id="parent folder"),
        pytest.param(
            make_special(tarfile.REGTYPE, "demo-1.0/../../evil"), id="parent folder inside"
        ),
        pytest.param(make_special(tarfile.REGTYPE, "/evil"), id="absolute"),
    ],
)
def test_hostile_tars_are_refused(tmp_path, member):
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add_member(archive, "demo-1.0/setup.py", "x")
        archive.addfile(member)
    with pytest.raises(Refused):
        unpack_sdist(path, tmp_path / "in" / "out")
    assert sorted(os.listdir(tmp_path)) == ["demo-1.0.tar.gz", "in"]


def test_writing_through_a_link_is_refused(tmp_path):
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(make_special(tarfile.SYMTYPE, "demo-1.0/a", "b"))
        archive.addfile(make_special(tarfile.SYMTYPE, "demo-1.0/b", "../.."))
        add_member(archive, "demo-1.0/a/evil", "x")
    with pytest.raises(Refused):
        unpack_sdist(path, tmp_path / "in" / "out")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["../evil", "/evil", "demo-1.0\\evil"])
def test_hostile_zips_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "demo-1.0.zip", "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(Refused, match="leaves the archive's folder"):
        unpack_sdist(tmp_path / "demo-1.0.zip", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "said"), [(b"<html>", "cannot be unpacked"), (b"", "cannot be unpacked")]
)
def test_what_is_no_archive_is_refused(tmp_path, content, said):
    path = tmp_path / "demo-1.0.tar.gz"
    path.write_bytes(content)
    with pytest.raises(Refused, match=said):
        unpack_sdist(path, tmp_path / "out")


def test_two_top_folders_are_refused(tmp_path):
    path = tmp_path / "demo-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        add_member(archive, "a/x", "")
        add_member(archive, "b/x", "")
    with pytest.raises(Refused, match="2 top folders"):
        unpack_sdist(path, tmp_path / "out")


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setattr("safe_install.wheels.source.MAX_SOURCE_SIZE", 10)
    with pytest.raises(Refused, match="would unpack to"):
        unpack_sdist(make_sdist(tmp_path, {"setup.py": "x" * 11}), tmp_path / "out")

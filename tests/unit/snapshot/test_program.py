"""The files of the program, out of what runs."""

from __future__ import annotations

import sys
import zipfile
from types import SimpleNamespace

import pytest

import safe_install
from safe_install.errors import PipFailed, Refused
from safe_install.index import catalog
from safe_install.snapshot import program
from safe_install.snapshot.program import find_archive, find_needed, read_program
from tests.unit.snapshot.bundles import PROGRAM, write

HERE = "{}.{}.{}".format(*sys.version_info[:3])


@pytest.fixture(autouse=True)
def _no_update(monkeypatch):
    monkeypatch.setattr(catalog, "current_update", lambda: None)


def no_fetch(lines):
    raise PipFailed("nobody answers")


def test_out_of_an_installation():
    found = read_program(HERE, no_fetch)
    assert found.python == "{}.{}".format(*sys.version_info[:2])
    assert {
        "safe_install/__main__.py",
        "safe_install/cli/bundled.py",
        "safe_install/health/script.py",
        "safe_install/result.schema.json",
        "safe_install/wheel_index/torch.json",
        "safe_install/wheel_index/__init__.py",
        "rich/__init__.py",
        "requests/__init__.py",
        "resolvelib/__init__.py",
        "typer/__init__.py",
        "pynvml.py",
    } <= set(found.files)
    for name in found.files:
        assert not name.startswith(("/", "..", "pytest", "pip/")), name
        assert not name.endswith((".so", ".pyc", ".pth", "RECORD", "direct_url.json")), name


def test_what_does_not_run_on_that_python_is_named():
    with pytest.raises(Refused, match=r"Python 3\.6, and the \S+ \S+ beside this") as found:
        find_needed("3.6")
    assert "zipapp" in found.value.hint


def test_what_does_not_run_there_is_brought(tmp_path):
    """The pinned wheels, of which no machine code is taken."""
    seen = []

    def fetch(lines):
        seen.extend(lines)
        with zipfile.ZipFile(tmp_path / "rich-1-py3-none-any.whl", "w") as archive:
            for name in ("rich/", "rich/__init__.py", "rich/_fast.so", "rich-1.dist-info/RECORD"):
                archive.writestr(name, b"")
        return tmp_path

    found = read_program("3.6", fetch)
    assert found.python == "3.8"
    assert {line.partition("==")[0] for line in seen} >= {"rich", "typer", "tomli", "requests"}
    assert all(" --hash=sha256:" in line for line in seen)
    others = {name for name in found.files if not name.startswith("safe_install/")}
    assert others == {"rich/__init__.py"}
    assert "safe_install/snapshot/program_requirements.txt" in found.files
    with pytest.raises(Refused, match=r"Python 3\.6, and the"):
        read_program("3.6", no_fetch)


def test_what_is_not_installed_is_named(monkeypatch):
    def missing(name):
        if name == "torch-safe-install":
            return SimpleNamespace(requires=["not-there; python_version > '3'", "no; extra == 'x'"])
        raise program.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(program.metadata, "distribution", missing)
    with pytest.raises(Refused, match="not-there is not installed"):
        find_needed("3.11")
    assert find_needed("2.7") == []


def test_out_of_a_zipapp(tmp_path, monkeypatch):
    path = tmp_path / "safe-install.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("safe_install/", b"")
        for name, content in {**PROGRAM, "__main__.py": b"import x"}.items():
            archive.writestr(name, content)
    monkeypatch.setattr(program, "find_archive", lambda package: path)
    found = read_program("3.8.18", no_fetch)
    assert (found.files, found.python) == (PROGRAM, "3.8")


def test_out_of_a_bundle(tmp_path, monkeypatch):
    path, _, _ = write(tmp_path)
    monkeypatch.setattr(program, "find_archive", lambda package: path)
    found = read_program("3.11", no_fetch)
    assert (found.files, found.python) == (PROGRAM, "3.8")
    with pytest.raises(Refused, match=r"needs Python 3\.8"):
        read_program("3.7", no_fetch)


def test_newer_facts_come_along(tmp_path, monkeypatch):
    (tmp_path / "torch.json").write_bytes(b"{}")
    update = catalog.Update("2099-01-01", tmp_path, {"torch": "0" * 64}, "https://h.example")
    monkeypatch.setattr(catalog, "current_update", lambda: update)
    files = read_program(HERE, no_fetch).files
    assert files["safe_install/wheel_index/torch.json"] == b"{}"
    values = {}
    exec(files["safe_install/wheel_index/__init__.py"], values)
    assert values["DATE"] == "2099-01-01"


def test_where_a_package_was_imported_from():
    assert find_archive(safe_install) is None
    loader = SimpleNamespace(archive="/tmp/FILE.zip")
    assert str(find_archive(SimpleNamespace(__spec__=SimpleNamespace(loader=loader)))) == (
        "/tmp/FILE.zip"
    )

"""Other records of the same project."""

from __future__ import annotations

from safe_install.environment.interpreter import find_duplicates
from tests.factories import make_distribution


def write(folder, name, version):
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def test_the_others_of_a_project(tmp_path):
    own = write(tmp_path / "torch-2.13.0.dist-info", "torch", "2.13.0")
    write(tmp_path / "Torch-2.4.1.dist-info", "torch", "2.4.1")
    write(tmp_path / "torch-scatter-2.0.dist-info", "torch-scatter", "2.0")
    write(tmp_path / "torchvision-0.20.dist-info", "torchvision", "0.20")
    (tmp_path / "torch-9.dist-info").mkdir()
    torch = make_distribution("torch", "2.13.0", metadata_path=own, location=tmp_path)
    assert [(one.name, one.version) for one in find_duplicates(torch)] == [("torch", "2.4.1")]


def test_a_folder_that_is_gone(tmp_path):
    torch = make_distribution("torch", "2.13.0", location=tmp_path / "gone")
    assert find_duplicates(torch) == []

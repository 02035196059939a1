"""pip's configuration files: those with which pip does not start."""

from __future__ import annotations

import os

import pytest

from safe_install.system import pip_configuration
from safe_install.system.pip_configuration import find_broken_files, read_configuration


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"index-url = https://host.example\n", "no section headers"),
        (b"[global]\nindex-url host.example\n", "contains parsing errors"),
        (b"[global]\nindex-url = one\nindex-url = two\n", "already exists"),
        (b"[global]\n# f\xfcr uns\n", "can't decode byte"),
    ],
)
def test_files_that_pip_does_not_start_with(tmp_path, content, fault):
    path = tmp_path / "pip.conf"
    path.write_bytes(content)
    variables = {"PIP_CONFIG_FILE": str(path), "XDG_CONFIG_DIRS": str(tmp_path)}
    broken = find_broken_files(tmp_path / "env", variables)
    assert list(broken) == [str(path)]
    assert fault in broken[str(path)]
    assert "\n" not in broken[str(path)]
    assert "index-url" not in read_configuration(tmp_path / "env", variables, "install")


@pytest.mark.parametrize("content", [b"", b"[global]\ntimeout = 3\n", b"[other]\nx = %(y)\n"])
def test_files_that_pip_reads(tmp_path, content):
    path = tmp_path / "pip.conf"
    path.write_bytes(content)
    variables = {"PIP_CONFIG_FILE": str(path), "XDG_CONFIG_DIRS": str(tmp_path)}
    assert find_broken_files(tmp_path / "env", variables) == {}


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (os.mkfifo, "it is a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: write_sparse(path, 5_000_000_000), "it has 5000000000 bytes"),
        (lambda path: path.symlink_to(os.devnull), ""),
        (lambda path: path.mkdir(), ""),  # pip passes over it
    ],
)
def test_what_is_no_file_is_named_and_not_read(tmp_path, monkeypatch, make, fault):
    monkeypatch.setattr(pip_configuration, "SYSTEM_FILE", tmp_path / "none")
    path = tmp_path / "pip.conf"
    make(path)
    variables = {"PIP_CONFIG_FILE": str(path), "XDG_CONFIG_DIRS": str(tmp_path)}
    broken = find_broken_files(tmp_path / "env", variables)
    assert broken.get(str(path), "").startswith(fault)
    assert list(broken) == ([str(path)] if fault else [])
    assert read_configuration(tmp_path / "env", variables, "install") == {}


def write_sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)

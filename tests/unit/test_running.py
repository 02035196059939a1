"""What a process has in memory, compared with what is installed."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import safe_install
from safe_install import running
from safe_install.running import (
    check_running,
    is_same_version,
    loaded_packages,
    package_of,
    replaced_packages,
)

SITE = "/env/lib/python3.11/site-packages"


def make_module(name, version, file=f"{SITE}/x/__init__.py"):
    module = ModuleType(name)
    module.__version__ = version
    module.__file__ = file
    return module


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2.13.0", "2.13.0", True),
        ("2.13.0+cu130", "2.13.0", True),
        ("2.13.0", "2.13.0+cu130", True),
        ("2.13.0+cu130", "2.13.0+cu130", True),
        ("2.13.0+cu130", "2.13.0+cpu", False),
        ("2.13.0", "2.14.1", False),
    ],
)
def test_versions_are_compared_as_far_as_both_say(one, other, same):
    assert is_same_version(one, other) is same


@pytest.mark.parametrize(
    ("path", "package"),
    [
        (f"{SITE}/torch/lib/libc10.so", "torch"),
        (f"{SITE}/_cffi_backend.cpython-311.so", "_cffi_backend"),
        ("/usr/lib/python3/dist-packages/numpy/core.so", "numpy"),
        (f"{SITE}", None),
        ("/usr/lib/libcuda.so.1", None),
    ],
)
def test_the_package_of_a_path(path, package):
    assert package_of(path) == package


def test_libraries_that_are_gone_or_set_aside():
    aside = "/env/.safe-install/txn-20261124T124125Z-f55012/stage"
    maps = f"""\
7f00 r-xp 00000000 08:01 1 {SITE}/torch/lib/libc10.so (deleted)
7f01 r-xp 00000000 08:01 2 {SITE}/torch/lib/libtorch.so (deleted)
7f02 r-xp 00000000 08:01 3 {aside}/lib/python3.11/site-packages/torch_scatter/_scatter.so
7f03 r-xp 00000000 08:01 4 {SITE}/numpy/core.so
7f04 rw-p 00000000 00:00 0
7f05 rw-s 00000000 00:01 5 /memfd:pulse (deleted)
"""
    assert replaced_packages(maps) == ["torch", "torch_scatter"]


def test_modules_without_a_version_a_file_or_a_name_of_their_own_are_left_out():
    modules = {
        "torch": make_module("torch", "2.13.0"),
        "torch.nn": make_module("torch.nn", "2.13.0"),
        "__main__": make_module("__main__", "1.0"),
        "number": make_module("number", 1),
        "built_in": make_module("built_in", "1.0", None),
        "plain": ModuleType("plain"),
    }
    assert list(loaded_packages(modules)) == ["torch"]


@pytest.fixture
def in_memory(monkeypatch):
    """Let this process have exactly these modules, and no libraries in memory."""

    def set_modules(*modules, maps=""):
        monkeypatch.setattr(running.sys, "modules", {one.__name__: one for one in modules})
        monkeypatch.setattr(running, "_read_maps", lambda: maps)

    return set_modules


def test_another_version_on_the_disk(in_memory, tmp_path):
    (tmp_path / "version.py").write_text("__version__ = '2.13.0+cu130'\n")
    in_memory(make_module("torch", "2.11.0+cu128", str(tmp_path / "__init__.py")))
    assert check_running() == [
        "this process has torch 2.11.0+cu128 in memory, 2.13.0+cu130 is installed: restart it"
    ]


def test_the_version_in_the_module_itself(in_memory, tmp_path):
    path = tmp_path / "__init__.py"
    path.write_text('"""A package."""\n\n__version__ = "2.0"\n')
    in_memory(make_module("alpha", "1.0", str(path)))
    assert check_running() == ["this process has alpha 1.0 in memory, 2.0 is installed: restart it"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('__version__ = "2.0"', True),
        ("__version__: str = '2.0'  # of the release", True),
        ('__version__ = "2.0"\r', True),
        ('__version__ = ".".join(map(str, parts))', False),
        ('__version__ = "2.0" + suffix', False),
        ("__version__ = version", False),
        ('__version__ = "unknown"', False),
    ],
)
def test_a_version_that_is_computed_is_not_read(in_memory, tmp_path, line, said):
    path = tmp_path / "__init__.py"
    path.write_bytes(f"x = 1\n{line}\ny = 2\n".encode())
    in_memory(make_module("alpha", "1.0", str(path)))
    assert bool(check_running()) is said


def test_metadata_may_say_another_version(in_memory, tmp_path):
    path = tmp_path / "certifi" / "__init__.py"
    path.parent.mkdir()
    path.write_text('__version__ = "2026.10.19"\n')
    folder = tmp_path / "certifi-2026.10.19.post1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: certifi\nVersion: 2026.10.19.post1\n")
    in_memory(make_module("certifi", "2026.10.19", str(path)))
    assert check_running() == []


def test_a_package_of_the_same_version_whose_files_were_replaced(in_memory):
    in_memory(maps=f"7f00 r-xp 00000000 08:01 1 {SITE}/torch/lib/libc10.so (deleted)\n")
    assert check_running() == [
        "this process has files of torch in memory that were replaced: restart it"
    ]


def test_what_nobody_knows_is_left_out(in_memory, tmp_path):
    in_memory(make_module("computed", "1.0", str(tmp_path / "__init__.py")))
    assert check_running() == []


def test_in_this_process_all_is_as_installed():
    assert check_running() == []


@pytest.mark.real_process
def test_it_is_asked_for_by_its_name_and_imports_little():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from safe_install import check_running; print(*sys.modules)",
        ],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    assert not {"packaging", "typer", "rich", "requests"} & set(done.stdout.split())
    assert safe_install.check_running is check_running


def test_no_other_name_is_offered():
    with pytest.raises(AttributeError, match="has no attribute 'check_everything'"):
        safe_install.check_everything  # noqa: B018 - the look-up is the test

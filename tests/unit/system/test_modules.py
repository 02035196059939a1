"""A change may replace the files of this very process: they are known, and loaded before."""

from __future__ import annotations

import sys

import pytest

from safe_install.system.modules import load_packages, loaded_files

PACKAGE = "package_of_the_test"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that nobody has imported, in a folder that a link leads to."""
    folder = tmp_path / "real" / PACKAGE
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__.py", "first.py", "inner/__init__.py", "inner/second.py"):
        (folder / name).write_text("")
    for name in ("__main__.py", "script.py", "inner/script.py"):
        (folder / name).write_text("raise AssertionError('a program, not a module')")
    (folder / "windows.py").write_text("import a_module_that_is_not_here")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_every_module_of_a_package_is_loaded_and_no_program(package):
    """What is imported late would come from the new files, or from none. What needs a module that
    is not here is needed by nobody here."""
    load_packages(PACKAGE)
    loaded = {name for name in sys.modules if name.partition(".")[0] == PACKAGE}
    names = ("", ".first", ".inner", ".inner.second")
    assert loaded == {f"{PACKAGE}{name}" for name in names}


def test_the_files_of_what_is_loaded_are_told_without_links(package):
    """As the moves of a change name them."""
    assert str(package / "first.py") not in loaded_files()
    load_packages(PACKAGE)
    assert {str(package / "first.py"), str(package / "inner" / "second.py")} <= loaded_files()


def test_a_module_without_a_file_is_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, "builtin_of_the_test", object())
    assert all(path.startswith("/") for path in loaded_files())

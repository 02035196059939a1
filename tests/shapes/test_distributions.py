"""Distributions that other tools leave, with the real tools: editable ones, development links, no
RECORD."""

from __future__ import annotations

import pytest

from tests.functional.test_drop_in import BACKEND
from tests.lab.wheels import write_wheel
from tests.shapes.conftest import PYTHON, need_uv, run

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "delta"
version = "4.0"
"""


@pytest.fixture
def delta(tmp_path):
    """A project with a build backend of its own, and a wheel of a later version of it."""
    folder = tmp_path / "delta"
    folder.mkdir()
    (folder / "delta.py").write_text("value = 'edited'\n")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    write_wheel(tmp_path / "more", "delta", "5.0", {"delta.py": "value = 'wheel'\n"})
    return folder


def test_an_editable_install_by_uv_is_replaced_and_comes_back(make_place, delta, tmp_path):
    """One by pip is in tests/functional/test_drop_in.py."""
    place = make_place()
    told = {**place.variables, "UV_CACHE_DIR": str(tmp_path / "cache")}
    words = [
        "pip",
        "install",
        "-q",
        "--no-index",
        "--python",
        str(place.executable),
        "-e",
        str(delta),
    ]
    run(need_uv(), *words, env=told)
    before, source = (
        place.tree(),
        sorted(path.name for path in delta.iterdir() if path.name != "__pycache__"),
    )
    place.must("install", "-q", "delta==5.0", PIP_FIND_LINKS=str(tmp_path / "more"))
    assert place.ask("import delta; print(delta.value)") == "wheel"
    place.must("undo")
    assert (place.tree(), place.ask("import delta; print(delta.value)")) == (before, "edited")
    assert sorted(path.name for path in delta.iterdir() if path.name != "__pycache__") == source


SETUP = "from setuptools import setup\nsetup(name='gamma', version='1.0', py_modules=['gamma'])\n"


def test_a_development_link_is_replaced_and_removed(make_place, tmp_path):
    """setup.py develop: as with pip the link goes, its line of easy-install.pth, and not its
    sources."""
    place, folder = make_place(), tmp_path / "gamma"
    folder.mkdir()
    (folder / "setup.py").write_text(SETUP)
    (folder / "gamma.py").write_text("value = 'edited'\n")
    if (place.site / "setuptools").is_dir():
        words = ["-W", "ignore", "setup.py", "-q", "develop", "--no-deps"]
        run(str(place.executable), *words, env=place.variables, cwd=folder)
    else:  # Python 3.12 and newer: what setuptools leaves, by hand
        (place.site / "gamma.egg-link").write_text(f"{folder}\n.")
        (place.site / "easy-install.pth").write_text(f"{folder}\n")
        (folder / "gamma.egg-info").mkdir()
        (folder / "gamma.egg-info" / "PKG-INFO").write_text(
            "Metadata-Version: 2.1\nName: gamma\nVersion: 1.0\n"
        )
    assert (place.site / "gamma.egg-link").exists()
    write_wheel(tmp_path / "more", "gamma", "2.0", {"gamma.py": "value = 'wheel'\n"})
    before = place.tree()
    place.must("install", "-q", "gamma==2.0", PIP_FIND_LINKS=str(tmp_path / "more"))
    assert place.ask("import gamma; print(gamma.value)") == "wheel"
    assert not (place.site / "gamma.egg-link").exists()
    assert str(folder) not in (place.site / "easy-install.pth").read_text()
    place.must("undo")
    assert (place.tree(), place.ask("import gamma; print(gamma.value)")) == (before, "edited")
    place.must("uninstall", "-y", "gamma")
    assert not (place.site / "gamma.egg-link").exists()
    assert (folder / "gamma.py").exists()


@pytest.mark.long
def test_what_cannot_be_removed_is_refused_and_can_be_ignored(make_place, tmp_path):
    """What distutils left; a dist-info without RECORD."""
    place, more = make_place(), tmp_path / "more"
    old = "Metadata-Version: 1.0\nName: {}\nVersion: 1.0\n"
    (place.site / f"distutil-1.0-py{PYTHON}.egg-info").write_text(old.format("distutil"))
    (place.site / "distutil.py").write_text("value = 1\n")
    (place.site / "bare-1.0.dist-info").mkdir()
    (place.site / "bare-1.0.dist-info" / "METADATA").write_text(old.format("bare"))
    before = place.tree()
    for name, reason, hint in (
        (
            "distutil",
            "Cannot uninstall distutil 1.0",
            "safe-install install --ignore-installed distutil.",
        ),
        (
            "bare",
            "no RECORD file was found for bare",
            "pip install --ignore-installed --no-deps bare==1.0",
        ),
    ):
        write_wheel(more, name, "2.0", {f"{name}.py": "value = 2\n"})
        for words in (["install", "-q", f"{name}==2.0"], ["uninstall", "-y", name]):
            refused = place.safe_install(*words, PIP_FIND_LINKS=str(more))
            assert refused.returncode == 11, (words, refused.stderr)
            assert reason in refused.stderr, (words, refused.stderr)
            assert hint in refused.stderr, (words, refused.stderr)
            outcome = refused.stderr.splitlines()[-1]
            assert outcome.startswith("Refused: nothing was changed in ./env (Python"), words
            assert place.tree() == before
        place.must("install", "-q", "-I", f"{name}==2.0", PIP_FIND_LINKS=str(more))
        assert place.ask(f"import {name}; print({name}.value)") == "2"
        place.must("undo")
        assert place.tree() == before

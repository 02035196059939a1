"""What another hand does to an environment is seen; what every program does is not."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.environment.stamp import stamp_of, take_stamp, watched_folders
from safe_install.models import TorchBuild
from tests.factories import make_environment


@pytest.fixture
def site(tmp_path):
    for name in (
        "torch/lib",
        "torch/__pycache__",
        "numpy",
        "torch-2.0.dist-info",
        "old.egg-info",
        "bin",
    ):
        (tmp_path / "site" / name).mkdir(parents=True)
    for name in (
        "torch/__init__.py",
        "torch/lib/libtorch.so",
        "torch/__pycache__/a.pyc",
        "numpy/core.py",
        "six.py",
    ):
        (tmp_path / "site" / name).write_text("x = 1\n")
    for name in (
        "torch-2.0.dist-info/METADATA",
        "torch-2.0.dist-info/RECORD",
        "old.egg-info/PKG-INFO",
        "bin/python",
    ):
        (tmp_path / "site" / name).write_text("a\n")
    return tmp_path / "site"


def take(site):
    return take_stamp([site, site], site / "bin", site / "torch")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CHANGES = {
    "a distribution comes": (
        lambda site: write(site / "new-1.dist-info/RECORD", "x"),
        "new-1.dist-info",
    ),
    "a distribution goes": (
        lambda site: shutil.rmtree(site / "torch-2.0.dist-info"),
        "torch-2.0.dist-info",
    ),
    "RECORD": (
        lambda site: write(site / "torch-2.0.dist-info/RECORD", "longer\n"),
        "torch-2.0.dist-info/RECORD",
    ),
    "PKG-INFO": (
        lambda site: write(site / "old.egg-info/PKG-INFO", "longer\n"),
        "old.egg-info/PKG-INFO",
    ),
    "a module": (lambda site: write(site / "six.py", "longer = 1\n"), "six.py"),
    "a .pth file": (lambda site: write(site / "hook.pth", "import os\n"), "hook.pth"),
    "a folder": (lambda site: (site / "extra").mkdir(), "extra"),
    "torch's code": (
        lambda site: write(site / "torch/__init__.py", "y = 12\n"),
        "torch/__init__.py",
    ),
    "torch's library": (
        lambda site: os.utime(site / "torch/lib/libtorch.so", ns=(1, 1)),
        "torch/lib/libtorch.so",
    ),
    "added to torch": (
        lambda site: write(site / "torch/lib/libstdc++.so.6", "x"),
        "torch/lib/libstdc++.so.6",
    ),
    "torch goes": (lambda site: shutil.rmtree(site / "torch"), "torch"),
    "a command": (lambda site: write(site / "bin/pip", "x"), "bin/pip"),
    "a link instead of a file": (lambda site: relink(site / "six.py"), "six.py"),
}


def relink(path):
    path.unlink()
    path.symlink_to("torch/__init__.py")


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_is_seen(site, change):
    before = take(site)
    make, path = CHANGES[change]
    make(site)
    assert str(site / path) in before.changed(take(site))


@pytest.mark.parametrize(
    "change",
    [
        lambda site: None,
        lambda site: write(site / "torch/__pycache__/b.pyc", "x"),
        lambda site: write(site / "__pycache__/six.pyc", "x"),
        lambda site: write(site / ".safe-install/lock", "x"),
        lambda site: os.utime(site / "torch"),
    ],
)
def test_what_is_not(site, change):
    before = take(site)
    change(site)
    assert before.changed(take(site)) == ()


def test_what_is_not_there_is_no_error(tmp_path):
    assert take_stamp([tmp_path / "no"], tmp_path / "bin", tmp_path / "torch").states == {}


def test_a_torch_that_is_about_to_be_built_is_not_watched(tmp_path):
    source = tmp_path / "pytorch"
    write(source / "torch" / "version.py", "x = 1\n")
    build = TorchBuild(Version("2.9.0"), "2.9.0", "cpu", folder=source / "torch")
    environment = replace(make_environment(torch="2.9.0"), torch=build)
    path = str(source / "torch" / "version.py")
    assert path in stamp_of(environment).states and source / "torch" in watched_folders(environment)
    assert path not in stamp_of(environment, (source,)).states
    assert source / "torch" not in watched_folders(environment, (source,))
    assert path in stamp_of(environment, (tmp_path / "other",)).states


# Where the sources lie; is torch, which lies in site-packages, still watched? And site-packages
# itself?
PLACES = {
    "somewhere else": ("home/project", True, True),
    "around the environment (.venv in the project)": ("project", True, True),
    "in site-packages": ("project/.venv/site/package", True, False),
    "torch's own, in site-packages": ("project/.venv/site/torch-sources", False, False),
}


@pytest.mark.parametrize("where", PLACES)
def test_what_is_watched_beside_sources(tmp_path, where):
    place, sees_torch, sees_site = PLACES[where]
    site, source = tmp_path / "project/.venv/site", tmp_path / place
    folder = site / "torch-sources/torch" if place.endswith("torch-sources") else site / "torch"
    write(folder / "version.py", "x = 1\n")
    source.mkdir(parents=True, exist_ok=True)
    plain = make_environment(torch="2.9.0")
    scheme = replace(plain.interpreter.scheme, purelib=site, platlib=site)
    interpreter = replace(plain.interpreter, scheme=scheme)
    build = TorchBuild(Version("2.9.0"), "2.9.0", "cpu", folder=folder)
    environment = replace(plain, torch=build, interpreter=interpreter)
    assert (str(folder / "version.py") in stamp_of(environment, (source,)).states) == sees_torch
    assert (folder in watched_folders(environment, (source,))) == sees_torch
    assert (site in watched_folders(environment, (source,))) == sees_site


def test_a_torch_that_is_unpacked_for_a_build_is_watched_too():
    environment = replace(make_environment(), ahead=(Path("/unpacked/lib"),))
    watched = watched_folders(environment)
    assert Path("/unpacked/lib") in watched and environment.interpreter.scheme.purelib in watched


def test_what_was_seen_of_torch_counts_again(tmp_path):
    """After a swap that moved nothing of torch its files are not looked at once more."""
    site = tmp_path / "site"
    write(site / "torch" / "version.py", "x = 1\n")
    plain = make_environment(torch="2.9.0")
    scheme = replace(plain.interpreter.scheme, purelib=site, platlib=site)
    build = TorchBuild(Version("2.9.0"), "2.9.0", "cpu", folder=site / "torch")
    environment = replace(plain, torch=build, interpreter=replace(plain.interpreter, scheme=scheme))
    before = stamp_of(environment)
    write(site / "torch" / "version.py", "x = 1000\n")
    write(site / "six.py", "x = 1\n")
    after = stamp_of(environment, seen=before)
    assert before.changed(after) == (str(site / "six.py"),)
    assert after.changed(stamp_of(environment)) == (str(site / "torch" / "version.py"),)

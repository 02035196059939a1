"""What torch.utils.cpp_extension keeps: which folders are looked at, and the locks in them."""

from __future__ import annotations

import os
import time

import pytest

from safe_install.diagnosis.jit_builds import find_jit_builds
from safe_install.models import Severity
from tests.factories import make_environment

CPU = make_environment(torch="2.13.0+cpu")
HOURS = 3600


def lock(folder, hours):
    """A build with a lock of that age."""
    folder.mkdir(parents=True)
    path = folder / "lock"
    path.touch()
    then = time.time() - hours * HOURS
    os.utime(path, (then, then))
    return path


def find(environment, **variables):
    return find_jit_builds(environment, variables, preloaded=list)


@pytest.mark.parametrize(
    ("place", "count"),
    [
        ("home/.cache/torch_extensions/py311_cpu/fused", 1),
        ("home/.cache/torch_extensions/py310_cpu/fused", 0),
        ("home/.cache/torch_extensions/py311_cu130/fused", 0),
        ("home/.cache/torch_extensions/fused", 0),
    ],
)
def test_the_builds_of_this_Python_and_this_torch(tmp_path, place, count):
    path = lock(tmp_path / place, hours=30)
    found = find(CPU, HOME=str(tmp_path / "home"))
    assert [(one.check, one.severity, one.subject) for one in found] == [
        ("build-locked", Severity.WARNING, "fused")
    ] * count
    for one in found:
        assert f"{path} is 30 hours old" in one.detail
        assert one.hint == f"Where no such build runs: rm {path}"


@pytest.mark.parametrize("variable", ["TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"])
def test_folders_that_a_variable_names(tmp_path, variable):
    below = "" if variable == "TORCH_EXTENSIONS_DIR" else "torch_extensions/py311_cpu"
    lock(tmp_path / below / "fused", hours=30)
    assert len(find(CPU, **{variable: str(tmp_path)})) == 1


def test_a_build_that_may_still_run_one_that_is_done_and_no_torch(tmp_path):
    lock(tmp_path / "young", hours=1)
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "done.so").write_bytes(b"no library")
    (tmp_path / "file").touch()
    assert find(CPU, TORCH_EXTENSIONS_DIR=str(tmp_path)) == ()
    lock(tmp_path / "old", hours=30)
    assert find(make_environment(), TORCH_EXTENSIONS_DIR=str(tmp_path)) == ()

"""Each exit of the checks of what lies around an environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.diagnosis.facts import CachedWheel, CondaPackage, Facts, FoundToolkit, LockFile
from safe_install.diagnosis.machine_checks import (
    check_conda,
    check_lock_file,
    check_pip_cache,
    check_pip_settings,
    check_toolkit,
)
from safe_install.models import Finding, Severity
from tests.factories import make_environment

CUDA = make_environment(torch="2.13.0+cu130")
CPU = make_environment(torch="2.13.0+cpu")
PYTHON = Path("/env/bin/python")


def facts(environment=CUDA, **fields):
    return Facts(PYTHON, environment, **fields)


def told(findings):
    return [(one.check, one.severity, one.subject) for one in findings]


# --- toolkit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "toolkit"),
    [
        (CUDA, None),
        (CPU, FoundToolkit(Path("/usr/local/cuda"), "11.8")),
        (CUDA, FoundToolkit(Path("/usr/local/cuda"), "13.1")),
    ],
    ids=["no toolkit", "no CUDA", "the same major"],
)
def test_a_toolkit_that_is_not_in_the_way(environment, toolkit):
    assert not check_toolkit(facts(environment, toolkit=toolkit))


def test_a_toolkit_of_another_CUDA():
    (one,) = check_toolkit(facts(toolkit=FoundToolkit(Path("/usr/local/cuda"), "11.8")))
    assert told([one]) == [("toolkit-of-another-cuda", Severity.NOTE, "nvcc")]
    assert "/usr/local/cuda is of CUDA 11.8" in one.detail
    assert "CUDA 13" in one.hint


@pytest.mark.parametrize(
    ("toolkit", "checks"),
    [
        (None, ["host-compiler"]),
        (FoundToolkit(Path("/cuda"), "13.0"), ["host-compiler"]),
        (FoundToolkit(Path("/cuda"), "11.8"), ["host-compiler", "toolkit-of-another-cuda"]),
    ],
)
def test_what_is_wrong_with_a_toolkit_is_said_beside_its_version(toolkit, checks):
    refused = Finding("host-compiler", Severity.NOTE, "gcc", "nvcc accepts gcc 4 at most")
    found = check_toolkit(facts(toolkit=toolkit, found={"toolkit": (refused,)}))
    assert [one.check for one in found] == checks


@pytest.mark.parametrize(
    ("environment", "why"),
    [(None, "the interpreter did not answer"), (make_environment(), "there is no torch")],
)
def test_a_toolkit_is_not_asked_about_where_there_is_no_torch(environment, why):
    with pytest.raises(ValueError, match=why):
        check_toolkit(facts(environment))


# --- pip's settings -------------------------------------------------------------------------------

OTHER = "https://download.pytorch.org/whl/cu126"


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        (CUDA, {}),
        (CUDA, {"index-url": "https://pypi.org/simple"}),
        (CUDA, {"index-url": "https://download.pytorch.org/whl/cu130"}),
        (CUDA, {"timeout": "60"}),
        (make_environment(), {"index-url": OTHER}),
        (None, {"index-url": OTHER}),
    ],
    ids=["none", "PyPI", "torch's own", "others", "no torch", "no answer"],
)
def test_settings_that_bring_nothing_else(environment, settings):
    assert check_pip_settings(facts(environment, pip_settings=settings)) == []


@pytest.mark.parametrize("key", ["index-url", "extra-index-url", "find-links"])
@pytest.mark.parametrize("address", [OTHER, OTHER + "/", f"https://pypi.org/simple\n{OTHER}"])
def test_settings_that_bring_another_build(key, address):
    (one,) = check_pip_settings(facts(pip_settings={key: address}))
    assert told([one]) == [("index-of-another-build", Severity.WARNING, key)]
    assert OTHER in one.detail
    assert "whl/cu130" in one.hint


@pytest.mark.parametrize("key", ["target", "prefix", "root"])
def test_settings_that_install_elsewhere(key):
    (one,) = check_pip_settings(facts(pip_settings={key: "/elsewhere"}))
    assert told([one]) == [("installs-elsewhere", Severity.WARNING, key)]
    assert "/elsewhere" in one.detail
    assert f"unset PIP_{key.upper()}" in one.hint


def test_settings_that_name_what_is_gone():
    found = check_pip_settings(facts(missing_folders=("/gone", "file:///gone-too")))
    assert told(found) == [
        ("index-missing", Severity.WARNING, "/gone"),
        ("index-missing", Severity.WARNING, "file:///gone-too"),
    ]


# --- pip's cache ----------------------------------------------------------------------------------


def wheels(*names):
    return tuple(CachedWheel(Path(f"/cache/{name}.whl"), name, "1.0") for name in names)


def test_an_empty_cache():
    assert not check_pip_cache(facts())


@pytest.mark.parametrize(
    ("names", "shown", "removed"),
    [
        (("apex",), "apex 1.0;", "pip cache remove apex"),
        (("b", "a"), "a 1.0, b 1.0;", "pip cache remove a; pip cache remove b"),
        (("a", "b", "c", "d", "e"), "a 1.0, b 1.0, c 1.0 and 2 more;", "pip cache remove e"),
    ],
)
def test_built_wheels_in_the_cache(names, shown, removed):
    (one,) = check_pip_cache(facts(cached_wheels=wheels(*names)))
    assert one.severity is Severity.NOTE
    assert shown in one.detail
    assert removed in one.hint


# --- conda ----------------------------------------------------------------------------------------


def conda(environment, *packages):
    recorded = tuple(CondaPackage(name, version) for name, version in packages)
    return check_conda(facts(environment, conda=recorded))


@pytest.mark.parametrize(
    ("environment", "packages"),
    [
        (CUDA, ()),
        (CUDA, [("mkl", "2024.2")]),
        (CUDA, [("pytorch", "2.13.0")]),
        (CUDA, [("libtorch", "2.13.0")]),
        (None, [("pytorch", "2.5.1")]),
        (make_environment(), [("pytorch", "2.5.1")]),
        (None, [("pytorch", "2.3.0"), ("mkl", "2023.1")]),
        (None, [("pytorch", "2.4.0"), ("mkl", "2024.1")]),
        (None, [("pytorch", "2.3.0"), ("mkl", "of today")]),
    ],
    ids=str,
)
def test_what_conda_and_pip_share_in_peace(environment, packages):
    assert not conda(environment, *packages)


@pytest.mark.parametrize("name", ["pytorch", "libtorch"])
def test_a_torch_of_pip_over_that_of_conda(name):
    (one,) = conda(CUDA, (name, "2.5.1"))
    assert told([one]) == [("conda-and-pip-torch", Severity.ERROR, "torch")]
    assert f"{name} 2.5.1" in one.detail
    assert "2.13.0+cu130" in one.detail
    assert f"conda remove --force {name}" in one.hint


def test_an_MKL_without_the_symbol_that_torch_asks_for():
    (one,) = conda(None, ("pytorch", "2.3.0"), ("mkl", "2024.1"))
    assert told([one]) == [("mkl-too-new", Severity.ERROR, "mkl")]
    assert "iJIT_NotifyEvent" in one.detail


# --- lock files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["uv", "poetry", "pdm", "pixi"])
def test_a_lock_file_of_another_tool(tool):
    lock = LockFile(Path(f"/app/{tool}.lock"), tool)
    (one,) = check_lock_file(facts(lock_files=(lock,)))
    assert told([one]) == [("kept-by-lock-file", Severity.NOTE, tool)]
    assert f"/app/{tool}.lock" in one.detail
    assert f"{tool} add" in one.hint
    assert check_lock_file(facts()) == []


def test_settings_with_which_pip_does_not_start():
    broken = {"/home/me/my pip.conf": "File contains no section headers."}
    (one,) = check_pip_settings(facts(broken_settings=broken))
    assert told([one]) == [("settings-unreadable", Severity.WARNING, "/home/me/my pip.conf")]
    assert one.hint.endswith("mv '/home/me/my pip.conf' '/home/me/my pip.conf'.old")

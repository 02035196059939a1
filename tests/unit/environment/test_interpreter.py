"""Which interpreter is managed."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from safe_install.environment.interpreter import (
    REMOVED_VARIABLES,
    child_environment,
    find_interpreter,
    read_environment,
)
from safe_install.errors import UsageError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Environments `venv` and `conda`, an empty folder, a program on PATH; everything named
    relative to the result."""
    for name in ("venv/bin/python", "conda/bin/python3", "tools/python9", "tools/no-program"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o644 if name.endswith("no-program") else 0o755)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "venv" / "bin" / "python")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("python", "environ", "found"),
    [
        (None, {}, None),
        ("", {}, None),
        (None, {"VIRTUAL_ENV": "venv"}, "venv/bin/python"),
        (None, {"CONDA_PREFIX": "conda"}, "conda/bin/python3"),
        (None, {"VIRTUAL_ENV": "venv", "CONDA_PREFIX": "conda"}, "venv/bin/python"),
        (None, {"VIRTUAL_ENV": "empty", "CONDA_PREFIX": "conda"}, "conda/bin/python3"),
        (None, {"VIRTUAL_ENV": "missing"}, None),
        (None, {"VIRTUAL_ENV": ""}, None),
        ("conda", {"VIRTUAL_ENV": "venv"}, "conda/bin/python3"),
        ("venv/bin/python", {"CONDA_PREFIX": "conda"}, "venv/bin/python"),
        ("./venv/../venv/bin/python", {}, "venv/bin/python"),
        ("python9", {}, "tools/python9"),
        # the link is what makes it that environment
        ("./link", {}, "link"),
    ],
)
def test_find_interpreter(python, environ, found, places):
    variables = {name: str(places / value) if value else value for name, value in environ.items()}
    variables["PATH"] = str(places / "tools")
    expected = Path(sys.executable) if found is None else places / found
    assert find_interpreter(python, variables) == expected


@pytest.mark.real_process
def test_of_a_shim_what_it_starts_is_managed(tmp_path):
    """A shim chooses its Python by the working folder: a build has another one."""
    shim = tmp_path / "shims" / "python3"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    assert read_environment(shim, None).interpreter.executable == Path(sys.executable)
    link = tmp_path / "bin" / "python3"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    assert read_environment(link, None).interpreter.executable == link


@pytest.mark.parametrize("receipt", ["pipx_metadata.json", "uv-receipt.toml"])
def test_the_environment_of_the_program_itself_is_never_managed(receipt, places):
    own = places / "conda"
    (places / "venv" / "bin" / "python3").symlink_to("python")
    path = os.pathsep.join(str(places / name) for name in ("conda/bin", "missing", "venv/bin"))
    # no receipt: somebody's own
    assert find_interpreter(None, {"PATH": path}, own_prefix=own) == Path(sys.executable)
    (own / receipt).touch()
    assert find_interpreter(None, {"PATH": path}, own_prefix=own) == places / "venv/bin/python3"
    active = {"PATH": path, "VIRTUAL_ENV": str(own)}
    assert find_interpreter(None, active, own_prefix=own) == places / "venv/bin/python3"
    assert find_interpreter(str(own), {}, own_prefix=own) == own / "bin/python3"  # named is named
    with pytest.raises(UsageError, match="is safe-install's own") as caught:
        find_interpreter(None, {"PATH": str(own / "bin")}, own_prefix=own)
    assert "--python" in caught.value.hint


def test_the_environment_of_uvx_is_never_managed(places):
    own = places / "archive-v0" / "Lb-yMes9XUG4i_X3"
    own.mkdir(parents=True)
    (own / "pyvenv.cfg").touch()
    (places / "venv" / "bin" / "python3").symlink_to("python")
    path = str(places / "venv" / "bin")
    assert find_interpreter(None, {"PATH": path}, own_prefix=own) == places / "venv/bin/python3"


@pytest.mark.parametrize(
    "python", ["missing", "./missing", "empty", "no-program", "tools/no-program"]
)
def test_what_is_no_interpreter(python, places):
    with pytest.raises(UsageError, match=f"--python {python}") as caught:
        find_interpreter(python, {"PATH": str(places / "tools")})
    assert caught.value.hint
    variable = "SAFE_INSTALL_PYTHON"
    with pytest.raises(UsageError, match=f"^{variable} {python}: ") as caught:
        find_interpreter(python, {"PATH": str(places / "tools"), variable: python})
    assert caught.value.hint


def test_a_child_gets_the_users_variables_less_what_would_bend_the_answer(monkeypatch):
    dropped = {
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "PYTHONHOME",
        "__PYVENV_LAUNCHER__",
        *REMOVED_VARIABLES,
    }
    kept = {"LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONSAFEPATH", "PYTHONHASHSEED"}
    for name in dropped | kept:
        monkeypatch.setenv(name, "1")
    variables = child_environment({"MORE": "x"})
    assert {variables[name] for name in kept} == {"1"}
    assert variables["MORE"] == "x"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert not dropped & set(variables)
    assert {"PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONWARNINGS", "FORCE_COLOR"} <= dropped
    assert os.environ["PYTHONHOME"] == "1"


@pytest.mark.parametrize(
    ("system", "mac", "platform"),
    [
        ("darwin", ("14.5", ("", "", ""), "arm64"), "macosx-14.0-arm64"),
        ("darwin", ("13.6.1", ("", "", ""), "x86_64"), "macosx-13.0-x86_64"),
        ("darwin", ("10.15.7", ("", "", ""), "x86_64"), "macosx-10.15-x86_64"),
        ("darwin", ("", ("", "", ""), ""), "macosx-10.9-universal2"),
        ("linux", ("", ("", "", ""), ""), "macosx-10.9-universal2"),
    ],
)
def test_a_mac_is_what_runs_and_not_what_its_python_was_built_for(
    system, mac, platform, monkeypatch
):
    script = importlib.import_module("safe_install.environment.script")
    monkeypatch.setattr(script.sys, "platform", system)
    monkeypatch.setattr(script.platform, "mac_ver", lambda: mac)
    monkeypatch.setattr(script.sysconfig, "get_platform", lambda: "macosx-10.9-universal2")
    assert script.machine_platform() == platform

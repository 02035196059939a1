"""What a probe answered, as an environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.environment.probe_answer import parse_environment, parse_torch_build

FOLDERS = {key: f"/env/{key}" for key in ("purelib", "platlib", "scripts", "data", "include")}
SITE = "/env/site"
EXECUTABLE = Path("/env/bin/python")
TORCH = {"version": "2.13.0+cu126", "cuda": "12.6", "folder": f"{SITE}/torch"}


def distribution(name, version, **values):
    raw = {
        "name": name,
        "version": version,
        "metadata_path": f"{SITE}/{name}-{version}.dist-info",
        "location": SITE,
        "installer": "pip",
        "direct_url": None,
        "editable": False,
        "has_record": True,
        "requested": True,
        "requires": ["numpy"],
    }
    return {**raw, **values}


def place(folder=SITE, **values):
    raw = {
        "location": folder,
        "torch": f"{folder}/torch",
        "files": "package",
        "version": "2.13.0",
        "editable": False,
    }
    return {**raw, **values}


def answer(*distributions, torch=None, places=(), **values):
    raw = {
        "executable": "/real/bin/python3.11",
        "version": "3.11.7",
        "implementation": "cpython",
        "platform": "linux-x86_64",
        "libc": ["glibc", "2.36"],
        "abiflags": "",
        "prefix": "/env",
        "base_prefix": "/usr",
        "scheme": FOLDERS,
        "ensurepip_wheel": None,
        "externally_managed": False,
        "conda": False,
        "user_site": None,
        "user_base": None,
        "user_scheme": None,
        "paths": [SITE],
        "markers": {"python_version": "3.11"},
        "installed": {one["name"]: one for one in distributions},
        "torch": torch,
        "torch_places": list(places),
    }
    return {**raw, **values}


def test_the_interpreter():
    raw = answer(
        distribution("pip", "26.1"),
        ensurepip_wheel="/usr/share/pip.whl",
        user_site="/home/me/site",
        user_base="/home/me",
        user_scheme=FOLDERS,
    )
    interpreter = parse_environment(raw, EXECUTABLE, None).interpreter
    assert (interpreter.executable, interpreter.version) == (EXECUTABLE, "3.11.7")
    assert (interpreter.platform, interpreter.libc) == ("linux_x86_64", ("glibc", "2.36"))
    assert interpreter.pip_version == "26.1"
    assert interpreter.ensurepip_wheel == Path("/usr/share/pip.whl")
    assert interpreter.scheme.purelib == Path("/env/purelib")
    assert interpreter.user_scheme == interpreter.scheme
    assert str(interpreter.tags[0]) == "cp311-cp311-manylinux_2_36_x86_64"


def test_an_interpreter_with_nothing_in_it():
    found = parse_environment(answer(), EXECUTABLE, None)
    interpreter = found.interpreter
    assert (found.torch, found.installed, found.torch_places) == (None, {}, ())
    assert (interpreter.pip_version, interpreter.ensurepip_wheel) == (None, None)
    assert (interpreter.user_site, interpreter.user_scheme) == (None, None)


def test_a_shim_is_what_it_started():
    found = parse_environment(answer(), Path("/home/me/.pyenv/shims/python"), None)
    assert found.interpreter.executable == Path("/real/bin/python3.11")


def test_a_distribution_has_its_normalized_name_and_its_own():
    raw = answer(distribution("Torch_Scatter", "2.1.2"))
    found = parse_environment(raw, EXECUTABLE, None).installed["torch-scatter"]
    assert (found.name, found.written_name) == ("torch-scatter", "Torch_Scatter")
    assert (found.version, found.requires) == ("2.1.2", ("numpy",))
    assert found.metadata_path == Path(f"{SITE}/Torch_Scatter-2.1.2.dist-info")


SOURCE = {"url": "file:///src/my%20torch"}


@pytest.mark.parametrize(
    ("installed", "folder", "places", "has_metadata"),
    [
        ({}, f"{SITE}/torch", [place()], True),
        # another torch lies before the installed one
        ({}, "/other/torch", [place("/other"), place()], False),
        # not below a folder of sys.path: an editable install leads there
        ({}, "/src/torch", [], False),
        ({"editable": True}, "/src/torch", [], True),
        # of several places, the one whose sources are installed
        ({"editable": True, "direct_url": SOURCE}, "/src/my torch/torch", ["/src/my torch"], True),
        ({"editable": True, "direct_url": SOURCE}, "/src/another/torch", ["/src/another"], False),
        ({"editable": True}, "/src/linked/torch", ["/src/linked"], True),
    ],
)
def test_whose_metadata_is_that_of_the_imported_torch(installed, folder, places, has_metadata):
    rows = [one if isinstance(one, dict) else place(one) for one in places]
    raw = answer(
        distribution("torch", "2.13.0", **installed), torch={**TORCH, "folder": folder}, places=rows
    )
    torch = parse_environment(raw, EXECUTABLE, None).torch
    assert torch.has_metadata is has_metadata
    assert torch.folder == Path(folder)
    assert str(torch.version) == ("2.13.0" if has_metadata else "2.13.0+cu126")


@pytest.mark.parametrize(
    ("said", "version", "accelerator"),
    [
        ({"version": "2.13.0+cu126", "cuda": "12.6"}, "2.13.0+cu126", "cu126"),
        ({"version": "2.13.0", "cuda": "13.0"}, "2.13.0", "cu130"),
        ({"version": "2.13.0", "hip": "6.2.41133"}, "2.13.0", "rocm6.2"),
        ({"version": "2.13.0+xpu"}, "2.13.0+xpu", "xpu"),
        ({"version": "2.13.0+cpu"}, "2.13.0+cpu", "cpu"),
        ({"version": "2.13.0+mine"}, "2.13.0+mine", "cpu"),
        ({"version": "2.9.0-mine"}, "2.9.0", "cpu"),
    ],
)
def test_what_a_torch_is_built_for(said, version, accelerator):
    interpreter = parse_environment(answer(), EXECUTABLE, None).interpreter
    torch = parse_torch_build(said, None, interpreter)
    assert (torch.version, torch.accelerator) == (Version(version), accelerator)
    assert (torch.lib_dir, torch.folder) == (None, None)


@pytest.mark.parametrize("said", [None, {}, {"version": None}, {"version": "mine"}])
def test_what_is_no_torch(said):
    interpreter = parse_environment(answer(), EXECUTABLE, None).interpreter
    assert parse_torch_build(said, None, interpreter) is None


@pytest.mark.parametrize(
    ("version", "installed", "conda", "vendor"),
    [
        ("2.13.0", {}, False, None),
        ("2.13.0", {}, True, None),
        ("2.9.0a0+1234.nv25.1", {}, False, "NVIDIA"),
        ("2.13.0", None, False, "unknown"),
        ("2.13.0", {"installer": "conda"}, False, "conda"),
        ("2.13.0", {"has_record": False}, True, "conda"),
        ("2.13.0", {"location": "/usr/lib/python3/dist-packages"}, False, "distribution"),
        ("2.13.0", {"location": "/usr/local/lib/python3.11/dist-packages"}, False, None),
        ("2.13.0a0+cpu", {}, False, "own build"),
        ("2.13.0+git1234", {}, False, "own build"),
    ],
)
def test_who_built_a_torch(version, installed, conda, vendor):
    own = [] if installed is None else [distribution("torch", version, **installed)]
    found = parse_environment(answer(*own, conda=conda), EXECUTABLE, None)
    torch = parse_torch_build({"version": version}, found.installed.get("torch"), found.interpreter)
    assert torch.vendor == vendor

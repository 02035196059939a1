"""The real torch-scatter from PyPI's source archive, built against a real CPU torch, from an empty cache.

    pytest tests/functional/test_build_torch_scatter.py        one to four minutes, by cores

SAFE_INSTALL_TEST_TORCH names an interpreter that has torch 2.13.0+cpu; without it a virtual environment is made.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.environment.interpreter import read_environment
from safe_install.events import Reporter
from safe_install.models import Link
from safe_install.system.http import HttpClient
from safe_install.wheels.archive import extract_members, open_wheel
from safe_install.wheels.build import build_wheel, find_built
from safe_install.wheels.fetch import fetch
from safe_install.wheels.recipe import BuildRecipe
from safe_install.wheels.store import WheelStore

pytestmark = [
    pytest.mark.slow,
    pytest.mark.torch,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]

SDIST = Link(
    "https://files.pythonhosted.org/packages/f5/ab/"
    "2a44ecac0f891dd0d765fc59ac8d277c6283a31907626560e72685df2ed6/torch_scatter-2.1.2.tar.gz",
    "torch_scatter-2.1.2.tar.gz",
    sha256="69b3aa435f2424ac6a1bfb6ff702da6eb73b33ca0db38fb26989c74159258e47",
    size=108045,
)
TORCH = ["torch==2.13.0+cpu", "--extra-index-url", "https://download.pytorch.org/whl/cpu"]
QUESTION = """
import torch, torch_scatter
source = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
index = torch.tensor([0, 1, 0])
print(torch_scatter.scatter(source, index, dim=1, reduce="sum").tolist())
print(torch_scatter.scatter(source, index, dim=1, reduce="max").tolist())
print(torch_scatter.segment_csr(source, torch.tensor([[0, 2, 3], [0, 1, 3]]), reduce="sum").tolist())
print(torch_scatter.segment_coo(source, torch.tensor([[0, 0, 1], [0, 1, 1]]), reduce="sum").tolist())
"""
ANSWERS = [
    "[[5.0, 2.0], [40.0, 16.0]]",
    "[[4.0, 2.0], [32.0, 16.0]]",
    "[[3.0, 4.0], [8.0, 48.0]]",
    "[[3.0, 4.0], [8.0, 48.0]]",
]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    named = os.environ.get("SAFE_INSTALL_TEST_TORCH")
    if named:
        return Path(named)
    folder = tmp_path_factory.mktemp("torch")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    install_into(python, [*TORCH, "numpy"])
    return python


def install_into(python, arguments):
    # The pip that runs the tests: a managed interpreter may have none.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True)


def read_tree(folder):
    """Path and contents of every file; bytecode aside, which importing torch may write."""
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_torch_scatter_is_built_kept_and_works(python, tmp_path):
    def install_tools(requirements, target):
        install_into(python, ["--target", str(target), *requirements])

    environment = read_environment(python, None)
    before = read_tree(environment.interpreter.scheme.purelib)
    cache = tmp_path / "cache"
    sdist = fetch(SDIST, http=HttpClient(), cache=cache, reporter=Reporter())
    arguments = {
        "recipe": BuildRecipe("torch-scatter", Version("2.1.2")),
        "environment": environment,
        "store": WheelStore(cache),
        "install_tools": install_tools,
        "reporter": Reporter(),
    }
    wheel = build_wheel(sdist, **arguments)
    assert read_tree(environment.interpreter.scheme.purelib) == before

    artifact = open_wheel(wheel)
    assert sorted(artifact.native_objects) == [
        f"torch_scatter/_{name}_cpu.so" for name in ("scatter", "segment_coo", "segment_csr", "version")
    ]
    extract_members(artifact, artifact.files, tmp_path / "site")
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run([str(python), "-c", QUESTION], env=variables, stdout=subprocess.PIPE, text=True, check=True)
    assert answer.stdout.split("\n")[:4] == ANSWERS

    started = time.monotonic()
    assert build_wheel(sdist, **arguments) == wheel
    assert time.monotonic() - started < 1.0
    (candidate,) = find_built("torch-scatter", environment, cache=cache)
    assert candidate.link.sha256 == artifact.sha256
    assert candidate.built_for.accelerator == "cpu"

"""Environments with a real torch, written down and made again: the same distributions, versions and
file contents, by pip, by uv, by `sync`, and by a bundle where there is no network.

The torch for CUDA 13 is gigabytes of the package index, which pip's cache keeps for the next way:
pytest --run-cuda-lab.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict

import pytest

from tests.functional.conftest import Environment
from tests.functional.round_trips import LOCK, REQUIREMENTS, WAYS, bare_environment, contents, must
from tests.functional.test_real_torch import build_scatter, built_wheel
from tests.lab import stacks

__all__ = ["built_wheel"]
pytestmark = [pytest.mark.slow, pytest.mark.long]

USES_SCATTER = (
    "import torch, torch_scatter; "
    "print(torch_scatter.scatter(torch.tensor([1., 2., 3.]), torch.tensor([0, 0, 1])).tolist())"
)


def variables_of_this_machine() -> Dict[str, str]:
    """Its package index and its caches; no other environment."""
    foreign = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "SAFE_INSTALL_")
    return {name: text for name, text in os.environ.items() if not name.startswith(foreign)}


def write_down(prefix: Path, folder: Path) -> Environment:
    """The environment; its lock file and its requirements are in the folder then, with the files
    that only this machine has."""
    environment = Environment(prefix, variables_of_this_machine())
    folder.mkdir()
    for filename in (LOCK, REQUIREMENTS):
        words = ("export", "-o", str(folder / filename), "--wheels", str(folder / "wheels"))
        must(environment.safe_install(*words))
    return environment


def make_again(environment: Environment, way: str, folder: Path, prefix: Path, python: str):
    """By one way: the new environment, which is as the first one."""
    filename, install = WAYS[way]
    again = bare_environment(prefix, environment.variables, python)
    install(again, folder / filename)
    before, after = contents(environment.site), contents(again.site)
    assert set(after) == set(before)
    assert after == before
    return again


# --- a CPU torch, and an extension that was built here --------------------------------------------


@pytest.fixture(scope="module")
def of_the_cpu(torch_template, built_wheel, tmp_path_factory):
    """Below one folder: hundreds of megabytes each."""
    folder = tmp_path_factory.mktemp("cpu")
    prefix = stacks.copy_environment(torch_template, folder / "env")
    build_scatter(prefix)
    return write_down(prefix, folder / "documents"), folder / "documents"


@pytest.mark.torch
@pytest.mark.parametrize("way", WAYS)
def test_a_torch_for_the_cpu_and_what_was_built_for_it(of_the_cpu, on_disk, way):
    environment, folder = of_the_cpu
    names = {name for name, _ in contents(environment.site)}
    assert names >= {"torch", "torch_scatter", "numpy"}
    again = make_again(environment, way, folder, on_disk / "again", stacks.RUNNING)
    assert again.ask(USES_SCATTER) == "[3.0, 3.0]"


# --- torches for CUDA -----------------------------------------------------------------------------


def write_down_stack(version: str, folder: Path):
    """(environment, its documents, its Python) of a torch of the package index."""
    stack = stacks.STACKS[version]
    try:
        python, _ = stacks.find_python(stack.pythons)
        prefix = stacks.find_template(stack)
    except stacks.NotPossible as reason:
        pytest.skip(f"torch {stack.torch} cannot be installed here: {reason}")
    return write_down(prefix, folder / "documents"), folder / "documents", python


@pytest.fixture(scope="module")
def of_cuda(tmp_path_factory):
    return write_down_stack("2.12.1+cu130", tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def of_old_python(tmp_path_factory):
    return write_down_stack("1.8.1+cu102", tmp_path_factory.mktemp("old"))


@pytest.mark.cuda_lab
@pytest.mark.parametrize("way", WAYS)
def test_a_torch_for_cuda(of_cuda, on_disk, way):
    environment, folder, python = of_cuda
    again = make_again(environment, way, folder, on_disk / "again", python)
    assert again.ask("import torch; print(torch.__version__)") == "2.12.1+cu130"


# No pip of Python 3.8 reads lock files.
@pytest.mark.torch
@pytest.mark.parametrize(
    "way", ["requirements-pip", "pylock-uv", "pylock-sync", "requirements-bundle"]
)
def test_an_old_torch_for_cuda_on_an_old_python(of_old_python, on_disk, way):
    environment, folder, python = of_old_python
    again = make_again(environment, way, folder, on_disk / "again", python)
    assert again.ask("import torch; print(torch.__version__)") == "1.8.1+cu102"

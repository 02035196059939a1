"""The founding story with a real CUDA torch, on a machine without a GPU: the stub driver makes it report one.

    pytest --run-cuda-lab tests/functional/test_cuda_lab.py

Needs uv, a C compiler and about 6 GB: torch 2.14.1 with its NVIDIA libraries (SAFE_INSTALL_LAB_FIND_LINKS names folders
that hold them, space separated; else they are downloaded), and a CPU wheel of torch 2.13.0 that pip finds.
What is staged here: the number of devices. torch, pip, its dependencies and the loss of CUDA are real.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.lab import build_driver
from tests.treehash import read_tree

pytestmark = [pytest.mark.cuda_lab, pytest.mark.slow]

ASK = "import torch; print(torch.__version__, torch.cuda.is_available(), torch.cuda.device_count())"


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> Dict[str, str]:
    return {**os.environ, **build_driver(tmp_path_factory.mktemp("driver"))}


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("needs uv: it makes an environment of 5 GB in seconds")
    folder = tmp_path_factory.mktemp("cuda") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    links = [word for folder_ in _find_links() for word in ("--find-links", folder_)]
    subprocess.run(
        [uv, "pip", "install", "-q", "-p", str(folder / "bin" / "python"), *links, "torch==2.14.1", "numpy"], check=True
    )
    return folder


def _find_links():
    named = os.environ.get("SAFE_INSTALL_LAB_FIND_LINKS")
    known = named.split() if named else ["/opt/pypi/files", "/opt/pypi-more/files"]
    return [folder for folder in known if Path(folder).is_dir()]


@pytest.fixture
def environment(template, tmp_path) -> Path:
    folder = tmp_path / "env"
    shutil.copytree(template, folder, symlinks=True, copy_function=os.link)
    return folder


def run(environment: Path, *arguments: Any, env: Dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(arguments[0]), *map(str, arguments[1:])], env=env, capture_output=True, text=True, check=False
    )


def safe_install(environment: Path, *arguments: Any, env: Dict[str, str]) -> subprocess.CompletedProcess[str]:
    python = environment / "bin" / "python"
    return run(environment, sys.executable, "-m", "safe_install", "--python", python, *arguments, env=env)


def ask(environment: Path, env: Dict[str, str]) -> str:
    return run(environment, environment / "bin" / "python", "-B", "-c", ASK, env=env).stdout.strip()


def test_plain_pip_loses_cuda_and_says_success(environment, driver):
    assert ask(environment, driver) == "2.14.1+cu130 True 1"
    pip = [environment / "bin" / "python", "-m", "pip"]
    done = run(environment, *pip, "install", "-q", "torchvision==0.28.0", env=driver)
    assert done.returncode == 0, done.stderr
    version, available, _ = ask(environment, driver).split()
    assert version.startswith("2.13.0")
    assert available == "False"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["torchvision==0.28.0"], 11, id="refused"),
        pytest.param(["--allow-torch-change", "torchvision==0.28.0"], 12, id="tried, found broken, put back"),
        pytest.param(["torch==2.13.0"], 12, id="torch named"),
    ],
)
def test_safe_install_keeps_cuda(environment, driver, arguments, status):
    before = read_tree(environment)
    done = safe_install(environment, *arguments, "--json", env=driver)
    answer = json.loads(done.stdout)
    assert done.returncode == status, answer["error"]
    if status == 12:
        assert any(finding["check"] == "cuda-lost" for finding in answer["findings"])
    assert answer["environment"]["driver"]["devices"]
    assert read_tree(environment) == before
    assert ask(environment, driver) == "2.14.1+cu130 True 1"


def test_a_driver_too_old_is_not_blamed_on_an_install(environment, driver):
    old = {**driver, "FAKE_DRIVER_CUDA": "12.2"}
    done = safe_install(environment, "six", "--json", env=old)
    answer = json.loads(done.stdout)
    assert done.returncode == 0, answer
    assert answer["before"]["cuda_available"] is False
    assert answer["after"]["cuda_available"] is False


def test_a_cpu_build_asked_for_by_name_may_lose_cuda(environment, driver):
    done = safe_install(environment, "torch==2.13.0+cpu", "--json", env=driver)
    answer = json.loads(done.stdout)
    assert done.returncode == 0, answer
    assert any(f["check"] == "cuda-lost" and f["severity"] == "warning" for f in answer["findings"])

"""The founding story with the real torch of four years, each with all its NVIDIA libraries, beside
the stub driver.

    pytest --run-cuda-lab tests/cuda/test_stacks.py

Downloads some 20 GB where SAFE_INSTALL_LAB_ENVIRONMENTS names no folder of ready environments
(docs/cuda.md), and what the harmful packages bring. torch, the packages, the package index and pip
are real. Staged is the driver's answer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import pytest

from safe_install.environment.interpreter import read_environment
from tests.cuda.conftest import GPU, NO_WHEEL_HOST, errors_of, text_of
from tests.functional.conftest import Environment
from tests.lab import stacks

pytestmark = [pytest.mark.cuda_lab, pytest.mark.slow]


@dataclass(frozen=True)
class Story:
    """A torch, a driver that serves it, and a package that brings another torch, which this driver
    does not serve."""

    torch: str
    driver: Tuple[str, str]  # its version, the CUDA that it serves
    project: str
    requirement: str  # what is typed
    preload: str = "libfakecudart.so"
    # the torch that must come is a CPU wheel, which pip has to find
    cpu_wheel: Optional[str] = None


STORIES = [
    Story("1.8.1+cu102", ("455.45.01", "11.1"), "kornia", "kornia"),
    Story("1.8.1+cu102", ("455.45.01", "11.1"), "torchaudio", "torchaudio"),
    Story(
        "1.13.1+cu117", ("515.43.04", "11.7"), "torchvision", "torchvision", preload="libfakec10.so"
    ),
    Story("2.9.1+cu128", ("570.86.10", "12.8"), "torchvision", "torchvision"),
    Story(
        "2.12.1+cu130",
        ("580.65.06", "13.0"),
        "torchvision",
        "torchvision==0.28.0",
        cpu_wheel="torch-2.13.0+cpu",
    ),
]


@pytest.fixture(scope="module", params=STORIES, ids=lambda story: f"{story.torch}-{story.project}")
def story(request: pytest.FixtureRequest) -> Story:
    told: Story = request.param
    if told.cpu_wheel and not any(
        list(Path(folder).glob(f"{told.cpu_wheel}-*")) for folder in stacks.find_links()
    ):
        pytest.skip(
            f"{told.cpu_wheel} is in no folder of wheels: name one in {stacks.FIND_LINKS_VARIABLE}"
        )
    return told


@pytest.fixture(scope="module")
def source(story: Story) -> Path:
    try:
        return stacks.find_template(stacks.STACKS[story.torch])
    except stacks.NotPossible as reason:
        pytest.skip(str(reason))
        raise


@pytest.fixture(scope="module")
def make(
    story: Story, source: Path, driver: Dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Environment]:
    """A copy on a machine with the story's driver, with the package index of whoever runs the
    tests."""
    variables = _variables(story, driver)

    def get(**more: str) -> Environment:
        folder = tmp_path_factory.mktemp("story")
        return Environment(stacks.copy_environment(source, folder / "env"), {**variables, **more})

    return get


def _variables(story: Story, driver: Mapping[str, str]) -> Dict[str, str]:
    foreign = ("SAFE_INSTALL_", "CUDA_", "TORCH_", "FAKE_", "PYTHON", "VIRTUAL_ENV", "CONDA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    libraries = driver["LD_LIBRARY_PATH"].split(os.pathsep)[0]
    version, cuda = story.driver
    return {
        **kept,
        **driver,
        **GPU,
        "FAKE_DRIVER": version,
        "FAKE_DRIVER_CUDA": cuda,
        "LD_PRELOAD": str(Path(libraries) / story.preload),
        "SAFE_INSTALL_MIRRORS": NO_WHEEL_HOST,
    }


@pytest.fixture(scope="module")
def brought(story: Story, make: Callable[..., Environment]) -> Dict[str, Any]:
    """What plain pip does with the story's requirement: its exit status, and the environment after
    it."""
    environment = make()
    assert environment.cuda() == f"{story.torch} True"
    completed = environment.pip("install", story.requirement)
    installed = read_environment(environment.executable, None).installed
    return {
        "status": completed.returncode,
        "output": text_of(completed),
        "check": environment.pip("check").returncode,
        "cuda": environment.cuda(),
        "version": installed[story.project].version if story.project in installed else None,
    }


def test_plain_pip_takes_cuda_away_and_calls_it_success(story, brought):
    assert brought["status"] == 0, brought["output"]
    assert brought["check"] == 0
    version, available = brought["cuda"].split()
    assert version != story.torch
    assert available == "False"


def test_what_is_typed_ends_with_the_same_torch_and_cuda(story, make):
    """A version that fits is found, or the install is refused and nothing changes."""
    environment = make()
    before = environment.tree()
    document = environment.document("install", story.requirement)
    if document["exit_code"] == 0:
        assert story.project in [step["name"] for step in document["plan"]["steps"]]
    else:
        assert document["exit_code"] in (10, 11), document["error"]
        assert environment.tree() == before
    assert environment.cuda() == f"{story.torch} True"


def test_what_pip_chose_is_refused(story, make, brought):
    environment = make()
    before = environment.tree()
    document = environment.document("install", f"{story.project}=={brought['version']}")
    assert document["exit_code"] in (10, 11), document["error"]
    assert document["outcome"] == "refused"
    assert environment.tree() == before


def test_what_pip_chose_is_put_back_where_torch_may_change(story, make, brought):
    environment = make()
    before = environment.tree()
    words = ("install", "--allow-torch-change", f"{story.project}=={brought['version']}")
    document = environment.document(*words)
    # A driver that is known to be too old for the new torch is a reason to try nothing.
    assert document["exit_code"] in (11, 12), document["error"]
    if document["exit_code"] == 12:
        assert "cuda-lost" in [finding["check"] for finding in errors_of(document)]
    assert environment.tree() == before
    assert environment.cuda() == f"{story.torch} True"


def test_verify_tells_the_two_states_apart(story, make):
    environment = make()
    document = environment.document("verify")
    assert document["after"]["cuda_available"] is True
    old = environment.document("verify", FAKE_DRIVER="418.39", FAKE_DRIVER_CUDA="10.1")
    assert old["after"]["cuda_available"] is False
    assert old["exit_code"] == 1
    assert story.torch in " ".join(finding["detail"] for finding in errors_of(old))

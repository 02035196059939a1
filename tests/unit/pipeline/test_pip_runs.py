"""How often pip is asked: once where nothing that it plans has to be chosen again, twice where its
plan brings an extension or another build of torch."""

from __future__ import annotations

import pytest

from safe_install.wheels import inspection
from tests.factories import make_distribution, make_environment
from tests.unit.pipeline.test_torch_build import (
    INTERPRETER,
    PackageIndex,
    choose,
    machine,
    torch_of,
)

VISION = {"torchvision": ("0.30.0", "https://h/torchvision-0.30.0-cp311-cp311-linux_x86_64.whl")}
SOURCE = ("2.1.2", "https://h/torch_scatter-2.1.2.tar.gz")
WITH_SCATTER = make_environment(
    make_distribution("torch-scatter", "2.1.2+pt213cu130"),
    torch="2.13.0+cu130",
    interpreter=INTERPRETER,
)
CPU = ["--accelerator", "cpu"]
RUNS = [
    # words, what pip plans beside torch, the machine, the torch that comes, how often pip is asked
    (["torch"], {}, machine(), "2.15.0", 1),
    (["torch", "torchvision"], VISION, machine(), "2.15.0", 1),
    (["torch==2.15.0", "torchvision"], VISION, machine(), "2.15.0", 1),
    (["ultralytics"], {"ultralytics": "8.3", **VISION}, machine(), "2.15.0", 1),
    # which torch comes, and then all of it
    (["torch", "torch-scatter"], {}, machine(), "2.15.0", 2),
    (["torch", "torch-scatter", "torchvision"], VISION, machine(), "2.15.0", 2),
    # its plan brings an extension
    (["base"], {"base": "1", "torch_scatter": SOURCE}, machine(), "2.15.0", 2),
    (["-U", "torch"], {}, machine(torch="2.13.0+cu132"), "2.15.0", 1),
    (["torch==2.14.1"], {}, WITH_SCATTER, "2.14.1", 2),
    (["-U", "torch"], {}, machine(torch="2.13.0+cu126"), "2.14.1+cu126", 2),
    # its plan brings a torch that does not run here
    (["torch"], {}, machine(driver="535.104.05"), "2.14.1+cu126", 2),
    (["ultralytics"], {"ultralytics": "8.3"}, machine(driver="470.57.02"), "2.7.1+cu118", 2),
    # the accelerator is known, and only torch's own projects are wanted
    ([*CPU, "torch"], {}, machine(), "2.15.0+cpu", 1),
    ([*CPU, "torch<2.14"], {}, machine(), "2.13.0+cpu", 1),
    ([*CPU, "torch", "torchvision"], {}, machine(), "2.15.0+cpu", 1),
    ([*CPU, "torch", "torchvision", "torch-scatter"], {}, machine(), "2.15.0+cpu", 1),
    (["torch==2.13.0+cu126", "torch-scatter"], {}, machine(), "2.13.0+cu126", 1),
    # something else may have a wish about torch
    ([*CPU, "torch", "ultralytics"], {"ultralytics": "8.3"}, machine(), "2.15.0+cpu", 2),
    ([*CPU, "ultralytics"], {"ultralytics": "8.3"}, machine(), "2.15.0+cpu", 2),
    # the build may lie in a place of the person's own
    ([*CPU, "--find-links", "/wheels", "torch"], {}, machine(), "2.15.0+cpu", 2),
]


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    """Installed extensions hold machine code."""
    monkeypatch.setattr(inspection, "find_compiled", lambda environment, names: frozenset(names))


@pytest.mark.parametrize(("words", "others", "here", "version", "runs"), RUNS)
def test_how_often_pip_is_asked(tmp_path, words, others, here, version, runs):
    releases = ["2.14.1"] if words == ["torch==2.14.1"] else []
    installer = PackageIndex(*releases, others=others)
    selected, *_ = choose(tmp_path, *words, here=here, installer=installer)
    assert torch_of(selected) == version
    assert len(installer.questions) == runs


def test_pip_is_asked_first_where_nothing_was_found_without_it(tmp_path):
    """An index of the user's own may have a file of which nothing is known here."""
    installer = PackageIndex("2.16.0", named={})
    installer.releases = ("2.16.0+rocm9.9",)
    words = ["-i", "https://index.example/simple", "--accelerator", "rocm9.9", "torch"]
    selected, *_ = choose(tmp_path, *words, installer=installer)
    assert torch_of(selected) == "2.16.0+rocm9.9"

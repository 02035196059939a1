"""A build of torch with a local version (`2.13.0+cpu`) beside the package index, whose own builds
have none: to pip the local one is the higher version, and hides the other.

pip's rule is kept by `BothPlaces`; the pages of torch's host are those of test_torch_build.
"""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.factories import make_distribution, planned_torch
from tests.unit.pipeline.test_selection import planned
from tests.unit.pipeline.test_torch_build import (
    PageChooser,
    choose,
    machine,
    no_match,
    torch_of,
)

INDEX = ("2.13.0", "2.12.1")  # for CUDA 13.0, as the wheel index knows
GPU = {"driver": "580.65.06", "gpu": "9.0"}
OLD_GPU = {"driver": "535.104.05", "gpu": "8.0"}  # CUDA 12.2
IMAGE = {"driver": "580.65.06", "gpu": "9.0", "declared": True}


class BothPlaces:
    """pip, with a package index and a folder of wheels: the highest version that all lines permit."""

    def __init__(self, *folder, index=INDEX, wanted="torch", others=None, installed=None):
        self.versions = sorted(map(Version, (*folder, *index)), reverse=True)
        self.wanted, self.others, self.installed = wanted, others or {}, installed
        self.questions = []

    def plan(self, requirements, *, constraints, find_links):
        return self._answer(constraints, find_links, requirements)

    def plan_request(self, *, constraints, find_links, hidden=(), without_source=()):
        return self._answer(constraints, find_links)

    def relay(self):
        pass

    def _answer(self, constraints, find_links, requirements=()):
        others = {} if requirements else self.others
        self.questions.append(list(constraints))
        shown = [path.name.split("-")[1] for folder in find_links for path in folder.iterdir()]
        shown = [Version(text) for text in shown if "+" in text]
        lines = [Requirement(text) for text in (self.wanted, *requirements)]
        lines += [Requirement(line) for line in constraints if line.startswith("torch=")]
        for version in sorted([*shown, *self.versions], reverse=True):
            if all(line.specifier.contains(version, prereleases=True) for line in lines):
                if str(version) == self.installed:
                    return planned(**others)
                return planned(torch=str(version), **others)
        return no_match(str(lines[-1]))


class Scatter(PageChooser):
    """torch-scatter for these builds of torch alone."""

    def __init__(self, *builds, **fields):
        super().__init__(**fields)
        self.builds = builds

    def choose(self, requirements, environment, **options):
        self.missing = (
            () if environment.torch.runtime_version in self.builds else ("torch-scatter",)
        )
        return super().choose(requirements, environment, **options)

    def is_known(self, requirement, environment, *, constraints=()):
        return environment.torch.runtime_version in self.builds


ROWS = {
    # what is in the folder, the machine, the words, what comes, how often pip is asked
    "pip and uv take the local version": ("2.13.0+cpu", {}, ["torch"], "2.13.0+cpu", 1),
    "a GPU": ("2.13.0+cpu", GPU, ["torch"], "2.13.0", 2),
    "a declared GPU": ("2.13.0+cpu", IMAGE, ["torch"], "2.13.0", 2),
    "a GPU that another CUDA serves": ("2.13.0+cpu", OLD_GPU, ["torch"], "2.13.0+cu126", 2),
    "a build for another kind of GPU": ("2.13.0+rocm6.4", GPU, ["torch"], "2.13.0", 2),
    "for the same kind, and it runs": ("2.13.0+cu126", OLD_GPU, ["torch"], "2.13.0+cu126", 1),
    "neither runs": ("2.13.0+cu130", OLD_GPU, ["torch"], "2.13.0+cu126", 2),
    "the release by name": ("2.13.0+cpu", GPU, ["torch==2.13.0"], "2.13.0", 2),
    "the build by name": ("2.13.0+cpu", GPU, ["torch==2.13.0+cpu"], "2.13.0+cpu", 1),
    "an older one in the folder": ("2.12.1+cpu", GPU, ["torch"], "2.13.0", 1),
    "an older one in the folder, and it is asked for": (
        "2.12.1+cpu",
        GPU,
        ["torch<2.13"],
        "2.12.1",
        2,
    ),
    "a dependency": ("2.13.0+cpu", GPU, ["base"], "2.13.0", 2),
    "asked for the CPU": ("2.13.0+cpu", GPU, ["--accelerator", "cpu", "torch"], "2.13.0+cpu", 1),
    "asked for PyPI's": ("2.13.0+cpu", {}, ["--accelerator", "cu130", "torch"], "2.13.0", 2),
    "asked for a third": ("2.13.0+cpu", {}, ["--accelerator", "cu126", "torch"], "2.13.0+cu126", 2),
    "an upgrade keeps CUDA": (
        "2.13.0+cpu",
        {"torch": "2.12.1", **GPU},
        ["-U", "torch"],
        "2.13.0",
        2,
    ),
    "without a driver, too": ("2.13.0+cpu", {"torch": "2.12.1"}, ["-U", "torch"], "2.13.0", 2),
    "an upgrade keeps the CPU": (
        "2.13.0+cpu",
        {"torch": "2.12.1+cpu"},
        ["-U", "torch"],
        "2.13.0+cpu",
        1,
    ),
    "and a third": ("2.13.0+cpu", {"torch": "2.12.1+cu126"}, ["-U", "torch"], "2.13.0+cu126", 2),
    "what is permitted keeps CUDA": (
        "2.13.0+cpu",
        {"torch": "2.12.1", **GPU},
        ["--allow-torch-change", "base"],
        "2.13.0",
        2,
    ),
    "asked to change to the one in the folder": (
        "2.13.0+cpu",
        {"torch": "2.13.0", **GPU},
        ["--accelerator", "cpu", "torch"],
        "2.13.0+cpu",
        2,
    ),
    "asked to change to another": (
        "2.13.0+cpu",
        {"torch": "2.13.0", **GPU},
        ["--accelerator", "cu126", "torch"],
        "2.13.0+cu126",
        2,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_both_places(tmp_path, name):
    in_folder, here, words, version, questions = ROWS[name]
    is_base = "base" in words
    wanted = "torch" if is_base else words[-1]
    others = {"base": "1.0"} if is_base else {}
    installer = BothPlaces(in_folder, wanted=wanted, others=others)
    words = ["-f", "/wheels", *words]
    selected, chooser, *_ = choose(
        tmp_path, *words, here=make(here), chooser=PageChooser(), installer=installer
    )
    assert torch_of(selected) == version
    assert len(installer.questions) == questions
    if version in (in_folder, *INDEX):
        assert chooser.pages.asked == [], "pip finds that build by itself"


def make(fields):
    """A torch from PyPI says its CUDA at run time alone."""
    here = machine(**{key: value for key, value in fields.items() if key != "torch"})
    version = fields.get("torch")
    if version is None:
        return here
    installed = {canonicalize_name("torch"): make_distribution("torch", version)}
    torch = planned_torch(version, here.interpreter.platform)
    return dataclasses.replace(here, torch=torch, installed=installed)


# --- extensions -----------------------------------------------------------------------------------

WITH_SCATTER = {
    # of which builds there is a torch-scatter, the machine, what comes
    "where both serve, as pip has it": (["2.13.0+cpu", "2.13.0+cu130"], {}, "2.13.0+cpu"),
    "for the one in the folder alone": (["2.13.0+cpu"], {}, "2.13.0+cpu"),
    "for PyPI's alone": (["2.13.0+cu130"], {}, "2.13.0"),
    "for an older one of PyPI's": (["2.12.1+cu130"], {}, "2.12.1"),
    "for both, and a GPU": (["2.13.0+cpu", "2.13.0+cu130"], GPU, "2.13.0"),
    "for an older one of PyPI's, and a GPU": (["2.13.0+cpu", "2.12.1+cu130"], GPU, "2.12.1"),
    "for the CPU alone, and a GPU": (["2.13.0+cpu"], GPU, "2.13.0+cpu"),
}


@pytest.mark.parametrize("name", WITH_SCATTER)
def test_an_extension_comes_before_the_place(tmp_path, name):
    builds, here, version = WITH_SCATTER[name]
    installer = BothPlaces("2.13.0+cpu", others={"torch_scatter": "2.0"})
    words = ["-f", "/wheels", "torch", "torch-scatter"]
    selected, *_ = choose(
        tmp_path, *words, here=make(here), chooser=Scatter(*builds), installer=installer
    )
    assert torch_of(selected) == version
    assert len(installer.questions) <= 3


# --- places that name an accelerator --------------------------------------------------------------

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
NAMED = {
    # the words, pip's configuration, what is installed, what comes
    "an index alone": (["--index-url", CPU_INDEX], {}, None, "2.13.0+cpu"),
    "beside the package index": (["--extra-index-url", CPU_INDEX], {}, None, "2.13.0+cpu"),
    "in pip's configuration": ([], {"extra-index-url": CPU_INDEX}, None, "2.13.0+cpu"),
    "in a requirements file": (["-r", "cpu.txt"], {}, None, "2.13.0+cpu"),
    "a folder": (["-f", "/wheels/cpu"], {}, None, "2.13.0+cpu"),
    "a folder that names nothing": (["-f", "/wheels"], {}, None, "2.13.0"),
    "a mirror of the package index": (
        ["-f", "/wheels", "-i", "https://mirror/simple"],
        {},
        None,
        "2.13.0",
    ),
    "no package index": (["-f", "/wheels", "--no-index"], {}, None, "2.13.0+cpu"),
    "not asked": (["-f", "/wheels", "--offline"], {}, None, "2.13.0+cpu"),
    "the command line permits another accelerator": (
        ["-U", "--extra-index-url", CPU_INDEX],
        {},
        "2.12.1",
        "2.13.0+cpu",
    ),
    "a configuration permits none": (["-U"], {"extra-index-url": CPU_INDEX}, "2.12.1", "2.13.0"),
    "nor does a file": (["-U", "-r", "cpu.txt"], {}, "2.12.1", "2.13.0"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_place_that_names_the_accelerator(tmp_path, name):
    words, configuration, torch, version = NAMED[name]
    installer = BothPlaces("2.13.0+cpu")
    selected, *_ = choose(
        tmp_path,
        *words,
        "torch",
        here=make({**GPU, "torch": torch}),
        installer=installer,
        configuration=configuration,
        files={"cpu.txt": f"--extra-index-url {CPU_INDEX}"},
    )
    assert torch_of(selected) == version
    assert len(installer.questions) <= 3


def test_pip_is_not_asked_for_pypis_build_again_and_again(tmp_path):
    """A mirror that has no torch, beside a folder with builds for the CPU."""
    installer = BothPlaces("2.13.0+cpu", "2.12.1+cpu", "2.11.0+cpu", index=())
    words = ["-i", "https://mirror/simple", "-f", "/wheels", "torch"]
    chooser = PageChooser(offline="--offline")
    selected, *_ = choose(tmp_path, *words, here=make(GPU), chooser=chooser, installer=installer)
    assert torch_of(selected) == "2.13.0+cpu"
    assert len(installer.questions) <= 4

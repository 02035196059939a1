"""What the installer's answer makes of the torch that comes: each question as a table."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from safe_install.errors import PipFailed
from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Driver, Step
from safe_install.resolve.command_line import split_words
from safe_install.resolve.decisions import Selection, exactly, make_wanted
from safe_install.resolve.request import parse_install
from safe_install.resolve.torch_choice import TorchChoice
from safe_install.resolve.torch_rounds import (
    chosen_first,
    is_listed_by_page_alone,
    must_change_torch,
    needs_another_torch,
    needs_file_of_torch,
    planned_extensions,
    with_real_files,
)
from tests.factories import make_environment, planned_torch
from tests.unit.resolve.test_rounds import pin_of

CATALOG = bundled_catalog()
EMPTY = make_environment()


def wanted_of(*argv, here=EMPTY, environ=None, files=None):
    words = split_words(argv)
    request = parse_install(
        words, environ=environ or {}, configuration={}, read=lambda name: (files or {})[name]
    )
    return make_wanted(request, here)


def torch(version):
    return planned_torch(version, "linux_x86_64")


@pytest.mark.parametrize(
    ("words", "environ", "installed", "must"),
    [
        (["--accelerator", "cpu", "torch"], {}, "2.13.0+cu130", True),
        (["--accelerator", "cpu", "torch"], {}, "2.13.0+cpu", False),
        (["--accelerator", "cpu", "torch"], {}, None, False),
        (["--accelerator", "cpu", "six"], {}, "2.13.0+cu130", False),  # torch is not named
        (["--accelerator", "cpu", "-r", "r.txt"], {}, "2.13.0+cu130", False),
        (["torch"], {"SAFE_INSTALL_ACCELERATOR": "cpu"}, "2.13.0+cu130", True),
        (["torch"], {"UV_TORCH_BACKEND": "cpu"}, "2.13.0+cu130", False),
        (["torch==2.13.0+cu130"], {"SAFE_INSTALL_ACCELERATOR": "cpu"}, "2.13.0+cu130", False),
        (["torch"], {}, "2.13.0+cu130", False),
    ],
)
def test_must_the_installed_torch_change(words, environ, installed, must):
    here = make_environment(torch=installed)
    assert (
        must_change_torch(
            wanted_of(*words, here=here, environ=environ, files={"r.txt": "torch"}), here
        )
        is must
    )


OLD = Driver("470.57.02", "11.4")


@pytest.mark.parametrize(
    ("version", "words", "here", "choice", "needs"),
    [
        (None, ["torch"], EMPTY, {}, False),
        ("2.15.0", ["torch"], EMPTY, {}, False),
        ("2.15.0", ["torch"], make_environment(driver=OLD), {}, True),
        ("2.7.1+cu118", ["torch"], make_environment(driver=OLD), {}, False),
        # nothing better
        ("2.15.0", ["torch"], make_environment(driver=OLD), {"taken": torch("2.15.0")}, False),
        ("2.15.0", ["torch"], make_environment(driver=OLD), {"is_fixed": True}, False),
        ("2.15.0", ["-r", "pylock.toml"], make_environment(driver=OLD), {}, False),
        ("2.15.0", ["-r", "hashed.txt"], make_environment(driver=OLD), {}, False),
        ("2.15.0", ["--accelerator", "cpu", "torch"], EMPTY, {}, True),
        ("2.15.0+cpu", ["--accelerator", "cpu", "torch"], EMPTY, {}, False),
        ("2.15.0", ["--accelerator", "cu132", "torch"], EMPTY, {}, False),
        ("2.15.0", ["-U", "torch"], make_environment(torch="2.13.0+cpu"), {}, True),
        (
            "2.15.0",
            ["-U", "torch", "--allow-torch-change"],
            make_environment(torch="2.13.0+cpu"),
            {},
            True,  # there may be a build like the installed one
        ),
        ("2.15.0", ["-U", "torch"], make_environment(torch="2.13.0+cu132"), {}, False),
    ],
)
def test_does_the_torch_of_the_plan_stand(version, words, here, choice, needs):
    build = torch(version) if version else None
    planned = dataclasses.replace(here, torch=build or here.torch)
    seen = Selection(
        here, planned, coming_torch=build, torch_choice=TorchChoice(planned=build, **choice)
    )
    files = {"hashed.txt": f"torch==2.15.0 --hash=sha256:{'1' * 64}"}
    assert needs_another_torch(seen, wanted_of(*words, here=here, files=files), CATALOG) is needs


NO_MATCH = "ERROR: No matching distribution found for torch==2.13.0+cu126"


@pytest.mark.parametrize(
    ("words", "here", "output", "needs"),
    [
        (["torch==2.13.0+cu126"], EMPTY, NO_MATCH, True),
        (
            ["--accelerator", "cu126", "torch"],
            EMPTY,
            "ERROR: No matching distribution found for torch",
            True,
        ),
        (["-r", "r.txt"], EMPTY, NO_MATCH, True),
        (["torch==2.13.0+cu126"], make_environment(torch="2.13.0+cpu"), NO_MATCH, True),
        # torch was not named
        (["-r", "r.txt"], make_environment(torch="2.13.0+cpu"), NO_MATCH, False),
        (
            ["torch==2.13.0"],
            EMPTY,
            "ERROR: No matching distribution found for torch==2.13.0",
            False,
        ),
        (
            ["torch==2.13.0+cu126", "six"],
            EMPTY,
            "ERROR: No matching distribution found for six",
            False,
        ),
    ],
)
def test_did_pip_fail_for_want_of_a_build(words, here, output, needs):
    wanted = wanted_of(*words, here=here, files={"r.txt": "torch==2.13.0+cu126"})
    error = PipFailed("pip failed", output=output)
    assert needs_file_of_torch(Selection(here, here), error, wanted) is needs
    taken = Selection(here, here, torch_choice=TorchChoice(taken=torch("2.13.0+cu126")))
    assert not needs_file_of_torch(taken, error, wanted), "once"


@pytest.mark.parametrize(
    ("coming", "installed", "planned", "operator"),
    [
        ("2.13.0", "2.13.0+cpu", None, "==="),
        ("2.13.0", "2.12.0+cpu", None, "=="),
        ("2.13.0+cpu", "2.13.0+cu126", "2.13.0+cu130", "=="),
        ("2.13.0", None, None, "=="),
        ("2.13.0", None, "2.14.1", "=="),
        # an older one with a local version may lie beside it, too
        ("2.13.0", None, "2.14.1+cpu", "==="),
    ],
)
def test_a_constraint_that_no_other_build_meets(coming, installed, planned, operator):
    here = make_environment(torch=installed)
    choice = TorchChoice(planned=torch(planned) if planned else None)
    assert exactly(torch(coming), Selection(here, here, torch_choice=choice)) == operator
    if installed is not None:
        assert not SpecifierSet(f"{operator}{coming}").contains(installed)


def test_the_extensions_of_a_plan_keep_their_specifiers():
    steps = [
        Step(Action.ADD, "base", "1", requires=("torchvision<0.30", 'torchvision>1; extra == "x"')),
        Step(Action.ADD, "torchvision", "0.29.1"),
        Step(Action.ADD, "torch", "2.14.1"),
        Step(Action.ADD, "triton", "3.8.0"),
        Step(Action.ADD, "torch-geometric", "2.6"),
        Step(Action.ADD, "bitsandbytes", "0.48"),  # the same file beside any torch
        Step(Action.ADD, "torch-scatter", "2.1", is_direct=True),
        Step(Action.ADD, "numpy", "2.0"),
    ]
    found = planned_extensions(
        steps, wanted_of("base", "torchvision>=0.20", "torch-scatter"), CATALOG
    )
    assert found == [Requirement("torchvision<0.30,>=0.20")]


def test_the_report_has_the_real_address():
    pin = pin_of("torch", named="2.13.0+cu126", is_placeholder=True)
    selection = Selection(EMPTY, EMPTY, torch_pins={"torch": pin})
    entries = [
        {"metadata": {"name": name}, "download_info": {"url": f"file:///links/{name}.whl"}}
        for name in ("Torch", "six")
    ]
    changed, same = with_real_files({"version": "1", "install": entries}, selection)["install"]
    assert changed["download_info"]["url"] == pin.candidate.link.url
    assert changed["download_info"]["archive_info"]["hashes"] == {"sha256": "1" * 64}
    assert same == entries[1]


def test_the_report_has_no_hash_that_is_not_known():
    pin = pin_of("torch", named="2.13.0+cu126", is_placeholder=True)
    link = dataclasses.replace(pin.candidate.link, sha256=None)
    candidate = dataclasses.replace(pin.candidate, link=link)
    pin = dataclasses.replace(pin, candidate=candidate, sha256=None)
    selection = Selection(EMPTY, EMPTY, torch_pins={"torch": pin})
    (entry,) = with_real_files({"install": [{"metadata": {"name": "torch"}}]}, selection)["install"]
    assert entry["download_info"] == {"url": link.url, "archive_info": {}}


LOCK = {"r.txt": "torch", "pylock.toml": ""}


@pytest.mark.parametrize(
    ("words", "here", "is_listed"),
    [
        (["--accelerator", "rocm6.4", "torch"], EMPTY, True),
        (["--accelerator", "rocm6.4", "torch"], make_environment(torch="2.13.0+cpu"), True),
        (
            ["--accelerator", "rocm6.4", "torch-scatter"],
            make_environment(torch="2.13.0+cpu"),
            False,
        ),
        (["--accelerator", "rocm6.4", "six"], EMPTY, False),
        (["--accelerator", "rocm6.4", "torch @ https://h/torch.whl"], EMPTY, False),
        (["--accelerator", "rocm6.4", "-r", "pylock.toml"], EMPTY, False),
        (["--accelerator", "cu126", "torch"], EMPTY, False),
        (["torch"], EMPTY, False),
    ],
)
def test_which_torch_only_a_page_lists(words, here, is_listed):
    wanted = wanted_of(*words, here=here, files=LOCK)
    assert is_listed_by_page_alone(wanted, here, CATALOG.torch) is is_listed


@pytest.mark.parametrize(
    ("words", "here", "first"),
    [
        (["torch"], EMPTY, []),
        (["torch", "torch-scatter>=2"], EMPTY, ["torch-scatter>=2"]),
        (["torch", "torch-scatter; python_version<'3'"], EMPTY, []),
        # pip has to say more
        (["torch", "six"], EMPTY, None),
        (["torch", "bitsandbytes"], EMPTY, None),
        (["torch", "torch-scatter[x]"], EMPTY, None),
        (["torch", "torch-scatter @ https://h/x.whl"], EMPTY, None),
        (["torch", "./folder"], EMPTY, None),
        (["torch", "-e", "./folder"], EMPTY, None),
        (["torch", "--find-links", "wheels"], EMPTY, None),
        (["torch-scatter"], EMPTY, None),
        (["torch"], make_environment(torch="2.13.0+cu130"), None),
    ],
)
def test_what_is_chosen_before_pip_is_asked(words, here, first):
    wanted = wanted_of("--accelerator", "cpu", *words, here=here)
    found = chosen_first(wanted, here, CATALOG)
    assert (found if found is None else [str(one) for one in found]) == first

"""One hint for what does not fit: a table over the rejections and the hosts' answers."""

from __future__ import annotations

import dataclasses

import pytest

from safe_install.models import Action, Device, Driver, HostAnswer, HostAnswerKind, Plan, Step
from safe_install.resolve import hints
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.hints import (
    Asked,
    choose_hint,
    companion_version,
    is_settled,
    torch_for_driver,
)
from safe_install.resolve.plan import planned_distributions
from tests.factories import environment_for, make_environment
from tests.unit.resolve.test_compatibility import CONTAINER, CPU, context, sdist, wheel

PYG = "data.pyg.org"
OLD = environment_for(torch="1.8.1+cu111", python_version="3.8", platform="manylinux_2_31_x86_64")
NEW = environment_for(torch="2.9.1+cu128", python_version="3.11", platform="manylinux_2_31_x86_64")
CUDA_13 = environment_for(
    torch="2.9.1+cu130", python_version="3.11", platform="manylinux_2_31_x86_64"
)
CENTOS = environment_for(
    torch="2.9.1+cu128", python_version="3.11", platform="manylinux_2_17_x86_64"
)
MUSL = environment_for(torch="2.9.1+cu128", python_version="3.11", platform="musllinux_1_2_x86_64")
WINDOWS = environment_for(torch="2.9.1+cu128", python_version="3.11", platform="win_amd64")
ON_311 = {"tags": "cp311-cp311-linux_x86_64"}


def with_driver(environment, version, *, declared=True):
    return dataclasses.replace(environment, driver=Driver(version, None, declared=declared))


def with_gpu(environment, capability):
    return dataclasses.replace(environment, driver=Driver(None, None, (Device("", capability),)))


def answer(kind, host=PYG, gap=""):
    return HostAnswer("torch-scatter", host, f"https://{host}/", kind, gap=gap)


DOWN = answer(HostAnswerKind.DOWN, gap="in part")
OFFLINE = answer(HostAnswerKind.NOT_ASKED, gap="in part")
OFFLINE_AND_COMPLETE = answer(HostAnswerKind.NOT_ASKED)
LEFT_OUT = answer(HostAnswerKind.LEFT_OUT, "github.com/somebody/wheels")


def asked(judged_by: Context, *candidates, answers=()):
    rejections = tuple(
        r for r in (check_candidate(c, judged_by) for c in candidates) if r is not None
    )
    assert len(rejections) == len(candidates), "one of them fits"
    return Asked(judged_by, candidates, rejections, tuple(answers))


@pytest.mark.parametrize(
    ("one", "hint"),
    [
        # A version that belongs to another torch: no host could change that.
        (
            asked(context(OLD, "torchaudio", "==0.9.0"), answers=[DOWN]),
            "Ask for the version that belongs to torch 1.8.1 (data.pyg.org does not answer now): "
            "safe-install torchaudio==0.8.1",
        ),
        (
            asked(context(NEW, "torchvision", "==0.20.0"), answers=[OFFLINE]),
            "Ask for the version that belongs to torch 2.9.1: safe-install torchvision==0.24.1",
        ),
        (
            asked(
                context(OLD, "torchaudio", "==0.9.0"),
                wheel("0.8.1+cu111", ("1.8.1", "cu111"), project="torchaudio"),
                answers=[DOWN],
            ),
            "Ask for the version that fits torch 1.8.1+cu111: safe-install torchaudio==0.8.1",
        ),
        (
            asked(context(NEW, "torchtext", "==0.15.1"), answers=[OFFLINE]),
            "Permit another torch with --allow-torch-change: torchtext 0.15.1 belongs to torch "
            "2.0.0.",
        ),
        (
            asked(context(CONTAINER, "torchvision", "==0.22.0"), answers=[OFFLINE]),
            "Keep the torchvision of the container: public wheels belong to public builds of "
            "torch.",
        ),
        # A driver that torch's own CUDA does not run with: neither a host nor a build could change
        # that.
        (
            asked(
                context(with_driver(CUDA_13, "535.104"), allow_build=False),
                wheel("2.1.2+pt29cu130", ("2.9.0", "cu130"), **ON_311),
                wheel("2.1.2+pt29cu126", ("2.9.0", "cu126"), **ON_311),
                sdist("2.1.2"),
                answers=[DOWN, OFFLINE],
            ),
            "Use driver 580.65.06 or newer, or a torch for an older CUDA, such as 2.9.1+cu126, "
            "which runs with driver "
            "535.104.",
        ),
        (
            asked(context(with_driver(CUDA_13, "380.1")), sdist("2.1.2"), answers=[OFFLINE]),
            "Use driver 580.65.06 or newer.",
        ),
        # A build, where it would help.
        (
            asked(context(NEW, allow_build=False), sdist("2.1.1"), sdist("2.1.2"), answers=[DOWN]),
            "Leave --no-build out: torch-scatter 2.1.2 can be built from source.",
        ),
        # A machine that is not here: no option permits it.
        (
            asked(
                context(NEW, allow_build=False, is_elsewhere=True),
                sdist("2.1.2"),
                answers=[OFFLINE],
            ),
            "Install torch-scatter 2.1.2 on a machine of that kind, beside its torch, where it can be "
            "built; `export -o requirements.txt --wheels DIR` names its wheel.",
        ),
        (
            asked(context(NEW, allow_build=False), sdist("2.1.2"), answers=[OFFLINE]),
            "Leave --offline out to ask data.pyg.org, or leave --no-build out: torch-scatter 2.1.2 "
            "can be built from "
            "source.",
        ),
        # Hosts, where they could have it.
        (
            asked(
                context(NEW, specifier="==3.0"),
                wheel("2.1.2", ("2.9.0", "cu128"), **ON_311),
                answers=[DOWN],
            ),
            "Try again when data.pyg.org answers, or name a mirror with SAFE_INSTALL_MIRRORS.",
        ),
        (asked(context(NEW), answers=[OFFLINE]), "Leave --offline out to ask data.pyg.org."),
        # The facts are complete: to ask would bring nothing.
        (
            asked(
                context(NEW, specifier="==2.0"),
                wheel("2.1.2", ("2.9.0", "cu128"), **ON_311),
                answers=[OFFLINE_AND_COMPLETE],
            ),
            "Ask for the version that fits torch 2.9.1+cu128: safe-install torch-scatter==2.1.2",
        ),
        (
            asked(context(NEW, specifier="==2.0"), sdist("2.1.2"), sdist("2.0.9")),
            "Ask for the version that fits torch 2.9.1+cu128, built from source: safe-install "
            "torch-scatter==2.1.2",
        ),
        # What the nearest of them lacks.
        (asked(context(NEW), sdist("3.0rc1")), "Add --pre to take the pre-release 3.0rc1."),
        (
            asked(context(NEW), sdist("2.1.2", yanked="broken")),
            "Name a yanked version exactly to take it: safe-install torch-scatter==2.1.2",
        ),
        (
            asked(
                context(CENTOS),
                wheel("2.1.2", ("2.9.0", "cu128"), tags="cp311-cp311-manylinux_2_28_x86_64"),
            ),
            "Use a system with glibc 2.28 or newer: these wheels need it.",
        ),
        (
            asked(context(MUSL), wheel("2.1.2", ("2.9.0", "cu128"), **ON_311)),
            "Use a system with glibc (Debian, Ubuntu, RHEL): these wheels are built on it.",
        ),
        (
            asked(
                context(NEW),
                wheel("2.1.2", ("2.9.0", "cu128"), tags="cp310-cp310-linux_x86_64"),
                wheel("2.1.2", ("2.9.0", "cu128"), tags="cp39-cp39-linux_x86_64"),
                wheel("2.1.2", ("2.9.0", "cu128"), tags="cp312-cp312-win_amd64"),
            ),
            "Use Python 3.10 or 3.9: the wheels for this torch are for these.",
        ),
        (
            asked(context(NEW), wheel("2.1.2", ("2.9.0", "cu126"), **ON_311), answers=[LEFT_OUT]),
            "Install another build of torch 2.9.1: there are wheels for cu126.",
        ),
        (
            asked(context(NEW), wheel("2.1.2", ("2.9.0", "cu128", False), **ON_311)),
            "Install a torch with the C++11 ABI off, or build from source against the one that is "
            "there.",
        ),
        (
            asked(
                context(NEW),
                wheel("2.1.2", ("2.8.0", "cu128"), **ON_311),
                wheel("2.1.2", ("2.10.0", "cu128"), **ON_311),
            ),
            "Install torch 2.10.0 or 2.8.0: torch-scatter has wheels for it.",
        ),
        (
            asked(
                context(WINDOWS), wheel("2.1.2", ("2.9.0", "cu128"), **ON_311), answers=[LEFT_OUT]
            ),
            "Ask other builders too: --third-party github.com/somebody/wheels.",
        ),
        (
            asked(context(WINDOWS), wheel("2.1.2", ("2.9.0", "cu128"), **ON_311)),
            "Use linux_x86_64: there is no wheel for win_amd64.",
        ),
        (
            asked(context(NEW, "torchtext", "==0.15.*,==0.15.1"), answers=[OFFLINE]),
            "Permit another torch with --allow-torch-change: torchtext 0.15.1 belongs to torch "
            "2.0.0.",
        ),
        # The exact version counts, and not the one that only bounds it.
        (
            asked(context(NEW, "torchtext", ">=0.14.0,==0.15.1"), answers=[OFFLINE]),
            "Permit another torch with --allow-torch-change: torchtext 0.15.1 belongs to torch "
            "2.0.0.",
        ),
        (
            asked(
                context(with_gpu(NEW, "8.0"), "flash-attn-3"),
                wheel("3.0.0", ("2.9.0", "cu128"), project="flash-attn-3", **ON_311),
            ),
            "Use a version whose wheels have code for this GPU, or build it from source for it "
            "(TORCH_CUDA_ARCH_LIST).",
        ),
        # Nothing is known that the driver could have been held against.
        (
            asked(context(with_driver(CUDA_13, "535.104")), answers=[OFFLINE]),
            "Use driver 580.65.06 or newer, or a torch for an older CUDA, such as 2.9.1+cu129, "
            "which runs with driver 535.104.",
        ),
        (
            asked(context(CPU, "flash-attn"), sdist("2.8.3", project="flash-attn"), answers=[DOWN]),
            "Choose a torch for CUDA (--accelerator cu132 torch), or leave flash-attn out: it has "
            "code for CUDA only, and torch 2.13.0+cpu is a build for the CPU.",
        ),
        (
            # a driver for CUDA 12, which runs each 12.x
            asked(
                context(with_driver(CPU, "535.104.05", declared=False), "flash-attn"),
                sdist("2.8.3", project="flash-attn"),
            ),
            "Choose a torch for CUDA (--accelerator cu129 torch), or leave flash-attn out: it has "
            "code for CUDA only, and torch 2.13.0+cpu is a build for the CPU.",
        ),
        (
            asked(
                context(NEW),
                wheel("2.1.2", ("2.9.0", "cu128"), tags="cp311-cp311-musllinux_1_2_x86_64"),
            ),
            "See what another torch would get: safe-install explain torch-scatter --torch "
            "X.Y.Z+cuNNN",
        ),
        (
            asked(context(NEW)),
            "See what another torch would get: safe-install explain torch-scatter --torch "
            "X.Y.Z+cuNNN",
        ),
    ],
)
def test_hint(one, hint):
    assert choose_hint([one]) == hint


@pytest.mark.parametrize(
    ("judged_by", "settled"),
    [
        (context(NEW, "torchvision", "==0.20.0"), True),
        (context(NEW, "torchvision", "==0.24.1"), False),
        (context(NEW, "torchvision", ">=0.20.0"), False),
        (context(NEW, "torchvision", "==0.20.*"), False),
        (context(NEW, "torchvision", "==99.0"), False),
        (context(NEW, "torch-scatter", "==2.0.8"), False),
        (context(with_driver(CUDA_13, "535.104")), True),
        (context(with_driver(CUDA_13, "580.65.06")), False),
        (context(with_driver(CUDA_13, "535.104", declared=False)), False),
        (context(with_driver(CUDA_13, "535.104"), "bitsandbytes"), False),
    ],
)
def test_what_no_host_could_change(judged_by, settled):
    assert is_settled(judged_by) is settled
    hint = choose_hint([Asked(judged_by, answers=(DOWN,))])
    if settled:
        assert hint and not hint.startswith("Try again when")


@pytest.mark.parametrize("advice", [*hints._WHERE_NO_HOST_HELPS, *hints._ADVICES])
@pytest.mark.parametrize("environment", [NEW, dataclasses.replace(NEW, torch=None)])
def test_an_advice_is_silent_where_it_does_not_help(advice, environment):
    for specifier in ("", ">=2.0", "==99.0"):
        assert advice(Asked(context(environment, specifier=specifier))) == ""


@pytest.mark.parametrize(
    ("environment", "project", "version"),
    [
        (OLD, "torchaudio", "0.8.1"),
        (OLD, "torchvision", "0.9.1"),
        (NEW, "torchvision", "0.24.1"),
        (NEW, "torch-scatter", None),
        (dataclasses.replace(NEW, torch=None), "torchvision", None),
    ],
)
def test_companion_of_a_torch(environment, project, version):
    assert companion_version(context(environment, project)) == version


@pytest.mark.parametrize(
    ("torch", "driver", "preferred", "other"),
    [
        ("2.5.1+cu124", "470.82", (), "2.5.1+cu118"),
        ("2.9.1+cu130", "535.104", ("cu126",), "2.9.1+cu126"),
        ("2.9.1+cu130", "535.104", ("cu132",), "2.9.1+cu129"),
        ("2.15.0+cu132", "535.104", (), "2.14.1+cu126"),
        ("2.9.1+cu130", "100.0", (), None),
    ],
)
def test_torch_that_runs_with_a_driver(torch, driver, preferred, other):
    environment = environment_for(torch=torch, python_version="3.11", platform="linux_x86_64")
    environment = with_driver(environment, driver)
    assert torch_for_driver(context(environment), preferred=preferred) == other


def test_the_project_that_is_settled_speaks_first():
    """The other one waits for a host, which would not help."""
    waiting = asked(context(NEW), answers=[DOWN])
    settled = asked(context(NEW, "torchvision", "==0.20.0"), answers=[DOWN])
    assert "torchvision==0.24.1" in choose_hint([waiting, settled])


def test_the_second_project_is_heard_where_the_first_has_nothing_to_say():
    silent = asked(context(NEW))
    waiting = asked(context(NEW, "pyg-lib"), answers=[DOWN])
    assert choose_hint([silent, waiting]) == choose_hint([waiting])


def test_every_hint_names_its_remedy_in_one_sentence():
    for parameters in test_hint.pytestmark[0].args[1]:
        text = parameters[1]
        assert text[0].isupper()
        assert text.endswith(".") or "safe-install" in text.rpartition(":")[2]
        assert "\n" not in text


def test_without_a_torch_or_a_version_of_the_driver_no_other_torch_is_named():
    driver = Driver("535.104", None)
    assert torch_for_driver(context(dataclasses.replace(NEW, torch=None, driver=driver))) is None
    assert torch_for_driver(context(dataclasses.replace(NEW, driver=Driver(None, "12.2")))) is None


@pytest.mark.parametrize(
    ("is_coming", "command"),
    [
        # alone it brings no such torch
        (True, "safe-install torch==2.9.1+cu128 torchvision==0.24.1"),
        (False, "safe-install torchvision==0.24.1"),
    ],
)
def test_the_offered_command_names_a_torch_that_is_still_to_come(is_coming, command):
    here = make_environment(torch="2.9.1+cu128")
    if is_coming:
        plan = Plan((Step(Action.REPLACE, "torch", "2.9.1+cu128", from_version="2.8.0"),))
        here = dataclasses.replace(here, installed=planned_distributions(plan, here))
    hint = choose_hint([asked(context(here, "torchvision", "==0.20.0"))])
    assert hint == f"Ask for the version that belongs to torch 2.9.1: {command}"

"""Which toolkit is taken, why not each other one, and what to install: tables."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from safe_install.models import TorchBuild
from safe_install.wheels.toolkit_choice import (
    CACHE,
    CONDA,
    CUDA_HOME,
    CUDA_PATH,
    ENVIRONMENT,
    NVCC_ON_PATH,
    REQUIRED_HEADERS,
    SYSTEM,
    NvccFolders,
    Toolkit,
    Unusable,
    check_one_release,
    complete_place,
    describe_rejection,
    find_planned_headers,
    list_obtainable,
    parse_architectures_of_nvcc,
    parse_newest_gcc,
    parse_nvcc_folders,
    parse_release,
    render_header_commands,
    render_toolkit_commands,
    select_toolkit,
)
from tests.factories import make_distribution, make_environment, make_interpreter

ALL = tuple(header.path for header in REQUIRED_HEADERS)
BRING = ("cuda-toolkit[nvcc]==13.0.2",)


def kit(version, origin=SYSTEM, home=None, **fields):
    return Toolkit(Path(home or f"/usr/local/cuda-{version}"), version, origin=origin, **fields)


@pytest.mark.parametrize(
    ("cuda", "places", "home"),
    [
        pytest.param("13.0", [kit("13.0")], "/usr/local/cuda-13.0", id="the only one"),
        pytest.param(
            "12.4", [kit("12.8"), kit("12.4")], "/usr/local/cuda-12.4", id="torch's own minor first"
        ),
        pytest.param(
            "12.4",
            [kit("12.8"), kit("12.6")],
            "/usr/local/cuda-12.8",
            id="else in the order of the places",
        ),
        pytest.param(
            "12.4",
            [kit("13.0"), kit("11.8"), kit("12.1")],
            "/usr/local/cuda-12.1",
            id="the right major",
        ),
        pytest.param(
            "12.4",
            [kit("12.1", CUDA_HOME, "/mine"), kit("12.4")],
            "/mine",
            id="the named one before torch's own minor",
        ),
        pytest.param(
            "12.4", [kit("12.1", CUDA_PATH, "/mine"), kit("12.4")], "/mine", id="named by CUDA_PATH"
        ),
        pytest.param(
            "12.4",
            [kit("11.8", CUDA_HOME, "/mine"), kit("12.4")],
            "/usr/local/cuda-12.4",
            id="the named one is of another major",
        ),
        pytest.param(
            "13.0",
            [kit("13.0", NVCC_ON_PATH, "/half", missing=("cusparse.h",)), kit("13.2")],
            "/usr/local/cuda-13.2",
            id="a half one loses against a whole one of another minor",
        ),
        pytest.param(
            "13.0",
            [kit("13.0", NVCC_ON_PATH, "/half", completed=("cusparse.h",)), kit("13.2")],
            "/half",
            id="a completed one is whole",
        ),
        pytest.param(
            "13.0",
            [kit("13.0", CONDA, "/conda"), kit("13.0", CACHE, "/cache")],
            "/conda",
            id="what is installed before the cache",
        ),
        pytest.param(
            "13.0",
            [Unusable(CUDA_HOME, Path("/gone"), "no such folder"), kit("13.0", CACHE, "/cache")],
            "/cache",
            id="what was brought before",
        ),
    ],
)
def test_the_toolkit_that_is_taken(cuda, places, home):
    choice = select_toolkit(cuda, places, obtainable=BRING)
    assert choice.toolkit is not None
    assert choice.toolkit.home == Path(home)
    assert choice.requirements == ()


def test_a_toolkit_that_compiles_for_the_gpu_is_preferred():
    old = kit("12.4", architectures=("80", "90"))
    new = kit("12.8", architectures=("80", "90", "120"))
    assert select_toolkit("12.4", [old, new], architectures=["80"]).toolkit == old
    assert select_toolkit("12.4", [old, new], architectures=["80", "120"]).toolkit == new
    # the caller says why not
    assert select_toolkit("12.4", [old], architectures=["120"]).toolkit == old


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (kit("12.4", CUDA_HOME, "/opt/a"), "/opt/a (CUDA_HOME): CUDA 12.4, torch needs CUDA 13"),
        (kit("13.0", missing=("cusparse.h", "cusolverDn.h")),
         "/usr/local/cuda-13.0 (the system): CUDA 13.0 without cusparse.h, cusolverDn.h"),
        (Unusable(CONDA, Path("/c"), "headers, and no nvcc"), "/c (conda): headers, and no nvcc"),
    ],
)  # fmt: skip
def test_each_rejected_place_is_named_with_the_reason(place, reason):
    choice = select_toolkit("13.0", [place], obtainable=BRING)
    assert [describe_rejection(rejected) for rejected in choice.rejected] == [reason]
    assert choice.toolkit is None
    assert choice.requirements == BRING
    assert select_toolkit("13.0", [place]).requirements == ()


@pytest.mark.parametrize(
    ("torch", "installed", "headers", "requirements"),
    [
        pytest.param("2.14.1+cu130", {"cuda-toolkit": "13.0.3.0"}, ALL,
                     "cuda-toolkit[cccl,crt,cudart,nvcc,nvvm]==13.0.3.0", id="the release that torch requires"),
        pytest.param("2.9.1+cu130", {}, ALL, "cuda-toolkit[cccl,crt,cudart,nvcc,nvvm]==13.0.*", id="torch's minor"),
        pytest.param("2.15.0+cu132", {"cuda-toolkit": "13.0.2"}, ALL,
                     "cuda-toolkit[cccl,crt,cudart,nvcc,nvvm]==13.2.*", id="somebody else's release"),
        pytest.param("2.14.1+cu130", {}, ("cublas_v2.h",),
                     "cuda-toolkit[cccl,crt,cudart,cusolver,cusparse,nvcc,nvvm]==13.0.*", id="missing headers"),
        pytest.param("2.9.1+cu128", {}, ALL, None, id="CUDA 12 has no nvcc there"),
        pytest.param("1.13.1+cu117", {}, ALL, None, id="CUDA 11 neither"),
        pytest.param("2.14.1+cpu", {}, ALL, None, id="a CPU torch"),
    ],
)  # fmt: skip
def test_what_the_package_index_can_give(torch, installed, headers, requirements):
    packages = [make_distribution(name, version) for name, version in installed.items()]
    environment = make_environment(*packages, torch=torch)
    assert list_obtainable(environment, headers=headers) == (
        (requirements,) if requirements else ()
    )
    elsewhere = dataclasses.replace(
        environment, interpreter=make_interpreter(platform="macosx_14_0_arm64")
    )
    assert list_obtainable(elsewhere, headers=headers) == ()


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({}, ""),
        ({"nvidia-cuda-nvcc": "13.0.88", "nvidia-cuda-crt": "13.0.48"}, ""),
        (
            {"nvidia-cuda-nvcc": "13.0.88", "nvidia-nvvm": "13.5.37"},
            "of several releases: nvidia-cuda-nvcc 13.0.88, nvidia-nvvm 13.5.37",
        ),
    ],
)
def test_compiler_packages_of_several_releases_do_not_work_together(versions, reason):
    assert check_one_release(versions) == reason


# The commands below were read in NVIDIA's documents (apt, runfile) and on anaconda.org (labels).
@pytest.mark.parametrize(
    ("cuda", "lines"),
    [
        (
            "12.8",
            (
                "apt-get install cuda-nvcc-12-8 cuda-libraries-dev-12-8",
                "conda install -c nvidia/label/cuda-12.8.1 cuda-nvcc cuda-libraries-dev",
                "https://developer.download.nvidia.com/compute/cuda/12.8.1/local_installers/cuda_12.8.1_570.124.06_linux.run",
            ),
        ),
        (
            "11.7",
            (
                "apt-get install cuda-nvcc-11-7 cuda-libraries-dev-11-7",
                "conda install -c nvidia/label/cuda-11.7.1 cuda-nvcc cuda-libraries-dev",
                "https://developer.download.nvidia.com/compute/cuda/11.7.1/local_installers/cuda_11.7.1_515.65.01_linux.run",
            ),
        ),
        (
            "10.2",  # no conda package has nvcc
            (
                "apt-get install cuda-nvcc-10-2 cuda-libraries-dev-10-2",
                "https://developer.download.nvidia.com/compute/cuda/10.2/Prod/local_installers/cuda_10.2.89_440.33.01_linux.run",
            ),
        ),
        (
            "13.9",
            (
                "cuda-nvcc-13-9 cuda-libraries-dev-13-9",
                "https://developer.nvidia.com/cuda-toolkit-archive",
            ),
        ),
    ],
)
def test_a_toolkit_is_installed_by_one_of_these(cuda, lines):
    rendered = render_toolkit_commands(cuda).splitlines()
    assert len(rendered) == len(lines)
    assert all(line in text for line, text in zip(lines, rendered))


@pytest.mark.parametrize(
    ("cuda", "missing", "lines"),
    [
        (
            "13.0",
            ("cusparse.h", "cusolverDn.h"),
            (
                "apt-get install libcusparse-dev-13-0 libcusolver-dev-13-0",
                "conda install -c nvidia/label/cuda-13.0.2 libcusparse-dev libcusolver-dev",
                "nvidia-cusparse nvidia-cusolver",
            ),
        ),
        (
            "12.4",
            ("cublas_v2.h",),
            ("libcublas-dev-12-4", "nvidia/label/cuda-12.4.1 libcublas-dev", "nvidia-cublas-cu12"),
        ),
        ("10.2", ("cusparse.h",), ("cuda-libraries-dev-10-2",)),
    ],
)
def test_a_missing_header_is_in_one_of_these(cuda, missing, lines):
    rendered = render_header_commands(cuda, missing).splitlines()
    assert len(rendered) == len(lines)
    assert all(line in text for line, text in zip(lines, rendered))


# As nvcc 13.0 of a runfile printed it behind the wrapper /usr/local/bin/nvcc.
NVCC_V = """\
#$ _NVVM_BRANCH_=nvvm
#$ _SPACE_=\x20
#$ _HERE_=/usr/local/cuda-13.0/bin
#$ _TARGET_DIR_=targets/x86_64-linux
#$ TOP=/usr/local/cuda-13.0/bin/..
#$ CICC_PATH=/usr/local/cuda-13.0/bin/../nvvm/bin
#$ INCLUDES="-I/usr/local/cuda-13.0/bin/../targets/x86_64-linux/include"\x20\x20
#$ SYSTEM_INCLUDES="-isystem" "/usr/local/cuda-13.0/bin/../targets/x86_64-linux/include/cccl"\x20\x20
#$ LIBRARIES=  "-L/cuda/targets/x86_64-linux/lib/stubs" "-L/cuda/targets/x86_64-linux/lib"
nvcc fatal   : Don't know what to do with '__x'
"""


def test_what_nvcc_says_of_its_folders():
    assert parse_nvcc_folders(NVCC_V) == NvccFolders(
        top=Path("/usr/local/cuda-13.0/bin/.."),
        programs=Path("/usr/local/cuda-13.0/bin"),
        includes=(Path("/usr/local/cuda-13.0/bin/../targets/x86_64-linux/include"),),
        libraries=(Path("/cuda/targets/x86_64-linux/lib"),),
        cicc=Path("/usr/local/cuda-13.0/bin/../nvvm/bin"),
    )
    assert parse_nvcc_folders("sh: exec: not found") is None


@pytest.mark.parametrize(
    ("text", "newest"),
    [
        (
            "#error -- unsupported GNU version! gcc versions later than 15 are not supported! The "
            "nvcc flag",
            15,
        ),
        ("#error -- unsupported GNU version! gcc versions later than 8 are not supported!", 8),
        ("#if defined(__ICC)", None),
    ],
)
def test_the_newest_gcc_of_a_toolkit(text, newest):
    assert parse_newest_gcc(text) == newest


def test_what_nvcc_says_of_itself():
    assert (
        parse_release("Cuda compilation tools, release 13.0, V13.0.88\nBuild cuda_13.0.r13.0")
        == "13.0"
    )
    assert parse_release("ccache: error") is None
    assert parse_architectures_of_nvcc("compute_75\ncompute_120\n") == ("75", "120")


def test_the_environment_is_a_place_like_the_others():
    place = kit("13.0", ENVIRONMENT, "/env/lib/python3.11/site-packages/nvidia/cu13")
    assert select_toolkit("13.0", [place], obtainable=BRING).toolkit == place


@pytest.mark.parametrize(
    ("cuda", "folder", "installed", "headers"),
    [
        ("13.0", None, ["nvidia-cublas", "nvidia-cusparse"], ("cublas_v2.h", "cusparse.h")),
        ("12.8", None, ["nvidia-cublas-cu12", "nvidia-cusparse"], ("cublas_v2.h",)),
        # it lies somewhere: its packages are looked at
        ("13.0", Path("/env/torch"), ["nvidia-cublas"], ()),
        (None, None, ["nvidia-cublas"], ()),
    ],
)
def test_headers_that_come_with_a_planned_torch(cuda, folder, installed, headers):
    torch = TorchBuild(Version("2.14.1"), "2.14.1", "cu130", cuda=cuda, folder=folder)
    environment = replace(
        make_environment(*(make_distribution(name, "1") for name in installed)), torch=torch
    )
    assert find_planned_headers(environment) == headers


def test_a_toolkit_lacks_nothing_that_the_planned_packages_have():
    half = kit("13.0", missing=("cusparse.h", "cublas_v2.h"))
    assert complete_place(half, ("cusparse.h",)) == replace(half, missing=("cublas_v2.h",))
    system = kit("13.0", SYSTEM, "/usr", missing=("cusparse.h",))
    assert complete_place(system, ("cusparse.h",)) == system
    unusable = Unusable(CONDA, Path("/c"), "headers, and no nvcc")
    assert complete_place(unusable, ("cusparse.h",)) == unusable

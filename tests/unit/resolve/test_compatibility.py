from __future__ import annotations

import dataclasses

import pytest
from packaging.specifiers import SpecifierSet
from packaging.tags import parse_tag
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog, load_project
from safe_install.index.pages import YANKED_WITHOUT_REASON
from safe_install.models import BuiltFor, Candidate, CandidateKind, Driver, Link, Rejection, Rule
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.ranking import explain_loser, order_rejections, rank_fitting
from tests.factories import environment_for

CUDA = environment_for(torch="1.8.1+cu111", python_version="3.8", platform="manylinux_2_31_x86_64")
CPU = environment_for(torch="2.13.0+cpu", python_version="3.11", platform="manylinux_2_36_x86_64")


def wheel(
    version, built_for, *, tags="cp38-cp38-linux_x86_64", project="torch-scatter", kind=None, **link
):
    filename = f"{project.replace('-', '_')}-{version}-{tags}.whl"
    values = {"url": f"https://data.pyg.org/whl/{filename}", "filename": filename, **link}
    return Candidate(
        name=project,
        version=Version(version),
        kind=kind or CandidateKind.WHEEL,
        link=Link(**values),
        tags=frozenset(parse_tag(tags)),
        built_for=BuiltFor(*built_for),
    )


def sdist(version, project="torch-scatter", **link):
    filename = f"{project.replace('-', '_')}-{version}.tar.gz"
    return Candidate(
        name=project,
        version=Version(version),
        kind=CandidateKind.SDIST,
        link=Link(f"https://files.pythonhosted.org/{filename}", filename, **link),
    )


def context(environment=CUDA, project="torch-scatter", specifier="", **fields):
    return Context(
        load_project(project), environment, bundled_catalog(), SpecifierSet(specifier), **fields
    )


def requiring(candidate, *requirements):
    return dataclasses.replace(candidate, requires=requirements)


def with_torch(environment, **fields):
    return dataclasses.replace(environment, torch=dataclasses.replace(environment.torch, **fields))


FITS = wheel("2.0.8", ("1.8.0", "cu111"))
NO_TORCH = dataclasses.replace(CUDA, torch=None)
MUSL = environment_for(torch="1.8.1+cu111", python_version="3.8", platform="musllinux_1_2_x86_64")
OLD_DRIVER = dataclasses.replace(CPU, driver=Driver("470.82.01", "11.4", declared=True))
CONTAINER = environment_for(
    torch="2.11.0a0+a6c236b9fd.nv26.02.46836102",
    python_version="3.12",
    platform="manylinux_2_39_x86_64",
)
RELEASE = environment_for(
    torch="2.11.0+cu130", python_version="3.12", platform="manylinux_2_39_x86_64"
)
CONV = {"project": "causal-conv1d", "tags": "cp312-cp312-linux_x86_64"}
VISION = {"project": "torchvision", "tags": "cp311-cp311-manylinux_2_28_x86_64"}


@pytest.mark.parametrize(
    ("candidate", "judged_by", "rule"),
    [
        # Code for CUDA only: nothing comes of a build beside a CPU torch.
        (sdist("2.8.3", project="flash-attn"), context(CPU, "flash-attn"), "no-build"),
        (sdist("2.8.3", project="flash-attn"), context(RELEASE, "flash-attn"), None),
        (sdist("2.1.2"), context(CPU), None),
        (FITS, context(), None),
        (FITS, context(specifier="==2.0.8"), None),
        (FITS, context(specifier=">=2.1"), "specifier"),
        (wheel("2.1.0+pt18cu111", ("1.8.0", "cu111")), context(specifier="==2.1.0"), None),
        (
            wheel("2.1.0+pt18cu111", ("1.8.0", "cu111")),
            context(specifier="==2.1.0+pt18cpu"),
            "specifier",
        ),
        (wheel("2.1.0rc1", ("1.8.0", "cu111")), context(), "pre-release"),
        (wheel("2.1.0rc1", ("1.8.0", "cu111")), context(pre=True), None),
        (wheel("2.1.0rc1", ("1.8.0", "cu111")), context(specifier=">=2.1.0rc1"), None),
        (wheel("2.0.8", ("1.8.0", "cu111"), yanked="broken"), context(), "yanked"),
        (wheel("2.0.8", ("1.8.0", "cu111"), yanked="broken"), context(specifier="==2.0.8"), None),
        # torch
        (wheel("2.0.8", ("1.8", "cu111")), context(), None),
        (wheel("2.0.8", ("1.80.0", "cu111")), context(), "torch-version"),
        (wheel("2.0.9", ("1.9.0", "cu111")), context(), "torch-version"),
        (wheel("2.0.9", (None, "cu111")), context(), "torch-version"),
        (FITS, context(NO_TORCH), "torch-version"),
        (FITS, context(with_torch(CUDA, runtime_version="1.8.0a0+nv21.2")), "torch-version"),
        (FITS, context(with_torch(CUDA, runtime_version="vendor build")), None),
        (
            FITS,
            context(with_torch(CUDA, runtime_version="1.8.0.dev20210301+cu111")),
            "torch-version",
        ),
        (wheel("2.0.8", ("eight", "cu111")), context(), "torch-version"),
        (wheel("2.0.8", (">=eight", "cu111")), context(), "torch-version"),
        (requiring(wheel("2.0.8", (None, "cu111")), "torch==1.8.1"), context(), None),
        (requiring(wheel("2.0.8", (None, "cu111")), "torch==1.9.0"), context(), "torch-version"),
        (
            requiring(wheel("2.0.8", (None, "cu111")), "(damaged", "numpy", "torch"),
            context(),
            "torch-version",
        ),
        # accelerator
        (wheel("2.0.8", ("1.8.0", "cpu")), context(), "accelerator"),
        (wheel("2.0.8", ("1.8.0", "cu102")), context(), "accelerator"),
        (wheel("2.0.8", ("1.8.0", "cu110")), context(), "accelerator"),
        (wheel("2.0.8", ("1.8.0", "cu11")), context(), None),
        (wheel("2.0.8", ("1.8.0", "cu10")), context(), "accelerator"),
        (wheel("2.0.8", ("1.8.0", None)), context(), "accelerator"),
        (FITS, context(with_torch(CUDA, accelerator="cpu")), "accelerator"),
        (FITS, context(with_torch(CUDA, accelerator="")), "accelerator"),
        (
            wheel("2.0.9", ("1.10.0", "cu113")),
            context(with_torch(CUDA, runtime_version="1.10.1+cu111")),
            None,
        ),
        # C++ ABI
        (FITS, context(with_torch(CUDA, cxx11_abi=True)), "cxx11-abi"),
        (FITS, context(with_torch(CUDA, cxx11_abi=None)), None),
        (wheel("2.0.8", ("1.8.0", "cu111", True)), context(), "cxx11-abi"),
        (wheel("2.0.8", ("1.8.0", "cu111", False)), context(), None),
        # the machine
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp39-cp39-linux_x86_64"), context(), "python"),
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp39-abi3-linux_x86_64"), context(), "python"),
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp37-abi3-linux_x86_64"), context(), None),
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp38-cp38-win_amd64"), context(), "platform"),
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp38-cp38-linux_aarch64"), context(), "platform"),
        (wheel("2.0.8", ("1.8.0", "cu111"), tags="cp38-cp38-linux_s390x"), context(), "platform"),
        (
            wheel("2.0.8", ("1.8.0", "cu111"), tags="cp38-cp38-manylinux_2_34_x86_64"),
            context(),
            "libc",
        ),
        (
            wheel("2.0.8", ("1.8.0", "cu111"), tags="cp38-cp38-manylinux_2_28_x86_64"),
            context(),
            None,
        ),
        (FITS, context(MUSL), "libc"),
        (wheel("2.0.8", ("1.8.0", "cu111"), requires_python=">=3.9"), context(), "python"),
        (wheel("2.0.8", ("1.8.0", "cu111"), requires_python="nonsense"), context(), None),
        # source distributions
        (sdist("2.1.2"), context(), None),
        (sdist("2.1.2", requires_python=">=3.9"), context(), "python"),
        (sdist("2.1.2"), context(allow_build=False), "no-build"),
        (sdist("0.1.6", project="torchvision"), context(CPU, "torchvision"), "no-build"),
        # companions of torch
        (wheel("0.28.0+cpu", ("2.13.0", "cpu"), **VISION), context(CPU, "torchvision"), None),
        (
            wheel("0.28.0", ("2.13.0", "cu130"), **VISION),
            context(CPU, "torchvision"),
            "accelerator",
        ),
        (
            wheel("0.27.1+cpu", ("2.12.1", "cpu"), **VISION),
            context(CPU, "torchvision"),
            "torch-version",
        ),
        (
            wheel("0.29.2+cpu", (">=2.14.0", "cpu"), **VISION),
            context(CPU, "torchvision"),
            "torch-version",
        ),
        (
            wheel("0.29.2+cpu", (">=2.14.0", "cpu"), **VISION),
            context(with_torch(CPU, runtime_version="2.15.0+cpu"), "torchvision"),
            None,
        ),
        # driver
        (
            FITS,
            context(dataclasses.replace(CUDA, driver=Driver("450.80.02", "11.0", declared=True))),
            None,
        ),
        (
            FITS,
            context(dataclasses.replace(CUDA, driver=Driver("440.33", "10.2", declared=True))),
            "driver",
        ),
        (FITS, context(dataclasses.replace(CUDA, driver=Driver("440.33", "10.2"))), None),
        (
            wheel("0.28.0+cpu", ("2.13.0", "cpu"), **VISION),
            context(OLD_DRIVER, "torchvision"),
            None,
        ),
        # What is built is built for torch's CUDA, and runs where torch runs.
        (
            sdist("2.1.2"),
            context(dataclasses.replace(CUDA, driver=Driver("440.33", "10.2", declared=True))),
            "driver",
        ),
        (sdist("2.1.2"), context(dataclasses.replace(CUDA, driver=Driver("440.33", "10.2"))), None),
        (
            sdist("2.1.2"),
            context(dataclasses.replace(CUDA, driver=Driver("450.80.02", "11.0", declared=True))),
            None,
        ),
        (
            sdist("2.1.2"),
            context(dataclasses.replace(CUDA, driver=Driver(None, "10.2", declared=True))),
            "driver",
        ),
        (
            sdist("2.1.2"),
            context(dataclasses.replace(CUDA, driver=Driver(None, "11.0", declared=True))),
            None,
        ),
        (
            FITS,
            context(dataclasses.replace(CUDA, driver=Driver(None, "10.2", declared=True))),
            "driver",
        ),
        # As far as it is written: "450" stands for every 450.x.
        (
            FITS,
            context(dataclasses.replace(CUDA, driver=Driver("450", "11.0", declared=True))),
            None,
        ),
        (
            FITS,
            context(dataclasses.replace(CUDA, driver=Driver("449", "10.2", declared=True))),
            "driver",
        ),
        (sdist("2.1.2"), context(OLD_DRIVER), None),  # a build for the CPU
        (
            sdist("2.1.2"),
            context(
                dataclasses.replace(CUDA, driver=Driver("440.33", "10.2", declared=True)),
                allow_build=False,
            ),
            "driver",
        ),
        # NVIDIA's containers
        (
            wheel("1.6.1+cu13torch26.02cxx11abitrue", ("nv26.02", "cu13", True), **CONV),
            context(CONTAINER, "causal-conv1d"),
            None,
        ),
        (
            wheel("1.6.1", ("nv26.01", "cu13", True), **CONV),
            context(CONTAINER, "causal-conv1d"),
            "torch-version",
        ),
        (
            wheel("1.6.1", ("2.11", "cu13", True), **CONV),
            context(CONTAINER, "causal-conv1d"),
            "torch-version",
        ),
        (
            wheel("1.6.1", ("nv26.02", "cu13", True), **CONV),
            context(RELEASE, "causal-conv1d"),
            "torch-version",
        ),
        (wheel("1.6.1", ("2.11", "cu13", True), **CONV), context(RELEASE, "causal-conv1d"), None),
        (sdist("1.7.0", "causal-conv1d"), context(CONTAINER, "causal-conv1d"), None),
        (
            wheel("1.7.0", ("2.11.0a0", "cu13", True), kind=CandidateKind.BUILT, **CONV),
            context(CONTAINER, "causal-conv1d"),
            None,
        ),
        # hosts
        (
            wheel("2.0.8", ("1.8.0", "cu111"), found_in="bundled facts"),
            context(hosts_down=frozenset({"data.pyg.org"})),
            "host-down",
        ),
        (FITS, context(hosts_down=frozenset({"data.pyg.org"})), None),
    ],
)
def test_rules(candidate, judged_by, rule):
    rejection = check_candidate(candidate, judged_by)
    assert (rejection.rule.value if rejection else None) == rule
    if rejection:
        assert rejection.detail


ASTRAL = "https://wheels.astral.sh/artifacts/x.whl"


@pytest.mark.parametrize(
    ("better", "worse", "rule"),
    [
        (wheel("2.0.8", ("1.8.0", "cu111")), wheel("2.0.7", ("1.8.0", "cu111")), "older-version"),
        (wheel("2.0.8", ("1.8.0", "cu111")), sdist("2.1.2"), "sdist-behind-wheel"),
        (
            wheel("2.0.8+pt18cu111", ("1.8.0", "cu111")),
            wheel("2.0.8", ("1.8.0", "cu11"), url="https://data.pyg.org/2"),
            "later-host",
        ),
        (
            wheel("2.0.9", ("1.8.0", "cu11")),
            wheel("2.0.8", ("1.8.0", "cu111"), url="https://data.pyg.org/2"),
            "older-version",
        ),
        (
            wheel("2.0.8", ("1.8.0", "cu111")),
            wheel("2.0.8+cu.11.1.torch.1.8", ("1.8", "cu111"), url=ASTRAL, sha256="a" * 64),
            "later-host",
        ),
        (
            wheel("2.0.8", ("1.8.0", "cu111"), sha256="a" * 64),
            wheel("2.0.8", ("1.8.0", "cu111"), url="https://data.pyg.org/2"),
            "later-host",
        ),
        (
            wheel("2.0.8", ("1.8.0", "cu111"), kind=CandidateKind.BUILT, url="file:///store/x.whl"),
            wheel("2.0.8", ("1.8.0", "cu111")),
            "later-host",
        ),
        (sdist("2.1.2"), sdist("2.1.1"), "older-version"),
    ],
)
def test_order_of_those_that_fit(better, worse, rule):
    judged_by = context()
    assert rank_fitting([worse, better], judged_by) == [better, worse]
    assert rank_fitting([better, worse], judged_by) == [better, worse]
    assert explain_loser(worse, better, judged_by).rule.value == rule


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("broken", "withdrawn by its publisher: broken"),
        (YANKED_WITHOUT_REASON, "withdrawn by its publisher"),
    ],
)
def test_the_reason_of_a_yanked_file_does_not_repeat_the_rule(reason, said):
    yanked = wheel("2.0.8", ("1.8.0", "cu111"), yanked=reason)
    rejection = check_candidate(yanked, context())
    assert rejection is not None
    assert (rejection.rule, rejection.detail) == (Rule.YANKED, said)


def test_what_is_said_of_a_container():
    other = wheel("1.6.1", ("nv26.01", "cu13", True), **CONV)
    said = {
        check_candidate(other, context(CONTAINER, "causal-conv1d")).detail,
        check_candidate(other, context(RELEASE, "causal-conv1d")).detail,
        check_candidate(
            wheel("1.6.1", ("2.11", "cu13", True), **CONV), context(CONTAINER, "causal-conv1d")
        ).detail,
    }
    assert said == {
        "built for NVIDIA's container 26.01, and not for the torch of NVIDIA's container 26.02",
        "built for NVIDIA's container 26.01, and not for torch 2.11.0+cu130",
        "built for torch 2.11, and not for the torch of NVIDIA's container 26.02",
    }


def test_rejections_stand_nearest_first():
    """This machine and Python, then this minor of torch and this accelerator, then the newest; the
    far ones last."""
    nearest_first = [
        wheel("2.0.9", ("1.8.0", "cu110")),
        wheel("2.0.8", ("1.8.0", "cu110")),
        wheel("2.0.9", ("1.8.0", "cpu")),
        wheel("2.0.9", ("1.9.0", "cu111")),
        wheel("2.0.9", ("2.0.0", "cu111")),
        wheel("2.0.9", ("1.8.0", "cu111"), tags="cp39-cp39-linux_x86_64"),
        wheel("2.0.9", ("1.8.0", "cu111"), tags="cp38-cp38-linux_aarch64"),
        wheel("2.0.9", ("1.8.0", "cu111"), tags="cp39-cp39-linux_aarch64"),
        wheel("2.0.9", ("1.8.0", "cu111"), tags="cp38-cp38-win_amd64"),
        wheel("2.0.9", ("1.8.0", "cpu"), tags="cp39-cp39-macosx_10_15_x86_64"),
    ]
    rejections = [check_candidate(candidate, context()) for candidate in nearest_first]
    assert None not in rejections
    far = [
        Rejection(wheel("2.0.7", ("1.8.0", "cu111")), Rule.OLDER_VERSION, "2.0.8 fits too"),
        Rejection(wheel("3.0", ("1.8.0", "cu111")), Rule.SPECIFIER, "3.0 is not ==2.0.8"),
    ]
    for mixed in (list(reversed(rejections + far)), (rejections + far)[5:] + rejections[:5]):
        assert [r.candidate for r in order_rejections(mixed, CUDA)] == [
            r.candidate for r in rejections + far
        ]


@pytest.mark.parametrize(
    ("machine", "tags", "fits"),
    [
        # What packaging.tags.mac_platforms says of each machine.
        ("macosx_10_9_universal2", "cp310-cp310-macosx_10_9_universal2", True),
        ("macosx_10_9_universal2", "cp310-cp310-macosx_11_0_universal2", False),
        ("macosx_10_9_universal2", "cp310-cp310-macosx_10_9_x86_64", False),
        ("macosx_11_0_arm64", "cp310-cp310-macosx_11_0_arm64", True),
        ("macosx_11_0_arm64", "cp310-cp310-macosx_10_9_universal2", True),
        ("macosx_11_0_arm64", "cp310-cp310-macosx_11_0_universal2", True),
        ("macosx_11_0_arm64", "cp310-cp310-macosx_14_0_universal2", False),
        ("macosx_11_0_arm64", "cp310-cp310-macosx_10_15_x86_64", False),
        ("macosx_14_0_x86_64", "cp310-cp310-macosx_10_15_x86_64", True),
        ("macosx_14_0_x86_64", "cp310-cp310-macosx_14_0_universal2", True),
        ("macosx_14_0_x86_64", "cp310-cp310-macosx_11_0_arm64", False),
    ],
)
def test_macs(machine, tags, fits):
    mac = environment_for(torch="2.4.0", python_version="3.10", platform=machine)
    rejection = check_candidate(wheel("2.1.2", ("2.4.0", "cpu"), tags=tags), context(mac))
    assert (rejection is None) is fits

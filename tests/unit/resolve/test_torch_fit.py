"""Would a torch run with the driver and on the GPUs that were declared, or that are here?"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog, cuda_table, torch_table
from safe_install.models import Action, Device, Driver, Plan, Severity, Step
from safe_install.resolve.torch_fit import (
    check_numpy,
    check_torch,
    note_torch_stays,
    note_unused_cuda,
    toolkit_limits,
    warn_of_unused_gpu,
)
from tests.factories import make_environment, make_interpreter, planned_torch

LINUX = "linux_x86_64"
TOO_OLD, NO_KERNEL = "driver-too-old", "no-kernel-image"


def driver(*capabilities, version=None, cuda=None, declared=True):
    return Driver(version, cuda, tuple(Device("GPU", one) for one in capabilities), declared)


def check(torch, here, **fields):
    return check_torch(
        planned_torch(torch, LINUX),
        here,
        make_interpreter(version="3.11.7"),
        catalog=bundled_catalog(),
        **fields,
    )


@pytest.mark.parametrize(
    ("torch", "name", "version", "is_broken"),
    [
        ("2.2.2+cu121", "numpy", "2.0.0", True),
        ("1.13.1", "numpy", "2.4.6", True),
        ("2.2.2+cu121", "numpy", "1.26.4", False),
        ("2.2.2+cu121", "scipy", "2.0", False),
        ("2.3.0+cu121", "numpy", "2.0.0", False),
        ("2.10.0+cu128", "numpy", "2.4.6", False),
    ],
)
def test_a_numpy_that_torch_was_not_built_for_is_said_in_the_plan(torch, name, version, is_broken):
    plan = Plan((Step(Action.REPLACE, name, version, "1.0"),))
    found = check_numpy(plan, planned_torch(torch, LINUX))
    assert [finding.check for finding in found] == (["breaks-numpy"] if is_broken else [])
    assert check_numpy(plan, None) == ()


# --- too old --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "cuda", "accelerator", "is_too_old"),
    [
        ("535.104.05", "12.2", "cu130", True),
        ("580.65.06", "13.0", "cu130", False),
        ("580.65.05", "12.9", "cu130", True),
        ("580.65", "12.9", "cu130", False),  # as far as it is written
        ("580", "12.9", "cu130", False),
        ("579", "12.9", "cu130", True),
        ("595.45", "13.2", "cu130", False),
        ("535.104", "12.2", "cu128", False),  # minor version compatibility
        ("525.60.13", "12.0", "cu128", False),
        ("525.60.12", "11.8", "cu128", True),
        ("520.61.05", "11.8", "cu121", True),
        ("455.23", "11.1", "cu118", False),
        ("440.33", "10.2", "cu111", True),
        (None, "12.9", "cu130", True),
        (None, "13.0", "cu132", False),
        (None, "13", "cu132", False),
        (None, "12.0", "cu129", False),
        (None, "11.8", "cu121", True),
        (None, "11.0", "cu118", False),
        (None, "10.1", "cu102", True),  # before CUDA 11 each needs its own driver
        (None, None, "cu130", False),
        ("nonsense", None, "cu130", False),
        ("535.104", "12.2", "cpu", False),
        ("535.104", "12.2", "", False),
        ("535.104", "12.2", "rocm6.4", False),
    ],
)
def test_a_driver_that_is_too_old(version, cuda, accelerator, is_too_old):
    assert cuda_table().is_too_old(Driver(version, cuda), accelerator) is is_too_old


@pytest.mark.parametrize(
    ("version", "accelerator", "platform", "known"),
    [
        ("2.8.0", "cu128", LINUX, "7.0, 7.5, 8.0, 8.6, 9.0, 10.0, 12.0"),
        ("2.8.0+cu128", "cu128", LINUX, "7.0, 7.5, 8.0, 8.6, 9.0, 10.0, 12.0"),
        ("2.7.1", "cu128", LINUX, "7.5, 8.0, 8.6, 9.0, 10.0, 12.0, 12.0+PTX"),
        ("2.13.0", "cu126", LINUX, "5.0, 6.0, 7.0, 7.5, 8.0, 8.6, 9.0"),
        ("2.14.1", "cu130", LINUX, "7.5, 8.0, 8.6, 9.0, 10.0, 12.0"),
        ("2.14.1", "cu126", LINUX, None),
        ("2.8.0", "cu128", "linux_aarch64", None),
        ("2.8.0", "cu128", "win_amd64", None),
        ("2.8.0a0", "cu128", LINUX, None),
        ("2.8.0", "cpu", LINUX, None),
    ],
)
def test_what_is_known_of_the_code_in_torch(version, accelerator, platform, known):
    found = torch_table().gpu_code_of(Version(version), accelerator, platform=platform)
    assert (str(found) if found else None) == known


def test_no_build_of_torch_stands_twice_in_the_table():
    for release in torch_table().releases.values():
        for accelerator in {*release.accelerators, release.untagged}:
            rows = [
                row
                for row in torch_table().gpu_code
                if accelerator in row.accelerators and row.versions.contains(release.version)
            ]
            assert len(rows) <= 1, (release.version, accelerator)


# --- what is told ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadCode:
    """What was read in the files of a torch."""

    capabilities: str

    def runs_on(self, device):
        return str(device) in self.capabilities

    def __str__(self):
        return self.capabilities


CASES = {
    "declared, too old": ("2.14.1", driver(version="535.104", cuda="12.2"), [TOO_OLD]),
    "declared, new enough": ("2.14.1", driver(version="580.65.06", cuda="13.0"), []),
    "declared by its CUDA": ("2.14.1", driver(cuda="12.8"), [TOO_OLD]),
    "another build": ("2.14.1+cu126", driver(version="535.104", cuda="12.2"), []),
    "CPU build": ("2.14.1+cpu", driver("6.1", version="535.104", cuda="12.2"), []),
    "no code": ("2.8.0+cu128", driver("6.1"), [NO_KERNEL]),
    "no code for one of two": ("2.8.0+cu128", driver("6.1", "9.0"), [NO_KERNEL]),
    "code": ("2.8.0+cu128", driver("7.0", "8.9", "12.1"), []),
    "code that is not known": ("2.14.1+cu126", driver("5.2"), []),
    "both": ("2.14.1", driver("6.1", version="535.104", cuda="12.2"), [TOO_OLD, NO_KERNEL]),
    "no driver": ("2.14.1", None, []),
}


@pytest.mark.parametrize(("torch", "here", "checks"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("declared", [True, False])
def test_what_speaks_against_a_torch(torch, here, checks, declared):
    if here is not None and not declared:
        here = Driver(here.version, here.cuda, here.devices, declared=False)
    found = check(torch, here)
    assert [one.check for one in found] == checks
    assert {one.severity for one in found} <= {Severity.ERROR if declared else Severity.WARNING}
    assert all(one.hint for one in found)


def test_the_files_know_better_than_the_table():
    assert not check("2.8.0+cu128", driver("6.1"), code=ReadCode("6.1"))
    (found,) = check("2.8.0+cu128", driver("8.0"), code=ReadCode("9.0"))
    assert found.detail == "no kernel image for sm_80, which is declared: torch 2.8.0+cu128 has 9.0"


HINTS = {
    "the same release for another CUDA": (
        "2.9.1",
        driver("6.1"),
        "Take a build that runs there: safe-install torch==2.9.1+cu126",
    ),
    "the newest CUDA that the driver serves": (
        "2.9.1+cu130",
        driver(version="570.86.10", cuda="12.8"),
        "Take a build that runs there: safe-install torch==2.9.1+cu129",
    ),
    "a bare version would be met by what is there": (
        "2.7.1+cu128",
        driver("6.1"),
        "Take a build that runs there: safe-install torch==2.7.1+cu126",
    ),
    "of the package index": (
        "2.5.1+cu124",
        driver("12.0", version="580.65.06", cuda="13.0"),
        "Take a build that runs there: safe-install torch==2.15.0 (it is built for cu132)",
    ),
    "an older release": (
        "2.9.1",
        driver(version="515.43", cuda="11.7"),
        "Take a build that runs there: safe-install torch==2.7.1+cu118",
    ),
    "here": (
        "2.9.1",
        driver(version="515.43", cuda="11.7", declared=False),
        "Take a build that runs here: safe-install torch==2.7.1+cu118",
    ),
    "none": (
        "2.9.1",
        driver(version="300.1", cuda="7.0"),
        "Take the build for the CPU (--accelerator cpu): none for CUDA is known that runs there.",
    ),
}


@pytest.mark.parametrize(("torch", "here", "hint"), HINTS.values(), ids=HINTS.keys())
def test_the_build_that_would_run(torch, here, hint):
    assert check(torch, here)[0].hint == hint


@pytest.mark.parametrize(
    ("torch", "gpu", "detail"),
    [
        ("2.15.0", "7.0", "has no code below 7.5: CUDA 13.2 compiles none"),
        ("2.15.0", "7.5", None),
        ("2.15.0", "12.0", None),
        ("2.14.1+cu126", "12.0", "has no code below 5.0 or beyond 9.0: CUDA 12.6 compiles none"),
        ("2.14.1+cu126", "7.0", None),
        ("2.14.1+cu126", "9.0", None),
        ("2.14.1+cu129", "12.0", None),
        # CUDA 12.0 dropped Kepler
        ("2.14.1+cu126", "3.7", "has no code below 5.0 or beyond 9.0: CUDA 12.6 compiles none"),
        ("2.14.1+cu126", "5.0", None),
        ("2.14.1+cu129", "3.7", "has no code below 5.0: CUDA 12.9 compiles none"),
    ],
)
def test_a_build_whose_code_is_not_known_has_the_limits_of_its_toolkit(torch, gpu, detail):
    found = check(torch, driver(gpu, version="595.45.04", cuda="13.2"))
    assert [finding.check for finding in found] == ([] if detail is None else ["no-kernel-image"])
    if detail is not None:
        assert detail in found[0].detail


@pytest.mark.parametrize(
    ("accelerator", "said"),
    [
        ("cu132", "no code below 7.5: CUDA 13.2 compiles none"),
        ("cu126", "no code below 5.0 or beyond 9.0: CUDA 12.6 compiles none"),
        ("cu128", "no code below 5.0: CUDA 12.8 compiles none"),
        ("cu120", "no code below 5.0 or beyond 9.0: CUDA 12.0 compiles none"),
        ("cu118", "no code below 3.5 or beyond 9.0: CUDA 11.8 compiles none"),
        ("cu117", "None"),
        ("cu12", "None"),  # which of them is not known
        ("rocm6.4", "None"),
        ("cpu", "None"),
        ("nv26.2", "None"),
    ],
)
def test_what_a_toolkit_compiles_at_most(accelerator, said):
    assert str(toolkit_limits(accelerator)) == said


def test_a_build_of_the_package_index_needs_no_other_index():
    (found,) = check("2.12.1", driver(version="535.104", cuda="12.2"))
    assert "2.12.1+cu126" in found.hint
    old = check_torch(
        planned_torch("1.13.1", LINUX),
        driver("9.0", cuda="12.4"),
        make_interpreter(version="3.7.9"),
        catalog=bundled_catalog(),
        code=ReadCode("8.0"),
    )
    # no release for Python 3.7 has code for it
    assert old[0].hint.startswith("Take the build for the CPU (--accelerator cpu)")


@pytest.mark.parametrize(
    ("platform", "asked"),
    [
        (LINUX, "torch==1.13.1 (it is built for cu117)"),
        ("linux_aarch64", "torch==1.13.1+cu117"),  # there it is for the CPU
    ],
)
def test_what_the_package_index_has_depends_on_the_machine(platform, asked):
    (found,) = check_torch(
        planned_torch("2.1.0+cu121", platform),
        driver(version="470.57.02", cuda="11.4"),
        make_interpreter(version="3.7.9", platform=platform),
        catalog=bundled_catalog(),
    )
    assert found.hint == f"Take a build that runs there: safe-install {asked}"


def test_the_words_for_people():
    (found,) = check("2.14.1", driver(version="535.104", cuda="12.2"))
    assert (
        found.detail
        == "torch 2.14.1+cu130 needs driver 580.65.06 or newer, declared is 535.104 (CUDA 12.2)"
    )
    (found,) = check("2.14.1", driver(version="570.86.10", cuda="12.8", declared=False))
    assert (
        found.detail
        == "torch 2.14.1+cu130 needs driver 580.65.06 or newer, here is 570.86.10 (CUDA 12.8)"
    )
    (found,) = check("2.14.1", driver(cuda="12.2"))
    assert (
        found.detail
        == "torch 2.14.1+cu130 needs driver 580.65.06 or newer, declared is one for CUDA 12.2"
    )


# --- notes on a plan ------------------------------------------------------------------------------

STEPS = (
    Step(
        *(Action.ADD, "torch", "2.15.0"),
        requires=("cuda-bindings<14", "cuda-toolkit[nccl]==13.2", "triton~=3.8", "filelock"),
    ),
    Step(Action.ADD, "cuda-bindings", "13.5", requires=("cuda-pathfinder>=1.4",)),
    Step(Action.ADD, "cuda-pathfinder", "1.9"),
    Step(
        *(Action.ADD, "cuda-toolkit", "13.2"),
        requires=("nvidia-nccl-cu13==2.30.*; extra == 'nccl'", "nvidia-cufft==12; extra == 'fft'"),
    ),
    Step(Action.ADD, "nvidia-nccl-cu13", "2.30"),
    Step(Action.ADD, "triton", "3.8"),
    Step(Action.ADD, "filelock", "3.0"),
    # of something else, which the build for the CPU brings as well
    Step(Action.ADD, "ultralytics", "8.4", requires=("torch", "nvidia-ml-py", "nvidia-dali")),
    Step(Action.ADD, "nvidia-ml-py", "13.5"),
    Step(Action.ADD, "nvidia-dali", "1.5"),
)


@pytest.mark.parametrize(
    ("here", "steps", "torch", "accelerator", "is_said"),
    [
        (make_environment(), STEPS, "2.15.0", "", True),
        (make_environment(torch="2.13.0+cpu"), STEPS, "2.15.0", "", True),
        # that is known already
        (make_environment(torch="2.13.0+cu130"), STEPS, "2.15.0", "", False),
        (make_environment(), STEPS, "2.15.0", "cu132", False),  # it was asked for
        (make_environment(), STEPS, "2.15.0+cpu", "", False),
        (make_environment(), STEPS[1:], "2.15.0", "", False),
        (make_environment(driver=Driver("580.65.06", "13.0")), STEPS, "2.15.0", "", False),
        (
            make_environment(driver=Driver("580.65.06", "13.0", declared=True)),
            STEPS,
            "2.15.0",
            "",
            False,
        ),
        (
            make_environment(driver=Driver(None, None, problem="no answer")),
            STEPS,
            "2.15.0",
            "",
            False,
        ),
    ],
)
def test_a_build_for_cuda_where_no_driver_is(here, steps, torch, accelerator, is_said):
    build = planned_torch(torch, LINUX)
    found = note_unused_cuda(Plan(steps), build, here, accelerator=accelerator)
    assert [one.check for one in found] == (["no-driver"] if is_said else [])
    for one in found:
        assert one.detail.endswith(": 5 of the 10 distributions that come are its libraries")
        assert "needs none of them: add --accelerator cpu" in one.hint


def test_without_libraries_the_note_is_shorter():
    build = planned_torch("2.15.0", LINUX)
    (found,) = note_unused_cuda(Plan(STEPS[:1]), build, make_environment(), accelerator="")
    assert (
        found.detail.endswith("is a build for CUDA")
        and "is smaller: add --accelerator cpu" in found.hint
    )


@pytest.mark.parametrize(
    ("torch", "here", "said"),
    [
        ("2.13.0+cpu", driver("9.0", declared=False), "a build for the CPU, and there is a GPU"),
        ("2.13.0+cpu", driver("9.0"), "a build for the CPU, and there is a GPU"),
        ("2.13.0+rocm6.4", driver("9.0"), "a build for rocm6.4, and the GPU is NVIDIA's"),
        ("2.13.0+cu126", driver("9.0"), ""),
        ("2.13.0+own", driver("9.0"), ""),
        ("2.13.0+cpu", driver(declared=False), ""),
        ("2.13.0+cpu", None, ""),
    ],
)
def test_a_torch_that_leaves_the_gpu_alone(torch, here, said):
    build, environment = planned_torch(torch, LINUX), make_environment(driver=here)
    catalog = bundled_catalog()
    found = warn_of_unused_gpu(Plan(STEPS), build, environment, catalog=catalog)
    details = [f"torch {torch} is {said}"] if said else []
    assert [one.detail for one in found] == details
    assert all(one.severity.value == "warning" and one.hint for one in found)
    assert warn_of_unused_gpu(Plan(STEPS[3:]), build, environment, catalog=catalog) == ()
    another = make_environment(torch="2.12.1", driver=here)
    assert warn_of_unused_gpu(Plan(STEPS), build, another, catalog=catalog) == ()


@pytest.mark.parametrize(
    ("installed", "steps", "accelerator", "is_said"),
    [
        ("2.13.0+cu130", (), "cpu", True),
        ("2.13.0+cu130", STEPS[3:], "cpu", True),
        ("2.13.0+cu130", STEPS, "cpu", False),
        ("2.13.0+cpu", (), "cpu", False),
        ("2.13.0+cu130", (), "", False),
        (None, (), "cpu", False),
    ],
)
def test_a_torch_that_stays_beside_a_wish(installed, steps, accelerator, is_said):
    found = note_torch_stays(
        Plan(steps), make_environment(torch=installed), accelerator=accelerator
    )
    assert [one.check for one in found] == (["torch-stays"] if is_said else [])

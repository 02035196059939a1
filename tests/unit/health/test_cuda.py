"""Why CUDA is not available: every cause, its words and its remedy."""

from __future__ import annotations

import dataclasses

import pytest
from tests.factories import make_health

from safe_install.health.comparison import check_cuda_required
from safe_install.health.cuda import Machine, diagnose_cuda, hides_all_gpus, install_command
from safe_install.models import Device, Driver, DriverLibrary, Severity

A100 = Device("NVIDIA A100", "8.0")
DRIVER = Driver("570.86.10", "12.8", (A100, A100))
MISMATCH = Driver("535.104.05", None, problem="NVML error 18: Driver/library version mismatch")
PATH = "/usr/lib/libcuda.so.535.129.03"


def library(status=0, *, cuda="12.8", devices=None, path="/usr/lib/libcuda.so.570.86.10"):
    return DriverLibrary(path, cuda, status, devices)


def health(version="2.9.1+cu128", cuda="12.8", available=False, answer=None, **fields):
    accelerator = version.partition("+")[2]
    return make_health(
        torch=version,
        cuda=cuda,
        available=available,
        devices=0,
        driver_library=answer,
        accelerator=accelerator,
        **fields,
    )


TOO_OLD = health("2.15.0+cu132", "13.2", answer=library())
CPU = health("2.13.0+cpu", None)
OLD = library(cuda="10.1", path="/usr/lib/libcuda.so.430.10")
NO_GPU = library(100)


@pytest.mark.parametrize(
    ("report", "machine", "check", "words", "hint"),
    [
        pytest.param(
            TOO_OLD,
            Machine(DRIVER, driver_floor="580.65.06", fitting_build="2.14.1+cu126"),
            "driver-too-old",
            "torch 2.15.0+cu132 needs driver 580.65.06 or newer; 570.86.10 (CUDA 12.8) is "
            "installed",
            "safe-install install torch==2.14.1+cu126",
            id="driver too old",
        ),
        pytest.param(
            TOO_OLD,
            Machine(None),
            "driver-too-old",
            "needs a driver for CUDA 13.2 or newer; 570.86.10 (CUDA 12.8) is installed",
            "Update the driver.",
            id="driver too old, no NVML",
        ),
        pytest.param(
            health("1.8.1+cu102", "10.2", answer=OLD),
            Machine(driver_floor="440.33"),
            "driver-too-old",
            "torch 1.8.1+cu102 needs driver 440.33 or newer; 430.10 (CUDA 10.1) is installed",
            "Update the driver",
            id="no minor version compatibility before CUDA 11",
        ),
        pytest.param(
            health(
                "1.8.1+cu111",
                "11.1",
                answer=library(cuda="11.0"),
                warnings=("The NVIDIA driver on your system is too old",),
            ),
            Machine(Driver("450.36.06", "11.0", (A100,)), driver_floor="450.80.02"),
            "driver-too-old",
            "needs driver 450.80.02 or newer; 450.36.06 (CUDA 11.0)",
            "Update the driver",
            id="torch itself says that it is too old",
        ),
        pytest.param(
            TOO_OLD,
            Machine(DRIVER, visible_devices="", driver_floor="580.65.06"),
            "driver-too-old",
            "580.65.06",
            "Update",
            id="too old and hidden: too old decides",
        ),
        pytest.param(
            health(answer=library(803, path=PATH)),
            Machine(DRIVER, kernel_driver="535.104.05"),
            "driver-mismatch",
            f"different versions: the module is 535.104.05, {PATH} is 535.129.03 (error 803)",
            "Reboot",
            id="driver and library of two versions",
        ),
        pytest.param(
            health(answer=library(803, path="/stub/libcuda.so.1")),
            Machine(MISMATCH),
            "driver-mismatch",
            "/stub/libcuda.so.1, the module is 535.104.05",
            "remove the driver's libraries from the image",
            id="the same, version of the library unknown",
        ),
        pytest.param(
            health(answer=library(100, path=PATH)),
            Machine(MISMATCH),
            "driver-mismatch",
            "the module is 535.104.05",
            "Reboot",
            id="NVML alone names the mismatch",
        ),
        pytest.param(
            health(answer=library(804, path="/usr/local/cuda/compat/libcuda.so.575.57.08")),
            Machine(DRIVER),
            "forward-compatibility",
            "/usr/local/cuda/compat/libcuda.so.575.57.08 (error 804): it is a forward "
            "compatibility library",
            "Take the folder of cuda-compat off LD_LIBRARY_PATH",
            id="forward compatibility",
        ),
        pytest.param(
            health(answer=library(34, path="/usr/local/cuda/lib64/stubs/libcuda.so.1", cuda=None)),
            Machine(DRIVER),
            "cuda-stub",
            "/usr/local/cuda/lib64/stubs/libcuda.so.1 (error 34): it is the stub",
            "off LD_LIBRARY_PATH",
            id="the toolkit's stub",
        ),
        pytest.param(
            health(answer=library(999)),
            Machine(DRIVER),
            "cuda-unavailable",
            "error 999",
            "modprobe nvidia_uvm",
            id="unknown error",
        ),
        pytest.param(
            health(answer=library(802)),
            Machine(DRIVER),
            "cuda-unavailable",
            "Fabric Manager",
            "systemctl start",
            id="not ready",
        ),
        pytest.param(
            health(answer=library(214)),
            Machine(DRIVER),
            "cuda-unavailable",
            "memory error",
            "--gpu-reset",
            id="ECC",
        ),
        pytest.param(
            health(
                answer=library(719),
                warnings=("Unexpected error 719 (Triggered internally at c10/x.cpp:1.)",),
            ),
            Machine(DRIVER),
            "cuda-unavailable",
            "(error 719): Unexpected error 719",
            "dmesg",
            id="an error that has no entry",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(DRIVER, visible_devices=""),
            "devices-hidden",
            'CUDA_VISIBLE_DEVICES is "", which hides every GPU; driver 570.86.10 (CUDA 12.8) has 2 GPUs: NVIDIA A100',
            "Unset CUDA_VISIBLE_DEVICES",
            id="hidden by an empty variable",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(DRIVER, visible_devices="-1"),
            "devices-hidden",
            '"-1", which hides',
            "nvidia-smi -L",
            id="-1",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(DRIVER, visible_devices="2"),
            "devices-hidden",
            '"2", which names no GPU',
            "Unset",
            id="out of range",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(DRIVER, visible_devices="GPU-1"),
            "devices-hidden",
            '"GPU-1", which names no',
            "Unset",
            id="UUID",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(visible_devices="-1"),
            "devices-hidden",
            'CUDA_VISIBLE_DEVICES is "-1", which hides every GPU',
            "Unset",
            id="-1, and nobody knows the GPUs",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(DRIVER, visible_devices="1"),
            "no-device",
            "driver 570.86.10 (CUDA 12.8) has 2 GPUs: NVIDIA A100, and CUDA finds none (error 100)",
            "/dev/nvidia-uvm",
            id="the variable is right and there is no device",
        ),
        pytest.param(
            health(answer=NO_GPU),
            Machine(Driver("570.86.10", "12.8", ())),
            "no-device",
            "driver 570.86.10 (CUDA 12.8) is loaded and has no GPU",
            "docker run --gpus all",
            id="a driver without GPU",
        ),
        pytest.param(
            health(answer=library(100, path=PATH)),
            Machine(None),
            "no-device",
            f"{PATH} is here and finds no GPU (error 100): the driver itself is not loaded",
            "modprobe nvidia",
            id="the library alone",
        ),
        pytest.param(
            health(answer=library(100, path=PATH)),
            Machine(None, kernel_driver="535.104.05"),
            "no-device",
            "the machine has driver 535.104.05, and none of its GPUs is in reach",
            "docker run --gpus all",
            id="a container without its GPUs",
        ),
        pytest.param(
            health(available=None),
            Machine(DRIVER),
            "libcuda-missing",
            "driver 570.86.10 (CUDA 12.8) is loaded and libcuda.so.1 is not found",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            id="nvidia-smi works and libcuda is not there",
        ),
        pytest.param(
            health(
                answer=library(0, devices=2),
                warnings=("Unexpected error 801 (Triggered internally at x)",),
            ),
            Machine(DRIVER),
            "cuda-unavailable",
            "torch.cuda.is_available() is False: Unexpected error 801",
            "LD_LIBRARY_PATH",
            id="nothing explains it",
        ),
        pytest.param(
            health(),
            Machine(DRIVER),
            "cuda-unavailable",
            "torch gives no reason",
            "LD_LIBRARY_PATH",
            id="libcuda crashed when asked",
        ),
        pytest.param(
            CPU,
            Machine(DRIVER, fitting_build="2.13.0+cu126"),
            "build-without-cuda",
            "torch 2.13.0+cpu is a build without CUDA, and this machine has 2 GPUs: NVIDIA A100, "
            "with driver 570.86.10",
            "safe-install install torch==2.13.0+cu126. If this build is meant, set "
            "CUDA_VISIBLE_DEVICES=-1.",
            id="a build for the CPU beside a GPU",
        ),
        pytest.param(
            dataclasses.replace(CPU, cuda_available=None),
            Machine(MISMATCH),
            "build-without-cuda",
            "has an NVIDIA GPU, with driver 535.104.05 (NVML error 18",
            "Install a CUDA build of torch.",
            id="a build for the CPU, NVML answers nothing",
        ),
        pytest.param(
            health("2.13.0+cpu", None, answer=library(0, devices=1)),
            Machine(None),
            "build-without-cuda",
            "this machine has 1 GPU, with driver 570.86.10 (CUDA 12.8)",
            "Install a CUDA build",
            id="a build for the CPU, no NVML",
        ),
        pytest.param(
            health("2.9.1+rocm6.4", None),
            Machine(DRIVER),
            "build-without-cuda",
            "torch 2.9.1+rocm6.4 is a ROCm build, and this machine has 2 GPUs",
            "Install a CUDA build",
            id="a ROCm build beside a GPU of NVIDIA",
        ),
        pytest.param(
            health("2.9.1+rocm6.4", None),
            Machine(None),
            "rocm-unavailable",
            "/dev/kfd",
            "--device=/dev/kfd",
            id="ROCm",
        ),
    ],
)
def test_a_cause_has_words_and_a_remedy(report, machine, check, words, hint):
    finding = diagnose_cuda(report, machine)
    assert (finding.check, finding.severity, finding.subject) == (check, Severity.ERROR, "torch")
    assert words in finding.detail
    assert hint in finding.hint
    assert finding.hint[0].isupper()


@pytest.mark.parametrize(
    ("report", "machine"),
    [
        pytest.param(health(available=True), Machine(DRIVER), id="available"),
        pytest.param(health(available=None), Machine(None), id="an image build"),
        pytest.param(
            health(available=None),
            Machine(None, kernel_driver="535.104.05"),
            id="an image build on a GPU machine",
        ),
        pytest.param(
            dataclasses.replace(CPU, cuda_available=None), Machine(None), id="CPU build, no GPU"
        ),
        pytest.param(
            health("2.13.0+cpu", None, answer=NO_GPU),
            Machine(None),
            id="CPU build, a library without driver",
        ),
        pytest.param(
            CPU, Machine(Driver("570.86.10", "12.8")), id="CPU build, a driver without GPU"
        ),
        pytest.param(
            health(imports={"torch": "ImportError"}), Machine(DRIVER), id="torch does not import"
        ),
    ],
)
def test_where_there_is_nothing_to_find(report, machine):
    assert diagnose_cuda(report, machine) is None


@pytest.mark.parametrize("value", ["", "-1"])
def test_who_hides_the_gpu_from_a_build_without_cuda_means_it(value):
    finding = diagnose_cuda(CPU, Machine(DRIVER, visible_devices=value))
    assert (finding.check, finding.severity) == ("build-without-cuda", Severity.NOTE)
    assert f'"{value}"' in finding.detail


@pytest.mark.parametrize(
    ("value", "devices", "hidden"),
    [
        (None, 2, False),
        ("", 2, True),
        (" ", 2, True),
        ("-1", 2, True),
        ("NoDevFiles", 2, True),
        ("0", 2, False),
        ("1,7", 2, False),
        ("7,1", 2, True),
        ("2", 2, True),
        ("2", None, False),
        ("0,0", 2, True),
        ("GPU-fa4e", 2, False),
        ("MIG-fa4e", None, False),
    ],
)
def test_which_values_hide_every_gpu(value, devices, hidden):
    """CUDA C++ programming guide: the first entry that names no device ends the list."""
    assert hides_all_gpus(value, devices) is hidden


def test_require_cuda_says_the_cause():
    cause = diagnose_cuda(TOO_OLD, Machine(DRIVER, driver_floor="580.65.06"))
    (finding,) = check_cuda_required(TOO_OLD, cause)
    assert finding.check == "cuda-required"
    assert "needs driver 580.65.06" in finding.detail
    assert finding.hint == cause.hint


@pytest.mark.parametrize(
    ("report", "words", "hint"),
    [
        (
            health(available=None, imports={"torch": "ImportError: libfoo.so"}),
            "does not import: ImportError",
            "import",
        ),
        (
            dataclasses.replace(health(available=None), crashed="signal SIGSEGV"),
            "did not end: signal SIGSEGV",
            "GPUs",
        ),
        (health(available=None), "there is no NVIDIA driver here", "GPUs"),
        (
            health("2.13.0+cpu", None, available=None),
            "True: torch 2.13.0+cpu is built without CUDA",
            "a CUDA build",
        ),
    ],
)
def test_require_cuda_blames_a_missing_driver_only_where_it_was_looked_for(report, words, hint):
    (finding,) = check_cuda_required(report)
    assert words in finding.detail
    assert hint in finding.hint


@pytest.mark.parametrize(
    ("problem", "check"),
    [
        ("NVML error 18: Driver/library version mismatch", "driver-mismatch"),
        ("NVML error 15: GPU is lost", "no-device"),
        ("NVML error 4: Insufficient Permissions", "no-device"),
    ],
)
def test_only_nvmls_own_word_is_a_mismatch(problem, check):
    finding = diagnose_cuda(
        health(answer=NO_GPU), Machine(Driver("570.86.10", None, problem=problem))
    )
    assert finding.check == check


def test_the_command_names_the_build():
    assert (
        install_command("2.7.0a0+79aa17489c.nv25.04")
        == "safe-install install torch==2.7.0a0+79aa17489c.nv25.04"
    )
    assert install_command("2.9.1") == "safe-install install torch==2.9.1"
    assert install_command("2.9.1+cpu", "--no-deps").endswith("--no-deps torch==2.9.1+cpu")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/usr/lib/libcuda.so.1", "(/usr/lib/libcuda.so.1, the module is 535.104.05)"),
        (None, "versions (error 803)"),
    ],
)
def test_a_mismatch_without_the_version_of_the_library(path, words):
    finding = diagnose_cuda(health(answer=library(803, path=path)), Machine(MISMATCH))
    assert finding.check == "driver-mismatch"
    assert words in finding.detail


def test_a_driver_whose_cuda_is_not_known_is_not_called_too_old():
    finding = diagnose_cuda(
        health(answer=library(cuda=None)), Machine(Driver("570.86.10", None, (A100,)))
    )
    assert finding.check == "cuda-unavailable"

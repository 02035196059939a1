"""Why torch.cuda.is_available() is not True although a driver or a GPU is there: one finding, cause
and remedy.

Decisions only. Numbers: CUresult of NVIDIA's cuda.h, which cuInit returns. Floors: cuda.json of the
wheel index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from safe_install.models import Driver, DriverLibrary, Finding, HealthReport, Severity

NO_DEVICE = 100
DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
_CONTAINER = "In a container: docker run --gpus all."

# CUresult -> check, what it means, remedy.
CAUSES: Mapping[int, Tuple[str, str, str]] = {
    2: (
        "cuda-unavailable",
        "the driver gets no memory",
        "Raise the limits (ulimit -v, the container's memory).",
    ),
    34: (
        "cuda-stub",
        "it is the stub that the CUDA toolkit has for linking, and no driver",
        "Take the folder of the stub off LD_LIBRARY_PATH, so that the driver's libcuda.so.1 is "
        "found.",
    ),
    46: (
        "cuda-unavailable",
        "the GPU is busy or unavailable",
        "Look for another process on it (nvidia-smi), and for its compute mode: nvidia-smi -c "
        "DEFAULT.",
    ),
    214: (
        "cuda-unavailable",
        "the GPU has an uncorrectable memory error",
        "Reset the GPU: nvidia-smi --gpu-reset.",
    ),
    304: (
        "cuda-unavailable",
        "the operating system refused the driver's call",
        "Check that /dev/nvidia* can be read and written. " + _CONTAINER,
    ),
    802: (
        "cuda-unavailable",
        "the system is not ready: its GPUs are joined by NVSwitch, and the Fabric Manager does not "
        "run",
        "Start nvidia-fabricmanager, of the same version as the driver: systemctl start "
        "nvidia-fabricmanager.",
    ),
    803: (
        "driver-mismatch",
        "the kernel's NVIDIA module and libcuda.so.1 are of different versions",
        "Reboot, or load the NVIDIA modules again. In a container: remove the driver's libraries "
        "from the image.",
    ),
    804: (
        "forward-compatibility",
        "it is a forward compatibility library (cuda-compat), and this GPU or driver does not "
        "support it",
        "Take the folder of cuda-compat off LD_LIBRARY_PATH and update the driver.",
    ),
    805: (
        "cuda-unavailable",
        "the MPS server does not answer",
        "Start it: nvidia-cuda-mps-control -d.",
    ),
    806: (
        "cuda-unavailable",
        "the MPS server does not answer",
        "Start it again: nvidia-cuda-mps-control -d.",
    ),
    807: (
        "cuda-unavailable",
        "the MPS server is not ready",
        "Try again, or start it: nvidia-cuda-mps-control -d.",
    ),
    808: (
        "cuda-unavailable",
        "the MPS server has too many clients",
        "End other processes on the GPU.",
    ),
    999: (
        "cuda-unavailable",
        "the driver has an unknown error",
        "Load the module again (sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm) or reboot; look "
        "at dmesg for Xid.",
    ),
}


@dataclass(frozen=True)
class Machine:
    """What is known of the machine beside what torch's own process answered."""

    driver: Optional[Driver] = None  # by NVML
    # the version of the kernel's module; a container sees it without a GPU
    kernel_driver: Optional[str] = None
    visible_devices: Optional[str] = None  # CUDA_VISIBLE_DEVICES; None where it is not set
    driver_floor: Optional[str] = None  # the oldest driver on which this torch starts
    fitting_build: Optional[str] = None  # a build of torch for this driver: "2.14.1+cu126"


def diagnose_cuda(health: HealthReport, machine: Machine) -> Optional[Finding]:
    """The cause: an error, a note where the person means it so, or None.

    None: CUDA is available, or there is nothing here that it could use, or torch does not import.
    """
    torch = health.imports.get("torch")
    if health.cuda_available or torch is None or not torch.ok:
        return None
    if health.torch_cuda is None:
        return _wrong_build(health, machine)
    if health.cuda_available is None:
        return _without_library(health, machine)
    library = health.driver_library
    if library is not None and library.status not in (0, NO_DEVICE):
        return _failed_start(health, machine, library)
    if library is not None and library.status and _is_mismatch(machine.driver):
        return _mismatch(machine, library)
    if _is_too_old(health, machine):
        return _too_old(health, machine)
    if library is not None and not library.devices and library.status == NO_DEVICE:
        return _hidden(machine) or _no_device(machine, library)
    return _unexplained(health, machine)


def _error(check: str, detail: str, hint: str) -> Finding:
    return Finding(check, Severity.ERROR, "torch", detail, hint)


# --- builds without CUDA --------------------------------------------------------------------------


def _wrong_build(health: HealthReport, machine: Machine) -> Optional[Finding]:
    kind = health.accelerator or "cpu"
    is_rocm = kind.startswith("rocm")
    gpu = _gpu(health, machine)
    if gpu is None:
        if is_rocm and health.cuda_available is False and health.driver_library is None:
            return _error(
                "rocm-unavailable",
                f"torch {health.torch_version} is a ROCm build, a driver of AMD is loaded "
                "(/dev/kfd), and "
                "torch.cuda.is_available() is False",
                "Check the groups render and video; in a container: --device=/dev/kfd "
                "--device=/dev/dri.",
            )
        return None
    what = "a ROCm build" if is_rocm else "a build without CUDA"
    if hides_all(machine.visible_devices):
        value = machine.visible_devices
        return Finding(
            "build-without-cuda",
            Severity.NOTE,
            "torch",
            f'torch {health.torch_version} is {what}, and is taken for meant: {DEVICES_VARIABLE} is "{value}", '
            "which hides every GPU",
        )
    return _error(
        "build-without-cuda",
        f"torch {health.torch_version} is {what}, and this machine has {gpu}",
        f"{_install(machine)}If this build is meant, set {DEVICES_VARIABLE}=-1.",
    )


def _gpu(health: HealthReport, machine: Machine) -> Optional[str]:
    """The GPU that a CUDA build could use, in words."""
    driver, library = machine.driver, health.driver_library
    if driver is not None and (driver.devices or driver.problem):
        devices = _devices(driver) if driver.devices else "an NVIDIA GPU"
        return f"{devices}, with {_driver(machine, library)}"
    if library is not None and library.devices:
        return f"{_count(library.devices)}, with {_driver(machine, library)}"
    return None


def _install(machine: Machine) -> str:
    if machine.fitting_build is None:
        return "Install a CUDA build of torch. "
    return f"Install the CUDA build: {install_command(machine.fitting_build)}. "


def install_command(version: str, *options: str) -> str:
    """What installs this build of torch, wherever it lies."""
    return " ".join(["safe-install install", *options, f"torch=={version}"])


# --- the driver -----------------------------------------------------------------------------------


def _without_library(health: HealthReport, machine: Machine) -> Optional[Finding]:
    if machine.driver is None:
        return None
    return _error(
        "libcuda-missing",
        f"{_driver(machine, None)} is loaded and libcuda.so.1 is not found: torch "
        f"{health.torch_version} cannot use it",
        "In a container: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility. "
        "Elsewhere install the "
        "driver's compute libraries (Debian: libcuda1, Ubuntu: libnvidia-compute).",
    )


def _failed_start(health: HealthReport, machine: Machine, library: DriverLibrary) -> Finding:
    if library.status == 803:
        return _mismatch(machine, library)
    check, meaning, hint = CAUSES.get(
        library.status,
        (
            "cuda-unavailable",
            _words_of_torch(health) or "the driver does not start",
            "Look at nvidia-smi and dmesg.",
        ),
    )
    path = library.path or "libcuda.so.1"
    return _error(check, f"CUDA does not start on {path} (error {library.status}): {meaning}", hint)


def _is_mismatch(driver: Optional[Driver]) -> bool:
    """Does NVML say so? 18 is NVML_ERROR_LIB_RM_VERSION_MISMATCH; others (a lost GPU, no
    permission) are not it."""
    return driver is not None and (driver.problem or "").startswith("NVML error 18:")


def _mismatch(machine: Machine, library: DriverLibrary) -> Finding:
    check, meaning, hint = CAUSES[803]
    kernel = machine.kernel_driver or (
        machine.driver.version if machine.driver and machine.driver.problem else None
    )
    versions = ""
    own = _version_in(library.path)
    if kernel and own and kernel != own:
        versions = f": the module is {kernel}, {library.path} is {own}"
    elif library.path:
        versions = f" ({library.path}{f', the module is {kernel}' if kernel else ''})"
    return _error(check, f"{meaning}{versions} (error {library.status})", hint)


def _is_too_old(health: HealthReport, machine: Machine) -> bool:
    """From CUDA 11 on a driver serves every runtime of its major version (minor version
    compatibility)."""
    if any("driver on your system is too old" in text for text in health.warnings):
        return True
    served, wanted = _numbers(_cuda_of(machine, health.driver_library)), _numbers(health.torch_cuda)
    if served is None or wanted is None:
        return False
    return served[0] < wanted[0] if wanted[0] >= 11 else served < wanted


def _too_old(health: HealthReport, machine: Machine) -> Finding:
    needed = (
        f"driver {machine.driver_floor}"
        if machine.driver_floor
        else f"a driver for CUDA {health.torch_cuda}"
    )
    installed = _driver(machine, health.driver_library)
    build = machine.fitting_build
    other = (
        f", or take a torch that it can run: {install_command(build)}" if build is not None else ""
    )
    return _error(
        "driver-too-old",
        f"torch {health.torch_version} needs {needed} or newer; "
        f"{installed.replace('driver ', '', 1)} is installed",
        f"Update the driver{other}.",
    )


# --- devices --------------------------------------------------------------------------------------


def hides_all(value: Optional[str], devices: Optional[int] = None) -> bool:
    """Does this CUDA_VISIBLE_DEVICES hide every GPU? The first entry that names none ends the list.

    `devices`: how many there are, None where nobody knows; then a number or a UUID is believed.
    """
    if value is None:
        return False
    entries = [entry.strip() for entry in value.split(",")]
    first = entries[0]
    if first.startswith(("GPU-", "MIG-")):
        return len(entries) != len(set(entries))
    if not first.isdigit():
        return True
    return len(entries) != len(set(entries)) or (devices is not None and int(first) >= devices)


def _hidden(machine: Machine) -> Optional[Finding]:
    value, driver = machine.visible_devices, machine.driver
    known = len(driver.devices) if driver is not None and driver.devices else None
    by_uuid = value is not None and value.strip().startswith(("GPU-", "MIG-")) and known is not None
    if value is None or not (hides_all(value, known) or by_uuid):
        return None
    names_some = value.strip() not in ("", "-1")
    why = "which names no GPU that is there" if names_some else "which hides every GPU"
    here = (
        f"; {_driver(machine, None)} has {_devices(driver)}"
        if driver is not None and driver.devices
        else ""
    )
    return _error(
        "devices-hidden",
        f'{DEVICES_VARIABLE} is "{value}", {why}{here}',
        f"Unset {DEVICES_VARIABLE}, or name a GPU of `nvidia-smi -L`.",
    )


def _no_device(machine: Machine, library: DriverLibrary) -> Finding:
    driver = machine.driver
    if driver is None:
        loaded = (
            f"the machine has driver {machine.kernel_driver}, and none of its GPUs is in reach"
            if machine.kernel_driver
            else "the driver itself is not loaded"
        )
        return _error(
            "no-device",
            f"{library.path or 'libcuda.so.1'} is here and finds no GPU (error {library.status}): "
            f"{loaded}",
            f"{_CONTAINER} Elsewhere load the driver: sudo modprobe nvidia; look at dmesg.",
        )
    if not driver.devices:
        return _error(
            "no-device",
            f"{_driver(machine, library)} is loaded and has no GPU",
            f"Look at nvidia-smi and lspci. {_CONTAINER}",
        )
    return _error(
        "no-device",
        f"{_driver(machine, library)} has {_devices(driver)}, and CUDA finds none (error "
        f"{library.status})",
        "Check that /dev/nvidia0 and /dev/nvidia-uvm are there; a GPU in MIG mode needs an "
        "instance "
        f"(nvidia-smi mig -lgi). {_CONTAINER}",
    )


def _unexplained(health: HealthReport, machine: Machine) -> Finding:
    reason = _words_of_torch(health) or "torch gives no reason"
    return _error(
        "cuda-unavailable",
        f"torch {health.torch_version} is a CUDA build, {_driver(machine, health.driver_library)} "
        "is here, and "
        f"torch.cuda.is_available() is {health.cuda_available}: {reason}",
        "Ask again without LD_LIBRARY_PATH and LD_PRELOAD: they may bring another CUDA runtime "
        "than torch's own.",
    )


# --- words ----------------------------------------------------------------------------------------


def _driver(machine: Machine, library: Optional[DriverLibrary]) -> str:
    """ "driver 570.86.10 (CUDA 12.8)", as far as it is known."""
    driver = machine.driver or Driver(None, None)
    version = driver.version
    if not version and library is not None:
        version = _version_in(library.path)
    cuda = _cuda_of(machine, library)
    details = [f"CUDA {cuda}"] if cuda else []
    if driver.problem:
        details.append(driver.problem)
    name = f"driver {version}" if version else "a driver"
    return f"{name} ({', '.join(details)})" if details else name


def _cuda_of(machine: Machine, library: Optional[DriverLibrary]) -> Optional[str]:
    if library is not None and library.cuda:
        return library.cuda
    return machine.driver.cuda if machine.driver else None


def _devices(driver: Driver) -> str:
    names = ", ".join(dict.fromkeys(device.name for device in driver.devices))
    return f"{_count(len(driver.devices))}: {names}"


def _count(devices: int) -> str:
    return "1 GPU" if devices == 1 else f"{devices} GPUs"


def _version_in(path: Optional[str]) -> Optional[str]:
    """`/usr/lib/libcuda.so.535.104.05` is of driver 535.104.05."""
    found = re.search(r"\.so\.(\d+\.\d+(\.\d+)?)$", path or "")
    return found.group(1) if found else None


def _words_of_torch(health: HealthReport) -> str:
    return health.warnings[0].partition(" (Triggered internally")[0] if health.warnings else ""


def _numbers(text: Optional[str]) -> Optional[Tuple[int, ...]]:
    if text is None or re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is None:
        return None
    return tuple(int(part) for part in text.split("."))

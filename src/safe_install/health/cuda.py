"""Finds why torch.cuda.is_available() is not True on a machine with a driver or a GPU. Pure.

The result is one finding with the cause and a remedy. Error numbers: CUresult of NVIDIA's cuda.h,
as cuInit returns them. Oldest drivers: cuda.json of the wheel index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, NamedTuple, Optional, Tuple

from safe_install.models import Driver, DriverLibrary, Finding, HealthReport, Severity

NO_DEVICE, VERSION_MISMATCH = 100, 803  # CUresult
DEVICES_VARIABLE = "CUDA_VISIBLE_DEVICES"
_CONTAINER = "In a container: docker run --gpus all."


class Cause(NamedTuple):
    """What an error number of cuInit means."""

    check: str
    meaning: str
    hint: str


# by CUresult
CAUSES: Mapping[int, Cause] = {
    2: Cause(
        "cuda-unavailable",
        "the driver gets no memory",
        "Raise the limits (ulimit -v, the container's memory).",
    ),
    34: Cause(
        "cuda-stub",
        "it is the stub that the CUDA toolkit has for linking, and no driver",
        "Take the folder of the stub off LD_LIBRARY_PATH, so that the driver's libcuda.so.1 is "
        "found.",
    ),
    46: Cause(
        "cuda-unavailable",
        "the GPU is busy or unavailable",
        "Look for another process on it (nvidia-smi), and for its compute mode: nvidia-smi -c "
        "DEFAULT.",
    ),
    214: Cause(
        "cuda-unavailable",
        "the GPU has an uncorrectable memory error",
        "Reset the GPU: nvidia-smi --gpu-reset.",
    ),
    304: Cause(
        "cuda-unavailable",
        "the operating system refused the driver's call",
        "Check that /dev/nvidia* can be read and written. " + _CONTAINER,
    ),
    802: Cause(
        "cuda-unavailable",
        "the system is not ready: its GPUs are joined by NVSwitch, and the Fabric Manager does not "
        "run",
        "Start nvidia-fabricmanager, of the same version as the driver: systemctl start "
        "nvidia-fabricmanager.",
    ),
    803: Cause(
        "driver-mismatch",
        "the kernel's NVIDIA module and libcuda.so.1 are of different versions",
        "Reboot, or load the NVIDIA modules again. In a container: remove the driver's libraries "
        "from the image.",
    ),
    804: Cause(
        "forward-compatibility",
        "it is a forward compatibility library (cuda-compat), and this GPU or driver does not "
        "support it",
        "Take the folder of cuda-compat off LD_LIBRARY_PATH and update the driver.",
    ),
    805: Cause(
        "cuda-unavailable",
        "the MPS server does not answer",
        "Start it: nvidia-cuda-mps-control -d.",
    ),
    806: Cause(
        "cuda-unavailable",
        "the MPS server does not answer",
        "Start it again: nvidia-cuda-mps-control -d.",
    ),
    807: Cause(
        "cuda-unavailable",
        "the MPS server is not ready",
        "Try again, or start it: nvidia-cuda-mps-control -d.",
    ),
    808: Cause(
        "cuda-unavailable",
        "the MPS server has too many clients",
        "End other processes on the GPU.",
    ),
    999: Cause(
        "cuda-unavailable",
        "the driver has an unknown error",
        "Load the module again (sudo rmmod nvidia_uvm && sudo modprobe nvidia_uvm) or reboot; look "
        "at dmesg for Xid.",
    ),
}


@dataclass(frozen=True)
class Machine:
    """Facts about the machine that a HealthReport does not have."""

    driver: Optional[Driver] = None  # from NVML
    # the version of the kernel's module, which a container sees even without a GPU
    kernel_driver: Optional[str] = None
    visible_devices: Optional[str] = None  # CUDA_VISIBLE_DEVICES; None: not set
    driver_floor: Optional[str] = None  # the oldest driver on which this torch starts
    fitting_build: Optional[str] = None  # a build of torch for this driver: "2.14.1+cu126"


def diagnose_cuda(health: HealthReport, machine: Machine) -> Optional[Finding]:
    """The cause: an error, or a note if the user has hidden the GPUs on purpose.

    None: CUDA is available, or there is no driver or GPU, or torch does not import.
    """
    torch = health.imports.get("torch")
    if health.cuda_available or torch is None or not torch.ok:
        return None
    if health.torch_cuda is None:
        return _explain_other_build(health, machine)
    if health.cuda_available is None:
        return _explain_missing_library(health, machine)
    library = health.driver_library
    if library is not None and library.status not in (0, NO_DEVICE):
        return _explain_failed_start(health, machine, library)
    if library is not None and library.status and _is_mismatch(machine.driver):
        return _explain_mismatch(machine, library)
    if _is_too_old(health, machine):
        return _explain_old_driver(health, machine)
    if library is not None and not library.devices and library.status == NO_DEVICE:
        return _explain_hidden_devices(machine) or _explain_no_device(machine, library)
    return _explain_with_torch(health, machine)


def _error(check: str, detail: str, hint: str) -> Finding:
    return Finding(check, Severity.ERROR, "torch", detail, hint)


# --- builds without CUDA --------------------------------------------------------------------------


def _explain_other_build(health: HealthReport, machine: Machine) -> Optional[Finding]:
    """A CPU or ROCm build on a machine with a GPU; None if it has none."""
    is_rocm = (health.accelerator or "cpu").startswith("rocm")
    gpu = _describe_gpu(health, machine)
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
    build = "a ROCm build" if is_rocm else "a build without CUDA"
    if hides_all_gpus(machine.visible_devices):
        value = machine.visible_devices
        return Finding(
            "build-without-cuda",
            Severity.NOTE,
            "torch",
            f'torch {health.torch_version} is {build}, and is taken for meant: {DEVICES_VARIABLE} is "{value}", '
            "which hides every GPU",
        )
    return _error(
        "build-without-cuda",
        f"torch {health.torch_version} is {build}, and this machine has {gpu}",
        f"{_install_hint(machine)}If this build is meant, set {DEVICES_VARIABLE}=-1.",
    )


def _describe_gpu(health: HealthReport, machine: Machine) -> Optional[str]:
    """The GPU that a CUDA build could use; None: there is none."""
    driver, library = machine.driver, health.driver_library
    if driver is not None and (driver.devices or driver.problem):
        devices = _describe_devices(driver) if driver.devices else "an NVIDIA GPU"
        return f"{devices}, with {_describe_driver(machine, library)}"
    if library is not None and library.devices:
        return f"{_count_gpus(library.devices)}, with {_describe_driver(machine, library)}"
    return None


def _install_hint(machine: Machine) -> str:
    if machine.fitting_build is None:
        return "Install a CUDA build of torch. "
    return f"Install the CUDA build: {install_command(machine.fitting_build)}. "


def install_command(version: str, *options: str) -> str:
    """The command that installs this build of torch."""
    return " ".join(["safe-install install", *options, f"torch=={version}"])


# --- the driver -----------------------------------------------------------------------------------


def _explain_missing_library(health: HealthReport, machine: Machine) -> Optional[Finding]:
    """A driver without libcuda.so.1; None if there is no driver."""
    if machine.driver is None:
        return None
    return _error(
        "libcuda-missing",
        f"{_describe_driver(machine, None)} is loaded and libcuda.so.1 is not found: torch "
        f"{health.torch_version} cannot use it",
        "In a container: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility. "
        "Elsewhere install the "
        "driver's compute libraries (Debian: libcuda1, Ubuntu: libnvidia-compute).",
    )


def _explain_failed_start(
    health: HealthReport, machine: Machine, library: DriverLibrary
) -> Finding:
    """cuInit returned an error."""
    if library.status == VERSION_MISMATCH:
        return _explain_mismatch(machine, library)
    cause = CAUSES.get(library.status)
    if cause is None:
        meaning = _warning_of_torch(health) or "the driver does not start"
        cause = Cause("cuda-unavailable", meaning, "Look at nvidia-smi and dmesg.")
    path = library.path or "libcuda.so.1"
    detail = f"CUDA does not start on {path} (error {library.status}): {cause.meaning}"
    return _error(cause.check, detail, cause.hint)


def _is_mismatch(driver: Optional[Driver]) -> bool:
    """Does NVML say that the versions differ? 18 is NVML_ERROR_LIB_RM_VERSION_MISMATCH; other
    errors have other causes (a lost GPU, no permission)."""
    return driver is not None and (driver.problem or "").startswith("NVML error 18:")


def _explain_mismatch(machine: Machine, library: DriverLibrary) -> Finding:
    """The kernel's module and libcuda.so.1 have different versions."""
    cause = CAUSES[VERSION_MISMATCH]
    kernel = machine.kernel_driver
    if not kernel and machine.driver is not None and machine.driver.problem:
        kernel = machine.driver.version
    versions = ""
    own = _version_in(library.path)
    if kernel and own and kernel != own:
        versions = f": the module is {kernel}, {library.path} is {own}"
    elif library.path:
        versions = f" ({library.path}{f', the module is {kernel}' if kernel else ''})"
    return _error(cause.check, f"{cause.meaning}{versions} (error {library.status})", cause.hint)


def _is_too_old(health: HealthReport, machine: Machine) -> bool:
    """Is the driver too old for this torch? From CUDA 11 on, a driver serves every runtime of its
    major version (minor version compatibility)."""
    if any("driver on your system is too old" in text for text in health.warnings):
        return True
    served = _numbers(_cuda_of(machine, health.driver_library))
    wanted = _numbers(health.torch_cuda)
    if served is None or wanted is None:
        return False
    return served[0] < wanted[0] if wanted[0] >= 11 else served < wanted


def _explain_old_driver(health: HealthReport, machine: Machine) -> Finding:
    needed = f"a driver for CUDA {health.torch_cuda}"
    if machine.driver_floor:
        needed = f"driver {machine.driver_floor}"
    installed = _describe_driver(machine, health.driver_library)
    other = ""
    if machine.fitting_build is not None:
        other = f", or take a torch that it can run: {install_command(machine.fitting_build)}"
    return _error(
        "driver-too-old",
        f"torch {health.torch_version} needs {needed} or newer; "
        f"{installed.replace('driver ', '', 1)} is installed",
        f"Update the driver{other}.",
    )


# --- devices --------------------------------------------------------------------------------------


def hides_all_gpus(value: Optional[str], devices: Optional[int] = None) -> bool:
    """Does this value of CUDA_VISIBLE_DEVICES hide every GPU? An entry that names no GPU ends the
    list; an entry that occurs twice makes it void.

    `devices`: how many GPUs there are. None: not known; then every number and UUID may be one.
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


def _explain_hidden_devices(machine: Machine) -> Optional[Finding]:
    """CUDA_VISIBLE_DEVICES hides the GPUs; None if it does not."""
    value, driver = machine.visible_devices, machine.driver
    if value is None:
        return None
    known: Optional[int] = None
    here = ""
    if driver is not None and driver.devices:
        known = len(driver.devices)
        here = f"; {_describe_driver(machine, None)} has {_describe_devices(driver)}"
    is_uuid = value.strip().startswith(("GPU-", "MIG-"))
    # CUDA found no device: if there are GPUs, the UUID is not one of theirs.
    names_other = is_uuid and known is not None
    if not names_other and not hides_all_gpus(value, known):
        return None
    names_some = value.strip() not in ("", "-1")
    why = "which names no GPU that is there" if names_some else "which hides every GPU"
    return _error(
        "devices-hidden",
        f'{DEVICES_VARIABLE} is "{value}", {why}{here}',
        f"Unset {DEVICES_VARIABLE}, or name a GPU of `nvidia-smi -L`.",
    )


def _explain_no_device(machine: Machine, library: DriverLibrary) -> Finding:
    """CUDA starts and finds no GPU."""
    driver = machine.driver
    if driver is None:
        loaded = "the driver itself is not loaded"
        if machine.kernel_driver:
            loaded = (
                f"the machine has driver {machine.kernel_driver}, and none of its GPUs is in reach"
            )
        return _error(
            "no-device",
            f"{library.path or 'libcuda.so.1'} is here and finds no GPU (error {library.status}): "
            f"{loaded}",
            f"{_CONTAINER} Elsewhere load the driver: sudo modprobe nvidia; look at dmesg.",
        )
    described = _describe_driver(machine, library)
    if not driver.devices:
        return _error(
            "no-device",
            f"{described} is loaded and has no GPU",
            f"Look at nvidia-smi and lspci. {_CONTAINER}",
        )
    return _error(
        "no-device",
        f"{described} has {_describe_devices(driver)}, and CUDA finds none (error "
        f"{library.status})",
        "Check that /dev/nvidia0 and /dev/nvidia-uvm are there; a GPU in MIG mode needs an "
        "instance "
        f"(nvidia-smi mig -lgi). {_CONTAINER}",
    )


def _explain_with_torch(health: HealthReport, machine: Machine) -> Finding:
    """No cause is known: torch's own message is the reason."""
    reason = _warning_of_torch(health) or "torch gives no reason"
    driver = _describe_driver(machine, health.driver_library)
    return _error(
        "cuda-unavailable",
        f"torch {health.torch_version} is a CUDA build, {driver} is here, and "
        f"torch.cuda.is_available() is {health.cuda_available}: {reason}",
        "Ask again without LD_LIBRARY_PATH and LD_PRELOAD: they may bring another CUDA runtime "
        "than torch's own.",
    )


# --- descriptions ---------------------------------------------------------------------------------


def _describe_driver(machine: Machine, library: Optional[DriverLibrary]) -> str:
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


def _describe_devices(driver: Driver) -> str:
    """ "2 GPUs: NVIDIA H200"."""
    names = ", ".join(dict.fromkeys(device.name for device in driver.devices))
    return f"{_count_gpus(len(driver.devices))}: {names}"


def _count_gpus(devices: int) -> str:
    return "1 GPU" if devices == 1 else f"{devices} GPUs"


def _version_in(path: Optional[str]) -> Optional[str]:
    """The driver's version in a path: `/usr/lib/libcuda.so.535.104.05` -> `535.104.05`."""
    found = re.search(r"\.so\.(\d+\.\d+(\.\d+)?)$", path or "")
    return found.group(1) if found else None


def _warning_of_torch(health: HealthReport) -> str:
    if not health.warnings:
        return ""
    return health.warnings[0].partition(" (Triggered internally")[0]


def _numbers(text: Optional[str]) -> Optional[Tuple[int, ...]]:
    """ "12.8" -> (12, 8)."""
    if text is None or re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) is None:
        return None
    return tuple(int(part) for part in text.split("."))

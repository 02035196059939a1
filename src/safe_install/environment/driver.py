"""Reads the NVIDIA driver through NVML, or takes the one that was declared for another machine.

The only module that imports pynvml (of the distribution nvidia-ml-py).
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from types import ModuleType
from typing import List, Optional, Sequence

from safe_install.models import Device, Driver


def read_driver() -> Optional[Driver]:
    """The loaded driver and its devices; None: this machine has no driver.

    If a driver is loaded and NVML fails, `problem` has the error. (18: the driver was updated and
    its kernel modules were not loaded again.)
    """
    try:
        # First, since it takes microseconds and the import of pynvml 30 ms.
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        # NVIDIA's libraries are installed, but the kernel's module is not loaded.
        not_loaded = (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        return None if error.value in not_loaded else _failed_driver(error)
    try:
        return _query(pynvml)
    except pynvml.NVMLError as error:
        return _failed_driver(error)
    finally:
        pynvml.nvmlShutdown()


def _query(nvml: ModuleType) -> Driver:
    number = nvml.nvmlSystemGetCudaDriverVersion_v2()
    devices: List[Device] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        devices.append(Device(_text(nvml.nvmlDeviceGetName(handle)), f"{major}.{minor}"))
    return Driver(
        version=_text(nvml.nvmlSystemGetDriverVersion()),
        cuda=f"{number // 1000}.{number % 1000 // 10}",
        devices=tuple(devices),
    )


def _failed_driver(error: Exception) -> Driver:
    """A loaded driver about which NVML says nothing but an error."""
    problem = f"NVML error {getattr(error, 'value', '?')}: {str(error).rstrip('.')}"
    return Driver(version=read_kernel_driver(), cuda=None, problem=problem)


def read_kernel_driver(path: Path = Path("/proc/driver/nvidia/version")) -> Optional[str]:
    """The version of the kernel's NVIDIA module; None: it is not loaded.

    Only for messages: a container sees the module even if it has no GPU.
    """
    try:
        first_line = path.read_text(errors="replace").partition("\n")[0]
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", first_line)
    return found.group() if found else None


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def declared_driver(
    *, version: Optional[str], cuda: Optional[str], capabilities: Sequence[str]
) -> Optional[Driver]:
    """The driver of `--target-driver` and `--target-gpu`; None: neither was given. `capabilities`:
    one for each GPU, "9.0"."""
    if not (version or cuda or capabilities):
        return None
    devices = tuple(Device("declared", capability) for capability in capabilities)
    return Driver(version=version, cuda=cuda, devices=devices, declared=True)

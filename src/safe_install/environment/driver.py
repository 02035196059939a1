"""Asks the NVIDIA driver through NVML, or takes what was declared for the machine that will run
this.

The only importer of pynvml (of the distribution nvidia-ml-py).
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any, List, Optional, Sequence

from safe_install.models import Device, Driver


def read_driver() -> Optional[Driver]:
    """The loaded driver and its devices; None when there is no driver here, which is normal.

    Where NVML answers nothing although a driver is loaded (18: the driver was updated and its
    modules were not loaded again), `problem` has its words.
    """
    try:
        # A dlopen costs microseconds; importing pynvml 30 ms.
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        # No module of the kernel: NVIDIA's libraries are here, and no driver is.
        not_loaded = (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
        return None if error.value in not_loaded else _unanswered(error)
    try:
        return _ask(pynvml)
    except pynvml.NVMLError as error:
        return _unanswered(error)
    finally:
        pynvml.nvmlShutdown()


def _ask(nvml: Any) -> Driver:
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


def _unanswered(error: Exception) -> Driver:
    words = f"NVML error {getattr(error, 'value', '?')}: {str(error).rstrip('.')}"
    return Driver(version=read_kernel_driver(), cuda=None, problem=words)


def read_kernel_driver(path: Path = Path("/proc/driver/nvidia/version")) -> Optional[str]:
    """The version of the kernel's NVIDIA module; None where none is loaded.

    A container sees it although it has no GPU: for reasons and hints only.
    """
    try:
        found = re.search(
            r"\b\d+\.\d+(\.\d+)?\b", path.read_text(errors="replace").partition("\n")[0]
        )
    except OSError:
        return None
    return found.group() if found else None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def declared_driver(
    *, version: Optional[str], cuda: Optional[str], capabilities: Sequence[str]
) -> Optional[Driver]:
    """What `--target-driver` and `--target-gpu` say; None when neither was given."""
    if not (version or cuda or capabilities):
        return None
    devices = tuple(Device("declared", capability) for capability in capabilities)
    return Driver(version=version, cuda=cuda, devices=devices, declared=True)

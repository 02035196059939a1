# Asks the library that the light check asks, and says why the answer is no, as the real one does.
import ctypes
import os
import warnings

from torch import _build
from torch.version import cuda as _built

_lib = os.path.join(os.path.dirname(os.path.dirname(__file__)), "lib", "libc10_cuda.so")


def _driver():
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _warn_about(driver):
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value // 1000 < int(_built.split(".")[0]):
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found version "
            f"{version.value}).",
            stacklevel=3,
        )


def device_count():
    if not _built:
        return 0
    count = ctypes.CDLL(_lib)["_ZN3c104cuda12device_countEv"]()
    if count == 0 and _driver() is not None:
        _warn_about(_driver())
    return count


def is_available():
    return device_count() > 0


def get_device_name(index=0):
    text = ctypes.create_string_buffer(100)
    _driver().cuDeviceGetName(text, 100, index)
    return text.value.decode()


def get_device_capability(index=0):
    major, minor = ctypes.c_int(), ctypes.c_int()
    _driver().cuDeviceComputeCapability(ctypes.byref(major), ctypes.byref(minor), index)
    return major.value, minor.value


def get_arch_list():
    return list(_build.ARCHITECTURES)

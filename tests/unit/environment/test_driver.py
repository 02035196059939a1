"""The driver that is declared, and the one that is not here."""

from __future__ import annotations

import ctypes
import sys
import types

import pytest

from safe_install.environment import driver
from safe_install.models import Device, Driver


@pytest.mark.parametrize(
    ("version", "cuda", "capabilities", "declared"),
    [
        (None, None, (), None),
        ("", "", (), None),
        ("535.104", None, (), Driver("535.104", None, (), declared=True)),
        (None, "11.8", (), Driver(None, "11.8", (), declared=True)),
        (
            "535.104",
            "12.2",
            ("8.0", "9.0"),
            Driver(
                "535.104",
                "12.2",
                (Device("declared", "8.0"), Device("declared", "9.0")),
                declared=True,
            ),
        ),
        (None, None, ("7.5",), Driver(None, None, (Device("declared", "7.5"),), declared=True)),
    ],
)
def test_declared_driver(version, cuda, capabilities, declared):
    assert driver.declared_driver(version=version, cuda=cuda, capabilities=capabilities) == declared


def test_without_its_library_there_is_no_driver_and_nothing_is_imported(monkeypatch):
    asked = []

    def missing(name):
        asked.append(name)
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import would fail
    assert driver.read_driver() is None
    assert asked == ["libnvidia-ml.so.1"]


class NvmlError(Exception):
    def __init__(self, value):
        super().__init__(
            {9: "Driver Not Loaded", 15: "GPU is lost", 18: "Driver/library version mismatch."}[
                value
            ]
        )
        self.value = value


@pytest.mark.parametrize(
    ("start", "ask", "expected"),
    [
        (9, None, None),
        (
            18,
            None,
            Driver("535.104.05", None, problem="NVML error 18: Driver/library version mismatch"),
        ),
        (None, 15, Driver("535.104.05", None, problem="NVML error 15: GPU is lost")),
    ],
    ids=["not loaded", "mismatch", "lost"],
)
def test_a_driver_that_answers_nothing_is_there_unless_it_is_not_loaded(
    start, ask, expected, monkeypatch
):
    def fail(value):
        if value is not None:
            raise NvmlError(value)

    nvml = types.SimpleNamespace(
        NVMLError=NvmlError,
        NVML_ERROR_DRIVER_NOT_LOADED=9,
        NVML_ERROR_LIBRARY_NOT_FOUND=12,
        nvmlInit=lambda: fail(start),
        nvmlShutdown=lambda: None,
        nvmlSystemGetCudaDriverVersion_v2=lambda: fail(ask),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(driver, "read_kernel_driver", lambda: "535.104.05")
    assert driver.read_driver() == expected


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC "
            "2023\nGCC 12.2.0",
            "535.104.05",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  "
            "(root@x)",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  455.23  Fri Sep", "455.23"),
        ("", None),
        (None, None),
    ],
)
def test_the_version_of_the_kernels_module(text, version, tmp_path):
    path = tmp_path / "version"
    if text is not None:
        path.write_text(text)
    assert driver.read_kernel_driver(path) == version

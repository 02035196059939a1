"""What is said of a CUDA torch that could not be asked for CUDA."""

from __future__ import annotations

import pytest

from safe_install.models import Driver, HealthReport, ImportResult, Severity
from safe_install.pipeline.health_gate import check_target
from tests.factories import planned_torch

CUDA, CPU = planned_torch("2.14.1+cu130", "linux_x86_64"), planned_torch("2.14.1+cpu", "linux_x86_64")
HERE, DECLARED = Driver("580.65.06", "13.0"), Driver("535.104", "12.2", declared=True)
FAILED = {"torch": ImportResult(False, error="ImportError: libcudart.so.13")}
WORKED = {"torch": ImportResult(True)}


def health(imports=WORKED, **fields):
    return HealthReport(torch_version="2.14.1+cu130", torch_cuda="13.0", imports=imports, **fields)


@pytest.mark.parametrize(
    ("torch", "driver", "after", "reason"),
    [
        (CUDA, None, health(), "there is no driver here"),
        (CUDA, DECLARED, health(), "there is no driver here"),
        (CUDA, HERE, health(), "driver 580.65.06 is here, but its libcuda.so.1 is not"),
        (CUDA, None, health(FAILED), "it cannot be imported (there is no driver here)"),
        (CUDA, HERE, health(FAILED), "it cannot be imported (driver 580.65.06 is here)"),
        (CUDA, HERE, health({}, crashed="signal SIGSEGV"), "the check did not end (driver 580.65.06 is here)"),
        (
            CUDA,
            Driver(None, None, problem="NVML error 999"),
            health(FAILED),
            "it cannot be imported (a driver is here)",
        ),
        (CUDA, None, health(cuda_available=True), None),
        (CUDA, HERE, health(cuda_available=False), None),
        (CPU, None, HealthReport(torch_version="2.14.1+cpu", imports=WORKED), None),
        (None, None, HealthReport(), None),
    ],
)
def test_why_cuda_was_not_asked(torch, driver, after, reason):
    found = check_target(torch, driver, after)
    assert [(one.check, one.severity) for one in found] == ([("cuda-not-asked", Severity.NOTE)] if reason else [])
    if reason:
        assert found[0].detail == (
            f"torch 2.14.1+cu130 is a CUDA build, and {reason}: CUDA and the GPU code of the extensions were not tried"
        )


def test_the_torch_that_is_there_now_is_the_one_that_is_told_of():
    after = HealthReport(torch_version="2.14.1+cu126", torch_cuda="12.6", imports=WORKED)
    for before in (CUDA, CPU, None):
        (found,) = check_target(before, DECLARED, after)
        assert found.detail.startswith("torch 2.14.1+cu126 is a CUDA build")
    now_cpu = HealthReport(torch_version="2.14.1+cpu", imports=WORKED)
    assert not check_target(CUDA, DECLARED, now_cpu)
    (found,) = check_target(CUDA, None, HealthReport(imports=FAILED))
    assert found.detail.startswith("torch 2.14.1+cu130 is a CUDA build, and it cannot be imported")

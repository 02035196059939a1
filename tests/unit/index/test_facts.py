"""Which build of torch a driver runs."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from safe_install.index.catalog import load_project
from safe_install.index.facts import GpuCode, TorchRelease, TorchTable

RELEASES = {
    version: TorchRelease(version, accelerators, None, {}, ())
    for version, accelerators in {
        "1.8.1": ("cpu", "cu102", "cu111", "rocm4.0.1"),
        "2.9.1": ("cpu", "cu126", "cu128", "cu130"),
        "2.14.1": ("cpu", "cu126", "cu130", "cu132"),
        "2.15.0": ("cpu", "cu130", "cu132"),
    }.items()
}


@pytest.mark.parametrize(
    ("torch", "driver_cuda", "build"),
    [
        ("2.14.1+cpu", "13.0", "2.14.1+cu130"),
        ("2.14.1+cpu", "12.8", "2.14.1+cu126"),
        ("2.14.1+cpu", "13.4", "2.14.1+cu132"),
        ("2.9.1+cpu", "12.8", "2.9.1+cu128"),
        ("2.9.1", "12.2", "2.9.1+cu126"),  # minor version compatibility: every 12.x
        ("2.15.0+cu132", "12.8", "2.14.1+cu126"),  # this release has none for CUDA 12
        ("2.15.0", "11.4", "1.8.1+cu111"),
        ("1.8.1+cu111", "10.2", "1.8.1+cu102"),
        ("1.8.1+cu111", "10.1", None),
        ("1.7.0", "13.0", None),
        ("2.8.0a0+5228986c39.nv25.05", "12.8", "1.8.1+cu111"),
        ("no version", "13.0", None),
        ("2.9.1", "unknown", None),
    ],
)
def test_the_build_for_a_driver(torch, driver_cuda, build):
    assert TorchTable(RELEASES, ()).build_for(torch, driver_cuda) == build


@pytest.mark.parametrize(
    ("version", "accelerator", "capabilities"),
    [
        ("1.0", "cu118", ("7.0",)),
        ("1.0.post1", "cu118", ("7.0",)),
        ("1.0", "cu130", ("9.0",)),
        ("1.0", None, ("9.0",)),
        ("2.0", "cu130", ("10.0",)),
        ("3.0", "cu130", None),
    ],
)
def test_the_gpu_code_of_a_wheel_is_that_of_the_first_row_that_fits(
    version, accelerator, capabilities
):
    rows = (
        GpuCode(SpecifierSet("<2"), ("7.0",), accelerators=("cu118",)),
        GpuCode(SpecifierSet("<2"), ("9.0",)),
        GpuCode(SpecifierSet("==2.0"), ("10.0",)),
    )
    project = dataclasses.replace(load_project("torch-scatter"), gpu_code=rows)
    found = project.gpu_code_of(Version(version), accelerator)
    assert (found and found.capabilities) == capabilities

"""A real CUDA extension, compiled by nvcc for the installed torch: installed, examined, taken
back."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.cuda.conftest import ARCHITECTURE, TORCH, Extension, errors_of, other_than_computing
from tests.lab.wheels import write_wheel

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


def test_the_wheel_runs_on_the_gpu_that_it_was_built_for_and_on_no_other(
    make_environment, extension, built_wheel
):
    image = make_environment(driver=False)
    names = zipfile.ZipFile(built_wheel).namelist()
    assert len([name for name in names if name.endswith("_cuda.so")]) == extension.libraries
    fits = image.safe_install("check-wheel", str(built_wheel), "--target-gpu", ARCHITECTURE)
    assert fits.returncode == 0, fits.stdout
    other = image.safe_install("check-wheel", str(built_wheel), "--target-gpu", "9.0")
    assert other.returncode == 1, other.stdout


@pytest.mark.long
def test_installed_verified_and_taken_back_on_a_machine_with_a_gpu(
    environment, extension, built_wheel
):
    before = environment.tree()
    document = environment.document("install", str(built_wheel))
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    assert document["after"]["cuda_available"] is True
    assert document["after"]["imports"][extension.module]["ok"]
    if extension.name == "torch-spline-conv":  # what it computes is known to us
        assert document["after"]["operations"]["torch-spline-conv on cpu"]["ok"]
    assert environment.ask(extension.use) == extension.printed
    verified = environment.document("verify")
    assert verified["after"]["imports"][extension.module]["ok"]
    assert not list(other_than_computing(verified)), verified["findings"]
    undone = environment.document("undo")
    assert (undone["exit_code"], undone["outcome"]) == (0, "undone"), undone["findings"]
    assert environment.tree() == before
    assert environment.cuda() == f"{TORCH} True"


# --- a wheel with a file for the CPU and one for CUDA, of which a process may load one ------------


@pytest.fixture
def twin_wheel(extension: Extension, built_wheel: Path, tmp_path: Path) -> Path:
    """The wheel with _x_cpu.so beside each _x_cuda.so. Both register the same operators, as in the
    published wheels."""
    with zipfile.ZipFile(built_wheel) as archive:
        files = {
            name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name
        }
    version = built_wheel.name.split("-")[1]
    twins = {
        name.replace("_cuda.so", "_cpu.so"): data
        for name, data in files.items()
        if name.endswith("_cuda.so")
    }
    assert len(twins) == extension.libraries
    tag = "-".join(built_wheel.stem.split("-")[2:])
    return write_wheel(tmp_path / "twins", extension.name, version, {**files, **twins}, tag=tag)


@pytest.fixture(params=[True, False], ids=["with a GPU", "image build"])
def machine(request, make_environment):
    return make_environment(driver=request.param)


@pytest.mark.long
def test_both_twins_in_one_process_end_it(make_environment, extension, twin_wheel):
    """What makes the next test worth something."""
    image = make_environment(driver=False)
    image.must_pip("install", "--no-deps", str(twin_wheel))
    twins = f"glob.glob(sys.prefix + '/lib/*/*/{extension.module}/{extension.twins}')"
    loads = f"import torch, glob, sys; print([torch.ops.load_library(p) for p in {twins}])"
    assert image.ask(loads) != "[None, None]"
    assert image.ask(extension.use) == extension.printed


@pytest.mark.long
def test_twins_are_no_reason_to_call_a_wheel_broken(machine, extension, twin_wheel):
    document = machine.document("install", str(twin_wheel))
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    assert machine.ask(extension.use) == extension.printed
    verified = machine.document("verify")
    assert not list(other_than_computing(verified)), verified["findings"]
    if verified["after"]["cuda_available"] is None:
        assert verified["exit_code"] == 0


# --- an image that is built where there is no GPU -------------------------------------------------


@pytest.mark.long
def test_an_image_for_a_declared_machine_is_built_and_says_what_was_not_checked(
    make_environment, extension, built_wheel
):
    image = make_environment(driver=False)
    target = ("--target-driver", "580.65.06", "--target-gpu", ARCHITECTURE)
    document = image.document("install", *target, str(built_wheel))
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    assert document["after"]["cuda_available"] is None
    assert not errors_of(document)
    assert any("driver" in finding["detail"] for finding in document["findings"])
    assert image.ask(extension.use) == extension.printed


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(
            ("--target-driver", "535.104.05"),
            id="driver too old for torch",
            marks=pytest.mark.long,
        ),
        pytest.param(("--target-gpu", "9.0"), id="no code for the GPU"),
    ],
)
def test_an_image_that_could_not_run_there_is_refused(make_environment, built_wheel, target):
    image = make_environment(driver=False)
    before = image.tree()
    document = image.document("install", *target, str(built_wheel))
    assert (document["exit_code"], document["outcome"]) == (11, "refused"), document["findings"]
    assert target[1].rpartition(".")[0] in str(document["findings"]) + str(document["error"])
    assert image.tree() == before

"""What `verify` says of a machine and its driver, and what an install that costs CUDA comes to."""

from __future__ import annotations

import pytest

from tests.cuda.conftest import TORCH, errors_of, find_template, other_than_computing, text_of
from tests.lab import stacks

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


# --- verify ---------------------------------------------------------------------------------------


def test_a_gpu_that_works_is_named(environment):
    document = environment.document("verify", "--require-cuda")
    assert document["after"]["cuda_available"] is True
    assert document["after"]["device_count"] == 1
    assert [device["name"] for device in document["environment"]["driver"]["devices"]] == [
        "NVIDIA A100-SXM4-40GB"
    ]
    assert not list(other_than_computing(document)), document["findings"]


def test_without_a_driver_a_cuda_build_is_healthy_and_says_what_was_not_asked(make_environment):
    image = make_environment(driver=False)
    completed = image.safe_install("verify")
    assert completed.returncode == 0, text_of(completed)
    assert TORCH in text_of(completed)
    assert "driver" in text_of(completed)
    required = image.document("verify", "--require-cuda")
    assert required["exit_code"] == 1
    assert required["after"]["cuda_available"] is None
    assert "cuda-required" in [finding["check"] for finding in errors_of(required)]


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        pytest.param(
            {"FAKE_DRIVER": "535.104.05", "FAKE_DRIVER_CUDA": "12.2"},
            [TORCH, "580.65.06", "535.104.05", "12.2"],
            id="driver too old",
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": ""},
            ["CUDA_VISIBLE_DEVICES"],
            id="no device visible",
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "7"},
            ["CUDA_VISIBLE_DEVICES", "7"],
            id="a device that is not there",
            marks=pytest.mark.long,
        ),
        pytest.param(
            {"FAKE_CUINIT_RC": "999"}, ["999"], id="the driver fails", marks=pytest.mark.long
        ),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_not_healthy(make_environment, variables, named):
    machine = make_environment(**variables)
    document = machine.document("verify")
    assert document["after"]["cuda_available"] is False
    assert (document["exit_code"], document["outcome"]) == (1, "unhealthy")
    said = " ".join(f"{finding['detail']} {finding['hint']}" for finding in errors_of(document))
    for words in named:
        assert words in said


@pytest.mark.long
def test_a_build_without_cuda_on_a_machine_with_a_gpu_is_not_healthy(make_environment):
    machine = make_environment(source=find_template(stacks.CPU))
    document = machine.document("verify")
    assert document["environment"]["torch"]["version"] == stacks.CPU.torch
    assert document["exit_code"] == 1
    assert stacks.CPU.torch in " ".join(finding["detail"] for finding in errors_of(document))


# --- a package that brings another torch ----------------------------------------------------------


@pytest.mark.long
def test_plain_pip_takes_cuda_away_and_calls_it_success(environment):
    assert environment.cuda() == f"{TORCH} True"
    environment.must_pip("install", "older-torch-tools")
    environment.must_pip("check")
    assert environment.cuda() == "2.13.0+cpu False"


def test_a_package_that_would_bring_another_torch_is_refused(environment):
    before = environment.tree()
    document = environment.document("install", "older-torch-tools")
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert "older-torch-tools 1.0" in document["error"]["message"]
    assert environment.tree() == before


def test_a_permitted_change_that_loses_cuda_is_put_back(environment):
    before = environment.tree()
    document = environment.document("install", "--allow-torch-change", "older-torch-tools")
    assert (document["exit_code"], document["outcome"]) == (12, "rolled-back")
    assert "cuda-lost" in [finding["check"] for finding in errors_of(document)]
    assert (document["before"]["cuda_available"], document["after"]["cuda_available"]) == (
        True,
        False,
    )
    assert environment.tree() == before
    assert environment.cuda() == f"{TORCH} True"


@pytest.mark.long
def test_a_build_without_cuda_that_is_asked_for_by_name_may_take_it_away(environment):
    document = environment.document("install", "torch==2.13.0+cpu")
    assert (document["exit_code"], document["outcome"]) == (0, "installed"), document["findings"]
    assert ("cuda-lost", "warning") in [
        (found["check"], found["severity"]) for found in document["findings"]
    ]
    assert environment.cuda() == "2.13.0+cpu False"


@pytest.mark.long
def test_an_install_is_not_blamed_for_a_driver_that_was_too_old_before(make_environment):
    machine = make_environment(FAKE_DRIVER="535.104.05", FAKE_DRIVER_CUDA="12.2")
    document = machine.document("install", "harmless-tools")
    assert document["exit_code"] == 0, document["findings"]
    assert (document["before"]["cuda_available"], document["after"]["cuda_available"]) == (
        False,
        False,
    )

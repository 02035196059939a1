from __future__ import annotations

import dataclasses

import pytest

from safe_install.errors import UsageError
from safe_install.models import Driver
from safe_install.resolve.target import notes_for, parse_platform
from tests.factories import environment_for


@pytest.mark.parametrize(
    ("torch", "platform", "accelerator", "cuda", "abi", "runtime"),
    [
        ("1.8.1+cu111", "linux_x86_64", "cu111", "11.1", False, "1.8.1+cu111"),
        ("2.13.0+cpu", "linux_x86_64", "cpu", None, True, "2.13.0+cpu"),
        ("2.15.0", "linux_x86_64", "cu132", "13.2", True, "2.15.0+cu132"),
        ("2.10.0", "linux_aarch64", "cpu", None, True, "2.10.0+cpu"),
        ("2.13.0", "linux_aarch64", "cu130", "13.0", True, "2.13.0+cu130"),
        ("2.13.0", "linux_s390x", "", None, True, "2.13.0"),
        ("2.13.0", "win_amd64", "cpu", None, None, "2.13.0+cpu"),
        ("2.6.0+cpu.cxx11.abi", "linux_x86_64", "cpu", None, True, "2.6.0+cpu.cxx11.abi"),
        ("2.8.0a0+nv25.5", "linux_x86_64", "cu12", "12", True, "2.8.0a0+nv25.5"),
        (
            "2.12.0a0+291f960b6.nv26.4.48",
            "linux_aarch64",
            "cu13",
            "13",
            True,
            "2.12.0a0+291f960b6.nv26.4.48",
        ),
        ("9.9.9", "linux_x86_64", "", None, True, "9.9.9"),
    ],
)
def test_torch_elsewhere(torch, platform, accelerator, cuda, abi, runtime):
    found = environment_for(torch=torch, python_version="3.11", platform=platform).torch
    assert (found.accelerator, found.cuda, found.cxx11_abi, found.runtime_version) == (
        accelerator,
        cuda,
        abi,
        runtime,
    )
    assert str(found.version) == torch


def test_what_is_said_outweighs_the_rule():
    found = environment_for(
        torch="1.8.1+cu111", python_version="3.8", platform="linux_x86_64", cxx11_abi=True
    )
    assert found.torch.cxx11_abi is True


@pytest.mark.parametrize(
    ("platform", "machine", "libc"),
    [
        ("linux_x86_64", "linux_x86_64", ("", "")),
        ("linux-aarch64", "linux_aarch64", ("", "")),
        ("manylinux_2_28_x86_64", "linux_x86_64", ("glibc", "2.28")),
        ("manylinux2014_aarch64", "linux_aarch64", ("glibc", "2.17")),
        ("musllinux_1_2_x86_64", "linux_x86_64", ("musl", "1.2")),
        ("macosx_14_0_arm64", "macosx_14_0_arm64", ("", "")),
        ("win_amd64", "win_amd64", ("", "")),
    ],
)
def test_platforms(platform, machine, libc):
    assert parse_platform(platform) == (machine, libc)


@pytest.mark.parametrize(
    "wrong",
    [
        {"platform": "solaris"},
        {"platform": ""},
        {"python_version": "3"},
        {"python_version": "three"},
        {"torch": "the newest"},
    ],
)
def test_what_cannot_be_understood(wrong):
    values = {"torch": "1.8.1+cu111", "python_version": "3.8", "platform": "linux_x86_64", **wrong}
    with pytest.raises(UsageError) as caught:
        environment_for(**values)
    assert caught.value.hint


def test_an_unknown_glibc_is_said():
    unknown = environment_for(torch="2.13.0+cpu", python_version="3.11", platform="linux_x86_64")
    known = environment_for(
        torch="2.13.0+cpu", python_version="3.11", platform="manylinux_2_28_x86_64"
    )
    assert any("glibc" in note for note in notes_for(unknown))
    assert notes_for(known) == ()
    assert any(str(tag).endswith("manylinux_2_39_x86_64") for tag in unknown.interpreter.tags)
    assert not any(str(tag).endswith("manylinux_2_39_x86_64") for tag in known.interpreter.tags)


def test_a_torch_that_does_not_say_what_it_was_built_for_is_noted():
    known = environment_for(
        torch="2.13.0+cpu", python_version="3.11", platform="manylinux_2_28_x86_64"
    )
    unknown = dataclasses.replace(known, torch=dataclasses.replace(known.torch, accelerator=""))
    (note,) = notes_for(unknown)
    assert "does not say what it was built for" in note


def test_a_mac_has_no_use_for_a_driver():
    mac = environment_for(torch=None, python_version="3.11", platform="macosx_14_0_arm64")
    assert notes_for(mac) == ()
    (note,) = notes_for(dataclasses.replace(mac, driver=Driver("560.35", None)))
    assert note.startswith("no torch for macOS has CUDA")

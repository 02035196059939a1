from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag, sys_tags

from safe_install import tags


@pytest.mark.parametrize(
    ("text", "kind", "version", "written"),
    [
        ("cu111", "cuda", (11, 1), "cu111"),
        ("cu92", "cuda", (9, 2), "cu92"),
        ("cu100", "cuda", (10, 0), "cu100"),
        ("cu132", "cuda", (13, 2), "cu132"),
        ("cu.12.8", "cuda", (12, 8), "cu128"),
        ("cu12", "cuda", (12,), "cu12"),
        ("CU118", "cuda", (11, 8), "cu118"),
        ("cpu", "cpu", (), "cpu"),
        ("rocm6.2", "rocm", (6, 2), "rocm6.2"),
        ("rocm6.2.4", "rocm", (6, 2, 4), "rocm6.2.4"),
        ("xpu", "xpu", (), "xpu"),
    ],
)
def test_accelerators_are_read_and_written(text, kind, version, written):
    parsed = tags.parse_accelerator(text)
    assert (parsed.kind, parsed.version) == (kind, version)
    assert str(parsed) == written


@pytest.mark.parametrize(
    "text", ["", "cu", "cu1", "cuda", "cu12345", "graphics", "rocm", "cpu.cxx11.abi", "nv25.5"]
)
def test_what_is_no_accelerator(text):
    assert tags.parse_accelerator(text) is None


@given(st.text(max_size=30))
def test_reading_an_accelerator_never_raises(text):
    parsed = tags.parse_accelerator(text)
    assert parsed is None or tags.parse_accelerator(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("cuda", "accelerator"),
    [("11.1", "cu111"), ("12.8", "cu128"), ("10.2", "cu102"), ("9.2", "cu92")],
)
def test_cuda_and_accelerator(cuda, accelerator):
    assert tags.accelerator_of_cuda(cuda) == accelerator
    assert tags.cuda_of_accelerator(accelerator) == cuda


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("cu12", "cu126", True),
        ("cu121", "cu126", True),
        ("cu118", "cu121", False),
        ("cpu", "cu121", False),
        ("cpu", "cpu", True),
        ("rocm6.2", "rocm6.3", False),
        ("junk", "junk", False),
    ],
)
def test_same_major(one, other, same):
    assert tags.is_same_major(one, other) is same


@pytest.mark.parametrize(
    ("version", "accelerator"),
    [
        ("1.8.1+cu111", "cu111"),
        ("2.13.0+cpu", "cpu"),
        ("2.6.0+cpu.cxx11.abi", "cpu"),
        ("2.15.0", None),
        ("2.8.0a0+nv25.5", None),
    ],
)
def test_accelerator_of_a_version(version, accelerator):
    assert tags.accelerator_of_version(version) == accelerator


@pytest.mark.parametrize(
    ("text", "found", "written"),
    [
        ("8.0", (8, 0, "", False), "8.0"),
        ("9.0a", (9, 0, "a", False), "9.0a"),
        ("10.3f", (10, 3, "f", False), "10.3f"),
        ("12.1", (12, 1, "", False), "12.1"),
        ("9", (9, 0, "", False), "9.0"),
        ("8.6+PTX", (8, 6, "", True), "8.6+PTX"),
        ("9.0A+ptx", (9, 0, "a", True), "9.0a+PTX"),
    ],
)
def test_compute_capabilities(text, found, written):
    assert tags.parse_capability(text) == tags.ComputeCapability(*found)
    assert str(tags.parse_capability(text)) == written


@pytest.mark.parametrize(
    "text", ["", "Ampere", "8.0b", "8.", "sm_80", "8.0+", "8.0 9.0", "-8.0", "8.0.1"]
)
def test_what_is_no_compute_capability(text):
    assert tags.parse_capability(text) is None


@pytest.mark.parametrize(
    ("code", "devices"),
    [
        ("8.0", "8.0 8.6 8.9"),
        ("8.6", "8.6 8.9"),
        ("9.0", "9.0"),
        ("9.0a", "9.0"),
        ("10.0", "10.0 10.3"),
        ("10.0a", "10.0"),
        ("10.0f", "10.0 10.3"),
        ("10.3f", "10.3"),
        ("12.0f", "12.0 12.1"),
        ("8.0+PTX", "8.0 8.6 8.9 9.0 10.0 10.3 12.0 12.1"),
        ("9.0+PTX", "9.0 10.0 10.3 12.0 12.1"),
        ("9.0a+PTX", "9.0"),
        ("10.0a+PTX", "10.0"),
        ("10.0f+PTX", "10.0 10.3"),
    ],
)
def test_where_gpu_code_runs(code, devices):
    """CUDA Programming Guide, 5.1.2: feature set compiler targets."""
    everywhere = tags.parse_device_capabilities(
        ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "10.3", "12.0", "12.1"]
    )
    assert (
        " ".join(str(one) for one in everywhere if tags.parse_capability(code).runs_on(one))
        == devices
    )


def test_capabilities_have_an_order_and_are_named_as_nvcc_does():
    found = [
        tags.parse_capability(text) for text in ("10.0", "9.0+PTX", "9.0a", "8.6", "9.0", "10.0f")
    ]
    assert [str(one) for one in sorted(found)] == ["8.6", "9.0", "9.0+PTX", "9.0a", "10.0", "10.0f"]
    assert tags.parse_capability("10.0a+PTX").sm == "sm_100a"


def test_tags_are_those_that_packaging_finds_for_the_running_interpreter():
    import platform
    import sysconfig

    version = ".".join(str(part) for part in __import__("sys").version_info[:3])
    here = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    found = tags.supported_tags(version, "cpython", here, platform.libc_ver())
    assert set(found) == set(sys_tags())
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("python", "platform", "libc", "abiflags", "best", "taken", "refused"),
    [
        (
            "3.8",
            "linux_x86_64",
            ("glibc", "2.17"),
            "",
            "cp38-cp38-manylinux_2_17_x86_64",
            [
                "cp38-cp38-linux_x86_64",
                "cp36-abi3-manylinux1_x86_64",
                "py3-none-any",
                "cp38-cp38-manylinux2014_x86_64",
            ],
            ["cp38-cp38-manylinux_2_28_x86_64", "cp39-cp39-linux_x86_64", "cp39-abi3-linux_x86_64"],
        ),
        (
            "3.8.10",
            "linux_x86_64",
            ("", ""),
            "",
            "cp38-cp38-manylinux_2_44_x86_64",
            ["cp38-cp38-manylinux_2_28_x86_64"],
            ["cp38-cp38-musllinux_1_2_x86_64"],
        ),
        (
            "3.11",
            "linux_aarch64",
            ("glibc", "2.28"),
            "",
            "cp311-cp311-manylinux_2_28_aarch64",
            ["cp310-abi3-manylinux_2_28_aarch64", "cp311-cp311-manylinux2014_aarch64"],
            ["cp311-cp311-manylinux1_aarch64", "cp311-cp311-linux_x86_64"],
        ),
        (
            "3.12",
            "linux_x86_64",
            ("musl", "1.2"),
            "",
            "cp312-cp312-musllinux_1_2_x86_64",
            ["cp312-cp312-musllinux_1_1_x86_64", "cp312-cp312-linux_x86_64"],
            ["cp312-cp312-manylinux_2_17_x86_64"],
        ),
        (
            "3.7",
            "win_amd64",
            ("", ""),
            "",
            "cp37-cp37m-win_amd64",
            ["py3-none-any"],
            ["cp37-cp37-win_amd64"],
        ),
        (
            "3.13",
            "macosx_14_0_arm64",
            ("", ""),
            "",
            "cp313-cp313-macosx_14_0_arm64",
            ["cp313-cp313-macosx_11_0_arm64", "cp313-cp313-macosx_11_0_universal2"],
            ["cp313-cp313-macosx_15_0_arm64", "cp313-cp313-macosx_11_0_x86_64"],
        ),
        (
            "3.14",
            "linux_x86_64",
            ("glibc", "2.39"),
            "t",
            "cp314-cp314t-manylinux_2_39_x86_64",
            ["py3-none-any"],
            ["cp314-cp314-manylinux_2_28_x86_64"],
        ),
    ],
)
def test_tags_of_an_interpreter(python, platform, libc, abiflags, best, taken, refused):
    found = tags.supported_tags(python, "cpython", platform, libc, abiflags)
    assert str(found[0]) == best
    for text in taken:
        assert Tag(*text.split("-")) in found
    for text in refused:
        assert Tag(*text.split("-")) not in found


def test_tags_are_quick_enough_for_every_run():
    best = min(_seconds() for _ in range(5))
    assert best < 0.5  # seconds of the processor; usually 0.003


def _seconds() -> float:
    started = time.process_time()
    tags.supported_tags("3.13", "cpython", "linux_x86_64", ("", ""))
    return time.process_time() - started


@pytest.mark.parametrize(
    ("version", "container", "accelerator"),
    [
        ("2.7.0a0+79aa17489c.nv25.04", "25.04", "cu12"),
        # as METADATA has it: PEP 440 drops the zero
        ("2.8.0a0+5228986c39.nv25.5", "25.05", "cu12"),
        ("2.11.0a0+a6c236b9fd.nv26.03.46836102", "26.03", "cu13"),
        ("2.7.0a0+nv25.08", "25.08", "cu13"),
        ("2.8.0+cu128", None, None),
        ("2.8.0", None, None),
        ("1.13.0a0+d321be6", None, None),
        ("2.7.0a0+inv25.04", None, None),
    ],
)
def test_the_container_of_a_torch(version, container, accelerator):
    assert tags.container_of_version(version) == container
    if container is not None:
        assert tags.accelerator_of_container(container) == accelerator
        assert tags.container_of_name(f"nv{container}") == container


@pytest.mark.parametrize("torch", ["2.8", "2.8.0", ">=2.14.0", "nv25", "nv25.4", ""])
def test_what_names_no_container(torch):
    assert tags.container_of_name(torch) is None


def test_tags_of_another_implementation_are_those_without_an_abi():
    found = [
        str(tag) for tag in tags.supported_tags("3.10", "pypy", "linux_x86_64", ("glibc", "2.28"))
    ]
    assert "pp310-none-any" in found and "py3-none-any" in found
    assert not [tag for tag in found if tag.startswith("cp")]

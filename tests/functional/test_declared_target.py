"""An image is built where there is no GPU: what was declared for the target must fit, and is said
before any change.

torch and the wheels are stand-ins (tests/lab) with real ELF files; pip, the environments and the
processes are real.
"""

from __future__ import annotations

from typing import Any, Dict, Set, Tuple

import pytest

from tests.functional.conftest import Environment, need_python
from tests.lab.wheels import write_wheel
from tests.unit.wheels.elffiles import cubin, make_elf, make_fatbin

TORCH = "torch==2.4.1"  # for CUDA 12.1: driver 525.60.13 or newer, code from 5.0 to 9.0
OLD, GOOD = "--target-driver=520.61.05", "--target-driver=535.104.05"
ERROR, WARNING = "error", "warning"
TOO_OLD, NO_KERNEL, UNMET = "driver-too-old", "no-kernel-image", "requirement-unmet"


@pytest.fixture
def environment(make_environment) -> Environment:
    return make_environment("3.11", TORCH)


def told(document: Dict[str, Any]) -> Set[Tuple[str, str, str]]:
    return {
        (finding["check"], finding["severity"], finding["subject"])
        for finding in document["findings"]
    }


# --- torch ----------------------------------------------------------------------------------------

REFUSED = {
    "driver": (
        ["--dry-run", OLD, "typing-extensions"],
        {},
        TOO_OLD,
        "driver 525.60.13 or newer, declared is 520.61.05",
    ),
    "driver, for real": (
        [OLD, "typing-extensions"],
        {},
        TOO_OLD,
        "driver 525.60.13 or newer, declared is 520.61.05",
    ),
    "CUDA": (
        ["--dry-run", "typing-extensions"],
        {"CONDA_OVERRIDE_CUDA": "11.8"},
        TOO_OLD,
        "declared is one for CUDA 11.8",
    ),
    "GPU": (
        ["--dry-run", "--target-gpu=12.0", "typing-extensions"],
        {},
        NO_KERNEL,
        "no kernel image for sm_120",
    ),
    "torch that comes": (
        ["--dry-run", GOOD, "torch==2.14.1"],
        {},
        TOO_OLD,
        "torch 2.14.1+cu130 needs driver 580.65.06",
    ),
}


@pytest.mark.parametrize(
    ("words", "variables", "check", "detail"), REFUSED.values(), ids=REFUSED.keys()
)
def test_a_torch_that_does_not_run_there_is_refused(environment, words, variables, check, detail):
    before = environment.tree()
    document = environment.document("install", *words, **variables)
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert told(document) == {(check, ERROR, "torch")}
    assert detail in document["error"]["message"]
    assert document["error"]["hint"].startswith(
        "Take a build that runs there: safe-install torch=="
    )
    assert environment.tree() == before


OTHER_CUDA = ("torch-accelerator", WARNING, "torch")  # said of every torch that is for another CUDA


@pytest.mark.parametrize(
    ("declared", "requirement", "said"),
    [
        (GOOD, "typing-extensions", set()),
        ("--target-driver=580.65.06", "torch==2.14.1", {OTHER_CUDA}),
    ],
)
def test_what_runs_there_is_planned(environment, declared, requirement, said):
    document = environment.document(
        "install", "--dry-run", declared, "--target-gpu=9.0", requirement
    )
    assert (document["exit_code"], document["outcome"]) == (0, "planned")
    assert told(document) == said


def test_a_driver_that_is_here_refuses_nothing_and_is_said_of_a_torch_that_comes(environment):
    here = {"FAKE_DRIVER": "520.61.05", "FAKE_DRIVER_CUDA": "11.8", "FAKE_GPU_CC": "12.0"}
    document = environment.document("install", "--dry-run", "typing-extensions", **here)
    assert (document["exit_code"], told(document)) == (0, set())
    document = environment.document("install", "--dry-run", "torch==2.14.1", **here)
    assert (document["exit_code"], told(document)) == (0, {(TOO_OLD, WARNING, "torch"), OTHER_CUDA})
    completed = environment.safe_install("install", "torch==2.14.1", **here)
    plan, _, _ = completed.stderr.partition("check after the change")
    assert (
        "torch 2.14.1+cu130 needs driver 580.65.06 or newer, here is 520.61.05 (CUDA 11.8)" in plan
    )


# --- wheels ---------------------------------------------------------------------------------------


@pytest.fixture
def wheel(tmp_path):
    """Nothing in it links torch: its Python code takes the library for torch's CUDA."""
    files = {"demo_kernels/__init__.py": ""}
    for cuda, code in (("118", "6.0"), ("121", "8.0"), ("130", "12.0")):
        library = f"libcudart.so.{cuda[:2]}{'.0' if cuda < '12' else ''}"
        content = make_elf(needed=[library], sections={".nv_fatbin": make_fatbin(cubin(code))})
        files[f"demo_kernels/libdemo_cuda{cuda}.so"] = content
    return write_wheel(
        tmp_path / "wheels", "demo-kernels", "1.0", files, requires=["torch>=2"], tag="py3-none-any"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--target-gpu=8.6"], set()),
        (["--target-gpu=6.1"], {(NO_KERNEL, ERROR, "demo-kernels")}),
        (["--target-gpu=12.0"], {(NO_KERNEL, ERROR, "demo-kernels"), (NO_KERNEL, ERROR, "torch")}),
        ([OLD], {(TOO_OLD, ERROR, "demo-kernels"), (TOO_OLD, ERROR, "torch")}),
        ([GOOD], set()),
    ],
)
def test_a_wheel_that_nothing_links(environment, wheel, words, expected):
    document = environment.document("check-wheel", *words, str(wheel), FAKE_NVML_RC="9")
    assert told(document) == expected
    assert document["exit_code"] == (1 if expected else 0)
    (objects,) = [one["objects"] for one in document["details"]["wheels"].values()]
    assert {one["file"][-6:-3]: (one["gpu_code"], one["needs_cuda"]) for one in objects} == {
        "118": ("6.0", 11),
        "121": ("8.0", 12),
        "130": ("12.0", 13),
    }


def test_it_is_refused_before_it_is_installed(environment, wheel):
    before = environment.tree()
    document = environment.document("install", "--target-gpu=6.1", str(wheel))
    assert (document["exit_code"], document["outcome"]) == (11, "refused")
    assert told(document) == {(NO_KERNEL, ERROR, "demo-kernels")}
    assert environment.tree() == before


REQUIREMENTS = {
    "another torch": (["torch<2.4"], "", (UNMET, "requires torch<2.4, and here is torch 2.4.1")),
    "this torch": (["torch<2.5,>=2.4"], "", None),
    "a companion that is not there": (["torchvision==0.1"], "", None),
    "a library of torch": (
        ["nvidia-nccl-cu12==1.0"],
        "",
        (UNMET, "requires nvidia-nccl-cu12==1.0, and here is"),
    ),
    "something else": (["pip==1.0"], "", None),
    "another Python by its marker": (['torch<2.4; python_version < "3.8"'], "", None),
    "for an extra": (['torch<2.4; extra == "old"'], "", None),
    "cannot be read": (["torch<<2"], "", None),
    "another Python": (
        [],
        "Requires-Python: >=3.12\n",
        ("requires-python", "requires Python >=3.12, and here is 3.11"),
    ),
    "this Python": ([], "Requires-Python: >=3.8\n", None),
}


def test_requirements_of_a_wheel(make_environment, tmp_path):
    need_python("3.11")
    environment = make_environment("3.11", TORCH, "nvidia-nccl-cu12")
    written = {
        f"demo-{number}": write_wheel(
            tmp_path, f"demo-{number}", "1.0", {}, requires=requires, metadata=metadata
        )
        for number, (requires, metadata, _) in enumerate(REQUIREMENTS.values())
    }
    document = environment.document("check-wheel", *map(str, written.values()))
    found = {
        finding["subject"]: (finding["check"], finding["detail"])
        for finding in document["findings"]
    }
    for (name, path), (case, (_, _, expected)) in zip(written.items(), REQUIREMENTS.items()):
        assert document["details"]["wheels"][path.name]["fits"] is (expected is None), case
        check, detail = found.pop(name, (None, ""))
        assert check == (expected[0] if expected else None), case
        assert (expected[1] if expected else "") in detail, case
    assert not found
    assert document["exit_code"] == 1

"""Another torch: was it asked for?"""

from __future__ import annotations

import pytest
from packaging.version import Version

from safe_install.models import Action, Step, TorchBuild
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.torch_change import (
    AskedOfTorch,
    check_places,
    check_torch_change,
    who_excludes,
)
from tests.factories import make_environment


def torch_build(version):
    local = version.partition("+")[2]
    cuda = f"{local[2:-1]}.{local[-1]}" if local.startswith("cu") else None
    return TorchBuild(Version(version), version, local, cuda)


CUDA_INDEX = "https://download.pytorch.org/whl/cu130"


@pytest.mark.parametrize(
    ("installed", "coming", "asked", "expected"),
    [
        ("2.13.0+cpu", "2.14.1+cpu", AskedOfTorch(("torch",)), {}),
        ("2.13.0+cpu", "2.13.0+cpu", AskedOfTorch(("torch",)), {}),
        # Another accelerator: named by nobody, by its version, by its index, or permitted.
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch==2.12.0",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cu130",
            "2.13.0+cpu",
            AskedOfTorch(("torch==2.13.0",)),
            {"torch-accelerator": "error"},
        ),
        ("2.13.0+cpu", "2.14.1+cu130", AskedOfTorch(("torch",)), {"torch-accelerator": "error"}),
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch==2.12.0+cu130",)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cpu",
            "2.14.1+cu130",
            AskedOfTorch(("torch",), (CUDA_INDEX,)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cpu",
            "2.14.1+cu130",
            AskedOfTorch(("torch",), (f"{CUDA_INDEX}x",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch @ https://h/torch-2.12.0%2Bcu130-cp311-cp311-linux_x86_64.whl",)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cpu",
            "2.12.0+cu130",
            AskedOfTorch(("torch==2.12.0",), allow_change=True),
            {"torch-accelerator": "warning"},
        ),
        # Each release has its own CUDA on the package index; who names no release gets no other
        # one.
        (
            "2.8.0+cu128",
            "2.14.1+cu130",
            AskedOfTorch(("torch==2.14.1",)),
            {"torch-accelerator": "warning"},
        ),
        ("2.8.0+cu128", "2.14.1+cu130", AskedOfTorch(("torch",)), {"torch-accelerator": "error"}),
        # An older release is one that somebody named.
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch==2.12.0",)), {}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch<2.13",)), {}),
        (
            "2.13.0+cpu",
            "2.12.0+cpu",
            AskedOfTorch(("torch @ https://h/torch-2.12.0%2Bcpu-cp311.whl",)),
            {},
        ),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch>=2.0",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch!=2.1,<3",)), {"torch-moved": "error"}),
        (
            "2.13.0+cpu",
            "2.12.0+cpu",
            AskedOfTorch(('torch; python_version >= "3"',)),
            {"torch-moved": "error"},
        ),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch",)), {"torch-moved": "error"}),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch",), allow_change=True), {}),
        # A specifier that the installed one satisfies names no other release.
        (
            "2.13.0+cu126",
            "2.14.1+cu130",
            AskedOfTorch(("torch>=1",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cu126",
            "2.14.1+cu130",
            AskedOfTorch(("torch[opt-einsum]",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cu126",
            "2.13.0+cu130",
            AskedOfTorch(("torch==2.13.0",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cu126",
            "2.13.0+cu130",
            AskedOfTorch(("torch==2.*",)),
            {"torch-accelerator": "error"},
        ),
        (
            "2.13.0+cu126",
            "2.13.0+cu130",
            AskedOfTorch(("torch==2.13.0+cu130",)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cu126",
            "2.14.1+cu130",
            AskedOfTorch(("torch>=2.14",)),
            {"torch-accelerator": "warning"},
        ),
        (
            "2.13.0+cpu",
            "2.12.0+cpu",
            AskedOfTorch(("torch[opt-einsum]",)),
            {"torch-moved": "error"},
        ),
        ("2.13.0+cpu", "2.12.0+cpu", AskedOfTorch(("torch>=1", "torch<2.13")), {}),
        (
            "2.14.0.dev20261101+cpu",
            "2.13.0+cpu",
            AskedOfTorch(("torch",)),
            {"torch-moved": "error"},
        ),
        ("2.13.0+cpu", "2.14.0.dev20261101+cpu", AskedOfTorch(("torch",)), {}),
        # What it was built for is not known: nothing is said.
        ("2.13.0+cpu", "9.9.0", AskedOfTorch(("torch",)), {}),
        (None, "2.12.0+cpu", AskedOfTorch(("torch",)), {}),
    ],
)
def test_another_kind_of_torch(installed, coming, asked, expected):
    found = check_torch_change(
        torch_build(installed) if installed else None, torch_build(coming), asked
    )
    assert {one.check: one.severity.value for one in found} == expected
    for one in found:
        assert not one.hint or "\n" not in one.hint


def test_the_way_to_the_accelerator_that_is_there():
    (found,) = check_torch_change(
        torch_build("2.13.0+cpu"), torch_build("2.12.0+cu130"), AskedOfTorch(("torch==2.12.0",))
    )
    assert "2.13.0+cpu is a build for cpu" in found.detail and "is one for cu130" in found.detail
    assert "torch==2.12.0+cpu" in found.hint


@pytest.mark.parametrize(
    ("place", "is_named"),
    [
        ("https://download.pytorch.org/whl/cpu", True),
        ("https://download.pytorch.org/whl/cpu/", True),
        ("https://mirror/whl/CPU/simple", True),
        ("https://host/cpu-images/simple", False),
        ("https://host/cpu.internal/simple", False),
        ("https://host/whl/cpu_old", False),
        ("https://cpu/simple", True),
    ],
)
def test_an_index_of_an_accelerator(place, is_named):
    assert AskedOfTorch(places=(place,)).names("cpu") is is_named


CU126 = "https://download.pytorch.org/whl/cu126"


@pytest.mark.parametrize(
    ("version", "asked", "accelerator"),
    [
        ("2.13.0+cpu", AskedOfTorch(places=("/opt/wheels", CU126)), "cu126"),
        ("2.14.1+cu130", AskedOfTorch(places=(f"{CU126}/",)), "cu126"),
        ("2.14.1+cu126", AskedOfTorch(places=(CU126,)), None),
        ("2.13.0+cpu", AskedOfTorch(places=(CU126, "wheels/cpu")), None),
        ("2.13.0+cpu", AskedOfTorch(places=(CU126,), accelerator="cpu"), None),
        ("2.13.0+cpu", AskedOfTorch(("torch==2.13.0+cpu",), places=(CU126,)), None),
        ("2.13.0+cpu", AskedOfTorch(places=("https://mirror/simple",)), None),
        ("2.13.0", AskedOfTorch(places=(CU126,)), None),  # for what is not known
    ],
)
def test_a_place_that_had_not_what_it_is_for(version, asked, accelerator):
    findings = check_places(torch_build(version), asked)
    hints = [finding.hint for finding in findings]
    assert hints == ([f"Ask for it by its name: --accelerator {accelerator}."] * bool(accelerator))
    assert all(finding.severity.value == "warning" for finding in findings)


def test_a_password_in_a_place_is_not_said():
    asked = AskedOfTorch(places=("https://me:secret@host/whl/cu126",))
    (finding,) = check_places(torch_build("2.13.0+cpu"), asked)
    assert "secret" not in finding.detail and "host/whl/cu126" in finding.detail


@pytest.mark.parametrize(
    ("steps", "entries", "expected"),
    [
        ([("alpha", ["torch>=2.14"])], [], "alpha 1.0 requires torch>=2.14"),
        (
            [("alpha", ["torch>=2.0"]), ("beta", ["torch==2.12 ; python_version>='3'"])],
            [],
            "beta 1.0 requires torch==2.12",
        ),
        (
            [("alpha", ["torchvision==0.1"])],
            [("torch<2.13", "r.txt", 3)],
            "r.txt, line 3: torch<2.13",
        ),
        ([], [("torch<2.13", "", 0)], ""),  # the command line itself
        # of another Python, and of an extra
        ([("alpha", ["torch<2 ; python_version<'3'", "torch<2 ; extra=='old'"])], [], ""),
        ([], [("torch<2 ; python_version<'3'", "r.txt", 3)], ""),
        ([], [("torch>=2", "r.txt", 3)], ""),
        (
            [],
            [("torch @ https://h/torch-2.12.whl", "r.txt", 1)],
            "r.txt, line 1: torch @ https://h/torch-2.12.whl",
        ),
        # it cannot be read: it is not met
        ([], [("torch==", "r.txt", 1)], "r.txt, line 1: torch=="),
    ],
)
def test_whose_requirement_excludes_a_torch(steps, entries, expected):
    planned = [Step(Action.ADD, name, "1.0", requires=tuple(requires)) for name, requires in steps]
    written = [Entry(text, file=file, line=line) for text, file, line in entries]
    markers = make_environment().interpreter.markers
    assert who_excludes(Version("2.13.0"), planned, written, markers) == expected


def test_who_wants_an_older_torch_is_named():
    here, coming = torch_build("2.13.0+cpu"), torch_build("2.12.0+cpu")
    (found,) = check_torch_change(
        here, coming, AskedOfTorch(("torch",)), because="alpha 1.0 requires torch<2.13"
    )
    assert found.detail.endswith("older 2.12.0+cpu: alpha 1.0 requires torch<2.13")


@pytest.mark.parametrize(("installed", "expected"), [("rocm6.0", "warning"), ("odd", "error")])
def test_the_kind_of_an_accelerator(installed, expected):
    """Another release may come for another ROCm; of what has no known kind only the same is the
    same."""
    here = TorchBuild(Version("2.12.0"), f"2.12.0+{installed}", installed, None)
    coming = TorchBuild(Version("2.13.0"), "2.13.0+rocm6.2", "rocm6.2", None)
    (found,) = check_torch_change(here, coming, AskedOfTorch(("torch==2.13.0",)))
    assert found.severity.value == expected

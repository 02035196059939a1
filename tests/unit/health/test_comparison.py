"""The verdict: what counts as worse, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.factories import make_health, planned_torch

from safe_install.health.comparison import (
    check_cuda_required,
    check_torch_build,
    compare_health,
    first_line,
    hint_for,
    is_healthy,
)
from safe_install.models import HealthReport, ImportResult, Severity, UnmetRequirement


def errors(before, after, requested=(), **options):
    options.setdefault("torch_requested", False)
    findings = compare_health(before, after, requested=requested, **options)
    return [finding.check for finding in findings if finding.severity is Severity.ERROR]


GOOD = make_health()


@pytest.mark.parametrize(
    ("before", "after", "requested", "expected"),
    [
        pytest.param(GOOD, GOOD, (), [], id="nothing changed"),
        pytest.param(
            GOOD, make_health(available=False, devices=0), (), ["cuda-lost"], id="CUDA lost"
        ),
        pytest.param(
            GOOD,
            make_health(available=None, devices=0),
            (),
            ["cuda-lost"],
            id="driver out of sight",
        ),
        pytest.param(
            make_health(devices=4), make_health(devices=3), (), ["devices-lost"], id="fewer devices"
        ),
        pytest.param(
            GOOD,
            make_health(torch="2.4.1+cu121", cuda="12.1"),
            (),
            ["torch-moved", "torch-moved"],
            id="torch moved though CUDA works",
        ),
        pytest.param(
            GOOD, make_health(cuda="11.3"), (), ["torch-moved"], id="other CUDA build, same version"
        ),
        pytest.param(
            make_health(available=False, devices=0),
            make_health(available=False, devices=0),
            (),
            [],
            id="CUDA was not available before either",
        ),
        pytest.param(
            make_health(available=None, devices=0),
            make_health(available=None, devices=0),
            (),
            [],
            id="no driver here",
        ),
        pytest.param(
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            (),
            [],
            id="broken before and after",
        ),
        pytest.param(
            make_health(imports={"torch": None, "torch_sparse": None}),
            make_health(imports={"torch": None, "torch_sparse": "ImportError"}),
            (),
            ["import-failed"],
            id="another extension broke",
        ),
        pytest.param(
            GOOD,
            make_health(imports={"torch": None, "torch_scatter": "OSError"}),
            ("torch_scatter",),
            ["import-failed"],
            id="the requested one does not import",
        ),
        pytest.param(
            GOOD,
            make_health(operations={"torch-scatter on cuda": "RuntimeError"}),
            ("torch-scatter",),
            ["operation-failed"],
            id="the requested one fails on the GPU",
        ),
        pytest.param(
            make_health(asked="loader"),
            make_health(imports={"torch": None, "torchvision": "RuntimeError"}),
            (),
            ["import-failed"],
            id="what a loader was not asked counts as good",
        ),
        pytest.param(
            GOOD,
            make_health(imports={"torch": None, "torchvision": "RuntimeError"}),
            (),
            [],
            id="what an import did not know before is only a warning",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": None}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="the bridge to numpy broke",
        ),
        pytest.param(
            make_health(asked="loader"),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="the bridge to numpy counts as good until the old environment is asked",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            ("numpy",),
            [],
            id="the bridge to numpy never worked",
        ),
        pytest.param(
            HealthReport(imports={"torch": ImportResult(False, error="no answer", unknown=True)}),
            HealthReport(imports={"torch": ImportResult(False, error="no answer", unknown=True)}),
            (),
            ["import-failed"],
            id="nobody knows, neither before nor after",
        ),
        pytest.param(
            make_health(operations={"torch on cpu": None}),
            make_health(operations={"torch on cpu": "signal SIGILL"}),
            (),
            ["operation-failed"],
            id="torch does not compute any more",
        ),
        pytest.param(
            make_health(unmet=(UnmetRequirement("a", "1", "b"),)),
            make_health(unmet=(UnmetRequirement("a", "1", "b"),)),
            (),
            [],
            id="unmet before",
        ),
        pytest.param(
            make_health(unmet=(UnmetRequirement("a", "1", "b<2,>=1", "b 3"),)),
            make_health(unmet=(UnmetRequirement("a", "1", "b<2,>=1", "b 4"),)),
            (),
            [],
            id="unmet before, by another version",
        ),
        pytest.param(
            GOOD,
            make_health(unmet=(UnmetRequirement("a", "1", "b"),)),
            (),
            ["requirement-unmet"],
            id="unmet now",
        ),
        pytest.param(
            make_health(torch_folder="/env/torch"),
            make_health(torch_folder="/else/torch"),
            (),
            ["torch-moved"],
            id="torch is imported from another folder",
        ),
        pytest.param(
            make_health(),
            make_health(torch_folder="/env/torch"),
            (),
            [],
            id="the folder was not known before",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": None}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            ["operation-failed"],
            id="numpy's bridge broke",
        ),
        pytest.param(
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            [],
            id="numpy's bridge was broken before",
        ),
        pytest.param(
            make_health(),
            make_health(operations={"torch.from_numpy": "RuntimeError: Numpy is not available"}),
            (),
            [],
            id="there was no numpy before",
        ),
        pytest.param(
            GOOD,
            make_health(crashed="signal SIGSEGV"),
            (),
            ["check-crashed"],
            id="crashed between questions",
        ),
    ],
)
def test_verdict(before, after, requested, expected):
    assert errors(before, after, requested) == expected


def test_a_torch_that_was_asked_for_may_move_but_must_keep_cuda():
    after = make_health(torch="2.4.1+cu121", cuda="12.1", available=False, devices=0)
    assert errors(GOOD, after, torch_requested=True) == ["cuda-lost"]


def test_naming_a_cpu_build_asks_for_the_loss_of_cuda():
    after = make_health(torch="2.4.1+cpu", cuda=None, available=False, devices=0)
    assert errors(GOOD, after, torch_requested=True, cuda_loss_requested=True) == []


def test_the_reason_that_torch_gives_is_passed_on():
    after = make_health(
        available=False, devices=0, warnings=("The NVIDIA driver on your system is too old",)
    )
    (finding,) = compare_health(GOOD, after, requested=(), torch_requested=False)
    assert "too old" in finding.detail


@pytest.mark.parametrize(
    ("name", "torch", "hint"),
    [
        ("torch.from_numpy", "2.2.2+cu121", 'Ask for "numpy<2"'),
        ("torch.from_numpy", "1.8.1", 'Ask for "numpy<2"'),
        ("torch.from_numpy", "2.3.0", ""),
        ("torch.from_numpy", "2.10.0", ""),
        ("torch.from_numpy", None, ""),
        ("torch on cpu", "2.2.2", ""),
    ],
)
def test_the_remedy_for_numpy(name, torch, hint):
    assert hint_for(name, torch).startswith(hint)
    assert bool(hint_for(name, torch)) == bool(hint)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "RuntimeError: Could not load libtorchcodec. Likely causes: 1. FFmpeg is not properly "
            "installed",
            "Install FFmpeg",
        ),
        (
            "OSError: libavutil.so.56: cannot open shared object file: No such file or directory",
            "Install FFmpeg",
        ),
        (
            "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
            "Install OpenGL",
        ),
        ("OSError: libgomp.so.1: cannot open shared object file", "Install GCC's OpenMP"),
        ("OSError: a.so: failed to map segment from shared object", "Its file system is mounted"),
        ("RuntimeError: [enforce fail] Cannot allocate memory", "There is too little memory"),
        ("a.so: cannot enable executable stack as shared object requires", "glibc 2.41 and newer"),
        ("a.so: cannot allocate memory in static TLS block", "Import torch before the other"),
        ("RuntimeError: Failed to load the backend extension: other.", "Remove the package that"),
        ("ImportError: libcudart.so.13: cannot open shared object file", ""),
        ("AssertionError", ""),
        (None, ""),
    ],
)
def test_the_remedy_for_a_library_of_the_system(error, hint):
    found = hint_for("torchcodec", "2.14.1+cu130", error)
    assert found.startswith(hint)
    assert bool(found) == bool(hint)


def test_of_a_long_exception_the_finding_has_the_first_line():
    """torch appends advice and the stack of C++; the JSON document has all of it."""
    long = "RuntimeError: CUDA error: operation not supported\nSearch for `cudaErrorNotSupported'\n  frame #1"
    after = make_health(imports={"torch": None, "torch_scatter": long})
    (finding,) = compare_health(
        make_health(), after, requested={"torch_scatter"}, torch_requested=False
    )
    assert (
        finding.detail
        == "torch_scatter does not import: RuntimeError: CUDA error: operation not supported"
    )
    assert first_line(None) == first_line("\n \n") == "no reason was given"
    assert first_line("ValueError: \nInvalid log settings: x\nmore") == (
        "ValueError: Invalid log settings: x"
    )
    assert first_line("ValueError:") == "ValueError:"


@pytest.mark.parametrize("crashed_before", [None, "signal SIGSEGV"])
def test_a_check_that_was_cut_off_says_so_once(crashed_before):
    before = HealthReport(cuda_available=True, device_count=1, crashed=crashed_before)
    after = HealthReport(crashed="no answer")
    checks = [
        finding.check
        for finding in compare_health(before, after, requested=(), torch_requested=False)
    ]
    assert checks == (["check-crashed"] if crashed_before is None else ["cuda-lost"])


@pytest.mark.parametrize(
    ("report", "healthy"),
    [
        (GOOD, True),
        (make_health(available=False), True),  # there may be no driver here
        (make_health(imports={"torch": None, "torch_scatter": "OSError"}), False),
        (make_health(operations={"torch on cpu": "RuntimeError"}), False),
        (make_health(crashed="signal SIGSEGV"), False),
    ],
)
def test_healthy_is_what_answers_everything(report, healthy):
    assert is_healthy(report) is healthy


def test_the_remedy_for_a_gpu_without_code():
    error = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
    assert "--target-gpu" in hint_for("torch-scatter on cuda", "2.9.1+cu128", error)


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (
            make_health(available=False, torch="2.4.1+cpu", cuda=None),
            "torch 2.4.1+cpu is a build without CUDA",
        ),
        (
            make_health(available=False, warnings=("The driver is too old",)),
            "The driver is too old",
        ),
        (
            make_health(available=False, imports={"torch": "OSError: libcudart.so.12"}),
            "OSError: libcudart.so.12",
        ),
        (
            make_health(available=False, operations={"cuda available": "RuntimeError: x"}),
            "RuntimeError: x",
        ),
        (make_health(available=False), "torch gives no reason"),
    ],
)
def test_the_loss_of_cuda_has_the_nearest_reason(after, reason):
    findings = compare_health(GOOD, after, requested=(), torch_requested=True)
    (finding,) = [finding for finding in findings if finding.check == "cuda-lost"]
    assert finding.detail == f"torch.cuda.is_available() was True and is now False: {reason}"


def test_cuda_that_is_available_is_enough():
    assert check_cuda_required(GOOD) == ()


@pytest.mark.parametrize(
    ("planned", "version", "cuda", "is_other"),
    [
        ("2.14.1+cu126", "2.14.1+cu126", "12.6", False),
        ("2.14.1+cu126", "2.14.1+cpu", None, True),
        ("2.14.1+cpu", "2.14.1+cu126", "12.6", True),
        ("2.14.1+cu126", "2.14.1", "12.6", False),
        ("2.14.1+cu126", "2.14.1", "13.0", True),
        ("2.14.1", "2.14.1+cu130", "13.0", False),  # its version does not say the accelerator
        ("2.6.0+gitabc", "2.6.0+gitabc", "12.4", False),
        ("2.14.1+cu126", None, None, False),  # it was not imported, which is an error of its own
    ],
)
def test_the_torch_that_is_imported_is_the_build_that_was_planned(planned, version, cuda, is_other):
    after = replace(make_health(), torch_version=version, torch_cuda=cuda)
    found = check_torch_build(planned_torch(planned, "linux_x86_64"), after)
    assert [finding.check for finding in found] == (["torch-other-build"] if is_other else [])
    assert check_torch_build(None, after) == ()

"""Each exit of the checks of the files that installers recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from safe_install.diagnosis import record_checks
from safe_install.diagnosis.facts import (
    ChangedFile,
    Facts,
    ForeignWheel,
    LostSource,
    RecordState,
)
from safe_install.models import Severity
from tests.factories import SITE, make_distribution, make_environment, make_health


def facts(environment=None, **fields):
    return Facts(
        Path("/env/bin/python"), environment or make_environment(torch="2.13.0+cpu"), **fields
    )


def told(findings):
    return [(one.check, one.severity, one.subject) for one in findings]


def records(*states, environment=None, **fields):
    return record_checks.check_records(facts(environment, records=states, **fields))


def test_records_in_order():
    assert records() == []


def test_a_record_that_cannot_be_read():
    (one,) = records(RecordState("alpha", "1.0", problem="/env/alpha has no RECORD"))
    assert told([one]) == [("record-unreadable", Severity.WARNING, "alpha")]
    assert "/env/alpha has no RECORD" in one.detail
    assert one.hint == "safe-install install --ignore-installed --no-deps alpha==1.0"


def test_an_editable_install_without_its_folder():
    lost = LostSource("alpha", "1.0", Path("/gone"))
    (one,) = record_checks.check_records(facts(lost_sources=(lost,)))
    assert told([one]) == [("source-missing", Severity.WARNING, "alpha")]
    assert "/gone" in one.detail


REQUIRES_NCCL = make_environment(
    make_distribution("torch", "2.13.0", requires=["nvidia_nccl.cu13==2.30.7; x"]),
    torch="2.13.0+cu130",
)
REQUIRES_TOOLKIT = make_environment(
    make_distribution("torch", "2.13.0", requires=["cuda-toolkit[nccl]==13"]),
    torch="2.13.0+cu130",
)
REQUIRES_NOTHING = make_environment(
    make_distribution("torch", "2.13.0", requires=["sympy"]), torch="2.13.0+cpu"
)


@pytest.mark.parametrize(
    ("name", "paths", "environment", "severity"),
    [
        ("torch", ["torch/a.py"], None, Severity.ERROR),
        ("torch", ["torch/lib/libc10.so"], None, Severity.ERROR),
        ("torchvision", ["torchvision/a.py"], None, Severity.ERROR),
        ("torch", ["torch/include/a.h"], None, Severity.WARNING),
        ("torch", ["torch/test/a.py", "torch/tests/b.py"], None, Severity.WARNING),
        ("numpy", ["numpy/a.py"], None, Severity.WARNING),
        ("nvidia-nccl-cu13", ["nvidia/libnccl.so.2"], REQUIRES_NCCL, Severity.ERROR),
        ("nvidia-nccl-cu13", ["nvidia/libnccl.so.2"], REQUIRES_TOOLKIT, Severity.ERROR),
        ("nvidia-nccl-cu12", ["nvidia/libnccl.so.2"], REQUIRES_NOTHING, Severity.WARNING),
        ("nvidia-nccl-cu12", ["nvidia/libnccl.so.2"], make_environment(), Severity.WARNING),
    ],
)
def test_files_that_are_gone(name, paths, environment, severity):
    (one,) = records(RecordState(name, "1.0", tuple(paths)), environment=environment)
    assert told([one]) == [("files-missing", severity, name)]
    assert ", ".join(paths) in one.detail
    assert one.hint == f"safe-install install --force-reinstall --no-deps {name}==1.0"


def test_libraries_are_named_before_modules_and_the_rest_is_counted():
    paths = ("torch/a.py", "torch/a.h", "torch/b.py", "torch/lib/libc10.so", "torch/c.py")
    (one,) = records(RecordState("torch", "1.0", paths))
    assert one.detail.startswith("5 files of torch 1.0 are gone: torch/lib/libc10.so, torch/a.py")


@pytest.mark.parametrize(
    ("name", "health", "severity"),
    [
        ("torch", None, Severity.WARNING),
        ("torch", make_health(), Severity.WARNING),
        ("torch", make_health(imports={"torch": "OSError: file too short"}), Severity.ERROR),
        ("numpy", make_health(imports={"torch": "OSError: file too short"}), Severity.WARNING),
    ],
)
def test_files_that_are_not_as_installed(name, health, severity):
    state = RecordState(name, "1.0", changed=(ChangedFile("a/b.so"), ChangedFile("a/c.so")))
    (one,) = records(state, health=health)
    assert told([one]) == [("files-changed", severity, name)]
    assert "2 files" in one.detail
    assert "are not as installed: a/b.so, a/c.so" in one.detail


def test_a_changed_script_is_no_reason_that_torch_fails():
    state = RecordState("torch", "1.0", changed=(ChangedFile("../../../bin/torchrun"),))
    (one,) = records(state, health=make_health(imports={"torch": "OSError: file too short"}))
    assert told([one]) == [("files-changed", Severity.WARNING, "torch")]


@pytest.mark.parametrize(
    ("environment", "severity"),
    [(REQUIRES_NCCL, Severity.ERROR), (REQUIRES_NOTHING, Severity.WARNING)],
)
def test_files_that_another_distribution_overwrote(environment, severity):
    changed = ChangedFile("nvidia/libnccl.so.2", ("nvidia-nccl-cu12",))
    state = RecordState("nvidia-nccl-cu13", "2.30.7", changed=(changed,))
    (one,) = records(state, environment=environment)
    assert told([one]) == [("files-overwritten", severity, "nvidia-nccl-cu13")]
    assert "was overwritten by nvidia-nccl-cu12" in one.detail
    assert one.hint == (
        "safe-install uninstall -y nvidia-nccl-cu12 && safe-install install --force-reinstall "
        "--no-deps nvidia-nccl-cu13==2.30.7"
    )


@pytest.mark.parametrize(
    ("name", "error", "severity"),
    [
        ("torch", "no module torch._C", Severity.ERROR),
        ("torch", None, Severity.WARNING),
        ("alpha", "no module torch._C", Severity.WARNING),
    ],
)
def test_wheels_of_another_machine(name, error, severity):
    wheel = ForeignWheel(name, "2.13.0+cpu", "Python 3.10")
    health = make_health(imports={"torch": error})
    (one,) = record_checks.check_wheel_tags(facts(foreign_wheels=(wheel,), health=health))
    assert told([one]) == [("wheel-of-another-machine", severity, name)]
    assert "made for Python 3.10, and here is Python 3.11.7 on linux_x86_64" in one.detail
    assert one.hint.endswith(f"--no-deps {name}==2.13.0+cpu")


@pytest.mark.parametrize(
    ("name", "health", "severity"),
    [
        ("sympy", make_health(imports={"torch": "no sympy"}), Severity.ERROR),
        ("sympy", make_health(imports={"torch": None}), Severity.WARNING),
        ("sympy", None, Severity.WARNING),
        ("other", make_health(imports={"torch": "no sympy"}), Severity.WARNING),
        ("numpy", make_health(operations={"torch.from_numpy": "no ones"}), Severity.ERROR),
        ("numpy", make_health(operations={"torch.from_numpy": None}), Severity.WARNING),
        ("numpy", make_health(imports={"torch": "no sympy"}), Severity.WARNING),
        ("numpy", make_health(imports={"torch": "signal SIGBUS"}), Severity.ERROR),
    ],
)
def test_files_that_torch_misses_are_an_error(name, health, severity):
    torch = make_distribution("torch", "2.13.0+cpu", requires=["sympy>=1.13"])
    path = f"{name}/__init__.py"
    lost = RecordState(name, "1.0", missing=(path,))
    cut = RecordState(name, "1.0", changed=(ChangedFile(path),))
    environment = make_environment(torch, torch="2.13.0+cpu")
    for state in (lost, cut):
        asked = facts(environment, records=(state,), health=health)
        (one,) = record_checks.check_records(asked)
        assert one.severity is severity, state


def test_files_of_what_came_from_an_address_come_back_from_there():
    url = "https://example.org/alpha.whl"
    alpha = make_distribution("alpha", "1.0", direct_url={"url": url, "archive_info": {}})
    lost = RecordState(alpha.name, "1.0", missing=("alpha.py",))
    (one,) = record_checks.check_records(facts(make_environment(alpha), records=(lost,)))
    assert one.hint == f"safe-install install --force-reinstall --no-deps 'alpha @ {url}'"


WORKS = make_health()
FAILS = make_health(imports={"torch": "ImportError: libc10.so"})


@pytest.mark.parametrize(
    ("name", "paths", "health", "severity"),
    [
        ("torch", ("torch/lib/libc10.so",), FAILS, Severity.ERROR),
        ("torch", ("torch/lib/libc10.so",), None, Severity.ERROR),
        ("torch", ("torch/lib/libc10.so",), WORKS, Severity.WARNING),
        ("torch", ("torch/include/torch.h",), FAILS, Severity.WARNING),
        ("numpy", ("numpy/a.so",), FAILS, Severity.WARNING),
    ],
)
def test_files_that_this_user_may_not_read(name, paths, health, severity):
    distributions = [make_distribution("torch", "2.13.0"), make_distribution("numpy", "2.0")]
    environment = make_environment(*distributions, torch="2.13.0")
    state = RecordState(name, "2.13.0", closed=paths)
    (one,) = record_checks.check_records(facts(environment, records=(state,), health=health))
    assert told([one]) == [("files-unreadable", severity, name)]
    assert one.hint == f"As its owner, or as root: chmod -R u+rwX,go+rX {SITE / paths[0]}"


def test_the_folder_of_all_files_that_this_user_may_not_read():
    environment = make_environment(make_distribution("torch", "2.13.0"), torch="2.13.0")
    state = RecordState("torch", "2.13.0", closed=("torch/lib/a.so", "torch/b.py"))
    (one,) = record_checks.check_records(facts(environment, records=(state,)))
    assert one.detail == (
        "2 files of torch 2.13.0 cannot be read by this user: torch/lib/a.so, torch/b.py"
    )
    assert one.hint.endswith(f" {SITE / 'torch'}")

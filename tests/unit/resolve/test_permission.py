"""What the person wrote, as the plan takes it: hashes, and the index of a torch."""

from __future__ import annotations

import pytest
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Candidate, CandidateKind, Link, Plan, Severity, Step
from safe_install.resolve.command_line import split_words
from safe_install.resolve.decisions import make_wanted
from safe_install.resolve.guard import guard_constraints
from safe_install.resolve.permission import (
    check_torch_asked_for,
    find_conflicts,
    find_released,
    may_be_broken,
    torch_after,
)
from safe_install.resolve.promises import entries_with_hashes, is_promised, own_hashes
from safe_install.resolve.request import parse_install
from tests.factories import make_distribution, make_environment

CUDA_INDEX = "https://download.pytorch.org/whl/cu130"


def request_of(*argv, files=None, configuration=None):
    return parse_install(
        split_words(argv),
        environ={},
        configuration=configuration or {},
        read=lambda name: (files or {})[name],
    )


def torch_findings(request, plan, *, torch="2.13.0+cpu"):
    here = make_environment(torch=torch)
    return check_torch_asked_for(
        plan, request, here, torch_after(plan, here, bundled_catalog().torch)
    )


def test_a_hash_in_a_line_for_another_python_is_no_promise():
    """As pip-compile and poetry write it: one line for each version."""
    lines = (
        f'demo==1.0 ; python_version < "3.9" --hash=sha256:{"a" * 64}\n'
        f'demo==2.0 ; python_version >= "3.9" --hash=sha256:{"b" * 64}\n'
        f'other==1.0 ; python_version < "3.9" --hash=sha512:{"c" * 128}\n'
        f"./folder/third-1.0-py3-none-any.whl --hash=sha256:{'d' * 64}\n"
    )
    request, here = request_of("-r", "r.txt", files={"r.txt": lines}), make_environment()
    assert own_hashes("demo", request, here) == ("b" * 64,)
    assert [entry.text.split()[0] for entry in entries_with_hashes("demo", request, here)] == [
        "demo==2.0"
    ]
    assert entries_with_hashes("other", request, here) == ()


@pytest.mark.parametrize(
    ("words", "version", "checks"),
    [
        (["torch", "-i", CUDA_INDEX], "2.13.0+cpu", ["torch-accelerator"]),
        (["torch", "-i", CUDA_INDEX], "2.14.1+cu130", []),
        (["torch", "-i", CUDA_INDEX, "--accelerator", "cpu"], "2.13.0+cpu", []),
        (["torch"], "2.13.0+cpu", []),
    ],
)
def test_a_new_torch_from_another_place_than_the_named_one(words, version, checks):
    plan = Plan((Step(Action.ADD, "torch", version),))
    found = torch_findings(request_of(*words), plan, torch=None)
    assert [finding.check for finding in found] == checks
    assert torch_findings(request_of(*words), Plan(), torch=None) == ()


@pytest.mark.parametrize(
    ("words", "is_asked_for"),
    [
        (["torch"], False),
        (["torch", "--index-url", CUDA_INDEX], True),
        (["torch", "--extra-index-url", CUDA_INDEX], True),
        (["torch", "--extra-index-url", "https://download.pytorch.org/whl/cu126"], False),
        (["torch", "-f", "folder/cu130/"], True),
        (["torch", "-i", "file:///folder/cu130"], True),
    ],
)
def test_the_index_of_an_accelerator_asks_for_it(words, is_asked_for):
    plan = Plan((Step(Action.REPLACE, "torch", "2.14.1+cu130", from_version="2.13.0+cpu"),))
    (finding,) = torch_findings(request_of(*words), plan)
    if is_asked_for:
        assert (finding.check, finding.severity) == ("torch-accelerator", Severity.WARNING)
    else:
        assert finding.severity is Severity.ERROR
        assert "in its place is one for cu130" in finding.detail


@pytest.mark.parametrize(
    "word",
    [
        "./folder/torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl",
        "torch-2.12.0+cpu-cp311-cp311-linux_x86_64.whl",
        "https://download.pytorch.org/whl/cpu/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl",
        "torch==2.12.0",
    ],
)
def test_an_older_torch_is_named_by_its_file_too(word):
    plan = Plan((Step(Action.REPLACE, "torch", "2.12.0+cpu", from_version="2.13.0+cpu"),))
    assert torch_findings(request_of(word), plan) == ()


@pytest.mark.parametrize(
    ("constraints", "requested", "expected"),
    [
        ("dep @ file:///d/dep-1.0.whl\n", False, True),
        ("dep==1.0\n", False, False),
        ("", True, True),
    ],
)
def test_a_file_of_this_machine_is_promised_where_the_person_wrote_it(
    constraints, requested, expected
):
    """As a requirement or as a constraint; what a wheel requires by its address is another's
    word."""
    request = request_of("base", "-c", "c.txt", files={"c.txt": constraints})
    url = "file:///d/dep-1.0.whl"
    step = Step(
        Action.ADD, "dep", "1.0", url=url, sha256="1" * 64, requested=requested, is_direct=True
    )
    promised = is_promised(step, request, make_environment(), is_on_index=lambda *promise: False)
    assert promised is expected


@pytest.mark.parametrize(
    ("words", "files", "because"),
    [
        (["torch", "-r", "r.txt"], {"r.txt": "torch<2.13"}, ": r.txt, line 1: torch<2.13"),
        (["torch", "-c", "c.txt"], {"c.txt": "torch<2.13"}, ": c.txt, line 1: torch<2.13"),
        (["torch", 'torch<2.13; python_version < "3"'], {}, ""),
        (["torch>=1", "--pre"], {}, ""),
        (["--force-reinstall", "torch"], {}, ""),
        (["-U", "torch[opt-einsum]", "old"], {}, ": old 1.0 requires torch<2.13"),
    ],
)
def test_only_the_command_line_names_an_older_torch(words, files, because):
    torch = Step(Action.REPLACE, "torch", "2.12.0+cpu", from_version="2.13.0+cpu", requires=("x",))
    old = Step(Action.ADD, "old", "1.0", requires=("torch<2.13; python_version > '3'",))
    plan = Plan((torch, old) if "old" in words else (torch,))
    (finding,) = torch_findings(request_of(*words, files=files), plan)
    assert finding.severity is Severity.ERROR
    assert finding.detail == f"torch 2.13.0+cpu would become the older 2.12.0+cpu{because}"


@pytest.mark.parametrize("option", ["--index-url", "--extra-index-url", "--find-links"])
def test_an_index_that_is_only_configured_asks_for_no_accelerator(option):
    plan = Plan((Step(Action.REPLACE, "torch", "2.14.1+cu130", from_version="2.13.0+cpu"),))
    in_file = request_of("torch", "-r", "r.txt", files={"r.txt": f"{option} {CUDA_INDEX}"})
    configured = request_of("torch", configuration={option[2:]: CUDA_INDEX})
    for request in (in_file, configured):
        (finding,) = torch_findings(request, plan)
        assert finding.severity is Severity.ERROR
        assert "in its place is one for cu130" in finding.detail


@pytest.mark.parametrize("torch", [None, "2.13.0+cpu"])
def test_a_new_torch_in_spite_of_a_place_in_a_file_is_told(torch):
    plan = Plan((Step(Action.ADD, "torch", "2.14.1+cpu"),))
    request = request_of("torch", "-r", "r.txt", files={"r.txt": f"--find-links {CUDA_INDEX}"})
    details = [finding.detail for finding in torch_findings(request, plan, torch=torch)]
    told = f"torch 2.14.1+cpu is a build for cpu, and {CUDA_INDEX} is a place for cu130"
    assert details == ([told] if torch is None else [])


def test_a_name_whose_marker_does_not_hold_releases_nothing():
    request = request_of('torch; python_version < "3"', "six")
    here = make_environment(torch="2.13.0+cpu")
    assert find_released(Plan(), request, here, broken=()) == set()
    assert guard_constraints(here, released=make_wanted(request, here).released) == (
        "torch==2.13.0+cpu",
    )


@pytest.mark.parametrize(("broken", "released"), [((), set()), (("torchvision",), {"torchvision"})])
def test_a_companion_that_does_not_load_may_be_replaced_by_its_own_version(broken, released):
    """Built for this torch."""
    here = make_environment(make_distribution("torchvision", "0.28.0"), torch="2.13.0+cpu")
    candidate = Candidate(
        "torchvision", Version("0.28.0"), CandidateKind.WHEEL, Link("https://h/x.whl", "x.whl")
    )
    step = Step(Action.REPLACE, "torchvision", "0.28.0", from_version="0.28.0", candidate=candidate)
    assert (
        find_released(Plan((step,)), request_of("torchvision-user"), here, broken=broken)
        == released
    )


NUMPY = Step(Action.REPLACE, "numpy", "2.0", from_version="1.26")


@pytest.mark.parametrize(
    ("torch", "words", "may"),
    [
        # without a torch that is what pip does
        (None, [], {"scipy", "torchvision"}),
        ("2.13.0+cpu", [], set()),
        ("2.13.0+cpu", ["--no-warn-conflicts"], {"scipy"}),
    ],
)
def test_whose_requirements_may_be_broken(torch, words, may):
    here = make_environment(
        make_distribution("scipy", "1.10"),
        make_distribution("torchvision", "0.28.0"),
        make_distribution("numpy", "1.26"),
        torch=torch,
    )
    request = request_of("numpy", *words)
    assert may_be_broken(Plan((NUMPY,)), request, here, here.torch) == may


@pytest.mark.parametrize(
    ("words", "conflicts"),
    [([], {"scipy"}), (["--no-deps"], set()), (["--no-warn-conflicts"], set())],
)
def test_the_conflicts_that_pip_would_tell_of(words, conflicts):
    """Of what it brings and of what requires that; what was unmet before and is not concerned is
    passed over."""
    here = make_environment(
        make_distribution("numpy", "1.26"),
        make_distribution("scipy", "1.10", requires=["numpy<2"]),
        make_distribution("pandas", "2.2", requires=["numpy>=1.20"]),
        make_distribution("old", "1.0", requires=["missing"]),
    )
    found = find_conflicts(Plan((NUMPY,)), request_of("numpy", *words), here)
    assert {finding.subject for finding in found} == conflicts
    assert {finding.severity for finding in found} <= {Severity.WARNING}


SHA = "1" * 64


@pytest.mark.parametrize(
    ("lines", "fields", "on_index", "expected"),
    [
        ("demo==1.0 --hash=sha256:" + SHA, {}, False, True),
        (
            "./demo-1.0.whl",
            {"url": "file:///w/demo-1.0.whl", "is_direct": True, "requested": True},
            False,
            True,
        ),
        ("base", {"url": "file:///w/demo-1.0.whl", "is_direct": True}, False, False),
        ("demo==1.0", {"is_locked": True}, False, True),
        ("demo==1.0", {}, True, True),
        ("demo==1.0", {}, False, False),
        ("demo==1.0", {"sha256": None}, True, False),
        ("demo==1.0", {"url": "file:///links/demo-1.0.whl"}, False, True),
        (f"demo @ https://h/demo-1.0.whl#sha256={SHA}", {"is_direct": True}, False, True),
        ("demo @ https://h/demo-1.0.whl", {"is_direct": True}, True, False),
    ],
)
def test_whose_promise_a_file_has(lines, fields, on_index, expected):
    """The person's, a lock's or the package index's."""
    values = {"url": "https://h/demo-1.0.whl", "sha256": SHA, **fields}
    step = Step(Action.ADD, "demo", "1.0", **values)
    asked = []

    def is_on_index(*promise):
        asked.append(promise)
        return on_index

    request = request_of("-r", "r.txt", files={"r.txt": lines})
    assert is_promised(step, request, make_environment(), is_on_index=is_on_index) is expected
    assert asked in ([], [("demo", "demo-1.0.whl", SHA)])


def test_a_hash_of_another_kind_promises_no_sha256():
    request = request_of("-r", "r.txt", files={"r.txt": f"demo==1.0 --hash=sha512:{'1' * 128}"})
    assert own_hashes("demo", request, make_environment()) == ()
    assert len(entries_with_hashes("demo", request, make_environment())) == 1

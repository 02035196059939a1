"""What --fix carries out for which finding, and whether it helped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from safe_install.diagnosis.facts import (
    ChangedFile,
    Facts,
    MetadataFolder,
    ProbeProblem,
    RecordState,
)
from safe_install.diagnosis.fixes import FixPlan, is_better, plan_fixes
from safe_install.diagnosis.run import CheckResult, Status
from safe_install.models import Finding, Severity
from tests.factories import SITE, make_distribution, make_environment

EXECUTABLE = Path("/env/bin/python")
KNOWN = frozenset(canonicalize_name(name) for name in ("torch-scatter", "mmcv", "torch"))


def error(check, subject, severity=Severity.ERROR):
    return Finding(check, severity, subject, f"{check} of {subject}")


def warning(check, subject):
    return error(check, subject, Severity.WARNING)


def found(*findings, name="records"):
    return CheckResult(name, Status.FOUND, findings)


def make_facts(*distributions, torch="2.13.0+cpu"):
    return Facts(EXECUTABLE, make_environment(*distributions, torch=torch))


def plan(*results, facts=None, **options):
    return plan_fixes(results, facts or make_facts(), known=KNOWN, **options)


@pytest.mark.parametrize(
    "check",
    [
        "files-missing",
        "files-overwritten",
        "torch-files-missing",
        "torch-half-replaced",
    ],
)
def test_what_is_damaged_is_put_back_in_its_version(check):
    assert plan(found(error(check, "torch"))).installed == ("torch==2.13.0+cpu",)


@pytest.mark.parametrize(
    ("check", "subject", "chosen"),
    [
        ("companion-of-another-build", "torchvision", "torchvision"),
        ("companion-of-another-torch", "torchaudio", "torchaudio"),
        ("import-failed", "torch_scatter", "torch-scatter"),
        ("operation-failed", "torch-scatter native part", "torch-scatter"),
        ("built-for-another-torch", "mmcv", "mmcv"),
    ],
)
def test_what_does_not_fit_torch_is_chosen_again(check, subject, chosen):
    assert plan(found(error(check, subject))).installed == (chosen,)


@pytest.mark.parametrize(
    "finding",
    [
        error("driver-too-old", "torch"),
        error("library-path", "LD_LIBRARY_PATH"),
        error("import-failed", "torch"),  # its files are as recorded: nothing to put back
        error("import-failed", "own_module"),
        error("files-missing", "no-longer-installed"),
        error("interpreter-broken", "/env/bin/python"),
        error("disk-full", ""),
    ],
)
def test_what_lies_outside_is_only_said(finding):
    assert plan(found(finding)) == FixPlan(outside=(finding,))


def test_an_import_that_fails_because_files_are_missing_is_not_said_apart():
    mends = plan(found(error("files-missing", "torch"), error("import-failed", "torch")))
    assert mends == FixPlan(installed=("torch==2.13.0+cpu",))


def test_libraries_of_torch_come_as_it_requires_them():
    torch = make_distribution(
        "torch", "2.8.0+cu126", requires=["nvidia-cudnn-cu12==9.10.2.21", "numpy"]
    )
    facts = make_facts(torch, make_distribution("numpy", "2.0"), torch="2.8.0+cu126")
    mends = plan(found(error("torch-libraries-missing", "torch")), facts=facts)
    assert mends.installed == ("nvidia-cudnn-cu12==9.10.2.21",)


def test_what_torch_misses_comes_where_that_is_why_it_fails():
    torch = make_distribution("torch", "2.13.0+cpu", requires=["sympy>=1.13"])
    other = make_distribution("alpha", "1.0", requires=["beta"])
    unmet = [error("requirement-unmet", "torch"), warning("requirement-unmet", "alpha")]
    assert plan(found(*unmet), facts=make_facts(torch, other)).installed == ("sympy>=1.13",)


@pytest.mark.parametrize("first_is_put_back", [True, False])
def test_one_requirement_for_each_project_the_one_that_fits_torch(first_is_put_back):
    findings = [error("files-missing", "mmcv"), error("import-failed", "mmcv")]
    facts = make_facts(make_distribution("mmcv", "2.1.0"))
    ordered = findings if first_is_put_back else findings[::-1]
    assert plan(found(*ordered), facts=facts).installed == ("mmcv",)


@pytest.mark.parametrize(
    ("name", "versions", "installed"),
    [
        ("torch", ("2.4.1", "2.13.0"), "torch==2.13.0"),  # the version of its files
        ("torchvision", ("0.9.0", "0.28.0"), "torchvision==0.28.0"),  # the newest
    ],
)
def test_of_two_records_one_comes_back(name, versions, installed):
    folders = [
        MetadataFolder(SITE / f"{name}-{version}.dist-info", SITE, name, version)
        for version in versions
    ]
    here = make_distribution(name, versions[0])
    facts = dataclasses.replace(make_facts(here), metadata=tuple(folders))
    mends = plan(found(error("recorded-twice", name)), facts=facts)
    assert mends.installed == (installed,)


def test_numpy():
    assert plan(found(error("numpy-too-new", "numpy"))).installed == ("numpy<2",)


def test_of_two_compilers_the_one_that_torch_requires_comes_back():
    torch = make_distribution("torch", "2.13.0+cpu", requires=["sympy", "triton==3.7.1", "(bad"])
    others = [make_distribution("triton", "3.7.1"), make_distribution("pytorch-triton", "3.0")]
    mends = plan(found(error("two-compilers", "triton")), facts=make_facts(torch, *others))
    assert mends.document() == {
        "recovers": False,
        "removed": ["pytorch-triton"],
        "installed": ["triton==3.7.1"],
    }


def test_two_compilers_that_torch_does_not_require():
    others = [make_distribution("triton", "3.7.1"), make_distribution("pytorch-triton", "3.0")]
    for torch in ("2.13.0+cpu", None):
        facts = make_facts(*others, torch=torch)
        mends = plan(found(error("two-compilers", "triton")), facts=facts)
        assert mends == FixPlan(removed=("pytorch-triton", "triton"))


def test_what_wrote_over_files_of_torch_goes_first():
    torch = make_distribution("torch", "2.8.0+cu126", requires=["nvidia-nccl-cu12==2.27.3", "old"])
    library = make_distribution("nvidia-nccl-cu12", "2.27.3")
    changed = ChangedFile("nvidia/nccl/lib/libnccl.so.2", ("nvidia-nccl-cu13", "old"))
    other = ChangedFile("six.py", ("seven",))
    facts = dataclasses.replace(
        make_facts(torch, library, torch="2.8.0+cu126"),
        records=(
            RecordState(library.name, library.version, changed=(changed,)),
            RecordState("six", "1.0", changed=(other,)),
        ),
    )
    mends = plan(found(error("files-overwritten", "nvidia-nccl-cu12")), facts=facts)
    assert mends == FixPlan(removed=("nvidia-nccl-cu13",), installed=("nvidia-nccl-cu12==2.27.3",))


@pytest.mark.parametrize("check", ["interrupted-pip", "interrupted-change"])
def test_leftovers_are_recovered_first(check):
    mends = plan(found(warning(check, "~orch"), error("files-missing", "torch")))
    assert mends == FixPlan(recovers=True, installed=("torch==2.13.0+cpu",))


def test_leftovers_alone():
    assert plan(found(warning("interrupted-pip", "~orch"))) == FixPlan(recovers=True)


def test_warnings_only_where_they_were_named():
    finding = warning("files-changed", "six")
    facts = make_facts(make_distribution("six", "1.17.0"))
    assert plan(found(finding), facts=facts) == FixPlan()
    named = plan(found(finding), facts=facts, checks={"records"})
    assert named.installed == ("six==1.17.0",)


def test_checks_that_were_not_named_are_left_alone():
    result = found(error("files-missing", "torch"))
    assert plan(result, checks={"numpy"}) == FixPlan()


def test_where_the_interpreter_does_not_answer_all_is_outside():
    finding = error("interpreter-broken", "/env/bin/python")
    facts = Facts(EXECUTABLE, problem=ProbeProblem("no", ""))
    assert plan(found(finding), facts=facts) == FixPlan(outside=(finding,))


ONE, TWO = error("files-missing", "torch"), error("numpy-too-new", "numpy")


@pytest.mark.parametrize(
    ("before", "after", "better"),
    [
        ((ONE,), (), True),
        ((ONE, TWO), (TWO,), True),
        ((ONE,), (ONE,), False),
        ((ONE,), (TWO,), False),
        ((), (), True),
        ((), (ONE,), False),
        ((ONE,), (warning("files-changed", "six"),), True),
    ],
)
def test_better_means_fewer_errors_and_no_new_one(before, after, better):
    assert is_better(before, after) is better

"""Each exit of the checks of torch and of what belongs to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.diagnosis import torch_checks
from safe_install.diagnosis.facts import ChangedFile, Facts, RecordState, ShadowingLibrary, Trial
from safe_install.diagnosis.record_checks import check_records
from safe_install.diagnosis.run import CannotTell, NotHere
from safe_install.models import Finding, HealthReport, ImportResult, Severity, TorchPlace
from tests.factories import SITE, make_distribution, make_environment, make_health

CUDA = "2.13.0+cu130"
PLACE = TorchPlace(SITE, SITE / "torch", "package", CUDA)


def facts(*distributions, torch=CUDA, places=(PLACE,), **fields):
    environment = make_environment(*distributions, torch=torch)
    environment = dataclasses.replace(environment, torch_places=places)
    return Facts(Path("/env/bin/python"), environment, **fields)


def told(findings):
    return [(one.check, one.severity, one.subject) for one in findings]


def test_nothing_is_decided_without_an_answer_of_the_interpreter():
    with pytest.raises(ValueError, match="did not answer"):
        torch_checks.check_installed(Facts(Path("/env/bin/python")))
    with pytest.raises(ValueError, match="there is no torch"):
        torch_checks.check_version(facts(torch=None))


# --- torch itself ---------------------------------------------------------------------------------


def test_a_torch_that_is_whole():
    assert not torch_checks.check_installed(facts())


@pytest.mark.parametrize(
    ("torch", "places", "check"),
    [
        (CUDA, (dataclasses.replace(PLACE, files=""),), "torch-files-missing"),
        (CUDA, (dataclasses.replace(PLACE, version=None),), "torch-without-metadata"),
        (None, (dataclasses.replace(PLACE, files="namespace", version=None),), "torch-leftover"),
        (None, (PLACE,), "torch-files-missing"),  # what would say its version is gone
    ],
)
def test_a_torch_that_is_not_whole(torch, places, check):
    (one,) = torch_checks.check_installed(facts(torch=torch, places=places))
    assert told([one]) == [(check, Severity.ERROR, "torch")]


def test_a_torch_that_this_user_may_not_read():
    closed = (SITE / "numpy-2.0.dist-info", SITE / "torch")
    (one,) = torch_checks.check_installed(facts(torch=None, places=(), closed=closed))
    assert told([one]) == [("torch-unreadable", Severity.ERROR, "torch")]
    assert (
        one.detail == f"{SITE / 'torch'} cannot be read by this user: Python finds no torch in it"
    )
    assert one.hint == f"As its owner, or as root: chmod -R u+rwX,go+rX {SITE}"


def test_a_torch_whose_metadata_this_user_may_not_read():
    closed = (SITE / "torch-2.13.0.dist-info",)
    (one,) = torch_checks.check_installed(facts(torch=None, places=(), closed=closed))
    assert one.detail == f"{closed[0]} cannot be read by this user: torch counts as not installed"


def test_where_nothing_requires_torch_there_is_nothing_to_ask():
    answer = torch_checks.check_installed(facts(torch=None, places=()))
    assert answer == NotHere("there is no torch, and nothing here requires one")


def test_a_torch_that_something_requires():
    unmet = Finding(
        "requirement-unmet",
        Severity.WARNING,
        "torch-scatter",
        "torch-scatter 2.1.2 requires torch, which is not installed.",
    )
    asked = facts(torch=None, places=(), found={"requirements": (unmet,)})
    (one,) = torch_checks.check_installed(asked)
    assert told([one]) == [("torch-missing", Severity.ERROR, "torch")]


def with_build(**changes):
    one = facts()
    build = dataclasses.replace(one.environment.torch, **changes)
    return dataclasses.replace(one, environment=dataclasses.replace(one.environment, torch=build))


@pytest.mark.parametrize(
    "changes",
    [{}, {"runtime_version": "2.13.0"}, {"runtime_version": "2.11.0", "has_metadata": False}],
    ids=str,
)
def test_files_and_metadata_of_one_version(changes):
    assert not torch_checks.check_version(with_build(**changes))


def test_files_and_metadata_of_two_versions():
    (one,) = torch_checks.check_version(with_build(runtime_version="2.11.0+cu130"))
    assert told([one]) == [("torch-half-replaced", Severity.ERROR, "torch")]
    assert "2.13.0+cu130" in one.detail
    assert "2.11.0+cu130" in one.detail


# --- what belongs to it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("companion", "torch"),
    [
        (("torchvision", "0.28.0+cu130"), CUDA),
        (("torchvision", "0.28.0"), CUDA),
        (("torchvision", "0.28.0+cpu"), "2.13.0"),
        (("torchmetrics", "1.0+cpu"), CUDA),
    ],
)
def test_companions_of_this_build(companion, torch):
    assert torch_checks.check_companions(facts(make_distribution(*companion), torch=torch)) == []


def test_a_companion_of_another_build():
    (one,) = torch_checks.check_companions(facts(make_distribution("torchvision", "0.28.0+cpu")))
    assert told([one]) == [("companion-of-another-build", Severity.ERROR, "torchvision")]
    assert "torchvision 0.28.0+cpu was built for cpu" in one.detail
    assert "safe-install install --force-reinstall torchvision" in one.hint


def test_compilers():
    one, two = make_distribution("triton", "3.4.0"), make_distribution("pytorch-triton", "3.3.0")
    assert not torch_checks.check_compiler(facts())
    assert not torch_checks.check_compiler(facts(one))
    (found,) = torch_checks.check_compiler(facts(one, two))
    assert told([found]) == [("two-compilers", Severity.ERROR, "pytorch-triton")]
    assert "pytorch-triton 3.3.0 and triton 3.4.0" in found.detail
    assert found.hint == "safe-install uninstall -y pytorch-triton triton"


def test_the_compiler_that_torch_requires_stays():
    torch = make_distribution(
        "torch", CUDA, requires=["sympy", "Triton==3.4.0; python_version>'3'"]
    )
    others = [make_distribution(name, "3.4.0") for name in ("triton", "pytorch-triton")]
    (found,) = torch_checks.check_compiler(facts(torch, *others))
    assert found.hint == (
        "safe-install uninstall -y pytorch-triton && "
        "safe-install install --force-reinstall --no-deps Triton==3.4.0"
    )


def unmet(*lines):
    findings = tuple(
        Finding("requirement-unmet", Severity.WARNING, subject, detail) for subject, detail in lines
    )
    return facts(found={"requirements": findings})


@pytest.mark.parametrize(
    "lines",
    [
        (),
        [("xgboost", "xgboost 3.2 requires nvidia-nccl-cu12, which is not installed.")],
        [("torch", "torch 2.13.0 requires sympy, which is not installed.")],
        [("torch", "torch is odd")],
    ],
    ids=str,
)
def test_libraries_that_nobody_misses(lines):
    assert not torch_checks.check_libraries(unmet(*lines))
    assert not torch_checks.check_libraries(facts())


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["nvidia_cudnn.cu13"], False),
        (["triton"], False),
        (["cuda-toolkit", "nvidia-nccl-cu13", "nvidia-nvtx-cu13"], False),
        (["nvidia-a", "nvidia-b", "nvidia-c", "nvidia-d"], True),
    ],
)
def test_libraries_that_torch_misses(names, more):
    lines = [
        ("torch", f"torch 2.13.0 requires {name}==1.0, which is not installed.") for name in names
    ]
    (one,) = torch_checks.check_libraries(unmet(*lines))
    assert told([one]) == [("torch-libraries-missing", Severity.ERROR, "torch")]
    assert names[0] in one.detail
    assert ("and 1 more" in one.detail) is more
    assert "safe-install install torch==2.13.0+cu130" in one.hint


# --- LD_LIBRARY_PATH ------------------------------------------------------------------------------


def shadowing(*names):
    return tuple(
        ShadowingLibrary(name, Path("/cuda/lib") / name, SITE / "torch" / "lib" / name)
        for name in names
    )


def test_nothing_before_the_libraries_of_torch():
    assert not torch_checks.check_library_path(facts())


@pytest.mark.parametrize(
    ("health", "severity"),
    [
        (None, Severity.WARNING),
        (make_health(), Severity.WARNING),
        (make_health(imports={"torch": "OSError: undefined symbol"}), Severity.ERROR),
        (HealthReport(), Severity.ERROR),
    ],
    ids=["not asked", "works", "fails", "no answer"],
)
def test_libraries_before_those_of_torch(health, severity):
    (one,) = torch_checks.check_library_path(
        facts(shadowing=shadowing("libcudnn.so.9"), health=health)
    )
    assert told([one]) == [("library-path", severity, "LD_LIBRARY_PATH")]
    assert "puts /cuda/lib in front" in one.detail
    assert "libcudnn.so.9 is taken" in one.detail


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("/cuda/lib", "unset LD_LIBRARY_PATH"),
        ("/cuda/lib/:", "unset LD_LIBRARY_PATH"),
        ("/driver:/cuda/lib:/more", "export LD_LIBRARY_PATH=/driver:/more"),
    ],
)
def test_the_line_that_takes_a_folder_off(value, hint):
    variables = {"LD_LIBRARY_PATH": value}
    (one,) = torch_checks.check_library_path(
        facts(shadowing=shadowing("libcudnn.so.9"), variables=variables)
    )
    assert one.hint == hint


def test_many_libraries_before_those_of_torch():
    (one,) = torch_checks.check_library_path(facts(shadowing=shadowing("a", "b", "c", "d")))
    assert "a, b, c and 1 more are taken" in one.detail


# --- what a fresh process answered ----------------------------------------------------------------


def test_an_import_that_works():
    assert torch_checks.check_imports(facts(health=make_health())) == ()


@pytest.mark.parametrize(
    ("health", "because"),
    [
        (None, "torch was not imported"),
        (HealthReport(), "no answer about torch"),
        (
            HealthReport(imports={"torch": ImportResult(False, error="no time", unknown=True)}),
            "no time",
        ),
    ],
)
def test_an_import_of_which_nothing_is_known(health, because):
    assert torch_checks.check_imports(facts(health=health)) == CannotTell(because)


@pytest.mark.parametrize(
    ("health", "check", "words"),
    [
        (make_health(crashed="the check died of SIGSEGV"), "check-crashed", "SIGSEGV"),
        (
            make_health(imports={"torch": "ImportError: no\nmore"}),
            "import-failed",
            "ImportError: no",
        ),
    ],
)
def test_an_import_that_fails(health, check, words):
    (one,) = torch_checks.check_imports(facts(health=health))
    assert told([one]) == [(check, Severity.ERROR, "torch")]
    assert words in one.detail


UNREADABLE = RecordState("alpha", "1.0", closed=("alpha.py",))
MISSED = Finding("requirement-unmet", Severity.ERROR, "torch", "no sympy", "install sympy")
DOUBTFUL = Finding("requirement-unmet", Severity.WARNING, "torch", "no jinja2", "install jinja2")


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"without": (Trial("LD_PRELOAD"), Trial("TORCH_LOGS"))}, "unset LD_PRELOAD TORCH_LOGS"),
        ({"found": {"requirements": (DOUBTFUL, MISSED)}}, "install sympy"),
        ({"records": (UNREADABLE,)}, f"--force-reinstall --no-deps torch=={CUDA}"),
    ],
)
def test_the_way_to_an_import(fields, hint):
    failed = make_health(imports={"torch": "ImportError: no"})
    alpha = make_distribution("alpha", "1.0")
    (one,) = torch_checks.check_imports(facts(alpha, health=failed, **fields))
    assert one.hint.endswith(hint)


NCCL = "nvidia-nccl-cu13==2.30.7"
NO_NCCL = f"torch {CUDA} requires {NCCL}, which is not installed."


def test_a_library_that_is_gone_has_the_same_way_out_as_the_import():
    """Files of torch once more would not bring it."""
    failed = make_health(imports={"torch": "OSError: libnccl.so.2: cannot open"})
    torch = make_distribution("torch", CUDA, requires=(NCCL,))
    nccl = make_distribution("nvidia-nccl-cu13", "2.30.7")
    gone = (RecordState("nvidia-nccl-cu13", "2.30.7", missing=("nvidia/nccl/lib/libnccl.so.2",)),)
    (of_files,) = check_records(facts(torch, nccl, health=failed, records=gone))
    (one,) = torch_checks.check_imports(facts(torch, nccl, health=failed, records=gone))
    assert one.hint == of_files.hint
    assert NCCL in one.hint
    missed = {"requirements": (Finding("requirement-unmet", Severity.WARNING, "torch", NO_NCCL),)}
    (of_libraries,) = torch_checks.check_libraries(facts(torch, found=missed))
    (one,) = torch_checks.check_imports(facts(torch, health=failed, found=missed))
    assert one.hint == of_libraries.hint


def test_what_another_check_says_is_no_requirement_of_its_own():
    other = "torchvision 0.20.1 requires torch==2.5.1, but torch 2.13.0 is installed."
    lines = [
        ("torch", NO_NCCL),
        ("torchvision", other),
        ("torch", "torch requires sympy, which is not installed."),
        ("alpha", "alpha requires triton, which is not installed."),
    ]
    subjects = [one.subject for one in torch_checks.check_requirements(unmet(*lines))]
    assert subjects == ["torch", "alpha"]
    # The other checks are skipped where torch is not whole.
    half = dataclasses.replace(PLACE, files="")
    asked = facts(places=(half,), found=unmet(*lines).found)
    assert len(torch_checks.check_requirements(asked)) == len(lines)


def test_a_torch_without_metadata_comes_again_in_the_version_of_its_files():
    asked = facts(health=make_health(imports={"torch": "ImportError: no"}))
    asked = dataclasses.replace(
        asked, environment=dataclasses.replace(asked.environment, installed={})
    )
    (one,) = torch_checks.check_imports(asked)
    assert one.hint == f"safe-install install --force-reinstall --no-deps torch=={CUDA}"


def test_computing():
    assert torch_checks.check_computes(facts()) == CannotTell("torch was not asked")
    answers = {"torch on cpu": None, "torch.from_numpy": "RuntimeError: no", "apex": "broken"}
    (one,) = torch_checks.check_computes(facts(health=make_health(operations=answers)))
    assert told([one]) == [("operation-failed", Severity.ERROR, "torch.from_numpy")]
    late = HealthReport(operations={"torch on cpu": ImportResult(False, unknown=True)})
    assert torch_checks.check_computes(facts(health=late)) == []


@pytest.mark.parametrize(
    ("operation", "numpy", "hint"),
    [
        ("torch.from_numpy", "2.4.6", "install --force-reinstall --no-deps numpy==2.4.6"),
        (
            "torch.from_numpy",
            None,
            f"numpy is not installed, and what is left of it is imported: remove {SITE}/numpy",
        ),
        ("torch on cpu", "2.4.6", f"install --force-reinstall --no-deps torch=={CUDA}"),
    ],
)
def test_who_is_installed_again_where_torch_does_not_compute(operation, numpy, hint):
    installed = [make_distribution("numpy", numpy)] if numpy else []
    failed = make_health(torch="2.13.0", operations={operation: "ModuleNotFoundError: numpy._core"})
    (one,) = torch_checks.check_computes(facts(*installed, health=failed))
    assert hint in one.hint


# --- numpy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "numpy"),
    [("2.2.2+cpu", None), ("2.2.2+cpu", "1.26.4"), ("2.3.0+cpu", "2.0.0")],
)
def test_a_numpy_that_torch_can_use(torch, numpy):
    there = [make_distribution("numpy", numpy)] if numpy else []
    assert torch_checks.check_numpy(facts(*there, torch=torch)) == ()


def test_a_numpy_that_torch_cannot_use():
    numpy = make_distribution("numpy", "2.0.0")
    (one,) = torch_checks.check_numpy(facts(numpy, torch="2.2.2+cpu"))
    assert told([one]) == [("numpy-too-new", Severity.ERROR, "numpy")]
    assert "safe-install install 'numpy<2'" in one.hint


def test_a_numpy_whose_version_is_none():
    answer = torch_checks.check_numpy(facts(make_distribution("numpy", "of today")))
    assert answer == CannotTell("of today is no version")


# --- extensions, and companions of another torch --------------------------------------------------


def test_extensions_that_import_or_of_which_nothing_is_known():
    assert torch_checks.check_extensions(facts()) == CannotTell("they were not imported")
    works = make_health(
        imports={"torch": "broken", "apex": None}, operations={"torch on cpu": "no"}
    )
    assert torch_checks.check_extensions(facts(health=works)) == []
    late = HealthReport(imports={"apex": ImportResult(False, unknown=True)})
    assert torch_checks.check_extensions(facts(health=late)) == []


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "OSError: undefined symbol",
            "safe-install install --force-reinstall --no-deps torch-scatter",
        ),
        (
            "ModuleNotFoundError: No module named 'pkg_resources'",
            "safe-install install 'setuptools<82'",
        ),
    ],
)
def test_extensions_that_fail(error, hint):
    health = make_health(
        imports={"torch_scatter": error},
        operations={"torch-scatter on cpu": error, "torch-sparse native part": error},
    )
    installed = [make_distribution(f"torch-{name}", "2.1.2") for name in ("scatter", "sparse")]
    modules = {"torch-scatter": ("torch_scatter",), "torch-sparse": ("torch_sparse",)}
    found = torch_checks.check_extensions(facts(*installed, health=health, modules=modules))
    # What does not import is not said to fail to compute, too.
    assert told(found) == [
        ("import-failed", Severity.ERROR, "torch_scatter"),
        ("operation-failed", Severity.ERROR, "torch-sparse native part"),
    ]
    assert [one.hint for one in found] == [hint, hint.replace("scatter", "sparse")]


@pytest.mark.parametrize(
    ("record", "is_asked"),
    [
        (RecordState("torch", CUDA, missing=("torch/lib/libc10.so",)), False),
        (RecordState("torch", CUDA, changed=(ChangedFile("torch/lib/libc10.so"),)), False),
        (RecordState("torch", CUDA, missing=("torch/include/c10.h",)), True),
        (RecordState("torch-scatter", "2.1.2", missing=("torch_scatter/_cpu.so",)), True),
    ],
)
def test_files_of_extensions_are_not_held_against_half_a_torch(record, is_asked):
    detail = "torch_scatter/_scatter_cpu.so needs libc10.so, which is nowhere here"
    warning = Finding("extension-broken", Severity.WARNING, "torch-scatter", detail)
    asked = facts(records=(record,), found={"extension-files": (warning,)})
    answer = torch_checks.check_extension_files(asked)
    half = NotHere("libraries of torch are not as they were installed")
    assert answer == ((warning,) if is_asked else half)


@pytest.mark.parametrize(
    ("on_gpu", "subjects"),
    [
        ("ImportError: no", ["torchaudio on cpu"]),
        ("RuntimeError: no kernel image", ["torchaudio on cpu", "torchaudio on cuda"]),
    ],
)
def test_what_fails_on_the_cpu_fails_on_a_gpu_for_the_same_reason(on_gpu, subjects):
    operations = {"torchaudio on cpu": "ImportError: no", "torchaudio on cuda": on_gpu}
    found = torch_checks.check_extensions(facts(health=make_health(operations=operations)))
    assert [one.subject for one in found] == subjects


def test_an_extension_whose_file_is_gone_has_one_way_out():
    health = make_health(imports={"torch_scatter": "ImportError: Could not find module"})
    scatter = make_distribution("torch-scatter", "2.1.2")
    records = (RecordState("torch-scatter", "2.1.2", missing=("torch_scatter/_scatter_cpu.so",)),)
    seen = facts(scatter, health=health, records=records)
    (of_import,) = torch_checks.check_extensions(seen)
    (of_files,) = check_records(seen)
    assert of_import.hint == of_files.hint
    assert of_import.hint.endswith(" torch-scatter==2.1.2")


def test_a_module_of_nothing_that_is_installed():
    health = make_health(imports={"odd": "ImportError: no"})
    (one,) = torch_checks.check_extensions(facts(health=health))
    assert one.hint == "See all that it says: python -c 'import odd'"


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("torchvision 0.20.1 requires torch==2.5.1, but torch 2.13.0 is installed.", 1),
        ("torchvision 0.20.1 requires torch<2.6,>=2.5, but torch 2.13.0 is installed.", 1),
        ("torchvision 0.20.1 requires torch-utilities==1, which is not installed.", 0),
        ("torchvision 0.20.1 requires numpy<2, but numpy 2.0.0 is installed.", 0),
    ],
)
def test_a_companion_that_requires_another_torch(line, count):
    found = torch_checks.check_companions(unmet(("torchvision", line)))
    assert told(found) == [("companion-of-another-torch", Severity.ERROR, "torchvision")] * count
    others = torch_checks.check_companions(unmet(("torchmetrics", line)))
    assert others == []


@pytest.mark.parametrize(
    ("module", "installed", "words"),
    [
        ("numpy", (), f"remove {SITE / 'numpy'}, or install numpy."),
        ("numpy", (make_distribution("numpy", "2.4.6"),), "--force-reinstall --no-deps torch=="),
        ("random", (), "--force-reinstall --no-deps torch=="),  # the working folder's
    ],
)
def test_an_empty_folder_that_an_uninstall_left(module, installed, words):
    error = f"AttributeError: module '{module}' has no attribute 'ndarray'"
    torch = make_distribution("torch", "2.13.0+cpu")
    asked = facts(torch, *installed, health=make_health(imports={"torch": error}))
    (one,) = torch_checks.check_imports(asked)
    assert words in one.hint


@pytest.mark.parametrize(
    "error",
    ["EOFError: marshal data too short", "ValueError: bad marshal data (unknown type code)"],
)
def test_bytecode_that_was_cut(error):
    (one,) = torch_checks.check_imports(facts(health=make_health(imports={"torch": error})))
    assert one.hint == f"find {SITE} -name '*.pyc' -delete"


def test_files_of_torch_that_this_user_may_not_read_are_not_installed_again():
    error = make_health(imports={"torch": "ImportError: libc10.so: cannot open"})
    closed = RecordState("torch", CUDA, closed=("torch/lib/libc10.so",))
    (one,) = torch_checks.check_imports(
        facts(make_distribution("torch", CUDA), health=error, records=(closed,))
    )
    assert one.hint.endswith(f"chmod -R u+rwX,go+rX {SITE}/torch/lib/libc10.so")

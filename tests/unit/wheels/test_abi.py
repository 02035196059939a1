"""The verdicts, and the sentences that people read."""

from __future__ import annotations

import pytest
from packaging.version import Version

from safe_install.index.native import needed_files
from safe_install.models import Severity, TorchBuild
from safe_install.wheels.abi import (
    LoadOutcome,
    ObjectFacts,
    ObjectVerdict,
    TorchContext,
    findings_of,
    group_of,
    infer_from_siblings,
    is_torch_library,
    is_torch_symbol,
    judge_object,
    judge_wheel,
    open_findings,
    torch_findings,
)
from safe_install.wheels.elf import VersionNeed, WantedSymbol
from safe_install.wheels.fingerprint import Fingerprint
from safe_install.wheels.loader import Missing, MissingVersion, Problems, Undefined

FITS, ANOTHER, UNKNOWN, FAILS = (
    LoadOutcome.FITS,
    LoadOutcome.ANOTHER_TORCH,
    LoadOutcome.UNKNOWN,
    LoadOutcome.DOES_NOT_LOAD,
)
MEMBER = "demo/_C.so"
TENSOR = "_ZN2at4_ops3add4callERKNS_6TensorES4_"
OLD_STRING = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
NEW_STRING = (
    "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
)


def build(version="2.13.0+cpu", *, cxx11_abi=True):
    local = version.partition("+")[2]
    cuda = f"{local[2:-1]}.{local[-1]}" if local.startswith("cu") else None
    return TorchBuild(Version(version), version, local or "cpu", cuda, cxx11_abi=cxx11_abi)


def context(
    torch="2.13.0+cpu", *, known=("2.12", "2.13", "2.14"), libraries=(), cxx11_abi=True, **fields
):
    return TorchContext(
        build(torch, cxx11_abi=cxx11_abi),
        frozenset(known),
        frozenset(libraries),
        "glibc 2.31",
        **fields,
    )


def see(
    member=MEMBER,
    *,
    missing=(),
    undefined=(),
    versions=(),
    driver=(),
    minors=(),
    assertions=None,
    **fields,
):
    """What was seen of a file that uses torch's C++; nothing is wrong with it unless it is said."""
    problems = Problems(
        tuple(Missing(name, member) for name in missing),
        tuple(Undefined(WantedSymbol(name), member) for name in undefined),
        tuple(MissingVersion(VersionNeed(*need.split(":")), member) for need in versions),
        tuple(driver),
    )
    count = (20 if minors else 0) if assertions is None else assertions
    values = {
        "uses_torch": True,
        "wanted": (TENSOR,),
        "fingerprint": Fingerprint(count, tuple(minors), 1.0),
    }
    return ObjectFacts(member, problems, **{**values, **fields})


def judged(facts, where=None):
    return judge_object(facts, where or context(), demangle=lambda name: f"<{name}>")


# --- one file -------------------------------------------------------------------------------------

VERDICTS = {
    "built for this torch": (see(minors=["2.13"]), context(), FITS, ""),
    "a tie with this torch": (see(minors=["2.12", "2.13"]), context(), FITS, ""),
    "no C++ of torch": (see(wanted=["aoti_torch_empty", "malloc"]), context(), FITS, ""),
    "no C++ of torch, another minor in passing": (
        see(wanted=["torch_x"], minors=["2.9"]),
        context(),
        FITS,
        "",
    ),
    "no torch at all": (see(uses_torch=False, minors=["2.9"]), context(), FITS, ""),
    "its driver is elsewhere": (see(minors=["2.13"], driver=["libcuda.so.1"]), context(), FITS, ""),
    "built for another": (
        see(minors=["2.12"]),
        context(),
        ANOTHER,
        "demo/_C.so was built for torch 2.12, and here is 2.13.0+cpu: it would load, and may crash "
        "or compute wrong "
        "numbers",
    ),
    "a tie of others": (
        see(minors=["2.11", "2.12"]),
        context(),
        ANOTHER,
        "built for torch 2.11 or 2.12, and here is",
    ),
    "no assertions": (
        see(),
        context(),
        UNKNOWN,
        "demo/_C.so does not say which torch it was built for",
    ),
    "few assertions": (see(assertions=2), context(), UNKNOWN, "does not say which torch"),
    "unknown torch, its headers": (see(share=0.95, minors=["2.14"]), context("2.16.0"), FITS, ""),
    "unknown torch, just its headers": (see(share=0.9), context("2.16.0"), FITS, ""),
    "unknown torch, others": (
        see(share=0.5, minors=["2.14"]),
        context("2.16.0"),
        ANOTHER,
        "was built for torch 2.14, and here is 2.16.0",
    ),
    "unknown torch and origin": (
        see(share=0.5),
        context("2.16.0"),
        ANOTHER,
        "built for torch another one, and here is",
    ),
    "unknown torch, no assertions": (see(), context("2.16.0"), UNKNOWN, "does not say which torch"),
    "unreadable": (
        see(unreadable="no shared object"),
        context(),
        UNKNOWN,
        "demo/_C.so could not be read: no shared obj",
    ),
    "another machine": (
        see(other_machine="aarch64", minors=["2.13"]),
        context(python="cp311"),
        FAILS,
        "demo/_C.so is for aarch64, and this machine is not",
    ),
    "another Python": (
        see(module_for="cp310", minors=["2.13"]),
        context(python="cp311"),
        FAILS,
        "demo/_C.so is a module for cp310, and Python here is cp311",
    ),
    "this Python": (see(module_for="cp311", minors=["2.13"]), context(python="cp311"), FITS, ""),
    "any Python": (see(minors=["2.13"]), context(python="cp311"), FITS, ""),
    "missing library": (
        see(missing=["libavutil.so.58"]),
        context(),
        FAILS,
        "needs libavutil.so.58, which is nowhere here",
    ),
    "missing libraries": (
        see(missing=["liba.so", "libb.so", "liba.so", "libc.so", "libd.so"]),
        context(),
        FAILS,
        "demo/_C.so needs liba.so, libb.so, libc.so, which are nowhere here",
    ),
    "library elsewhere": (
        see(missing=["libmetatensor.so"]),
        context(libraries=["libmetatensor.so"]),
        UNKNOWN,
        "demo/_C.so needs libmetatensor.so, which lies elsewhere in the environment",
    ),
    "one elsewhere, one nowhere": (
        see(missing=["libmetatensor.so", "libgone.so"]),
        context(libraries=["libmetatensor.so"]),
        FAILS,
        "demo/_C.so needs libgone.so, which is nowhere here",
    ),
    "CUDA build beside a CPU torch": (
        see(missing=["libcudart.so.12", "libc10_cuda.so", "libtorch_cuda.so"]),
        context(),
        FAILS,
        "demo/_C.so was built for a torch with CUDA (it needs libc10_cuda.so), and torch "
        "2.13.0+cpu has none",
    ),
    "other CUDA major": (
        see(missing=["libgone.so", "libcudart.so.12"]),
        context("2.13.0+cu130"),
        FAILS,
        "demo/_C.so was built for CUDA 12 (it needs libcudart.so.12), and torch here is for CUDA "
        "13.0",
    ),
    "a library whose number is not CUDA's": (
        see(missing=["libcusparse.so.12", "libcufft.so.11"]),  # CUDA 13 has libcusparse.so.12, too
        context("2.13.0+cu130"),
        FAILS,
        "demo/_C.so needs libcusparse.so.12, libcufft.so.11, which are",
    ),
    "a bundled library of another CUDA major": (
        see(missing=["libcudart.e8e8b82a.so.12"]),
        context("2.13.0+cu130"),
        FAILS,
        "demo/_C.so was built for CUDA 12 (it needs libcudart.e8e8b82a.so.12), and torch here is "
        "for CUDA 13.0",
    ),
    "this CUDA major": (
        see(missing=["libnvrtc.so.13"]),
        context("2.13.0+cu130"),
        FAILS,
        "needs libnvrtc.so.13, which is",
    ),
    "CUDA runtime beside a CPU torch": (
        see(missing=["libcudart.so.12"]),
        context(),
        FAILS,
        "needs libcudart.so.12, which",
    ),
    "newer glibc": (
        see(versions=["libc.so.6:GLIBC_2.34", "libm.so.6:GLIBC_2.35"]),
        context(),
        FAILS,
        "demo/_C.so needs GLIBC_2.34 of libc.so.6, which is not there (here is glibc 2.31)",
    ),
    "newer libstdc++": (
        see(versions=["libstdc++.so.6:GLIBCXX_3.4.32"]),
        context(),
        FAILS,
        "demo/_C.so needs GLIBCXX_3.4.32 of libstdc++.so.6, which is not there",
    ),
    "missing library before all": (
        see(missing=["libgone.so"], versions=["libc.so.6:GLIBC_2.34"], undefined=[TENSOR]),
        context(),
        FAILS,
        "needs libgone.so",
    ),
    "other symbols": (
        see(undefined=["one", "two", "three", "four"]),
        context(),
        FAILS,
        "demo/_C.so needs 4 symbols that nothing here defines: <one>, <two>, <three>",
    ),
    "another symbol": (
        see(undefined=["one"]),
        context(),
        FAILS,
        "demo/_C.so needs 1 symbol that nothing here defines: <one>",
    ),
    "symbols of another torch": (
        see(undefined=["one", TENSOR], minors=["2.9"]),
        context(),
        FAILS,
        "demo/_C.so was built for another torch (2.9): it needs 2 symbols that torch 2.13.0+cpu "
        "does not have, e.g. "
        f"<{TENSOR}>",
    ),
    "symbols of an unknown torch": (
        see(undefined=[TENSOR]),
        context(),
        FAILS,
        "built for another torch: it needs 1 symbol ",
    ),
    "old C++ ABI": (
        see(undefined=[TENSOR, OLD_STRING]),
        context(),
        FAILS,
        f"<{OLD_STRING}> (old C++ ABI)",
    ),
    "new C++ ABI": (
        see(undefined=[NEW_STRING]),
        context("2.5.1", cxx11_abi=False),
        FAILS,
        f"<{NEW_STRING}> (new C++ ABI)",
    ),
}


@pytest.mark.parametrize(
    ("facts", "where", "verdict", "reason"), VERDICTS.values(), ids=VERDICTS.keys()
)
def test_a_file(facts, where, verdict, reason):
    found = judged(facts, where)
    assert found.outcome is verdict
    assert found.reason == "" if not reason else reason in found.reason
    assert bool(found.hint) is (verdict in (FAILS, ANOTHER))
    assert found.facts is facts


@pytest.mark.parametrize(
    ("undefined", "cxx11_abi"),
    [
        ([OLD_STRING], None),
        ([OLD_STRING], False),
        ([NEW_STRING], True),
        ([NEW_STRING], None),
        ([TENSOR], True),
        ([TENSOR], False),
        ([NEW_STRING, OLD_STRING], True),
    ],
)
def test_no_flavour_is_told_without_reason(undefined, cxx11_abi):
    assert "C++ ABI" not in judged(see(undefined=undefined), context(cxx11_abi=cxx11_abi)).reason


@pytest.mark.parametrize("name", ["_ZN3c105CLASSEv", "_ZN2at9SSL_paramE", "_ZN5torch3CSsE"])
def test_no_flavour_is_read_from_identifiers(name):
    assert "C++ ABI" not in judged(see(undefined=[name])).reason


@pytest.mark.parametrize(
    "name",
    [
        "_ZNSs2atEm",  # std::string::at
        "_ZNKSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE2atEm",
        "_Z12attention_fwv",
    ],
)
def test_only_names_of_torch_are_its_own(name):
    assert judged(see(wanted=[name])).outcome is FITS
    assert "another torch" not in judged(see(undefined=[name])).reason


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("libtorch.so", True),
        ("libtorch_cpu.so", True),
        ("libtorch_python.so", True),
        ("libc10.so", True),
        ("libc10_cuda.so", True),
        ("/env/torch/lib/libtorch_cuda.so", True),
        ("libtorchaudio.so", False),
        ("libtorch.so.1", False),
        ("libc.so.6", False),
        ("mylibtorch.so", False),
    ],
)
def test_libraries_of_torch(name, is_one):
    assert is_torch_library(name) is is_one


# --- a wheel --------------------------------------------------------------------------------------


def file(member, verdict=FITS, **fields):
    """A file that was verdicts so."""
    reason = "" if verdict is FITS else f"{member} {verdict.value}"
    return ObjectVerdict(see(member, **fields), verdict, reason, "do this" if reason else "")


def plain(member, verdict=FITS):
    return file(member, verdict, uses_torch=False)


FFMPEG = [file(f"codec/libcore{n}.so", FAILS, missing=[f"libavutil.so.{n}"]) for n in (4, 5, 6, 7)]
OF_TORCH = {"missing": ["libtorch_cuda.so"]}

ALL_FIT = [file("a.so"), file("b.so")]
TWINS = "_*{_cuda,_cpu,}.so"
WHEELS = {
    "no files": ([], None, FITS, []),
    "all fit": (ALL_FIT, None, FITS, ["a.so", "b.so"]),
    "none uses torch": ([plain("a.so", FAILS), plain("b.so", FAILS)], None, FITS, []),
    "unknown project, one fits": ([file("a.so", FAILS), file("b.so")], None, FAILS, ["a.so"]),
    "unknown project, one is unknown": (
        [file("a.so", FAILS), file("b.so", UNKNOWN)],
        None,
        FAILS,
        ["a.so"],
    ),
    "a part for libsox": (
        [file("a.so"), file("sox.so", FAILS, missing=["libsox.so"])],
        None,
        FITS,
        ["a.so"],
    ),
    "a part for CUDA": (
        [file("a.so"), file("x.so", FAILS, missing=["libc10_cuda.so"])],
        None,
        FITS,
        ["a.so"],
    ),
    "a part for CUDA's libraries": (
        [file("a.so"), file("x.so", FAILS, missing=["libnvrtc.so.12"])],
        None,
        FITS,
        ["a.so"],
    ),
    "nothing but a part for CUDA": (
        [file("x.so", FAILS, missing=["libc10_cuda.so"])],
        None,
        FAILS,
        ["x.so"],
    ),
    "a part for another torch": (
        [file("a.so"), file("x.so", FAILS, missing=["libtorch.so"])],
        None,
        FAILS,
        ["x.so"],
    ),
    "known project, a part for libsox": (
        [file("a.so"), file("b.so", FAILS, missing=["libsox.so"])],
        "*.so",
        FITS,
        ["a.so"],
    ),
    "known project, a part for CUDA": (
        [file("a.so"), file("b.so", FAILS, missing=["libc10_cuda.so"])],
        "*.so",
        FAILS,
        ["b.so"],
    ),
    "unknown project, none fits": (
        [file("a.so", FAILS), file("b.so", ANOTHER)],
        None,
        FAILS,
        ["a.so"],
    ),
    "unknown project, all for another": (
        [file("a.so", ANOTHER), plain("b.so")],
        None,
        ANOTHER,
        ["a.so"],
    ),
    "known project, needed fits": (
        [file("_C.so"), file("image.so", FAILS)],
        "_C.so",
        FITS,
        ["_C.so"],
    ),
    "known project, needed fails": (
        [file("_C.so", FAILS), file("image.so")],
        "_C.so",
        FAILS,
        ["_C.so"],
    ),
    "known project, needed is for another": (
        [file("_C.so", ANOTHER), file("x.so")],
        "_C.so",
        ANOTHER,
        ["_C.so"],
    ),
    "known project, needed without torch": (
        [plain("_C.so", FAILS), file("x.so")],
        "_C.so",
        FAILS,
        ["_C.so"],
    ),
    "known project, nothing needed": (
        [file("a.so", FAILS), file("b.so", FAILS)],
        "none.so",
        FITS,
        [],
    ),
    "both of two are needed": ([file("a.so"), file("b.so", FAILS)], "*.so", FAILS, ["b.so"]),
    "alternatives, one fits": (
        [*FFMPEG, file("codec/libcore8.so")],
        None,
        FITS,
        ["codec/libcore8.so"],
    ),
    "alternatives of a known project": (
        [*FFMPEG, file("codec/libcore8.so")],
        "none",
        FITS,
        ["codec/libcore8.so"],
    ),
    "alternatives, none fits": (FFMPEG, None, FAILS, ["codec/libcore4.so"]),
    "alternatives of the system, none fits": (FFMPEG, "none", FITS, []),
    "alternatives for torch, none fits": (
        [file("a1.so", FAILS, **OF_TORCH), file("a2.so", FAILS, **OF_TORCH), file("b.so")],
        "none",
        FAILS,
        ["a1.so"],
    ),
    "alternatives for CUDA, none fits": (
        [file(f"a{n}.so", FAILS, missing=[f"libcudart.so.{n}"]) for n in (11, 12)],
        "none",
        FAILS,
        ["a11.so"],
    ),
    "alternatives without torch": (
        [plain("a1.so", FAILS), plain("a2.so", FAILS)],
        "none",
        FITS,
        [],
    ),
    "alternatives, the best is for another": (
        [file("a1.so", FAILS), file("a2.so", ANOTHER), file("a3.so", FAILS)],
        "none",
        ANOTHER,
        ["a2.so"],
    ),
    "twins, the one that is taken fits": (
        [file("_x_cpu.so", FAILS), file("_x_cuda.so")],
        TWINS,
        FITS,
        ["_x_cuda.so"],
    ),
    "twins, the one that is taken fails": (
        [file("_x_cpu.so"), file("_x_cuda.so", FAILS, missing=["libtorch_cuda.so"])],
        TWINS,
        FAILS,
        ["_x_cuda.so"],
    ),
    "twins, one is there": ([file("_x_cpu.so", FAILS)], TWINS, FAILS, ["_x_cpu.so"]),
    "needed alternatives are told once": (
        [file("a1.so", FAILS), file("a2.so", FAILS)],
        "a*.so",
        FAILS,
        ["a1.so"],
    ),
}


def needs(pattern, files):
    """As for a project of which the wheel index knows this pattern; None: a project that it does
    not know."""
    return (
        None
        if pattern is None
        else needed_files([pattern], [one.facts.member for one in files]).__contains__
    )


@pytest.mark.parametrize(
    ("files", "pattern", "outcome", "deciding_objects"), WHEELS.values(), ids=WHEELS.keys()
)
def test_a_wheel(files, pattern, outcome, deciding_objects):
    found = judge_wheel(files, needs(pattern, files))
    assert (found[0], [one.facts.member for one in found[1]]) == (outcome, deciding_objects)


COMPANY = {
    "its own torch": (["2.13"], [FITS]),
    "another torch": (["2.12"], [ANOTHER]),
    "several": (["2.12", "2.13"], [FITS]),
    "nobody knows": ([], [UNKNOWN]),
}


@pytest.mark.parametrize(("minors", "verdicts"), COMPANY.values(), ids=COMPANY.keys())
def test_a_file_that_says_nothing_takes_the_word_of_its_wheel(minors, verdicts):
    files = [judged(see("a.so", minors=minors)), judged(see("silent.so"))]
    assert files[1].outcome is UNKNOWN
    assert [one.outcome for one in infer_from_siblings(files, context())[1:]] == verdicts


def test_alternatives_do_not_speak_for_each_other():
    files = [
        judged(see("for_2.12.so", minors=["2.12"])),
        judged(see("for_2.13.so")),
        judged(see("silent.so")),
    ]
    assert [one.outcome for one in infer_from_siblings(files, context())[1:]] == [UNKNOWN, UNKNOWN]


def test_a_torch_that_the_table_does_not_know_is_not_judged_by_company():
    where = context("2.99.0+cpu")
    files = [
        judged(see("a.so", minors=["2.13"], share=1.0), where),
        judged(see("silent.so"), where),
    ]
    assert [one.outcome for one in infer_from_siblings(files, where)] == [FITS, UNKNOWN]


def test_a_symbol_of_torch_that_is_not_there_weighs_more_than_a_library_that_lies_elsewhere():
    where = context(libraries=["libnvToolsExt.so.1"])
    assert judged(see(missing=["libnvToolsExt.so.1"]), where).outcome is UNKNOWN
    both = judged(see(missing=["libnvToolsExt.so.1"], undefined=[TENSOR]), where)
    assert both.outcome is FAILS and "built for another torch" in both.reason


@pytest.mark.parametrize(
    ("members", "groups"),
    [
        (["a/lib4.so", "a/lib12.so"], 1),
        (["a/lib4.so", "b/lib4.so"], 2),
        (["x_pytorch_2.1.0.so", "x_pytorch_2.10.1.so"], 1),
        (["_C.so", "image.so"], 2),
        (["sm90/ops.so", "sm100/ops.so"], 1),
    ],
)
def test_files_that_differ_in_numbers_are_alternatives(members, groups):
    assert len(set(map(group_of, members))) == groups


# --- findings -------------------------------------------------------------------------------------

E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE
FINDINGS = {
    "fits": ([file("a.so")], None, False, []),
    "unknown": ([file("a.so", UNKNOWN)], None, False, []),
    "does not load": (
        [file("a.so", FAILS)],
        None,
        False,
        [("does-not-load", E, "a.so does-not-load")],
    ),
    "does not load, and is asked for": (
        [file("a.so", FAILS)],
        None,
        True,
        [("does-not-load", E, "a.so does-not-load")],
    ),
    "another": (
        [file("a.so", ANOTHER)],
        None,
        False,
        [("built-for-another-torch", E, "a.so another-torch")],
    ),
    "another, and is asked for": (
        [file("a.so", ANOTHER)],
        None,
        True,
        [("built-for-another-torch", W, "a.so another-torch")],
    ),
    "all are told": (
        [file(f"{name}.so", FAILS) for name in "abcd"],
        None,
        False,
        [("does-not-load", E, f"{name}.so does-not-load") for name in "abcd"],
    ),
    "an optional part": (
        [file("_C.so"), file("image.so", FAILS), plain("other.so", FAILS)],
        "_C.so",
        False,
        [("optional-part-does-not-load", N, "image.so does-not-load")],
    ),
    "an optional part, each as often as it has alternatives": (
        [file("_C.so"), *FFMPEG],
        "_C.so",
        False,
        [("optional-part-does-not-load", N, "codec/libcore4.so does-not-load")],
    ),
    "an alternative that fits": (
        [file("_C.so"), *FFMPEG, file("codec/libcore8.so")],
        "_C.so",
        False,
        [],
    ),
    "a needed and an optional part": (
        [file("_C.so", FAILS), file("image.so", FAILS)],
        "_C.so",
        False,
        [
            ("does-not-load", E, "_C.so does-not-load"),
            ("optional-part-does-not-load", N, "image.so does-not-load"),
        ],
    ),
    "the driver": (
        [
            file("a.so", driver=["libnvidia-ml.so.1", "libcuda.so.1"]),
            file("b.so", driver=["libcuda.so.1"]),
        ],
        None,
        False,
        [
            (
                "needs-driver",
                N,
                "demo needs libcuda.so.1, libnvidia-ml.so.1 of the driver, which is not here: it "
                "cannot be verified",
            )
        ],
    ),
}


@pytest.mark.parametrize(
    ("files", "pattern", "is_asked_for", "told"), FINDINGS.values(), ids=FINDINGS.keys()
)
def test_what_is_told_of_a_wheel(files, pattern, is_asked_for, told):
    found = findings_of("demo", files, needs(pattern, files), is_asked_for=is_asked_for)
    assert [(one.check, one.severity, one.detail) for one in found] == told
    assert {one.subject for one in found} <= {"demo"}
    assert all(bool(one.hint) for one in found if one.severity is not N)


def test_torch_itself():
    files = [
        plain("torch/_C.so", FAILS),
        plain("torch/lib/libtorch_global_deps.so"),
        plain("x.so", UNKNOWN),
    ]
    (found,) = torch_findings(files)
    assert (found.check, found.severity, found.subject) == ("torch-would-not-load", E, "torch")
    assert found.detail == "torch itself would no longer load: torch/_C.so does-not-load"


@pytest.mark.parametrize(
    ("files", "details"),
    [
        ([file("a.so")], []),
        ([file("a.so", FAILS)], []),
        ([file("a.so", UNKNOWN), file("b.so")], ["a.so unknown"]),
    ],
)
def test_what_is_left_open_is_a_warning(files, details):
    found = open_findings("demo", files, needs(None, files))
    assert [one.detail for one in found] == details
    assert {one.severity for one in found} <= {W}


@pytest.mark.parametrize(
    ("name", "is_torch"),
    [(TENSOR, True), (NEW_STRING, True), ("_ZNSt6vectorIiE4sizeEv", False), ("printf", False)],
)
def test_symbols_of_torch(name, is_torch):
    assert is_torch_symbol(name) is is_torch

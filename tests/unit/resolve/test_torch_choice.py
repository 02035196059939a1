"""Which torch may come, in which order, and why each other one may not: a table over frozen
values."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from safe_install.index.catalog import bundled_catalog
from safe_install.index.facts import TorchRelease
from safe_install.models import (
    Candidate,
    CandidateKind,
    Device,
    Driver,
    Finding,
    Link,
    Rejection,
    Rule,
    Severity,
)
from safe_install.resolve.torch_change import AskedOfTorch
from safe_install.resolve.torch_choice import (
    KEEP_EXTENSIONS,
    NO_SUCH_TORCH,
    UNINSTALL,
    NoPlan,
    PassedOver,
    TorchChoice,
    hint_to_leave_out,
    hint_to_permit,
    join_all,
    merge_rejections,
    name_open_question,
    newest_held_back,
    note_choice,
    pass_over,
    why_impossible,
    why_it_stays,
)
from safe_install.resolve.torch_ranking import Exclusion, TorchTerms, rank_torches
from safe_install.resolve.torch_reason import Reason, predicate
from tests.factories import make_environment, make_interpreter, planned_torch
from tests.unit.test_pip_output import INCONSISTENT

MODERN = ("3.10", "3.11", "3.12")


def release(version, untagged="cu130", accelerators=("cpu", "cu126", "cu130"), python=MODERN):
    return TorchRelease(version, accelerators, untagged, {}, python)


RELEASES = (
    release(
        "2.0.1",
        untagged="cu117",
        accelerators=("cpu", "cu117", "cu118"),
        python=("3.8", "3.9", "3.10", "3.11"),
    ),
    release(
        "2.2.2",
        untagged="cu121",
        accelerators=("cpu", "cu118", "cu121"),
        python=("3.8", "3.11", "3.12"),
    ),
    release("2.9.1", untagged="cu128", accelerators=("cpu", "cu126", "cu128")),
    release("2.10.0rc1"),
    release("2.13.0"),
    release("2.13.1", untagged=None),  # on download.pytorch.org only
    release("2.14.1", accelerators=("cpu", "cu130"), python=(*MODERN, "3.14")),
)


class FewTorches:
    """The real catalog, with these releases of torch."""

    def __init__(self):
        catalog = bundled_catalog()
        table = {one.version: one for one in RELEASES}
        self.projects, self.project, self.cuda = catalog.projects, catalog.project, catalog.cuda
        self.torch = dataclasses.replace(catalog.torch, releases=table)


CATALOG = FewTorches()
PLATFORM = "linux_x86_64"
OLD = Driver("470.57.02", "11.4")
MIDDLE = Driver("535.104.05", "12.2")
NEW = Driver("580.65.06", "13.0")


def machine(*, torch=None, driver=None, **interpreter):
    return make_environment(torch=torch, driver=driver, interpreter=make_interpreter(**interpreter))


def declared(driver, **fields):
    return dataclasses.replace(driver, declared=True, **fields)


def terms(*requirements, constraints=(), pre=False, texts=("torch",), allow=False):
    return TorchTerms(
        tuple(map(Requirement, requirements)),
        tuple(map(Requirement, constraints)),
        pre,
        AskedOfTorch(texts, (), allow),
    )


ALL = ["2.14.1", "2.13.0", "2.9.1", "2.2.2", "2.0.1"]  # of Python 3.11, without a driver
HERE = machine()
ROWS = {
    "the newest first": ("2.14.1", terms("torch"), HERE, ALL),
    "a lower bound": ("2.14.1", terms("torch>=2.9"), HERE, ["2.14.1", "2.13.0", "2.9.1"]),
    "an upper bound": ("2.13.0", terms("torch<2.14"), HERE, ["2.13.0", "2.9.1", "2.2.2", "2.0.1"]),
    "a compatible release": ("2.13.0", terms("torch~=2.10"), HERE, ["2.13.0"]),
    "an exclusion": ("2.14.1", terms("torch!=2.13.0"), HERE, ["2.14.1", "2.9.1", "2.2.2", "2.0.1"]),
    "all that was said": (
        "2.14.1",
        terms("torch>=2.2", "torch!=2.9.1"),
        HERE,
        ["2.14.1", "2.13.0", "2.2.2"],
    ),
    "pinned": ("2.14.1", terms("torch==2.14.1"), HERE, ["2.14.1"]),
    "pinned by a constraint": (
        "2.14.1",
        terms("torch", constraints=["torch==2.14.1"]),
        HERE,
        ["2.14.1"],
    ),
    "a lower bound as a constraint": (
        "2.14.1",
        terms("torch", constraints=["torch>=2.10"]),
        HERE,
        ["2.14.1", "2.13.0"],
    ),
    "an address": (
        "2.14.1",
        terms("torch @ https://h/torch-2.14.1-cp311-cp311-linux_x86_64.whl"),
        HERE,
        ["2.14.1"],
    ),
    "not named": ("2.14.1", terms(texts=()), HERE, ALL),
    "pre-releases": (
        "2.14.1",
        terms("torch", pre=True),
        HERE,
        ["2.14.1", "2.13.0", "2.10.0rc1", "2.9.1", *ALL[3:]],
    ),
    "a pre-release by name": (
        "2.14.1",
        terms("torch>=2.10.0rc1"),
        HERE,
        ["2.14.1", "2.13.0", "2.10.0rc1"],
    ),
    "an unknown one is the newest": ("2.16.0", terms("torch"), HERE, ["2.16.0", *ALL]),
    "an unknown pre-release": ("2.16.0.dev20261101", terms("torch", pre=True), HERE, None),
    "nothing newer than pip found": ("2.9.1", terms("torch"), HERE, ["2.9.1", "2.2.2", "2.0.1"]),
    # the Python and the machine
    "Python too old": ("2.2.2", terms("torch"), machine(version="3.8.18"), ["2.2.2", "2.0.1"]),
    "Python too new": ("2.14.1", terms("torch"), machine(version="3.14.0"), ["2.14.1"]),
    "Python between": (
        "2.14.1",
        terms("torch"),
        machine(version="3.12.1"),
        ["2.14.1", "2.13.0", "2.9.1", "2.2.2"],
    ),
    "an Intel Mac": (
        "2.9.1",
        terms("torch"),
        machine(platform="macosx_13_0_x86_64"),
        ["2.9.1", "2.2.2", "2.0.1"],
    ),
    "an Intel Mac has no newer one": (
        "2.14.1",
        terms("torch"),
        machine(platform="macosx_13_0_x86_64"),
        ["2.14.1", "2.2.2", "2.0.1"],
    ),
    "an Apple silicon Mac": ("2.14.1", terms("torch"), machine(platform="macosx_14_0_arm64"), None),
    "musl": ("2.14.1", terms("torch"), machine(libc=("musl", "1.2")), ["2.14.1"]),
    "32 bit": ("2.14.1", terms("torch"), machine(platform="linux_armv7l"), ["2.14.1"]),
    # local versions
    "an index for CUDA 12.6": (
        "2.13.0+cu126",
        terms("torch"),
        HERE,
        ["2.13.0+cu126", "2.9.1+cu126"],
    ),
    "an index for the CPU": (
        "2.14.1+cpu",
        terms("torch"),
        HERE,
        ["2.14.1+cpu", "2.13.1+cpu", "2.13.0+cpu", "2.9.1+cpu", "2.2.2+cpu", "2.0.1+cpu"],
    ),
    "a build by name": ("2.13.0+cu126", terms("torch==2.13.0+cu126"), HERE, ["2.13.0+cu126"]),
    "a container's": ("2.14.0a0+nv25.4", terms("torch"), HERE, ["2.14.0a0+nv25.4"]),
    # drivers
    "a declared driver": (
        "2.14.1",
        terms("torch"),
        machine(driver=declared(MIDDLE)),
        ["2.9.1", "2.2.2", "2.0.1"],
    ),
    "an old declared driver": ("2.14.1", terms("torch"), machine(driver=declared(OLD)), ["2.0.1"]),
    "a new declared driver": ("2.14.1", terms("torch"), machine(driver=declared(NEW)), ALL),
    "a declared driver and an index": (
        "2.14.1+cu130",
        terms("torch"),
        machine(driver=declared(OLD)),
        [],
    ),
    "a driver that is here comes first": (
        "2.14.1",
        terms("torch"),
        machine(driver=MIDDLE),
        ["2.9.1", "2.2.2", "2.0.1", "2.14.1", "2.13.0"],
    ),
    "a driver says nothing to the CPU": (
        "2.13.0+cpu",
        terms("torch>=2.9"),
        machine(driver=declared(OLD)),
        ["2.13.0+cpu", "2.9.1+cpu"],
    ),
    # an installed torch
    "never an older one": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.13.0+cu130"),
        ["2.14.1", "2.13.0+cu130"],
    ),
    "never another accelerator": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.9.1+cpu"),
        ["2.9.1+cpu"],
    ),
    "an older one by name": (
        "2.13.0",
        terms("torch<2.14", texts=("torch<2.14",)),
        machine(torch="2.14.1+cu130"),
        ["2.13.0", "2.9.1", "2.2.2", "2.0.1"],
    ),
    "permitted": ("2.14.1", terms("torch", allow=True), machine(torch="2.13.0+cpu"), None),
    "the installed one may be unknown": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.13.5+cu130"),
        ["2.14.1", "2.13.5+cu130"],
    ),
    "the installed one is excluded": (
        "2.14.1",
        terms("torch>=2.14", texts=("torch>=2.14",)),
        machine(torch="2.13.0+cu130"),
        ["2.14.1"],
    ),
    "the installed one asks no driver": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.13.0+cu130", driver=declared(MIDDLE)),
        ["2.13.0+cu130"],
    ),
}
SAME = {
    "an unknown pre-release": [
        "2.16.0.dev20261101",
        "2.14.1",
        "2.13.0",
        "2.10.0rc1",
        "2.9.1",
        "2.2.2",
        "2.0.1",
    ],
    # for which accelerators there are builds is known of Linux; a Mac has one kind
    "an Apple silicon Mac": ["2.14.1", "2.13.1", "2.13.0", "2.9.1", "2.2.2", "2.0.1"],
    # those like the installed one come first
    "permitted": ["2.13.0+cpu", "2.14.1", "2.13.0", "2.9.1", "2.2.2", "2.0.1"],
}


@pytest.mark.parametrize("name", list(ROWS))
def test_which_torch_may_come(name):
    version, said, here, expected = ROWS[name]
    planned = planned_torch(version, here.interpreter.platform)
    options = rank_torches(planned, said, here, CATALOG)
    found = [option.version for option in options if option.excluded is None and option.is_on_index]
    assert found == (SAME[name] if expected is None else expected)
    for option in options:
        is_taken_at_once = option.excluded is None and not option.warning
        assert (option.reason is None) == is_taken_at_once


REASONS = [
    (
        "2.13.0",
        terms("torch"),
        machine(version="3.14.0"),
        Exclusion.PYTHON,
        "has no wheel for Python 3.14",
    ),
    (
        "2.13.0",
        terms("torch"),
        machine(platform="linux_armv7l"),
        Exclusion.PLATFORM,
        "no wheel for linux_armv7l",
    ),
    ("2.13.1", terms("torch"), HERE, Exclusion.BUILD, "is not on the package index"),
    (
        "2.13.0",
        terms("torch"),
        machine(driver=declared(MIDDLE)),
        Exclusion.DRIVER,
        "or newer, declared is 535.104.05",
    ),
    (
        "2.10.0rc1",
        terms("torch"),
        HERE,
        Exclusion.PRE_RELEASE,
        "is a pre-release, which --pre permits",
    ),
    (
        "2.13.0",
        terms("torch==2.14.1"),
        HERE,
        Exclusion.REQUIREMENT,
        "is excluded by torch==2.14.1",
    ),
    (
        "2.13.0",
        terms(constraints=["torch>2.13"]),
        HERE,
        Exclusion.CONSTRAINT,
        "is excluded by torch>2.13",
    ),
    (
        "2.9.1",
        terms("torch"),
        machine(torch="2.13.0+cu130"),
        Exclusion.INSTALLED,
        "is older than the installed 2.13.0+cu130",
    ),
    (
        "2.13.0",
        terms("torch"),
        machine(torch="2.9.1+cpu"),
        Exclusion.INSTALLED,
        "is a build for cu130, and the installed one is for cpu",
    ),
    # what no word of the person's changes is named first
    (
        "2.13.0",
        terms("torch==2.14.1"),
        machine(version="3.14.0"),
        Exclusion.PYTHON,
        "no wheel for Python 3.14",
    ),
]


@pytest.mark.parametrize(("version", "said", "here", "excluded", "reason"), REASONS)
def test_why_a_torch_may_not_come(version, said, here, excluded, reason):
    planned = planned_torch("2.14.1", here.interpreter.platform)
    options = rank_torches(planned, said, here, CATALOG)
    (option,) = [option for option in options if option.version == version]
    assert option.excluded is excluded and reason in option.reason.text
    assert option.reason.is_predicate and not option.reason.text.startswith("torch ")


def test_no_build_for_the_accelerator_of_the_index():
    options = rank_torches(planned_torch("2.14.1+cu126", PLATFORM), terms("torch"), HERE, CATALOG)
    reasons = {option.release: option.reason for option in options}
    assert reasons["2.2.2"] == predicate("has no build for cu126")


def test_a_file_that_was_named_is_what_comes():
    options = rank_torches(planned_torch("2.14.1", PLATFORM), terms(), HERE, CATALOG, is_fixed=True)
    assert [option.release for option in options if option.excluded is None] == ["2.14.1"]


def test_a_declared_gpu_counts():
    """torch 2.14.1 for CUDA 13 has no code for compute capability 7.0."""
    driver = declared(NEW, devices=(Device("V100", "7.0"),))
    options = rank_torches(
        planned_torch("2.14.1", PLATFORM), terms("torch"), machine(driver=driver), CATALOG
    )
    (newest,) = [option for option in options if option.version == "2.14.1"]
    assert newest.excluded is Exclusion.DRIVER
    assert newest.reason == Reason("no kernel image for sm_70, which is declared")


def test_the_build_of_another_release_is_the_one_of_the_package_index():
    options = rank_torches(planned_torch("2.14.1", PLATFORM), terms("torch"), HERE, CATALOG)
    builds = {option.release: option.build.runtime_version for option in options}
    assert (builds["2.9.1"], builds["2.0.1"]) == ("2.9.1+cu128", "2.0.1+cu117")


# --- builds that are not on pip's index -----------------------------------------------------------


def wishing(accelerator, *requirements):
    return dataclasses.replace(terms(*requirements), accelerator=accelerator)


ELSEWHERE = {
    "without a driver there is no question": ("2.14.1", terms("torch>=2.13"), HERE, []),
    "what a declared driver runs": (
        "2.14.1",
        terms("torch>=2.9"),
        machine(driver=declared(MIDDLE)),
        ["2.13.1+cu126", "2.13.0+cu126", "2.9.1+cu126"],
    ),
    "what an old one runs": (
        "2.14.1",
        terms(),
        machine(driver=declared(OLD)),
        ["2.2.2+cu118", "2.0.1+cu118"],
    ),
    "fully served ones come first": (
        "2.2.2",
        terms("torch>2.1"),
        machine(driver=declared(Driver("520.61.05", "11.8"))),
        ["2.2.2+cu118"],
    ),
    "for a new driver, too": (
        "2.14.1",
        terms("torch>=2.13"),
        machine(driver=declared(NEW)),
        ["2.13.1+cu130", "2.13.1+cu126", "2.13.0+cu126"],
    ),
    "the person's index has its accelerator": ("2.14.1+cpu", terms(), machine(driver=NEW), []),
    "asked for": (
        "2.14.1",
        wishing("cu126"),
        HERE,
        ["2.13.1+cu126", "2.13.0+cu126", "2.9.1+cu126"],
    ),
    "asked for, whatever the driver": (
        "2.14.1",
        wishing("cpu", "torch>=2.13"),
        machine(driver=NEW),
        ["2.14.1+cpu", "2.13.1+cpu", "2.13.0+cpu"],
    ),
    "nobody builds it": ("2.14.1", wishing("rocm99.9"), HERE, []),
    "that of the installed torch": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.9.1+cpu", driver=NEW),
        ["2.14.1+cpu", "2.13.1+cpu", "2.13.0+cpu"],
    ),
    "the same build, from the package index": (
        "2.14.1",
        terms("torch"),
        machine(torch="2.9.1+cu130"),
        ["2.13.1+cu130"],
    ),
    "a Mac has one kind": ("2.14.1", wishing("cpu"), machine(platform="macosx_14_0_arm64"), []),
    "pip was not asked": (
        None,
        terms("torch>=2.13"),
        machine(driver=declared(MIDDLE)),
        ["2.13.1+cu126", "2.13.0+cu126"],
    ),
}


@pytest.mark.parametrize("name", list(ELSEWHERE))
def test_which_builds_may_come_from_elsewhere(name):
    version, said, here, expected = ELSEWHERE[name]
    planned = None if version is None else planned_torch(version, here.interpreter.platform)
    options = rank_torches(planned, said, here, CATALOG)
    found = [
        option.version for option in options if option.excluded is None and not option.is_on_index
    ]
    assert found == expected


def test_the_build_of_the_package_index_comes_before_the_others_of_its_release():
    options = rank_torches(None, terms("torch==2.9.1"), machine(driver=NEW), CATALOG)
    assert [option.version for option in options if option.excluded is None] == [
        "2.9.1",
        "2.9.1+cu126",
    ]


def test_the_build_of_the_package_index_is_another_one_on_aarch64():
    """Up to torch 2.10 the package index has builds for the CPU there, from 2.11 on for CUDA."""
    here = machine(platform="linux_aarch64", driver=declared(NEW))
    options = rank_torches(None, terms("torch>=2.10,<2.12"), here, bundled_catalog())
    may_come = [option for option in options if option.excluded is None]
    assert [option.version for option in may_come] == [
        "2.11.0",
        "2.11.0+cu128",
        "2.11.0+cu126",
        "2.10.0+cu130",
        "2.10.0+cu128",
        "2.10.0+cu126",
        "2.10.0",
    ]
    assert [option.build.accelerator for option in may_come if option.is_on_index] == [
        "cu130",
        "cpu",
    ]
    assert may_come[-1].reason == predicate("is a build for the CPU, and there is a GPU")
    assert may_come[-1].warning == may_come[-1].reason.about("torch 2.10.0+cpu")


def test_what_was_not_asked_for_says_so():
    options = rank_torches(planned_torch("2.14.1", PLATFORM), wishing("cpu"), HERE, CATALOG)
    newest = next(option for option in options if option.version == "2.14.1")
    assert newest.excluded is Exclusion.ACCELERATOR
    assert newest.reason == predicate("is a build for cu130; cpu was asked for")


# --- what is said of it ---------------------------------------------------------------------------

PASSED = [
    PassedOver(planned_torch("2.14.1", PLATFORM), Reason("no torch-scatter was built for it")),
    PassedOver(planned_torch("2.13.0", PLATFORM), Reason("no torch-sparse was built for it")),
]


@pytest.mark.parametrize(
    ("passed", "taken", "names", "line"),
    [
        ((), "2.14.1", ["torch-scatter"], None),
        (PASSED, None, ["torch-scatter"], None),
        (
            PASSED[:1],
            "2.13.0",
            ["torch-scatter", "torch-sparse"],
            "torch 2.14.1: no torch-scatter was built for it; 2.13.0 has all of torch-scatter, "
            "torch-sparse",
        ),
        (
            PASSED,
            "2.9.1",
            ["torch-scatter"],
            "torch 2.14.1: no torch-scatter was built for it; 2.9.1 has torch-scatter",
        ),
        # an older one was tried first, and had less
        (PASSED[1:], "2.14.1", ["torch-scatter"], None),
    ],
)
def test_why_the_newest_was_not_taken(passed, taken, names, line):
    findings = note_choice(
        TorchChoice(passed_over=tuple(passed)),
        planned_torch(taken, PLATFORM) if taken else None,
        names,
    )
    assert [finding.detail for finding in findings] == ([] if line is None else [line])


LACKS = PassedOver(
    planned_torch("2.14.1", PLATFORM), Reason("no a was built for it"), lacking=("a",)
)
LACKS_TWO = dataclasses.replace(LACKS, lacking=("a", "b"))
DRIVER = PassedOver(
    planned_torch("2.14.1", PLATFORM),
    predicate("needs driver 580"),
    remedy="Use a newer one.",
    is_untried=True,
)


@pytest.mark.parametrize(
    ("passed", "carried", "may_keep", "hint"),
    [
        (LACKS, ["a"], True, KEEP_EXTENSIONS),
        (LACKS, ["a"], False, UNINSTALL),  # it would be refused
        (LACKS, [], True, ""),  # the person named it
        (LACKS, ["b"], True, ""),
        (LACKS_TWO, ["a"], True, ""),  # and the other one of the two
        (LACKS_TWO, ["a", "b"], True, KEEP_EXTENSIONS),
        # not the extensions that go along
        (DRIVER, ["a"], True, "Use a newer one."),
        (DRIVER, [], True, "Use a newer one."),
        (PASSED[0], ["a"], True, ""),
    ],
)
def test_the_hint_is_about_what_holds_it_back(passed, carried, may_keep, hint):
    choice = TorchChoice(
        passed_over=(passed,),
        keeps_installed=True,
        left_behind=tuple(carried),
        may_keep=may_keep,
    )
    (finding,) = note_choice(choice, planned_torch("2.13.0", PLATFORM), [])
    assert finding.hint == hint
    assert why_it_stays(choice) == (passed.reason.about("torch 2.14.1"), hint)


@pytest.mark.parametrize(
    ("passed", "carried", "held_back"),
    [
        ([LACKS], ["a"], "2.14.1"),
        ([LACKS], ["b"], None),
        ([LACKS_TWO], ["a"], None),
        (
            [LACKS_TWO, dataclasses.replace(LACKS, build=planned_torch("2.13.0", PLATFORM))],
            ["a"],
            "2.13.0",
        ),
        ([DRIVER], ["a"], None),
        ([], ["a"], None),
    ],
)
def test_which_torch_installed_extensions_hold_back(passed, carried, held_back):
    choice = TorchChoice(passed_over=tuple(passed), left_behind=("c",))
    found = newest_held_back(choice, carried)
    assert (found and found.version.public) == held_back


def test_no_driver_is_named_where_a_build_that_runs_has_come():
    taken = planned_torch("2.13.0+cu126", PLATFORM)
    (finding,) = note_choice(TorchChoice(passed_over=(DRIVER,)), taken, [])
    assert finding.hint == ""
    (finding,) = note_choice(TorchChoice(passed_over=(OPEN,)), taken, [])
    assert finding.hint == "Try again."


def test_a_torch_that_does_not_stay_holds_nothing():
    assert why_it_stays(TorchChoice(passed_over=(LACKS,))) == ("", "")
    assert why_it_stays(TorchChoice(keeps_installed=True)) == ("", "")


OTHER_CUDA = Finding("torch-accelerator", Severity.ERROR, "torch", "it is one for cu130", "Ask.")
OPEN = PassedOver(
    planned_torch("2.14.1+cpu", PLATFORM),
    Reason("h does not answer"),
    is_open=True,
    remedy="Try again.",
)


@pytest.mark.parametrize(
    ("passed", "finding", "hint"),
    [
        ([OPEN], OTHER_CUDA, "Try again. For the other build: --accelerator cu130."),
        ([LACKS], OTHER_CUDA, "Ask."),
        ([], OTHER_CUDA, "Ask."),
        ([OPEN], dataclasses.replace(OTHER_CUDA, severity=Severity.WARNING), "Ask."),
        ([OPEN], dataclasses.replace(OTHER_CUDA, check="torch-moved"), "Ask."),
    ],
)
def test_a_host_that_said_nothing_is_named(passed, finding, hint):
    choice, coming = TorchChoice(passed_over=tuple(passed)), planned_torch("2.14.1", PLATFORM)
    (told,) = name_open_question([finding], choice, coming)
    assert told.hint == hint
    assert ("h does not answer" in told.detail) == (hint != "Ask.")


def options_of(said, here=HERE):
    return rank_torches(planned_torch("2.14.1", PLATFORM), said, here, CATALOG)


@pytest.mark.parametrize(
    ("said", "release", "hint"),
    [
        (
            terms("torch==2.14.1"),
            "2.13.0",
            "Ask for torch 2.13.0, which has all of torch-scatter, torch-sparse: "
            "safe-install torch==2.13.0 'torch-scatter>=2' torch-sparse",
        ),
        (
            terms("torch", constraints=["torch==2.14.1"]),
            "2.13.0",
            "Permit torch 2.13.0, which has all of torch-scatter, torch-sparse: "
            "torch 2.13.0 is excluded by torch==2.14.1.",
        ),
        (
            terms("torch"),
            "2.10.0rc1",
            "Ask for torch 2.10.0rc1, which has all of torch-scatter, torch-sparse: "
            "safe-install --pre torch==2.10.0rc1 'torch-scatter>=2' torch-sparse",
        ),
    ],
)
def test_what_to_ask_for(said, release, hint):
    (option,) = [option for option in options_of(said) if option.release == release]
    assert (
        hint_to_permit(option, [Requirement("torch-scatter>=2"), Requirement("torch-sparse")])
        == hint
    )


@pytest.mark.parametrize(
    ("known", "hint"),
    [
        ({}, ""),
        ({"2.13.0": {"a": True, "b": False}}, "Without b: torch 2.13.0 has a."),
        ({"2.13.0": {"a": True, "b": None}}, "Without b: torch 2.13.0 has a."),
        # the most, then the newest
        (
            {
                "2.13.0": {"a": True, "b": False, "c": False},
                "2.9.1": {"a": True, "b": False, "c": True},
            },
            "Without b: torch 2.9.1 has all of a, c.",
        ),
        (
            {"2.13.0": {"a": True, "b": False}, "2.9.1": {"a": False, "b": True}},
            "Without b: torch 2.13.0 has a.",
        ),
        ({"2.13.0": {"a": False, "b": False}}, ""),
        ({"2.13.0": {"a": True, "b": True}}, ""),  # pip refused it, which is said otherwise
    ],
)
def test_what_to_leave_out(known, hint):
    options = [option for option in options_of(terms("torch")) if option.excluded is None]
    complete = {option.release: known.get(option.release, {}) for option in options}
    assert hint_to_leave_out(options, complete) == hint


def rejection(name):
    link = Link(f"https://h/{name}.whl", f"{name}.whl")
    candidate = Candidate("torch-scatter", Version("1"), CandidateKind.WHEEL, link)
    return Rejection(candidate, Rule.TORCH_VERSION, "built for another torch")


def test_a_rejected_file_is_told_once_and_never_one_that_is_taken():
    """Each torch that was passed over had its own rejections."""
    own, other, taken = map(rejection, ("own", "other", "taken"))
    passed = PassedOver(planned_torch("2.14.1", PLATFORM), Reason("no wheel"))
    choice = pass_over(TorchChoice(), passed, [own, other])
    choice = pass_over(choice, passed, [other, taken])
    assert merge_rejections(choice, [taken.candidate], [own]) == (own, other)


def test_one_is_no_all():
    assert (join_all(["a"]), join_all(["a", "b"])) == ("a", "all of a, b")


# As pip 23.2 and 26.3 print it.
NO_MATCH = """ERROR: Could not find a version that satisfies the requirement torch (from versions: 2.14.1)
ERROR: No matching distribution found for torch
"""
NO_MATCH_SINCE = """ERROR: Cannot install torch because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested torch
    The user requested (constraint) torch==2.13.0

Additionally, some packages in these conflicts have no matching distributions available for your environment:
    torch
"""
WANTED = """The conflict is caused by:
    The user requested torch>=2.14
    The user requested (constraint) torch==2.13.0
"""
REQUIRED = """The conflict is caused by:
    base 1.0 depends on torch>=2.14
    The user requested (constraint) torch==2.13.0
"""


@pytest.mark.parametrize(
    ("output", "no_plan"),
    [
        (NO_MATCH, NO_SUCH_TORCH),
        (
            INCONSISTENT.format("==2.13.0") + NO_MATCH,
            NoPlan(
                "the METADATA of its file on the package index names another version (2.12.0)",
                is_absent=True,
            ),
        ),
        (NO_MATCH_SINCE, NO_SUCH_TORCH),
        (WANTED, NoPlan("torch>=2.14 was wanted")),
        (REQUIRED, NoPlan("base 1.0 requires torch>=2.14")),
        ("ERROR: No matching distribution found for six==99", None),
        ("ERROR: Could not install packages due to an OSError", None),
    ],
)
def test_why_pip_found_no_plan_with_it(output, no_plan):
    assert why_impossible(planned_torch("2.13.0", PLATFORM), output) == no_plan

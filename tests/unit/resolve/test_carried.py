"""Which installed extensions go along when torch moves, and what the rounds make of them."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.version import Version

from safe_install.errors import Refused
from safe_install.index.catalog import bundled_catalog
from safe_install.models import (
    Action,
    BuiltFor,
    Candidate,
    CandidateKind,
    Link,
    Plan,
    Severity,
    Step,
)
from safe_install.resolve.carried import Tie, check_kept, find_bound, is_near, may_be_bound
from safe_install.resolve.compatibility import Context
from safe_install.resolve.decisions import (
    brought_requirements,
    carry_along,
    find_upgrades,
    leave_behind,
    may_stay,
    stays,
)
from safe_install.resolve.opening import ask_for_another_torch, may_look_for_another
from safe_install.resolve.ranking import rank_fitting
from safe_install.resolve.rounds import Choose, Done, Refusal, next_round
from safe_install.resolve.torch_choice import PassedOver, TorchChoice
from safe_install.resolve.torch_reason import Reason
from tests.factories import make_distribution, make_environment, planned_torch
from tests.unit.resolve.test_rounds import entry, failed, pin_of, planned, selection_of, wanted_of

CATALOG = bundled_catalog()
LINUX = "linux_x86_64"
TODAY = "2.12.0+cu130"
WHY = f"built for torch {TODAY}"
SCATTER = make_distribution("torch-scatter", "2.1.2+pt212cu130", requested=True)
VISION = make_distribution("torchvision", "0.27.0", requires=["torch==2.12.0"])


def torch(version):
    return planned_torch(version, LINUX)


# --- which ones -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "is_compiled", "is_bound"),
    [
        (SCATTER, True, True),
        (VISION, True, True),
        # its metadata names the torch, whatever it holds
        (VISION, False, True),
        (make_distribution("torchvision", "0.27.0", requires=["torch"]), False, False),
        # what cannot be read, and what is not about torch, says nothing of it
        (
            make_distribution(
                "torchvision", "0.27.0", requires=["(damaged", "numpy==2.0", "torch==2.12.0"]
            ),
            False,
            True,
        ),
        (make_distribution("torchvision", "0.27.0", requires=["numpy==2.0"]), False, False),
        # built here: its version says nothing
        (make_distribution("torch-scatter", "2.1.2"), True, True),
        # compiled when it runs
        (make_distribution("deepspeed", "0.18.0", requires=["torch>=2.0"]), False, False),
        (make_distribution("deepspeed", "0.18.0", requires=["torch>=2.0"]), True, True),
        # for another torch: broken today, and not the change's fault
        (make_distribution("torch-scatter", "2.1.2+pt24cu124"), True, False),
        (make_distribution("torchvision", "0.20.0", requires=["torch==2.5.0"]), True, False),
        # for every torch
        (make_distribution("bitsandbytes", "0.49.0", requires=["torch<3,>=2.3"]), True, False),
        (make_distribution("cupy-cuda13x", "13.6.0"), True, False),
        # a part of torch itself
        (make_distribution("triton", "3.7.0"), True, False),
        # unknown to the wheel index
        (make_distribution("my-kernels", "1.0", requires=["torch==2.12.0"]), True, False),
        (make_distribution("torch-scatter", "no version"), True, False),
    ],
    ids=lambda value: f"{value.name}-{value.version}" if hasattr(value, "version") else str(value),
)
def test_what_is_bound_to_the_torch_of_today(distribution, is_compiled, is_bound):
    here = make_environment(distribution, torch=TODAY)
    found = find_bound(here, CATALOG, compiled={distribution.name} if is_compiled else ())
    assert found == ({distribution.name: Tie(TODAY)} if is_bound else {})
    if is_bound:
        assert may_be_bound(distribution.name, CATALOG)


def test_nothing_is_bound_where_there_is_no_torch():
    assert find_bound(make_environment(SCATTER), CATALOG, compiled={"torch-scatter"}) == {}


ON_HOST = (
    "https://data.pyg.org/whl/torch-2.12.0%2Bcu130/"
    "torch_scatter-2.1.2%2Bpt212cu130-cp311-cp311-linux_x86_64.whl"
)


@pytest.mark.parametrize(
    ("fields", "origin"),
    [
        (
            {"editable": True, "direct_url": {"url": "file:///src/scatter"}},
            ", editable in file:///src/scatter",
        ),
        ({"editable": True}, ", editable"),
        # its name and version find it again
        ({"direct_url": {"url": ON_HOST}}, ""),
        ({}, ""),
        (
            {"direct_url": {"url": "file:///w/torch_scatter.whl"}},
            ", from file:///w/torch_scatter.whl",
        ),
    ],
)
def test_where_it_came_from_is_said(fields, origin):
    distribution = make_distribution("torch-scatter", "2.1.2", **fields)
    here = make_environment(distribution, torch=TODAY)
    (tie,) = find_bound(here, CATALOG, compiled={"torch-scatter"}).values()
    assert (tie.torch, tie.built, str(tie)) == (TODAY, WHY, WHY + origin)


@pytest.mark.parametrize(
    ("name", "version", "coming", "near"),
    [
        ("torch-scatter", "2.1.2", "2.12.1+cu130", True),
        ("torch-scatter", "2.1.2", "2.13.0+cu130", False),
        ("torch-scatter", "2.1.2", "2.12.1+cu126", False),
        ("pytorch3d", "0.7.8", "2.12.1+cu130", False),  # each patch release has its own
        # what its version says, the rules judge
        ("torch-scatter", "2.1.2+pt212cu130", "2.13.0+cu130", True),
    ],
)
def test_what_was_built_here_stays_beside_a_patch_release(name, version, coming, near):
    distribution = make_distribution(name, version)
    assert is_near(distribution, CATALOG.project(name), torch(TODAY), torch(coming)) is near


# --- the rounds -----------------------------------------------------------------------------------


def selection_with(*distributions, coming=None, words=("-U", "torch"), **fields):
    here = make_environment(*distributions, torch=TODAY)
    names = {one.name for one in distributions}
    selection = selection_of(here=here, bound=find_bound(here, CATALOG, compiled=names), **fields)
    if coming is not None:
        planned_one = dataclasses.replace(here, torch=torch(coming))
        selection = dataclasses.replace(selection, coming_torch=torch(coming), planned=planned_one)
    return selection, wanted_of(*words, here=here, files={"r.txt": "torchvision"})


@pytest.mark.parametrize(
    ("words", "coming", "carried"),
    [
        (("-U", "torch"), "2.13.0", {"torch-scatter", "torchvision"}),
        (("torch==2.13.0",), "2.13.0", {"torch-scatter", "torchvision"}),
        (("--allow-torch-change", "base"), "2.13.0", {"torch-scatter", "torchvision"}),
        (("-U", "torch"), None, set()),
        (("-U", "torch", "--keep-extensions"), "2.13.0", set()),
        # what the person names is not carried: it is chosen by their words
        (("-U", "torch", "torchvision"), "2.13.0", {"torch-scatter"}),
        (("-U", "torch", "-r", "r.txt"), "2.13.0", {"torch-scatter"}),
        (("-U", "torch", "torchvision @ https://h/x.whl"), "2.13.0", {"torch-scatter"}),
        (
            ("-U", "torch", "./torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl"),
            "2.13.0",
            {"torchvision"},
        ),
        (
            ("-U", "torch", 'torchvision; python_version < "3"'),
            "2.13.0",
            {"torch-scatter", "torchvision"},
        ),
    ],
)
def test_who_goes_along(words, coming, carried):
    selection, wanted = selection_with(SCATTER, VISION, coming=coming, words=words)
    extended = carry_along(selection, (), wanted)
    assert extended.carried == carried
    assert {name: str(one) for name, one in extended.extensions.items()} == {
        name: name for name in carried
    }
    assert carry_along(extended, (), wanted) == extended


def test_what_does_not_load_today_is_left_alone():
    selection, wanted = selection_with(
        SCATTER, VISION, coming="2.13.0", broken=frozenset({"torch-scatter"})
    )
    assert carry_along(selection, (), wanted).carried == {"torchvision"}


def test_what_the_plan_of_pip_moves_is_judged_there():
    selection, wanted = selection_with(SCATTER, VISION)
    answer = planned(entry("torch", "2.13.0"), entry("torchvision", "0.28.0", ["torch==2.13.0"]))
    result = next_round(selection, answer, wanted, CATALOG)
    assert isinstance(result, Choose)
    assert result.selection.carried == {"torch-scatter"}


def test_a_plan_that_moves_torch_is_not_the_end():
    selection, wanted = selection_with(SCATTER, words=("--allow-torch-change", "base"))
    answer = planned(entry("base", "1", ["torch>=2.13"]), entry("torch", "2.13.0"))
    result = next_round(selection, answer, wanted, CATALOG)
    assert isinstance(result, Choose)
    assert (result.selection.carried, result.because) == (
        {"torch-scatter"},
        "base 1 requires torch>=2.13",
    )
    assert str(result.selection.coming_torch.version) == "2.13.0"


def test_a_plan_that_leaves_torch_is_the_end():
    selection, wanted = selection_with(SCATTER, VISION)
    assert isinstance(next_round(selection, planned(entry("six", "1.16")), wanted, CATALOG), Done)


def test_the_step_says_why_and_asked_for_it_is_not():
    selection, wanted = selection_with(SCATTER, coming="2.13.0")
    selection = carry_along(selection, (), wanted)
    pin = pin_of("torch-scatter", "2.1.2+pt213cu130")
    selection = dataclasses.replace(selection, pins={"torch-scatter": pin})
    assert brought_requirements(selection) == ("torch-scatter",)
    answers = (
        planned(
            entry("torch", "2.13.0", requested=True),
            entry("torch-scatter", "2.1.2+pt213cu130", requested=True),
        ),
        # left out, because the version is installed
        planned(entry("torch", "2.13.0", requested=True)),
    )
    for answer in answers:
        done = next_round(selection, answer, wanted, CATALOG)
        assert isinstance(done, Done)
        (step,) = [step for step in done.steps if step.name == "torch-scatter"]
        assert (step.because, step.requested, step.keeps_requested) == (WHY, False, True)


def test_pip_is_not_asked_for_what_stays():
    """With -U it would bring a newer one."""
    selection, wanted = selection_with(SCATTER, coming="2.12.1")
    assert brought_requirements(carry_along(selection, (), wanted)) == ()


@pytest.mark.parametrize(
    ("version", "coming", "is_upgraded", "fits"),
    [
        ("2.1.2+pt212cu130", "2.12.1", False, True),
        ("2.1.2+pt212cu130", "2.13.0", False, False),
        ("2.1.2", "2.12.1", False, True),
        ("2.1.2", "2.13.0", True, False),
    ],
)
@pytest.mark.parametrize("words", [("-U", "torch"), ("--force-reinstall", "torch==2.13.0")])
def test_what_fits_the_torch_that_comes_is_not_touched(version, coming, is_upgraded, fits, words):
    distribution = make_distribution("torch-scatter", version)
    selection, wanted = selection_with(distribution, coming=coming, words=words)
    selection = carry_along(selection, (), wanted)
    assert ("torch-scatter" in find_upgrades(selection, wanted, CATALOG)) is is_upgraded
    assert may_stay("torch-scatter", selection, wanted, CATALOG) is fits
    assert stays("torch-scatter", version, selection, wanted, CATALOG) is not is_upgraded


def test_what_is_left_behind_is_not_chosen():
    selection, wanted = selection_with(SCATTER, VISION, coming="2.13.0")
    left = leave_behind(carry_along(selection, (), wanted), ["torch-scatter", "torch-sparse"])
    assert (left.carried, set(left.extensions)) == ({"torchvision"}, {"torchvision"})


def test_what_was_named_is_never_left_behind():
    selection, _ = selection_with(SCATTER, coming="2.13.0")
    selection = dataclasses.replace(
        selection, extensions={"torch-scatter": Requirement("torch-scatter")}
    )
    assert leave_behind(selection, ["torch-scatter"]) == selection


CONFLICT = """The conflict is caused by:
    base 1.0 depends on torch>=2.13
    The user requested (constraint) torch==2.12.0+cu130
"""


# A folder of the person's with words like ours.
FOLDER = "torch @ file:///srv/new, but bad/torch-2.13.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("conflict", "wish"),
    [
        (CONFLICT, "base 1.0 requires torch>=2.13"),
        (
            CONFLICT.replace("base 1.0 depends on torch>=2.13", f"The user requested {FOLDER}"),
            f"{FOLDER} was wanted",
        ),
    ],
)
def test_a_torch_that_is_held_back_refuses_what_needs_a_newer_one(conflict, wish):
    reason = "no torch-scatter was built for it"
    passed = PassedOver(torch("2.13.0"), Reason(reason), lacking=("torch-scatter",))
    choice = TorchChoice(planned=torch("2.13.0"), keeps_installed=True, passed_over=(passed,))
    choice = dataclasses.replace(choice, left_behind=("torch-scatter",))
    selection, wanted = selection_with(
        SCATTER, words=("--allow-torch-change", "base"), torch_choice=choice
    )
    result = next_round(selection, failed(conflict), wanted, CATALOG)
    assert isinstance(result, Refusal) and isinstance(result.error, Refused)
    assert result.error.message == (
        f"{wish}, and the installed torch {TODAY} stays: torch 2.13.0: no "
        "torch-scatter was built for it"
    )
    assert result.error.hint == "Uninstall what holds it back."
    assert [finding.detail for finding in result.error.findings] == [result.error.message]


# --- another torch, for an extension that does not fit this one -----------------------------------


@pytest.mark.parametrize(
    ("words", "fields", "may_look"),
    [
        (["--allow-torch-change", "torch-scatter"], {}, True),
        (["torch-scatter"], {}, False),
        (
            ["--allow-torch-change", "torch-scatter"],
            {"torch_choice": TorchChoice(is_open=True)},
            False,
        ),
        (["--allow-torch-change", "torch-scatter"], {"coming_torch": torch("2.13.0")}, False),
        (["--allow-torch-change", "torch-scatter"], {"here": make_environment()}, False),
    ],
)
def test_when_another_torch_is_looked_for(words, fields, may_look):
    here = make_environment(torch=TODAY)
    selection = selection_of(**{"here": here, **fields})
    assert may_look_for_another(selection, wanted_of(*words, here=here)) is may_look


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["torch-scatter"], ("torch!=2.12.0",)),
        (["torch>=2.9", "torch-scatter"], ("torch!=2.12.0", "torch>=2.9")),
    ],
)
def test_what_pip_is_asked_for_another_torch(words, question):
    here = make_environment(torch=TODAY)
    wanted = wanted_of("--allow-torch-change", *words, here=here)
    assert ask_for_another_torch(wanted, here) == question


# --- --keep-extensions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "coming", "is_warned"),
    [
        (SCATTER, "2.14.1+cu130", True),
        (SCATTER, "2.12.1+cu130", False),  # another patch release
        (SCATTER, "2.12.1+cu126", True),
        (make_distribution("torch-scatter", "2.1.2"), "2.14.1+cu130", True),
        (make_distribution("torch-scatter", "2.1.2"), "2.12.1+cu130", False),
        (VISION, "2.12.1+cu130", True),
    ],
    ids=lambda value: getattr(value, "version", str(value)),
)
def test_what_stays_beside_another_torch_is_named(distribution, coming, is_warned):
    here = make_environment(distribution, torch=TODAY)
    planned_one = dataclasses.replace(here, torch=torch(coming))
    bound = find_bound(here, CATALOG, compiled={distribution.name})
    step = Step(Action.REPLACE, "torch", coming, from_version=TODAY)
    findings = check_kept(Plan((step,)), bound, here, planned_one, CATALOG)
    assert [finding.subject for finding in findings] == [distribution.name] * is_warned
    for finding in findings:
        assert finding.severity is Severity.WARNING
        assert finding.detail == (
            f"{distribution.name} {distribution.version} stays as it is, {WHY}: torch {coming} may "
            "not load it"
        )
    from_folder = {name: Tie(TODAY, "file:///a, b") for name in bound}
    assert check_kept(Plan((step,)), from_folder, here, planned_one, CATALOG) == findings
    own = Step(Action.REPLACE, distribution.name, "3.0", from_version=distribution.version)
    assert check_kept(Plan((step, own)), bound, here, planned_one, CATALOG) == ()
    assert check_kept(Plan(()), bound, here, planned_one, CATALOG) == ()


# --- which version --------------------------------------------------------------------------------


def wheel(version, accelerator="cu130"):
    link = Link(f"https://data.pyg.org/{version}-{accelerator}.whl", "x.whl")
    tags = parse_tag("cp311-cp311-linux_x86_64")
    built_for = BuiltFor("2.13.0", accelerator)
    return Candidate(
        "torch-scatter", Version(version), CandidateKind.WHEEL, link, tags, built_for=built_for
    )


@pytest.mark.parametrize(
    ("keep", "first"), [(None, "2.2.0"), ("2.1.2", "2.1.2+pt213cu130"), ("2.0.9", "2.2.0")]
)
def test_another_build_of_the_installed_version_comes_before_a_newer_one(keep, first):
    tags = tuple(parse_tag("cp311-cp311-linux_x86_64"))
    here = make_environment(torch="2.13.0+cu130")
    here = dataclasses.replace(here, interpreter=dataclasses.replace(here.interpreter, tags=tags))
    context = Context(CATALOG.project("torch-scatter"), here, CATALOG)
    ranked = rank_fitting(
        [wheel("2.1.1"), wheel("2.1.2+pt213cu130"), wheel("2.2.0")], context, keep_version=keep
    )
    assert str(ranked[0].version) == first


def test_one_whose_version_cannot_be_read_is_named_too():
    distribution = make_distribution("torch-scatter", "no version")
    here = make_environment(distribution, torch=TODAY)
    planned_one = dataclasses.replace(here, torch=torch("2.13.0+cu130"))
    step = Step(Action.REPLACE, "torch", "2.13.0+cu130", from_version=TODAY)
    bound = {distribution.name: Tie(TODAY)}
    (finding,) = check_kept(Plan((step,)), bound, here, planned_one, CATALOG)
    assert finding.subject == "torch-scatter"

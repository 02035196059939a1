"""The exits of a choice: what has to be chosen, when it is over, and what refuses it."""

from __future__ import annotations

import dataclasses

import pytest
from packaging.requirements import Requirement
from packaging.tags import parse_tag
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate, PipFailed, Refused
from safe_install.index.catalog import bundled_catalog
from safe_install.models import Action, Candidate, CandidateKind, Link, Step
from safe_install.resolve.carried import Tie
from safe_install.resolve.command_line import split_words
from safe_install.resolve.decisions import (
    Pin,
    Selection,
    Wanted,
    add_extensions,
    add_pin,
    find_torch_file,
    find_unbuilt,
    find_upgrades,
    is_broken,
    is_closed,
    is_new_file,
    is_planned,
    make_constraints,
    make_wanted,
    stays,
)
from safe_install.resolve.opening import Opening, open_selection
from safe_install.resolve.request import parse_install
from safe_install.resolve.rounds import (
    Choose,
    ChooseTorch,
    Done,
    Failed,
    Planned,
    Refusal,
    make_plan,
    name_cause,
    next_round,
    pinned_steps,
)
from safe_install.resolve.torch_choice import TorchChoice
from tests.factories import make_distribution, make_environment, make_health, planned_torch

CATALOG = bundled_catalog()
HERE = make_environment(torch="2.13.0+cpu")
EMPTY = make_environment()
SCATTER_HERE = make_environment(make_distribution("torch-scatter", "2.1.2"), torch="2.13.0+cpu")


def wanted_of(*argv, here=HERE, files=None):
    request = parse_install(
        split_words(argv), environ={}, configuration={}, read=lambda name: (files or {})[name]
    )
    return make_wanted(request, here)


def selection_of(*requirements, here=HERE, **fields):
    selection = Selection(here, here, **fields)
    return add_extensions(selection, [Requirement(text) for text in requirements])


def entry(name, version, requires=(), **fields):
    """An entry of pip's report."""
    download = {"url": fields.pop("url", f"https://h/{name}-{version}-py3-none-any.whl")}
    metadata = {"name": name, "version": version, "requires_dist": list(requires)}
    return {"metadata": metadata, "download_info": download, "requested": False, **fields}


def planned(*entries):
    return Planned({"install": list(entries)})


def failed(output):
    return Failed(PipFailed("pip failed", output=output))


def pin_of(name, named="1.0", kind=CandidateKind.WHEEL, hidden=(), **fields):
    link = Link(f"https://h/{name}-{named}.whl", f"{name}-{named}.whl")
    candidate = Candidate(name, Version(named), kind, link, requires=tuple(hidden))
    values = {"url": f"file:///links/{name}.whl", "version": named, "sha256": "1" * 64, **fields}
    return Pin(candidate, **values)


# --- how a choice begins --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "here", "extensions", "needs_installer", "question"),
    [
        (["torch-scatter"], HERE, ["torch-scatter"], False, ()),
        (["torch-scatter", "six"], HERE, ["torch-scatter"], True, ()),
        (["six"], HERE, [], True, ()),
        (["six"], EMPTY, [], True, ()),
        (["./folder"], HERE, [], True, ()),
        (["-e", "./folder"], HERE, [], True, ()),
        (["torch-scatter @ https://h/x.whl"], HERE, [], True, ()),
        (['torch-scatter; python_version < "3"'], HERE, [], False, ()),
        # torch is named, and the one that is there will do
        (["torch", "torch-scatter"], HERE, ["torch-scatter"], True, ()),
        (["torch==2.13.0", "torch-scatter"], HERE, ["torch-scatter"], True, ()),
        # torch comes: pip says which, and chooses what it can beside it
        (["torch", "torch-scatter"], EMPTY, ["torch-scatter"], True, ("torch",)),
        (["torch==2.12.0", "torch-scatter"], HERE, ["torch-scatter"], True, ("torch==2.12.0",)),
        (["torch==2.12.0", "torchvision"], HERE, [], True, ()),
        (
            ["torch", "torchvision", "torch-scatter"],
            EMPTY,
            ["torch-scatter"],
            True,
            ("torch", "torchvision"),
        ),
        (
            ["torch @ https://h/torch-2.12.0-cp311-cp311-linux_x86_64.whl", "torch-scatter", "six"],
            EMPTY,
            ["torch-scatter"],
            True,
            ("torch @ https://h/torch-2.12.0-cp311-cp311-linux_x86_64.whl",),
        ),
        (["-U", "torch", "torch-scatter"], HERE, ["torch-scatter"], True, ("torch",)),
        (["-U", "torch-scatter"], HERE, ["torch-scatter"], False, ()),
        # only the command line asks for another torch
        (["torch-scatter", "-r", "r.txt"], HERE, ["torch-scatter"], True, ()),
        # nothing to fit: pip chooses
        (["torch-geometric"], EMPTY, [], True, ()),
        (["bitsandbytes"], EMPTY, [], True, ()),
        # what requires its torch brings it
        (["torchvision", "xformers"], EMPTY, [], True, ()),
        # the plan of the others tells whether they bring torch
        (["torchvision", "torch-scatter"], EMPTY, ["torch-scatter"], True, ("torchvision",)),
        (["base>=1", "torch-scatter"], EMPTY, ["torch-scatter"], True, ("base>=1",)),
    ],
)
def test_what_is_ours_to_choose(words, here, extensions, needs_installer, question):
    opening = open_selection(
        wanted_of(*words, here=here, files={"r.txt": "torch==2.12.0"}), here, CATALOG
    )
    assert opening == Opening(tuple(map(Requirement, extensions)), needs_installer, question)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            words,
            "torch is not installed for /env/bin/python, so no extension can fit it",
        )
        for words in (
            ["torch-scatter"],
            ["--no-deps", "base", "torch-scatter"],
            ["torch; python_version < '3'", "torch-scatter"],
        )
    ],
)
def test_without_a_torch_nothing_can_be_fitted(words, message):
    refusal = open_selection(wanted_of(*words, here=EMPTY), EMPTY, CATALOG)
    assert isinstance(refusal, Refusal) and isinstance(refusal.error, NoCandidate)
    assert refusal.error.message == message
    assert ("The marker of " in refusal.error.hint) is ("torch;" in words[0])
    assert refusal.error.hint.endswith("Name torch, too: safe-install torch torch-scatter")


def test_a_name_that_belongs_to_something_else_is_not_left_to_pip():
    noted = [CATALOG.project(name) for name in CATALOG.projects]
    names = [one.name for one in noted if not one.hosts and one.package_index.note]
    assert names, "the case needs a project of the index that no host has"
    for name in names:
        refusal = open_selection(wanted_of(name, here=EMPTY), EMPTY, CATALOG)
        assert isinstance(refusal, Refusal) and isinstance(refusal.error, NoCandidate)
        assert refusal.error.message == CATALOG.project(name).package_index.note


# --- the rounds -----------------------------------------------------------------------------------


def test_a_plan_without_extensions_is_the_end():
    result = next_round(selection_of(), planned(entry("six", "1.16")), wanted_of("six"), CATALOG)
    assert isinstance(result, Done)
    assert [(step.name, step.version, step.candidate) for step in result.steps] == [
        ("six", "1.16", None)
    ]


def test_an_extension_in_a_plan_is_chosen_by_us():
    """With what those say that need it, and who they are."""
    answer = planned(entry("base", "1", ["torch-scatter>=2"]), entry("torch-scatter", "2.1.0"))
    result = next_round(selection_of(), answer, wanted_of("base"), CATALOG)
    assert isinstance(result, Choose)
    assert {name: str(one) for name, one in result.selection.extensions.items()} == {
        "torch-scatter": "torch-scatter>=2"
    }
    assert result.because == "base 1 requires torch-scatter>=2"
    assert result.notes == ()


def test_what_only_an_extra_asks_for_narrows_nothing():
    requires = ['torch-scatter>=9; extra == "old"', "torch-scatter<9", "not a requirement !!"]
    answer = planned(entry("base", "1", requires), entry("torch-scatter", "2.1.0"))
    result = next_round(selection_of(), answer, wanted_of("base"), CATALOG)
    assert str(result.selection.extensions["torch-scatter"]) == "torch-scatter<9"


def test_what_was_asked_for_before_holds_too():
    answer = planned(entry("base", "1", ["torch-scatter>=2"]), entry("torch-scatter", "2.1.0"))
    result = next_round(
        selection_of("torch-scatter<3"), answer, wanted_of("base", "torch-scatter<3"), CATALOG
    )
    assert isinstance(result, Choose)
    assert str(result.selection.extensions["torch-scatter"]) == "torch-scatter<3,>=2"


def test_a_round_that_decides_nothing_is_refused():
    """An extension that stays as it is, and that pip plans all the same: it would be planned for
    ever."""
    selection = selection_of("torch-scatter>=2")
    answer = planned(entry("base", "1", ["torch-scatter>=2"]), entry("torch-scatter", "2.1.9"))
    result = next_round(selection, answer, wanted_of("base"), CATALOG)
    assert isinstance(result, Refusal) and isinstance(result.error, Refused)
    assert "torch-scatter 2.1.9" in result.error.message


@pytest.mark.parametrize(
    ("selection", "answer", "words"),
    [
        # chosen before
        (
            add_pin(selection_of("torch-scatter"), pin_of("torch-scatter")),
            entry("torch-scatter", "1.0"),
            ["base"],
        ),
        # an address that somebody wrote
        (selection_of(), entry("torch-scatter", "2.1.0", is_direct=True), ["base"]),
        # no torch, and none comes
        (selection_of(here=EMPTY), entry("torch-scatter", "2.1.0"), ["base"]),
    ],
)
def test_what_is_not_chosen_again(selection, answer, words):
    assert isinstance(next_round(selection, planned(answer), wanted_of(*words), CATALOG), Done)


def test_a_lock_names_the_file_itself():
    wanted = dataclasses.replace(wanted_of("base"), has_lock=True)
    assert isinstance(
        next_round(selection_of(), planned(entry("torch-scatter", "2.1.0")), wanted, CATALOG), Done
    )


def test_the_torch_of_a_plan_is_what_extensions_are_chosen_for():
    answer = planned(
        entry("torch", "2.12.0", url="https://h/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl"),
        entry("torch-scatter", "2.1.2", url="https://h/torch_scatter-2.1.2.tar.gz"),
    )
    result = next_round(selection_of(here=EMPTY), answer, wanted_of("base", here=EMPTY), CATALOG)
    assert isinstance(result, Choose)
    assert str(result.selection.coming_torch.version) == "2.12.0"
    assert result.selection.planned.torch == result.selection.coming_torch
    assert set(result.selection.planned.installed) == {"torch"}
    assert result.selection.here == EMPTY
    assert list(result.selection.extensions) == ["torch-scatter"]
    (note,) = result.notes
    assert note.startswith(
        "torch-scatter 2.1.2, as pip planned it, does not fit: has to be built for torch 2.12.0"
    )


def test_what_was_chosen_for_the_torch_that_goes_is_chosen_again():
    """pip's plan moves torch after an extension was chosen: by -U, or for a dependency, with
    --allow-torch-change."""
    before = add_pin(selection_of("torch-scatter"), pin_of("torch-scatter"))
    other = entry(
        "torch", "2.12.0+cpu", url="https://h/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl"
    )
    answer = planned(entry("torch-scatter", "1.0"), other)
    wanted = wanted_of("--allow-torch-change", "torch-scatter", "base")
    result = next_round(before, answer, wanted, CATALOG)
    assert isinstance(result, Choose)
    assert str(result.selection.coming_torch.version) == "2.12.0+cpu"
    assert list(result.selection.extensions) == ["torch-scatter"]
    assert result.selection.pins == {}
    chosen = add_pin(result.selection, pin_of("torch-scatter", "2.0"))
    assert isinstance(next_round(chosen, answer, wanted, CATALOG), Done)


@pytest.mark.parametrize(
    ("steps", "because"),
    [
        # of those that require it the first one
        (
            [
                entry("base", "1", ["numpy", "torch>=2.12"]),
                entry("other", "1", ["torch"]),
            ],
            "base 1 requires torch>=2.12",
        ),
        ([entry("base", "1", ["numpy"])], ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("requested", [False, True])
def test_who_moves_torch_and_what_goes_along(steps, because, requested):
    other = entry(
        "torch", "2.12.0+cpu", url="https://h/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl"
    )
    answer = planned(*steps, {**other, "requested": requested})
    tie = Tie("2.13.0+cpu")
    before = selection_of(here=SCATTER_HERE, bound={"torch-scatter": tie})
    wanted = wanted_of("--allow-torch-change", "base", here=SCATTER_HERE)
    result = next_round(before, answer, wanted, CATALOG)
    assert isinstance(result, Choose) and result.selection.carried == {"torch-scatter"}
    assert result.because == ("" if requested else because)


# --- a torch of our own choice --------------------------------------------------------------------

NEWEST = planned_torch("2.14.1", "linux_x86_64")


def chosen_by_us(version, **fields):
    """After pip planned 2.14.1 for an empty environment, and we took another one."""
    build = planned_torch(version, "linux_x86_64")
    choice = TorchChoice(planned=NEWEST, is_assumed=True)
    planned = dataclasses.replace(EMPTY, torch=build)
    selection = Selection(EMPTY, planned, coming_torch=build, torch_choice=choice, **fields)
    return add_pin(
        add_extensions(selection, [Requirement("torch-scatter")]), pin_of("torch-scatter")
    )


def test_the_release_is_ours_and_the_build_the_installers():
    wanted = wanted_of("torch", "torch-scatter", here=EMPTY)
    assumed = chosen_by_us("2.13.0+cu126")
    assert make_constraints(assumed, wanted)[0] == "torch==2.13.0"
    answer = planned(entry("torch", "2.13.0+cu126"), entry("torch-scatter", "1.0"))
    result = next_round(assumed, answer, wanted, CATALOG)
    assert isinstance(result, Done) and not result.selection.torch_choice.is_assumed
    assert make_constraints(result.selection, wanted)[0] == "torch==2.13.0+cu126"


def test_another_build_than_ours_has_to_be_chosen_for():
    answer = planned(entry("torch", "2.13.0+cpu"), entry("torch-scatter", "1.0"))
    result = next_round(chosen_by_us("2.13.0"), answer, wanted_of("torch", here=EMPTY), CATALOG)
    assert isinstance(result, Choose)
    assert (result.selection.coming_torch.accelerator, result.selection.pins) == ("cpu", {})


TORCH_MISSING = (
    "ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: "
    "2.14.1)\n"
    "ERROR: No matching distribution found for torch==2.13.0"
)
TORCH_EXCLUDED = """The conflict is caused by:
    base 1.0 depends on torch>=2.14
    The user requested (constraint) torch==2.13.0
"""


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (failed(TORCH_MISSING), "the package index has no such torch"),
        (failed(TORCH_EXCLUDED), "base 1.0 requires torch>=2.14"),
        (planned(entry("torch-scatter", "1.0")), "pip's plan with it brings no torch"),
    ],
)
def test_a_torch_of_ours_that_cannot_come(answer, reason):
    result = next_round(chosen_by_us("2.13.0"), answer, wanted_of("torch", here=EMPTY), CATALOG)
    assert isinstance(result, ChooseTorch)
    (passed,) = result.selection.torch_choice.passed_over
    assert (passed.release, passed.reason.text, passed.by_installer) == ("2.13.0", reason, True)


def test_the_torch_that_pip_planned_is_not_passed_over_for_what_pip_says():
    selection = dataclasses.replace(
        chosen_by_us("2.13.0"), torch_choice=TorchChoice(planned=NEWEST)
    )
    result = next_round(selection, failed(TORCH_MISSING), wanted_of("torch", here=EMPTY), CATALOG)
    assert isinstance(result, Refusal)


def test_an_installed_torch_that_stays_is_held():
    wanted = wanted_of("-U", "torch", "torch-scatter")
    selection = selection_of(
        "torch-scatter", torch_choice=TorchChoice(planned=NEWEST, keeps_installed=True)
    )
    assert make_constraints(selection, wanted) == ("torch==2.13.0+cpu",)


# --- what pip chose with a torch that comes -------------------------------------------------------


def test_what_pip_chose_with_the_torch_that_comes_is_taken_where_nothing_speaks_against_it():
    vision = entry(
        "torchvision",
        "0.27.0",
        ["torch==2.12.0"],
        url="https://h/torchvision-0.27.0-cp311-cp311-manylinux_2_28_x86_64.whl",
    )
    answer = planned(
        entry("torch", "2.12.0", url="https://h/torch-2.12.0-cp311-cp311-linux_x86_64.whl"), vision
    )
    tags = parse_tag("cp311-cp311-manylinux_2_28_x86_64") | parse_tag("cp311-cp311-linux_x86_64")
    interpreter = dataclasses.replace(EMPTY.interpreter, tags=tuple(tags))
    here = dataclasses.replace(EMPTY, interpreter=interpreter)
    result = next_round(
        selection_of(here=here), answer, wanted_of("torch", "torchvision", here=here), CATALOG
    )
    assert isinstance(result, Done)
    assert [step.name for step in result.steps] == ["torch", "torchvision"]


def test_the_same_torch_again_is_no_other_torch():
    answer = planned(entry("torch", "2.13.0+cpu"))
    result = next_round(selection_of(), answer, wanted_of("--force-reinstall", "torch"), CATALOG)
    assert isinstance(result, Done) and result.selection.coming_torch is None


# --- where pip fails ------------------------------------------------------------------------------

NOT_FOUND = "ERROR: No matching distribution found for torch-scatter>=2.0\n"


def test_what_only_we_can_find_is_chosen_and_pip_asked_again():
    result = next_round(selection_of(), failed(NOT_FOUND), wanted_of("base"), CATALOG)
    assert isinstance(result, Choose)
    assert str(result.selection.extensions["torch-scatter"]) == "torch-scatter>=2.0"


EXCLUDED = """ERROR: Cannot install torch and torchvision==0.27.1 because these package versions \
have conflicting dependencies.
The conflict is caused by:
    torchvision 0.28.0 depends on torch==2.13.0
    torchvision 0.27.1 depends on torch==2.12.1
    The user requested (constraint) torch==2.7.1+cu118
"""


@pytest.mark.parametrize(
    ("word", "expected"),
    [("torchvision", "torchvision"), ("torchvision>=0.20", "torchvision>=0.20")],
)
def test_what_pip_tried_is_no_requirement(word, expected):
    """Its index has no torchvision for this torch, and another host has one."""
    result = next_round(selection_of(), failed(EXCLUDED), wanted_of("torch", word), CATALOG)
    assert isinstance(result, Choose)
    assert str(result.selection.extensions["torchvision"]) == expected


def test_without_a_torch_one_is_chosen_together_with_it():
    result = next_round(selection_of(here=EMPTY), failed(NOT_FOUND), wanted_of("base"), CATALOG)
    assert isinstance(result, ChooseTorch)
    assert str(result.selection.extensions["torch-scatter"]) == "torch-scatter>=2.0"
    assert result.selection.torch_choice.is_open
    assert result.selection.torch_choice.brought_for == "torch-scatter"


def test_a_torch_that_we_chose_is_chosen_again_with_what_pip_does_not_find():
    """It may have no wheel of that."""
    ours = TorchChoice(taken=NEWEST, is_assumed=True)
    selection = selection_of("torch-sparse", here=EMPTY, coming_torch=NEWEST, torch_choice=ours)
    result = next_round(selection, failed(NOT_FOUND), wanted_of("base"), CATALOG)
    assert isinstance(result, ChooseTorch)
    assert set(result.selection.extensions) == {"torch-sparse", "torch-scatter"}
    assert result.selection.torch_choice.is_open


@pytest.mark.parametrize(
    ("line", "brought_for"),
    [("torch", ""), ("torch; python_version < '3'", "torch-scatter"), ("six", "torch-scatter")],
)
def test_a_torch_that_a_file_names_comes_for_itself(line, brought_for):
    """Else it would not count as asked for once it is installed (REQUESTED), as it does with pip."""
    files = {"requirements.txt": f"base\n{line}\n"}
    wanted = wanted_of("-r", "requirements.txt", here=EMPTY, files=files)
    result = next_round(selection_of(here=EMPTY), failed(NOT_FOUND), wanted, CATALOG)
    assert result.selection.torch_choice.brought_for == brought_for


@pytest.mark.parametrize(
    ("selection", "output"),
    [
        (selection_of("torch-scatter"), NOT_FOUND),
        (
            selection_of(
                here=make_environment(make_distribution("torch-scatter", "2.1"), torch="2.13.0+cpu")
            ),
            NOT_FOUND,
        ),
        (selection_of(), "ERROR: No matching distribution found for six==99\n"),
    ],
)
def test_the_rest_is_pips_own_failure(selection, output):
    answer = failed(output)
    result = next_round(selection, answer, wanted_of("base"), CATALOG)
    assert result == Refusal(answer.error, is_relayed=True)


LACKS_TORCH = "ModuleNotFoundError: No module named 'torch'\nERROR: Failed to build 'my-kernels'\n"


def test_a_build_that_imports_torch_is_told_how_it_sees_the_installed_one():
    result = next_round(selection_of(), failed(LACKS_TORCH), wanted_of("./kernels"), CATALOG)
    assert isinstance(result, Refusal) and result.is_relayed
    assert "--no-build-isolation" in result.error.hint
    assert result.error.output == LACKS_TORCH


def test_without_an_installed_torch_a_build_that_imports_it_is_pips_own_failure():
    answer = failed(LACKS_TORCH)
    result = next_round(selection_of(here=EMPTY), answer, wanted_of("./kernels"), CATALOG)
    assert result == Refusal(answer.error, is_relayed=True)


def test_our_guard_is_named_where_it_is_the_reason():
    output = (
        "ERROR: Cannot install base==1 because these package versions have conflicting "
        "dependencies.\n"
        "The conflict is caused by:\n"
        "    base 1 depends on torch<2\n"
        "    The user requested (constraint) torch==2.13.0+cpu\n"
    )
    result = next_round(selection_of(), failed(output), wanted_of("base"), CATALOG)
    assert isinstance(result, Refusal) and not result.is_relayed
    assert isinstance(result.error, Refused)
    assert result.error.message.startswith("this would change torch 2.13.0+cpu: ")
    assert [finding.check for finding in result.error.findings] == ["torch-moved"]


# --- decisions ------------------------------------------------------------------------------------

SCATTER = make_distribution("torch-scatter", "2.1.2")
WITH_SCATTER = make_environment(SCATTER, torch="2.13.0+cpu")
OTHER_TORCH = make_environment(torch="2.12.0+cpu").torch


@pytest.mark.parametrize(
    ("words", "fields", "version", "expected"),
    [
        ([], {}, "2.1.2", True),
        (["-U"], {}, "2.1.2", True),
        ([], {}, "2.1.3", False),
        (["--force-reinstall"], {}, "2.1.2", False),
        ([], {"broken": frozenset({"torch-scatter"})}, "2.1.2", False),
        ([], {"coming_torch": OTHER_TORCH}, "2.1.2", False),
    ],
)
def test_what_is_there_and_sound_stays(words, fields, version, expected):
    wanted = wanted_of(*words, "torch-scatter", here=WITH_SCATTER)
    selection = selection_of("torch-scatter", here=WITH_SCATTER, **fields)
    assert stays("torch-scatter", version, selection, wanted, CATALOG) is expected


def test_a_version_that_is_none_is_compared_as_it_is_written():
    here = make_environment(make_distribution("torch-scatter", "unknown"), torch="2.13.0+cpu")
    selection = selection_of("torch-scatter", here=here)
    assert stays(
        "torch-scatter", "unknown", selection, wanted_of("torch-scatter", here=here), CATALOG
    )


def test_an_extension_that_says_its_torch_is_judged_by_what_it_says():
    here = make_environment(
        make_distribution("torch-scatter", "2.1.2+pt213cpu"), torch="2.13.0+cpu"
    )
    selection = selection_of("torch-scatter", here=here, coming_torch=OTHER_TORCH)
    assert stays(
        "torch-scatter", "2.1.2+pt213cpu", selection, wanted_of("torch-scatter", here=here), CATALOG
    )


@pytest.mark.parametrize(
    ("words", "broken", "upgrades"),
    [([], (), set()), (["-U"], (), {"torch-scatter"}), ([], ("torch-scatter",), {"torch-scatter"})],
)
def test_what_may_be_chosen_anew(words, broken, upgrades):
    selection = selection_of("torch-scatter", here=WITH_SCATTER, broken=frozenset(broken))
    wanted = wanted_of(*words, "torch-scatter", here=WITH_SCATTER)
    assert find_upgrades(selection, wanted, CATALOG) == upgrades


def test_a_file_is_brought_once():
    wanted = wanted_of("torch-scatter")
    pin = pin_of("torch-scatter")
    selection = selection_of("torch-scatter")
    assert is_new_file(pin.candidate, selection, wanted, CATALOG)
    assert not is_new_file(pin.candidate, add_pin(selection, pin), wanted, CATALOG)
    newer = pin_of("torch-scatter", "2.0")
    assert is_new_file(newer.candidate, add_pin(selection, pin), wanted, CATALOG)
    present = dataclasses.replace(pin.candidate, kind=CandidateKind.INSTALLED)
    assert not is_new_file(present, selection, wanted, CATALOG)


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (make_health(), False),
        (make_health(imports={"torch_scatter": None}), False),
        (make_health(imports={"torch_scatter": "ImportError"}), True),
        (make_health(imports={"torch-scatter native part": "undefined symbol"}), True),
        (make_health(operations={"torch-scatter on cpu": "wrong result"}), True),
        (make_health(operations={"torch-sparse on cpu": "wrong result"}), False),
    ],
)
def test_what_does_not_load_is_broken(health, expected):
    assert is_broken(health, CATALOG.project("torch-scatter")) is expected


@pytest.mark.parametrize(
    ("pin", "no_deps", "expected"),
    [
        (pin_of("torch-sparse", requires=("scipy",)), False, False),
        (pin_of("torch-sparse", requires=("scipy",)), True, True),
        (pin_of("torch-sparse", requires=("torch", "torch-sparse")), False, True),
        (pin_of("torch-sparse", hidden=("torch-scatter",)), False, False),
    ],
)
def test_is_anything_left_for_pip(pin, no_deps, expected):
    wanted = dataclasses.replace(wanted_of("torch-sparse"), no_deps=no_deps)
    assert is_closed(add_pin(selection_of("torch-sparse"), pin), wanted) is expected


def test_the_constraints_hold_torch_and_name_the_pins_by_address():
    selection = add_pin(selection_of("torch-scatter"), pin_of("torch-scatter"))
    assert make_constraints(selection, wanted_of("torch-scatter")) == (
        "torch==2.13.0+cpu",
        "torch-scatter @ file:///links/torch-scatter.whl",
    )
    coming = selection_of(here=EMPTY, coming_torch=OTHER_TORCH)
    assert make_constraints(coming, wanted_of("torch", here=EMPTY)) == ("torch==2.12.0+cpu",)


# --- what is built for a torch that comes ---------------------------------------------------------

TORCH_URL = "https://h/torch-2.12.0-cp311-cp311-linux_x86_64.whl"


def torch_entry(digest):
    info = {"url": TORCH_URL, "archive_info": {"hashes": {"sha256": digest}} if digest else {}}
    return {**entry("torch", "2.12.0"), "download_info": info}


@pytest.mark.parametrize(
    ("answer", "built_for", "message"),
    [
        (planned(torch_entry("a" * 64)), "a" * 64, ""),
        (planned(torch_entry("")), TORCH_URL, ""),
        (planned(torch_entry("b" * 64)), "", ""),  # a wheel, which was built for no file of ours
        (
            planned(torch_entry("b" * 64)),
            "a" * 64,
            "now it plans another file of torch (" + "b" * 64,
        ),
        (planned(entry("six", "1")), "a" * 64, "now it plans no torch"),
    ],
)
def test_a_build_is_for_one_file_of_torch(answer, built_for, message):
    """Its version is held by a constraint; where its file is another one there is no further
    round."""
    selection = selection_of("torch-scatter", here=EMPTY, coming_torch=OTHER_TORCH)
    selection = add_pin(selection, pin_of("torch-scatter", torch_file=built_for))
    result = next_round(selection, answer, wanted_of("torch", "torch-scatter", here=EMPTY), CATALOG)
    if not message:
        assert isinstance(result, Done)
    else:
        assert isinstance(result, Refusal) and isinstance(result.error, Refused)
        assert message in result.error.message and not result.is_relayed


@pytest.mark.parametrize(
    ("steps", "file"), [((torch_entry("a" * 64),), "a" * 64), ((entry("six", "1"),), "")]
)
def test_the_file_of_torch_in_a_plan(steps, file):
    done = next_round(
        selection_of(here=EMPTY), planned(*steps), wanted_of("torch", here=EMPTY), CATALOG
    )
    assert find_torch_file(done.steps) == file


def test_a_placeholder_is_still_to_be_built():
    selection = add_pin(selection_of("torch-scatter"), pin_of("torch-scatter", is_placeholder=True))
    selection = add_pin(selection, pin_of("torch-sparse"))
    assert [candidate.name for candidate in find_unbuilt(selection)] == ["torch-scatter"]


@pytest.mark.parametrize(
    ("requires", "expected"),
    [
        ((), True),
        (("six",), True),  # is in the plan
        (("six>=2",), False),  # in another version
        (("numpy",), True),  # is installed
        (("scipy",), False),
        (('scipy; python_version < "3"',), True),
        (("numpy[x]",), False),
    ],
)
def test_has_pip_planned_what_the_built_wheel_requires(requires, expected):
    here = make_environment(make_distribution("numpy", "1.26.4"))
    done = next_round(
        selection_of(here=here), planned(entry("six", "1")), wanted_of("six", here=here), CATALOG
    )
    selection = add_pin(done.selection, pin_of("torch-scatter", requires=requires))
    assert is_planned(selection, done.steps) is expected


@pytest.mark.parametrize("kind", [NoCandidate, Refused])
def test_the_cause_is_named_and_the_status_stays(kind):
    error = kind("no wheel", hint="H", rejections=())
    named = name_cause(error, "base 1 requires torch-scatter")
    assert (type(named), named.message, named.hint) == (
        kind,
        "no wheel (base 1 requires torch-scatter)",
        "H",
    )


def test_a_cause_leaves_open_what_was_open():
    """Another torch may have it: that is asked only where a host might."""
    error = NoCandidate("no wheel", rejections=())
    error.projects, error.is_open = ("torch-scatter",), True
    named = name_cause(error, "base 1 requires torch-scatter")
    assert (named.projects, named.is_open) == (("torch-scatter",), True)


# --- the steps ------------------------------------------------------------------------------------


def test_the_file_of_a_pin_says_more_than_its_name():
    pin = pin_of("torch-scatter", "2.1.2", version="2.1.2+pt213cpu", requires=("numpy",))
    (step,) = pinned_steps(add_pin(selection_of("torch-scatter"), pin), wanted_of("torch-scatter"))
    assert (step.version, step.sha256, step.requires, step.requested) == (
        "2.1.2+pt213cpu",
        "1" * 64,
        ("numpy",),
        True,
    )
    placeholder = dataclasses.replace(pin, is_placeholder=True, sha256=None)
    (step,) = pinned_steps(
        add_pin(selection_of("torch-scatter"), placeholder), wanted_of("torch-scatter")
    )
    assert step.version == "2.1.2"


def test_a_pin_that_pip_leaves_out_is_a_step_all_the_same():
    """The same version is installed: it was built for another torch, or is broken."""
    pin = pin_of("torch-scatter", "2.1.2", kind=CandidateKind.BUILT)
    broken = frozenset({"torch-scatter"})
    selection = add_pin(selection_of("torch-scatter", here=WITH_SCATTER, broken=broken), pin)
    result = next_round(
        selection, planned(), wanted_of("torch-scatter", here=WITH_SCATTER), CATALOG
    )
    assert isinstance(result, Done)
    assert [(step.name, step.from_version) for step in result.steps] == [("torch-scatter", "2.1.2")]


def test_a_hidden_requirement_is_no_wish_of_the_person():
    pin = pin_of("torch-sparse", hidden=("scipy",))
    selection = add_pin(selection_of("torch-sparse"), pin)
    answer = planned(
        entry("torch-sparse", "1.0", requested=True), entry("scipy", "1.10", requested=True)
    )
    for words, requested, because in (
        (["torch-sparse"], False, "torch-sparse 1.0 needs scipy"),
        (["torch-sparse", "scipy"], True, "requested"),
    ):
        result = next_round(selection, answer, wanted_of(*words), CATALOG)
        scipy = next(step for step in result.steps if step.name == "scipy")
        assert (scipy.requested, scipy.because) == (requested, because)


def test_a_plan_says_what_was_asked_for_and_what_was_locked():
    request = parse_install(
        split_words(["torch-scatter", "six"]), environ={}, configuration={}, read=lambda name: ""
    )
    selection = add_pin(selection_of("torch-scatter"), pin_of("torch-scatter"))
    steps = next_round(
        selection, planned(entry("six", "1")), make_wanted(request, HERE), CATALOG
    ).steps
    assert not any(step.is_locked for step in make_plan(selection, steps, request).steps)
    locked = make_plan(selection, steps, dataclasses.replace(request, has_lock=True))
    assert {step.name: step.is_locked for step in locked.steps} == {
        "six": True,
        "torch-scatter": False,
    }


@pytest.mark.parametrize(
    ("requires", "because"),
    [((), "for torch-scatter"), (("torch>=2",), "base 1 requires torch>=2")],
)
def test_a_torch_that_comes_for_an_extension_and_is_required_as_well(requires, because):
    choice = dataclasses.replace(selection_of().torch_choice, brought_for="torch-scatter")
    selection = dataclasses.replace(selection_of(), torch_choice=choice)
    request = parse_install(
        split_words(["./base"]), environ={}, configuration={}, read=lambda name: ""
    )
    steps = (
        Step(Action.ADD, canonicalize_name("base"), "1", requires=requires, requested=True),
        Step(Action.ADD, canonicalize_name("torch"), "2.14.1"),
    )
    torch = next(
        step for step in make_plan(selection, steps, request).steps if step.name == "torch"
    )
    assert (torch.because, torch.requested) == (because, False)


def test_beside_what_is_installed_nothing_is_replaced():
    """--ignore-installed: another version stays, as pip leaves it."""
    here = make_environment(make_distribution("six", "1.16"), torch="2.13.0+cpu")
    steps = next_round(
        selection_of(here=here), planned(entry("six", "1.17")), wanted_of("six", here=here), CATALOG
    ).steps
    for words, action, from_version in (
        (["six"], Action.REPLACE, "1.16"),
        (["--ignore-installed", "six"], Action.ADD, None),
    ):
        request = parse_install(
            split_words(words), environ={}, configuration={}, read=lambda name: ""
        )
        (step,) = make_plan(selection_of(here=here), steps, request).steps
        assert (step.action, step.from_version) == (action, from_version)


def test_wanted_is_what_the_command_line_says():
    wanted = wanted_of(
        "-U", "torch", "-r", "r.txt", "-c", "c.txt", files={"r.txt": "six", "c.txt": "numpy<2"}
    )
    assert isinstance(wanted, Wanted)
    assert wanted.named == {"torch"} and "torch" in wanted.released
    assert wanted.upgrade and [str(one) for one in wanted.constraints] == ["numpy<2"]


RANGES_EXCLUDE = """The conflict is caused by:
    The user requested torch<2.12 and >=2.9
    torchvision 0.29.1 depends on torch==2.14.1
    The user requested torch<2.12 and >=2.9
    torchvision 0.28.0 depends on torch==2.13.0
"""


def test_ranges_that_pip_could_not_join_are_a_contradiction_where_there_is_no_torch():
    words = ("torch>=2.9,<2.12", "torchvision>=0.28")
    selection = selection_of(
        "torchvision>=0.28", here=EMPTY, coming_torch=planned_torch("2.11.0", "linux_x86_64")
    )
    result = next_round(selection, failed(RANGES_EXCLUDE), wanted_of(*words, here=EMPTY), CATALOG)
    assert isinstance(result, Refusal) and not result.is_relayed
    assert "contradict each other" in result.error.message

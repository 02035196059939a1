"""torch and its extensions in the loop: which torch is tried, how often hosts and pip are asked,
what is said."""

from __future__ import annotations

import itertools

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate, PipFailed, Refused
from safe_install.models import Candidate, CandidateKind, Driver, Link, Rejection, Rule
from safe_install.pipeline.joint_choice import MAX_ASKED
from safe_install.resolve.provider import Resolution
from safe_install.resolve.rounds import Failed
from tests.factories import make_distribution, make_environment
from tests.unit.pipeline.test_selection import (
    EMPTY,
    FakeChooser,
    FakeInstaller,
    planned,
    run,
    steps_of,
)

SCATTER, SPARSE = "torch-scatter", "torch-sparse"
MISSING = "ERROR: No matching distribution found for torch==2.13.0"
# As pip 23.2 says it, on stdout.
OTHER_VERSION = (
    "Discarding http://h/torch-2.13.0-cp311-cp311-linux_x86_64.whl#sha256=9a (from "
    "http://h/simple/torch/): Requested torch from http://h/torch-2.13.0-cp311-cp311-linux_x86_64"
    ".whl#sha256=9a has inconsistent version: expected '2.13.0', but metadata has '2.12.0'\n"
)
CONFLICT = """The conflict is caused by:
    base 1.0 depends on torch>=2.14
    The user requested (constraint) torch==2.13.0
"""


class HostChooser(FakeChooser):
    """Hosts that have a wheel of an extension for some releases of torch; of some of them the
    bundled facts know."""

    def __init__(self, *, has=None, builds=None, known=None, is_open=False):
        """`has`: extension -> releases of torch; `builds`: the same by the whole build
        ("2.13.0+cpu").
        `known`: what the facts say of (extension, release); they say nothing of all others."""
        super().__init__()
        self.has, self.builds, self.known, self.is_open = (
            has or {},
            builds or {},
            known or {},
            is_open,
        )
        self.questions = []

    def choose(self, requirements, environment, **options):
        torch = environment.torch
        self.questions.append(torch.runtime_version)
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            is_there = torch.version.public in self.has.get(
                name, ()
            ) or torch.runtime_version in self.builds.get(name, ())
            if not is_there:
                raise self._failure(name, torch)
        found = super().choose(requirements, environment, **options)
        return Resolution(found.pins, (reject(f"{torch.version}-own", "old"),), ())

    def _failure(self, name, torch):
        error = NoCandidate(
            f"no {name} fits torch {torch.runtime_version}",
            hint="H",
            rejections=[self._reject(torch)],
        )
        error.projects, error.is_open = (name,), self.is_open
        return error

    def _reject(self, torch):
        return reject(f"for-{torch.version}")

    def is_known(self, requirement, environment, *, constraints=()):
        return self.known.get((requirement.name, environment.torch.version.public))


def reject(file, detail="for another torch"):
    link = Link(f"https://h/{file}.whl", f"{file}.whl")
    candidate = Candidate(canonicalize_name(SCATTER), Version("2.0"), CandidateKind.WHEEL, link)
    return Rejection(candidate, Rule.TORCH_VERSION, detail)


def torch(version):
    return planned(torch=version)


def together(version, **others):
    return planned(torch=version, torch_scatter="2.0", **others)


def failed(output):
    return Failed(PipFailed("pip failed", output=output))


def notes_of(selected):
    return [finding.detail for finding in selected.findings if finding.check == "older-torch"]


def torch_constraints(installer):
    return [
        line for _, _, lines in installer.questions for line in lines if line.startswith("torch==")
    ]


# --- an older torch -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("torch",), ("torch>=2.9",), ("-U", "torch"), ("torch", "--pre")]
)
def test_the_newest_torch_that_has_the_extension_comes(tmp_path, words):
    chooser = HostChooser(has={SCATTER: ["2.13.0", "2.12.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0"))
    selected, _, _, said = run(
        tmp_path, *words, SCATTER, here=EMPTY, chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.13.0", SCATTER: "2.0"}
    assert chooser.questions == ["2.14.1+cu130", "2.14.0+cu130", "2.13.0+cu130"]
    assert torch_constraints(installer) == ["torch==2.13.0"], "pip is asked once more"
    assert notes_of(selected) == [
        "torch 2.14.1: no torch-scatter was built for it; 2.13.0 has torch-scatter"
    ]
    assert "torch 2.13.0+cu130 will be installed: extensions are chosen for it" in said
    assert not any("2.14" in line for line in said)
    assert str(selected.torch_after.version) == "2.13.0"


NOT_FOUND = "ERROR: No matching distribution found for torch-scatter>=2"
NOT_BUILT = """Collecting torch>=2.9 (from base)
Collecting torchvision (from base)
Collecting torch-scatter>=2 (from base)
      ModuleNotFoundError: No module named 'torch'
"""


@pytest.mark.parametrize("output", [NOT_FOUND, NOT_BUILT], ids=["no wheel", "a build"])
@pytest.mark.parametrize("words", [("base",), ("torch", "base")])
def test_a_torch_comes_for_an_extension_that_something_else_requires(tmp_path, words, output):
    """Its source cannot be built without a torch, and pip does not choose one for it."""
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    installer = FakeInstaller(failed(output), together("2.13.0", base="1.0"))
    selected, *_ = run(tmp_path, *words, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected) == {"torch": "2.13.0", SCATTER: "2.0", "base": "1.0"}
    assert torch_constraints(installer) == ["torch==2.13.0"]
    assert [names for names, *_ in chooser.asked] == [[SCATTER]]


@pytest.mark.parametrize(
    "output", ["ERROR: No matching distribution found for six==99", "Collecting torch-scatter"]
)
def test_another_failure_brings_no_torch(tmp_path, output):
    with pytest.raises(PipFailed):
        run(tmp_path, "base", here=EMPTY, installer=FakeInstaller(failed(output)))


def test_what_the_rest_of_the_plan_requires_of_torch_is_not_found_out_one_by_one(tmp_path):
    conflict = """The conflict is caused by:
    base 1.1 depends on torch==2.12.0
    base 1.0 depends on torch<2.11 and >=2.10
    The user requested (constraint) torch==2.14.1
"""
    releases = ["2.14.1", "2.14.0", "2.13.0", "2.12.1", "2.12.0", "2.11.0", "2.10.0"]
    chooser = HostChooser(has={SCATTER: releases})
    answers = [failed(NOT_FOUND), failed(conflict), together("2.12.0", base="1.1")]
    installer = FakeInstaller(*answers)
    selected, *_ = run(tmp_path, "base", here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.12.0"
    assert torch_constraints(installer)[1:] == ["torch==2.12.0"]


@pytest.mark.parametrize("words", [("torch", "-c", "c.txt"), ("torch", "-r", "r.txt")])
def test_constraints_hold_for_the_torch_that_pip_plans_first(tmp_path, words):
    """Else a newer one with all extensions is chosen, and pip has no plan with it."""
    files = {"c.txt": "torch<2.14\n", "r.txt": "-c c.txt\n"}
    chooser = HostChooser(has={SCATTER: ["2.14.1", "2.13.0"]})
    installer = FakeInstaller(torch("2.13.0"), together("2.13.0"))
    run(tmp_path, *words, SCATTER, here=EMPTY, chooser=chooser, installer=installer, files=files)
    assert installer.questions[0][2] == ("torch<2.14",)


def test_every_extension_has_to_be_there(tmp_path):
    chooser = HostChooser(
        has={SCATTER: ["2.14.0", "2.12.1", "2.12.0"], SPARSE: ["2.13.0", "2.12.1"]}
    )
    installer = FakeInstaller(torch("2.14.1"), together("2.12.1", torch_sparse="2.0"))
    selected, *_ = run(
        tmp_path, "torch", SCATTER, SPARSE, here=EMPTY, chooser=chooser, installer=installer
    )
    assert steps_of(selected)["torch"] == "2.12.1"
    line = "torch 2.14.1: no torch-scatter was built for it; 2.12.1 has all of torch-scatter, torch-sparse"
    assert notes_of(selected) == [line]


def test_a_torch_that_the_wheel_index_does_not_know_is_the_newest(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.14.1"]})
    installer = FakeInstaller(torch("2.99.0+cu130"), together("2.14.1+cu130"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.14.1+cu130"
    assert notes_of(selected) == [
        "torch 2.99.0: no torch-scatter was built for it; 2.14.1+cu130 has torch-scatter"
    ]


def test_a_torch_that_has_all_is_as_it_was(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.14.1"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.14.1"
    assert (chooser.questions, notes_of(selected)) == (["2.14.1+cu130"], [])


def test_the_rejections_of_the_newer_torch_are_kept(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    files = [rejection.candidate.link.filename for rejection in selected.plan.rejections]
    assert files == ["2.13.0-own.whl", "for-2.14.1.whl", "for-2.14.0.whl"]


def test_what_is_deep_in_pips_plan_has_an_older_torch_too(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    installer = FakeInstaller(
        planned(
            base="1", torch="2.14.1", torch_scatter=("1.0", "https://h/torch_scatter-1.0.tar.gz")
        ),
        together("2.13.0", base="1"),
    )
    selected, *_ = run(tmp_path, "base", here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected) == {"base": "1", "torch": "2.13.0", SCATTER: "2.0"}
    assert torch_constraints(installer) == ["torch==2.13.0"]
    assert len(notes_of(selected)) == 1


# --- what pip says of it --------------------------------------------------------------------------


def test_the_build_that_pip_names_is_what_extensions_are_chosen_for(tmp_path):
    """A folder that pip looks into has 2.13.0 for the CPU."""
    chooser = HostChooser(builds={SCATTER: ["2.13.0+cu130", "2.13.0+cpu"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0+cpu"), together("2.13.0+cpu"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert chooser.questions[-2:] == ["2.13.0+cu130", "2.13.0+cpu"]
    assert torch_constraints(installer) == ["torch==2.13.0", "torch==2.13.0+cpu"]
    assert steps_of(selected)["torch"] == "2.13.0+cpu"
    assert len(list((tmp_path / "work" / "links").iterdir())) == 1


def test_a_build_that_has_no_extension_is_passed_over_too(tmp_path):
    chooser = HostChooser(builds={SCATTER: ["2.13.0+cu130", "2.12.1+cu130"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0+cpu"), together("2.12.1"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.12.1"
    assert torch_constraints(installer) == ["torch==2.13.0", "torch==2.12.1"]


def test_a_release_whose_build_is_another_one_is_not_tried_again(tmp_path):
    """A folder that pip looks into has builds for the CPU alone."""
    chooser = HostChooser(builds={SCATTER: ["2.13.0+cu130", "2.12.1+cu130"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0+cpu"), together("2.12.1+cpu"))
    with pytest.raises(NoCandidate):
        run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert torch_constraints(installer) == ["torch==2.13.0", "torch==2.12.1"]


@pytest.mark.parametrize("output", [MISSING, CONFLICT])
def test_a_torch_with_which_pip_finds_no_plan_is_passed_over(tmp_path, output):
    chooser = HostChooser(has={SCATTER: ["2.13.0", "2.12.1"]})
    installer = FakeInstaller(torch("2.14.1"), failed(output), together("2.12.1"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.12.1"
    assert list(selected.artifacts) == [SCATTER]


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        (
            MISSING,
            "Name an index that has torch 2.13.0, which has torch-scatter: the package index has "
            "no such torch.",
        ),
        (
            OTHER_VERSION + MISSING,
            "Name an index that has torch 2.13.0, which has torch-scatter: the METADATA of its "
            "file on the package index names another version (2.12.0).",
        ),
        (
            CONFLICT,
            "Make room for the torch that fits: torch 2.13.0 has torch-scatter, but base 1.0 "
            "requires torch>=2.14.",
        ),
    ],
)
def test_the_last_word_is_the_error_of_the_newest(tmp_path, output, hint):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    installer = FakeInstaller(torch("2.14.1"), failed(output))
    with pytest.raises(NoCandidate, match=r"no torch-scatter fits torch 2.14.1\+cu130") as raised:
        run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("has", "hint"),
    [
        ([], "H"),
        (["2.13.0"], "Ask for torch 2.13.0, which has torch-scatter: "),
    ],
)
def test_what_the_facts_know_of_a_silent_host_is_no_way_out(tmp_path, has, hint):
    """It would be as silent for another torch; what a host lists is one."""
    known = {(SCATTER, "2.13.0"): True}
    chooser = HostChooser(has={SCATTER: has}, known=known, is_open=True)
    with pytest.raises(NoCandidate, match=r"no torch-scatter fits torch 2.14.1\+cu130") as raised:
        run(
            tmp_path,
            "torch==2.14.1",
            SCATTER,
            here=EMPTY,
            chooser=chooser,
            installer=FakeInstaller(torch("2.14.1")),
        )
    assert raised.value.hint.startswith(hint)


def test_another_failure_of_pips_is_its_own(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    installer = FakeInstaller(
        torch("2.14.1"), failed("ERROR: No matching distribution found for six==99")
    )
    with pytest.raises(PipFailed):
        run(tmp_path, "torch", SCATTER, "six==99", here=EMPTY, chooser=chooser, installer=installer)


# --- how little is asked --------------------------------------------------------------------------


def test_what_the_facts_settle_is_not_asked(tmp_path):
    known = {(SCATTER, "2.14.0"): False, (SCATTER, "2.13.0"): False, (SCATTER, "2.12.1"): True}
    chooser = HostChooser(has={SCATTER: ["2.12.1"]}, known=known)
    installer = FakeInstaller(torch("2.14.1"), together("2.12.1"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert chooser.questions == ["2.14.1+cu130", "2.12.1+cu130"]
    assert steps_of(selected)["torch"] == "2.12.1"


@pytest.mark.parametrize(("seconds", "questions"), [(0.1, MAX_ASKED), (15.0, 2)])
def test_the_number_of_questions_and_their_time_are_limited(
    tmp_path, monkeypatch, seconds, questions
):
    """A host that does not answer is not asked for one torch after the other."""
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr("safe_install.pipeline.joint_choice.time.monotonic", lambda: next(clock))
    chooser = HostChooser(is_open=True)
    with pytest.raises(NoCandidate):
        run(
            tmp_path,
            "torch",
            SCATTER,
            here=EMPTY,
            chooser=chooser,
            installer=FakeInstaller(torch("2.14.1")),
        )
    # Each is asked for once, and once more for the hint, out of the pages that were read.
    assert len(set(chooser.questions)) == 1 + questions


def test_a_host_that_does_not_answer_is_no_proof(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]}, is_open=True)
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert notes_of(selected) == [
        "torch 2.14.1: no torch-scatter for it is known here; 2.13.0 has torch-scatter"
    ]


# --- where there is none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [("torch==2.14.1",), ("torch", "-c", "c.txt"), ("torch", "-r", "c.txt")]
)
def test_a_torch_that_was_pinned_stays_pinned(tmp_path, words):
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    files = {"c.txt": "torch==2.14.1\n"}
    installer = FakeInstaller(torch("2.14.1"))
    with pytest.raises(NoCandidate, match=r"no torch-scatter fits torch 2.14.1\+cu130") as raised:
        run(
            tmp_path, *words, SCATTER, here=EMPTY, chooser=chooser, installer=installer, files=files
        )
    assert "torch 2.13.0, which has torch-scatter" in raised.value.hint
    assert len(installer.questions) == 1 and chooser.obtained == []


def test_what_holds_it_back_is_named(tmp_path):
    known = {
        **{(SCATTER, release): True for release in ("2.13.0", "2.12.1", "2.12.0")},
        **{(SPARSE, release): True for release in ("2.13.0", "2.12.0")},
        ("flash-attn", "2.13.0"): False,
    }
    chooser = HostChooser(has={SCATTER: ["2.13.0"], SPARSE: ["2.13.0"]}, known=known)
    with pytest.raises(NoCandidate) as raised:
        names = (SCATTER, SPARSE, "flash-attn")
        run(
            tmp_path,
            "torch",
            *names,
            here=EMPTY,
            chooser=chooser,
            installer=FakeInstaller(torch("2.14.1")),
        )
    assert (
        raised.value.hint
        == "Without flash-attn: torch 2.13.0 has all of torch-scatter, torch-sparse."
    )
    assert raised.value.exit_status == 10


def test_what_a_host_has_of_it_counts_too(tmp_path):
    """The facts know nothing; the pages that were asked have one of two."""
    chooser = HostChooser(has={SCATTER: ["2.13.0", "2.12.1"]})
    with pytest.raises(NoCandidate) as raised:
        installer = FakeInstaller(torch("2.14.1"))
        run(tmp_path, "torch", SCATTER, SPARSE, here=EMPTY, chooser=chooser, installer=installer)
    assert raised.value.hint == "Without torch-sparse: torch 2.13.0 has torch-scatter."


# --- an installed torch ---------------------------------------------------------------------------


def test_upgrade_takes_torch_as_far_as_its_extensions_go(tmp_path):
    here = make_environment(make_distribution(SCATTER, "1.0+pt212cu130"), torch="2.12.0+cu130")
    chooser = HostChooser(has={SCATTER: ["2.13.0", "2.12.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0"))
    selected, *_ = run(
        tmp_path, "-U", "torch", SCATTER, here=here, chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.13.0", SCATTER: "2.0"}


def test_the_installed_torch_stays_where_no_newer_one_has_the_extension(tmp_path):
    here = make_environment(torch="2.12.0+cu130")
    chooser = HostChooser(has={SCATTER: ["2.12.0", "2.11.0"]})
    installer = FakeInstaller(torch("2.14.1"), planned(torch_scatter="2.0"))
    selected, *_ = run(
        tmp_path, "-U", "torch", SCATTER, here=here, chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {SCATTER: "2.0"}
    assert torch_constraints(installer) == ["torch==2.12.0+cu130"]
    line = "torch 2.14.1: no torch-scatter was built for it; 2.12.0+cu130 stays"
    assert notes_of(selected) == [line]


def test_upgrade_with_the_newest_torch_there(tmp_path):
    here = make_environment(torch="2.14.1+cu130")
    installer = FakeInstaller(planned(), planned(torch_scatter="2.0"))
    selected, chooser, *_ = run(tmp_path, "-U", "torch", SCATTER, here=here, installer=installer)
    assert steps_of(selected) == {SCATTER: "2.0"}
    assert chooser.asked[0][1] == "2.14.1+cu130"


@pytest.mark.parametrize("words", [("-U", "torch", SCATTER), (SCATTER,)])
def test_an_older_torch_that_has_it_is_named_with_the_option_that_permits_it(tmp_path, words):
    """The newest one is installed, or torch was not named: pip has no other."""
    here = make_environment(torch="2.14.1+cu130")
    known = {(SCATTER, "2.13.0"): True, (SCATTER, "2.12.1"): True}
    with pytest.raises(NoCandidate) as raised:
        run(
            tmp_path,
            *words,
            here=here,
            chooser=HostChooser(known=known),
            installer=FakeInstaller(planned()),
        )
    assert raised.value.hint == (
        "H Or permit torch 2.13.0, which has torch-scatter: --allow-torch-change."
    )


def test_an_older_torch_is_named_where_a_newer_one_was_tried(tmp_path):
    here = make_environment(torch="2.14.0+cu130")
    chooser = HostChooser(has={SCATTER: ["2.13.0"]})
    with pytest.raises(NoCandidate) as raised:
        words = ("-U", "torch", SCATTER)
        run(tmp_path, *words, here=here, chooser=chooser, installer=FakeInstaller(torch("2.14.1")))
    assert raised.value.hint == (
        "Permit torch 2.13.0, which has torch-scatter: --allow-torch-change."
    )


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (("torch-scatter==2.0.9",), {}),  # another version may do
        ((SCATTER,), {"is_open": True}),  # a host that did not answer may have it
        (("torch==2.14.1", SCATTER), {}),  # another torch is excluded
    ],
)
def test_no_older_torch_is_named_where_it_is_not_the_way(tmp_path, words, fields):
    here = make_environment(torch="2.14.1+cu130")
    chooser = HostChooser(known={(SCATTER, "2.13.0"): True}, **fields)
    with pytest.raises(NoCandidate) as raised:
        run(tmp_path, *words, here=here, chooser=chooser, installer=FakeInstaller(planned()))
    assert raised.value.hint == "H"


# --- drivers --------------------------------------------------------------------------------------


def test_a_torch_that_the_declared_driver_runs_comes(tmp_path):
    here = make_environment(driver=Driver("535.104.05", "12.2", declared=True))
    chooser = HostChooser(has={SCATTER: ["2.14.1", "2.10.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.10.0"))
    selected, *_ = run(tmp_path, "torch", SCATTER, here=here, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == "2.10.0"
    assert chooser.questions == ["2.10.0+cu128"]
    (line,) = notes_of(selected)
    assert line.startswith("torch 2.14.1 needs driver 580")
    assert (
        "declared is 535.104.05 (CUDA 12.2); 2.14.1+cu126: h does not answer; 2.10.0 has "
        "torch-scatter" in line
    )


def test_no_torch_for_the_declared_driver_is_refused_as_before(tmp_path):
    here = make_environment(driver=Driver("535.104.05", "12.2", declared=True))
    with pytest.raises(Refused, match=r"535\.104\.05"):
        run(
            tmp_path,
            "torch",
            SCATTER,
            here=here,
            chooser=HostChooser(),
            installer=FakeInstaller(torch("2.14.1")),
        )


@pytest.mark.parametrize(
    ("releases", "taken"), [(["2.14.1", "2.10.0"], "2.10.0"), (["2.14.1"], "2.14.1")]
)
def test_the_driver_that_is_here_is_a_preference(tmp_path, releases, taken):
    """A driver here that is too old refuses nothing: where only the newest torch has the extension,
    it comes."""
    here = make_environment(driver=Driver("535.104.05", "12.2"))
    chooser = HostChooser(has={SCATTER: releases})
    installer = FakeInstaller(torch("2.14.1"), together(taken))
    selected, _, _, said = run(
        tmp_path, "torch", SCATTER, here=here, chooser=chooser, installer=installer
    )
    assert steps_of(selected)["torch"] == taken
    assert any("needs driver 580" in line for line in said) == (taken == "2.14.1")
    assert len(notes_of(selected)) == (taken != "2.14.1")

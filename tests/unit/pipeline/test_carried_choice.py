"""torch moves, and installed extensions with it: which torch comes, what is chosen, what is
said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from safe_install.errors import BuildFailed, NoCandidate, Refused
from safe_install.models import Finding, Origin, Severity
from safe_install.pipeline import breakage
from safe_install.wheels import inspection
from tests.factories import make_distribution, make_environment, make_health
from tests.unit.pipeline.test_builds_for_torch import SourceChooser
from tests.unit.pipeline.test_joint_choice import (
    CONFLICT,
    SCATTER,
    SPARSE,
    HostChooser,
    failed,
    notes_of,
    together,
    torch,
    torch_constraints,
)
from tests.unit.pipeline.test_selection import FakeInstaller, Unpacked, planned, run, steps_of

OLD = make_distribution(SCATTER, "1.0+pt212cu130")
WHY = "built for torch 2.12.0+cu130"


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """Every extension holds machine code: there are no files to read."""
    monkeypatch.setattr(inspection, "find_compiled", lambda environment, names: frozenset(names))


def here_with(*distributions):
    return make_environment(OLD, *distributions, torch="2.12.0+cu130")


def because_of(selected):
    return {step.name: step.because for step in selected.plan.steps}


@pytest.mark.parametrize("words", [("-U", "torch"), ("torch>2.12",)])
def test_they_go_along(tmp_path, words):
    chooser = HostChooser(has={SCATTER: ["2.14.1"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    selected, _, _, said = run(
        tmp_path, *words, here=here_with(), chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.14.1", SCATTER: "2.0"}
    assert said.count(f"torch-scatter 1.0+pt212cu130, {WHY}, goes along with torch") == 1
    assert because_of(selected)[SCATTER] == WHY
    assert [(kind, hidden) for kind, hidden, _ in installer.questions] == [
        ("all", ()),
        ("all", (SCATTER,)),
    ]
    assert notes_of(selected) == []


def test_the_newest_torch_that_all_have_comes(tmp_path):
    sparse = make_distribution(SPARSE, "1.0+pt212cu130")
    chooser = HostChooser(has={SCATTER: ["2.14.1", "2.13.0"], SPARSE: ["2.13.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0", torch_sparse="2.0"))
    selected, *_ = run(
        tmp_path, "-U", "torch", here=here_with(sparse), chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.13.0", SCATTER: "2.0", SPARSE: "2.0"}
    line = "torch 2.14.1: no torch-sparse was built for it; 2.13.0 has all of torch-scatter, torch-sparse"
    assert notes_of(selected) == [line]


def test_one_that_was_named_counts_with_them(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.13.0"], SPARSE: ["2.14.1", "2.13.0"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0", torch_sparse="2.0"))
    selected, *_ = run(
        tmp_path, "-U", "torch", SPARSE, here=here_with(), chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.13.0", SCATTER: "2.0", SPARSE: "2.0"}
    assert [kind for kind, *_ in installer.questions] == ["torch", "all"]
    assert because_of(selected)[SCATTER] == WHY


def test_the_installed_torch_stays_where_one_of_them_has_no_newer_wheel(tmp_path):
    installer = FakeInstaller(torch("2.14.1"), planned())
    selected, *_ = run(
        tmp_path, "-U", "torch", here=here_with(), chooser=HostChooser(), installer=installer
    )
    assert steps_of(selected) == {}
    assert torch_constraints(installer) == ["torch==2.12.0+cu130"]
    (note,) = [finding for finding in selected.findings if finding.check == "older-torch"]
    assert note.detail == "torch 2.14.1: no torch-scatter was built for it; 2.12.0+cu130 stays"
    assert note.hint == "Uninstall what holds it back, or leave it as it is with --keep-extensions."


def test_keep_extensions_is_as_it_was(tmp_path):
    chooser = HostChooser()
    installer = FakeInstaller(torch("2.14.1"))
    words = ("-U", "torch", "--keep-extensions")
    selected, *_ = run(tmp_path, *words, here=here_with(), chooser=chooser, installer=installer)
    assert (steps_of(selected), chooser.questions) == ({"torch": "2.14.1"}, [])


def test_one_that_does_not_load_today_holds_nothing_back(tmp_path):
    health = make_health(imports={"torch_scatter": "ImportError: undefined symbol"})
    installer = FakeInstaller(torch("2.14.1"), torch("2.14.1"))
    chooser = HostChooser()
    selected, *_ = run(
        tmp_path,
        "-U",
        "torch",
        here=here_with(),
        chooser=chooser,
        installer=installer,
        health=health,
    )
    assert (steps_of(selected), chooser.questions) == ({"torch": "2.14.1"}, [])


@pytest.mark.parametrize(
    ("has", "first"),
    [
        (["2.13.0"], "Ask for torch 2.13.0, which has torch-scatter: safe-install torch==2.13.0."),
        # a wheel for 2.12 fits each patch release of it
        ([], "Ask for torch 2.12.1, which has torch-scatter: safe-install torch==2.12.1."),
    ],
)
def test_an_exact_torch_is_refused_with_the_ways_out(tmp_path, has, first):
    installer = FakeInstaller(torch("2.14.1"))
    with pytest.raises(NoCandidate, match=r"no torch-scatter fits torch 2.14.1\+cu130") as raised:
        run(
            tmp_path,
            "torch==2.14.1",
            here=here_with(),
            chooser=HostChooser(has={SCATTER: has}),
            installer=installer,
        )
    assert raised.value.message.endswith(f"(torch-scatter 1.0+pt212cu130 is installed, {WHY})")
    way_out = "safe-install uninstall torch-scatter, or leave it as it is: --keep-extensions."
    assert raised.value.hint == f"{first} To let torch move all the same: {way_out}"


@pytest.mark.parametrize("asked", ["2.14.1", "2.11.0"])
def test_the_installed_torch_may_be_the_newest_that_has_them(tmp_path, asked):
    here = make_environment(make_distribution(SCATTER, "1.0+pt213cu130"), torch="2.13.0+cu130")
    chooser = HostChooser(has={SCATTER: ["2.7.1"]})
    with pytest.raises(NoCandidate) as raised:
        run(
            tmp_path,
            f"torch=={asked}",
            here=here,
            chooser=chooser,
            installer=FakeInstaller(torch(asked)),
        )
    assert raised.value.hint.startswith(
        "The newest torch that has torch-scatter is the installed one, 2.13.0+cu130. To let torch "
        "move"
    )


def test_what_fits_the_torch_that_comes_stays(tmp_path):
    """2.12.1 is the newest that pip finds, and the facts need not know any wheel for it."""
    known = {(SCATTER, release): False for release in ("2.12.1", "2.12.0")}
    chooser = StaysChooser(known=known)
    installer = FakeInstaller(torch("2.12.1"), torch("2.12.1"))
    selected, *_ = run(
        tmp_path, "-U", "torch", here=here_with(), chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": "2.12.1"}
    assert installer.questions[-1][1] == (), "pip would bring a newer one"
    assert chooser.upgraded == [set()]


class StaysChooser(HostChooser):
    """As the provider does: what is installed and fits is the answer."""

    upgraded = ()

    def choose(self, requirements, environment, *, upgrade=(), **options):
        self.upgraded = [*self.upgraded, set(upgrade)]
        return type(super().choose([], environment))((), (), ())


# --- what no host has is built --------------------------------------------------------------------

BUILT = "goes along with torch: it will be built from source, as there is no wheel of it for torch"


@pytest.mark.parametrize("words", [("-U", "torch"), ("torch==2.14.1",)])
def test_what_has_no_wheel_for_a_newer_torch_is_built_for_the_one_that_comes(tmp_path, words):
    chooser, unpacked = SourceChooser(wheels={SCATTER: ["2.12.0"]}), Unpacked()
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    selected, _, _, said = run(
        tmp_path, *words, here=here_with(), chooser=chooser, installer=installer, unpack=unpacked
    )
    assert steps_of(selected) == {"torch": "2.14.1", SCATTER: "2.0"}
    assert chooser.built == [(SCATTER, "2.14.1", True)]
    assert unpacked.plans == [["torch", SCATTER]]
    step = selected.plan.find(SCATTER)
    assert (step.origin, step.requested, step.because) == (Origin.BUILT, False, WHY)
    # before it starts
    assert f"torch-scatter 1.0+pt212cu130, {WHY}, {BUILT} 2.14.1" in said
    assert notes_of(selected) == []


@pytest.mark.parametrize(
    ("wheels", "sources", "taken", "built"),
    [
        # a wheel for a torch that is newer than the installed one comes before a build
        ({SCATTER: ["2.13.0"], SPARSE: ["2.13.0"]}, None, "2.13.0", []),
        # one of two has a wheel
        ({SCATTER: ["2.13.0"], SPARSE: ["2.14.1"]}, None, "2.14.1", [SCATTER]),
        ({SCATTER: ["2.13.0"]}, None, "2.14.1", [SCATTER, SPARSE]),
        ({}, {SCATTER: ["2.13.0"], SPARSE: ["2.14.1", "2.13.0"]}, "2.13.0", [SCATTER, SPARSE]),
    ],
)
def test_for_which_torch_they_are_built(tmp_path, wheels, sources, taken, built):
    sparse = make_distribution(SPARSE, "1.0+pt212cu130")
    chooser = SourceChooser(wheels=wheels, sources=sources)
    installer = FakeInstaller(torch("2.14.1"), together(taken, torch_sparse="2.0"))
    selected, *_ = run(
        tmp_path, "-U", "torch", here=here_with(sparse), chooser=chooser, installer=installer
    )
    assert steps_of(selected) == {"torch": taken, SCATTER: "2.0", SPARSE: "2.0"}
    assert chooser.built == [(name, taken, True) for name in built]


class WithoutCompiler(SourceChooser):
    def check_build(self, pin, environment):
        super().check_build(pin, environment)
        raise Refused("there is no C++ compiler", hint="H")


def from_folder(distribution):
    url = {"url": "file:///src/torch-scatter", "dir_info": {}}
    return replace(distribution, direct_url=url)


HELD_BACK = {
    "--no-build": (SourceChooser(), ("--no-build",), OLD, ""),
    # its source is for torch up to the installed one
    "no source": (SourceChooser(sources={SCATTER: ["2.12.0", "2.11.0"]}), (), OLD, ""),
    "no compiler": (
        WithoutCompiler(),
        (),
        OLD,
        ", and it cannot be built here: there is no C++ compiler",
    ),
    "built from a folder": (SourceChooser(), (), from_folder(OLD), ""),
    "editable": (SourceChooser(), (), replace(OLD, editable=True), ""),
}


@pytest.mark.parametrize("name", list(HELD_BACK))
def test_what_cannot_be_built_holds_the_installed_torch(tmp_path, name):
    chooser, words, distribution, why = HELD_BACK[name]
    here = make_environment(distribution, torch="2.12.0+cu130")
    installer = FakeInstaller(torch("2.14.1"), planned())
    selected, *_ = run(
        tmp_path, "-U", *words, "torch", here=here, chooser=chooser, installer=installer
    )
    assert (steps_of(selected), chooser.built) == ({}, [])
    assert notes_of(selected) == [
        f"torch 2.14.1: no torch-scatter was built for it{why}; 2.12.0+cu130 stays"
    ]


def refuse_torch(tmp_path, *words, here, chooser):
    """The error of `torch==2.14.1` and these words."""
    with pytest.raises(NoCandidate) as raised:
        run(
            tmp_path,
            "torch==2.14.1",
            *words,
            here=here,
            chooser=chooser,
            installer=FakeInstaller(torch("2.14.1")),
        )
    return raised.value


def test_an_exact_torch_does_not_replace_what_has_another_source(tmp_path):
    here = make_environment(from_folder(OLD), torch="2.12.0+cu130")
    chooser = SourceChooser()
    error = refuse_torch(tmp_path, here=here, chooser=chooser)
    assert "the installed one has another source" in str(error)
    assert error.message.endswith(
        f"({SCATTER} 1.0+pt212cu130 is installed, {WHY}, from file:///src/torch-scatter)"
    )
    assert "--keep-extensions" in error.hint
    assert chooser.built == []


# --- what is offered works when it is typed -------------------------------------------------------

HELD = replace(OLD, requires=("torch==2.12.0",))


def test_what_would_be_refused_is_not_offered_where_the_installed_torch_stays(tmp_path):
    """Its metadata wants the torch of today, so a plan that leaves it as it is is refused."""
    here = make_environment(HELD, torch="2.12.0+cu130")
    installer = FakeInstaller(torch("2.14.1"), planned())
    words = ("-U", "torch")
    selected, *_ = run(tmp_path, *words, here=here, chooser=HostChooser(), installer=installer)
    (note,) = [finding for finding in selected.findings if finding.check == "older-torch"]
    assert note.hint == "Uninstall what holds it back."
    with pytest.raises(Refused, match=r"requires torch==2.12.0"):
        run(
            tmp_path / "kept",
            *words,
            "--keep-extensions",
            here=here,
            installer=FakeInstaller(torch("2.14.1")),
        )


@pytest.mark.parametrize("other", [HELD, make_distribution("base", "1", requires=["torch<2.14"])])
def test_what_would_be_refused_is_not_offered_beside_an_exact_torch(tmp_path, other):
    """What another one requires refuses it, too."""
    here = here_with(other)
    error = refuse_torch(tmp_path, here=here, chooser=HostChooser())
    assert error.hint.endswith("safe-install uninstall torch-scatter.")


@pytest.mark.parametrize(("subject", "is_offered"), [(SCATTER, False), (SPARSE, True)])
def test_what_is_known_to_break_is_not_offered(tmp_path, monkeypatch, subject, is_offered):
    """Its files tell that it was built for another torch; one that was named comes anew."""
    broken = Finding("breaks-with-torch", Severity.ERROR, subject, "D")
    monkeypatch.setattr(breakage, "find_breakage", lambda *of_a_plan: (broken,))
    error = refuse_torch(
        tmp_path, SPARSE, here=here_with(), chooser=HostChooser(has={SPARSE: ["2.14.1"]})
    )
    assert ("--keep-extensions" in error.hint) is is_offered


def test_all_that_hold_torch_back_are_named(tmp_path):
    """Without one of them the other would refuse the same command."""
    here = here_with(make_distribution(SPARSE, "1.0+pt212cu130"))
    error = refuse_torch(tmp_path, here=here, chooser=HostChooser())
    assert f"{SCATTER} 1.0+pt212cu130 is installed" in error.message
    assert f"{SPARSE} 1.0+pt212cu130 is installed" in error.message
    way_out = "uninstall torch-scatter torch-sparse, or leave them as they are: --keep-extensions."
    assert error.hint.endswith(way_out)


def test_nothing_is_offered_that_leaves_what_was_named_without_a_wheel(tmp_path):
    error = refuse_torch(tmp_path, SPARSE, here=here_with(), chooser=HostChooser())
    assert "uninstall" not in error.hint
    assert "--keep-extensions" not in error.hint


def test_a_build_that_fails_beside_what_cannot_stay_names_one_way_out(tmp_path):
    chooser = SourceChooser(failing=[SCATTER])
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    here = make_environment(HELD, torch="2.12.0+cu130")
    with pytest.raises(BuildFailed) as raised:
        run(tmp_path, "-U", "torch", here=here, chooser=chooser, installer=installer)
    assert raised.value.hint == (
        "H. To let torch move all the same: safe-install uninstall torch-scatter."
    )


def test_a_build_that_fails_names_the_ways_out(tmp_path):
    chooser = SourceChooser(failing=[SCATTER])
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    with pytest.raises(BuildFailed) as raised:
        run(tmp_path, "-U", "torch", here=here_with(), chooser=chooser, installer=installer)
    way_out = "safe-install uninstall torch-scatter, or leave it as it is: --keep-extensions."
    assert raised.value.hint == f"H. To let torch move all the same: {way_out}"


def test_an_exact_torch_for_which_nothing_can_be_built_here_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"there is no C\+\+ compiler") as raised:
        run(
            tmp_path,
            "torch==2.14.1",
            here=here_with(),
            chooser=WithoutCompiler(),
            installer=FakeInstaller(torch("2.14.1")),
        )
    way_out = "safe-install uninstall torch-scatter, or leave it as it is: --keep-extensions."
    assert raised.value.hint.endswith(f"To let torch move all the same: {way_out}")


def test_a_dry_run_says_what_would_be_built(tmp_path):
    chooser = SourceChooser()
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    words = ("--dry-run", "-U", "torch")
    selected, *_ = run(tmp_path, *words, here=here_with(), chooser=chooser, installer=installer)
    assert (selected.plan.find(SCATTER).origin, chooser.built) == (Origin.SDIST, [])


def test_where_something_else_moves_torch_nothing_is_built_for_it(tmp_path):
    """Only the person's own word starts a build that nobody named."""
    output = CONFLICT.replace("torch==2.13.0", "torch==2.12.0+cu130")
    installer = FakeInstaller(base(), failed(output))
    words, chooser = ("-U", "--allow-torch-change", "base"), SourceChooser()
    with pytest.raises(Refused):
        run(tmp_path, *words, here=here_with(), chooser=chooser, installer=installer)
    assert chooser.built == []


# --- --keep-extensions ----------------------------------------------------------------------------


def test_a_dry_run_names_what_stays_and_may_not_load(tmp_path):
    words = ("--dry-run", "-U", "--keep-extensions", "torch")
    installer = FakeInstaller(torch("2.14.1"))
    selected, chooser, _, said = run(tmp_path, *words, here=here_with(), installer=installer)
    (finding,) = [one for one in selected.findings if one.check == "kept-extension"]
    assert (finding.subject, finding.severity) == (SCATTER, Severity.WARNING)
    assert finding.detail in said and chooser.asked == []


# --- torch that something else moves --------------------------------------------------------------


def base(version="2.14.1"):
    return planned(base="1", torch=version)


def test_a_permitted_requirement_takes_them_along(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.14.1"]})
    installer = FakeInstaller(base(), together("2.14.1", base="1"))
    words = ("--allow-torch-change", "base")
    selected, *_ = run(tmp_path, *words, here=here_with(), chooser=chooser, installer=installer)
    assert steps_of(selected) == {"base": "1", "torch": "2.14.1", SCATTER: "2.0"}


def test_a_permitted_requirement_that_cannot_take_them_along_is_refused(tmp_path):
    """It needs a newer torch than the one that they hold."""
    output = CONFLICT.replace("torch==2.13.0", "torch==2.12.0+cu130")
    installer = FakeInstaller(base(), failed(output))
    words = ("--allow-torch-change", "base")
    with pytest.raises(Refused) as raised:
        run(tmp_path, *words, here=here_with(), chooser=HostChooser(), installer=installer)
    assert raised.value.message == (
        "base 1.0 requires torch>=2.14, and the installed torch 2.12.0+cu130 stays: torch 2.14.1: "
        "no torch-scatter was built for it"
    )
    assert "--keep-extensions" in raised.value.hint
    assert "--allow-torch-change" not in raised.value.hint
    assert raised.value.exit_status == 11


def test_without_permission_it_is_refused_as_before(tmp_path):
    chooser = HostChooser(has={SCATTER: ["2.14.1"]})
    with pytest.raises(Refused) as raised:
        run(tmp_path, "base", here=here_with(), chooser=chooser, installer=FakeInstaller(base()))
    assert [finding.check for finding in raised.value.findings] == ["torch-moved"]
    assert chooser.questions == []

"""Extensions that are built for a torch that is about to come: which torch it is, when they are
built, and for what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import BuildFailed, NoCandidate, PipFailed, Refused
from safe_install.models import Candidate, CandidateKind, Driver, Link, Origin
from safe_install.resolve.provider import Resolution
from safe_install.resolve.rounds import Failed, Planned
from tests.factories import make_distribution, make_environment
from tests.unit.pipeline.test_selection import (
    EMPTY,
    FakeChooser,
    FakeInstaller,
    Unpacked,
    planned,
    run,
    steps_of,
)

SCATTER, SPARSE = "torch-scatter", "torch-sparse"
CONFLICT = """The conflict is caused by:
    base 1.0 depends on torch<2.14
    The user requested (constraint) torch==2.14.1
"""


class SourceChooser(FakeChooser):
    """Wheels of an extension for some releases of torch; its source for others."""

    def __init__(self, *, wheels=None, sources=None, requires=(), failing=()):
        """`wheels`, `sources`: extension -> releases of torch; None: a source for every torch."""
        super().__init__(requires=requires)
        self.wheels, self.sources, self.failing = wheels or {}, sources, failing
        self.built = []  # (extension, version of torch, folders ahead)

    def choose(
        self,
        requirements,
        environment,
        *,
        constraints=(),
        upgrade=(),
        keep_version=(),
        allow_build=True,
    ):
        release = environment.torch.version.public
        pins = []
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            kind = self._find(name, release, allow_build)
            if kind is None:
                error = NoCandidate(
                    f"no {name} fits torch {environment.torch.runtime_version}", hint="H"
                )
                error.projects = (name,)
                raise error
            self.asked.append((name, release, kind.value))
            suffix = ".tar.gz" if kind is CandidateKind.SDIST else "-py3-none-any.whl"
            link = Link(f"https://h/{name}-2.0{suffix}", f"{name}-2.0{suffix}")
            pins.append(Candidate(name, Version("2.0"), kind, link))
        return Resolution(tuple(pins), (), ())

    def _find(self, name, release, allow_build):
        if release in self.wheels.get(name, ()):
            return CandidateKind.WHEEL
        has_source = self.sources is None or release in self.sources.get(name, ())
        return CandidateKind.SDIST if has_source and allow_build else None

    def obtain(self, pin, environment, *, is_promised=False):
        if pin.kind is CandidateKind.SDIST:
            if pin.name in self.failing:
                raise BuildFailed(f"{pin.name} could not be built", hint="H")
            self.built.append((pin.name, str(environment.torch.version), environment.ahead != ()))
            link = Link(
                f"file:///cache/{pin.name}.whl", f"{pin.name}-2.0-py3-none-any.whl", sha256="1" * 64
            )
            pin = Candidate(pin.name, pin.version, CandidateKind.BUILT, link)
        return super().obtain(pin, environment, is_promised=is_promised)


def torch(version):
    return planned(torch=version)


def together(version, **others):
    return planned(torch=version, torch_scatter="2.0", **others)


def torch_constraints(installer):
    return [
        line for _, _, lines in installer.questions for line in lines if line.startswith("torch==")
    ]


def pins_shown(installer):
    """The wheels of extensions that pip was shown, round by round."""
    rounds = [lines for kind, _, lines in installer.questions if kind == "all"]
    return [[line.rpartition("/")[2] for line in lines if " @ " in line] for lines in rounds]


def test_an_extension_without_a_wheel_is_built_for_the_torch_of_the_plan(tmp_path):
    installer, unpacked = FakeInstaller(torch("2.14.1"), together("2.14.1", sympy="1")), Unpacked()
    words = ("torch", SCATTER)
    selected, chooser, _, _ = run(
        tmp_path, *words, here=EMPTY, chooser=SourceChooser(), installer=installer, unpack=unpacked
    )
    assert steps_of(selected) == {"torch": "2.14.1", SCATTER: "2.0", "sympy": "1"}
    assert chooser.built == [(SCATTER, "2.14.1", True)]
    assert chooser.checked == [SCATTER], (
        "what is missing on this machine is known before torch is fetched"
    )
    assert unpacked.plans == [["torch", SCATTER, "sympy"]]
    assert pins_shown(installer) == [["torch_scatter-2.0-py3-none-any.whl"]], (
        "pip is not asked again"
    )
    step = selected.plan.find(SCATTER)
    assert (step.origin, step.sha256) == (Origin.BUILT, selected.artifacts[SCATTER].sha256)
    (link,) = (tmp_path / "work" / "links").iterdir()
    assert link.name == f"{SCATTER}-2.0-py3-none-any.whl", "the placeholder has gone"


@pytest.mark.parametrize(
    ("wheels", "sources", "taken", "built"),
    [
        # A wheel for an older torch comes before a build for the newest.
        ({SCATTER: ["2.13.0"], SPARSE: ["2.13.0"]}, None, "2.13.0", []),
        ({SCATTER: ["2.12.0"], SPARSE: ["2.12.0", "2.13.0"]}, None, "2.12.0", []),
        # No torch has a wheel of both: the newest, and what has no wheel is built.
        ({SCATTER: ["2.13.0"], SPARSE: ["2.12.0"]}, None, "2.14.1", [SCATTER, SPARSE]),
        ({SCATTER: ["2.14.1"], SPARSE: ["2.12.0"]}, None, "2.14.1", [SPARSE]),
        ({}, None, "2.14.1", [SCATTER, SPARSE]),
        # The source of one belongs to an older torch.
        (
            {},
            {SCATTER: ["2.14.1", "2.13.0", "2.12.1"], SPARSE: ["2.12.1"]},
            "2.12.1",
            [SCATTER, SPARSE],
        ),
    ],
)
def test_which_torch_comes(tmp_path, wheels, sources, taken, built):
    chooser = SourceChooser(wheels=wheels, sources=sources)
    installer = FakeInstaller(torch("2.14.1"), together(taken, torch_sparse="2.0"))
    selected, *_ = run(
        tmp_path, "torch", SCATTER, SPARSE, here=EMPTY, chooser=chooser, installer=installer
    )
    assert steps_of(selected)["torch"] == taken
    assert chooser.built == [(name, taken, True) for name in built]
    assert torch_constraints(installer) == [f"torch=={taken}"]
    notes = [finding.detail for finding in selected.findings if finding.check == "older-torch"]
    assert len(notes) == (taken != "2.14.1")
    if sources:
        assert notes[0].endswith("2.12.1 comes with torch-scatter, torch-sparse built here")


@pytest.mark.parametrize(
    ("word", "planned_release"), [("torch==2.13.0", "2.13.0"), ("torch<2.14", "2.13.0")]
)
def test_a_torch_that_was_named_is_built_for(tmp_path, word, planned_release):
    """Though a newer one and an older one have the wheel."""
    chooser = SourceChooser(wheels={SCATTER: ["2.14.1"]})
    installer = FakeInstaller(torch(planned_release), together(planned_release))
    selected, *_ = run(tmp_path, word, SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected)["torch"] == planned_release
    assert chooser.built == [(SCATTER, planned_release, True)]


def test_a_dry_run_builds_nothing_and_unpacks_no_torch(tmp_path):
    installer, unpacked = FakeInstaller(torch("2.14.1"), together("2.14.1")), Unpacked()
    words = ("--dry-run", "torch", SCATTER)
    selected, chooser, _, _ = run(
        tmp_path, *words, here=EMPTY, chooser=SourceChooser(), installer=installer, unpack=unpacked
    )
    assert (chooser.checked, chooser.built, unpacked.plans) == ([SCATTER], [], [])
    assert selected.plan.find(SCATTER).origin is Origin.SDIST


def test_no_build_is_as_it_was(tmp_path):
    """The chooser knows of --no-build; here it has no source."""
    with pytest.raises(NoCandidate, match=r"no torch-scatter fits torch 2.14.1\+cu130") as raised:
        chooser = SourceChooser(sources={})
        run(
            tmp_path,
            "torch",
            SCATTER,
            here=EMPTY,
            chooser=chooser,
            installer=FakeInstaller(torch("2.14.1")),
        )
    assert raised.value.hint == "H"


def test_a_build_that_fails_is_its_own_error(tmp_path):
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    with pytest.raises(BuildFailed):
        chooser = SourceChooser(failing=[SCATTER])
        run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)


@pytest.mark.parametrize(
    ("words", "driver", "hint"),
    [
        ((), None, "H Where no GPU is meant to compute: --accelerator cpu."),
        (("--accelerator", "cu130"), None, "H"),
        ((), Driver("580.65.06", "13.0"), "H"),
    ],
)
def test_what_cannot_be_built_here_is_said_before_pip_is_asked_again(tmp_path, words, driver, hint):
    class WithoutCompiler(SourceChooser):
        def check_build(self, pin, environment):
            raise Refused("there is no C++ compiler", hint="H")

    installer, unpacked = FakeInstaller(torch("2.14.1")), Unpacked()
    with pytest.raises(Refused, match="no C") as raised:
        run(
            tmp_path,
            *words,
            "torch",
            SCATTER,
            here=replace(EMPTY, driver=driver),
            chooser=WithoutCompiler(),
            installer=installer,
            unpack=unpacked,
        )
    assert raised.value.hint == hint
    assert unpacked.plans == []


def test_a_plan_that_is_refused_is_refused_before_torch_is_unpacked(tmp_path):
    here = make_environment(
        make_distribution("base", "1", requires=["six<2"]), make_distribution("six", "1")
    )
    installer, unpacked = FakeInstaller(torch("2.14.1"), together("2.14.1", six="2")), Unpacked()
    words, chooser = ("torch", SCATTER, "six"), SourceChooser()
    with pytest.raises(Refused, match="after this base 1 requires six<2"):
        run(tmp_path, *words, here=here, chooser=chooser, installer=installer, unpack=unpacked)
    assert (unpacked.plans, chooser.built) == ([], [])


def test_pip_is_asked_again_where_the_built_wheel_requires_more(tmp_path):
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"), together("2.14.1", scipy="1.17"))
    chooser = SourceChooser(requires=["scipy"])
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert steps_of(selected) == {"torch": "2.14.1", SCATTER: "2.0", "scipy": "1.17"}
    assert pins_shown(installer) == [
        ["torch_scatter-2.0-py3-none-any.whl"],
        ["torch-scatter-2.0-py3-none-any.whl"],
    ]
    assert len(chooser.built) == 1


def test_the_report_for_the_person_names_the_built_wheel(tmp_path):
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"), together("2.14.1"))
    report = str(tmp_path / "report.json")
    words = ("--report", report, "torch", SCATTER)
    run(tmp_path, *words, here=EMPTY, chooser=SourceChooser(), installer=installer)
    assert len(pins_shown(installer)) == 2


def test_another_file_of_torch_in_the_next_plan_ends_it(tmp_path):
    def with_file(digest, **others):
        report = together("2.14.1", **others).report
        report["install"][0]["download_info"]["archive_info"] = {"hashes": {"sha256": digest * 64}}
        return Planned(report)

    installer = FakeInstaller(torch("2.14.1"), with_file("a"), with_file("b", scipy="1.17"))
    with pytest.raises(Refused, match="another file of torch"):
        chooser = SourceChooser(requires=["scipy"])
        run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert len(chooser.built) == 1


def test_a_torch_with_which_pip_finds_no_plan_is_not_built_for(tmp_path):
    installer = FakeInstaller(torch("2.14.1"), Failed(PipFailed("pip failed", output=CONFLICT)))
    chooser = SourceChooser()
    with pytest.raises(PipFailed):
        run(tmp_path, "torch", SCATTER, "base", here=EMPTY, chooser=chooser, installer=installer)
    assert chooser.built == []


def test_another_build_of_torch_than_was_supposed_is_built_for(tmp_path):
    """A folder that pip looks into has 2.12.1 for the CPU."""
    sources = {SCATTER: ["2.12.1"]}
    installer = FakeInstaller(torch("2.14.1"), together("2.12.1+cpu"), together("2.12.1+cpu"))
    chooser = SourceChooser(sources=sources)
    selected, *_ = run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert chooser.built == [(SCATTER, "2.12.1+cpu", True)]
    assert steps_of(selected)["torch"] == "2.12.1+cpu"


def test_no_torch_is_tried_again_whose_build_turned_out_to_be_another_one(tmp_path):
    """pip's folder has builds for the CPU alone, and their sources cannot be built."""

    class ForCuda(SourceChooser):
        def choose(self, requirements, environment, **options):
            if environment.torch.accelerator == "cpu":
                raise NoCandidate(
                    f"no {SCATTER} fits torch {environment.torch.runtime_version}", hint="H"
                )
            return super().choose(requirements, environment, **options)

    chooser = ForCuda(sources={SCATTER: ["2.13.0", "2.12.1"]})
    installer = FakeInstaller(torch("2.14.1"), together("2.13.0+cpu"), together("2.12.1+cpu"))
    with pytest.raises(NoCandidate):
        run(tmp_path, "torch", SCATTER, here=EMPTY, chooser=chooser, installer=installer)
    assert torch_constraints(installer) == ["torch==2.13.0", "torch==2.12.1"]


def test_what_is_deep_in_pips_plan_is_built_too(tmp_path):
    first = planned(
        base="1", torch="2.14.1", torch_scatter=("1.0", "https://h/torch_scatter-1.0.tar.gz")
    )
    installer = FakeInstaller(first, together("2.14.1", base="1"))
    selected, chooser, *_ = run(
        tmp_path, "base", here=EMPTY, chooser=SourceChooser(), installer=installer
    )
    assert chooser.built == [(SCATTER, "2.14.1", True)]
    assert steps_of(selected) == {"base": "1", "torch": "2.14.1", SCATTER: "2.0"}


# --- an installed torch ---------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("-U", "torch"), ("torch==2.14.1",)])
def test_the_torch_that_goes_is_not_built_for(tmp_path, words):
    here = make_environment(make_distribution(SCATTER, "1.0"), torch="2.12.0+cu130")
    installer = FakeInstaller(torch("2.14.1"), together("2.14.1"))
    selected, chooser, *_ = run(
        tmp_path, *words, SCATTER, here=here, chooser=SourceChooser(), installer=installer
    )
    assert chooser.built == [(SCATTER, "2.14.1", True)]
    assert steps_of(selected) == {"torch": "2.14.1", SCATTER: "2.0"}


@pytest.mark.parametrize(
    ("words", "wheels", "sources", "expected", "built"),
    [
        # a newer torch with a wheel, then a build for the newest, then the installed one
        (("-U",), ["2.13.0", "2.12.0"], None, {"torch": "2.13.0", SCATTER: "2.0"}, []),
        (("-U",), ["2.12.0"], None, {"torch": "2.14.1", SCATTER: "2.0"}, ["2.14.1"]),
        (
            ("-U",),
            ["2.12.0"],
            {SCATTER: ["2.12.1"]},
            {"torch": "2.12.1", SCATTER: "2.0"},
            ["2.12.1"],
        ),
        (("-U",), ["2.12.0"], {}, {SCATTER: "2.0"}, []),
        (("-U", "--no-build"), ["2.12.0"], None, {SCATTER: "2.0"}, []),
    ],
)
def test_a_torch_that_is_asked_to_move(tmp_path, words, wheels, sources, expected, built):
    here = make_environment(torch="2.12.0+cu130")
    chooser = SourceChooser(wheels={SCATTER: wheels}, sources=sources)
    answer = planned(**{name.replace("-", "_"): version for name, version in expected.items()})
    installer = FakeInstaller(torch("2.14.1"), answer)
    selected, *_ = run(
        tmp_path, *words, "torch", SCATTER, here=here, chooser=chooser, installer=installer
    )
    assert steps_of(selected) == expected
    assert chooser.built == [(SCATTER, release, True) for release in built]


def test_where_torch_stays_it_is_built_for_at_once(tmp_path):
    here, unpacked = make_environment(torch="2.12.0+cu130"), Unpacked()
    _, chooser, installer, _ = run(
        tmp_path, SCATTER, here=here, chooser=SourceChooser(), unpack=unpacked
    )
    assert chooser.built == [(SCATTER, "2.12.0+cu130", False)]
    assert (unpacked.plans, installer.questions) == ([], [])

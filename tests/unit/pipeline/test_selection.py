"""The loop of a choice, with a chooser and an installer of a few lines."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import HashMismatch, NoCandidate, PipFailed, Refused
from safe_install.events import Reporter
from safe_install.index.catalog import bundled_catalog
from safe_install.index.torch_files import Absent, Listing
from safe_install.models import (
    Candidate,
    CandidateKind,
    Driver,
    HostAnswer,
    HostAnswerKind,
    Link,
    Origin,
)
from safe_install.pipeline.choice import make_choice_options
from safe_install.pipeline.selection import select
from safe_install.pipeline.session import Session
from safe_install.ports import Timings, World
from safe_install.resolve.command_line import split_words
from safe_install.resolve.provider import Resolution
from safe_install.resolve.request import parse_install
from safe_install.resolve.rounds import Failed, Planned
from tests.factories import make_distribution, make_environment, make_health

HERE = make_environment(torch="2.13.0+cpu")
EMPTY = make_environment()
HEALTHY = make_health()
TORCH_FILE = "https://h/torch-2.12.0%2Bcpu-cp311-cp311-linux_x86_64.whl"


class Notes(Reporter):
    """What was said."""

    def __init__(self):
        self.said = []

    def note(self, text):
        self.said.append(text)

    def warn(self, text):
        self.said.append(text)

    def output(self, line):
        self.said.append(line)

    def document(self, text):
        self.said.append(text)


class SilentPages:
    """torch's host does not answer."""

    absent = Absent("h does not answer", "Try again when h answers.")

    def list_torch(self, accelerator, interpreter):
        return Listing("https://h/torch/", problem=self.absent)

    def find_torch(self, build, interpreter):
        return self.absent

    def find_compilers(self, requires, accelerator, interpreter):
        return ()


class FakeChooser:
    """Chooses version 2.0 of everything, as a wheel or from source; what is in `missing` it does
    not find."""

    def __init__(self, kind=CandidateKind.WHEEL, missing=(), requires=(), answers=()):
        self.kind, self.missing, self.requires, self.answers = kind, missing, requires, answers
        self.asked, self.obtained, self.checked = [], [], []
        self.torch_pages = SilentPages()

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
        names = [canonicalize_name(one.name) for one in requirements]
        self.asked.append(
            (names, environment.torch and str(environment.torch.version), set(upgrade), allow_build)
        )
        for name in names:
            if name in self.missing:
                raise NoCandidate(f"no {name} fits", hint="H")
        link = Link("https://h/x-2.0.whl", "x-2.0.whl")
        pins = tuple(Candidate(name, Version("2.0"), self.kind, link) for name in names)
        return Resolution(pins=pins, rejections=(), answers=tuple(self.answers))

    def is_known(self, requirement, environment, *, constraints=()):
        return False if requirement.name in self.missing else None

    def prefetch(self, pins):
        self.ahead = [pin.name for pin in pins]

    def obtain(self, pin, environment, *, is_promised=False):
        self.obtained.append((pin.name, is_promised))
        content = pin.name.encode()
        artifact = SimpleNamespace(
            name=pin.name,
            path=SimpleNamespace(resolve=lambda: f"/cache/x-for-{environment.torch.version}.whl"),
            version=pin.version,
            sha256=hashlib.sha256(content).hexdigest(),
            requires_dist=list(self.requires),
            installable_filename=f"{pin.name}-2.0-py3-none-any.whl",
        )
        return pin, artifact

    def check_build(self, pin, environment):
        self.checked.append(pin.name)

    def is_on_index(self, name, filename, sha256):
        return False


class FakeInstaller:
    """Answers one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.questions, self.relayed = [], 0

    def plan(self, requirements, *, constraints, find_links):
        self.questions.append(("torch", tuple(requirements), constraints))
        return self.answers.pop(0)

    def plan_request(self, *, constraints, find_links, hidden=(), without_source=()):
        self.questions.append(("all", tuple(hidden), constraints))
        self.without_source = without_source
        return self.answers.pop(0)

    def relay(self):
        self.relayed += 1


def planned(**versions):
    """pip's report: of projects, their versions, or a version and an address."""
    install = []
    for name, version in versions.items():
        version, url = version if isinstance(version, tuple) else (version, f"https://h/{name}.whl")
        metadata = {"name": name.replace("_", "-"), "version": version, "requires_dist": []}
        install.append({"metadata": metadata, "download_info": {"url": url}, "requested": False})
    return Planned({"install": install})


class Unpacked:
    """Takes the torch of a plan as it is."""

    def __init__(self):
        self.plans = []

    def __call__(self, selected):
        self.plans.append([step.name for step in selected.plan.steps])
        torch = selected.plan.find("torch")
        return replace(make_environment(torch=torch.version), ahead=(Path("/unpacked"),))


def run(
    tmp_path,
    *argv,
    here=HERE,
    chooser=None,
    installer=None,
    health=HEALTHY,
    files=None,
    unpack=None,
    environ=None,
    configuration=None,
):
    words = split_words(argv)
    request = parse_install(
        words,
        environ=environ or {},
        configuration=configuration or {},
        read=lambda name: (files or {})[name],
    )
    reporter = Notes()
    session = Session(
        request, here, World({}, reporter, tmp_path / "cache"), Timings(), tmp_path / "work"
    )
    chooser, installer = chooser or FakeChooser(), installer or FakeInstaller()
    selected = select(
        session,
        bundled_catalog(),
        chooser,
        chooser.torch_pages,
        installer,
        lambda: health,
        unpack or Unpacked(),
    )
    return selected, chooser, installer, reporter.said


def steps_of(selected):
    return {step.name: step.version for step in selected.plan.steps}


def test_an_extension_is_chosen_again_for_the_torch_that_pip_plans(tmp_path):
    """Its file for the torch of today would be refused only when it lies in the stage."""
    moved = planned(torch=("2.12.0", TORCH_FILE), torch_scatter="2.0", scipy="1")
    installer = FakeInstaller(moved, moved)
    words = ["--allow-torch-change", "torch-scatter", "scipy"]
    selected, chooser, _, said = run(tmp_path, *words, installer=installer)
    assert [(names, torch, can_build) for names, torch, _, can_build in chooser.asked] == [
        (["torch-scatter"], "2.13.0+cpu", True),
        (["torch-scatter"], "2.12.0", False),
    ]
    assert len(chooser.obtained) == 2
    assert len(installer.questions) == 2
    assert sum("will be installed: extensions are chosen for it" in line for line in said) == 1
    assert str(selected.torch_after.version) == "2.12.0"
    (link,) = (tmp_path / "work" / "links").iterdir()
    assert os.readlink(link) == "/cache/x-for-2.12.0.whl"


class FailsHalfWay(FakeChooser):
    """Obtains the first file, and refuses the second."""

    def obtain(self, pin, environment, *, is_promised=False):
        if self.obtained:
            raise Refused(f"{pin.name} is not what its page promises", hint="H")
        return super().obtain(pin, environment, is_promised=is_promised)


def test_what_a_failed_choice_has_brought_is_not_installed(tmp_path):
    words = ["--allow-torch-change", "torch-scatter", "torch-sparse", "scipy"]
    selected, chooser, _, _ = run(
        tmp_path, *words, chooser=FailsHalfWay(), installer=FakeInstaller(planned(scipy="1"))
    )
    assert [name for name, _ in chooser.obtained] == ["torch-scatter"]
    assert steps_of(selected) == {"scipy": "1"}
    assert selected.artifacts == {}


def test_an_extension_that_needs_nothing_needs_no_pip(tmp_path):
    selected, chooser, installer, _ = run(tmp_path, "torch-scatter")
    assert steps_of(selected) == {"torch-scatter": "2.0"}
    assert installer.questions == []
    assert chooser.asked == [(["torch-scatter"], "2.13.0+cpu", set(), True)]
    assert list(selected.artifacts) == ["torch-scatter"]


def test_what_its_wheel_requires_is_pips(tmp_path):
    installer = FakeInstaller(planned(torch_scatter="2.0", scipy="1.10"))
    selected, _, _, _ = run(
        tmp_path, "torch-scatter", chooser=FakeChooser(requires=["scipy"]), installer=installer
    )
    assert steps_of(selected) == {"torch-scatter": "2.0", "scipy": "1.10"}
    ((_, _, constraints),) = installer.questions
    assert constraints[0] == "torch==2.13.0+cpu" and constraints[1].startswith(
        "torch-scatter @ file://"
    )
    assert installer.relayed == 1
    assert (
        "torch-sparse" in installer.without_source
        and "torch-scatter" not in installer.without_source
    )


def test_an_extension_with_an_extra_is_held_by_its_version(tmp_path):
    """pip 23.0 to 25.0: "No matching distribution found" for an extra beside an address. And what
    the extra requires comes, too."""
    installer = FakeInstaller(planned(torch_scatter="2.0", pytest="8"))
    chooser = FakeChooser(requires=["pytest; extra == 'test'"])
    selected, *_ = run(tmp_path, "torch-scatter[test]", chooser=chooser, installer=installer)
    assert steps_of(selected) == {"torch-scatter": "2.0", "pytest": "8"}
    ((_, _, constraints),) = installer.questions
    assert constraints == ("torch==2.13.0+cpu", "torch-scatter==2.0")


def test_an_extension_deep_in_pips_plan_is_chosen_and_pip_asked_again(tmp_path):
    answers = [planned(base="1", torch_scatter="1.0"), planned(base="1", torch_scatter="2.0")]
    selected, chooser, installer, _ = run(tmp_path, "base", installer=FakeInstaller(*answers))
    assert steps_of(selected) == {"base": "1", "torch-scatter": "2.0"}
    assert [names for names, *_ in chooser.asked] == [["torch-scatter"]]
    assert len(installer.questions) == 2 and installer.relayed == 1


def test_each_file_is_brought_once(tmp_path):
    answers = [
        planned(base="1", torch_scatter="1.0"),
        planned(base="1", torch_scatter="2.0", torch_sparse="1.0"),
        planned(base="1", torch_scatter="2.0", torch_sparse="2.0"),
    ]
    _, chooser, installer, said = run(tmp_path, "base", installer=FakeInstaller(*answers))
    assert [names for names, *_ in chooser.asked] == [
        ["torch-scatter"],
        ["torch-scatter", "torch-sparse"],
    ]
    assert said == [f"torch-{name} 2.0: https://h/x-2.0.whl" for name in ("scatter", "sparse")]
    assert [name for name, _ in chooser.obtained] == ["torch-scatter", "torch-sparse"]
    assert len(installer.questions) == 3


def test_what_nothing_fits_deep_in_a_plan_is_no_candidate_too(tmp_path):
    installer = FakeInstaller(planned(base="1", torch_scatter="1.0"))
    with pytest.raises(NoCandidate, match="no torch-scatter fits") as raised:
        run(tmp_path, "base", chooser=FakeChooser(missing=["torch-scatter"]), installer=installer)
    assert raised.value.exit_status == 10


def test_torch_may_move_where_that_is_permitted(tmp_path):
    torch = ("2.12.0+cpu", TORCH_FILE)
    selected, chooser, _, said = run(
        tmp_path,
        "--allow-torch-change",
        "torchvision",
        chooser=FakeChooser(missing=["torchvision"]),
        installer=FakeInstaller(planned(torch=torch)),
    )
    assert "no torchvision fits: pip chooses, and torch may move with it" in said
    assert steps_of(selected) == {"torch": "2.12.0+cpu"}
    assert str(selected.torch_after.version) == "2.12.0+cpu"
    assert "torch" in selected.released
    assert len(chooser.asked) == 1


def test_another_torch_comes_where_pip_cannot_find_what_fits(tmp_path):
    """Nothing in the metadata of a torch-scatter names its torch."""
    here = make_environment(torch="2.13.0+cu130")
    installer = FakeInstaller(planned(torch="2.14.1"), planned(torch="2.14.1", torch_scatter="2.0"))
    words = ["--allow-torch-change", "torch-scatter"]
    selected, _, _, said = run(
        tmp_path, *words, here=here, chooser=FitsNotHere(), installer=installer
    )
    assert "no torch-scatter fits: another torch is looked for" in said
    assert [question[:2] for question in installer.questions] == [
        ("torch", ("torch!=2.13.0",)),
        ("all", ("torch",)),
    ]
    assert steps_of(selected) == {"torch": "2.14.1", "torch-scatter": "2.0"}
    because = {step.name: (step.because, step.requested) for step in selected.plan.steps}
    assert because["torch"] == ("for torch-scatter", False)


MISSING_VISION = "ERROR: No matching distribution found for torchvision\n"


@pytest.mark.parametrize("words", [["torchvision"], ["base"]])
def test_another_torch_comes_where_pip_has_no_such_project(tmp_path, words):
    """pip may choose a torchvision, and its index has none; or pip's plan brings it."""
    here = make_environment(torch="2.13.0+cu130")
    first = (
        planned(base="1", torchvision="1.0")
        if words == ["base"]
        else Failed(PipFailed("pip failed", output=MISSING_VISION))
    )
    others = {"base": "1"} if words == ["base"] else {}
    last = planned(torch="2.14.1", torchvision="2.0", **others)
    installer = FakeInstaller(first, planned(torch="2.14.1"), last)
    selected, _, _, said = run(
        tmp_path,
        "--allow-torch-change",
        *words,
        here=here,
        chooser=FitsNotHere("torchvision"),
        installer=installer,
    )
    assert "no torchvision fits: another torch is looked for" in said
    assert [question[:2] for question in installer.questions] == [
        ("all", ()),
        ("torch", ("torch!=2.13.0",)),
        ("all", ("torch",)),
    ]
    assert steps_of(selected) == {"torch": "2.14.1", "torchvision": "2.0", **others}


def test_no_other_torch_is_the_error_of_the_installed_one(tmp_path):
    with pytest.raises(NoCandidate, match="no torch-scatter fits"):
        words = ["--allow-torch-change", "torch-scatter"]
        run(
            tmp_path,
            *words,
            chooser=FakeChooser(missing=["torch-scatter"]),
            installer=FakeInstaller(planned()),
        )


class FitsNotHere(FakeChooser):
    """What it knows is for another torch than 2.13."""

    def __init__(self, name="torch-scatter"):
        super().__init__()
        self.name = name

    def choose(self, requirements, environment, **options):
        self.missing = [self.name] if environment.torch.version.public == "2.13.0" else []
        return super().choose(requirements, environment, **options)


def test_a_torch_that_comes_is_asked_for_first(tmp_path):
    torch = ("2.12.0+cpu", TORCH_FILE)
    installer = FakeInstaller(planned(torch=torch), planned(torch=torch, torch_scatter="2.0"))
    selected, chooser, _, said = run(
        tmp_path, "torch", "torch-scatter", here=EMPTY, installer=installer
    )
    assert installer.questions[0] == ("torch", ("torch",), ())
    assert chooser.asked == [(["torch-scatter"], "2.12.0+cpu", set(), False)]
    assert "torch 2.12.0+cpu will be installed: extensions are chosen for it" in said
    assert steps_of(selected) == {"torch": "2.12.0+cpu", "torch-scatter": "2.0"}
    assert selected.selection.has_torch


def test_a_torch_that_the_declared_driver_cannot_run_is_refused(tmp_path):
    """Before extensions are chosen for it."""
    driver = Driver("470.57.02", "11.4", declared=True)
    here = make_environment(driver=driver)
    url = "https://h/torch-2.14.1%2Bcu130-cp311-cp311-linux_x86_64.whl"
    chooser = FakeChooser()
    with pytest.raises(Refused, match="470"):
        installer = FakeInstaller(planned(torch=("2.14.1+cu130", url)))
        words = ["-i", "https://download.pytorch.org/whl/cu130", "torch", "torch-scatter"]
        run(tmp_path, *words, here=here, chooser=chooser, installer=installer)
    assert chooser.asked == []


def test_pips_own_failure_is_shown_as_pip_says_it(tmp_path):
    error = PipFailed("pip failed", output="ERROR: No matching distribution found for six==99")
    installer = FakeInstaller(Failed(error))
    with pytest.raises(PipFailed) as raised:
        run(tmp_path, "six==99", installer=installer)
    assert raised.value is error and error.was_relayed and installer.relayed == 1


def test_pips_failure_to_say_which_torch_comes_is_shown_too(tmp_path):
    error = PipFailed("pip failed", output="ERROR: No matching distribution found for torch==99")
    installer = FakeInstaller(Failed(error))
    with pytest.raises(PipFailed):
        run(tmp_path, "torch==99", "torch-scatter", here=EMPTY, installer=installer)
    assert error.was_relayed and installer.relayed == 1


def test_a_plan_that_moves_torch_is_refused(tmp_path):
    with pytest.raises(Refused) as raised:
        run(
            tmp_path,
            "base",
            installer=FakeInstaller(planned(base="1", torch=("2.12.0+cpu", TORCH_FILE))),
        )
    assert [finding.check for finding in raised.value.findings] == ["torch-moved"]


def test_what_would_break_others_needs_consent(tmp_path):
    base, six = make_distribution("base", "1", requires=["six<2"]), make_distribution("six", "1")
    here = make_environment(base, six, torch="2.13.0+cpu")
    with pytest.raises(Refused, match="after this base 1 requires six<2"):
        run(tmp_path / "1", "six", here=here, installer=FakeInstaller(planned(six="2")))
    selected, *_ = run(
        tmp_path / "2",
        "--no-warn-conflicts",
        "six",
        here=here,
        installer=FakeInstaller(planned(six="2")),
    )
    assert "base" in selected.may_be_broken and "torch" not in selected.may_be_broken


def test_a_broken_extension_is_chosen_again(tmp_path):
    here = make_environment(make_distribution("torch-scatter", "2.0"), torch="2.13.0+cpu")
    health = make_health(imports={"torch_scatter": "ImportError: undefined symbol"})
    selected, chooser, _, _ = run(tmp_path, "torch-scatter", here=here, health=health)
    assert chooser.asked == [(["torch-scatter"], "2.13.0+cpu", {"torch-scatter"}, True)]
    assert steps_of(selected) == {"torch-scatter": "2.0"}


def test_what_is_there_is_said_in_pips_words(tmp_path):
    here = make_environment(make_distribution("torch-scatter", "2.0"), torch="2.13.0+cpu")
    selected, chooser, installer, said = run(tmp_path, "torch-scatter", here=here)
    assert selected.plan.steps == () and chooser.obtained == [] and installer.questions == []
    assert any(
        line.startswith("Requirement already satisfied: torch-scatter in /env") for line in said
    )


def test_a_dry_run_builds_nothing(tmp_path):
    chooser = FakeChooser(CandidateKind.SDIST)
    selected, _, _, _ = run(tmp_path, "--dry-run", "torch-scatter", chooser=chooser)
    assert (chooser.checked, chooser.obtained) == (["torch-scatter"], [])
    assert [(step.name, step.origin) for step in selected.plan.steps] == [
        ("torch-scatter", Origin.SDIST)
    ]
    (link,) = (tmp_path / "work" / "links").iterdir()
    assert link.suffix == ".whl"


def test_a_silent_host_is_named_where_it_is_the_reason_for_a_build(tmp_path):
    answers = [
        HostAnswer(
            "torch-scatter",
            "data.pyg.org",
            "https://data.pyg.org/whl",
            HostAnswerKind.DOWN,
            detail="timed out",
        )
    ]
    _, _, _, said = run(
        tmp_path, "torch-scatter", chooser=FakeChooser(CandidateKind.SDIST, answers=answers)
    )
    assert "torch-scatter: data.pyg.org does not answer (timed out)" in said
    _, _, _, said = run(tmp_path / "2", "torch-scatter", chooser=FakeChooser(answers=answers))
    assert not any("does not answer" in line for line in said)


def test_config_settings_do_not_reach_an_extension(tmp_path):
    lines = 'torch-scatter --config-settings "a=b"\n'
    chooser = FakeChooser(CandidateKind.SDIST)
    _, _, _, said = run(tmp_path, "-r", "r.txt", chooser=chooser, files={"r.txt": lines})
    assert any(
        "config settings are not passed to the build of an extension" in line for line in said
    )


@pytest.mark.parametrize("given", ["right", "wrong"])
def test_the_hash_of_a_requirements_file_holds_for_our_choice(tmp_path, given):
    right = hashlib.sha256(b"torch-scatter").hexdigest()
    lines = f"torch-scatter --hash=sha256:{right if given == 'right' else '0' * 64}\n"
    if given == "right":
        _, chooser, _, _ = run(tmp_path, "-r", "r.txt", files={"r.txt": lines})
        assert chooser.obtained == [("torch-scatter", True)]
    else:
        with pytest.raises(HashMismatch, match="none of the hashes given there"):
            run(tmp_path, "-r", "r.txt", files={"r.txt": lines})


@pytest.mark.parametrize("target", ["-", "file"])
def test_the_report_goes_where_the_person_wants_it(tmp_path, target):
    place = target if target == "-" else str(tmp_path / "report.json")
    answer = planned(six="1")
    _, _, _, said = run(tmp_path, "six", "--report", place, installer=FakeInstaller(answer))
    text = said[-1] if target == "-" else (tmp_path / "report.json").read_text()
    assert json.loads(text) == answer.report


@pytest.mark.parametrize(
    ("words", "missing"),
    [(["torch"], "torch"), (["torch", "torch-scatter"], "torch"), (["six>=2"], "six>=2")],
)
def test_offline_says_what_is_missing_and_what_to_do(tmp_path, words, missing):
    lines = f"ERROR: No matching distribution found for {missing}\n"
    installer = FakeInstaller(Failed(PipFailed("pip failed", output=lines)))
    with pytest.raises(NoCandidate) as raised:
        run(tmp_path, "--offline", *words, here=EMPTY, installer=installer)
    assert raised.value.message == f"no {missing} was found, and --offline asks no host"
    assert raised.value.lacking_offline == missing
    assert raised.value.hint == (
        "Leave --offline out, or name a folder that has it: --find-links DIR."
    )
    assert installer.relayed == 0


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["six"], "ERROR: No matching distribution found for six\n"),
        (["--offline", "six"], "ERROR: Could not install packages due to an OSError\n"),
    ],
)
def test_another_failure_of_pips_is_said_by_pip(tmp_path, words, output):
    installer = FakeInstaller(Failed(PipFailed("pip failed", output=output)))
    with pytest.raises(PipFailed):
        run(tmp_path, *words, installer=installer)
    assert installer.relayed == 1


def test_wishes_are_the_persons_options():
    argv = [
        "--no-build",
        "--offline",
        "--pre",
        "-i",
        "https://h/simple",
        "--require-hashes",
        "--no-toolkit",
        "x",
    ]
    wishes = make_choice_options(
        parse_install(split_words(argv), environ={}, configuration={}, read=lambda name: "")
    )
    assert (
        wishes.no_build
        and wishes.offline
        and wishes.pre
        and wishes.require_hashes
        and wishes.no_toolkit
    )
    assert wishes.index_url == "https://h/simple"

"""The plan of a lock, with an installer and a chooser of a few lines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from safe_install.errors import HashMismatch, NoCandidate, PipFailed, Refused
from safe_install.events import Reporter
from safe_install.index.catalog import bundled_catalog
from safe_install.index.torch_files import Absent, TorchFile
from safe_install.models import Action, Candidate, CandidateKind, Link, Origin
from safe_install.pipeline.session import Session
from safe_install.ports import Timings, World
from safe_install.resolve.command_line import split_words
from safe_install.resolve.provider import Resolution
from safe_install.resolve.request import parse_install
from safe_install.resolve.rounds import Failed, Planned
from safe_install.snapshot.difference import Deviation, Difference
from safe_install.snapshot.lock_plan import LockPlanner, is_version_of
from safe_install.snapshot.locked import NO_NAME, LockedDistribution, LockedEnvironment
from safe_install.snapshot.values import DirectorySource, IndexSource
from tests.factories import make_distribution, make_environment

SHA = "a" * 64
FILENAME = "six-1.0-py3-none-any.whl"
NOT_ASKED = Absent("not asked")


class FakeInstaller:
    """Plans what `files` has for each line; keeps the lines."""

    def __init__(self, **files):
        self.asked = []
        self.relayed = 0
        self._files = files

    def plan_exactly(self, lines, folder):
        self.asked.append(list(lines))
        if "fails" in self._files:
            return Failed(PipFailed("pip says no", output=self._files["fails"]))
        entries = []
        for line in lines:
            name, version, url = self._files.get(
                line, (line.split("==")[0], line.split("==")[-1], None)
            )
            url = url or f"https://index/{name}-{version.split()[0]}-py3-none-any.whl"
            entries.append(
                {
                    "metadata": {"name": name, "version": version.split()[0]},
                    "download_info": {"url": url, "archive_info": {"hashes": {"sha256": SHA}}},
                    "requested": True,
                }
            )
        return Planned({"install": entries})

    def relay(self):
        self.relayed += 1


class FakeChooser:
    """Has a wheel of each extension, or its source; torch lies at its host."""

    def __init__(self, kind=CandidateKind.WHEEL, pages=NOT_ASKED):
        self.kind, self.built, self.asked, self.obtained = kind, [], [], []
        self.promised = []
        self.torch_pages = SimpleNamespace(find_torch=lambda build, interpreter: pages)

    def choose(self, requirements, environment, *, upgrade=()):
        self.asked.append(([str(one) for one in requirements], environment.torch.runtime_version))
        if self.kind is None:
            raise NoCandidate("none fits")
        pins = []
        for requirement in requirements:
            version = next(iter(requirement.specifier)).version
            link = Link(f"https://h/{requirement.name}-{version}.whl", "x.whl", SHA)
            pins.append(
                Candidate(canonicalize_name(requirement.name), Version(version), self.kind, link)
            )
        # what an extension brings along is not in the file
        other = Candidate(canonicalize_name("pyg-lib"), Version("1"), self.kind, Link("u", "f"))
        return Resolution((*pins, other), (), ())

    def prefetch(self, pins):
        pass

    def obtain(self, pin, environment, *, is_promised=False):
        self.obtained.append(pin.name)
        if is_promised:
            self.promised.append(pin.name)
        return pin, SimpleNamespace(version=pin.version, sha256=SHA)


def locked(name, version="1.0", source=None, hashes=(), line=""):
    return LockedDistribution(
        canonicalize_name(name) if name else NO_NAME,
        version,
        source,
        tuple(hashes),
        line=line or f"{name}=={version}",
    )


def plan(*wanted, installer=None, chooser=None, here=None, extra=(), words=("x",), text=""):
    """`text`: of the requirements file that `words` name."""
    request = parse_install(
        split_words(words), environ={}, configuration={}, read=lambda name: text
    )
    environment = here or make_environment(torch="2.13.0+cpu")
    world = World({}, Reporter(), None)
    session = Session(request, environment, world, Timings(), Path("/work"))
    deviations = [
        Deviation(one, environment.installed.get(one.name), "not installed") for one in wanted
    ]
    planner = LockPlanner(
        session,
        installer or FakeInstaller(),
        chooser or FakeChooser(),
        bundled_catalog(),
        "r.txt",
    )
    return planner.plan(
        LockedEnvironment(tuple(wanted)), Difference(tuple(deviations), tuple(extra))
    )


def test_a_wheel_at_a_known_address_asks_nobody():
    installer, chooser = FakeInstaller(), FakeChooser()
    source = IndexSource("", f"https://h/{FILENAME}", FILENAME, SHA)
    found = plan(
        locked("six", source=source, hashes=[f"sha256:{SHA}"]), installer=installer, chooser=chooser
    )
    assert [(step.name, step.sha256) for step in found.plan.steps] == [("six", SHA)]
    assert (installer.asked, chooser.asked) == ([], [])
    assert found.torch.runtime_version == "2.13.0+cpu"


def test_pip_is_asked_once_for_lines_with_hashes_and_once_for_the_others():
    installer = FakeInstaller()
    wanted = [locked("a"), locked("b", hashes=["sha256:00", "sha256:11"]), locked("c")]
    found = plan(*wanted, installer=installer)
    assert installer.asked == [["b==1.0 --hash=sha256:00 --hash=sha256:11"], ["a==1.0", "c==1.0"]]
    assert installer.relayed == 2
    assert {step.name: step.is_locked for step in found.plan.steps} == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert {step.because for step in found.plan.steps} == {"as r.txt says"}


def test_what_goes_comes_last_and_a_name_from_its_sources_does_not_go():
    installer = FakeInstaller(**{"./src": ("mine", "2.0", "file:///src")})
    here = make_environment(make_distribution("mine", "1.0"), make_distribution("old", "1.0"))
    found = plan(
        locked("", "", DirectorySource("/src"), line="./src"),
        installer=installer,
        here=here,
        extra=here.installed.values(),
    )
    assert [(step.action, step.name) for step in found.plan.steps] == [
        (Action.REPLACE, "mine"),
        (Action.REMOVE, "old"),
    ]


def test_the_hash_of_an_extension_is_a_promise_that_is_kept():
    """Where its wheel lies in a folder that the file names, nobody else has one."""
    wanted = locked("torch-scatter", "2.1.2", hashes=[f"sha256:{SHA}"])
    line = f"torch-scatter==2.1.2 --hash=sha256:{SHA}"
    chooser = FakeChooser()
    plan(wanted, chooser=chooser, words=("-r", "r.txt"), text=line)
    assert chooser.promised == ["torch-scatter"]
    with pytest.raises(HashMismatch, match="none of the hashes"):
        plan(wanted, words=("-r", "r.txt"), text=line.replace(SHA, "0" * 64))


def test_extensions_are_chosen_for_the_torch_that_will_be_there():
    chooser, installer = FakeChooser(), FakeInstaller()
    found = plan(
        locked("torch", "2.12.0+cpu"),
        locked("torch-scatter", "2.1.2+pt212cpu"),
        installer=installer,
        chooser=chooser,
    )
    assert installer.asked == [["torch==2.12.0+cpu"]]
    assert chooser.asked == [(["torch-scatter==2.1.2+pt212cpu"], "2.12.0+cpu")]
    assert chooser.obtained == ["torch-scatter"]
    assert list(found.artifacts) == ["torch-scatter"]
    assert [step.name for step in found.plan.steps] == ["torch", "torch-scatter"]
    assert found.torch.runtime_version == "2.12.0+cpu"


def test_a_dry_run_brings_no_extension():
    chooser = FakeChooser()
    found = plan(locked("torch-scatter", "2.1.2"), chooser=chooser, words=("--dry-run", "x"))
    assert chooser.obtained == []
    assert [step.version for step in found.plan.steps] == ["2.1.2"]


def test_an_extension_that_fits_no_torch():
    with pytest.raises(NoCandidate):
        plan(locked("torch-scatter", "2.1.2"), chooser=FakeChooser(kind=None))


def test_an_extension_is_built_for_the_torch_that_is_here_alone():
    chooser = FakeChooser(kind=CandidateKind.SDIST)
    found = plan(locked("torch-scatter", "2.1.2"), chooser=chooser)
    assert [step.origin for step in found.plan.steps] == [Origin.SDIST]
    with pytest.raises(Refused, match=r"no wheel for torch 2\.12\.0"):
        plan(locked("torch", "2.12.0+cpu"), locked("torch-scatter", "2.1.2"), chooser=chooser)


def test_without_torch_pip_is_asked_for_an_extension():
    installer = FakeInstaller()
    plan(locked("torch-scatter", "2.1.2"), installer=installer, here=make_environment())
    assert installer.asked == [["torch-scatter==2.1.2"]]


def torch_file(metadata):
    link = Link("https://h/torch.whl", "torch.whl", SHA)
    version = Version("2.12.0+cpu")
    return TorchFile(
        Candidate(canonicalize_name("torch"), version, CandidateKind.WHEEL, link), metadata
    )


@pytest.mark.parametrize(("metadata", "obtained"), [("Name: torch", []), (None, ["torch"])])
def test_a_torch_that_no_package_index_has(metadata, obtained):
    installer, chooser = FakeInstaller(), FakeChooser(pages=torch_file(metadata))
    found = plan(locked("torch", "2.12.0+cpu"), installer=installer, chooser=chooser)
    assert installer.asked == []
    assert chooser.obtained == obtained
    assert [step.url for step in found.plan.steps] == ["https://h/torch.whl"]


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("2.12.0", ("x",)),
        ("2.12.0+cpu", ("-f", "/wheels", "x")),
        ("2.12.0+cpu", ("--no-index", "x")),
    ],
)
def test_a_torch_that_pip_may_find(version, words):
    installer, chooser = FakeInstaller(), FakeChooser(pages=torch_file("Name: torch"))
    plan(locked("torch", version), installer=installer, chooser=chooser, words=words)
    assert installer.asked == [[f"torch=={version}"]]


def test_what_pip_says_of_a_failure_is_relayed():
    installer = FakeInstaller(fails="ERROR: no")
    with pytest.raises(PipFailed) as caught:
        plan(locked("a"), installer=installer)
    assert caught.value.was_relayed and installer.relayed == 1


def test_offline_pip_may_find_nothing():
    output = "ERROR: No matching distribution found for a==1.0"
    with pytest.raises(NoCandidate, match="--offline"):
        plan(locked("a"), installer=FakeInstaller(fails=output), words=("--offline", "x"))


def test_another_project_at_an_address():
    installer = FakeInstaller(**{"a==1.0": ("b", "1.0", None)})
    with pytest.raises(Refused, match=r"pip plans b 1\.0"):
        plan(locked("a"), installer=installer)


@pytest.mark.parametrize(
    ("version", "is_same"), [("1.0", True), ("1.0.0", True), ("1.1", False), ("1-2-x", False)]
)
def test_the_version_that_was_planned(version, is_same):
    artifact = SimpleNamespace(version=Version("1.0"), written_version="1.0.0")
    assert is_version_of(version, artifact) == is_same

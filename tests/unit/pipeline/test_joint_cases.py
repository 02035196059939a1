"""torch and its extensions, chosen together: tests/cases/joint/*.json, over a small frozen index.

A case is a command line, perhaps a machine, and what the rules make of it: the torch, a version for
each extension, and why a torch before it was not taken; or the wishes that exclude each other. The
form: tests/cases/joint/README.md.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from packaging.utils import canonicalize_name

from safe_install.commands import explain as explain_command
from safe_install.errors import NoCandidate, SafeInstallError
from safe_install.events import Reporter
from safe_install.index.document import parse_cuda_table, parse_project, parse_torch_table
from safe_install.index.finder import Finder
from safe_install.index.torch_files import Listing, TorchFile, make_candidate
from safe_install.models import Action, Device, Driver, Link, Step
from safe_install.pipeline.choice import IndexChooser
from safe_install.pipeline.joint_choice import JointChoice
from safe_install.ports import World
from safe_install.resolve import decisions
from safe_install.resolve.command_line import parse_command_line
from safe_install.resolve.decisions import Selection
from safe_install.resolve.explain_request import parse_explain
from safe_install.resolve.opening import open_selection
from safe_install.resolve.provider import is_known, resolve
from safe_install.resolve.request import parse_install
from safe_install.resolve.rounds import Refusal
from safe_install.resolve.target import environment_for
from safe_install.system.http import PageAnswer, PageStatus
from tests.factories import make_distribution

CASES = Path(__file__).parents[2] / "cases" / "joint"
DATED = {"checked": "2026-11-29", "sources": ["made for these cases"], "doubts": []}
EMPTY_PROJECT = {
    **{
        key: []
        for key in ("imports", "native", "requires", "aliases", "builds", "sdists", "wheels")
    },
    "operation": None,
    "pins_torch": False,
    "pins": {},
    "sha256": {},
}


class FrozenCatalog:
    """The Catalog of index.json."""

    def __init__(self) -> None:
        text = json.loads((CASES / "index.json").read_text("utf-8"))
        self.torch = parse_torch_table(
            {"schema": 1, "hosts": [], **text["torch"], **DATED}, "torch"
        )
        self.cuda = parse_cuda_table({"schema": 1, **text["cuda"], **DATED}, "cuda")
        self._projects = {}
        for item in text["projects"]:
            document = {"schema": 1, **EMPTY_PROJECT, **item, **DATED}
            self._projects[canonicalize_name(item["name"])] = parse_project(document, item["name"])
        self.projects = frozenset(self._projects)

    def project(self, name):
        return self._projects[canonicalize_name(name)]


class FrozenPages:
    """Hosts with these pages; "down" and "missing" are answers, too, and every other page is
    missing."""

    def __init__(self, pages: Dict[str, Any]) -> None:
        self._pages = pages
        self.asked = []

    def get_page(self, url, **options):
        self.asked.append(url)
        found = self._pages.get(url, self._pages.get("*", "missing"))
        if found == "down":
            return PageAnswer(url, PageStatus.DOWN, detail="connection refused")
        if found == "missing":
            return PageAnswer(url, PageStatus.MISSING, detail="404")
        links = "".join(f'<a href="{link}">{link}</a>\n' for link in found)
        return PageAnswer(url, PageStatus.LISTED, links, "text/html")


class FrozenChooser:
    """A Chooser over the frozen index: the real finder and the real rules."""

    def __init__(self, catalog, pages, *, pre, no_build, offline, trusts_facts=False):
        self._catalog, self._pre, self._no_build = catalog, pre, no_build
        self._trusts_facts = trusts_facts
        self.torch_pages = FrozenTorchPages()
        self._finder = Finder(http=pages, catalog=catalog, offline=offline)
        self._known = Finder(http=pages, catalog=catalog, offline=True, only_near=True)

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
        return resolve(
            requirements,
            environment,
            find=self._finder.find,
            catalog=self._catalog,
            constraints=constraints,
            pre=self._pre,
            allow_build=allow_build and not self._no_build,
            trusts_facts=self._trusts_facts,
            upgrade=frozenset(upgrade),
            keep_version=frozenset(keep_version),
        )

    def is_known(self, requirement, environment, *, constraints=()):
        return is_known(
            requirement,
            environment,
            find=self._known.find,
            catalog=self._catalog,
            constraints=constraints,
            pre=self._pre,
        )


class FrozenTorchPages:
    """The pages of torch have what the index says."""

    def list_torch(self, accelerator, interpreter):
        return Listing(f"https://download.pytorch.org/whl/{accelerator}/torch/")

    def find_torch(self, build, interpreter):
        filename = f"torch-{build.version}-cp311-cp311-linux_x86_64.whl"
        link = Link(
            f"https://download.pytorch.org/whl/{build.accelerator}/{filename}",
            filename,
            sha256="0" * 64,
        )
        return TorchFile(make_candidate("torch", build.version, build.accelerator, link, None))


def read_cases():
    found = []
    for path in sorted(CASES.glob("*.json")):
        if path.name != "index.json":
            for case in json.loads(path.read_text("utf-8")):
                found.append(pytest.param(case, id=f"{path.stem}: {case['name']}"))
    return found


ALL = read_cases()
CATALOG = FrozenCatalog()


def make_machine(case):
    """The machine of a case: what is here."""
    said = {"python": "3.11", "platform": "manylinux_2_36_x86_64", **case.get("machine", {})}
    driver = None
    if "driver" in said or "gpu" in said:
        version = said.get("driver")
        devices = tuple(Device("declared", gpu) for gpu in said.get("gpu", ()))
        cuda = CATALOG.cuda.cuda_of_driver(version or "")
        driver = Driver(version, cuda, devices, declared=said.get("declared", False))
    environment = environment_for(
        torch=said.get("torch"),
        python_version=said["python"],
        platform=said["platform"],
        torch_table=CATALOG.torch,
        driver=driver,
    )
    if environment.torch is not None:
        environment.installed[canonicalize_name("torch")] = make_distribution(
            "torch", str(environment.torch.version)
        )
    return environment


# --- explain --------------------------------------------------------------------------------------


def ask_explain(case, monkeypatch):
    """The whole command, with the frozen index in place of the bundled one."""
    words = [*case["ask"].split(), *([] if "pages" in case else ["--offline"])]
    line = parse_command_line(words)
    request = parse_explain(line.words, environ={}, configuration={}, read=str)
    if "machine" in case:
        monkeypatch.setattr(
            explain_command, "environment_asked_for", lambda *_, **__: make_machine(case)
        )
    monkeypatch.setattr(explain_command, "bundled_catalog", lambda: CATALOG)
    monkeypatch.setattr(explain_command, "known_projects", lambda: CATALOG.projects)
    pages = FrozenPages(case.get("pages", {}))

    def make_chooser(wishes, world, credentials):
        return FrozenChooser(
            CATALOG,
            pages,
            pre=wishes.pre,
            no_build=wishes.no_build,
            offline=wishes.offline,
            trusts_facts=wishes.trusts_facts,
        )

    monkeypatch.setattr(explain_command, "IndexChooser", make_chooser)
    monkeypatch.setattr(explain_command, "cpu_fallback_notes", lambda *_: ())
    world = World(environ={}, reporter=Reporter(), cache_dir=Path("/nowhere"))
    return explain_command.explain(request, world)


def check_explained(case, result):
    pins = {step.name: step.version for step in result.plan.steps if step.name != "torch"}
    assert pins == case.get("pins", {})
    if "--no-build" not in case["ask"]:
        assert not any("--no-build" in rejection.detail for rejection in result.plan.rejections)
    details = result.details
    assert details.get("torch", {}).get("version") == case["torch"]
    if case["torch"] is None:
        return
    silent = [one.subject for one in result.findings if one.check == "host-down"]
    assert silent == case.get("silent", silent)
    reasons = {row["torch"]: row["reason"] for row in details["not_taken"]}
    assert case["torch"] not in reasons
    for version, text in case.get("not_taken", {}).items():
        assert text in reasons[version]
    unknown = [one.detail for one in result.findings if one.check == "gpu-code-not-known"]
    assert unknown == case.get("gpu_code_not_known", [])
    for key in ("is_on_index", "warning", "command"):
        if key in case:
            found = details["command"] if key == "command" else details["torch"][key]
            assert case[key] == found if isinstance(case[key], bool) else case[key] in found


# --- install --------------------------------------------------------------------------------------


def ask_install(case):
    """What install does before pip is asked for the rest. `planned`: the torch that pip would
    take."""
    here = make_machine(case)
    files = case.get("files", {})
    words = parse_command_line(case["ask"].split()).words
    request = parse_install(words, environ={}, configuration={}, read=files.__getitem__)
    wanted = decisions.make_wanted(request, here)
    opening = open_selection(wanted, here, CATALOG)
    if isinstance(opening, Refusal):
        raise opening.error
    selection = Selection(here, here)
    if opening.torch_requirements:
        step = Step(Action.ADD, canonicalize_name("torch"), case["planned"])
        selection = decisions.add_torch(selection, [step], CATALOG)
    selection = decisions.add_extensions(selection, opening.extensions)
    chooser = FrozenChooser(CATALOG, FrozenPages({}), pre=request.pre, no_build=True, offline=True)

    def resolve_for(selection):
        return chooser.choose(
            tuple(selection.extensions.values()),
            selection.planned,
            constraints=wanted.constraints,
            upgrade=decisions.find_upgrades(selection, wanted, CATALOG),
            allow_build=False,
        )

    joint = JointChoice(
        wanted,
        CATALOG,
        chooser,
        chooser.torch_pages,
        resolve=resolve_for,
        check_torch=lambda torch: None,
    )
    chosen, resolution = joint.choose(selection)
    return chosen, resolution


def check_installed(case, chosen, resolution):
    assert chosen.planned.torch.runtime_version == case["torch"]
    assert {pin.name: str(pin.version) for pin in resolution.pins} == case["pins"]
    passed = {one.build.runtime_version: one.reason.text for one in chosen.torch_choice.passed_over}
    for version, text in case.get("not_taken", {}).items():
        assert text in passed[version]


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL)
def test_case(case, monkeypatch):
    is_install = case["ask"].startswith("install")
    if "exit_status" not in case:
        if is_install:
            check_installed(case, *ask_install(case))
        else:
            check_explained(case, ask_explain(case, monkeypatch))
        return
    with pytest.raises(SafeInstallError) as raised:
        ask_install(case) if is_install else ask_explain(case, monkeypatch)
    error = raised.value
    assert error.exit_status == case["exit_status"]
    for text in case.get("message", []):
        assert text in error.message
    for text in case.get("hint", []):
        assert text in error.hint
    if "conflict" in case:
        assert isinstance(error, NoCandidate)
        found = error.details["conflict"]
        assert found["wishes"] == case["conflict"]
        assert [[*way["without"], way["torch"]] for way in found["ways"]] == case["ways"]
        assert found["is_open"] == case.get("is_open", False)


def test_there_are_enough_cases():
    assert len(ALL) >= 60
    assert len({case.id for case in ALL}) == len(ALL)


def test_the_chooser_of_the_command_takes_the_same_arguments():
    for name in ("choose", "is_known"):
        assert hasattr(IndexChooser, name)

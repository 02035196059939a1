"""The choice of a change as values: what was decided so far, and how it is extended. Pure.

We choose extensions; the installer (pip) chooses everything else under our constraints.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Collection, FrozenSet, Iterable, Mapping, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.index.facts import Catalog, Project
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    HealthReport,
    HostAnswer,
    Plan,
    Rejection,
    Step,
    TorchBuild,
)
from safe_install.requirements import parse_requirement
from safe_install.resolve import plan as planning
from safe_install.resolve.carried import Bound, is_near
from safe_install.resolve.companions import installed_candidate, says_its_torch
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.guard import guard_constraints, names_released
from safe_install.resolve.permission import names_written_here, torch_terms
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_choice import (
    TorchChoice,
)
from safe_install.resolve.torch_ranking import TorchTerms
from safe_install.torch_family import TORCH


@dataclass(frozen=True)
class Wanted:
    """The part of a request that the choice depends on."""

    entries: Tuple[Entry, ...]
    constraints: Tuple[Requirement, ...] = ()
    named: FrozenSet[NormalizedName] = frozenset()  # by the command line, for this interpreter
    released: FrozenSet[NormalizedName] = frozenset()  # guarded names that may move
    has_other_inputs: bool = False  # editables, groups, scripts, locks: only pip reads them
    has_lock: bool = False  # a pylock.toml names the files itself
    # packages come from other places than pypi.org, or it may not be asked
    has_own_places: bool = False
    wants_report: bool = False  # --report: pip's own words
    upgrade: bool = False
    force_reinstall: bool = False
    no_deps: bool = False
    no_build: bool = False
    allow_torch_change: bool = False
    keep_extensions: bool = False
    torch: TorchTerms = field(default_factory=TorchTerms)  # which torch may come


def make_wanted(request: InstallRequest, environment: Environment) -> Wanted:
    """The part of a request that the choice depends on."""
    constraints = [parse_requirement(entry.text) for entry in request.constraints]
    named = names_written_here(request, environment)
    own = request.own
    released = names_released(environment, named=named, allow_torch_change=own.allow_torch_change)
    return Wanted(
        entries=request.entries,
        constraints=tuple(one for one in constraints if one is not None),
        named=named,
        released=frozenset(released),
        has_other_inputs=bool(request.editables) or request.has_pip_inputs,
        has_lock=request.has_lock,
        has_own_places=bool(request.index_urls or request.find_links)
        or request.no_index
        or own.offline,
        wants_report=request.report_file is not None,
        upgrade=request.upgrade,
        force_reinstall=request.force_reinstall,
        no_deps=request.no_deps,
        no_build=own.no_build,
        allow_torch_change=own.allow_torch_change,
        keep_extensions=own.keep_extensions,
        torch=torch_terms(request, environment),
    )


@dataclass(frozen=True)
class Pin:
    """The file chosen for an extension, as it is offered to pip."""

    candidate: Candidate
    url: str  # of a wheel on this machine
    version: str
    sha256: Optional[str] = None
    requires: Tuple[str, ...] = ()  # by the METADATA of the wheel
    # an empty wheel, of what is built later: a dry run does not build, and torch is planned first
    is_placeholder: bool = False
    # of the plan, for which it was built; "": for a torch that is installed, or not here
    torch_file: str = ""

    @property
    def name(self) -> NormalizedName:
        """The project."""
        return self.candidate.name


@dataclass(frozen=True)
class Selection:
    """What was decided so far."""

    here: Environment  # as it is
    planned: Environment  # with the torch that comes: what extensions are chosen for
    coming_torch: Optional[TorchBuild] = None
    torch_choice: TorchChoice = field(default_factory=TorchChoice)
    # the projects that we choose
    extensions: Mapping[NormalizedName, Requirement] = field(default_factory=dict)
    # installed extensions that are for the torch of today
    bound: Bound = field(default_factory=dict)
    carried: FrozenSet[NormalizedName] = frozenset()  # those that go along, because torch moves
    pins: Mapping[NormalizedName, Pin] = field(default_factory=dict)
    # a torch that no index of pip's has
    torch_pins: Mapping[NormalizedName, Pin] = field(default_factory=dict)
    broken: FrozenSet[NormalizedName] = frozenset()  # installed extensions that do not load
    rejections: Tuple[Rejection, ...] = ()
    answers: Tuple[HostAnswer, ...] = ()

    @property
    def has_torch(self) -> bool:
        """Is torch installed, or part of this change?"""
        return self.here.torch is not None or self.coming_torch is not None

    @property
    def files(self) -> Tuple[Pin, ...]:
        """The files that are offered to the installer."""
        return (*self.torch_pins.values(), *self.pins.values())


def add_torch(selection: Selection, steps: Sequence[Step], catalog: Catalog) -> Selection:
    """The selection with the torch of the installer's plan; from now on extensions are chosen for
    it.

    Where we chose torch, the installer's plan tells which build of it comes.
    """
    choice = selection.torch_choice
    step = next((step for step in steps if step.name == TORCH), None)
    if (
        step is None
        or step.version is None
        or (selection.coming_torch is not None and not choice.is_assumed)
    ):
        return selection
    build = planned_torch(step.version, selection.here.interpreter.platform, catalog.torch)
    build = dataclasses.replace(build, file=step.sha256)
    here = selection.here.torch
    if here is not None and here.runtime_version == build.runtime_version:
        return selection  # the same build again (--force-reinstall): extensions fit it as before
    # An extension in pip's plan is checked, but that is no reason for us to choose it.
    others = tuple(
        step for step in steps if step.name == TORCH or step.name not in catalog.projects
    )
    installed = planning.planned_distributions(Plan(others), selection.here)
    planned = dataclasses.replace(selection.here, torch=build, installed=installed)
    choice = dataclasses.replace(
        choice,
        planned=choice.planned or build,
        is_fixed=choice.is_fixed or step.is_direct,
        is_assumed=False,
    )
    return dataclasses.replace(selection, coming_torch=build, planned=planned, torch_choice=choice)


def add_extensions(selection: Selection, requirements: Iterable[Requirement]) -> Selection:
    """The selection with more extensions to choose. A project that was added before must meet both
    requirements."""
    extensions = dict(selection.extensions)
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        present = extensions.get(name)
        if present is not None:
            requirement = Requirement(
                f"{requirement.name}{present.specifier & requirement.specifier}"
            )
        extensions[name] = requirement
    return dataclasses.replace(selection, extensions=extensions)


def carry_along(selection: Selection, steps: Sequence[Step], wanted: Wanted) -> Selection:
    """The selection with the installed extensions that must change together with torch.

    Left out are extensions that the user named, that the installer's own plan changes, or that do
    not load today. With a lock file none is added: it names everything itself.
    """
    moves = selection.coming_torch is not None or selection.torch_choice.is_open
    if not moves or wanted.keep_extensions or wanted.has_lock:
        return selection
    settled = names_asked_for(wanted, selection.here) | selection.broken | set(selection.extensions)
    settled |= {step.name for step in steps}
    names = [name for name in selection.bound if name not in settled]
    extended = add_extensions(selection, [Requirement(str(name)) for name in names])
    return dataclasses.replace(extended, carried=selection.carried | set(names))


def names_asked_for(wanted: Wanted, here: Environment) -> FrozenSet[NormalizedName]:
    """The projects that the command line and the requirements files name for this interpreter."""
    found = set(wanted.named)
    for entry in wanted.entries:
        requirement, name = parse_requirement(entry.text), named(entry.text)
        if name is not None and (requirement is None or planning.applies(requirement, here)):
            found.add(name)
    return frozenset(found)


def is_torch_to_move(wanted: Wanted) -> bool:
    """Does the command line ask for a newer torch than the installed one (`-U torch`), with builds
    permitted?"""
    return wanted.upgrade and TORCH in wanted.named and not wanted.no_build


def leave_behind(selection: Selection, names: Collection[NormalizedName]) -> Selection:
    """The selection without some of the extensions that would change together with torch: they stay
    as they are."""
    left = selection.carried & set(names)
    extensions = {
        name: requirement for name, requirement in selection.extensions.items() if name not in left
    }
    return dataclasses.replace(selection, extensions=extensions, carried=selection.carried - left)


def may_stay(name: NormalizedName, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Is it installed, and does it fit the new torch?"""
    found = selection.here.installed.get(name)
    if found is None or name in find_upgrades(selection, wanted, catalog):
        return False
    project = catalog.project(name)
    candidate = installed_candidate(found, project, selection.planned.torch)
    context = Context(project, selection.planned, catalog, pre=True)
    return candidate is not None and check_candidate(candidate, context) is None


def add_pin(selection: Selection, pin: Pin) -> Selection:
    """The selection with the file that was chosen for an extension."""
    return dataclasses.replace(selection, pins={**selection.pins, pin.name: pin})


def find_unbuilt(selection: Selection) -> Tuple[Candidate, ...]:
    """The candidates that are still to be built, with a placeholder in the plan."""
    return tuple(pin.candidate for pin in selection.pins.values() if pin.is_placeholder)


def find_torch_file(steps: Sequence[Step]) -> str:
    """The wheel of torch in a plan: its sha256, else its URL; "" where the plan has no torch."""
    step = next((step for step in steps if step.name == TORCH), None)
    return (step.sha256 or step.url or "") if step is not None else ""


def is_broken(report: HealthReport, project: Project) -> bool:
    """Is it an installed extension that does not load? Then the same version, built for this torch,
    is worth installing."""
    answers = {**report.imports, **report.operations}
    asked = [
        answers.get(key)
        for key in (*project.imports, f"{project.name} native part", f"{project.name} on cpu")
    ]
    return any(answer is not None and not answer.ok for answer in asked)


def find_upgrades(
    selection: Selection, wanted: Wanted, catalog: Catalog
) -> FrozenSet[NormalizedName]:
    """The extensions whose installed version need not stay: named with -U, or broken beside this
    torch."""
    names = frozenset(selection.extensions)
    is_meant = wanted.upgrade or wanted.force_reinstall
    meant = names - selection.carried if is_meant else frozenset()
    return meant | {name for name in names if _cannot_stay(name, selection, catalog)}


def _cannot_stay(name: NormalizedName, selection: Selection, catalog: Catalog) -> bool:
    """Is it installed, and broken or not known to fit the new torch?"""
    found = selection.here.installed.get(name)
    if found is None:
        return False
    if name in selection.broken:
        return True
    today, coming, project = selection.here.torch, selection.coming_torch, catalog.project(name)
    if coming is None:
        return False
    if name in selection.carried and today is not None:
        return not is_near(found, project, today, coming)
    return not says_its_torch(found, project)


def stays(
    name: NormalizedName, version: str, selection: Selection, wanted: Wanted, catalog: Catalog
) -> bool:
    """Is this version installed and working? As with pip, `-U` does not install it again."""
    found = selection.here.installed.get(name)
    is_replaced = wanted.force_reinstall and name not in selection.carried
    if found is None or is_replaced or _cannot_stay(name, selection, catalog):
        return False
    return normalize_version(found.version) == version


def is_closed(selection: Selection, wanted: Wanted) -> bool:
    """Is every requirement of the chosen wheels installed or chosen, so that the installer has
    nothing to add? False where an extra was requested: only the installer knows what that
    requires."""
    if wanted.no_deps:
        return True
    if _names_with_extras(wanted) & set(selection.extensions):
        return False
    texts = [
        text for pin in selection.pins.values() for text in (*pin.candidate.requires, *pin.requires)
    ]
    return planning.are_satisfied(texts, selection.here, coming=selection.pins)


def is_planned(selection: Selection, steps: Sequence[Step]) -> bool:
    """Is every requirement of the chosen wheels installed, or in this plan? For a wheel that was
    built they are known only now."""
    texts = [text for pin in selection.pins.values() for text in pin.requires]
    after = dataclasses.replace(
        selection.here, installed=planning.planned_distributions(Plan(tuple(steps)), selection.here)
    )
    return planning.are_satisfied(texts, after, coming=())


def make_constraints(selection: Selection, wanted: Wanted) -> Tuple[str, ...]:
    """The constraints for the installer: torch and its companions, the new torch, the pins."""
    choice, torch = selection.torch_choice, selection.coming_torch
    moving = may_move(selection, wanted) | set(selection.pins) | set(selection.torch_pins)
    guard = guard_constraints(selection.here, released=moving)
    coming: Tuple[str, ...] = ()
    if torch is not None:
        # Which build of a release is on its index is known only when the installer names it.
        version = torch.version.public if choice.is_assumed else torch.version
        coming = (f"torch{exactly(torch, selection)}{version}",)
    with_extras = _names_with_extras(wanted)
    pins = tuple(_hold(pin, by_version=pin.name in with_extras) for pin in selection.pins.values())
    return guard + coming + pins


def _hold(pin: Pin, *, by_version: bool) -> str:
    """The constraint for a chosen file. By URL, because an index may have the same version with a
    higher build number and other requirements. By version where an extra was requested
    (`torchvision[scipy]`), and for torch itself: with a URL, pip (25.0) finds nothing for an
    extra."""
    return f"{pin.name}=={pin.version}" if by_version else f"{pin.name} @ {pin.url}"


def _names_with_extras(wanted: Wanted) -> FrozenSet[NormalizedName]:
    parsed = [parse_requirement(entry.text) for entry in wanted.entries]
    found = [one for one in parsed if one is not None and one.extras]
    return frozenset(canonicalize_name(one.name) for one in found)


def exactly(torch: TorchBuild, selection: Selection) -> str:
    """The constraint for this version alone. `==2.13.0` also accepts 2.13.0+cpu, which may be
    installed or in another index; `===2.13.0` does not (PEP 440, arbitrary equality)."""
    if torch.version.local is not None:
        return "=="
    here, planned = selection.here.torch, selection.torch_choice.planned
    is_beside_local = planned is not None and planned.version.local is not None
    is_met = here is not None and here.version.public == str(torch.version) != str(here.version)
    return "===" if is_beside_local or is_met else "=="


def may_move(selection: Selection, wanted: Wanted) -> FrozenSet[NormalizedName]:
    """The guarded names that may change, given what was decided about torch."""
    return wanted.named - {TORCH} if selection.torch_choice.keeps_installed else wanted.released


def brought_requirements(selection: Selection) -> Tuple[str, ...]:
    """Requirements for what nothing else requires: extensions that change together with torch, with
    the requirements of their wheels; and a torch that only an extension needs."""
    names = sorted(name for name in selection.carried if name in selection.pins)
    is_brought = selection.torch_choice.brought_for and selection.coming_torch is not None
    return (*([TORCH] if is_brought else []), *names)


def hidden_requirements(selection: Selection) -> Mapping[str, Candidate]:
    """Requirements of the pins that are not in their metadata, with the pin that has each."""
    return {
        text: pin.candidate for pin in selection.pins.values() for text in pin.candidate.requires
    }


def normalize_version(version: Optional[str]) -> str:
    """The normalized form of a version; the text itself where it is no valid version."""
    try:
        return str(Version(version or ""))
    except InvalidVersion:
        return version or ""


def is_new_file(pin: Candidate, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Does a chosen candidate have to be obtained? Not one that stays, or whose file is there
    already."""
    if pin.kind is CandidateKind.INSTALLED or stays(
        pin.name, str(pin.version), selection, wanted, catalog
    ):
        return False
    present = selection.pins.get(pin.name)
    return present is None or present.candidate != pin

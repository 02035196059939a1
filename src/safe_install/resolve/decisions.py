"""The choice of a change as values: what has been decided so far, and what extends it. Pure.

Extensions are chosen by us, everything else by the installer (pip) under our constraints.
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
    """What the person asks for, as far as the choice depends on it."""

    entries: Tuple[Entry, ...]
    constraints: Tuple[Requirement, ...] = ()
    named: FrozenSet[NormalizedName] = frozenset()  # by the command line, for this interpreter
    released: FrozenSet[NormalizedName] = frozenset()  # guarded names that may move
    has_other_inputs: bool = False  # editables, groups, scripts, locks: only pip reads them
    has_lock: bool = False  # a pylock.toml names the files itself
    # other places than pypi.org, or it may not be asked
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
    """A file that was chosen for an extension, as pip is shown it."""

    candidate: Candidate
    url: str  # of a wheel on this machine
    version: str
    sha256: Optional[str] = None
    requires: Tuple[str, ...] = ()  # by the METADATA of the wheel
    # an empty wheel: a dry run does not build, and others not before torch is planned
    is_placeholder: bool = False
    # of the plan, for which it was built; "": for a torch that is installed, or not here
    torch_file: str = ""

    @property
    def name(self) -> NormalizedName:
        """The project."""
        return self.candidate.name


@dataclass(frozen=True)
class Selection:
    """What has been decided so far."""

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
        """Is there a torch, or does one come with this change?"""
        return self.here.torch is not None or self.coming_torch is not None

    @property
    def files(self) -> Tuple[Pin, ...]:
        """The files that the installer is shown."""
        return (*self.torch_pins.values(), *self.pins.values())


def add_torch(selection: Selection, steps: Sequence[Step], catalog: Catalog) -> Selection:
    """With the torch that a plan of the installer's brings: from then on extensions are chosen for
    it.

    A torch that we chose ourselves becomes the build that the installer names.
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
        return selection  # the same one again (--force-reinstall): what fits it today fits it then
    # What pip planned of an extension is judged, and is no reason to choose it.
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
    """With more extensions to choose; a project that was asked for before has to meet both
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
    """With the installed extensions that have to go along, where torch moves.

    Not those that the person named, nor those that the installer's own plan moves, nor those that
    do not load today. A lock says by itself what is to be there.
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
    """The projects that the command line and the files name for this interpreter."""
    found = set(wanted.named)
    for entry in wanted.entries:
        requirement, name = parse_requirement(entry.text), named(entry.text)
        if name is not None and (requirement is None or planning.applies(requirement, here)):
            found.add(name)
    return frozenset(found)


def is_torch_to_move(wanted: Wanted) -> bool:
    """Does the command line ask for a newer torch than the installed one (`-U torch`), and may
    something be built for it?"""
    return wanted.upgrade and TORCH in wanted.named and not wanted.no_build


def leave_behind(selection: Selection, names: Collection[NormalizedName]) -> Selection:
    """Without some of the extensions that would go along: they stay as they are."""
    left = selection.carried & set(names)
    extensions = {
        name: requirement for name, requirement in selection.extensions.items() if name not in left
    }
    return dataclasses.replace(selection, extensions=extensions, carried=selection.carried - left)


def may_stay(name: NormalizedName, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Is it installed, and does it fit the torch that comes?"""
    found = selection.here.installed.get(name)
    if found is None or name in find_upgrades(selection, wanted, catalog):
        return False
    project = catalog.project(name)
    candidate = installed_candidate(found, project, selection.planned.torch)
    context = Context(project, selection.planned, catalog, pre=True)
    return candidate is not None and check_candidate(candidate, context) is None


def add_pin(selection: Selection, pin: Pin) -> Selection:
    """With the file that was chosen for an extension."""
    return dataclasses.replace(selection, pins={**selection.pins, pin.name: pin})


def find_unbuilt(selection: Selection) -> Tuple[Candidate, ...]:
    """What is still to be built, and has a placeholder in the plan."""
    return tuple(pin.candidate for pin in selection.pins.values() if pin.is_placeholder)


def find_torch_file(steps: Sequence[Step]) -> str:
    """The wheel of torch in a plan, by its sha256 or its address; "" where the plan brings no
    torch."""
    step = next((step for step in steps if step.name == TORCH), None)
    return (step.sha256 or step.url or "") if step is not None else ""


def is_broken(report: HealthReport, project: Project) -> bool:
    """Does an installed extension not load? Then the same version for this torch is worth
    installing."""
    answers = {**report.imports, **report.operations}
    asked = [
        answers.get(key)
        for key in (*project.imports, f"{project.name} native part", f"{project.name} on cpu")
    ]
    return any(answer is not None and not answer.ok for answer in asked)


def find_upgrades(
    selection: Selection, wanted: Wanted, catalog: Catalog
) -> FrozenSet[NormalizedName]:
    """The extensions for which being installed is no reason to stay: -U, or broken beside this
    torch."""
    names = frozenset(selection.extensions)
    is_meant = wanted.upgrade or wanted.force_reinstall
    meant = names - selection.carried if is_meant else frozenset()
    return meant | {name for name in names if _cannot_stay(name, selection, catalog)}


def _cannot_stay(name: NormalizedName, selection: Selection, catalog: Catalog) -> bool:
    """Is it installed, and broken, or nothing says that it fits the torch to come?"""
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
    """Is this very version installed and sound? `-U` does not install it again, as with pip."""
    found = selection.here.installed.get(name)
    is_replaced = wanted.force_reinstall and name not in selection.carried
    if found is None or is_replaced or _cannot_stay(name, selection, catalog):
        return False
    return normalize_version(found.version) == version


def is_closed(selection: Selection, wanted: Wanted) -> bool:
    """Is everything that the chosen wheels require installed or chosen? Then the installer has
    nothing to add. What an extra requires it says itself."""
    if wanted.no_deps:
        return True
    if _names_with_extras(wanted) & set(selection.extensions):
        return False
    texts = [
        text for pin in selection.pins.values() for text in (*pin.candidate.requires, *pin.requires)
    ]
    return planning.are_satisfied(texts, selection.here, coming=selection.pins)


def is_planned(selection: Selection, steps: Sequence[Step]) -> bool:
    """Is everything that the chosen wheels require installed, or in this plan? Of what is built
    that is not known before."""
    texts = [text for pin in selection.pins.values() for text in pin.requires]
    after = dataclasses.replace(
        selection.here, installed=planning.planned_distributions(Plan(tuple(steps)), selection.here)
    )
    return planning.are_satisfied(texts, after, coming=())


def make_constraints(selection: Selection, wanted: Wanted) -> Tuple[str, ...]:
    """The lines under which the installer plans: torch and what moves with it, the torch that
    comes, the pins."""
    choice, torch = selection.torch_choice, selection.coming_torch
    moving = may_move(selection, wanted) | set(selection.pins) | set(selection.torch_pins)
    guard = guard_constraints(selection.here, released=moving)
    coming: Tuple[str, ...] = ()
    if torch is not None:
        # Which build of a release its index has is not known before the installer names it.
        version = torch.version.public if choice.is_assumed else torch.version
        coming = (f"torch{exactly(torch, selection)}{version}",)
    with_extras = _names_with_extras(wanted)
    pins = tuple(_hold(pin, by_version=pin.name in with_extras) for pin in selection.pins.values())
    return guard + coming + pins


def _hold(pin: Pin, *, by_version: bool) -> str:
    """The line for a chosen file. By address: an index may have the same version, with a higher
    build number and requirements of its own. By its version, as torch itself, where an extra was
    asked for (`torchvision[scipy]`): beside an address pip (25.0) finds nothing for it."""
    return f"{pin.name}=={pin.version}" if by_version else f"{pin.name} @ {pin.url}"


def _names_with_extras(wanted: Wanted) -> FrozenSet[NormalizedName]:
    parsed = [parse_requirement(entry.text) for entry in wanted.entries]
    found = [one for one in parsed if one is not None and one.extras]
    return frozenset(canonicalize_name(one.name) for one in found)


def exactly(torch: TorchBuild, selection: Selection) -> str:
    """How a constraint names this version alone: 2.13.0+cpu, which is installed or lies in another
    place of pip's, meets `==2.13.0`, and not `===2.13.0` (PEP 440, arbitrary equality)."""
    if torch.version.local is not None:
        return "=="
    here, planned = selection.here.torch, selection.torch_choice.planned
    is_beside_local = planned is not None and planned.version.local is not None
    is_met = here is not None and here.version.public == str(torch.version) != str(here.version)
    return "===" if is_beside_local or is_met else "=="


def may_move(selection: Selection, wanted: Wanted) -> FrozenSet[NormalizedName]:
    """The guarded names that may move, after what has been decided of torch."""
    return wanted.named - {TORCH} if selection.torch_choice.keeps_installed else wanted.released


def brought_requirements(selection: Selection) -> Tuple[str, ...]:
    """What comes though nothing that the person asks for requires it: the extensions that go along,
    with what their wheels require, and a torch for an extension that fits no other."""
    names = sorted(name for name in selection.carried if name in selection.pins)
    is_brought = selection.torch_choice.brought_for and selection.coming_torch is not None
    return (*([TORCH] if is_brought else []), *names)


def hidden_requirements(selection: Selection) -> Mapping[str, Candidate]:
    """What the pins need though their metadata does not say so, other pins too, and which pin
    does."""
    return {
        text: pin.candidate for pin in selection.pins.values() for text in pin.candidate.requires
    }


def normalize_version(version: Optional[str]) -> str:
    """A version in its one form, where it has one."""
    try:
        return str(Version(version or ""))
    except InvalidVersion:
        return version or ""


def is_new_file(pin: Candidate, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Does a candidate that was chosen have to be brought? Not what stays, and not what is here
    already."""
    if pin.kind is CandidateKind.INSTALLED or stays(
        pin.name, str(pin.version), selection, wanted, catalog
    ):
        return False
    present = selection.pins.get(pin.name)
    return present is None or present.candidate != pin

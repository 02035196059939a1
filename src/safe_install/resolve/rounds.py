"""The choice of a change as values: what has been decided so far, and what the installer's answer makes of it.

Extensions are chosen by us, everything else by the installer (pip) under our constraints. Its plan may name extensions
that it cannot judge: then these are chosen, and it is asked again. Each round adds a decision, so the rounds end. Pure.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Collection, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.errors import NoCandidate, PipFailed, Refused, SafeInstallError
from safe_install.index.facts import Catalog, Project
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    HealthReport,
    HostAnswer,
    Plan,
    Rejection,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pip_output import conflict_reason, names_in_failure, requirement_in_failure
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve import plan as planning
from safe_install.resolve.carried import Bound, is_near
from safe_install.resolve.companions import check_planned, installed_candidate, says_its_torch
from safe_install.resolve.compatibility import Context, check_candidate
from safe_install.resolve.guard import guard_constraints, names_released
from safe_install.resolve.permission import names_written_here, torch_terms
from safe_install.resolve.promises import own_hashes
from safe_install.resolve.request import InstallRequest, named
from safe_install.resolve.requirements_file import Entry
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_choice import (
    NO_SUCH_TORCH,
    PassedOver,
    TorchChoice,
    pass_over,
    why_impossible,
    why_it_stays,
)
from safe_install.resolve.torch_ranking import TorchTerms
from safe_install.resolve.torch_rounds import (
    exactly,
    needs_another_torch,
    needs_file_of_torch,
    planned_extensions,
    reopen,
    specifiers_on,
)
from safe_install.torch_family import TORCH

AnyError = TypeVar("AnyError", bound=SafeInstallError)


@dataclass(frozen=True)
class Wanted:
    """What the person asks for, as far as the choice depends on it."""

    entries: Tuple[Entry, ...]
    constraints: Tuple[Requirement, ...] = ()
    named: FrozenSet[NormalizedName] = frozenset()  # by the command line, for this interpreter
    released: FrozenSet[NormalizedName] = frozenset()  # guarded names that may move
    has_other_inputs: bool = False  # editables, groups, scripts, locks: only pip reads them
    has_lock: bool = False  # a pylock.toml names the files itself
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
    is_placeholder: bool = False  # an empty wheel: a dry run does not build, and others not before torch is planned
    torch_file: str = ""  # of the plan, for which it was built; "": for a torch that is installed, or not here

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
    extensions: Mapping[NormalizedName, Requirement] = field(default_factory=dict)  # the projects that we choose
    bound: Bound = field(default_factory=dict)  # installed extensions that are for the torch of today
    carried: FrozenSet[NormalizedName] = frozenset()  # those that go along, because torch moves
    pins: Mapping[NormalizedName, Pin] = field(default_factory=dict)
    torch_pins: Mapping[NormalizedName, Pin] = field(default_factory=dict)  # a torch that no index of pip's has
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


# --- decisions -------------------------------------------------------------------------------------


def add_torch(selection: Selection, steps: Sequence[Step], catalog: Catalog) -> Selection:
    """With the torch that a plan of the installer's brings: from then on extensions are chosen for it.

    A torch that we chose ourselves becomes the build that the installer names.
    """
    choice = selection.torch_choice
    step = next((step for step in steps if step.name == TORCH), None)
    if step is None or step.version is None or (selection.coming_torch is not None and not choice.is_assumed):
        return selection
    build = planned_torch(step.version, selection.here.interpreter.platform, catalog.torch)
    build = dataclasses.replace(build, file=step.sha256)
    here = selection.here.torch
    if here is not None and here.runtime_version == build.runtime_version:
        return selection  # the same one again (--force-reinstall): what fits it today fits it then
    # What pip planned of an extension is judged, and is no reason to choose it.
    others = tuple(step for step in steps if step.name == TORCH or step.name not in catalog.projects)
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
    """With more extensions to choose; a project that was asked for before has to meet both requirements."""
    extensions = dict(selection.extensions)
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        present = extensions.get(name)
        if present is not None:
            requirement = Requirement(f"{requirement.name}{present.specifier & requirement.specifier}")
        extensions[name] = requirement
    return dataclasses.replace(selection, extensions=extensions)


def carry_along(selection: Selection, steps: Sequence[Step], wanted: Wanted) -> Selection:
    """With the installed extensions that have to go along, where torch moves.

    Not those that the person named, nor those that the installer's own plan moves, nor those that do not load today. A
    lock says by itself what is to be there.
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


def leave_behind(selection: Selection, names: Collection[NormalizedName]) -> Selection:
    """Without some of the extensions that would go along: they stay as they are."""
    left = selection.carried & set(names)
    extensions = {name: requirement for name, requirement in selection.extensions.items() if name not in left}
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
    """The wheel of torch in a plan, by its sha256 or its address; "" where the plan brings no torch."""
    step = next((step for step in steps if step.name == TORCH), None)
    return (step.sha256 or step.url or "") if step is not None else ""


def is_broken(report: HealthReport, project: Project) -> bool:
    """Does an installed extension not load? Then the same version for this torch is worth installing."""
    answers = {**report.imports, **report.operations}
    asked = [answers.get(key) for key in (*project.imports, f"{project.name} native part", f"{project.name} on cpu")]
    return any(answer is not None and not answer.ok for answer in asked)


def find_upgrades(selection: Selection, wanted: Wanted, catalog: Catalog) -> FrozenSet[NormalizedName]:
    """The extensions for which being installed is no reason to stay: -U, or broken beside this torch."""
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


def stays(name: NormalizedName, version: str, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Is this very version installed and sound? `-U` does not install it again, as with pip."""
    found = selection.here.installed.get(name)
    is_replaced = wanted.force_reinstall and name not in selection.carried
    if found is None or is_replaced or _cannot_stay(name, selection, catalog):
        return False
    return normalize_version(found.version) == version


def is_closed(selection: Selection, wanted: Wanted) -> bool:
    """Is everything that the chosen wheels require installed or chosen? Then the installer has nothing to add."""
    if wanted.no_deps:
        return True
    texts = [text for pin in selection.pins.values() for text in (*pin.candidate.requires, *pin.requires)]
    return planning.are_satisfied(texts, selection.here, coming=selection.pins)


def is_planned(selection: Selection, steps: Sequence[Step]) -> bool:
    """Is everything that the chosen wheels require installed, or in this plan? Of what is built that is not known
    before."""
    texts = [text for pin in selection.pins.values() for text in pin.requires]
    after = dataclasses.replace(
        selection.here, installed=planning.planned_distributions(Plan(tuple(steps)), selection.here)
    )
    return planning.are_satisfied(texts, after, coming=())


def make_constraints(selection: Selection, wanted: Wanted) -> Tuple[str, ...]:
    """The lines under which the installer plans: torch and what moves with it, the torch that comes, the pins."""
    choice, torch = selection.torch_choice, selection.coming_torch
    moving = _may_move(selection, wanted) | set(selection.pins) | set(selection.torch_pins)
    guard = guard_constraints(selection.here, released=moving)
    coming: Tuple[str, ...] = ()
    if torch is not None:
        # Which build of a release its index has is not known before the installer names it.
        version = torch.version.public if choice.is_assumed else torch.version
        coming = (f"torch{exactly(torch, selection.here)}{version}",)
    # By address: an index may have the same version, with a higher build number and requirements of its own.
    # torch itself by its version: pip has no place for an extra (torch[opt-einsum]) beside an address (AssertionError).
    pins = tuple(f"{pin.name} @ {pin.url}" for pin in selection.pins.values())
    return guard + coming + pins


def _may_move(selection: Selection, wanted: Wanted) -> FrozenSet[NormalizedName]:
    """The guarded names that may move, after what has been decided of torch."""
    return wanted.named - {TORCH} if selection.torch_choice.keeps_installed else wanted.released


def brought_requirements(selection: Selection) -> Tuple[str, ...]:
    """What comes though nothing that the person asks for requires it: the extensions that go along, with what their
    wheels require, and a torch for an extension that fits no other."""
    names = sorted(name for name in selection.carried if name in selection.pins)
    is_brought = selection.torch_choice.brought_for and selection.coming_torch is not None
    return (*([TORCH] if is_brought else []), *names)


def hidden_requirements(selection: Selection) -> Mapping[str, Candidate]:
    """What the pins need though their metadata does not say so, other pins too, and which pin does."""
    return {text: pin.candidate for pin in selection.pins.values() for text in pin.candidate.requires}


# --- the rounds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """The installer's answer: its installation report."""

    report: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """The installer's answer: it found no plan."""

    error: PipFailed


@dataclass(frozen=True)
class Refusal:
    """It cannot go on. `is_relayed`: the installer's own failure, in its own words."""

    error: SafeInstallError
    is_relayed: bool = False


@dataclass(frozen=True)
class Choose:
    """Extensions have to be chosen before the installer is asked again. `because`: who needs them."""

    selection: Selection
    because: str = ""
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class ChooseTorch:
    """The torch of the installer's plan may not come, or the one that we chose cannot: another one is to be chosen."""

    selection: Selection  # with the one that we chose passed over


@dataclass(frozen=True)
class Done:
    """Nothing is left to choose."""

    selection: Selection
    steps: Tuple[Step, ...]


def next_round(
    selection: Selection, answer: Union[Planned, Failed], wanted: Wanted, catalog: Catalog
) -> Union[Choose, ChooseTorch, Done, Refusal]:
    """What the installer's answer makes of what has been decided."""
    if isinstance(answer, Failed):
        return _after_failure(selection, answer.error, wanted, catalog)
    pins = {pin.name: pin.candidate for pin in selection.files}
    steps = planning.steps_of_report(answer.report, selection.here, pins)
    seen = add_torch(selection, steps, catalog)
    if seen.torch_choice.is_assumed:
        return _without_torch(seen, "pip's plan with it brings no torch")
    seen = carry_along(seen, steps, wanted)
    if needs_another_torch(seen, wanted, catalog):
        if selection.torch_choice.is_assumed and seen.coming_torch is not None:
            return _without_torch(selection, f"pip has it as {seen.coming_torch.version}")
        return ChooseTorch(add_extensions(reopen(seen), planned_extensions(steps, wanted, catalog)))
    if seen.carried != selection.carried:
        because = "" if TORCH in wanted.named else _who_moves_torch(steps)
        return Choose(dataclasses.replace(seen, pins={}), because)
    if seen.extensions and seen.coming_torch != selection.coming_torch:
        return Choose(dataclasses.replace(seen, pins={}))  # they were chosen for another torch
    unchosen, notes = _find_unchosen(seen, steps, wanted, catalog)
    if not unchosen:
        refusal = _refuse_other_file(seen, steps)
        return refusal or Done(seen, _finish(seen, steps, wanted, catalog))
    texts = [f"{step.name}{specifiers_on(step.name, steps)}" for step in unchosen]
    extended = add_extensions(seen, [Requirement(text) for text in texts])
    if extended.extensions == selection.extensions and seen.coming_torch == selection.coming_torch:
        return Refusal(_not_settled(unchosen))
    because = "; ".join(step.because for step in unchosen if not step.requested)
    return Choose(extended, because, notes)


def _who_moves_torch(steps: Sequence[Step]) -> str:
    """`base 1.0 requires torch>=2.14`; "" for a plan that does not say it."""
    return next((step.because for step in steps if step.name == TORCH and " requires " in step.because), "")


def _refuse_other_file(selection: Selection, steps: Sequence[Step]) -> Optional[Refusal]:
    """Is the torch of this plan another file than the one for which an extension was built?

    Its version is held; an index may still answer with another file, and then a build would follow each plan.
    """
    file = find_torch_file(steps)
    for pin in selection.pins.values():
        if pin.torch_file and pin.torch_file != file:
            found = f"another file of torch ({file})" if file else "no torch"
            error = Refused(
                f"{pin.name} {pin.version} was built for the torch that pip planned, and now it plans {found}",
                hint="The index changed meanwhile: run the command again.",
            )
            return Refusal(error)
    return None


def _without_torch(selection: Selection, reason: str) -> ChooseTorch:
    torch = selection.coming_torch
    assert torch is not None  # noqa: S101 - it is the one that we chose
    choice = pass_over(selection.torch_choice, PassedOver(torch, reason, by_installer=True))
    return ChooseTorch(dataclasses.replace(selection, torch_choice=dataclasses.replace(choice, is_open=True)))


def _find_unchosen(
    selection: Selection, steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> Tuple[List[Step], Tuple[str, ...]]:
    """The extensions of a plan that the installer cannot judge, and notes on those that do not fit."""
    if wanted.has_lock or not selection.has_torch:
        return [], ()
    unchosen = []
    notes = []
    for step in steps:
        if step.name not in catalog.projects or step.name in selection.pins or step.is_direct:
            continue
        if selection.coming_torch is not None:
            # What pip chose together with this torch is taken, unless something speaks against it.
            rejection = check_planned(step, selection.planned, catalog)
            if rejection is None:
                continue
            notes.append(f"{step.name} {step.version}, as pip planned it, does not fit: {rejection.detail}")
        unchosen.append(step)
    return unchosen, tuple(notes)


def _not_settled(unchosen: Sequence[Step]) -> Refused:
    names = ", ".join(f"{step.name} {step.version}" for step in unchosen)
    return Refused(
        f"pip plans {names} again after another version was chosen for the installed torch",
        hint="Name the versions of the extensions explicitly.",
    )


def _after_failure(
    selection: Selection, error: PipFailed, wanted: Wanted, catalog: Catalog
) -> Union[Choose, ChooseTorch, Refusal]:
    """pip failed on projects that only we can choose, on our guard, or on something else."""
    if needs_file_of_torch(selection, error, wanted):
        return ChooseTorch(reopen(selection))
    torch, reason_of_torch = selection.coming_torch, ""
    if torch is not None and (selection.torch_choice.is_assumed or selection.torch_pins):
        reason_of_torch = why_impossible(torch, error.output)
    if reason_of_torch == NO_SUCH_TORCH:
        return _without_torch(selection, reason_of_torch)
    if selection.has_torch:
        names = names_in_failure(error.output, catalog.projects)
        new = [name for name in names if name not in selection.extensions and name not in selection.here.installed]
        if new:
            return Choose(
                add_extensions(selection, [Requirement(requirement_in_failure(error.output, name)) for name in new])
            )
    if reason_of_torch:
        return _without_torch(selection, reason_of_torch)
    constraints = guard_constraints(selection.here, released=_may_move(selection, wanted))
    reason = conflict_reason(error.output, constraints)
    here = selection.here.torch
    if reason is None:
        return Refusal(error, is_relayed=True)
    what = f"torch {here.runtime_version}" if here is not None else "torch not installed"
    hint = "Ask for a version that works with the installed torch, or permit the change with --allow-torch-change."
    return Refusal(
        Refused(
            f"this would change {what}: {reason}",
            hint=why_it_stays(selection.torch_choice) or hint,
            findings=(Finding("torch-moved", Severity.ERROR, "torch", reason),),
        )
    )


def name_cause(error: AnyError, because: str) -> AnyError:
    """The error of a choice that a plan of the installer's made necessary, with what needs it.

    Of the same kind, and so with the same exit status, as when the person had named the extension.
    """
    named = type(error)(f"{error.message} ({because})", hint=error.hint, rejections=error.rejections)
    if isinstance(named, NoCandidate) and isinstance(error, NoCandidate):
        named.projects, named.is_open = error.projects, error.is_open
    return named


# --- the steps -------------------------------------------------------------------------------------


def pinned_steps(selection: Selection, wanted: Wanted) -> Tuple[Step, ...]:
    """The steps where the pins are all that changes."""
    candidates = [pin.candidate for pin in selection.pins.values()]
    steps = planning.steps_of_pins(candidates, selection.here, requested=wanted.named)
    return tuple(_with_pin(step, selection) for step in steps)


def _finish(selection: Selection, steps: Tuple[Step, ...], wanted: Wanted, catalog: Catalog) -> Tuple[Step, ...]:
    steps += _pins_not_in(steps, selection, wanted, catalog)
    return tuple(_with_pin(_as_dependency(step, selection, wanted), selection) for step in steps)


def _pins_not_in(steps: Sequence[Step], selection: Selection, wanted: Wanted, catalog: Catalog) -> Tuple[Step, ...]:
    """What pip leaves out because the same version is installed: it was built for another torch, or is broken."""
    planned = {step.name for step in steps}
    missing = []
    for pin in selection.pins.values():
        if pin.name not in planned and not stays(pin.name, str(pin.candidate.version), selection, wanted, catalog):
            missing.append(pin.candidate)
    return planning.steps_of_pins(missing, selection.here, requested=wanted.named)


def _as_dependency(step: Step, selection: Selection, wanted: Wanted) -> Step:
    """pip was given the hidden requirements as if the person had asked for them, and what goes along with torch."""
    if step.name in selection.carried:
        was_requested = selection.here.installed[step.name].requested
        because = selection.bound[step.name]
        return dataclasses.replace(step, requested=False, because=because, keeps_requested=was_requested)
    if step.name == TORCH and selection.torch_choice.brought_for:
        because = f"for {selection.torch_choice.brought_for}"
        return dataclasses.replace(step, requested=False, because=because)
    asked = wanted.named | {requirement_name(entry.text) for entry in wanted.entries}
    for text, pin in hidden_requirements(selection).items():
        if requirement_name(text) == step.name and step.name not in asked:
            return dataclasses.replace(step, requested=False, because=f"{pin.name} {pin.version} needs {text}")
    return step


def _with_pin(step: Step, selection: Selection) -> Step:
    """What the file of a pin says is stronger than its name."""
    pin = selection.pins.get(step.name) or selection.torch_pins.get(step.name)
    if pin is None or pin.is_placeholder:
        return step
    return dataclasses.replace(step, version=pin.version, sha256=pin.sha256, requires=pin.requires)


def make_plan(selection: Selection, steps: Sequence[Step], request: InstallRequest) -> Plan:
    """The plan of what was decided."""
    here = selection.here
    found = tuple(planning.with_own_hash(step, own_hashes(step.name, request, here)) for step in steps)
    if request.has_lock:
        found = tuple(dataclasses.replace(step, is_locked=step.candidate is None) for step in found)
    if request.ignore_installed:
        found = planning.beside_installed(found, here)
    return Plan(planning.explained(found), selection.rejections, selection.answers)


# --- small readings --------------------------------------------------------------------------------


def normalize_version(version: Optional[str]) -> str:
    """A version in its one form, where it has one."""
    try:
        return str(Version(version or ""))
    except InvalidVersion:
        return version or ""


def is_new_file(pin: Candidate, selection: Selection, wanted: Wanted, catalog: Catalog) -> bool:
    """Does a candidate that was chosen have to be brought? Not what stays, and not what is here already."""
    if pin.kind is CandidateKind.INSTALLED or stays(pin.name, str(pin.version), selection, wanted, catalog):
        return False
    present = selection.pins.get(pin.name)
    return present is None or present.candidate != pin

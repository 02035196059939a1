"""The rounds of a choice: what the installer's answer means for what was decided so far.

We choose extensions; the installer (pip) chooses everything else under our constraints. Its plan
may contain extensions that it cannot judge: these are chosen by us, and it is asked again. Each
round adds a decision, so the rounds end. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import List, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName

from safe_install.errors import NoCandidate, PipFailed, Refused, SafeInstallError
from safe_install.index.facts import Catalog
from safe_install.models import (
    Environment,
    Finding,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pip_output import (
    InstallationReport,
    find_constraint_conflict,
    lacks_module,
    names_in_failure,
    requirement_in_failure,
    unmatched_requirement,
    wishes_in_conflict,
)
from safe_install.requirements import requirement_name
from safe_install.resolve import plan as planning
from safe_install.resolve.carried import may_be_bound
from safe_install.resolve.companions import check_planned, pip_may_choose
from safe_install.resolve.contradiction import explain_failure
from safe_install.resolve.decisions import (
    Selection,
    Wanted,
    add_extensions,
    add_torch,
    carry_along,
    find_torch_file,
    hidden_requirements,
    may_move,
    names_asked_for,
    stays,
)
from safe_install.resolve.guard import guard_constraints
from safe_install.resolve.promises import own_hashes
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.torch_choice import (
    NoPlan,
    PassedOver,
    pass_over,
    why_impossible,
    why_it_stays,
)
from safe_install.resolve.torch_reason import Reason
from safe_install.resolve.torch_rounds import (
    needs_another_torch,
    needs_file_of_torch,
    planned_extensions,
    reopen,
    specifiers_of,
    specifiers_on,
)
from safe_install.torch_family import TORCH

AnyError = TypeVar("AnyError", bound=SafeInstallError)


# --- the rounds -----------------------------------------------------------------------------------


class Planned(NamedTuple):
    """The installer found a plan: its installation report."""

    report: InstallationReport


class Failed(NamedTuple):
    """The installer found no plan."""

    error: PipFailed


class Refusal(NamedTuple):
    """The command ends with an error. `is_relayed`: the installer's own failure, whose output is
    shown."""

    error: SafeInstallError
    is_relayed: bool = False


class Choose(NamedTuple):
    """Extensions have to be chosen before the installer is asked again. `because`: who requires
    them."""

    selection: Selection
    because: str = ""
    notes: Tuple[str, ...] = ()


class ChooseTorch(NamedTuple):
    """Another torch has to be chosen: that of the installer's plan is not permitted, or ours is not
    possible."""

    selection: Selection  # the torch that we chose is passed over in it


class Done(NamedTuple):
    """Nothing is left to choose."""

    selection: Selection
    steps: Tuple[Step, ...]


def next_round(
    selection: Selection, answer: Union[Planned, Failed], wanted: Wanted, catalog: Catalog
) -> Union[Choose, ChooseTorch, Done, Refusal]:
    """What the installer's answer means."""
    if isinstance(answer, Failed):
        return _after_failure(selection, answer.error, wanted, catalog)
    pins = {pin.name: pin.candidate for pin in selection.files}
    steps = planning.steps_of_report(answer.report, selection.here, pins)
    seen = add_torch(selection, steps, catalog)
    if seen.torch_choice.is_assumed:
        return _without_torch(seen, NoPlan("pip's plan with it brings no torch"))
    seen = carry_along(seen, steps, wanted)
    choice = _choose_for_torch(selection, seen, steps, wanted, catalog)
    return choice or _choose_for_plan(selection, seen, steps, wanted, catalog)


def _choose_for_torch(
    selection: Selection, seen: Selection, steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> Union[Choose, ChooseTorch, None]:
    """What the torch of a plan requires to be chosen; None: nothing. `seen`: the selection with
    that torch."""
    if needs_another_torch(seen, wanted, catalog):
        if selection.torch_choice.is_assumed and seen.coming_torch is not None:
            reason = f"pip has it as {seen.coming_torch.version}"
            return _without_torch(selection, NoPlan(reason))
        return ChooseTorch(add_extensions(reopen(seen), planned_extensions(steps, wanted, catalog)))
    if seen.carried != selection.carried:
        because = "" if TORCH in wanted.named else _who_moves_torch(steps, seen.here)
        return Choose(dataclasses.replace(seen, pins={}), because)
    if seen.extensions and seen.coming_torch != selection.coming_torch:
        return Choose(dataclasses.replace(seen, pins={}))  # they were chosen for another torch
    return None


def _choose_for_plan(
    selection: Selection,
    seen: Selection,
    steps: Tuple[Step, ...],
    wanted: Wanted,
    catalog: Catalog,
) -> Union[Choose, Done, Refusal]:
    """What has to be chosen because of extensions in a plan, which the installer cannot judge."""
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


def _who_moves_torch(steps: Sequence[Step], here: Environment) -> str:
    """The reason why torch changes: `base 1.0 requires torch>=2.14`; "" where it was requested, or
    nothing in the plan requires it."""
    torch = next((step for step in steps if step.name == TORCH), None)
    if torch is None or torch.requested:
        return ""
    return planning.find_requirers(steps, here).get(TORCH, "")


def _refuse_other_file(selection: Selection, steps: Sequence[Step]) -> Optional[Refusal]:
    """The refusal of a plan with another file of torch than the one that an extension was built
    for; None where it is the same.

    The version is constrained, but an index may answer with another file. Without this check each
    plan would lead to another build.
    """
    file = find_torch_file(steps)
    for pin in selection.pins.values():
        if pin.torch_file and pin.torch_file != file:
            found = f"another file of torch ({file})" if file else "no torch"
            error = Refused(
                f"{pin.name} {pin.version} was built for the torch that pip planned, and now it "
                f"plans {found}",
                hint="The index changed meanwhile: run the command again.",
            )
            return Refusal(error)
    return None


def _without_torch(
    selection: Selection, no_plan: NoPlan, wishes: Tuple[str, ...] = ()
) -> ChooseTorch:
    torch = selection.coming_torch
    assert torch is not None  # noqa: S101 - we chose it
    passed = PassedOver(
        torch, Reason(no_plan.reason), by_installer=True, is_absent=no_plan.is_absent, wishes=wishes
    )
    choice = pass_over(selection.torch_choice, passed)
    return ChooseTorch(
        dataclasses.replace(selection, torch_choice=dataclasses.replace(choice, is_open=True))
    )


def _find_unchosen(
    selection: Selection, steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> Tuple[List[Step], Tuple[str, ...]]:
    """The extensions of a plan that we have to choose, and notes on those that do not fit."""
    if wanted.has_lock or not selection.has_torch:
        return [], ()
    unchosen = []
    notes = []
    for step in steps:
        if step.name not in catalog.projects or step.name in selection.pins or step.is_direct:
            continue
        if selection.coming_torch is not None:
            # What pip chose together with this torch is accepted, unless it is known not to fit.
            rejection = check_planned(step, selection.planned, catalog)
            if rejection is None:
                continue
            notes.append(
                f"{step.name} {step.version}, as pip planned it, does not fit: {rejection.detail}"
            )
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
    """pip failed: because of projects that only we can choose, our constraints, or something
    else."""
    if needs_file_of_torch(selection, error, wanted):
        return ChooseTorch(reopen(selection))
    torch, no_plan = selection.coming_torch, None
    is_ours = selection.torch_choice.is_assumed or bool(selection.torch_pins)
    if torch is not None and is_ours:
        no_plan = why_impossible(torch, error.output)
    if no_plan is not None and no_plan.is_absent:
        return _without_torch(selection, no_plan)
    if not selection.has_torch:
        bound = _extensions_in_failure(error.output, catalog)
        if bound:
            return ChooseTorch(_bring_torch(selection, bound, wanted))
    else:
        new = _new_in_failure(selection, error.output, wanted, catalog)
        if new:
            extended = add_extensions(selection, new)
            # The torch that we chose may have none of them.
            return ChooseTorch(reopen(extended)) if is_ours else Choose(extended)
    if no_plan is not None:
        wishes = wishes_in_conflict(error.output, TORCH)
        return _without_torch(selection, no_plan, wishes)
    return refuse_contradiction(selection, error, wanted, catalog) or _refuse(
        selection, error, wanted
    )


def refuse_contradiction(
    selection: Selection, error: PipFailed, wanted: Wanted, catalog: Catalog
) -> Optional[Refusal]:
    """The refusal where pip found no plan because the person's own words about a new torch exclude
    each other; None where it failed on something else."""
    found = explain_failure(error.output, wanted.entries, selection.here, catalog.torch)
    return Refusal(found) if found is not None and selection.here.torch is None else None


def _new_in_failure(
    selection: Selection, output: str, wanted: Wanted, catalog: Catalog
) -> List[Requirement]:
    """The projects in pip's failure that only we can choose: not chosen yet, and not installed."""
    known = {*selection.extensions, *selection.here.installed}
    names = [name for name in names_in_failure(output, catalog.projects) if name not in known]
    return [_requirement_on(name, output, wanted) for name in names]


def _requirement_on(name: NormalizedName, output: str, wanted: Wanted) -> Requirement:
    """The user's own requirement on an extension, and that of pip's failure."""
    requirement = Requirement(requirement_in_failure(output, name))
    requirement.specifier &= SpecifierSet(specifiers_of(name, (), wanted))
    return requirement


def _refuse(selection: Selection, error: PipFailed, wanted: Wanted) -> Refusal:
    """The refusal where our constraints are the reason, else pip's own error."""
    constraints = guard_constraints(selection.here, released=may_move(selection, wanted))
    conflict = find_constraint_conflict(error.output, constraints)
    here = selection.here.torch
    if conflict is None:
        return Refusal(_with_hint(error, here), is_relayed=True)
    what = f"torch {here.runtime_version}" if here is not None else "torch not installed"
    reason = str(conflict)
    message = f"this would change {what}: {reason}"
    hint = "Ask for a version that works with the installed torch, or permit the change with --allow-torch-change."
    holding, way_on = why_it_stays(selection.torch_choice)
    if holding:
        # Torch may change, but our own constraint holds it.
        reason = message = f"{conflict.wish}, and the installed {what} stays: {holding}"
        hint = way_on
    finding = Finding("torch-moved", Severity.ERROR, "torch", reason)
    return Refusal(Refused(message, hint=hint, findings=(finding,)))


def _with_hint(error: PipFailed, torch: Optional[TorchBuild]) -> PipFailed:
    """pip's error. Where a build imports torch, with a hint on how it can import the installed
    one."""
    if torch is None or not lacks_module(error.output, TORCH):
        return error
    hint = (
        "Its build imports torch, and pip builds in an environment of its own without one. With"
        f" --no-build-isolation it is built against the installed torch {torch.runtime_version}"
        " (setuptools and what else the build needs must be installed)."
    )
    return PipFailed(error.message, hint=hint, output=error.output, exit_status=error.exit_status)


def _bring_torch(
    selection: Selection, extensions: Sequence[Requirement], wanted: Wanted
) -> Selection:
    """The selection with torch to be chosen, for extensions that something requires."""
    opened = add_extensions(reopen(selection), extensions)
    if TORCH in names_asked_for(wanted, selection.here):
        return opened
    names = ", ".join(one.name for one in extensions)
    choice = dataclasses.replace(opened.torch_choice, brought_for=names)
    return dataclasses.replace(opened, torch_choice=choice)


def _extensions_in_failure(output: str, catalog: Catalog) -> List[Requirement]:
    """The extensions that pip did not find, or could not build, because torch is not installed."""
    names = [requirement_name(unmatched_requirement(output) or "")]
    if lacks_module(output, TORCH):
        names = list(names_in_failure(output, catalog.projects))
    bound = [name for name in names if name is not None and may_be_bound(name, catalog)]
    ours = [name for name in bound if not pip_may_choose(catalog.project(name))]
    return [Requirement(requirement_in_failure(output, name)) for name in ours]


def nothing_offline(error: PipFailed) -> Optional[NoCandidate]:
    """The error where the installer lacks a file and may ask no host; None for another failure."""
    wanted = unmatched_requirement(error.output)
    if wanted is None:
        return None
    lacking = NoCandidate(
        f"no {wanted} was found, and --offline asks no host",
        hint="Leave --offline out, or name a folder that has it: --find-links DIR.",
    )
    lacking.lacking_offline = wanted
    return lacking


def name_cause(error: AnyError, because: str) -> AnyError:
    """The error of a choice that was made for a plan of the installer, with what requires it.

    It has the same class, and so the same exit status, as if the user had named the extension.
    """
    named = type(error)(
        f"{error.message} ({because})", hint=error.hint, rejections=error.rejections
    )
    if isinstance(named, NoCandidate) and isinstance(error, NoCandidate):
        named.projects, named.is_open = error.projects, error.is_open
    return named


# --- the steps ------------------------------------------------------------------------------------


def pinned_steps(selection: Selection, wanted: Wanted) -> Tuple[Step, ...]:
    """The steps where only pins change."""
    candidates = [pin.candidate for pin in selection.pins.values()]
    steps = planning.steps_of_pins(candidates, selection.here, requested=wanted.named)
    return tuple(_with_pin(step, selection) for step in steps)


def _finish(
    selection: Selection, steps: Tuple[Step, ...], wanted: Wanted, catalog: Catalog
) -> Tuple[Step, ...]:
    steps += _pins_not_in(steps, selection, wanted, catalog)
    return tuple(_with_pin(_as_dependency(step, selection, wanted), selection) for step in steps)


def _pins_not_in(
    steps: Sequence[Step], selection: Selection, wanted: Wanted, catalog: Catalog
) -> Tuple[Step, ...]:
    """The pins that pip leaves out, because the same version is installed, built for another torch
    or broken."""
    planned = {step.name for step in steps}
    missing = []
    for pin in selection.pins.values():
        if pin.name not in planned and not stays(
            pin.name, str(pin.candidate.version), selection, wanted, catalog
        ):
            missing.append(pin.candidate)
    return planning.steps_of_pins(missing, selection.here, requested=wanted.named)


def _as_dependency(step: Step, selection: Selection, wanted: Wanted) -> Step:
    """The step with its real reason. pip was given hidden requirements, and extensions that change
    with torch, as if the user had requested them."""
    if step.name in selection.carried:
        was_requested = selection.here.installed[step.name].requested
        because = str(selection.bound[step.name])
        return dataclasses.replace(
            step, requested=False, because=because, keeps_requested=was_requested
        )
    if step.name == TORCH and selection.torch_choice.brought_for:
        return dataclasses.replace(step, requested=False, because="")
    asked = wanted.named | {requirement_name(entry.text) for entry in wanted.entries}
    for text, pin in hidden_requirements(selection).items():
        if requirement_name(text) == step.name and step.name not in asked:
            return dataclasses.replace(
                step, requested=False, because=f"{pin.name} {pin.version} needs {text}"
            )
    return step


def _with_pin(step: Step, selection: Selection) -> Step:
    """The step with the version, hash and requirements of the pin's file."""
    pin = selection.pins.get(step.name) or selection.torch_pins.get(step.name)
    if pin is None or pin.is_placeholder:
        return step
    return dataclasses.replace(step, version=pin.version, sha256=pin.sha256, requires=pin.requires)


def make_plan(selection: Selection, steps: Sequence[Step], request: InstallRequest) -> Plan:
    """The plan of a selection."""
    here = selection.here
    found = tuple(
        planning.with_own_hash(step, own_hashes(step.name, request, here)) for step in steps
    )
    if request.has_lock:
        found = tuple(dataclasses.replace(step, is_locked=step.candidate is None) for step in found)
    if request.ignore_installed:
        found = planning.beside_installed(found, here)
    brought_for = selection.torch_choice.brought_for
    others = {TORCH: f"for {brought_for}"} if brought_for else {}
    return Plan(planning.explained(found, here, others), selection.rejections, selection.answers)

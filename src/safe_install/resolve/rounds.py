"""The choice of a change as values: what has been decided so far, and what the installer's answer
makes of it.

Extensions are chosen by us, everything else by the installer (pip) under our constraints. Its plan
may name extensions that it cannot judge: then these are chosen, and it is asked again. Each round
adds a decision, so the rounds end. Pure.
"""

from __future__ import annotations

import dataclasses
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypeVar, Union

from packaging.requirements import Requirement

from safe_install.errors import NoCandidate, PipFailed, Refused, SafeInstallError
from safe_install.index.facts import Catalog
from safe_install.models import (
    Finding,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pip_output import (
    conflict_reason,
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
    NO_SUCH_TORCH,
    OTHER_METADATA,
    PassedOver,
    pass_over,
    why_impossible,
    why_it_stays,
)
from safe_install.resolve.torch_rounds import (
    needs_another_torch,
    needs_file_of_torch,
    planned_extensions,
    reopen,
    specifiers_on,
)
from safe_install.torch_family import TORCH

AnyError = TypeVar("AnyError", bound=SafeInstallError)


# --- decisions ------------------------------------------------------------------------------------


# --- the rounds -----------------------------------------------------------------------------------


class Planned(NamedTuple):
    """The installer's answer: its installation report."""

    report: Mapping[str, Any]


class Failed(NamedTuple):
    """The installer's answer: it found no plan."""

    error: PipFailed


class Refusal(NamedTuple):
    """It cannot go on. `is_relayed`: the installer's own failure, in its own words."""

    error: SafeInstallError
    is_relayed: bool = False


class Choose(NamedTuple):
    """Extensions have to be chosen before the installer is asked again. `because`: who needs
    them."""

    selection: Selection
    because: str = ""
    notes: Tuple[str, ...] = ()


class ChooseTorch(NamedTuple):
    """The torch of the installer's plan may not come, or the one that we chose cannot: another one
    is to be chosen."""

    selection: Selection  # with the one that we chose passed over


class Done(NamedTuple):
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
    choice = _choose_for_torch(selection, seen, steps, wanted, catalog)
    return choice or _choose_for_plan(selection, seen, steps, wanted, catalog)


def _choose_for_torch(
    selection: Selection, seen: Selection, steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> Union[Choose, ChooseTorch, None]:
    """What the torch of a plan makes necessary. `seen`: the selection with that torch."""
    if needs_another_torch(seen, wanted, catalog):
        if selection.torch_choice.is_assumed and seen.coming_torch is not None:
            return _without_torch(selection, f"pip has it as {seen.coming_torch.version}")
        return ChooseTorch(add_extensions(reopen(seen), planned_extensions(steps, wanted, catalog)))
    if seen.carried != selection.carried:
        because = "" if TORCH in wanted.named else _who_moves_torch(steps)
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
    """What the extensions of a plan make necessary, that the installer cannot judge."""
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
    return next(
        (step.because for step in steps if step.name == TORCH and " requires " in step.because), ""
    )


def _refuse_other_file(selection: Selection, steps: Sequence[Step]) -> Optional[Refusal]:
    """Is the torch of this plan another file than the one for which an extension was built?

    Its version is held; an index may still answer with another file, and then a build would follow
    each plan.
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


def _without_torch(selection: Selection, reason: str, wishes: Tuple[str, ...] = ()) -> ChooseTorch:
    torch = selection.coming_torch
    assert torch is not None  # noqa: S101 - it is the one that we chose
    passed = PassedOver(torch, reason, by_installer=True, wishes=wishes)
    choice = pass_over(selection.torch_choice, passed)
    return ChooseTorch(
        dataclasses.replace(selection, torch_choice=dataclasses.replace(choice, is_open=True))
    )


def _find_unchosen(
    selection: Selection, steps: Sequence[Step], wanted: Wanted, catalog: Catalog
) -> Tuple[List[Step], Tuple[str, ...]]:
    """The extensions of a plan that the installer cannot judge, and notes on those that do not
    fit."""
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
    """pip failed on projects that only we can choose, on our guard, or on something else."""
    if needs_file_of_torch(selection, error, wanted):
        return ChooseTorch(reopen(selection))
    torch, reason_of_torch = selection.coming_torch, ""
    if torch is not None and (selection.torch_choice.is_assumed or selection.torch_pins):
        reason_of_torch = why_impossible(torch, error.output)
    if reason_of_torch.startswith((NO_SUCH_TORCH, OTHER_METADATA)):
        return _without_torch(selection, reason_of_torch)
    if not selection.has_torch:
        bound = _extensions_in_failure(error.output, catalog)
        if bound:
            return ChooseTorch(_bring_torch(selection, bound, wanted))
    else:
        names = names_in_failure(error.output, catalog.projects)
        new = [
            name
            for name in names
            if name not in selection.extensions and name not in selection.here.installed
        ]
        if new:
            return Choose(
                add_extensions(
                    selection,
                    [Requirement(requirement_in_failure(error.output, name)) for name in new],
                )
            )
    if reason_of_torch:
        wishes = wishes_in_conflict(error.output, TORCH)
        return _without_torch(selection, reason_of_torch, wishes)
    contradiction = explain_failure(error.output, wanted.entries, selection.here, catalog.torch)
    if contradiction is not None and selection.here.torch is None:
        return Refusal(contradiction)
    return _refuse(selection, error, wanted)


def _refuse(selection: Selection, error: PipFailed, wanted: Wanted) -> Refusal:
    """Our guard is the reason, or pip has another one, and said it."""
    constraints = guard_constraints(selection.here, released=may_move(selection, wanted))
    reason = conflict_reason(error.output, constraints)
    here = selection.here.torch
    if reason is None:
        return Refusal(_with_hint(error, here), is_relayed=True)
    what = f"torch {here.runtime_version}" if here is not None else "torch not installed"
    message = f"this would change {what}: {reason}"
    hint = "Ask for a version that works with the installed torch, or permit the change with --allow-torch-change."
    holding, way_on = why_it_stays(selection.torch_choice)
    if holding:
        # Torch may move, and we hold it ourselves.
        wish, _, _ = reason.partition(", but ")
        reason = message = f"{wish}, and the installed {what} stays: {holding}"
        hint = way_on
    finding = Finding("torch-moved", Severity.ERROR, "torch", reason)
    return Refusal(Refused(message, hint=hint, findings=(finding,)))


def _with_hint(error: PipFailed, torch: Optional[TorchBuild]) -> PipFailed:
    """pip's failure; where a build imports torch, with what lets it see the installed one."""
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
    """With a torch to choose for extensions that something requires, whether it requires torch, too,
    or not."""
    opened = add_extensions(reopen(selection), extensions)
    if TORCH in names_asked_for(wanted, selection.here):
        return opened
    names = ", ".join(one.name for one in extensions)
    choice = dataclasses.replace(opened.torch_choice, brought_for=names)
    return dataclasses.replace(opened, torch_choice=choice)


def _extensions_in_failure(output: str, catalog: Catalog) -> List[Requirement]:
    """The extensions that pip found nothing of, or could not build, because there is no torch: one
    has to come for them."""
    names = [requirement_name(unmatched_requirement(output) or "")]
    if lacks_module(output, TORCH):
        names = list(names_in_failure(output, catalog.projects))
    bound = [name for name in names if name is not None and may_be_bound(name, catalog)]
    ours = [name for name in bound if not pip_may_choose(catalog.project(name))]
    return [Requirement(requirement_in_failure(output, name)) for name in ours]


def nothing_offline(error: PipFailed) -> Optional[NoCandidate]:
    """The installer's failure where it may ask no host; None where it failed on something else."""
    wanted = unmatched_requirement(error.output)
    if wanted is None:
        return None
    return NoCandidate(
        f"no {wanted} was found, and --offline asks no host",
        hint="Leave --offline out, or name a folder that has it: --find-links DIR.",
    )


def name_cause(error: AnyError, because: str) -> AnyError:
    """The error of a choice that a plan of the installer's made necessary, with what needs it.

    Of the same kind, and so with the same exit status, as when the person had named the extension.
    """
    named = type(error)(
        f"{error.message} ({because})", hint=error.hint, rejections=error.rejections
    )
    if isinstance(named, NoCandidate) and isinstance(error, NoCandidate):
        named.projects, named.is_open = error.projects, error.is_open
    return named


# --- the steps ------------------------------------------------------------------------------------


def pinned_steps(selection: Selection, wanted: Wanted) -> Tuple[Step, ...]:
    """The steps where the pins are all that changes."""
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
    """What pip leaves out because the same version is installed: it was built for another torch, or
    is broken."""
    planned = {step.name for step in steps}
    missing = []
    for pin in selection.pins.values():
        if pin.name not in planned and not stays(
            pin.name, str(pin.candidate.version), selection, wanted, catalog
        ):
            missing.append(pin.candidate)
    return planning.steps_of_pins(missing, selection.here, requested=wanted.named)


def _as_dependency(step: Step, selection: Selection, wanted: Wanted) -> Step:
    """pip was given the hidden requirements as if the person had asked for them, and what goes
    along with torch."""
    if step.name in selection.carried:
        was_requested = selection.here.installed[step.name].requested
        because = selection.bound[step.name]
        return dataclasses.replace(
            step, requested=False, because=because, keeps_requested=was_requested
        )
    if step.name == TORCH and selection.torch_choice.brought_for:
        because = f"for {selection.torch_choice.brought_for}"
        return dataclasses.replace(step, requested=False, because=because)
    asked = wanted.named | {requirement_name(entry.text) for entry in wanted.entries}
    for text, pin in hidden_requirements(selection).items():
        if requirement_name(text) == step.name and step.name not in asked:
            return dataclasses.replace(
                step, requested=False, because=f"{pin.name} {pin.version} needs {text}"
            )
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
    found = tuple(
        planning.with_own_hash(step, own_hashes(step.name, request, here)) for step in steps
    )
    if request.has_lock:
        found = tuple(dataclasses.replace(step, is_locked=step.candidate is None) for step in found)
    if request.ignore_installed:
        found = planning.beside_installed(found, here)
    return Plan(planning.explained(found), selection.rejections, selection.answers)


# --- small readings -------------------------------------------------------------------------------

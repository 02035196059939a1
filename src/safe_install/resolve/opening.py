"""How a choice begins: words that are refused at once, which requirements we choose, and whether
pip has to name the new torch first. Pure."""

from __future__ import annotations

from typing import List, NamedTuple, Sequence, Tuple, Union

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.errors import NoCandidate
from safe_install.index.facts import Catalog, Project, TorchMatch
from safe_install.models import Environment
from safe_install.requirements import parse_requirement, requirement_name
from safe_install.resolve.companions import pip_may_choose
from safe_install.resolve.compatibility import Context
from safe_install.resolve.contradiction import refuse_contradiction
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.no_candidate import where_else
from safe_install.resolve.plan import applies, is_satisfied
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.rounds import Refusal
from safe_install.resolve.spelling import refuse_misspelled
from safe_install.torch_family import TORCH


class Opening(NamedTuple):
    """How a choice begins."""

    extensions: Tuple[Requirement, ...] = ()  # for projects of the wheel index, which we choose
    needs_installer: bool = False  # there are other requirements, for pip
    # what to ask pip about first, because its plan names the new torch; none: torch stays
    torch_requirements: Tuple[str, ...] = ()


def refuse_words(request: InstallRequest, here: Environment, catalog: Catalog) -> None:
    """Refuse requirements that exclude each other, and misspelled names. Errors: NoCandidate;
    UsageError."""
    entries = (*request.entries, *request.constraints)
    refuse_contradiction(entries, here, catalog, no_deps=request.no_deps)
    parsed = [parse_requirement(entry.text) for entry in request.entries]
    meant = [one for one in parsed if one is not None and applies(one, here)]
    refuse_misspelled(meant, known=catalog.projects, installed=here.installed)


def open_selection(wanted: Wanted, here: Environment, catalog: Catalog) -> Union[Opening, Refusal]:
    """Which requirements we choose, and whether the installer has to name the new torch first."""
    extensions: List[Requirement] = []
    needs_installer = wanted.has_other_inputs
    for entry in wanted.entries:
        requirement = parse_requirement(entry.text)
        name = (
            canonicalize_name(requirement.name)
            if requirement is not None and not requirement.url
            else None
        )
        if requirement is None or name not in catalog.projects:
            needs_installer = True
            continue
        project = catalog.project(name)
        if here.torch is None and not project.hosts and project.package_index.note:
            return _refuse_other_content(project, here, catalog)
        if here.torch is None and project.torch_match is TorchMatch.ANY:
            needs_installer = True  # there is nothing to fit: pip chooses
        elif applies(requirement, here):
            extensions.append(requirement)
    if not extensions:
        return Opening((), needs_installer)
    return _open_with(extensions, wanted, here, catalog, needs_installer=needs_installer)


def _refuse_other_content(project: Project, here: Environment, catalog: Catalog) -> Refusal:
    """We could choose nothing, and pip would install whatever has that name on its index."""
    hint = where_else([Context(project, here, catalog)])
    return Refusal(NoCandidate(project.package_index.note, hint=hint))


def _open_with(
    extensions: Sequence[Requirement],
    wanted: Wanted,
    here: Environment,
    catalog: Catalog,
    *,
    needs_installer: bool,
) -> Union[Opening, Refusal]:
    """How a choice of these extensions begins: beside which torch?"""
    torch_wanted = _torch_requirements(wanted, here)
    if here.torch is None and not torch_wanted:
        ours = [one for one in extensions if not pip_may_choose(catalog.project(one.name))]
        if not ours:
            return Opening((), True)  # its own requirement brings the torch that it is for
        others = _others(wanted, ours)
        if others:
            return Opening(tuple(ours), True, others)
        return Refusal(without_torch(ours, wanted, here))
    if here.torch is not None and not _torch_is_asked_to_change(torch_wanted, wanted, here):
        return Opening(tuple(extensions), needs_installer)
    # pip chooses what it can beside the torch that it plans: it is judged in the plan.
    ours = [one for one in extensions if not _may_installer_choose(one, wanted, here, catalog)]
    question = _which_torch(wanted, here, catalog) if ours else ()
    return Opening(tuple(ours), True, question)


def _others(wanted: Wanted, ours: Sequence[Requirement]) -> Tuple[str, ...]:
    """The requirements that are left to pip, one of which may bring torch; none where pip could not
    be asked for them alone."""
    if wanted.no_deps or any(entry.hashes for entry in wanted.entries):
        return ()
    names = {TORCH, *(canonicalize_name(one.name) for one in ours)}
    meant = [entry for entry in wanted.entries if not entry.constraint and not entry.editable]
    return tuple(entry.text for entry in meant if requirement_name(entry.text) not in names)


def without_torch(
    extensions: Sequence[Requirement], wanted: Wanted, here: Environment
) -> NoCandidate:
    """The error where no torch is installed, named, or brought by what else is named."""
    names = " ".join(one.name for one in extensions)
    hint = f"Name torch, too: safe-install torch {names}"
    excluded = [entry.text for entry in wanted.entries if requirement_name(entry.text) == TORCH]
    if excluded:
        hint = f"The marker of {excluded[0]!r} excludes this machine. {hint}"
    return NoCandidate(
        f"torch is not installed for {here.interpreter.executable}, so no extension can fit it",
        hint=hint,
    )


def may_look_for_another(selection: Selection, wanted: Wanted) -> bool:
    """The installed torch does not have all extensions: may it be replaced, and was no other one
    chosen yet?"""
    is_chosen = selection.coming_torch is not None or selection.torch_choice.is_open
    return wanted.allow_torch_change and selection.here.torch is not None and not is_chosen


def ask_for_another_torch(wanted: Wanted, here: Environment) -> Tuple[str, ...]:
    """The requirements with which pip is asked for another torch than the installed one."""
    excluded = [f"{TORCH}!={here.torch.version.public}"] if here.torch is not None else []
    return (*excluded, *map(str, _torch_requirements(wanted, here)))


def _torch_requirements(wanted: Wanted, here: Environment) -> List[Requirement]:
    parsed = [parse_requirement(entry.text) for entry in wanted.entries]
    named = [one for one in parsed if one is not None and canonicalize_name(one.name) == TORCH]
    return [one for one in named if applies(one, here)]


def _torch_is_asked_to_change(
    requirements: Sequence[Requirement], wanted: Wanted, here: Environment
) -> bool:
    """Does the command line ask for another version than the installed one, or for a newer one
    (-U)?"""
    if TORCH not in wanted.named:
        return False
    return wanted.upgrade or not all(is_satisfied(one, here) for one in requirements)


def _may_installer_choose(
    requirement: Requirement, wanted: Wanted, here: Environment, catalog: Catalog
) -> bool:
    """Can pip find a version for the torch that it plans? Not where an installed version would
    stay, which is for the installed torch."""
    name = canonicalize_name(requirement.name)
    is_chosen_anew = name not in here.installed or wanted.upgrade or wanted.force_reinstall
    return pip_may_choose(catalog.project(name)) and is_chosen_anew


def _which_torch(wanted: Wanted, here: Environment, catalog: Catalog) -> Tuple[str, ...]:
    """The requirements on torch, and on the projects that pip chooses together with it."""
    texts = []
    for entry in wanted.entries:
        requirement = parse_requirement(entry.text)
        if requirement is None or requirement.url is not None:
            is_meant = requirement_name(entry.text) == TORCH
        else:
            name = canonicalize_name(requirement.name)
            is_extension = name in catalog.projects and _may_installer_choose(
                requirement, wanted, here, catalog
            )
            is_meant = name == TORCH or is_extension
        if is_meant:
            texts.append(entry.text)
    return tuple(texts)

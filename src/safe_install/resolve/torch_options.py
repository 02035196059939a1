"""What it means for a selection that a build of torch is chosen or passed over, and the messages
where none is chosen. Pure.

`resolve.torch_ranking` orders the builds; `pipeline.joint_choice` tries them and asks for their
wheels.
"""

from __future__ import annotations

import dataclasses
from typing import Callable, FrozenSet, List, Optional, Sequence, Tuple

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.errors import NoCandidate, Refused
from safe_install.index.bundled import has_builds_for
from safe_install.index.facts import Catalog, CudaTable, Project, TorchTable
from safe_install.index.torch_files import Listing
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    Plan,
    Rejection,
    Rule,
    TorchBuild,
)
from safe_install.resolve import decisions, rounds
from safe_install.resolve.carried import has_own_source
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.provider import Resolution
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_change import kind_of, who_excludes
from safe_install.resolve.torch_choice import (
    PassedOver,
    may_be_planned,
    note_held_back,
    pass_over,
)
from safe_install.resolve.torch_ranking import (
    Exclusion,
    TorchOption,
    TorchTerms,
    hides_package_index,
    newest_on_index,
    rank_torches,
)
from safe_install.resolve.torch_reason import Reason

# How many builds pip may refuse, where there are no extensions or something requires another torch.
MAX_REFUSED = 2


def take_torch(selection: Selection, option: TorchOption) -> Selection:
    """The selection with a torch that we choose. The installer has to name its exact build
    later."""
    if option.build == selection.coming_torch:
        return selection
    is_kept = option.is_installed
    choice = dataclasses.replace(
        selection.torch_choice, is_assumed=not is_kept, keeps_installed=is_kept, files=()
    )
    if is_kept:
        choice = dataclasses.replace(choice, left_behind=tuple(sorted(selection.carried)))
        selection = decisions.leave_behind(selection, selection.carried)
    planned = (
        selection.here if is_kept else dataclasses.replace(selection.planned, torch=option.build)
    )
    return dataclasses.replace(
        selection,
        coming_torch=None if is_kept else option.build,
        planned=planned,
        torch_choice=choice,
        pins={},
        torch_pins={},
    )


def open_options(selection: Selection, options: Sequence[TorchOption]) -> List[TorchOption]:
    """The builds that may still be tried. Without extensions only pip knows which builds its index
    has, so it is not asked for one release after the other."""
    passed = selection.torch_choice.passed_over
    names = {one.version for one in passed}
    found = [option for option in possible_options(options, passed) if option.version not in names]
    if selection.extensions:
        return found
    if _is_unlike_installed(selection.torch_choice.planned, options):
        found = _of_release(selection.torch_choice.planned, found)
    if sum(one.by_installer for one in passed) < MAX_REFUSED:
        return found
    return [option for option in found if option.is_installed]


def possible_options(
    options: Sequence[TorchOption], passed_over: Sequence[PassedOver]
) -> List[TorchOption]:
    """The builds that are not excluded. Those that meet the requirements found in pip's earlier
    plans come first. After MAX_REFUSED such plans the others are dropped; before that, another
    version of the package with the requirement may accept them."""
    possible = [option for option in options if option.excluded is None]
    meeting = [option for option in possible if may_be_planned(option.build, passed_over)]
    if sum(bool(one.wishes) for one in passed_over) >= MAX_REFUSED:
        return meeting
    return [*meeting, *(option for option in possible if option not in meeting)]


def _is_unlike_installed(planned: Optional[TorchBuild], options: Sequence[TorchOption]) -> bool:
    """Is the torch of pip's plan permitted only by --allow-torch-change?"""
    return any(one.build == planned and one.is_for_another_accelerator for one in options)


def _of_release(planned: Optional[TorchBuild], options: Sequence[TorchOption]) -> List[TorchOption]:
    """The builds of the planned release: something in pip's plan requires that release."""
    release = planned.version.public if planned is not None else ""
    return [option for option in options if option.release == release]


def newer_options(options: Sequence[TorchOption]) -> Tuple[TorchOption, ...]:
    """The newer builds that are preferred to the installed torch."""
    found: List[TorchOption] = []
    for option in options:
        if option.is_installed:
            release = Version(option.release)
            return tuple(one for one in found if Version(one.release) > release)
        found.append(option)
    return ()


def without_untried(selection: Selection) -> Selection:
    """The selection without the builds that were passed over untried; the order may have changed
    since."""
    choice = selection.torch_choice
    passed = tuple(one for one in choice.passed_over if not one.is_untried)
    return dataclasses.replace(
        selection, torch_choice=dataclasses.replace(choice, passed_over=passed)
    )


def is_open_question(selection: Selection) -> bool:
    """Is it unknown whether there is a newer torch like the installed one? Then keeping the
    installed one is reported."""
    passed = selection.torch_choice.passed_over
    return not selection.extensions and any(one.is_open for one in passed)


def settle(selection: Selection) -> Selection:
    """The selection with its torch as the final choice: it is not judged again."""
    taken = selection.coming_torch or selection.here.torch
    choice = dataclasses.replace(selection.torch_choice, is_open=False, taken=taken)
    return dataclasses.replace(selection, torch_choice=choice)


def take_planned(selection: Selection) -> Selection:
    """The selection with the torch of the installer's plan; the checks of the plan may still refuse
    it."""
    build = selection.torch_choice.planned
    choice = dataclasses.replace(
        selection.torch_choice, is_assumed=False, keeps_installed=False, files=()
    )
    planned = dataclasses.replace(selection.planned, torch=build)
    return dataclasses.replace(
        selection, coming_torch=build, planned=planned, torch_choice=choice, pins={}, torch_pins={}
    )


def may_keep_planned(selection: Selection, options: Sequence[TorchOption]) -> bool:
    """Is the torch of pip's plan acceptable where no other one was found? Not with extensions,
    which need a torch that they fit, and not for the wrong accelerator."""
    choice = selection.torch_choice
    if choice.planned is None or selection.extensions:
        return False
    return not is_of_another_accelerator(choice.planned, options)


def is_of_another_accelerator(
    planned: Optional[TorchBuild], options: Sequence[TorchOption]
) -> bool:
    """Is the torch of pip's plan for another accelerator than the requested one?"""
    return any(
        option.build == planned and option.excluded is Exclusion.ACCELERATOR for option in options
    )


def is_step_back_to(option: TorchOption, installed: TorchBuild) -> bool:
    """Is it excluded only because it is older than the installed torch, and of the same kind?"""
    if option.excluded is not Exclusion.INSTALLED:
        return False
    is_older = Version(option.release) < Version(installed.version.public)
    return is_older and kind_of(option.build) == kind_of(installed)


def as_reinstall(option: TorchOption, catalog: Catalog, here: Environment) -> TorchOption:
    """With --force-reinstall: the installed build, to be fetched again from where it is
    published."""
    if not option.is_installed or option.build.version.local is None:
        return option
    build = planned_torch(option.version, here.interpreter.platform, catalog.torch)
    return dataclasses.replace(option, build=build, is_installed=False, is_on_index=False)


def same_release_first(
    options: Sequence[TorchOption], installed: Optional[TorchBuild]
) -> Tuple[TorchOption, ...]:
    """The options with the installed release first: another accelerator was requested, not another
    release."""
    if installed is None:
        return tuple(options)
    release = installed.version.public
    return tuple(sorted(options, key=lambda option: option.release != release))


def accelerator_to_list(selection: Selection, wanted: Wanted, table: TorchTable) -> str:
    """The accelerator whose builds have to be listed by their page; "" where pip finds one for it
    itself, or where the driver decides."""
    planned, here = selection.torch_choice.planned, selection.here
    installed = here.torch.accelerator if here.torch is not None else ""
    accelerator = wanted.torch.accelerator or installed
    platform = here.interpreter.platform
    if platform.startswith("macosx") or selection.torch_choice.is_fixed:
        return ""
    found_by_pip = [planned] if planned is not None else []
    if planned is not None and hides_package_index(planned, wanted.torch, here):
        found_by_pip.append(planned_torch(planned.version.public, platform, table))
    if accelerator in [build.accelerator for build in found_by_pip]:
        return ""
    return accelerator


class MoreTorches:
    """A catalog with the builds of torch that the pages of its host list."""

    def __init__(self, catalog: Catalog, torch: TorchTable) -> None:
        self.projects: FrozenSet[NormalizedName] = catalog.projects
        self.torch: TorchTable = torch
        self.cuda: CudaTable = catalog.cuda
        self.project: Callable[[str], Project] = catalog.project


def with_built(selection: Selection, resolution: Resolution) -> Selection:
    """The selection with the names of what is built for its torch."""
    built = tuple(pin.name for pin in resolution.pins if pin.kind is CandidateKind.SDIST)
    choice = dataclasses.replace(selection.torch_choice, built=built)
    return dataclasses.replace(selection, torch_choice=choice)


def describe_carried(candidate: Candidate, selection: Selection) -> str:
    """Why an extension changes that nobody named, and whether it will be built."""
    name = candidate.name
    version = selection.here.installed[name].version
    line = f"{name} {version}, {selection.bound[name]}, goes along with torch"
    if candidate.kind is not CandidateKind.SDIST:
        return line
    if candidate.may_be_kept:
        return (
            f"{line}: the wheel that was built here before is taken if it is for this very torch, "
            "else it is built from source"
        )
    return f"{line}: it will be built from source, as there is no wheel of it for torch {version_of(selection)}"


def refuse_other_source(resolution: Resolution, selection: Selection) -> None:
    """Refuse to replace an extension installed from a folder, a repository or an archive by a build
    of the package index's source. Errors: NoCandidate."""
    for pin in resolution.pins:
        if pin.kind is not CandidateKind.SDIST or pin.name not in selection.carried:
            continue
        if has_own_source(selection.here.installed[pin.name]):
            error = NoCandidate(
                f"no {pin.name} fits torch {version_of(selection)}, and it is not built from the "
                "package index: the installed one has another source",
                hint=f"Build it again from that source, together with torch {version_of(selection)}.",
            )
            error.projects = (pin.name,)
            raise error


def with_reason_against_build(selection: Selection, tried: Selection, error: Refused) -> Selection:
    """The selection with the reason why nothing can be built here for a torch that was passed
    over."""
    choice, version = selection.torch_choice, version_of(tried)
    passed = []
    for one in choice.passed_over:
        if one.version == version:
            extended = f"{one.reason.text}, and it cannot be built here: {error.headline}"
            one = dataclasses.replace(one, reason=one.reason._replace(text=extended))
        passed.append(one)
    choice = dataclasses.replace(choice, passed_over=tuple(passed))
    return dataclasses.replace(selection, torch_choice=choice)


def with_passed_over(
    selection: Selection, passed: PassedOver, rejections: Sequence[Rejection] = ()
) -> Selection:
    """The selection with a torch that is passed over."""
    choice = pass_over(selection.torch_choice, passed, rejections)
    return dataclasses.replace(selection, torch_choice=choice)


def without_wheel(
    selection: Selection, option: TorchOption, reason: str, error: NoCandidate
) -> Selection:
    """The selection with a torch passed over because the hosts have no wheel of an extension for
    it."""
    names = [canonicalize_name(name) for name in error.projects or selection.extensions]
    passed = PassedOver(
        option.build, Reason(reason), lacking=tuple(names), is_uncertain=error.is_open
    )
    return with_passed_over(selection, passed, error.rejections)


def with_reason_of_planned(
    selection: Selection, options: Sequence[TorchOption], terms: TorchTerms
) -> Selection:
    """The selection with the reason why pip's torch was not tried: it does not run with the driver,
    or is for another accelerator."""
    choice = selection.torch_choice
    planned = choice.planned
    if planned is None and selection.here.torch is None:
        planned = newest_on_index(options, terms)
    passed = {one.version for one in choice.passed_over}
    for option in options:
        is_untried = option.build == planned and option.version not in passed
        if is_untried and selection.coming_torch != option.build:
            telling = _telling(option, options)
            if telling is None or telling.reason is None:
                return selection
            passed_over = PassedOver(
                option.build, telling.reason, remedy=telling.remedy, is_untried=True
            )
            return with_passed_over(selection, passed_over)
    return selection


def note_newer(
    selection: Selection, plan: Plan, wanted: Wanted, catalog: Catalog
) -> Tuple[Finding, ...]:
    """A note on what in the plan requires an older torch than the newest one; nothing where that is
    not so."""
    taken = selection.planned.torch
    if taken is None or wanted.has_lock:
        return ()
    options = rank_torches(None, wanted.torch, selection.here, catalog)
    newest = newest_on_index(options, wanted.torch)
    if newest is None or Version(newest.version.public) <= Version(taken.version.public):
        return ()
    markers = selection.here.interpreter.markers
    reason = who_excludes(newest.version, plan.steps, (), markers)
    return note_held_back(newest, reason, taken) if reason else ()


def refuse_for_silence(
    passed: PassedOver,
    options: Sequence[TorchOption],
    selection: Selection,
    listing: Listing,
    wanted: Wanted,
) -> None:
    """Refuse where the host of the best build does not answer: another build must not be chosen
    because of that. A build for the requested accelerator in the user's own index is the exception:
    it is chosen instead. Errors: Refused, with what to type for a build that is elsewhere.
    `listing`: of that accelerator."""
    ways, planned = [passed.remedy], selection.torch_choice.planned
    version = _newest_own(options, listing)
    if version and wanted.torch.accelerator:
        return
    if version:
        ways.append(f"Or name the build that a place of your own has: torch=={version}.")
    on_index = [one for one in options if one.excluded is None and one.is_on_index]
    runs = [one for one in on_index if not one.warning]
    if runs:
        ways.append(f"Or name one that the package index may have: torch=={runs[0].release}.")
    elif planned in [one.build for one in on_index]:
        ways.append(
            f"Or take torch {planned.runtime_version}, which does not run here: "
            f"--accelerator {planned.accelerator} torch=={planned.version.public}."
        )
    raise Refused(
        f"torch {passed.version} would come, and {passed.reason.text}", hint=" ".join(ways)
    )


def _newest_own(options: Sequence[TorchOption], listing: Listing) -> str:
    """The newest permitted build in the user's own index; "" where none is known."""
    possible = {option.version for option in options if option.excluded is None}
    return next((version for version in reversed(listing.own) if version in possible), "")


def carried_of(error: NoCandidate, selection: Selection) -> List[NormalizedName]:
    """The extensions in an error that nobody named."""
    names = error.projects or tuple(selection.carried)
    return sorted(canonicalize_name(name) for name in names if name in selection.carried)


def name_carried(error: NoCandidate, selection: Selection) -> NoCandidate:
    """The error, with why extensions count that nobody named."""
    texts = []
    for name in carried_of(error, selection):
        version = selection.here.installed[name].version
        texts.append(f"{name} {version} is installed, {selection.bound[name]}")
    return rounds.name_cause(error, "; ".join(texts)) if texts else error


def _telling(planned: TorchOption, options: Sequence[TorchOption]) -> Optional[TorchOption]:
    """The build whose reason explains why that release is not chosen: the one for the wanted
    accelerator. None where nothing excludes it."""
    if planned.excluded not in (Exclusion.ACCELERATOR, Exclusion.INSTALLED):
        return planned
    for option in options:
        is_other = option.release == planned.release and option.build != planned.build
        if is_other and option.reason is not None:
            return option
    return planned if planned.excluded is Exclusion.INSTALLED else None


def version_of(selection: Selection) -> str:
    """The version of the torch that extensions are chosen for; "" without one."""
    torch = selection.planned.torch
    return str(torch.version) if torch is not None else ""


def why_lacking(error: NoCandidate, selection: Selection) -> str:
    """Why a torch was not taken: `no torch-scatter was built for it`."""
    names = [canonicalize_name(name) for name in error.projects or selection.extensions]
    if error.is_open:
        return _not_known(names, selection)
    by_rule = {Rule.TORCH_VERSION, Rule.NO_BUILD}
    if all(_specifier_of(name, selection) for name in names):
        by_rule.add(Rule.SPECIFIER)  # other versions were built for it
    rules = {rejection.rule for rejection in error.rejections if rejection.candidate.name in names}
    if rules <= by_rule:
        return _not_built(names, selection)
    return _not_fitting(names, selection)


def why_not_built(
    names: Sequence[NormalizedName], option: TorchOption, selection: Selection, catalog: Catalog
) -> str:
    """Why a torch is not chosen for which the bundled facts have no wheel of these extensions."""
    for name in names:
        project = catalog.project(name)
        if has_builds_for(project, option.build, _specifier_of(name, selection)):
            return _not_fitting(names, selection)
    return _not_built(names, selection)


def _not_fitting(names: Sequence[NormalizedName], selection: Selection) -> str:
    """The reason: there are builds for that torch, but none for this machine."""
    return f"no {listed(names, selection)} that fits was built for it"


def _not_built(names: Sequence[NormalizedName], selection: Selection) -> str:
    """The reason: nobody built it for that torch."""
    return f"no {listed(names, selection)} was built for it"


def _not_known(names: Sequence[NormalizedName], selection: Selection) -> str:
    """The reason: only a host can tell."""
    return f"no {listed(names, selection)} for it is known here"


def why_not_known(
    names: Sequence[NormalizedName], option: TorchOption, selection: Selection, table: TorchTable
) -> Optional[str]:
    """Why a torch is not chosen where no host is asked: nothing is known of these extensions, or of
    the build; None where all is known."""
    if names:
        return _not_known(names, selection)
    release = table.releases.get(option.release)
    is_aarch64 = selection.here.interpreter.platform.endswith("aarch64")
    if option.is_on_index or release is None or not is_aarch64:
        return None
    is_known = release.accelerators_aarch64 is not None
    return None if is_known else "whether it was built for this machine is not known here"


def listed(names: Sequence[NormalizedName], selection: Selection) -> str:
    """`torch-scatter and no flash-attn>=2.8`, to stand behind "no"."""
    return " and no ".join(f"{name}{_specifier_of(name, selection)}" for name in names)


def _specifier_of(name: NormalizedName, selection: Selection) -> SpecifierSet:
    """The versions of an extension that were asked for."""
    requirement = selection.extensions.get(name)
    return requirement.specifier if requirement is not None else SpecifierSet()

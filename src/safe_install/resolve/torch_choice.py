"""Which torch was chosen, and why not each other one: what is kept of the choice, and what is said
of it. Pure.

`resolve.torch_ranking` puts the builds in order; which of them has a wheel of every extension,
`pipeline.joint_choice` asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Collection, Iterable, Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.index.torch_files import Absent, TorchFile
from safe_install.models import Candidate, Finding, Rejection, Severity, TorchBuild
from safe_install.pip_output import find_constraint_conflict, other_version
from safe_install.requirements import parse_requirement
from safe_install.resolve.torch_ranking import Exclusion, TorchOption
from safe_install.resolve.torch_reason import Reason
from safe_install.torch_family import TORCH

# For which extensions is a wheel known (True), known to be missing (False), or neither (None)?
Known = Mapping[NormalizedName, Optional[bool]]


@dataclass(frozen=True)
class PassedOver:
    """A torch that was not taken, and why."""

    build: TorchBuild
    reason: Reason
    by_installer: bool = False  # it has every extension, and pip found no plan with it
    is_absent: bool = False  # the package index has no such torch
    # what the rest of pip's plan requires of torch, each for itself: one of them has to be met
    wishes: Tuple[str, ...] = ()
    lacking: Tuple[NormalizedName, ...] = ()  # the extensions of which it has no wheel
    is_uncertain: bool = False  # and a host of the extension did not answer
    is_open: bool = False  # its host was not asked, or did not answer
    is_silent: bool = False  # its host was asked
    remedy: str = ""  # what to do about an open question, or a driver, as a sentence
    is_untried: bool = False  # another one comes before it; it may still be taken

    @property
    def release(self) -> str:
        """`2.14.1`."""
        return self.build.version.public

    @property
    def version(self) -> str:
        """`2.14.1+cu126`."""
        return str(self.build.version)

    def say_why_not(self) -> str:
        """`torch 2.14.1: no torch-scatter was built for it`, of the release."""
        return self.reason.about(f"torch {self.release}")


def passed_over_as_absent(build: TorchBuild, found: Absent) -> PassedOver:
    """A build whose file no page has, or no page that was read."""
    return PassedOver(
        build,
        Reason(found.reason),
        remedy=found.remedy,
        is_open=found.is_open,
        is_silent=found.is_open and not found.forbidden_by,
    )


def may_be_planned(build: TorchBuild, passed_over: Sequence[PassedOver]) -> bool:
    """Does a build meet what pip's plans with other ones required?"""
    for passed in passed_over:
        wishes = [parse_requirement(text) for text in passed.wishes]
        known = [one for one in wishes if one is not None]
        if known and not any(
            one.specifier.contains(build.version, prereleases=True) for one in known
        ):
            return False
    return True


@dataclass(frozen=True)
class TorchChoice:
    """How the torch that comes was chosen."""

    planned: Optional[TorchBuild] = None  # by the installer, when nothing held it
    is_fixed: bool = False  # the person named its file
    # the one that comes is ours: the installer has not named its build yet
    is_assumed: bool = False
    # the installed one stays, because no newer one has every extension
    keeps_installed: bool = False
    brought_for: str = ""  # the extensions that fit no other torch, where nothing else asks for one
    # installed extensions that would have gone along with a newer one
    left_behind: Tuple[NormalizedName, ...] = ()
    # all that is installed may stay as it is beside the newest torch that an extension holds back
    may_keep: bool = False
    is_open: bool = False  # one has to be chosen: the installer has none, or none that may come
    taken: Optional[TorchBuild] = None  # the outcome: the installer's own, or one that we chose
    # of a torch that no index of the installer has, and of its compiler
    files: Tuple[TorchFile, ...] = ()
    # the extensions of which no torch has all wheels: built for this one
    built: Tuple[NormalizedName, ...] = ()
    passed_over: Tuple[PassedOver, ...] = ()
    rejections: Tuple[Rejection, ...] = ()  # of wheels, for those


def pass_over(
    choice: TorchChoice, passed: PassedOver, rejections: Sequence[Rejection] = ()
) -> TorchChoice:
    """With a torch that is not taken, and with the wheels that were rejected for it."""
    return replace(
        choice,
        passed_over=(*choice.passed_over, passed),
        rejections=(*choice.rejections, *rejections),
    )


def merge_rejections(
    choice: TorchChoice, pins: Sequence[Candidate], own: Sequence[Rejection]
) -> Tuple[Rejection, ...]:
    """Those of this choice, then those of the torches that were passed over; each file once, and
    none that is taken."""
    seen = {pin.link.url for pin in pins} | {rejection.candidate.link.url for rejection in own}
    merged = list(own)
    for rejection in choice.rejections:
        if rejection.candidate.link.url not in seen:
            seen.add(rejection.candidate.link.url)
            merged.append(rejection)
    return tuple(merged)


class NoPlan(NamedTuple):
    """Why pip found no plan with a torch that we chose."""

    reason: str
    is_absent: bool = False  # the package index has no such torch, whatever else is required


NO_SUCH_TORCH = NoPlan("the package index has no such torch", is_absent=True)


def why_impossible(torch: TorchBuild, output: str) -> Optional[NoPlan]:
    """Why pip found no plan with a torch that we chose; None where that torch is not the reason.
    `output`: pip's."""
    pinned = f"torch=={torch.version.public}"
    conflict = find_constraint_conflict(output, [pinned])
    if conflict is None:
        return None
    said = other_version(output, TORCH, torch.version.public)
    if said is not None:
        other = f"the METADATA of its file on the package index names another version ({said})"
        return NoPlan(other, is_absent=True)
    if not conflict.asked:
        return NoPlan(conflict.wish)
    requirement = parse_requirement(conflict.asked)
    if requirement is None or requirement.specifier.contains(torch.version, prereleases=True):
        return NO_SUCH_TORCH
    return NoPlan(conflict.wish)


# --- what is said of it ---------------------------------------------------------------------------


UNINSTALL = "Uninstall what holds it back."
KEEP_EXTENSIONS = "Uninstall what holds it back, or leave it as it is with --keep-extensions."


def note_choice(
    choice: TorchChoice,
    taken: Optional[TorchBuild],
    extensions: Iterable[NormalizedName],
    carried: Collection[NormalizedName] = (),
) -> Tuple[Finding, ...]:
    """Why the newest torch was not taken, as one line; nothing where it was.

    `taken`: the one that will be there. `carried`: those of the extensions that go along unasked.
    """
    if not choice.passed_over or taken is None:
        return ()
    unknown = next((one for one in choice.passed_over if one.is_open), None)
    if unknown is not None and taken == choice.planned:
        return _note_unknown(unknown, taken)
    # One with which pip found no plan may have been passed over before, because a wheel was
    # missing.
    newest = max(choice.passed_over, key=lambda one: (Version(one.release), one.by_installer))
    same = [one for one in choice.passed_over if one.release == newest.release]
    own = next((one for one in same if one.build == choice.planned), newest)
    if Version(newest.release) <= Version(taken.version.public):
        return _note_build(choice, own, taken)
    why_not = own.say_why_not()
    other = _find_other_reason(choice, own, same)
    if other is not None:
        why_not = f"{why_not}; {other.version}: {other.reason.text}"
    detail = f"{why_not}; {_describe_taken(choice, taken, list(extensions))}"
    unasked = {*carried, *choice.left_behind}
    hint = _way_on(other or own, choice, unasked, stays=choice.keeps_installed)
    return (Finding("older-torch", Severity.NOTE, TORCH, detail, hint),)


def _note_unknown(unknown: PassedOver, taken: TorchBuild) -> Tuple[Finding, ...]:
    """pip's torch comes, and a host did not say whether it has a better one."""
    detail = (
        f"torch {taken.runtime_version} comes as pip planned it: whether there is a torch "
        f"{unknown.version} is not known: {unknown.reason.text}"
    )
    return (Finding("other-build", Severity.NOTE, TORCH, detail, unknown.remedy),)


def _find_other_reason(
    choice: TorchChoice, own: PassedOver, same: Sequence[PassedOver]
) -> Optional[PassedOver]:
    """Where a build was not even tried: another one of the same release, or a host that does not
    answer, has a reason of its own. `same`: what was passed over of that release."""
    if not own.is_untried:
        return None
    others = [one for one in same if one.build != own.build and one.reason != own.reason]
    others += [one for one in choice.passed_over if one.is_open]
    return others[0] if others else None


def _way_on(
    passed: PassedOver, choice: TorchChoice, unasked: Collection[str], *, stays: bool
) -> str:
    """What to do so that a torch that was passed over comes. `unasked`: the installed extensions
    that would go along. `stays`: does the installed torch stay? Else a build that runs has taken
    its place."""
    if passed.lacking:
        way = KEEP_EXTENSIONS if choice.may_keep else UNINSTALL
        return way if set(passed.lacking) <= set(unasked) else ""
    return passed.remedy if stays or passed.is_open else ""


def why_it_stays(choice: TorchChoice) -> Tuple[str, str]:
    """What holds the installed torch, and what to do: a reason, and a hint."""
    if not choice.keeps_installed or not choice.passed_over:
        return "", ""
    newest = max(choice.passed_over, key=lambda one: Version(one.release))
    return newest.say_why_not(), _way_on(newest, choice, choice.left_behind, stays=True)


def newest_held_back(
    choice: TorchChoice, carried: Collection[NormalizedName]
) -> Optional[TorchBuild]:
    """The newest torch that does not come because installed extensions have no wheel for it; None
    where there is none. `carried`: those that go along."""
    unasked = {*carried, *choice.left_behind}
    held = [one.build for one in choice.passed_over if one.lacking and set(one.lacking) <= unasked]
    return max(held, key=lambda build: build.version, default=None)


def name_open_question(
    findings: Sequence[Finding], choice: TorchChoice, coming: Optional[TorchBuild]
) -> Tuple[Finding, ...]:
    """The errors on a torch for another accelerator, with the host that may have a build like the
    installed one and did not say so."""
    unknown = next((one for one in choice.passed_over if one.is_open), None)
    if unknown is None or coming is None:
        return tuple(findings)
    told = []
    for finding in findings:
        if finding.check == "torch-accelerator" and finding.severity is Severity.ERROR:
            why_not = unknown.reason.text
            detail = f"{finding.detail}; no build like the installed one is known: {why_not}"
            hint = f"{unknown.remedy} For the other build: --accelerator {coming.accelerator}."
            finding = replace(finding, detail=detail, hint=hint)
        told.append(finding)
    return tuple(told)


def _note_build(choice: TorchChoice, planned: PassedOver, taken: TorchBuild) -> Tuple[Finding, ...]:
    """The same release, and another build of it than pip planned."""
    if planned.build != choice.planned or planned.build == taken:
        return ()
    why_not = planned.reason.about(f"torch {planned.build.runtime_version}")
    detail = f"{why_not}; {taken.runtime_version} is taken"
    return (Finding("other-build", Severity.NOTE, TORCH, detail),)


def note_held_back(newest: TorchBuild, reason: str, taken: TorchBuild) -> Tuple[Finding, ...]:
    """That something in the installer's plan requires an older torch than the newest."""
    why_not = Reason(reason).about(f"torch {newest.version.public}")
    detail = f"{why_not}; {taken.runtime_version} is taken"
    return (Finding("older-torch", Severity.NOTE, TORCH, detail),)


def _describe_taken(
    choice: TorchChoice, taken: TorchBuild, extensions: Sequence[NormalizedName]
) -> str:
    if choice.keeps_installed:
        return f"{taken.version} stays"
    if choice.built:
        return f"{taken.version} comes with {', '.join(choice.built)} built here"
    return (
        f"{taken.version} has {join_all(extensions)}" if extensions else f"{taken.version} is taken"
    )


def join_all(names: Iterable[str]) -> str:
    """`torch-scatter`, or `all of torch-scatter, torch-sparse`."""
    found = list(names)
    return f"all of {', '.join(found)}" if len(found) > 1 else "".join(found)


def hint_to_permit(
    option: TorchOption,
    requirements: Sequence[Requirement],
    carried: Collection[NormalizedName] = (),
) -> str:
    """What to write for a torch that has every extension and that only the person's words exclude.

    `carried`: those of the extensions that go along unasked.
    """
    each = [canonicalize_name(requirement.name) for requirement in requirements]
    names = join_all(each)
    if option.is_installed:
        return hint_of_installed(option.build, names)
    if option.excluded is Exclusion.INSTALLED:
        return hint_to_step_back(option, each)
    if option.excluded is Exclusion.CONSTRAINT and option.reason is not None:
        reason = option.reason.about(f"torch {option.version}")
        return f"Permit torch {option.release}, which has {names}: {reason}."
    flag = "--pre " if option.excluded is Exclusion.PRE_RELEASE else ""
    named = [one for one in requirements if canonicalize_name(one.name) not in carried]
    words = " ".join([f"torch=={option.release}", *map(_quoted, named)])
    return f"Ask for torch {option.release}, which has {names}: safe-install {flag}{words}"


def add_hint(hint: str, other: str) -> str:
    """A hint with another way out behind it."""
    return f"{hint} Or {other[:1].lower()}{other[1:]}" if hint else other


def hint_to_step_back(option: TorchOption, names: Iterable[str]) -> str:
    """The option that permits an older torch than the installed one, which has these extensions."""
    return f"Permit torch {option.release}, which has {join_all(names)}: --allow-torch-change."


def hint_of_installed(torch: TorchBuild, names: str) -> str:
    """What to know where no other torch has these extensions."""
    return f"The newest torch that has {names} is the installed one, {torch.version}."


def hint_where_pip_has_no_plan(passed: PassedOver, extensions: Iterable[str]) -> str:
    """Where a torch has every extension, and pip found no plan with it."""
    names, reason = join_all(extensions), passed.reason.text
    if passed.is_absent:
        return f"Name an index that has torch {passed.release}, which has {names}: {reason}."
    has_all = f"torch {passed.release} has {names}"
    return f"Make room for the torch that fits: {has_all}, but {reason}."


def hint_to_let_move(hint: str, names: Sequence[NormalizedName], *, may_keep: bool) -> str:
    """A hint, and the ways out where these installed extensions have no wheel for the torch that
    was asked for. `may_keep`: is --keep-extensions one?"""
    removal = f"safe-install uninstall {' '.join(names)}"
    them = "them as they are" if len(names) > 1 else "it as it is"
    way = f"To let torch move all the same: {removal}."
    if may_keep:
        way = f"To let torch move all the same: {removal}, or leave {them}: --keep-extensions."
    first = hint.rstrip(".")
    return f"{first}. {way}" if first else way


def hint_to_leave_out(options: Sequence[TorchOption], known: Mapping[str, Known]) -> str:
    """The newest torch that has the most extensions, and those that hold it back; "" where none has
    any.

    `known`: by version of torch.
    """
    most = 0
    text = ""
    for option in options:
        answers = known[option.version]
        there = [name for name, is_known in answers.items() if is_known]
        missing = [name for name, is_known in answers.items() if not is_known]
        if missing and len(there) > most:
            most = len(there)
            text = f"Without {', '.join(missing)}: torch {option.release} has {join_all(there)}."
    return text


def _quoted(requirement: Requirement) -> str:
    text = str(requirement)
    return f"'{text}'" if set(text) & set("<>;! ~*[") else text

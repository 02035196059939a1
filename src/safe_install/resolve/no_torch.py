"""The message where no torch may be installed: why not the newest ones, each reason once, and what
to do. Pure."""

from __future__ import annotations

import functools
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.version import Version

from safe_install.errors import NoCandidate
from safe_install.index.torch_files import Absent, Listing
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.torch_choice import add_hint
from safe_install.resolve.torch_ranking import (
    BY_THE_PERSON,
    Exclusion,
    TorchOption,
    TorchTerms,
)
from safe_install.resolve.torch_reason import Reason

MAX_REASONS = 3  # that are shown
_NOT_PUBLISHED = (Exclusion.PYTHON, Exclusion.PLATFORM, Exclusion.BUILD)
_NEVER = (*_NOT_PUBLISHED, Exclusion.DRIVER)  # whatever the person writes


def no_torch(
    selection: Selection, options: Sequence[TorchOption], wanted: Wanted, listing: Optional[Listing]
) -> NoCandidate:
    """The error where no torch may be installed. `options`: all builds; `listing`: the page of the
    requested accelerator."""
    terms = wanted.torch
    problem = listing.problem if listing is not None else None
    meant = _meant(options, terms)
    passed = [(one.version, one.reason) for one in selection.torch_choice.passed_over]
    reasons = _group(passed)
    published = [one for one in meant if one.excluded not in _NOT_PUBLISHED]
    if published and all(one.excluded is Exclusion.DRIVER for one in published):
        problem = None  # whatever that host has, it would not run
    if problem is not None:
        reasons = [problem.reason]
    else:
        asked = (*terms.requirements, *terms.constraints)
        if asked and not meant:
            texts = dict.fromkeys(map(str, asked))
            reasons.append(f"no release that is known here meets {' and '.join(texts)}")
        reasons += _group(map(_why_excluded, _telling(meant)))
    shown = "; ".join(reasons[:MAX_REASONS]) or "none is known here"
    what = f"no torch for {terms.accelerator}" if terms.accelerator else "no torch"
    hint = _hint(selection, options, meant, terms, problem)
    return NoCandidate(f"{what} can come: {shown}", hint=hint)


def _meant(options: Sequence[TorchOption], terms: TorchTerms) -> List[TorchOption]:
    """The builds for the accelerator that meet the requirements. Those that another option would
    not permit come first."""
    asked = (*terms.requirements, *terms.constraints)
    found = [one for one in _for_accelerator(options, terms) if _meets(one, asked)]
    return sorted(found, key=lambda option: option.excluded in BY_THE_PERSON)


def _for_accelerator(options: Sequence[TorchOption], terms: TorchTerms) -> List[TorchOption]:
    wanted = terms.accelerator
    return [one for one in options if not wanted or one.build.accelerator == wanted]


def _meets(option: TorchOption, asked: Sequence[Requirement]) -> bool:
    for requirement in asked:
        accepts = functools.partial(requirement.specifier.contains, prereleases=True)
        if not accepts(option.build.version) and not accepts(Version(option.release)):
            return False
    return True


# --- the reasons ----------------------------------------------------------------------------------


def _telling(meant: Sequence[TorchOption]) -> List[TorchOption]:
    """The builds whose reasons are worth showing. "Never built for it" is left out for old releases
    where newer ones were built."""
    excluded = [option for option in meant if option.excluded is not None]
    published = [option for option in excluded if option.excluded not in _NOT_PUBLISHED]
    return published or excluded


def _why_excluded(option: TorchOption) -> Tuple[str, Optional[Reason]]:
    """(the version that the reason is about, the reason)"""
    is_published = option.excluded not in _NOT_PUBLISHED
    return option.build.runtime_version if is_published else option.release, option.reason


def _group(rows: Iterable[Tuple[str, Optional[Reason]]]) -> List[str]:
    """Each reason once, with its versions."""
    versions: Dict[Reason, List[str]] = {}
    for version, reason in rows:
        if reason is not None:
            versions.setdefault(reason, []).append(version)
    return [_sentence(tuple(dict.fromkeys(names)), reason) for reason, names in versions.items()]


def _sentence(versions: Tuple[str, ...], reason: Reason) -> str:
    """`torch 2.4.1 and 19 older releases have no build for cu132`."""
    others = len(versions) - 1
    names = f"torch {versions[0]}"
    if others == 1:
        names += f" and {versions[1]}"
    elif others:
        names += f" and {others} older releases"
    return (reason.of_several() if others else reason).about(names)


# --- the hint -------------------------------------------------------------------------------------


def _hint(
    selection: Selection,
    options: Sequence[TorchOption],
    meant: Sequence[TorchOption],
    terms: TorchTerms,
    problem: Optional[Absent],
) -> str:
    if problem is not None and problem.forbidden_by:
        return problem.remedy
    on_index = _find_on_index(options, terms)
    if on_index is not None:
        accelerator = on_index.build.accelerator
        command = f"safe-install --accelerator {accelerator} torch=={on_index.version}"
        return f"The package index has that build: {command}"
    if problem is not None and problem.remedy:
        return problem.remedy
    first = meant[0] if meant else None
    if first is not None and first.remedy:
        return first.remedy
    auto = ""
    if terms.origin:
        auto = (
            f"{terms.origin} names {terms.accelerator}: --accelerator auto lets the driver decide."
        )
    if first is not None and first.excluded not in _NOT_PUBLISHED:
        return auto
    newest = _newest_published(options, terms)
    if newest is None:
        return auto
    python = ".".join(selection.here.interpreter.version.split(".")[:2])
    kind = f" for {terms.accelerator}" if terms.accelerator else ""
    way = f"Ask for torch {newest.release}, the newest{kind} that Python {python} has."
    is_about_accelerator = first is not None and first.excluded is Exclusion.BUILD
    return add_hint(auto, way) if is_about_accelerator else way


def _find_on_index(options: Sequence[TorchOption], terms: TorchTerms) -> Optional[TorchOption]:
    """The build that is requested by a local version, `torch==2.14.1+cu130`, where the package
    index has the same build as 2.14.1."""
    pinned = [
        specifier.version
        for requirement in terms.requirements
        for specifier in requirement.specifier
        if specifier.operator == "=="
    ]
    for option in options:
        is_same = option.is_on_index and option.build.runtime_version in pinned
        if is_same and option.version not in pinned and option.excluded not in _NEVER:
            return option
    return None


def _newest_published(options: Sequence[TorchOption], terms: TorchTerms) -> Optional[TorchOption]:
    """The newest build for this machine and accelerator that only the user's own options or
    requirements exclude."""
    by_words = [
        one
        for one in _for_accelerator(options, terms)
        if one.excluded in BY_THE_PERSON and not one.build.version.is_prerelease
    ]
    return max(by_words, key=lambda one: Version(one.release), default=None)

"""torch and its extensions, chosen together: the newest torch that may come and has a wheel of every extension.

What the bundled facts settle is not asked of a host, and pip is not asked before a torch is found. Where no torch has
all of them, it is the newest one for which the others can be built.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName

from safe_install.errors import NoCandidate
from safe_install.index.facts import Catalog
from safe_install.models import CandidateKind, Rejection, Rule, TorchBuild
from safe_install.pipeline.choice import Chooser
from safe_install.resolve.provider import Resolution
from safe_install.resolve.rounds import Selection, Wanted
from safe_install.resolve.torch_choice import (
    Known,
    PassedOver,
    hint_to_leave_out,
    hint_to_permit,
    join_all,
    pass_over,
)
from safe_install.resolve.torch_ranking import BY_THE_PERSON, TorchOption, rank_torches

MAX_ASKED = 8  # releases of torch for which hosts are asked, beside the one that pip planned
MAX_SECONDS = 20.0  # of those questions: a host that does not answer takes its whole time-out each time

Resolve = Callable[[Selection], Resolution]


class JointChoice:
    """The torch of one request. It may be asked again, when pip says that the chosen one cannot come."""

    def __init__(
        self,
        wanted: Wanted,
        catalog: Catalog,
        chooser: Chooser,
        *,
        resolve: Resolve,
        check_torch: Callable[[Optional[TorchBuild]], None],
        resolve_with_builds: Optional[Resolve] = None,
    ) -> None:
        """`resolve`: the extensions for the torch of a selection, wheels alone. `check_torch`: raises Refused for one
        that would not run with what was declared. `resolve_with_builds`: where it has no wheel of one, its source."""
        self._wanted, self._catalog, self._chooser = wanted, catalog, chooser
        self._resolve, self._check_torch = resolve, check_torch
        self._resolve_with_builds = resolve_with_builds
        self._error: Optional[NoCandidate] = None  # of the first torch that was tried
        self._named: Dict[str, TorchBuild] = {}  # by release: the builds that pip named
        self._questions = MAX_ASKED
        self._seconds = MAX_SECONDS
        self._asked: Set[str] = set()  # versions of torch for which hosts were asked
        self._known: Dict[Tuple[str, str], Optional[bool]] = {}  # by version of torch, and requirement

    def choose(self, selection: Selection) -> Tuple[Selection, Resolution]:
        """The extensions, and the torch that comes with them. Errors: NoCandidate; Refused."""
        options = self._rank(selection)
        passed = {one.version for one in selection.torch_choice.passed_over}
        open_options = [one for one in options if one.excluded is None and one.version not in passed]
        for option in open_options:
            tried = _take_torch(selection, option)
            reason = self._reason_by_facts(tried, option)
            if reason is not None:
                selection = _pass_over(selection, PassedOver(option.build, reason))
                continue
            try:
                resolution = self._ask(tried, self._resolve)
            except NoCandidate as error:
                why = PassedOver(option.build, why_lacking(error, tried))
                selection = _pass_over(selection, why, error.rejections)
                continue
            return _with_reason_of_planned(tried, options), resolution
        found = self._choose_builds(selection, options)
        if found is not None:
            return found
        self._check_torch(selection.torch_choice.planned)
        raise self._failure(selection, options)

    def _rank(self, selection: Selection) -> Tuple[TorchOption, ...]:
        """The options, with the builds that pip named in place of those that were supposed of their releases.

        Of every release that it named: what turned out not to fit would otherwise be supposed, and tried, for ever.
        """
        choice, coming = selection.torch_choice, selection.coming_torch
        assert choice.planned is not None  # noqa: S101 - only then there is something to choose
        options = rank_torches(
            choice.planned, self._wanted.torch, selection.here, self._catalog, is_fixed=choice.is_fixed
        )
        options = tuple(option for option in options if option.is_on_index)
        if coming is not None and not choice.is_assumed:
            self._named[coming.version.public] = coming
        found = []
        for option in options:
            build = self._named.get(option.release, option.build)
            found.append(dataclasses.replace(option, build=build))
        return tuple(found)

    def _choose_builds(
        self, selection: Selection, options: Sequence[TorchOption]
    ) -> Optional[Tuple[Selection, Resolution]]:
        """The newest torch for which what has no wheel can be built; None where there is none."""
        if self._resolve_with_builds is None:
            return None
        refused = {one.version for one in selection.torch_choice.passed_over if one.by_installer}
        may_come = [one for one in options if one.excluded is None and one.version not in refused]
        errors: List[NoCandidate] = []
        for option in may_come:
            if option.version not in self._asked and self._is_at_limit:
                continue
            tried = _take_torch(selection, option)
            try:
                resolution = self._ask(tried, self._resolve_with_builds)
            except NoCandidate as error:
                errors.append(error)
                continue
            return _with_reason_of_planned(_say_built(tried, resolution), options), resolution
        # Why it can be built for no torch says more than that no wheel is there.
        self._error = errors[0] if errors else self._error
        return None

    # --- what is known without a question ----------------------------------------------------------

    def _reason_by_facts(self, tried: Selection, option: TorchOption) -> Optional[str]:
        """Why a torch is not even tried; None where its wheels are known or only the hosts can tell."""
        choice = tried.torch_choice
        if option.build == choice.planned or not choice.is_assumed:
            return None
        known = self._find_known(tried, option)
        missing = [name for name, is_known in known.items() if is_known is False]
        if missing:
            return _not_built(missing)
        if self._is_at_limit:
            uncertain = [name for name, is_known in known.items() if not is_known]
            return f"no {_listed(uncertain or list(known))} is known for it, and its host was not asked"
        return None

    @property
    def _is_at_limit(self) -> bool:
        """Were hosts asked for as many torches as they may be?"""
        return self._questions <= 0 or self._seconds <= 0

    def _find_known(self, selection: Selection, option: TorchOption) -> Known:
        """For which extensions do the bundled facts know a wheel?"""
        environment = dataclasses.replace(selection.planned, torch=option.build)
        constraints = self._wanted.constraints
        found: Dict[NormalizedName, Optional[bool]] = {}
        for name, requirement in selection.extensions.items():
            key = (option.version, str(requirement))
            if key not in self._known:
                self._known[key] = self._chooser.is_known(requirement, environment, constraints=constraints)
            found[name] = self._known[key]
        return found

    def _ask(self, tried: Selection, resolve: Resolve) -> Resolution:
        """The extensions for a torch, as the hosts have them. Errors: NoCandidate; the first one is kept."""
        is_first = tried.coming_torch == tried.torch_choice.planned
        start = time.monotonic()
        self._asked.add(_version_of(tried))
        try:
            return resolve(tried)
        except NoCandidate as error:
            self._error = self._error or error
            raise
        finally:
            if not is_first:
                self._questions -= 1
                self._seconds -= time.monotonic() - start

    # --- when there is none ------------------------------------------------------------------------

    def _failure(self, selection: Selection, options: Sequence[TorchOption]) -> NoCandidate:
        """The error of the newest torch, with the torch that has all extensions, or most of them, as the hint."""
        error = self._error
        if error is None:
            last = selection.torch_choice.passed_over[-1]
            error = NoCandidate(f"torch {last.release}: {last.reason}")
        refused = [one for one in selection.torch_choice.passed_over if one.by_installer]
        if refused:
            has_all = f"torch {refused[0].release} has {join_all(selection.extensions)}"
            error.hint = f"Make room for the torch that fits: {has_all}, but {refused[0].reason}."
            return error
        error.hint = (
            self._hint_to_permit(selection, options) or self._hint_to_leave_out(selection, options) or error.hint
        )
        return error

    def _hint_to_permit(self, selection: Selection, options: Sequence[TorchOption]) -> str:
        for option in options:
            if option.excluded in BY_THE_PERSON and self._has_all(selection, option):
                return hint_to_permit(option, tuple(selection.extensions.values()))
        return ""

    def _has_all(self, selection: Selection, option: TorchOption) -> bool:
        """Has a torch that may not come a wheel of every extension?"""
        tried = _take_torch(selection, option)
        if self._reason_by_facts(tried, option) is not None:
            return False
        if all(self._find_known(tried, option).values()):
            return True
        try:
            self._ask(tried, self._resolve)
        except NoCandidate:
            return False
        return True

    def _hint_to_leave_out(self, selection: Selection, options: Sequence[TorchOption]) -> str:
        may_come = [option for option in options if option.excluded is None]
        known = {option.version: self._find_each(selection, option) for option in may_come}
        return hint_to_leave_out(may_come, known)

    def _find_each(self, selection: Selection, option: TorchOption) -> Known:
        """For which extensions is there a wheel? Where hosts were asked for all, their pages answer for each."""
        found = dict(self._find_known(selection, option))
        if option.version not in self._asked:
            return found
        tried = _take_torch(selection, option)
        for name, is_known in found.items():
            if is_known is None:
                found[name] = self._has_one(dataclasses.replace(tried, extensions={name: tried.extensions[name]}))
        return found

    def _has_one(self, tried: Selection) -> bool:
        try:
            self._resolve(tried)
        except NoCandidate:
            return False
        return True


def _take_torch(selection: Selection, option: TorchOption) -> Selection:
    """With a torch of our own choice, in place of the one before; the installer is to say which build it is."""
    if option.build == selection.coming_torch:
        return selection
    is_kept = option.is_installed
    choice = dataclasses.replace(selection.torch_choice, is_assumed=not is_kept, keeps_installed=is_kept)
    planned = selection.here if is_kept else dataclasses.replace(selection.planned, torch=option.build)
    return dataclasses.replace(
        selection, coming_torch=None if is_kept else option.build, planned=planned, torch_choice=choice, pins={}
    )


def _say_built(selection: Selection, resolution: Resolution) -> Selection:
    """With the names of what is built for its torch."""
    built = tuple(pin.name for pin in resolution.pins if pin.kind is CandidateKind.SDIST)
    choice = dataclasses.replace(selection.torch_choice, built=built)
    return dataclasses.replace(selection, torch_choice=choice)


def _pass_over(selection: Selection, passed: PassedOver, rejections: Sequence[Rejection] = ()) -> Selection:
    choice = pass_over(selection.torch_choice, passed, rejections)
    return dataclasses.replace(selection, torch_choice=choice)


def _with_reason_of_planned(selection: Selection, options: Sequence[TorchOption]) -> Selection:
    """With why the torch that pip planned was not even tried: it does not run with the driver."""
    choice = selection.torch_choice
    passed = {one.version for one in choice.passed_over}
    for option in options:
        is_untried = option.build == choice.planned and option.version not in passed
        if is_untried and selection.coming_torch != option.build:
            name = f"torch {option.build.runtime_version} "
            reason = option.reason or option.warning
            reason = reason[len(name) :] if reason.startswith(name) else reason
            return _pass_over(selection, PassedOver(option.build, reason))
    return selection


def _version_of(selection: Selection) -> str:
    torch = selection.planned.torch
    return str(torch.version) if torch is not None else ""


def why_lacking(error: NoCandidate, selection: Selection) -> str:
    """Why a torch was not taken: `no torch-scatter was built for it`."""
    names = list(error.projects or selection.extensions)
    if error.is_open:
        return f"no {_listed(names)} for it is known here"
    rules = {rejection.rule for rejection in error.rejections if rejection.candidate.name in names}
    if rules <= {Rule.TORCH_VERSION, Rule.NO_BUILD}:
        return _not_built(names)
    return f"no {_listed(names)} that fits was built for it"


def _not_built(names: Sequence[str]) -> str:
    return f"no {_listed(names)} was built for it"


def _listed(names: Sequence[str]) -> str:
    return " and no ".join(names)

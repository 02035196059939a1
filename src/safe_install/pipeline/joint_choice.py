"""torch and its extensions, chosen together: the newest torch that may come and has a wheel of every extension.

What the bundled facts settle is not asked of a host, and pip is not asked before a torch is found.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Dict, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName

from safe_install.errors import NoCandidate
from safe_install.index.bundled import has_builds_for
from safe_install.index.facts import Catalog
from safe_install.models import Rejection, Rule, TorchBuild
from safe_install.pipeline.choice import Chooser
from safe_install.resolve import rounds
from safe_install.resolve.provider import Resolution
from safe_install.resolve.rounds import Selection, Wanted
from safe_install.resolve.torch_choice import (
    Known,
    PassedOver,
    hint_to_leave_out,
    hint_to_permit,
    join_all,
    pass_over,
    why_none_may_come,
)
from safe_install.resolve.torch_conflict import (
    Conflict,
    TorchRow,
    find_conflict,
    met_by_torch,
    wishes_of,
    without_wishes,
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
        only_index: bool = True,
        offline: bool = False,
    ) -> None:
        """`resolve`: the extensions for the torch of a selection. `check_torch`: raises Refused for one that would not
        run with what was declared. `only_index`: only builds of torch that pip finds where it looks anyway. `offline`:
        no host can be asked, so that what is not known to be there is as good as missing."""
        self._wanted, self._catalog, self._chooser = wanted, catalog, chooser
        self._resolve, self._check_torch = resolve, check_torch
        self._only_index, self._offline = only_index, offline
        self._error: Optional[NoCandidate] = None  # of the first torch that was tried
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
                resolution = self._ask(tried)
            except NoCandidate as error:
                why = PassedOver(option.build, why_lacking(error, tried))
                selection = _pass_over(selection, why, error.rejections)
                continue
            return _with_reason_of_planned(tried, options), resolution
        self._check_torch(selection.torch_choice.planned)
        raise self._failure(selection, options)

    def _rank(self, selection: Selection) -> Tuple[TorchOption, ...]:
        """The options, with the build that pip named in place of the one that was supposed of its release."""
        choice, coming = selection.torch_choice, selection.coming_torch
        options = rank_torches(
            choice.planned, self._wanted.torch, selection.here, self._catalog, is_fixed=choice.is_fixed
        )
        if self._only_index:
            options = tuple(option for option in options if option.is_on_index)
        if coming is None or choice.is_assumed:
            return options
        release = coming.version.public
        return tuple(
            dataclasses.replace(option, build=coming) if option.release == release else option for option in options
        )

    # --- what is known without a question ----------------------------------------------------------

    def _reason_by_facts(self, tried: Selection, option: TorchOption) -> Optional[str]:
        """Why a torch is not even tried; None where its wheels are known or only the hosts can tell."""
        choice = tried.torch_choice
        if option.build == choice.planned or not choice.is_assumed:
            return None
        known = self._find_known(tried, option)
        missing = [name for name, is_known in known.items() if is_known is False]
        if missing:
            projects = [self._catalog.project(name) for name in missing]
            is_built = any(has_builds_for(project, option.build) for project in projects)
            return _not_fitting(missing) if is_built else _not_built(missing)
        unknown = [name for name, is_known in known.items() if is_known is None]
        if unknown and self._offline:
            return _not_known(unknown)
        if self._questions <= 0 or self._seconds <= 0:
            uncertain = [name for name, is_known in known.items() if not is_known]
            return f"no {_listed(uncertain or list(known))} is known for it, and its host was not asked"
        return None

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

    def _ask(self, tried: Selection) -> Resolution:
        """The extensions for a torch, as the hosts have them. Errors: NoCandidate; the first one is kept."""
        is_first = tried.coming_torch == tried.torch_choice.planned
        start = time.monotonic()
        self._asked.add(_version_of(tried))
        try:
            return self._resolve(tried)
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
        if error is None and not selection.torch_choice.passed_over:
            error = NoCandidate(why_none_may_come(options))
        elif error is None:
            last = selection.torch_choice.passed_over[-1]
            error = NoCandidate(f"torch {last.release}: {last.reason}")
        refused = [one for one in selection.torch_choice.passed_over if one.by_installer]
        if refused:
            has_all = f"torch {refused[0].release} has {join_all(selection.extensions)}"
            error.hint = f"Make room for the torch that fits: {has_all}, but {refused[0].reason}."
            return error
        planned = dataclasses.replace(selection, coming_torch=selection.torch_choice.planned)
        error.hint = (
            self._hint_to_permit(selection, options)
            or self._hint_to_leave_out(selection, options)
            or rounds.hint_for_unbuilt(planned, self._wanted, self._catalog)
            or error.hint
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
            self._ask(tried)
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

    def find_conflict(self, selection: Selection) -> Optional[Conflict]:
        """Which wishes exclude each other, by what is known without a question and by the pages that were read; None
        where a torch meets them all. The person's words about torch are wishes, too."""
        terms = self._wanted.torch
        options: Dict[str, TorchOption] = {}
        for accelerator in dict.fromkeys((terms.accelerator, "")):
            freed = without_wishes(terms, accelerator=accelerator)
            for option in rank_torches(None, freed, selection.here, self._catalog):
                if option.excluded is None:
                    options.setdefault(option.version, option)
        rows = [self._make_row(selection, option) for option in options.values()]
        wishes = wishes_of(terms, selection.extensions.values(), selection.here.torch)
        return find_conflict(wishes, rows)

    def _make_row(self, selection: Selection, option: TorchOption) -> TorchRow:
        met = set(met_by_torch(option.build, self._wanted.torch, selection.here.torch))
        unknown = set()
        for name, is_known in self._find_each(selection, option).items():
            wish = str(selection.extensions[name])
            if is_known:
                met.add(wish)
            elif is_known is None:
                unknown.add(wish)
        return TorchRow(option.build.runtime_version, frozenset(met), frozenset(unknown))

    def _has_one(self, tried: Selection) -> Optional[bool]:
        try:
            self._resolve(tried)
        except NoCandidate as error:
            return None if error.is_open else False
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
        return _not_known(names)
    rules = {rejection.rule for rejection in error.rejections if rejection.candidate.name in names}
    if rules <= {Rule.TORCH_VERSION, Rule.NO_BUILD}:
        return _not_built(names)
    return _not_fitting(names)


def _not_fitting(names: Sequence[str]) -> str:
    return f"no {_listed(names)} that fits was built for it"


def _not_built(names: Sequence[str]) -> str:
    return f"no {_listed(names)} was built for it"


def _not_known(names: Sequence[str]) -> str:
    return f"no {_listed(names)} for it is known here"


def _listed(names: Sequence[str]) -> str:
    return " and no ".join(names)

"""Chooses torch and its extensions together: the newest permitted torch that has a wheel of every
extension.

No host is asked for what the bundled facts know, and pip is not asked before a torch is found.
Where no torch has all wheels, the newest one for which the missing ones can be built is chosen;
with `-U torch` that is preferred to keeping the installed one.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Dict, List, Optional, Sequence, Set, Tuple, Union

from packaging.utils import NormalizedName

from safe_install.errors import NoCandidate, Refused
from safe_install.index.facts import Catalog
from safe_install.index.torch_files import Absent, Listing, TorchFile
from safe_install.models import CandidateKind, TorchBuild
from safe_install.pipeline.choice import Chooser, TorchSource
from safe_install.resolve import decisions
from safe_install.resolve.accelerator import with_listing
from safe_install.resolve.decisions import Selection, Wanted
from safe_install.resolve.no_torch import no_torch
from safe_install.resolve.provider import Resolution
from safe_install.resolve.torch_choice import (
    Known,
    PassedOver,
    add_hint,
    hint_of_installed,
    hint_to_leave_out,
    hint_to_let_move,
    hint_to_permit,
    hint_to_step_back,
    hint_where_pip_has_no_plan,
    join_all,
    newest_held_back,
    passed_over_as_absent,
)
from safe_install.resolve.torch_options import (
    MoreTorches,
    accelerator_to_list,
    as_reinstall,
    is_of_another_accelerator,
    is_open_question,
    is_step_back_to,
    listed,
    may_keep_planned,
    name_carried,
    newer_options,
    open_options,
    possible_options,
    refuse_for_silence,
    refuse_other_source,
    same_release_first,
    settle,
    take_planned,
    take_torch,
    version_of,
    why_lacking,
    why_not_built,
    why_not_known,
    with_built,
    with_passed_over,
    with_reason_against_build,
    with_reason_of_planned,
    without_untried,
    without_wheel,
)
from safe_install.resolve.torch_ranking import (
    BY_THE_PERSON,
    TorchOption,
    judge_planned,
    rank_torches,
)
from safe_install.resolve.torch_reason import Reason

MAX_ASKED = 8  # releases of torch for which hosts are asked, beside pip's own
# Limit for those questions together: a silent host takes its whole time-out each time.
MAX_SECONDS = 20.0

Resolve = Callable[[Selection], Resolution]
Chosen = Tuple[Selection, Resolution]  # the selection with the chosen torch; its extensions
_NOTHING = Resolution((), (), ())


class JointChoice:
    """The choice of torch for one request, made again where pip finds no plan with the chosen
    one."""

    def __init__(
        self,
        wanted: Wanted,
        catalog: Catalog,
        chooser: Chooser,
        torch_source: TorchSource,
        *,
        resolve: Resolve,
        check_torch: Callable[[Optional[TorchBuild]], None],
        resolve_with_builds: Optional[Resolve] = None,
        may_keep: Callable[[Optional[TorchBuild]], bool] = lambda torch: False,
        finds_files: bool = True,
        offline: bool = False,
    ) -> None:
        """`resolve`: the extensions for the torch of a selection, from wheels alone. `check_torch`:
        raises Refused for a torch that would not run with what was declared. `resolve_with_builds`:
        as `resolve`, with the source of what has no wheel. `may_keep`: may what is installed stay
        as it is beside a torch? `finds_files`: take a build that pip cannot find only with its
        file. `offline`: no host can be asked, so an extension that is not known to have a wheel
        counts as missing."""
        self._wanted, self._catalog = wanted, catalog
        self._chooser, self._torch_source = chooser, torch_source
        self._resolve, self._check_torch = resolve, check_torch
        self._resolve_with_builds = resolve_with_builds
        self._may_keep = may_keep
        self._finds_files, self._offline = finds_files, offline
        self._error: Optional[NoCandidate] = None  # for the first torch that was tried
        self._named: Dict[str, TorchOption] = {}  # by release: the builds that pip named
        self._questions = MAX_ASKED
        self._seconds = MAX_SECONDS
        self._asked: Set[str] = set()  # versions of torch for which hosts were asked
        # by (version of torch, requirement)
        self._known: Dict[Tuple[str, str], Optional[bool]] = {}
        self._files: Dict[str, Union[TorchFile, Absent]] = {}  # by version of torch
        self._listing: Optional[Listing] = None  # of the requested accelerator

    def choose(self, selection: Selection) -> Chosen:
        """The selection with the chosen torch, and its extensions. Errors: NoCandidate; Refused."""
        selection = without_untried(selection)
        options = self.rank(selection)
        for option in open_options(selection, options):
            if option.is_installed:
                selection, built = self._build_for_newer(selection, options)
                if built is not None:
                    return built
            tried = take_torch(selection, option)
            passed_over = self._reason_against(tried, option)
            if passed_over is not None:
                if passed_over.is_silent and self._would_be_taken(tried, option):
                    listing = self._torch_source.list_torch(
                        option.build.accelerator, tried.here.interpreter
                    )
                    refuse_for_silence(passed_over, options, selection, listing, self._wanted)
                selection = with_passed_over(selection, passed_over)
                continue
            tried = self._with_file(tried, option)
            try:
                resolution = self._ask(tried, self._resolve)
            except NoCandidate as error:
                selection = without_wheel(selection, option, why_lacking(error, tried), error)
                continue
            return self._settle(tried, options), resolution
        return self._choose_without_wheels(selection, options)

    def _choose_without_wheels(
        self, selection: Selection, options: Sequence[TorchOption]
    ) -> Chosen:
        """No torch has all wheels: pip's own one, or one for which they can be built. Errors:
        NoCandidate; Refused."""
        if may_keep_planned(selection, options):
            return settle(take_planned(selection)), _NOTHING
        found = self._choose_builds(selection, options)
        if found is not None:
            return found
        if not is_of_another_accelerator(selection.torch_choice.planned, options):
            self._check_torch(selection.torch_choice.planned)
        raise self._failure(selection, options)

    def _settle(self, tried: Selection, options: Sequence[TorchOption]) -> Selection:
        settled = settle(with_reason_of_planned(tried, options, self._wanted.torch))
        held_back = newest_held_back(settled.torch_choice, settled.carried)
        if held_back is None:
            return settled
        choice = dataclasses.replace(settled.torch_choice, may_keep=self._may_keep(held_back))
        return dataclasses.replace(settled, torch_choice=choice)

    def choose_for_installed(self, selection: Selection) -> Resolution:
        """The extensions for the installed torch. Errors: Refused; NoCandidate, with the older
        torch that has them all as a hint, where --allow-torch-change is needed for it."""
        try:
            return (self._resolve_with_builds or self._resolve)(selection)
        except NoCandidate as error:
            is_settled = not error.is_open and not self._wanted.allow_torch_change
            is_free = not any(one.specifier for one in selection.extensions.values())
            older = self._find_older(selection) if is_settled and is_free else None
            if older is not None:
                error.hint = add_hint(error.hint, hint_to_step_back(older, selection.extensions))
            raise

    def rank(self, selection: Selection) -> Tuple[TorchOption, ...]:
        """The builds of torch in order of preference. A build that pip named replaces the one that
        was assumed for its release: otherwise an assumption that proved wrong would be tried again
        for ever."""
        choice, coming, terms = selection.torch_choice, selection.coming_torch, self._wanted.torch
        catalog = self._with_listing(selection)
        options = rank_torches(
            choice.planned, terms, selection.here, catalog, is_fixed=choice.is_fixed
        )
        if self._wanted.force_reinstall:
            options = tuple(
                as_reinstall(option, self._catalog, selection.here) for option in options
            )
        if terms.asked.accelerator and not self._wanted.upgrade:
            options = same_release_first(options, selection.here.torch)
        if coming is not None and not (
            choice.is_assumed or selection.torch_pins or coming == choice.planned
        ):
            self._named[coming.version.public] = judge_planned(
                coming, terms, selection.here, catalog
            )
        found = []
        for option in options:
            named = self._named.get(option.release) if option.is_on_index else None
            found.append(named or option)
        return tuple(found)

    # --- builds that are not on pip's index -------------------------------------------------------

    def _with_listing(self, selection: Selection) -> Catalog:
        """The catalog, with the builds that download.pytorch.org lists for the requested
        accelerator."""
        accelerator = accelerator_to_list(selection, self._wanted, self._catalog.torch)
        if not accelerator:
            return self._catalog
        interpreter = selection.here.interpreter
        self._listing = self._torch_source.list_torch(accelerator, interpreter)
        python = ".".join(interpreter.version.split(".")[:2])
        return MoreTorches(
            self._catalog, with_listing(self._catalog.torch, accelerator, self._listing, python)
        )

    def _reason_against(self, tried: Selection, option: TorchOption) -> Optional[PassedOver]:
        """Why a torch is not tried: its extensions, or its file is on no page. None: try it."""
        by_facts = self._lacking_by_facts(tried, option)
        if by_facts is not None:
            return by_facts
        if option.is_installed and is_open_question(tried):
            reason = Reason("whether there is a newer build like it is not known")
            return PassedOver(option.build, reason)
        if option.is_on_index or tried.torch_choice.files or not self._finds_files:
            return None
        found = self._find_file(option, tried)
        return passed_over_as_absent(option.build, found) if isinstance(found, Absent) else None

    def _would_be_taken(self, tried: Selection, option: TorchOption) -> bool:
        """Would this build be chosen if its silent host answered?"""
        is_silent = any(one.is_uncertain for one in tried.torch_choice.passed_over)
        is_wanted = tried.here.torch is None and not option.warning and not is_silent
        return is_wanted and all(self._find_known(tried, option).values())

    def _find_file(self, option: TorchOption, selection: Selection) -> Union[TorchFile, Absent]:
        if option.version not in self._files:
            self._files[option.version] = self._torch_source.find_torch(
                option.build, selection.here.interpreter
            )
        return self._files[option.version]

    def _with_file(self, tried: Selection, option: TorchOption) -> Selection:
        """The selection with the file of a build that pip cannot find: its build is then
        certain."""
        found = self._files.get(option.version)
        if option.is_on_index or not isinstance(found, TorchFile):
            return tried
        choice = dataclasses.replace(tried.torch_choice, is_assumed=False, files=(found,))
        return dataclasses.replace(tried, torch_choice=choice)

    def _build_for_newer(
        self, selection: Selection, options: Sequence[TorchOption]
    ) -> Tuple[Selection, Optional[Chosen]]:
        """With `-U torch`, where no newer torch has a wheel of every extension: the newest one for
        which the missing ones can be built here. None where there is none; the selection then has
        the reason."""
        if not decisions.is_torch_to_move(self._wanted) or not selection.extensions:
            return selection, None
        found = self._choose_builds(selection, newer_options(options))
        if found is None:
            return selection, None
        tried, resolution = found
        try:
            for pin in resolution.pins:
                if pin.kind is CandidateKind.SDIST:
                    self._chooser.check_build(pin, tried.planned)
        except Refused as error:
            return with_reason_against_build(selection, tried, error), None
        return selection, found

    def _choose_builds(
        self, selection: Selection, options: Sequence[TorchOption]
    ) -> Optional[Chosen]:
        """The newest torch for which what has no wheel can be built; None where there is none."""
        if self._resolve_with_builds is None:
            return None
        passed = selection.torch_choice.passed_over
        refused = [one.version for one in passed if one.by_installer]
        errors: List[NoCandidate] = []
        for option in possible_options(options, passed):
            if option.version in refused:
                continue
            if option.version not in self._asked and self._is_at_limit:
                continue
            tried = take_torch(selection, option)
            if not option.is_on_index and isinstance(self._find_file(option, tried), Absent):
                continue
            tried = self._with_file(tried, option)
            try:
                resolution = self._ask(tried, self._resolve_with_builds)
                refuse_other_source(resolution, tried)
            except NoCandidate as error:
                errors.append(error)
                continue
            return self._settle(with_built(tried, resolution), options), resolution
        # Why nothing can be built says more than that there is no wheel.
        self._error = errors[0] if errors else self._error
        return None

    # --- what is known without asking a host ------------------------------------------------------

    def _lacking_by_facts(self, tried: Selection, option: TorchOption) -> Optional[PassedOver]:
        """Why a torch is not tried, by the bundled facts; None where hosts have to be asked, or
        wheels are known."""
        choice = tried.torch_choice
        if option.build == choice.planned or not choice.is_assumed:
            return None
        known = self._find_known(tried, option)
        missing = [name for name, is_known in known.items() if is_known is False]
        if missing:
            reason = why_not_built(missing, option, tried, self._catalog)
            return PassedOver(option.build, Reason(reason), lacking=tuple(missing))
        unknown = [name for name, is_known in known.items() if is_known is None]
        if self._offline:
            offline = why_not_known(unknown, option, tried, self._catalog.torch)
            if offline is None:
                return None
            return PassedOver(option.build, Reason(offline), lacking=tuple(unknown))
        if not self._is_at_limit:
            return None
        uncertain = [name for name, is_known in known.items() if not is_known] or list(known)
        reason = f"no {listed(uncertain, tried)} is known for it, and its host was not asked"
        return PassedOver(option.build, Reason(reason), lacking=tuple(uncertain))

    @property
    def _is_at_limit(self) -> bool:
        """Were hosts asked for as many torches, or for as long, as allowed?"""
        return self._questions <= 0 or self._seconds <= 0

    def _find_known(self, selection: Selection, option: TorchOption) -> Known:
        """For each extension: do the bundled facts know a wheel for this torch?"""
        tried = take_torch(selection, option)
        environment = dataclasses.replace(tried.planned, torch=option.build)
        constraints = self._wanted.constraints
        found: Dict[NormalizedName, Optional[bool]] = {}
        for name, requirement in tried.extensions.items():
            if decisions.may_stay(name, tried, self._wanted, self._catalog):
                found[name] = True
                continue
            key = (option.version, str(requirement))
            if key not in self._known:
                self._known[key] = self._chooser.is_known(
                    requirement, environment, constraints=constraints
                )
            found[name] = self._known[key]
        return found

    def _ask(self, tried: Selection, resolve: Resolve) -> Resolution:
        """The extensions for a torch, as the hosts have them. Errors: NoCandidate; the first is
        remembered."""
        if not tried.extensions:
            return _NOTHING
        version = version_of(tried)
        is_first = tried.coming_torch == tried.torch_choice.planned
        releases = {one.partition("+")[0] for one in self._asked}
        is_new_release = version.partition("+")[0] not in releases
        start = time.monotonic()
        self._asked.add(version)
        try:
            return resolve(tried)
        except NoCandidate as error:
            self._error = self._error or error
            raise
        finally:
            if not is_first:
                self._questions -= 1 if is_new_release else 0
                self._seconds -= time.monotonic() - start

    # --- when no torch has all extensions ---------------------------------------------------------

    def _failure(self, selection: Selection, options: Sequence[TorchOption]) -> NoCandidate:
        """The error for the newest torch; its hint names the torch that has most extensions."""
        error = self._error
        passed = selection.torch_choice.passed_over
        is_of_extensions = any(one.lacking or one.by_installer for one in passed)
        if error is None and not (selection.extensions and is_of_extensions):
            return no_torch(selection, options, self._wanted, self._listing)
        error = error or NoCandidate(passed[-1].say_why_not())
        refused = [one for one in passed if one.by_installer]
        if refused:
            error.hint = hint_where_pip_has_no_plan(refused[0], selection.extensions)
            return error
        holding, may_keep = self._find_holding(selection, options)
        error.projects = holding or error.projects
        error = name_carried(error, selection)
        error.hint = (
            self._hint_to_permit(selection, options)
            or self._hint_to_leave_out(selection, options)
            or error.hint
        )
        if holding:
            error.hint = hint_to_let_move(error.hint, holding, may_keep=may_keep)
        return error

    def _find_holding(
        self, selection: Selection, options: Sequence[TorchOption]
    ) -> Tuple[Tuple[NormalizedName, ...], bool]:
        """The extensions that cannot go along with the torch that was asked for, and may all that
        is installed stay as it is beside it? None where one that was named cannot come, either."""
        planned = selection.torch_choice.planned
        meant = [one for one in options if one.build == planned] or possible_options(options, ())
        if not meant or not selection.carried:
            return (), False
        tried, holding = take_torch(selection, meant[0]), []
        for name, requirement in tried.extensions.items():
            alone = dataclasses.replace(tried, extensions={name: requirement})
            try:
                refuse_other_source((self._resolve_with_builds or self._resolve)(alone), alone)
            except NoCandidate:
                holding.append(name)
        if not set(holding) <= selection.carried:
            return (), False
        return tuple(sorted(holding)), self._may_keep(meant[0].build)

    def _hint_to_permit(self, selection: Selection, options: Sequence[TorchOption]) -> str:
        here, planned = selection.here.torch, selection.torch_choice.planned
        is_step_back = here is not None and planned is not None and planned.version < here.version
        if here is not None and is_step_back and set(selection.extensions) == selection.carried:
            return hint_of_installed(here, join_all(selection.extensions))
        for option in options:
            is_older = here is not None and is_step_back_to(option, here)
            may_be_permitted = option.excluded in BY_THE_PERSON or is_older
            if may_be_permitted and self._has_all(selection, option):
                return hint_to_permit(
                    option, tuple(selection.extensions.values()), selection.carried
                )
        return ""

    def _find_older(self, selection: Selection) -> Optional[TorchOption]:
        """The newest older torch that is known to have every extension, permitted by
        --allow-torch-change."""
        installed = selection.here.torch
        if installed is None:
            return None
        for option in rank_torches(None, self._wanted.torch, selection.here, self._catalog):
            is_possible = is_step_back_to(option, installed) and not option.warning
            if is_possible and all(self._find_known(selection, option).values()):
                return option
        return None

    def _has_all(self, selection: Selection, option: TorchOption) -> bool:
        """Does a torch that is not permitted have a wheel of every extension?"""
        tried = take_torch(selection, option)
        if self._lacking_by_facts(tried, option) is not None:
            return False
        is_silent = self._error is not None and self._error.is_open  # a host did not answer
        if not is_silent and all(self._find_known(tried, option).values()):
            return True
        try:
            self._ask(tried, self._resolve)
        except NoCandidate:
            return False
        return True

    def _hint_to_leave_out(self, selection: Selection, options: Sequence[TorchOption]) -> str:
        possible = [option for option in options if option.excluded is None]
        known = {option.version: self.find_each(selection, option) for option in possible}
        return hint_to_leave_out(possible, known)

    def find_each(self, selection: Selection, option: TorchOption) -> Known:
        """For each extension: is there a wheel for this torch? Where hosts were asked for all, from
        their pages, which are cached."""
        found = dict(self._find_known(selection, option))
        if option.version not in self._asked:
            return found
        tried = take_torch(selection, option)
        for name, is_known in found.items():
            if is_known is None:
                found[name] = self._has_one(
                    dataclasses.replace(tried, extensions={name: tried.extensions[name]})
                )
        return found

    def _has_one(self, tried: Selection) -> Optional[bool]:
        try:
            self._resolve(tried)
        except NoCandidate as error:
            return None if error.is_open else False
        return True

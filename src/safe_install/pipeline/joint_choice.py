"""torch and its extensions, chosen together: the newest torch that may come and has a wheel of every extension.

What the bundled facts settle is not asked of a host, and pip is not asked before a torch is found. Where no torch has
all of them, it is the newest one for which the others can be built.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Callable, Dict, FrozenSet, List, Optional, Sequence, Set, Tuple, Union

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import NoCandidate
from safe_install.index.bundled import has_builds_for
from safe_install.index.facts import Catalog, CudaTable, Project, TorchTable
from safe_install.index.torch_files import Absent, Listing, TorchFile
from safe_install.models import CandidateKind, Environment, Rejection, Rule, TorchBuild
from safe_install.pipeline.choice import Chooser
from safe_install.resolve import rounds
from safe_install.resolve.accelerator import with_listing
from safe_install.resolve.provider import Resolution
from safe_install.resolve.rounds import Selection, Wanted
from safe_install.resolve.target import planned_torch
from safe_install.resolve.torch_choice import (
    Known,
    PassedOver,
    hint_of_installed,
    hint_to_keep,
    hint_to_leave_out,
    hint_to_permit,
    join_all,
    pass_over,
)
from safe_install.resolve.torch_conflict import (
    Conflict,
    TorchRow,
    find_conflict,
    met_by_torch,
    wishes_of,
    without_wishes,
)
from safe_install.resolve.torch_ranking import BY_THE_PERSON, Exclusion, TorchOption, judge_planned, rank_torches

MAX_ASKED = 8  # releases of torch for which hosts are asked, beside the one that pip planned
MAX_SECONDS = 20.0  # of those questions: a host that does not answer takes its whole time-out each time
MAX_REFUSED = 2  # builds for which pip is asked in vain, where there are no extensions

Resolve = Callable[[Selection], Resolution]
_NOTHING = Resolution((), (), ())


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
        finds_files: bool = True,
        offline: bool = False,
    ) -> None:
        """`resolve`: the extensions for the torch of a selection, wheels alone. `check_torch`: raises Refused for one
        that would not run with what was declared. `resolve_with_builds`: where it has no wheel of one, its source.
        `finds_files`: a build that pip does not find by itself comes only with its file.
        `offline`: no host can be asked, so that what is not known to be there is as good as missing."""
        self._wanted, self._catalog, self._chooser = wanted, catalog, chooser
        self._resolve, self._check_torch = resolve, check_torch
        self._resolve_with_builds = resolve_with_builds
        self._finds_files, self._offline = finds_files, offline
        self._error: Optional[NoCandidate] = None  # of the first torch that was tried
        self._named: Dict[str, TorchOption] = {}  # by release: the builds that pip named
        self._questions = MAX_ASKED
        self._seconds = MAX_SECONDS
        self._asked: Set[str] = set()  # versions of torch for which hosts were asked
        self._known: Dict[Tuple[str, str], Optional[bool]] = {}  # by version of torch, and requirement
        self._files: Dict[str, Union[TorchFile, Absent]] = {}  # by version of torch
        self._listing: Optional[Listing] = None  # of the accelerator that is wanted

    def choose(self, selection: Selection) -> Tuple[Selection, Resolution]:
        """The extensions, and the torch that comes with them. Errors: NoCandidate; Refused."""
        selection = _without_untried(selection)
        options = self.rank(selection)
        for option in _open_options(selection, options):
            tried = _take_torch(selection, option)
            passed_over = self._reason_against(tried, option)
            if passed_over is not None:
                selection = _pass_over(selection, passed_over)
                continue
            tried = self._with_file(tried, option)
            try:
                resolution = self._ask(tried, self._resolve)
            except NoCandidate as error:
                why = PassedOver(option.build, why_lacking(error, tried))
                selection = _pass_over(selection, why, error.rejections)
                continue
            return _settle(_with_reason_of_planned(tried, options)), resolution
        if may_keep_planned(selection, options):
            return _settle(_take_planned(selection)), _NOTHING
        found = self._choose_builds(selection, options)
        if found is not None:
            return found
        if not _is_of_another_accelerator(selection.torch_choice.planned, options):
            self._check_torch(selection.torch_choice.planned)
        raise self._failure(selection, options)

    def rank(self, selection: Selection) -> Tuple[TorchOption, ...]:
        """The options, with the builds that pip named in place of those that were supposed of their releases.

        Of every release that it named: what turned out not to fit would otherwise be supposed, and tried, for ever.
        """
        choice, coming, terms = selection.torch_choice, selection.coming_torch, self._wanted.torch
        catalog = self._with_listing(selection)
        options = rank_torches(choice.planned, terms, selection.here, catalog, is_fixed=choice.is_fixed)
        if self._wanted.force_reinstall:
            options = tuple(_come_again(option, self._catalog, selection.here) for option in options)
        if terms.asked.accelerator and not self._wanted.upgrade:
            options = _same_release_first(options, selection.here.torch)
        if coming is not None and not (choice.is_assumed or selection.torch_pins or coming == choice.planned):
            self._named[coming.version.public] = judge_planned(coming, terms, selection.here, catalog)
        found = []
        for option in options:
            named = self._named.get(option.release) if option.is_on_index else None
            found.append(named or option)
        return tuple(found)

    # --- builds that are not on pip's index --------------------------------------------------------

    def _with_listing(self, selection: Selection) -> Catalog:
        """What is known, with the builds that download.pytorch.org lists for the accelerator that is wanted."""
        accelerator = _accelerator_to_list(selection, self._wanted)
        if not accelerator:
            return self._catalog
        interpreter = selection.here.interpreter
        self._listing = self._chooser.list_torch(accelerator, interpreter)
        python = ".".join(interpreter.version.split(".")[:2])
        return MoreTorches(self._catalog, with_listing(self._catalog.torch, accelerator, self._listing, python))

    def _reason_against(self, tried: Selection, option: TorchOption) -> Optional[PassedOver]:
        """Why a torch is not even tried: what is known of its extensions, or that its file is on no page."""
        reason = self._reason_by_facts(tried, option)
        if reason is not None:
            return PassedOver(option.build, reason)
        if option.is_installed and _is_open_question(tried):
            return PassedOver(option.build, "whether there is a newer build like it is not known")
        if option.is_on_index or tried.torch_choice.files or not self._finds_files:
            return None
        found = self._find_file(option, tried)
        return PassedOver(option.build, found.reason, is_open=found.is_open) if isinstance(found, Absent) else None

    def _find_file(self, option: TorchOption, selection: Selection) -> Union[TorchFile, Absent]:
        if option.version not in self._files:
            self._files[option.version] = self._chooser.find_torch(option.build, selection.here.interpreter)
        return self._files[option.version]

    def _with_file(self, tried: Selection, option: TorchOption) -> Selection:
        """With the file of a build that pip does not find by itself: then it is known which build comes."""
        found = self._files.get(option.version)
        if option.is_on_index or not isinstance(found, TorchFile):
            return tried
        choice = dataclasses.replace(tried.torch_choice, is_assumed=False, files=(found,))
        return dataclasses.replace(tried, torch_choice=choice)

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
            if not option.is_on_index and isinstance(self._find_file(option, tried), Absent):
                continue
            tried = self._with_file(tried, option)
            try:
                resolution = self._ask(tried, self._resolve_with_builds)
            except NoCandidate as error:
                errors.append(error)
                continue
            return _settle(_with_reason_of_planned(_say_built(tried, resolution), options)), resolution
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
            projects = [self._catalog.project(name) for name in missing]
            is_built = any(has_builds_for(project, option.build) for project in projects)
            return _not_fitting(missing) if is_built else _not_built(missing)
        unknown = [name for name, is_known in known.items() if is_known is None]
        if unknown and self._offline:
            return _not_known(unknown)
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
        tried = _take_torch(selection, option)
        environment = dataclasses.replace(tried.planned, torch=option.build)
        constraints = self._wanted.constraints
        found: Dict[NormalizedName, Optional[bool]] = {}
        for name, requirement in tried.extensions.items():
            if rounds.may_stay(name, tried, self._wanted, self._catalog):
                found[name] = True
                continue
            key = (option.version, str(requirement))
            if key not in self._known:
                self._known[key] = self._chooser.is_known(requirement, environment, constraints=constraints)
            found[name] = self._known[key]
        return found

    def _ask(self, tried: Selection, resolve: Resolve) -> Resolution:
        """The extensions for a torch, as the hosts have them. Errors: NoCandidate; the first one is kept."""
        if not tried.extensions:
            return _NOTHING
        version = _version_of(tried)
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

    # --- when there is none ------------------------------------------------------------------------

    def _failure(self, selection: Selection, options: Sequence[TorchOption]) -> NoCandidate:
        """The error of the newest torch, with the torch that has all extensions, or most of them, as the hint."""
        error = self._error
        if error is None and (not selection.extensions or not selection.torch_choice.passed_over):
            return no_torch(selection, options, self._wanted, self._listing)
        if error is None:
            last = selection.torch_choice.passed_over[-1]
            error = NoCandidate(f"torch {last.release}: {last.reason}")
        refused = [one for one in selection.torch_choice.passed_over if one.by_installer]
        if refused:
            has_all = f"torch {refused[0].release} has {join_all(selection.extensions)}"
            error.hint = f"Make room for the torch that fits: {has_all}, but {refused[0].reason}."
            return error
        error = self._with_carried(error, selection)
        hint = self._hint_to_permit(selection, options) or self._hint_to_leave_out(selection, options) or error.hint
        lacking = _carried_of(error, selection)
        error.hint = hint_to_keep(hint, lacking) if lacking else hint
        return error

    def _with_carried(self, error: NoCandidate, selection: Selection) -> NoCandidate:
        """With why extensions count that nobody named."""
        texts = []
        for name in _carried_of(error, selection):
            version = selection.here.installed[name].version
            texts.append(f"{name} {version} is installed, {selection.bound[name]}")
        return rounds.name_cause(error, "; ".join(texts)) if texts else error

    def _hint_to_permit(self, selection: Selection, options: Sequence[TorchOption]) -> str:
        here, planned = selection.here.torch, selection.torch_choice.planned
        is_step_back = here is not None and planned is not None and planned.version < here.version
        if here is not None and is_step_back and set(selection.extensions) == selection.carried:
            return hint_of_installed(here, join_all(selection.extensions))
        for option in options:
            if option.excluded in BY_THE_PERSON and self._has_all(selection, option):
                return hint_to_permit(option, tuple(selection.extensions.values()), selection.carried)
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
    choice = dataclasses.replace(selection.torch_choice, is_assumed=not is_kept, keeps_installed=is_kept, files=())
    if is_kept:
        choice = dataclasses.replace(choice, left_behind=tuple(sorted(selection.carried)))
        selection = rounds.leave_behind(selection, selection.carried)
    planned = selection.here if is_kept else dataclasses.replace(selection.planned, torch=option.build)
    return dataclasses.replace(
        selection,
        coming_torch=None if is_kept else option.build,
        planned=planned,
        torch_choice=choice,
        pins={},
        torch_pins={},
    )


def _open_options(selection: Selection, options: Sequence[TorchOption]) -> List[TorchOption]:
    """Those that may still be taken. Without extensions only pip knows what its index has, and what else is required:
    it is not asked for one release after the other."""
    passed = selection.torch_choice.passed_over
    names = {one.version for one in passed}
    found = [option for option in options if option.excluded is None and option.version not in names]
    if selection.extensions or sum(one.by_installer for one in passed) < MAX_REFUSED:
        return found
    return [option for option in found if option.is_installed]


def _without_untried(selection: Selection) -> Selection:
    choice = selection.torch_choice
    passed = tuple(one for one in choice.passed_over if not one.is_untried)
    return dataclasses.replace(selection, torch_choice=dataclasses.replace(choice, passed_over=passed))


def _is_open_question(selection: Selection) -> bool:
    """Is it only not known whether a newer torch like the installed one can be had? Then it does not stay silently."""
    passed = selection.torch_choice.passed_over
    return not selection.extensions and any(one.is_open for one in passed)


def _settle(selection: Selection) -> Selection:
    """With the torch that is taken as the outcome: it is not judged again."""
    taken = selection.coming_torch or selection.here.torch
    choice = dataclasses.replace(selection.torch_choice, is_open=False, taken=taken)
    return dataclasses.replace(selection, torch_choice=choice)


def _take_planned(selection: Selection) -> Selection:
    """With the torch of the installer's plan: what speaks against it is said, or refuses it, as without a choice."""
    build = selection.torch_choice.planned
    choice = dataclasses.replace(selection.torch_choice, is_assumed=False, keeps_installed=False, files=())
    planned = dataclasses.replace(selection.planned, torch=build)
    return dataclasses.replace(
        selection, coming_torch=build, planned=planned, torch_choice=choice, pins={}, torch_pins={}
    )


def may_keep_planned(selection: Selection, options: Sequence[TorchOption]) -> bool:
    """Is no other torch to be had, and the one that pip planned not the wrong accelerator? Extensions need one that
    they fit; without any, the checks of the plan have the last word."""
    choice = selection.torch_choice
    if choice.planned is None or selection.extensions:
        return False
    return not _is_of_another_accelerator(choice.planned, options)


def _is_of_another_accelerator(planned: Optional[TorchBuild], options: Sequence[TorchOption]) -> bool:
    """Is the torch of pip's plan not the build that was asked for?"""
    return any(option.build == planned and option.excluded is Exclusion.ACCELERATOR for option in options)


def _come_again(option: TorchOption, catalog: Catalog, here: Environment) -> TorchOption:
    """--force-reinstall: the installed build, from where it lies."""
    if not option.is_installed or option.build.version.local is None:
        return option
    build = planned_torch(option.version, here.interpreter.platform, catalog.torch)
    return dataclasses.replace(option, build=build, is_installed=False, is_on_index=False)


def _same_release_first(options: Sequence[TorchOption], installed: Optional[TorchBuild]) -> Tuple[TorchOption, ...]:
    """Another accelerator was asked for, and no other release."""
    if installed is None:
        return tuple(options)
    release = installed.version.public
    return tuple(sorted(options, key=lambda option: option.release != release))


def _accelerator_to_list(selection: Selection, wanted: Wanted) -> str:
    """The one accelerator whose builds are wanted; "" where pip's own plan is for it, or where the driver decides."""
    planned, here = selection.torch_choice.planned, selection.here
    installed = here.torch.accelerator if here.torch is not None else ""
    accelerator = wanted.torch.accelerator or installed
    if here.interpreter.platform.startswith("macosx") or selection.torch_choice.is_fixed:
        return ""
    return "" if planned is not None and planned.accelerator == accelerator else accelerator


class MoreTorches:
    """A catalog, with what the pages of torch's host say of torch."""

    def __init__(self, catalog: Catalog, torch: TorchTable) -> None:
        self.projects: FrozenSet[NormalizedName] = catalog.projects
        self.torch: TorchTable = torch
        self.cuda: CudaTable = catalog.cuda
        self.project: Callable[[str], Project] = catalog.project


def no_torch(
    selection: Selection, options: Sequence[TorchOption], wanted: Wanted, listing: Optional[Listing]
) -> NoCandidate:
    """No torch may come: why not, of the newest ones."""
    accelerator = wanted.torch.accelerator
    what = f"no torch for {accelerator}" if accelerator else "no torch"
    reasons = [f"torch {one.version}: {one.reason}" for one in selection.torch_choice.passed_over]
    if listing is not None and listing.problem is not None:
        reasons = [listing.problem.reason]
    else:
        meant = [option for option in options if not accelerator or option.build.accelerator == accelerator]
        # What no other word of the person's would change is said first.
        meant.sort(key=lambda option: option.excluded in BY_THE_PERSON)
        reasons += [option.reason for option in meant if option.excluded is not None]
    shown = "; ".join(dict.fromkeys(reasons[:3])) or "none is known here"
    hint = ""
    if wanted.torch.origin:
        hint = f"{wanted.torch.origin} names {accelerator}: --accelerator auto lets the driver decide."
    if listing is not None and listing.problem is not None and listing.problem.is_open:
        hint = (
            "Name a mirror of that host (SAFE_INSTALL_MIRRORS), or the very version that an index of yours has: "
            f"torch==X.Y.Z+{accelerator}."
        )
    for option in options:
        if option.is_on_index and option.build.runtime_version in map(_pinned_version, wanted.torch.requirements):
            hint = f"The package index has that build as torch=={option.version}."
    return NoCandidate(f"{what} can come: {shown}", hint=hint)


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
            reason = _reason_of_planned(option, options)
            return _pass_over(selection, PassedOver(option.build, reason, is_untried=True)) if reason else selection
    return selection


def _carried_of(error: NoCandidate, selection: Selection) -> List[NormalizedName]:
    """The extensions that nobody named, among those that an error is about."""
    names = error.projects or tuple(selection.carried)
    return sorted(canonicalize_name(name) for name in names if name in selection.carried)


def _reason_of_planned(planned: TorchOption, options: Sequence[TorchOption]) -> str:
    """Without the name before it. Where another accelerator was asked for: why its build of that release cannot come;
    "" where it can."""
    reason = planned.reason or planned.warning
    if planned.excluded is Exclusion.ACCELERATOR:
        same = [one for one in options if one.release == planned.release and one.build != planned.build]
        reason = next((one.reason for one in same), "")
    for name in (planned.build.runtime_version, planned.version, planned.release):
        start = f"torch {name} "
        if reason.startswith(start):
            return reason[len(start) :]
    return reason


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


def _pinned_version(requirement: Requirement) -> str:
    """`2.13.0+cu130` for `torch==2.13.0+cu130`."""
    return next((one.version for one in requirement.specifier if one.operator == "=="), "")

"""From a request to a plan: the loop that chooses extensions and asks the installer for the rest.

The environment is not changed here. The wheels of the chosen extensions are fetched, because their
metadata is needed. `resolve.rounds` decides what each answer means and when the loop ends.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Callable,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from packaging.requirements import Requirement
from packaging.utils import NormalizedName

from safe_install.errors import NoCandidate, PipFailed, Refused
from safe_install.index.facts import Catalog
from safe_install.models import (
    Candidate,
    Environment,
    Finding,
    HealthReport,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pipeline.choice import Chooser, TorchSource
from safe_install.pipeline.choice_text import (
    cpu_fallback_notes,
    describe_pins,
    describe_satisfied,
    describe_silent_hosts,
    note_torch,
)
from safe_install.pipeline.chosen_files import ChosenFiles
from safe_install.pipeline.installer import Installer, write_report
from safe_install.pipeline.session import Session
from safe_install.pipeline.torch_check import TorchCheck, refuse_other_accelerator
from safe_install.resolve import decisions, permission, rounds, torch_rounds
from safe_install.resolve.carried import Bound, find_bound, may_be_bound
from safe_install.resolve.companions import pip_may_choose
from safe_install.resolve.decisions import Selection
from safe_install.resolve.opening import (
    ask_for_another_torch,
    may_look_for_another,
    open_selection,
    refuse_words,
    without_torch,
)
from safe_install.resolve.plan import steps_of_report
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.rounds import Failed, Planned, Refusal
from safe_install.resolve.torch_choice import merge_rejections
from safe_install.torch_family import TORCH
from safe_install.wheels.archive import Artifact

if TYPE_CHECKING:
    from safe_install.pipeline.joint_choice import JointChoice
    from safe_install.resolve.provider import Resolution


@dataclass(frozen=True)
class Selected:
    """The result: the plan, the wheels that were fetched for it, and notes on the choice."""

    plan: Plan
    selection: Selection
    artifacts: Mapping[NormalizedName, Artifact]  # of the extensions that were chosen
    torch_after: Optional[TorchBuild]
    released: FrozenSet[NormalizedName]  # guarded names that this plan may change
    # distributions that stay, and whose requirements the plan may break
    may_be_broken: FrozenSet[NormalizedName]
    findings: Tuple[Finding, ...] = ()
    permits_cuda_loss: bool = False  # the file of a CPU build, or torch's removal, was requested


# Unpacks the torch of a plan whose extensions are still to be built. The result: the environment
# for these builds.
UnpackTorch = Callable[[Selected], Environment]


def select(
    session: Session,
    catalog: Catalog,
    chooser: Chooser,
    torch_source: TorchSource,
    installer: Installer,
    read_health: Callable[[], HealthReport],
    unpack_torch: UnpackTorch,
) -> Selected:
    """The plan for a request. `read_health`: returns the health before the change; called only
    where it is needed, because it waits for the check. `unpack_torch`: unpacks the torch of a plan
    for builds, before it is installed; it may refuse the plan.

    Errors: UsageError, Refused, NoCandidate, PipFailed, BuildFailed.
    """
    loop = _Loop(session, catalog, chooser, torch_source, installer, read_health, unpack_torch)
    request, here = session.request, session.environment
    refuse_words(request, here, catalog)
    loop.torch_check.refuse_unpublished(loop.wanted, torch_source.list_torch, catalog.torch)
    if TORCH not in loop.wanted.released:
        loop.torch_check.check(here.torch)
    selection, steps = loop.run()
    selected = _review(selection, steps, request, catalog)
    plan, torch_after = selected.plan, selected.torch_after
    if plan.steps:
        loop.torch_check.judge_plan(plan, selection, torch_after, catalog)
        loop.torch_check.announce(selection)
    shown = {pin.name for pin in selection.files}
    return dataclasses.replace(
        selected,
        # A choice that failed has fetched files, too, which the plan does not use.
        artifacts={
            name: artifact for name, artifact in loop.files.artifacts.items() if name in shown
        },
        findings=(
            *note_torch(selection, plan, loop.wanted, catalog),
            *loop.notes,
            *loop.torch_check.findings,
        ),
    )


def _review(
    selection: Selection, steps: Sequence[Step], request: InstallRequest, catalog: Catalog
) -> Selected:
    """The plan of a selection, checked for what it must not do. Errors: Refused."""
    here = selection.here
    plan = rounds.make_plan(selection, steps, request)
    torch_after = permission.torch_after(plan, here, catalog.torch, selection.coming_torch)
    released = permission.find_released(plan, request, here, selection.broken)
    may_be_broken = permission.may_be_broken(plan, request, here, torch_after)
    findings = permission.find_forbidden(plan, here, released, may_be_broken)
    if findings:
        raise Refused.by(findings, rejections=plan.rejections)
    refuse_other_accelerator(
        plan, torch_after, permission.torch_terms(request, here).asked.accelerator
    )
    return Selected(plan, selection, {}, torch_after, frozenset(released), may_be_broken)


class _Loop:
    """The rounds of one request. Decisions are values; the loop keeps fetched files and notes."""

    def __init__(
        self,
        session: Session,
        catalog: Catalog,
        chooser: Chooser,
        torch_source: TorchSource,
        installer: Installer,
        read_health: Callable[[], HealthReport],
        unpack_torch: UnpackTorch,
    ) -> None:
        self._session = session
        self._request, self._reporter = session.request, session.world.reporter
        self._catalog, self._chooser, self._installer = catalog, chooser, installer
        self._read_health, self._unpack_torch = read_health, unpack_torch
        self.wanted = decisions.make_wanted(session.request, session.environment)
        self.torch_check = check = TorchCheck(session)
        self._torch_source = torch_source
        self.files = ChosenFiles(session, self.wanted, catalog, chooser, torch_source, check)
        self.notes: Tuple[Finding, ...] = ()
        self._described: List[str] = []  # the chosen files that were named

    @functools.cached_property
    def _joint(self) -> JointChoice:
        from safe_install.pipeline.joint_choice import JointChoice

        return JointChoice(
            self.wanted,
            self._catalog,
            self._chooser,
            self._torch_source,
            resolve=self._resolve_wheels,
            check_torch=self.torch_check.check,
            resolve_with_builds=self._resolve,
            may_keep=self.torch_check.may_keep,
        )

    def run(self) -> Tuple[Selection, Tuple[Step, ...]]:
        """The final selection, and its steps."""
        here, wanted, timings = self._session.environment, self.wanted, self._session.timings
        opening = open_selection(wanted, here, self._catalog)
        if isinstance(opening, Refusal):
            raise opening.error
        selection = Selection(here, here, bound=self._find_bound())
        chosen = self._choose_first(selection)
        if chosen is not None:
            with timings.stage("pip"):
                return self._ask_installer(chosen)
        if torch_rounds.must_change_torch(wanted, here):
            selection = self._change_torch(selection)
        elif opening.torch_requirements:
            selection = self._ask_for_torch(selection, opening.torch_requirements)
            if not (selection.has_torch or selection.torch_choice.is_open):
                raise without_torch(opening.extensions, wanted, here)
        needs_installer = opening.needs_installer or wanted.wants_report
        with timings.stage("resolve"):
            try:
                selection = self._choose(decisions.add_extensions(selection, opening.extensions))
            except (NoCandidate, Refused) as error:
                if not may_look_for_another(selection, wanted):
                    raise
                needs_installer = True
                selection = self._handle_no_fit(selection, opening.extensions, error)
        if needs_installer or not decisions.is_closed(selection, wanted):
            with timings.stage("pip"):
                return self._ask_installer(selection)
        for line in describe_satisfied(opening.extensions, selection):
            self._reporter.output(line)
        return selection, rounds.pinned_steps(selection, wanted)

    def _choose_first(self, selection: Selection) -> Optional[Selection]:
        """Choose torch and its extensions before pip is asked. None where that fails: pip may know
        more."""
        first = torch_rounds.chosen_first(self.wanted, selection.here, self._catalog)
        if first is None:
            return None
        with self._session.timings.stage("resolve"):
            try:
                return self._choose(decisions.add_extensions(torch_rounds.reopen(selection), first))
            except (NoCandidate, Refused):
                return None

    def _handle_no_fit(
        self,
        selection: Selection,
        extensions: Sequence[Requirement],
        error: Union[NoCandidate, Refused],
    ) -> Selection:
        """Nothing fits the installed torch, and it may be replaced: choose the newest torch that
        has all extensions, or leave the choice to pip. Errors: NoCandidate; Refused."""
        projects = [self._catalog.project(requirement.name) for requirement in extensions]
        if isinstance(error, NoCandidate) and not all(map(pip_may_choose, projects)):
            wanted = decisions.add_extensions(selection, extensions)
            return self._choose_for_another_torch(wanted, error)
        self._reporter.note(f"{error.headline}: pip chooses, and torch may move with it")
        return selection

    def _choose_for_another_torch(self, selection: Selection, error: NoCandidate) -> Selection:
        """Choose the newest torch that has all extensions, where nothing fits the installed one.
        Errors: NoCandidate; Refused."""
        self._reporter.note(f"{error.headline}: another torch is looked for")
        asked = self._ask_for_torch(selection, ask_for_another_torch(self.wanted, selection.here))
        if asked.coming_torch is None:
            raise error
        if TORCH not in decisions.names_asked_for(self.wanted, selection.here):
            names = ", ".join(selection.extensions)
            choice = dataclasses.replace(asked.torch_choice, brought_for=names)
            asked = dataclasses.replace(asked, torch_choice=choice)
        return self._choose(asked)

    def _change_torch(self, selection: Selection) -> Selection:
        """The selection with a torch for another accelerator: from the user's own index, or still
        to be chosen."""
        question = torch_rounds.same_release_in_own_places(self.wanted, selection.here)
        if question:
            selection = self._ask_for_torch(selection, [question])
        if selection.coming_torch is not None:
            return selection
        return decisions.carry_along(torch_rounds.reopen(selection), (), self.wanted)

    def _ask_for_torch(self, selection: Selection, requirements: Sequence[str]) -> Selection:
        """Ask pip which torch it would install, so that extensions are chosen for it."""
        with self._session.timings.stage("pip"):
            constraints = tuple(map(str, self.wanted.constraints))
            answer = self._installer.plan(requirements, constraints=constraints, find_links=())
        if isinstance(answer, Failed):
            if torch_rounds.needs_file_of_torch(selection, answer.error, self.wanted):
                return torch_rounds.reopen(selection)
            told = rounds.refuse_contradiction(selection, answer.error, self.wanted, self._catalog)
            self._fail(told or Refusal(answer.error, is_relayed=True))
        steps = steps_of_report(answer.report, selection.here, {})
        selection = decisions.add_torch(selection, steps, self._catalog)
        if self.wanted.has_other_inputs:
            return selection  # only the whole plan shows which extensions these inputs name
        return decisions.carry_along(selection, steps, self.wanted)

    def _find_bound(self) -> Bound:
        """The installed extensions that are built for the installed torch, where torch may
        change."""
        here = self._session.environment
        if TORCH not in self.wanted.released:
            return {}
        names = [name for name in here.installed if may_be_bound(name, self._catalog)]
        if not names:
            return {}
        from safe_install.wheels.inspection import find_compiled

        return find_bound(here, self._catalog, compiled=find_compiled(here, names))

    def _check_coming_torch(self, selection: Selection) -> None:
        """Check that the coming torch would run. One that we chose is checked after pip has named
        its build. Errors: Refused."""
        if not selection.torch_choice.is_assumed:
            self.torch_check.check(selection.coming_torch)

    def _ask_installer(self, selection: Selection) -> Tuple[Selection, Tuple[Step, ...]]:
        """The installer's plan under our constraints; asked again while there is more to choose."""
        while True:
            answer = self._installer.plan_request(
                constraints=decisions.make_constraints(selection, self.wanted),
                find_links=[self.files.folder] if selection.files else [],
                hidden=[
                    *decisions.hidden_requirements(selection),
                    *self._brought_requirements(selection),
                ],
                without_source=self._without_source(selection),
            )
            result = self._take_answer(answer, selection)
            if isinstance(result, Refusal):
                self._fail(result)
            if isinstance(result, rounds.Done):
                self._check_coming_torch(result.selection)
                self._installer.relay()
                write_report(answer, result.selection, self._request, self._reporter)
                return result.selection, result.steps
            selection = result

    def _take_answer(
        self, answer: Union[Planned, Failed], selection: Selection
    ) -> Union[Selection, Refusal, rounds.Done]:
        """What an answer means: a Selection is to be asked about next.

        Where the newly chosen torch, or a wheel built for it, is in this plan already, the same
        answer is evaluated again instead of asking once more.
        """
        result = rounds.next_round(selection, answer, self.wanted, self._catalog)
        if isinstance(result, rounds.ChooseTorch):
            chosen = self._choose(result.selection)
            keeps_plan = torch_rounds.keeps_plan(chosen, result.selection)
            return self._take_answer(answer, chosen) if keeps_plan else chosen
        if isinstance(result, rounds.Done) and self._is_to_be_built(result.selection):
            built = self._build(result)
            is_planned = decisions.is_planned(built, result.steps) and not self.wanted.wants_report
            return self._take_answer(answer, built) if is_planned else built
        if isinstance(result, rounds.Choose):
            for note in result.notes:
                self._reporter.note(note)
            return self._choose_for_plan(result)
        return result

    def _brought_requirements(self, selection: Selection) -> Tuple[str, ...]:
        """Requirements that nothing else names. None with --require-hashes, where pip refuses
        them."""
        return () if self._request.require_hashes else decisions.brought_requirements(selection)

    def _without_source(self, selection: Selection) -> List[str]:
        """The projects of which pip must not take a source distribution: it would run their code to
        learn their requirements, and only we can choose them."""
        if not selection.has_torch or self.wanted.allow_torch_change:
            return []
        return sorted(
            self._catalog.projects - set(selection.here.installed) - set(selection.pins) - {TORCH}
        )

    def _fail(self, refusal: Refusal) -> NoReturn:
        error = refusal.error
        if isinstance(error, PipFailed) and refusal.is_relayed:
            offline = rounds.nothing_offline(error) if self._request.own.offline else None
            if offline is not None:
                raise offline from error
            self._installer.relay()
            error.was_relayed = True
        raise error

    # --- extensions -------------------------------------------------------------------------------

    def _choose_for_plan(self, choice: rounds.Choose) -> Selection:
        selection = choice.selection
        try:
            return self._choose(selection)
        except (NoCandidate, Refused) as error:
            if isinstance(error, NoCandidate) and may_look_for_another(selection, self.wanted):
                return self._choose_for_another_torch(selection, error)
            if not choice.because:
                raise
            raise rounds.name_cause(error, choice.because) from error

    def _choose(self, selection: Selection) -> Selection:
        """Choose all extensions together, with torch where it changes, then obtain each new pin as
        a verified wheel."""
        choice = selection.torch_choice
        if not selection.extensions and not choice.is_open:
            return selection
        selection = self._find_broken(selection, selection.extensions)
        selection = decisions.leave_behind(selection, selection.broken)
        if not selection.extensions and not choice.is_open:
            return selection
        if choice.planned is None and not choice.is_open:
            resolution = self._joint.choose_for_installed(selection)
        else:
            selection, resolution = self._joint.choose(selection)
            self.files.remove_others(selection)
            self._check_coming_torch(selection)
            selection = self.files.offer_torch(selection)
        answers, pins = resolution.answers, resolution.pins
        rejections = merge_rejections(selection.torch_choice, pins, resolution.rejections)
        selection = dataclasses.replace(selection, rejections=rejections, answers=answers)
        selection = self._find_broken(selection, [pin.name for pin in pins])
        self.notes = cpu_fallback_notes(pins, answers, selection.planned)
        self._describe(resolution)
        return self._obtain_new(pins, selection)

    def _describe(self, resolution: Resolution) -> None:
        new = [one for one in describe_pins(resolution) if one not in self._described]
        self._described += new
        for sentence in new:
            self._reporter.note(sentence)
        for sentence in describe_silent_hosts(resolution.pins, resolution.answers):
            self._reporter.warn(sentence)

    def _obtain_new(self, pins: Sequence[Candidate], selection: Selection) -> Selection:
        """The selection with verified wheels for the pins whose files are not here yet."""
        from safe_install.resolve.torch_options import describe_carried

        new = [
            candidate
            for candidate in pins
            if decisions.is_new_file(candidate, selection, self.wanted, self._catalog)
        ]
        self.files.prefetch(new)
        for candidate in new:
            if candidate.name in selection.carried:
                self._reporter.note(describe_carried(candidate, selection))
            selection = self.files.obtain(candidate, selection)
        return selection

    def _resolve_wheels(self, selection: Selection) -> Resolution:
        """As `_resolve`, from wheels alone."""
        return self._resolve(selection, allow_build=False)

    def _resolve(self, selection: Selection, *, allow_build: bool = True) -> Resolution:
        """The extensions for the torch of a selection. Errors: NoCandidate; Refused."""
        from safe_install.resolve.provider import Resolution

        if not selection.extensions:
            # the installed torch stays, and its extensions with it
            return Resolution((), (), ())
        return self._chooser.choose(
            tuple(selection.extensions.values()),
            selection.planned,
            constraints=self.wanted.constraints,
            upgrade=decisions.find_upgrades(selection, self.wanted, self._catalog),
            keep_version=selection.carried,
            allow_build=allow_build,
        )

    def _find_broken(self, selection: Selection, names: Iterable[NormalizedName]) -> Selection:
        """The selection with those of the names that are installed and do not load. Only where one
        is installed, this waits for the check before the change."""
        broken = set(selection.broken)
        for name in names:
            is_installed = name in selection.here.installed and name not in broken
            if is_installed and decisions.is_broken(
                self._read_health(), self._catalog.project(name)
            ):
                broken.add(name)
        return dataclasses.replace(selection, broken=frozenset(broken))

    def _is_to_be_built(self, selection: Selection) -> bool:
        return bool(decisions.find_unbuilt(selection)) and not self._request.own.dry_run

    def _build(self, done: rounds.Done) -> Selection:
        """The selection with everything built that has no wheel, against the torch of the plan. The
        environment is not changed."""
        selection = done.selection
        self._check_coming_torch(selection)
        torch_file = decisions.find_torch_file(done.steps)
        # Refuse a forbidden plan before torch is fetched.
        selected = _review(selection, done.steps, self._request, self._catalog)
        self.torch_check.announce(selection)
        environment = self._unpack_torch(selected)
        for candidate in decisions.find_unbuilt(selection):
            selection = self.files.fetch_or_build(
                candidate, selection, environment, torch_file=torch_file
            )
        self.files.remove_others(selection)
        return selection


def refuse_errors(findings: Sequence[Finding], plan: Plan) -> None:
    """Refuse a change with an error among its findings. Errors: Refused."""
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise Refused.by(findings, rejections=plan.rejections)

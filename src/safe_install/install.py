"""`safe-install install`: the pipeline, readable from top to bottom.

probe, lock, recover, health before (beside everything else), choose, build, plan, fetch, check, stage, swap, health
after, commit or roll back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.choice import Chooser, Wishes, describe_pins, describe_torch
from safe_install.errors import HashMismatch, NoCandidate, PipFailed, Refused, SafeInstallError
from safe_install.events import Reporter
from safe_install.guard import (
    Before,
    Expectation,
    at,
    carry_out,
    installed_subjects,
    is_own,
    let_old_ones_go,
    probe_environment,
    read_again,
    refuse_externally_managed,
    subject_of,
    summarize,
    user_environment,
    with_subjects,
)
from safe_install.health.report import Subject, check_cuda_required, unmet_requirements
from safe_install.index.document import known_projects, load_project
from safe_install.models import (
    Candidate,
    CandidateKind,
    Environment,
    Finding,
    HostAnswer,
    HostAnswerKind,
    InstallResult,
    Outcome,
    Plan,
    Rejection,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.ports import Timings, World
from safe_install.resolve import plan as planning
from safe_install.resolve.plan import TORCH
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.target import planned_torch
from safe_install.system.pip import PipRunner
from safe_install.transaction import swap
from safe_install.transaction.stage import StagedWheel, fill_stage, stage_editables
from safe_install.wheels.archive import Artifact, open_wheel
from safe_install.wheels.fetch import find_local_path
from safe_install.wheels.native import links_torch

SPACE_FACTOR = 1.4  # unpacked files and their bytecode
SPACE_MARGIN = 64 * 2**20  # bytes: journal, RECORDs, what the file system itself needs
LARGE_WHEEL = 64 * 2**20  # bytes; hashing torch's 9,000 members takes 2.5 s
MAX_ROUNDS = 6  # pip is asked again when its answer names a project that only we can choose


def install(request: InstallRequest, world: World) -> InstallResult:
    """Install what was asked for, or say why not; the environment ends as it was, or changed and verified.

    Errors: every SafeInstallError; nothing is changed when one leaves here, except RollBackFailed.
    """
    timings = Timings()
    with timings.stage("probe", world.reporter):
        environment = probe_environment(request.own, world)
    refuse_externally_managed(environment, break_system_packages=request.break_system_packages)
    if request.place == "user":
        environment = user_environment(environment)
    prefix = environment.interpreter.prefix
    with contextlib.ExitStack() as stack:
        stack.enter_context(at(environment))
        if not request.own.dry_run:
            stack.enter_context(swap.lock_environment(prefix))
            recovered = swap.recover(prefix)
            for item in recovered:
                world.reporter.warn(f"an interrupted run was put right: {item.transaction} {item.what}")
            if recovered:
                environment = read_again(environment)
        before = Before(environment)
        stack.callback(before.stop)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safe-install-")))
        change = Change(request, environment, before, world, timings, work)
        plan = change.make_plan()
        if request.own.dry_run or not plan.steps:
            return _unchanged(request, environment, plan, before, timings)
        if request.own.require_cuda:
            _require_cuda_before(before)
        change.fetch(plan)
        return _apply(change, plan, before, timings)


def _unchanged(
    request: InstallRequest, environment: Environment, plan: Plan, before: Before, timings: Timings
) -> InstallResult:
    outcome = Outcome.PLANNED if request.own.dry_run and plan.steps else Outcome.ALREADY_SATISFIED
    health = before.report() if environment.torch is not None and request.own.json else None
    return InstallResult("install", outcome, 0, environment, plan, health, timings=timings.total(), message="")


def _require_cuda_before(before: Before) -> None:
    findings = check_cuda_required(before.report())
    if findings:
        raise Refused(findings[0].detail, hint=findings[0].hint, findings=findings)


def _apply(change: Change, plan: Plan, before: Before, timings: Timings) -> InstallResult:
    """Stage, swap, verify, commit or roll back."""
    environment, world = change.environment, change.world
    replaced = [
        environment.installed[step.name]
        for step in plan.steps
        if step.name in environment.installed and is_own(environment.installed[step.name], environment)
    ]
    kept = planning.kept_names(plan, environment)
    with swap.begin(
        environment.interpreter.prefix, command=world.command, scheme=environment.interpreter.scheme
    ) as transaction:
        change.check_space()
        with timings.stage("stage", world.reporter):
            change.stage(plan, transaction.stage)
        with timings.stage("moves", world.reporter):
            transaction.plan(remove=replaced, keep=[environment.installed[name] for name in sorted(kept)])
        verdict = carry_out(
            transaction,
            before,
            change.subjects(plan),
            expectation=change.expectation(plan, kept),
            summary=summarize(plan.steps, world.command),
            timings=timings,
            world=world,
        )
    kept_change = verdict.outcome is not Outcome.ROLLED_BACK
    if kept_change:
        let_old_ones_go(environment.interpreter.prefix, world)
    return InstallResult(
        "install",
        verdict.outcome,
        verdict.exit_status,
        environment,
        plan,
        verdict.before,
        verdict.after,
        (*change.findings, *verdict.findings),
        transaction.id if kept_change else None,
        timings.total(),
    )


class Change:
    """What one install command will do: its pins, its plan, its files."""

    def __init__(
        self,
        request: InstallRequest,
        environment: Environment,
        before: Before,
        world: World,
        timings: Timings,
        work: Path,
    ) -> None:
        self.request = request
        self.environment = environment
        self.world = world
        self.findings: List[Finding] = []
        self._before = before
        self._timings = timings
        self._links = _make_folder(work / "links")  # the chosen wheels: pip's find-links page
        self._fetched = _make_folder(work / "fetched")  # what pip downloads or builds
        self._stage_links = _make_folder(work / "stage")
        self._pip: Optional[PipRunner] = None
        self._chooser = Chooser(environment, _wishes(request), world)
        self._extensions: Dict[NormalizedName, Requirement] = {}
        self._pins: Dict[NormalizedName, Candidate] = {}
        self._artifacts: Dict[NormalizedName, Artifact] = {}
        self._rejections: List[Rejection] = []
        self._answers: List[HostAnswer] = []
        self._coming_torch: Optional[TorchBuild] = None
        self._named = request.named_on_command_line
        self._released = planning.names_released(
            environment, named=self._named, allow_torch_change=request.own.allow_torch_change
        )

    @property
    def pip(self) -> PipRunner:
        """pip, found when it is first needed."""
        if self._pip is None:
            self._pip = PipRunner(self.environment.interpreter, cache_dir=self.world.cache_dir)
        return self._pip

    # --- what to install ---------------------------------------------------------------------------

    def make_plan(self) -> Plan:
        """The plan, or Refused, NoCandidate, PipFailed."""
        extensions, ordinary = self._split()
        if extensions and self._torch_will_change():
            self._plan_for_coming_torch()
        with self._timings.stage("resolve", self.world.reporter):
            ordinary = not self._choose_unless_torch_may_move(extensions) or ordinary
        if ordinary or not self._is_closed():
            with self._timings.stage("pip", self.world.reporter):
                steps = self._ask_pip()
        else:
            self._tell_satisfied(extensions)
            steps = planning.steps_of_pins(tuple(self._pins.values()), self.environment, requested=self._named)
            steps = tuple(self._with_artifact(step) for step in steps)
        plan = Plan(
            planning.explained(steps),
            self._constraints(),
            tuple(self._rejections),
            tuple(self._answers),
            self.environment.fingerprint,
        )
        self._check(plan)
        return plan

    def _split(self) -> Tuple[List[Requirement], bool]:
        """The requirements that the wheel index answers, and whether there are others (which pip answers)."""
        extensions: List[Requirement] = []
        ordinary = bool(self.request.editables)
        known = known_projects()
        for entry in self.request.entries:
            requirement = _parse(entry.text)
            if requirement is None or requirement.url or canonicalize_name(requirement.name) not in known:
                ordinary = True
            elif planning.applies(requirement, self.environment):
                extensions.append(requirement)
        return extensions, ordinary

    def _choose_unless_torch_may_move(self, extensions: Sequence[Requirement]) -> bool:
        """Choose for the torch that is there. False: nothing fits it, another torch is permitted, so pip decides."""
        try:
            self._choose(extensions)
        except (NoCandidate, Refused) as error:
            if not self.request.own.allow_torch_change:
                raise
            self.world.reporter.note(f"{error.message.splitlines()[0]}: pip chooses, and torch may move with it")
            self._extensions.clear()
            return False
        return True

    def _torch_will_change(self) -> bool:
        """Is torch missing, or asked for in another version than the installed one?"""
        wanted = [
            requirement
            for entry in self.request.entries
            for requirement in [_parse(entry.text)]
            if requirement is not None and canonicalize_name(requirement.name) == TORCH
        ]
        if self.environment.torch is None:
            if not wanted:
                raise NoCandidate(
                    f"torch is not installed for {self.environment.interpreter.executable}, so no extension can fit it",
                    hint="Install torch first, or name it too: safe-install torch torch-scatter.",
                )
            return True
        return TORCH in self._named and not all(
            planning.is_satisfied(requirement, self.environment) for requirement in wanted
        )

    def _plan_for_coming_torch(self) -> None:
        """Extensions are chosen for the torch that this same command installs. Nothing can be built against it yet."""
        texts = [entry.text for entry in self.request.entries if planning.requirement_name(entry.text) == TORCH]
        with self._timings.stage("pip", self.world.reporter):
            said = _Said(self.world.reporter)
            try:
                report = self.pip.dry_run(
                    [*self.request.fetch_options, *texts],
                    constraints=(),
                    find_links=(),
                    on_output=said.output,
                    on_error=said.error_output,
                )
            except PipFailed:
                said.relay()
                raise
            finally:
                said.close()
        steps = planning.steps_of_report(report, self.environment, {})
        coming = next((step for step in steps if step.name == TORCH), None)
        if coming is None or coming.version is None:
            return
        build = planned_torch(coming.version, self.environment.interpreter.platform)
        planned = dataclasses.replace(
            self.environment,
            torch=build,
            installed=planning.planned_distributions(Plan(steps), self.environment),
        )
        self.world.reporter.note(f"torch {build.runtime_version} will be installed: extensions are chosen for it")
        wishes = dataclasses.replace(_wishes(self.request), no_build=True)
        self._coming_torch = build
        self._chooser = Chooser(planned, wishes, self.world)

    def _choose(self, requirements: Sequence[Requirement]) -> None:
        """Choose together with all extensions chosen before, then bring each new pin as a verified wheel."""
        if not requirements:
            return
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            present = self._extensions.get(name)
            if present is not None:
                requirement = Requirement(f"{requirement.name}{present.specifier & requirement.specifier}")
            self._extensions[name] = requirement
        wanted = tuple(self._extensions.values())
        constraints = [parsed for entry in self.request.constraints for parsed in [_parse(entry.text)] if parsed]
        try:
            resolution = self._chooser.choose(wanted, constraints=constraints, upgrade=self._upgrade(wanted))
        except NoCandidate as error:
            if self._coming_torch is not None and not self.request.own.no_build:
                error.hint = (
                    f"Nothing can be built against a torch that is not there yet: install torch "
                    f"{self._coming_torch.version} first, then the extension is built against it."
                )
            raise
        self._rejections = list(resolution.rejections)
        self._answers = list(resolution.answers)
        for sentence in describe_pins(resolution):
            self.world.reporter.note(sentence)
        self._tell_hosts_down(resolution.pins)
        for pin in resolution.pins:
            if not self._is_there(pin) and self._pins.get(pin.name) != pin:
                self._bring(pin)

    def _tell_hosts_down(self, pins: Sequence[Candidate]) -> None:
        """A source build that a host's silence is the reason for should not look like the normal case."""
        built = {pin.name for pin in pins if pin.kind is CandidateKind.SDIST}
        for answer in self._answers:
            if answer.project in built and answer.kind is HostAnswerKind.DOWN:
                self.world.reporter.warn(f"{answer.project}: {answer.host} {answer.detail or 'does not answer'}")

    def _upgrade(self, requirements: Sequence[Requirement]) -> Set[NormalizedName]:
        """The names for which being installed is no reason to stay: -U, or broken beside this torch."""
        names = {canonicalize_name(requirement.name) for requirement in requirements}
        if self.request.upgrade or self.request.force_reinstall:
            return names
        return {name for name in names if self._is_broken(name)}

    def _is_broken(self, name: NormalizedName) -> bool:
        """Is it installed, and does it not load? Then the same version for this torch is worth installing."""
        if name not in self.environment.installed:
            return False
        report, project = self._before.report(), load_project(name)
        answers = {**report.imports, **report.operations}
        asked = [answers.get(key) for key in (*project.imports, f"{name} native part", f"{name} on cpu")]
        return any(answer is not None and not answer.ok for answer in asked)

    def _is_there(self, pin: Candidate) -> bool:
        """Is this very version installed and sound? `-U` does not install it again, as with pip."""
        found = self.environment.installed.get(pin.name)
        if pin.kind is CandidateKind.INSTALLED:
            return True
        if found is None or self.request.force_reinstall or self._is_broken(pin.name):
            return False
        return _canonical(found.version) == str(pin.version)

    def _bring(self, pin: Candidate) -> None:
        if self.request.own.dry_run and pin.kind is CandidateKind.SDIST:
            # A dry run builds nothing: the plan says that it would.
            self._pins[pin.name] = pin
            return
        with self._timings.stage("fetch", self.world.reporter):
            pin, artifact = self._chooser.bring(pin, self.pip)
            self._check_hashes(pin, artifact)
        self._pins[pin.name] = pin
        self._artifacts[pin.name] = artifact
        link = self._links / artifact.path.name
        if not link.exists():
            link.symlink_to(artifact.path.resolve())

    def _check_hashes(self, pin: Candidate, artifact: Artifact) -> None:
        """The --hash options of a requirements file hold for the files that we choose, too."""
        for entry in self.request.entries:
            if not entry.hashes or planning.requirement_name(entry.text) != pin.name:
                continue
            if pin.kind is CandidateKind.WHEEL and f"sha256:{artifact.sha256}" not in entry.hashes:
                raise HashMismatch(
                    f"{entry.origin}: {pin.link.filename} from {pin.link.url} has sha256 {artifact.sha256}, "
                    "which is none of the hashes given there",
                    hint=f"If that is the file that you want, add --hash=sha256:{artifact.sha256}.",
                )

    def _is_closed(self) -> bool:
        """Is everything that the chosen wheels require installed or chosen? Then pip has nothing to add."""
        if self.request.no_deps:
            return True
        coming = set(self._pins)
        return all(
            planning.are_satisfied(artifact.requires_dist, self.environment, coming=coming)
            and planning.are_satisfied(self._pins[name].requires, self.environment, coming=coming)
            for name, artifact in self._artifacts.items()
        )

    def _tell_satisfied(self, requirements: Sequence[Requirement]) -> None:
        """pip's own words for what is there already."""
        for requirement in requirements:
            found = self.environment.installed.get(canonicalize_name(requirement.name))
            if found is not None and found.name not in self._pins:
                self.world.reporter.output(
                    f"Requirement already satisfied: {requirement} in {found.location} ({found.version})"
                )

    def _with_artifact(self, step: Step) -> Step:
        artifact = self._artifacts.get(step.name)
        if artifact is None:
            return step
        return dataclasses.replace(
            step,
            version=str(artifact.version),
            sha256=artifact.sha256,
            requires=tuple(artifact.requires_dist),
        )

    def _constraints(self) -> Tuple[str, ...]:
        guard = planning.guard_constraints(self.environment, released=self._released | set(self._pins))
        pins = tuple(f"{name}=={self._artifacts[name].version}" for name in self._pins if name in self._artifacts)
        coming = (f"torch=={self._coming_torch.version}",) if self._coming_torch else ()
        return guard + coming + pins

    # --- pip's part --------------------------------------------------------------------------------

    def _ask_pip(self) -> Tuple[Step, ...]:
        """pip's plan under our constraints; asked again as long as it names extensions that we have to choose."""
        for _ in range(MAX_ROUNDS):
            said = _Said(self.world.reporter)
            try:
                report = self.pip.dry_run(
                    self._pip_arguments(),
                    constraints=self._constraints(),
                    find_links=[self._links] if self._pins else [],
                    on_output=said.output,
                    on_error=said.error_output,
                    report_file=self.request.report_file,
                )
            except PipFailed as error:
                if self._choose_named_in(error.output):
                    continue
                refusal = self._refusal(error)
                if refusal is error:
                    said.relay()
                    error.was_relayed = True
                raise refusal from error
            finally:
                said.close()
            steps = planning.steps_of_report(report, self.environment, self._pins)
            if self._choose_in(steps):
                continue
            said.relay()
            return tuple(self._with_artifact(step) for step in steps)
        raise Refused(
            f"pip's plan still changes after {MAX_ROUNDS} rounds of choosing extensions",
            hint="Name the versions of the extensions explicitly.",
        )

    def _pip_arguments(self) -> List[str]:
        """The person's own words; hidden requirements of the pins (which their metadata does not name) are added."""
        hidden = [
            text
            for pin in self._pins.values()
            for text in pin.requires
            if planning.requirement_name(text) not in self._pins
        ]
        return [*self.request.dry_run_arguments, *hidden]

    def _choose_named_in(self, output: str) -> bool:
        """pip failed on a project that only we can choose: choose it, and say that it is worth asking again."""
        if not self._has_torch():
            return False
        names = [
            name
            for name in planning.names_in_failure(output, known_projects())
            if name not in self._extensions and name not in self.environment.installed
        ]
        if not names:
            return False
        self._choose([Requirement(_requirement_in(output, name)) for name in names])
        return True

    def _choose_in(self, steps: Sequence[Step]) -> bool:
        """pip's plan brings extensions that it cannot judge: choose them ourselves."""
        if not self._has_torch() or (self._coming_torch is None and self._moves_torch(steps)):
            return False
        known = known_projects()
        unchosen = [step for step in steps if step.name in known and step.name not in self._pins and not step.is_direct]
        if not unchosen:
            return False
        wanted = [Requirement(f"{step.name}{_specifiers(step.name, steps)}") for step in unchosen]
        try:
            self._choose(wanted)
        except (NoCandidate, Refused) as error:
            reasons = "; ".join(step.because for step in unchosen if not step.requested)
            raise Refused(
                f"{error.message}{f' ({reasons})' if reasons else ''}",
                hint=error.hint,
                rejections=error.rejections,
            ) from error
        return True

    def _has_torch(self) -> bool:
        return self.environment.torch is not None or self._coming_torch is not None

    def _moves_torch(self, steps: Sequence[Step]) -> bool:
        return any(step.name == TORCH for step in steps)

    def _refusal(self, error: PipFailed) -> SafeInstallError:
        """pip's failure, or, where our guard was the reason, the refusal that names who wanted torch moved."""
        constraints = planning.guard_constraints(self.environment, released=self._released)
        reason = planning.conflict_reason(error.output, constraints)
        if reason is None:
            return error
        finding = Finding("torch-moved", Severity.ERROR, "torch", reason)
        return Refused(
            f"this would move {describe_torch(self.environment).split(',')[0]}: {reason}",
            hint="Ask for a version that works with the installed torch, or permit the change with "
            "--allow-torch-change.",
            findings=(finding,),
        )

    # --- checks before anything is touched ---------------------------------------------------------

    def _check(self, plan: Plan) -> None:
        findings = list(planning.check_plan(plan, self.environment, released=self._released))
        if not findings and not self.request.no_deps:
            findings += self._newly_unmet(plan)
        if findings:
            raise Refused(
                findings[0].detail,
                hint=findings[0].hint,
                findings=findings,
                rejections=plan.rejections,
            )

    def _newly_unmet(self, plan: Plan) -> Iterator[Finding]:
        """Requirements of what was there before that the plan would break; pip says so too, and goes on."""
        markers = self.environment.interpreter.markers
        kept = planning.kept_names(plan, self.environment)
        old = set(unmet_requirements(self.environment.installed, markers, of=kept))
        after = planning.planned_distributions(plan, self.environment)
        for text in unmet_requirements(after, markers, of=kept):
            if text not in old:
                yield Finding(
                    "requirement-unmet",
                    Severity.ERROR,
                    text.split()[0],
                    f"after this {text}",
                    "Name both in one command, in versions that fit each other.",
                )

    # --- files -------------------------------------------------------------------------------------

    def fetch(self, plan: Plan) -> None:
        """Bring every file of the plan to disk, hashes checked, wheels verified."""
        for step in plan.steps:
            self._take_local(step)
        wanted = [step for step in plan.steps if step.name not in self._artifacts and step.kind != "editable"]
        if not wanted:
            return
        # pip compares hashes for all lines of a run or for none: what has no hash (a folder, a repository) goes apart.
        hashed = [step for step in wanted if step.sha256 and not _is_from_repository(step)]
        others = [step for step in wanted if step not in hashed]
        with self._timings.stage("fetch", self.world.reporter):
            task = f"fetch {', '.join(step.name for step in wanted[:3])}{' ...' if len(wanted) > 3 else ''}"
            self.world.reporter.task_started(task)
            for group in (hashed, others):
                if group:
                    self.pip.fetch(
                        [_requirement_line(step) for step in group],
                        self._fetched,
                        options=self.request.fetch_options,
                        on_line=lambda line: self.world.reporter.task_advanced(task, 0, line),
                    )
            self.world.reporter.task_ended(task)
            self._open_fetched(wanted)

    def _take_local(self, step: Step) -> None:
        """A wheel that lies on this machine needs no pip to bring it."""
        url = str((step.download_info or {}).get("url", ""))
        if step.kind != "wheel" or step.name in self._artifacts or not url.startswith("file:"):
            return
        path = find_local_path(url)
        if path is not None and path.is_file():
            self._artifacts[step.name] = _open(path, step.sha256)

    def _open_fetched(self, wanted: Sequence[Step]) -> None:
        by_name = {step.name: step for step in wanted}
        for path in sorted(self._fetched.glob("*.whl")):
            name = canonicalize_name(path.name.split("-")[0])
            step = by_name.get(name)
            if step is None:
                continue
            promised = step.sha256 if step.kind == "wheel" else None
            artifact = _open(path, promised)
            if str(artifact.version) != _canonical(step.version) and step.kind == "wheel":
                raise HashMismatch(
                    f"{path.name} holds {name} {artifact.version}, and {step.version} was planned",
                    hint="The index changed meanwhile: run the command again.",
                )
            self._artifacts[name] = artifact
        missing = [step.name for step in wanted if step.name not in self._artifacts]
        if missing:
            raise PipFailed(f"pip brought no wheel of {', '.join(missing)}", hint="Run the command again with -v.")

    def check_space(self) -> None:
        """Old and new files lie side by side until the end. Errors: Refused, before anything is written there."""
        prefix = self.environment.interpreter.prefix
        size = sum(artifact.unpacked_size for artifact in self._artifacts.values())
        wanted = int(SPACE_FACTOR * size) + SPACE_MARGIN
        free = shutil.disk_usage(str(prefix)).free
        if free < wanted:
            raise Refused(
                f"{prefix} has {free // 2**20} MiB free and this needs about {wanted // 2**20} MiB",
                hint="Make room, or let old changes go: safe-install history --prune --keep 1.",
            )

    def stage(self, plan: Plan, stage: Path) -> None:
        """Unpack every wheel of the plan below `stage`."""
        wheels = [
            StagedWheel(step, artifact.path, str(artifact.version), len(artifact.files))
            for step in plan.steps
            for artifact in [self._artifacts.get(step.name)]
            if artifact is not None
        ]
        fill_stage(
            self.pip,
            stage,
            wheels,
            folder=self._stage_links,
            compile_bytecode=self.request.compile_bytecode,
            options=("--user",) if self.request.place == "user" else (),
            reporter=self.world.reporter,
        )
        editable = [step for step in plan.steps if step.kind == "editable"]
        stage_editables(self.pip, stage, editable, options=self.request.fetch_options, reporter=self.world.reporter)

    # --- what is expected afterwards ---------------------------------------------------------------

    def subjects(self, plan: Plan) -> Tuple[Subject, ...]:
        """Every extension that is there or comes."""
        coming = [self._subject(step.name) for step in plan.steps]
        return with_subjects(
            installed_subjects(self.environment), [subject for subject in coming if subject is not None]
        )

    def _subject(self, name: NormalizedName) -> Optional[Subject]:
        """The questions about one distribution of the plan; None for one that has nothing to do with torch."""
        if name in known_projects():
            return subject_of(load_project(name))
        artifact = self._artifacts.get(name)
        if artifact is None or not self._has_torch() or name == TORCH or planning.is_guarded(name):
            return None
        if not artifact.native_objects or not links_torch(artifact):
            return None
        return Subject(name, artifact.top_level)

    def expectation(self, plan: Plan, kept: Set[NormalizedName]) -> Expectation:
        """What the verdict must know about the request."""
        requested: Set[str] = set()
        for subject in self.subjects(plan):
            if any(step.name == subject.name for step in plan.steps):
                requested |= {subject.name, *subject.imports}
        torch = next((step for step in plan.steps if step.name == TORCH), None)
        return Expectation(
            requested=frozenset(requested),
            torch_requested=torch is not None,
            cuda_loss_requested=torch is not None and _is_cpu_build(self.request, torch),
            require_cuda=self.request.own.require_cuda,
            no_rollback=self.request.own.no_rollback,
            kept=frozenset(kept),
        )


class _Said:
    """What pip says in one round: kept, because a round may turn out to be not the last one."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._lines: List[Tuple[bool, str]] = []
        reporter.task_started("pip resolves")

    def output(self, line: str) -> None:
        """A line of its stdout."""
        self._lines.append((True, line))
        self._reporter.task_advanced("pip resolves", 0, line)

    def error_output(self, line: str) -> None:
        """A line of its stderr."""
        self._lines.append((False, line))

    def close(self) -> None:
        """The round is over."""
        self._reporter.task_ended("pip resolves")

    def relay(self) -> None:
        """As pip would have said it; its "Would install" is ours to say."""
        for is_stdout, line in self._lines:
            if not is_stdout:
                self._reporter.error_output(line)
            elif not line.startswith("Would install "):
                self._reporter.output(line)


def refuse_place(request: InstallRequest, executable: Path) -> None:
    """pip may put files elsewhere by itself, but not into the environment by another door. Errors: Refused."""
    if request.place in ("target", "prefix", "root") and request.place_value:
        prefix = Path(os.path.realpath(str(executable.parent.parent)))
        place = Path(os.path.realpath(request.place_value))
        if place == prefix or prefix in place.parents:
            raise Refused(
                f"--{request.place} {request.place_value} lies inside the environment {prefix}",
                hint=f"Leave --{request.place} out: then the install is guarded.",
            )


# --- small decisions -------------------------------------------------------------------------------


def _wishes(request: InstallRequest) -> Wishes:
    return Wishes(
        offline=request.own.offline,
        no_build=request.own.no_build,
        pre=request.pre,
        upgrade=request.upgrade,
        require_hashes=request.require_hashes,
        index_url=request.index_url,
        find_links=request.find_links,
        no_index=request.no_index,
    )


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _parse(text: str) -> Optional[Requirement]:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _requirement_in(output: str, name: NormalizedName) -> str:
    """The requirement on `name` as pip's failure words it, with its specifier when there is one."""
    pattern = "[-_.]+".join(re.escape(part) for part in name.split("-"))
    for match in re.finditer(rf"(?i)\b{pattern}\b\s*((?:[<>=!~]=?=?\s*[\w.*+!]+\s*,?\s*)+)", output):
        requirement = _parse(f"{name}{match.group(1).strip().rstrip(',')}")
        if requirement is not None:
            return str(requirement)
    return str(name)


def _specifiers(name: NormalizedName, steps: Sequence[Step]) -> str:
    """All specifiers on `name` among the requirements of the steps."""
    found = set()
    for step in steps:
        for text in step.requires:
            requirement = _parse(text)
            if requirement is None or canonicalize_name(requirement.name) != name:
                continue
            if requirement.marker is None or "extra" not in str(requirement.marker):
                found |= {str(specifier) for specifier in requirement.specifier}
    return ",".join(sorted(found))


def _requirement_line(step: Step) -> str:
    """The line that makes pip bring exactly this."""
    info: Mapping[str, object] = step.download_info or {}
    url = str(info.get("url", step.url or ""))
    vcs = info.get("vcs_info")
    if isinstance(vcs, dict):
        return f"{step.name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}{_fragment(info)}"
    line = f"{step.name} @ {url}{_fragment(info)}" if step.is_direct else f"{step.name}=={step.version}"
    return f"{line} --hash=sha256:{step.sha256}" if step.sha256 else line


def _open(path: Path, promised: Optional[str]) -> Artifact:
    """The wheel, verified. Where an index promised the hash of a large file, its members are not hashed once more."""
    return open_wheel(path, sha256=promised, verify_members=promised is None or path.stat().st_size < LARGE_WHEEL)


def _is_from_repository(step: Step) -> bool:
    return "vcs_info" in (step.download_info or {})


def _fragment(info: Mapping[str, object]) -> str:
    subdirectory = info.get("subdirectory")
    return f"#subdirectory={subdirectory}" if subdirectory else ""


def _canonical(version: Optional[str]) -> str:
    try:
        return str(Version(version or ""))
    except InvalidVersion:
        return version or ""


def _is_cpu_build(request: InstallRequest, step: Step) -> bool:
    """Did the person write a CPU build of torch (`torch==2.4.1+cpu`)? Then losing CUDA is what was asked for."""
    return (step.version or "").endswith("+cpu") and any(
        "+cpu" in entry.text for entry in request.entries if planning.requirement_name(entry.text) == TORCH
    )

"""Makes the plan of a change from the difference to a lock, with the file of each step.

A wheel with a URL and a hash needs no search. For others pip finds the file of the version; for
projects that are built against torch our own choice does. Dependencies are not resolved.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from safe_install.errors import PipFailed, Refused
from safe_install.index.facts import Catalog
from safe_install.index.torch_files import Absent
from safe_install.models import Candidate, CandidateKind, Origin, Plan, Step, TorchBuild
from safe_install.pipeline.choice import IndexChooser
from safe_install.pipeline.choice_text import describe_pins
from safe_install.pipeline.chosen_files import check_hashes
from safe_install.pipeline.installer import PipInstaller
from safe_install.pipeline.session import Session
from safe_install.resolve.plan import steps_of_report
from safe_install.resolve.promises import entries_with_hashes
from safe_install.resolve.rounds import Failed, nothing_offline
from safe_install.resolve.target import planned_torch
from safe_install.snapshot.difference import Deviation, Difference
from safe_install.snapshot.locked import NO_NAME, LockedEnvironment
from safe_install.snapshot.steps import make_removals, make_step, needs_pip, pip_line
from safe_install.torch_family import TORCH
from safe_install.wheels.archive import Artifact


@dataclass(frozen=True)
class LockPlan:
    """The plan, and the files that were fetched for it."""

    plan: Plan
    torch: Optional[TorchBuild]  # after the change
    artifacts: Mapping[NormalizedName, Artifact] = field(default_factory=dict)
    built: Tuple[NormalizedName, ...] = ()  # distributions that we built from source


class LockPlanner:
    """Plans one change."""

    def __init__(
        self,
        session: Session,
        installer: PipInstaller,
        chooser: IndexChooser,
        catalog: Catalog,
        location: str,
    ) -> None:
        """`location`: the file's name in messages."""
        self._session, self._installer, self._chooser = session, installer, chooser
        self._catalog, self._location = catalog, location
        self._environment = session.environment
        self._artifacts: Dict[NormalizedName, Artifact] = {}

    def plan(self, lock: LockedEnvironment, difference: Difference) -> LockPlan:
        """The plan of the whole change. Errors: PipFailed, NoCandidate, Refused, BuildFailed."""
        steps: List[Step] = []
        for_pip: List[Deviation] = []
        extensions: List[Deviation] = []
        for deviation in difference.deviations:
            if not needs_pip(deviation.locked):
                steps.append(make_step(deviation, self._location))
            elif self._is_extension(deviation):
                extensions.append(deviation)
            else:
                for_pip.append(deviation)
        steps += self._find_torch(for_pip)
        found = {step.name for step in steps}
        steps += self._ask_pip([one for one in for_pip if one.locked.name not in found])
        torch = self._torch_after(steps, difference)
        extensions += self._find_broken(lock, steps, torch)
        if torch is None:
            steps += self._ask_pip(extensions, name="extensions")
        else:
            steps += self._choose(extensions, torch)
        coming = {step.name for step in steps}
        extra = [one for one in difference.extra if one.name not in coming]
        plan = Plan((*steps, *make_removals(extra, self._location)))
        return LockPlan(plan, torch, self._artifacts, tuple(self._chooser.built))

    # --- pip ---

    def _ask_pip(self, deviations: Sequence[Deviation], *, name: str = "others") -> List[Step]:
        """The steps that pip plans. pip compares hashes for all lines or for none, so lines with
        and without hashes are separate questions."""
        hashed = [one for one in deviations if one.locked.hashes]
        others = [one for one in deviations if not one.locked.hashes]
        steps: List[Step] = []
        for kind, group in (("hashed", hashed), ("plain", others)):
            if group:
                steps += self._ask_group(group, f"{name}-{kind}")
        return steps

    def _ask_group(self, group: Sequence[Deviation], name: str) -> List[Step]:
        lines = [pip_line(one.locked) for one in group]
        with self._session.timings.stage("pip"):
            answer = self._installer.plan_exactly(lines, self._session.work / name)
        if isinstance(answer, Failed):
            self._fail(answer.error)
        self._installer.relay()
        steps = []
        for step in steps_of_report(answer.report, self._environment, {}):
            deviation = _deviation_of(step, group)
            from_lock = make_step(deviation, self._location)
            step = dataclasses.replace(
                step,
                requested=from_lock.requested,
                keeps_requested=from_lock.keeps_requested,
                because=from_lock.because,
                is_locked=bool(deviation.locked.hashes),
            )
            steps.append(step)
        return steps

    def _fail(self, error: PipFailed) -> NoReturn:
        offline = nothing_offline(error) if self._session.request.own.offline else None
        if offline is not None:
            raise offline from error
        self._installer.relay()
        error.was_relayed = True
        raise error

    # --- torch, and extensions ---

    def _is_extension(self, deviation: Deviation) -> bool:
        """Is it a project of the wheel index, named by its version only? The package index may not
        have that version, such as 2.1.2+pt21cu121 from `pip freeze`."""
        locked = deviation.locked
        return locked.source is None and locked.name in self._catalog.projects - {TORCH}

    def _find_broken(
        self, lock: LockedEnvironment, steps: Sequence[Step], torch: Optional[TorchBuild]
    ) -> List[Deviation]:
        """The installed extensions that have the version in the file but do not fit the new torch:
        they need another build of that version."""
        if not any(step.name == TORCH for step in steps):
            return []
        from safe_install.pipeline.breakage import find_breakage

        variables = self._session.world.environ
        broken = find_breakage(self._environment, Plan(tuple(steps)), torch, variables)
        names = {finding.subject for finding in broken}
        found = []
        for locked in lock.distributions:
            installed = self._environment.installed.get(locked.name)
            deviation = Deviation(locked, installed, "built for another torch")
            if locked.name in names and self._is_extension(deviation):
                found.append(deviation)
        return found

    def _find_torch(self, deviations: Sequence[Deviation]) -> List[Step]:
        """The step for a torch such as 2.13.0+cpu, which is on torch's own host and not on the
        package index."""
        request = self._session.request
        has_own_places = bool(request.index_urls or request.find_links) or request.no_index
        for deviation in deviations:
            locked = deviation.locked
            is_build = locked.name == TORCH and locked.source is None and "+" in locked.version
            if not is_build or has_own_places or locked.hashes:
                continue
            build = self._planned_torch(locked.version)
            interpreter = self._environment.interpreter
            found = self._chooser.torch_pages.find_torch(build, interpreter)
            if isinstance(found, Absent):
                continue
            step = _with_candidate(make_step(deviation, self._location), found.candidate)
            # Without metadata on the page, the requirements have to be read from the file.
            return [step if found.metadata is not None else self._obtain(step, found.candidate)]
        return []

    def _torch_after(self, steps: Sequence[Step], difference: Difference) -> Optional[TorchBuild]:
        """The torch after the change; None if it is removed or there is none."""
        if any(one.name == TORCH for one in difference.extra):
            return None
        step = next((step for step in steps if step.name == TORCH), None)
        if step is None or step.version is None:
            return self._environment.torch
        return self._planned_torch(step.version)

    def _planned_torch(self, version: str) -> TorchBuild:
        return planned_torch(version, self._environment.interpreter.platform, self._catalog.torch)

    def _choose(self, extensions: Sequence[Deviation], torch: TorchBuild) -> List[Step]:
        """The steps with the builds of these versions for this torch. Errors: NoCandidate where one
        has no build; Refused if one would be built for a torch that is not installed yet."""
        if not extensions:
            return []
        names = {one.locked.name: one for one in extensions}
        requirements = [
            Requirement(f"{one.locked.name}=={one.locked.version}") for one in extensions
        ]
        planned = dataclasses.replace(self._environment, torch=torch)
        with self._session.timings.stage("resolve"):
            resolution = self._chooser.choose(requirements, planned, upgrade=list(names))
        for sentence in describe_pins(resolution):
            self._session.world.reporter.note(sentence)
        pins = [pin for pin in resolution.pins if pin.name in names and _is_file(pin)]
        if not self._session.request.own.dry_run:
            self._chooser.prefetch(pins)
        return [self._step_of(pin, names[pin.name], torch) for pin in pins]

    def _step_of(self, pin: Candidate, deviation: Deviation, torch: TorchBuild) -> Step:
        step = _with_candidate(make_step(deviation, self._location), pin)
        is_built = pin.kind is CandidateKind.SDIST
        if is_built and torch != self._environment.torch:
            raise Refused(
                f"{pin.name} {pin.version} has no wheel for torch {torch.runtime_version}, and is "
                "not built before that torch is there",
                hint="Without it in the file first, then with it; or name a wheel in the file.",
            )
        return self._obtain(step, pin)

    def _obtain(self, step: Step, candidate: Candidate) -> Step:
        """Fetch or build the file; the step with its version and hash. Not in a dry run."""
        request, environment = self._session.request, self._environment
        if request.own.dry_run:
            return step
        with self._session.timings.stage("fetch"):
            candidate, artifact = self._chooser.obtain(
                candidate,
                environment,
                is_promised=bool(entries_with_hashes(candidate.name, request, environment)),
            )
            check_hashes(candidate, artifact, request, environment)
        self._artifacts[step.name] = artifact
        step = _with_candidate(step, candidate)
        return dataclasses.replace(step, version=str(artifact.version), sha256=artifact.sha256)


def _is_file(pin: Candidate) -> bool:
    return pin.kind is not CandidateKind.INSTALLED


def _with_candidate(step: Step, candidate: Candidate) -> Step:
    return dataclasses.replace(
        step,
        version=str(candidate.version),
        url=candidate.link.url,
        sha256=candidate.link.sha256,
        origin=Origin(candidate.kind.value),
        candidate=candidate,
        requires=candidate.requires,
    )


def _deviation_of(step: Step, group: Sequence[Deviation]) -> Deviation:
    """The deviation to which a step of pip belongs: by its name, or for a line without a name by
    its URL. Errors: Refused."""
    for deviation in group:
        if deviation.locked.name == step.name:
            return deviation
    nameless = [one for one in group if one.locked.name == NO_NAME]
    for deviation in nameless:
        url = make_step(deviation, "").url
        if url is not None and url == step.url:
            return deviation
    if nameless:
        return nameless[0]
    raise Refused(
        f"pip plans {step.name} {step.version}, which the file does not name",
        hint="A line of the file names another project than its address has.",
    )


def is_version_of(version: str, artifact: Artifact) -> bool:
    """Does the file have the planned version?"""
    try:
        return bool(Version(version) == artifact.version)
    except InvalidVersion:
        return version == artifact.written_version

"""Will the staged files load beside the torch that will be there? They are read and never
executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName

from safe_install.health.answers import Subject
from safe_install.health.examination import Examination
from safe_install.index.facts import Catalog
from safe_install.index.native import exact_pattern
from safe_install.models import (
    Driver,
    Environment,
    Finding,
    InstalledDistribution,
    Plan,
    Step,
    TorchBuild,
)
from safe_install.pipeline.baseline import subject_of
from safe_install.pipeline.delivery import Artifacts
from safe_install.pipeline.session import Session
from safe_install.resolve.plan import coming_steps
from safe_install.resolve.torch_fit import check_torch
from safe_install.torch_family import TORCH, is_guarded
from safe_install.wheels.abi import LoadOutcome, torch_findings
from safe_install.wheels.archive import Artifact
from safe_install.wheels.inspection import (
    Inspector,
    check_gpu_files,
    check_objects,
    demangle,
    gpu_code_of_torch,
    read_gpu_files,
    recorded_objects,
)


@dataclass(frozen=True)
class StaticCheck:
    """The result of reading the files of a plan."""

    findings: Tuple[Finding, ...] = ()
    # by wheel: the files that use torch and fit it, so that the check after has to load them
    loadable: Mapping[NormalizedName, Tuple[str, ...]] = field(default_factory=dict)
    needs_driver: FrozenSet[NormalizedName] = frozenset()  # wheels whose files link libcuda.so.1


def check_staged(
    session: Session,
    catalog: Catalog,
    plan: Plan,
    artifacts: Artifacts,
    *,
    stage: Path,
    torch: Optional[TorchBuild],
    replaced: Sequence[InstalledDistribution],
    cpu_builds: FrozenSet[str] = frozenset(),
) -> StaticCheck:
    """Check every wheel of the plan that has shared objects.

    `torch`: the one after the change; None: nothing is checked. `replaced`: distributions whose
    files are removed.
    `cpu_builds`: extensions that were reported as CPU builds already.
    """
    natives = {name: artifact for name, artifact in artifacts.items() if artifact.native_objects}
    if torch is None or not natives:
        return StaticCheck()
    return _StagedFiles(session, catalog, plan, natives, stage, torch, replaced).check(cpu_builds)


class _StagedFiles:
    """The shared objects of one stage, and the inspector that reads them."""

    def __init__(
        self,
        session: Session,
        catalog: Catalog,
        plan: Plan,
        natives: Artifacts,
        stage: Path,
        torch: TorchBuild,
        replaced: Sequence[InstalledDistribution],
    ) -> None:
        self._session, self._catalog, self._plan, self._natives = session, catalog, plan, natives
        self._environment, self._torch = session.environment, torch
        self._members = {
            name: _final_paths(artifact, session.environment) for name, artifact in natives.items()
        }
        self._inspector = Inspector(
            session.environment,
            torch,
            stage=stage,
            removed=recorded_objects(replaced),
            coming=[path for paths in self._members.values() for path in paths.values()],
            variables=session.world.environ,
            preloaded=self._read_loaded,
        )
        self._loadable: Dict[NormalizedName, Tuple[str, ...]] = {}
        self._needs_driver: Set[NormalizedName] = set()

    def check(self, cpu_builds: FrozenSet[str]) -> StaticCheck:
        """The findings in the order of the plan, those on torch first."""
        findings: List[Finding] = []
        if any(is_guarded(step.name) for step in self._plan.steps):
            findings += self._check_present_torch()
        for step in self._plan.steps:
            if step.name in self._natives:
                findings += self._check_step(step, cpu_builds)
        return StaticCheck(tuple(findings), self._loadable, frozenset(self._needs_driver))

    def _check_step(self, step: Step, cpu_builds: FrozenSet[str]) -> Sequence[Finding]:
        if step.name == TORCH:
            return self._check_coming_torch()
        if self._inspector.is_for_torch(self._members[step.name]):
            found = self._check_extension(step)
            return [
                one for one in found if one.check != "no-gpu-code" or one.subject not in cpu_builds
            ]
        if is_guarded(step.name):
            return ()
        return self._check_gpu_code(step)

    def _read_loaded(self) -> Sequence[str]:
        """The libraries in memory after `import torch`, where the installed torch stays; else
        none."""
        if self._torch != self._environment.torch:
            return ()
        executable = self._environment.interpreter.executable
        limit = self._session.request.own.check_timeout
        return Examination(executable, self._torch, (), timeout=limit).result().libraries

    def _check_present_torch(self) -> List[Finding]:
        """What torch would no longer find. What it does not find today either is not reported."""
        findings = list(torch_findings(self._inspector.inspect_torch(demangle=demangle)))
        if not findings or self._environment.torch is None:
            return findings
        today = Inspector(
            self._environment, self._environment.torch, variables=self._session.world.environ
        )
        known = torch_findings(today.inspect_torch(demangle=demangle))
        return [finding for finding in findings if finding not in known]

    def _check_coming_torch(self) -> Sequence[Finding]:
        """Does the new torch have code for the declared GPUs? The plan was checked by the wheel
        index; this reads the file."""
        driver = self._environment.driver
        if driver is None or not driver.declared or not driver.devices:
            return ()
        code = gpu_code_of_torch(self._inspector.files, self._members[TORCH])
        interpreter = self._environment.interpreter
        return check_torch(self._torch, driver, interpreter, catalog=self._catalog, code=code)

    def _check_gpu_code(self, step: Step) -> Sequence[Finding]:
        """A wheel that does not link torch may still need the GPU."""
        if self._environment.driver is None:
            return ()
        return check_gpu_files(
            step.name,
            read_gpu_files(self._inspector.files, self._members[step.name]),
            self._torch,
            self._environment.driver,
            version=step.version or "",
            requires=self._natives[step.name].requires_dist,
        )

    def _check_extension(self, step: Step) -> Sequence[Finding]:
        verdicts = self._inspector.inspect(self._members[step.name], demangle=demangle)
        if any(one.facts.problems.driver for one in verdicts):
            self._needs_driver.add(step.name)
        self._loadable[step.name] = tuple(
            one.facts.member
            for one in verdicts
            if one.facts.uses_torch and one.outcome is LoadOutcome.FITS
        )
        return check_objects(
            step.name,
            verdicts,
            self._torch,
            self._environment.driver,
            version=step.version or "",
            requires=self._natives[step.name].requires_dist,
            is_asked_for=step.is_direct,
        )


def _final_paths(artifact: Artifact, environment: Environment) -> Mapping[str, str]:
    """The wheel's shared objects: member name -> path after the installation."""
    scheme = environment.interpreter.scheme
    site = scheme.purelib if artifact.root_is_purelib else scheme.platlib
    data = f"{artifact.dist_info[: -len('.dist-info')]}.data/"
    return {name: str(site / name) for name in artifact.native_objects if not name.startswith(data)}


# --- what the check after the change asks ---------------------------------------------------------


def coming_subjects(
    plan: Plan, artifacts: Artifacts, check: StaticCheck, catalog: Catalog
) -> Tuple[Subject, ...]:
    """What the check after the change asks about the plan's distributions that use torch."""
    found = []
    for step in coming_steps(plan):
        artifact = artifacts.get(step.name)
        if step.name in catalog.projects:
            found.append(subject_of(catalog.project(step.name)))
        elif artifact is not None and step.name in check.loadable and not is_guarded(step.name):
            # Some projects catch their own ImportError: each file that uses torch is loaded, too.
            native = tuple(exact_pattern(one) for one in check.loadable[step.name])
            found.append(Subject(step.name, artifact.top_level, native=native))
    return tuple(found)


def must_work(
    subjects: Sequence[Subject], plan: Plan, check: StaticCheck, driver: Optional[Driver]
) -> FrozenSet[str]:
    """The modules and projects of a plan that have to work after the change.

    An image is often built without a driver: what links libcuda.so.1 cannot load there and is not
    broken.
    """
    has_driver = driver is not None and not driver.declared
    found: Set[str] = set()
    for subject in subjects:
        cannot_be_asked = subject.name in check.needs_driver and not has_driver
        if plan.find(subject.name) is not None and not cannot_be_asked:
            found |= {subject.name, *subject.imports}
    return frozenset(found)

"""Changes an environment to match a lock: plan, fetch, check, then continue like an install."""

from __future__ import annotations

import dataclasses
from typing import FrozenSet, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.errors import HashMismatch, Refused, SafeInstallError
from safe_install.health.comparison import check_cuda_required
from safe_install.index.catalog import bundled_catalog
from safe_install.models import (
    SOURCES,
    Action,
    Finding,
    InstallResult,
    Outcome,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pipeline.baseline import BaselineCheck, explaining_failed_build, refuse_changed
from safe_install.pipeline.choice import IndexChooser, make_choice_options
from safe_install.pipeline.installer import PipInstaller
from safe_install.pipeline.selection import Selected, refuse_errors
from safe_install.pipeline.session import Session, find_leaving
from safe_install.pipeline.torch_check import TorchCheck
from safe_install.resolve.decisions import Selection
from safe_install.resolve.permission import check_requirements, find_conflicts
from safe_install.resolve.plan import kept_names
from safe_install.resolve.promises import is_promised
from safe_install.snapshot.difference import Difference
from safe_install.snapshot.lock_plan import LockPlan, LockPlanner, is_version_of
from safe_install.snapshot.locked import LockedEnvironment
from safe_install.torch_family import TORCH, is_guarded
from safe_install.transaction.place import check_place
from safe_install.wheels.archive import Artifact


class LockChange:
    """One change of an environment to match a file."""

    def __init__(self, location: str, session: Session, before: BaselineCheck) -> None:
        """`location`: the file's name in messages."""
        self._location, self._session, self._before = location, session, before
        self._own, self._environment = session.request.own, session.environment
        self._installer = PipInstaller(session)
        self._chooser = IndexChooser(
            make_choice_options(session.request),
            session.world,
            self._installer.credentials,
            pip=lambda: self._installer.pip,
        )

    def run(self, lock: LockedEnvironment, difference: Difference) -> InstallResult:
        """The result of the command. After a refusal or a roll back, the hashes that were first
        seen in this run are forgotten, so that a corrected file is accepted later."""
        try:
            result = self._run(lock, difference)
        except SafeInstallError as error:
            if error.exit_status == Refused.exit_status:
                self._chooser.fetcher.forget_first_seen()
            raise
        if result.outcome is Outcome.ROLLED_BACK:
            self._chooser.fetcher.forget_first_seen()
        is_done = result.outcome is Outcome.INSTALLED
        outcome = Outcome.SYNCED if is_done else result.outcome
        return dataclasses.replace(result, command="sync", outcome=outcome)

    def _run(self, lock: LockedEnvironment, difference: Difference) -> InstallResult:
        planner = LockPlanner(
            self._session,
            self._installer,
            self._chooser,
            bundled_catalog(),
            self._location,
        )
        planned = planner.plan(lock, difference)
        sources = [step.name for step in planned.plan.steps if step.origin in SOURCES]
        built = (*sources, *planned.built)
        if built:  # without builds, the environment is compared right before the change
            refuse_changed(self._before.changed_paths(), self._environment, built=built)
        findings = self._check_plan(planned)
        if self._own.dry_run:
            return self._planned(planned.plan, findings)
        return self._apply(planned, built, findings)

    def _apply(
        self, planned: LockPlan, built: Tuple[str, ...], findings: Tuple[Finding, ...]
    ) -> InstallResult:
        """Fetch, check the requirements of the files, then continue like an install."""
        from safe_install.pipeline.change import carry_out
        from safe_install.pipeline.delivery import begin_delivery, fetch

        delivery = begin_delivery(
            self._session, self._installer, self._is_promised, self._chooser.fetcher
        )
        released = frozenset(step.name for step in planned.plan.steps if is_guarded(step.name))
        with explaining_failed_build(self._before, built):
            artifacts = fetch(delivery, planned.plan, planned.artifacts, released=released)
        plan = with_files(planned.plan, artifacts)
        # The requirements of all new distributions are known only now.
        findings = (*findings, *self._check_requirements(plan))
        selected = Selected(
            plan,
            Selection(self._environment, self._environment, coming_torch=planned.torch),
            artifacts,
            planned.torch,
            released,
            self._permitted_to_miss(plan),
            permits_cuda_loss=permits_cuda_loss(plan, planned.torch),
        )
        result = carry_out(selected, delivery, self._before, built)
        return dataclasses.replace(result, findings=(*findings, *result.findings))

    def _planned(self, plan: Plan, findings: Sequence[Finding]) -> InstallResult:
        return InstallResult(
            "sync",
            Outcome.PLANNED,
            0,
            self._environment,
            plan,
            findings=tuple(findings),
            timings=self._session.timings.total(),
        )

    def _is_promised(self, step: Step) -> bool:
        """Is the hash of a file given by the user's file or the package index?"""
        return is_promised(
            step,
            self._session.request,
            self._environment,
            is_on_index=self._chooser.is_on_index,
        )

    # --- refusals ---

    def _check_plan(self, planned: LockPlan) -> Tuple[Finding, ...]:
        """Warnings on a plan, before anything is fetched. Errors: Refused for a plan that would
        break something."""
        plan, environment, own = planned.plan, self._environment, self._own
        interpreter = environment.interpreter
        check_place(interpreter.prefix, interpreter.scheme, find_leaving(plan, environment))
        if own.require_cuda:
            refuse_errors(check_cuda_required(self._before.report()), plan)
        if plan.find(TORCH) is None:
            return ()
        check = TorchCheck(self._session)
        check.check(planned.torch)
        if planned.torch is None:
            return ()
        from safe_install.pipeline.breakage import find_breakage

        severity = Severity.WARNING if own.no_rollback else Severity.ERROR
        variables = self._session.world.environ
        broken = find_breakage(environment, plan, planned.torch, variables, severity=severity)
        refuse_errors(broken, plan)
        return (*check.findings, *broken)

    def _permitted_to_miss(self, plan: Plan) -> FrozenSet[NormalizedName]:
        """The kept distributions that may lack a requirement after the change (with
        --no-warn-conflicts); never torch and its libraries."""
        if not self._session.request.no_warn_conflicts:
            return frozenset()
        kept = kept_names(plan, self._environment)
        return frozenset(name for name in kept if not is_guarded(name))

    def _check_requirements(self, plan: Plan) -> Tuple[Finding, ...]:
        """Warnings on unmet requirements of new distributions. Errors: Refused for unmet
        requirements of kept ones."""
        permitted = self._permitted_to_miss(plan)
        refuse_errors(tuple(check_requirements(plan, self._environment, permitted)), plan)
        return find_conflicts(plan, self._session.request, self._environment)


def with_files(plan: Plan, artifacts: Mapping[NormalizedName, Artifact]) -> Plan:
    """The plan with versions, names and requirements from the files. Errors: HashMismatch for a
    file of another distribution."""
    steps = []
    for step in plan.steps:
        artifact = artifacts.get(step.name)
        if artifact is not None:
            _refuse_other(step, artifact)
            step = dataclasses.replace(
                step,
                version=artifact.written_version or str(artifact.version),
                requires=tuple(artifact.requires_dist),
                written_name=artifact.written_name,
            )
        steps.append(step)
    return dataclasses.replace(plan, steps=tuple(steps))


def _refuse_other(step: Step, artifact: Artifact) -> None:
    """Raise HashMismatch for a file of another distribution or version."""
    is_version = step.version is None or is_version_of(step.version, artifact)
    if artifact.name == step.name and is_version:
        return
    named = f"{step.name} {step.version or ''}".rstrip()
    raise HashMismatch(
        f"{artifact.path.name} holds {artifact.name} {artifact.version}, and {named} was named",
        hint="Correct the file: its address is that of another distribution.",
    )


def permits_cuda_loss(plan: Plan, torch: Optional[TorchBuild]) -> bool:
    """Does the plan install a torch without CUDA, or remove torch?"""
    step = plan.find(TORCH)
    if step is None:
        return False
    return step.action is Action.REMOVE or torch is None or torch.cuda is None

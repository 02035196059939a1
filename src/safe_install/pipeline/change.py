"""Carries a plan out: fetch, stage, the static check of what is staged, swap, verify, commit or
roll back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence, Tuple

from safe_install.index.catalog import bundled_catalog
from safe_install.models import Environment, Finding, InstallResult, Outcome, Step
from safe_install.pipeline.baseline import BaselineCheck, explaining_failed_build
from safe_install.pipeline.commit import Commit, PreparedChange, subjects_after
from safe_install.pipeline.delivery import (
    Artifacts,
    Delivery,
    check_space,
    fetch,
    find_notices,
    path_warnings,
    stage,
)
from safe_install.pipeline.health_gate import Expectation, UnpackedFile
from safe_install.pipeline.selection import Selected, refuse_errors
from safe_install.pipeline.session import Session, find_leaving
from safe_install.pipeline.static_check import StaticCheck, check_staged, coming_subjects, must_work
from safe_install.requirements import requirement_name
from safe_install.resolve.permission import asked_of_torch
from safe_install.resolve.plan import removed_names
from safe_install.resolve.recorded_address import with_addresses
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.torch_places import is_written
from safe_install.tags import accelerator_of_version, parse_accelerator
from safe_install.torch_family import TORCH
from safe_install.transaction import swap
from safe_install.transaction.clones import Clones
from safe_install.wheels.archive import Artifact


def compare_same_versions(selected: Selected, delivery: Delivery, steps: Tuple[Step, ...]) -> None:
    """In a dry run, fetch the files of these steps and compare them with the installed ones of the
    same version. Errors: Refused."""
    chosen = {
        step.name: selected.artifacts[step.name]
        for step in steps
        if step.name in selected.artifacts
    }
    fetch(delivery, replace(selected.plan, steps=steps), chosen, released=selected.released)


def carry_out(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> InstallResult:
    """Fetch, stage, swap, verify, then commit or roll back. `built`: the projects whose build code
    ran, or will run.

    Errors: every SafeInstallError. After an error the environment is unchanged, except after
    RollBackFailed.
    """
    session, clones = delivery.session, delivery.installer.clones
    with preparing(selected, delivery, before, built) as (change, transaction):
        commit = Commit(change, transaction, before, session.world, session.timings)
        commit.plan_moves(clones.move_into(transaction.stage) if clones is not None else ())
        with _clones_elsewhere(clones) as keep_clones:
            verdict = commit.swap()
            if verdict.outcome is not Outcome.ROLLED_BACK:
                keep_clones()
    return commit.conclude(verdict)


@contextmanager
def preparing(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> Iterator[Tuple[PreparedChange, swap.Transaction]]:
    """Fetch every file, fill the stage of a transaction and check it. The caller commits inside the
    context; leaving it otherwise drops the stage. The environment is not changed here.

    Errors: every SafeInstallError.
    """
    selected = replace(selected, plan=with_addresses(selected.plan, delivery.request))
    with explaining_failed_build(before, built):
        artifacts = fetch(delivery, selected.plan, selected.artifacts, released=selected.released)
    plan, session, environment = selected.plan, delivery.session, delivery.environment
    interpreter, world = environment.interpreter, session.world
    with swap.begin(
        interpreter.prefix, command=world.command, scheme=interpreter.scheme
    ) as transaction:
        check_space(delivery, artifacts)
        before.prepare_report_after(world.environ)
        with session.timings.stage("stage"), explaining_failed_build(before, built):
            unpacking = stage(delivery, plan, artifacts, transaction.stage)
        with unpacking, session.timings.stage("check"):
            notices, check = _look_at_stage(selected, delivery, artifacts, transaction.stage)
        change = PreparedChange(
            plan,
            tuple(world.command),
            requested=tuple(entry.text for entry in session.request.entries),
            coming=coming_subjects(plan, artifacts, check, bundled_catalog()),
            files={name: _facts_of(artifact) for name, artifact in artifacts.items()},
            path_warnings=tuple(path_warnings(delivery, plan, artifacts)),
            findings=(*notices, *check.findings),
        )
        yield _with_expectation(change, selected, session, check, before, built), transaction


def _facts_of(artifact: Artifact) -> UnpackedFile:
    return UnpackedFile(artifact.sha256, artifact.path.stat().st_size)


def _look_at_stage(
    selected: Selected,
    delivery: Delivery,
    artifacts: Artifacts,
    stage: Path,
) -> Tuple[Tuple[Finding, ...], StaticCheck]:
    """Notes on the staged files, and the result of their static check. Errors: Refused."""
    plan = selected.plan
    notices = find_notices(delivery, plan, artifacts, beside_torch=selected.selection.has_torch)
    check = check_staged(
        delivery.session,
        bundled_catalog(),
        plan,
        artifacts,
        stage=stage,
        torch=selected.torch_after,
        replaced=find_leaving(plan, delivery.environment),
        cpu_builds=frozenset(
            note.subject for note in selected.findings if note.check == "cpu-build"
        ),
    )
    refuse_errors((*notices, *check.findings), plan)
    return notices, check


def _with_expectation(
    change: PreparedChange,
    selected: Selected,
    session: Session,
    check: StaticCheck,
    before: BaselineCheck,
    built: Sequence[str],
) -> PreparedChange:
    """The change with what must hold after it: what was asked for, and what is allowed to get
    worse."""
    plan, request = change.plan, session.request
    torch, removed = plan.find(TORCH), removed_names(plan)
    subjects = subjects_after(before.subjects, change.coming, removed)
    requested = must_work(subjects, plan, check, session.environment.driver)
    if torch is not None and TORCH not in removed:
        requested |= {TORCH}
    may_lose_cuda = selected.permits_cuda_loss
    if torch is not None and _is_other_build_asked_for(request, session.environment, torch):
        may_lose_cuda = True
    expectation = Expectation(
        requested=requested,
        coming_torch=selected.torch_after if torch is not None else None,
        torch_requested=torch is not None and TORCH in selected.released,
        cuda_loss_requested=may_lose_cuda,
        require_cuda=request.own.require_cuda,
        no_rollback=request.own.no_rollback,
        may_miss=selected.may_be_broken,
        built=tuple(built),
    )
    return replace(change, expectation=expectation)


def _is_other_build_asked_for(
    request: InstallRequest, environment: Environment, step: Step
) -> bool:
    """Does the command line ask for a torch without CUDA (`torch==2.4.1+cpu`, `--accelerator cpu`,
    its index)? Then losing CUDA is no fault."""
    name = accelerator_of_version(step.version or "")
    accelerator = parse_accelerator(name) if name else None
    if name is None or accelerator is None or accelerator.kind == "cuda":
        return False
    if asked_of_torch(request, environment).names(name):
        return True
    texts = [entry.text for entry in request.entries if requirement_name(entry.text) == TORCH]
    return is_written(name, texts)


@contextmanager
def _clones_elsewhere(clones: Optional[Clones]) -> Iterator[Callable[[], None]]:
    """Put clones into folders outside of the environment, and remove them again unless the function
    that this yields was called."""
    if clones is None:
        yield lambda: None
        return
    try:
        clones.place_uncovered()
        yield clones.keep
    finally:
        clones.take_away()

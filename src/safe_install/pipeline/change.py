"""Carries a plan out: fetch, stage, the static check of what is staged, swap, verify, commit or
roll back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Sequence, Tuple

from safe_install.health.answers import Subject
from safe_install.index.catalog import bundled_catalog
from safe_install.models import (
    Environment,
    Finding,
    InstalledDistribution,
    InstallResult,
    Outcome,
    Plan,
    Step,
)
from safe_install.pipeline.baseline import BaselineCheck, naming_intruders, with_subjects
from safe_install.pipeline.delivery import (
    Artifacts,
    Delivery,
    check_space,
    fetch,
    find_notices,
    path_warnings,
    stage,
)
from safe_install.pipeline.health_gate import (
    Expectation,
    Verdict,
    apply_and_verify,
    make_result,
    summarize,
)
from safe_install.pipeline.selection import Selected, refuse_errors
from safe_install.pipeline.session import Session, leaving, prune_history, staying_beside
from safe_install.pipeline.static_check import StaticCheck, check_staged, coming_subjects, must_work
from safe_install.requirements import requirement_name
from safe_install.resolve.guard import torch_without_metadata
from safe_install.resolve.own_options import UV_VARIABLE
from safe_install.resolve.pip_words import PipWords, uninstalled_line
from safe_install.resolve.plan import coming_steps, kept_names, removed_names
from safe_install.resolve.recorded_address import with_addresses
from safe_install.resolve.request import InstallRequest
from safe_install.torch_family import TORCH
from safe_install.transaction import swap
from safe_install.transaction.clones import Clones


def compare_same_versions(selected: Selected, delivery: Delivery, steps: Tuple[Step, ...]) -> None:
    """A dry run fetches what only its files can tell: is it what is there? Errors: Refused."""
    chosen = {
        step.name: selected.artifacts[step.name]
        for step in steps
        if step.name in selected.artifacts
    }
    fetch(delivery, replace(selected.plan, steps=steps), chosen, released=selected.released)


def carry_out(
    selected: Selected, delivery: Delivery, before: BaselineCheck, built: Sequence[str]
) -> InstallResult:
    """Fetch, stage, swap, verify, commit or roll back. `built`: the names whose build code ran, or
    will.

    Errors: every SafeInstallError; nothing is changed when one leaves here, except RollBackFailed.
    """
    selected = replace(selected, plan=with_addresses(selected.plan, delivery.request))
    with naming_intruders(before, built):
        artifacts = fetch(delivery, selected.plan, selected.artifacts, released=selected.released)
    plan, session, environment = selected.plan, delivery.session, delivery.environment
    interpreter, world = environment.interpreter, session.world
    replaced = leaving(plan, environment)
    words = _words_of(plan, session)
    with swap.begin(
        interpreter.prefix, command=world.command, scheme=interpreter.scheme
    ) as transaction:
        check_space(delivery, artifacts)
        before.prepare_report_after(world.environ)
        with session.timings.stage("stage"), naming_intruders(before, built):
            unpacking = stage(delivery, plan, artifacts, transaction.stage)
        with unpacking, session.timings.stage("check"):
            notices, check = _look_at_stage(
                selected, delivery, artifacts, transaction.stage, replaced
            )
        _announce_coming(plan, words, session)
        _plan_moves(transaction, plan, delivery, replaced)
        subjects, expectation = _expect(selected, delivery, artifacts, check, before, built)
        verdict = _swap(transaction, before, subjects, expectation, plan, delivery, artifacts)
    _finish(verdict, words, replaced, plan, artifacts, delivery)
    result = make_result("install", verdict, transaction, environment, plan, session.timings)
    return replace(result, findings=(*notices, *check.findings, *verdict.findings))


def _announce_coming(plan: Plan, words: PipWords, session: Session) -> None:
    if coming_steps(plan):
        session.world.reporter.announce(words.installing())


def _words_of(plan: Plan, session: Session) -> PipWords:
    requested = [entry.text for entry in session.request.entries]
    return PipWords(coming_steps(plan), requested, session.environment)


def _plan_moves(
    transaction: swap.Transaction,
    plan: Plan,
    delivery: Delivery,
    replaced: Sequence[InstalledDistribution],
) -> None:
    """Which files go and which come. Errors: Refused, where they may not."""
    environment, clones = delivery.environment, delivery.installer.clones
    kept = kept_names(plan, environment)
    sources = clones.move_into(transaction.stage) if clones is not None else ()
    with delivery.session.timings.stage("moves"):
        transaction.plan(
            remove=replaced,
            keep=[environment.installed[name] for name in sorted(kept)],
            beside=staying_beside(plan, environment),
            closed=_folders_without_metadata(plan, environment),
            sources=sources,
        )


def _swap(
    transaction: swap.Transaction,
    before: BaselineCheck,
    subjects: Sequence[Subject],
    expectation: Expectation,
    plan: Plan,
    delivery: Delivery,
    artifacts: Artifacts,
) -> Verdict:
    session = delivery.session
    with _clones_elsewhere(delivery.installer.clones) as keep_clones:
        verdict = apply_and_verify(
            transaction,
            before,
            subjects,
            expectation=expectation,
            summary=summarize(plan.steps, session.world.command, artifacts),
            timings=session.timings,
            world=session.world,
        )
        if verdict.outcome is not Outcome.ROLLED_BACK:
            keep_clones()
    return verdict


def _finish(
    verdict: Verdict,
    words: PipWords,
    replaced: Sequence[InstalledDistribution],
    plan: Plan,
    artifacts: Artifacts,
    delivery: Delivery,
) -> None:
    """Old transactions go, and pip's own lines on a change that was made are said."""
    world = delivery.session.world
    if verdict.outcome is not Outcome.ROLLED_BACK:
        prune_history(delivery.environment.interpreter.prefix, world)
    if verdict.outcome is not Outcome.INSTALLED:
        return
    reporter = world.reporter
    for line in words.replaced(replaced):
        reporter.announce(line)
    for distribution in replaced:
        if distribution.name in removed_names(plan):
            reporter.announce(uninstalled_line(distribution))
    for line in path_warnings(delivery, plan, artifacts):
        reporter.pip_warning(line)
    if coming_steps(plan):
        reporter.announce(words.installed())


def _look_at_stage(
    selected: Selected,
    delivery: Delivery,
    artifacts: Artifacts,
    stage: Path,
    replaced: Sequence[InstalledDistribution],
) -> Tuple[Tuple[Finding, ...], StaticCheck]:
    """What is said of the staged files, and what they say of themselves. Errors: Refused."""
    plan = selected.plan
    notices = find_notices(delivery, plan, artifacts, beside_torch=selected.selection.has_torch)
    check = check_staged(
        delivery.session,
        bundled_catalog(),
        plan,
        artifacts,
        stage=stage,
        torch=selected.torch_after,
        replaced=replaced,
        cpu_builds=frozenset(
            note.subject for note in selected.findings if note.check == "cpu-build"
        ),
    )
    refuse_errors((*notices, *check.findings), plan)
    return notices, check


def _expect(
    selected: Selected,
    delivery: Delivery,
    artifacts: Artifacts,
    check: StaticCheck,
    before: BaselineCheck,
    built: Sequence[str],
) -> Tuple[Tuple[Subject, ...], Expectation]:
    """Every extension that is there or comes, and what the person asked for."""
    plan, session = selected.plan, delivery.session
    request, environment = session.request, session.environment
    coming = coming_subjects(plan, artifacts, check, bundled_catalog())
    removed = removed_names(plan)
    known = with_subjects(before.subjects, coming)
    subjects = tuple(one for one in known if one.name not in removed)
    if TORCH in removed:
        subjects = ()  # without torch nothing can be asked of the rest
    torch = plan.find(TORCH)
    requested = must_work(subjects, plan, check, environment.driver)
    if torch is not None and TORCH not in removed:
        requested |= {TORCH}
    may_lose_cuda = selected.permits_cuda_loss
    if torch is not None and _is_cpu_build_asked_for(request, torch):
        may_lose_cuda = True
    expectation = Expectation(
        requested=requested,
        coming_torch=selected.torch_after if torch is not None else None,
        torch_requested=torch is not None and TORCH in selected.released,
        cuda_loss_requested=may_lose_cuda,
        require_cuda=request.own.require_cuda,
        no_rollback=request.own.no_rollback,
        kept=frozenset(kept_names(plan, environment)),
        may_miss=selected.may_be_broken,
        built=tuple(built),
    )
    return subjects, expectation


def _is_cpu_build_asked_for(request: InstallRequest, step: Step) -> bool:
    """Did the person ask for a CPU build of torch (`torch==2.4.1+cpu`, `--accelerator cpu`)? Then
    losing CUDA is what was asked for."""
    if not (step.version or "").endswith("+cpu"):
        return False
    own = request.own
    if own.accelerator == "cpu" and own.accelerator_origin != UV_VARIABLE:
        return True
    return any(
        "+cpu" in entry.text for entry in request.entries if requirement_name(entry.text) == TORCH
    )


@contextmanager
def _clones_elsewhere(clones: Optional[Clones]) -> Iterator[Callable[[], None]]:
    """Clones that lie outside of the environment come with the change, and go if it is not kept."""
    if clones is None:
        yield lambda: None
        return
    try:
        clones.place_uncovered()
        yield clones.keep
    finally:
        clones.take_away()


def _folders_without_metadata(plan: Plan, environment: Environment) -> Dict[Path, str]:
    """The folder of a torch that no distribution lists, and that stays: nothing comes into it, or
    over its files.

    A folder `torch` in site-packages would come before one to which a .pth file leads.
    """
    torch = torch_without_metadata(environment)
    if torch is None or torch.folder is None or plan.find(TORCH) is not None:
        return {}
    scheme = environment.interpreter.scheme
    return {
        folder: str(TORCH)
        for folder in (torch.folder, scheme.purelib / "torch", scheme.platlib / "torch")
    }

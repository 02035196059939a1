"""`safe-install install`: the pipeline, readable from top to bottom.

probe, lock, recover, health before (beside everything else), plan (choose, build, ask pip), fetch and verify, stage,
the static check of what is staged, swap, health after, commit or roll back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from safe_install.errors import Refused, SafeInstallError
from safe_install.health.report import check_cuda_required
from safe_install.models import (
    Action,
    Environment,
    Finding,
    InstalledDistribution,
    InstallResult,
    Outcome,
    Plan,
    Severity,
)
from safe_install.pipeline.health_gate import (
    BaselineCheck,
    apply_and_verify,
    naming_intruders,
    refuse_changed,
    summarize,
)
from safe_install.pipeline.selection import Planner, local_sources
from safe_install.pipeline.session import (
    defaults_to_user_site,
    error_context,
    is_own,
    probe_environment,
    prune_history,
    read_again,
    refuse_externally_managed,
    user_environment,
)
from safe_install.ports import Timings, World
from safe_install.resolve.pip_words import PipWords
from safe_install.resolve.plan import kept_names, same_version_steps, torch_without_metadata
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.torch_fit import check_numpy
from safe_install.torch_family import TORCH
from safe_install.transaction import swap
from safe_install.transaction.clones import Clones

if TYPE_CHECKING:
    # What only changes an environment is imported when one is changed: it reads binaries, and takes 0.05 s.
    from safe_install.pipeline.delivery import Delivery


def install(request: InstallRequest, world: World) -> InstallResult:
    """Install what was asked for, or say why not; the environment ends as it was, or changed and verified.

    Errors: every SafeInstallError; nothing is changed when one leaves here, except RollBackFailed.
    """
    timings = Timings()
    with timings.stage("probe"):
        environment = probe_environment(request.own, world)
    is_only_report = request.own.dry_run and request.report_file is not None  # pip answers that everywhere
    refuse_externally_managed(environment, break_system_packages=request.break_system_packages or is_only_report)
    if request.place is None and not request.refuses_user and defaults_to_user_site(environment):
        request = dataclasses.replace(request, place="user")
    if request.place == "user":
        environment = user_environment(environment)
    prefix = environment.interpreter.prefix
    with contextlib.ExitStack() as stack:
        stack.enter_context(error_context(environment))
        if not request.own.dry_run:
            stack.enter_context(swap.lock_environment(prefix))
            recovered = swap.recover(prefix)
            for item in recovered:
                world.reporter.warn(f"an interrupted run was put right: {item.transaction} {item.what}")
            if recovered:
                environment = read_again(environment)
        before = BaselineCheck(environment, check_timeout=request.own.check_timeout, sources=local_sources(request))
        stack.callback(before.stop)
        work = _make_work_folder(stack)
        planner = Planner(request, environment, before, world, timings, work)
        stack.enter_context(_forgetting_refused(planner))
        with naming_intruders(before, planner.built):
            plan = planner.make_plan()
        refuse_changed(before, built=_built_in_this_run(planner, plan))
        broken = _find_breakage(planner, plan)
        numpy = check_numpy(plan, planner.torch_after(plan))
        beside = _beside(plan, environment)
        notes_beside = tuple(map(_note_beside, beside))
        notes = (*planner.notes, *planner.torch_findings, *numpy, *broken, *planner.conflicts(plan), *notes_beside)
        if plan.steps:
            # A dry run refuses what the run itself would refuse.
            scheme = environment.interpreter.scheme
            swap.check_place(prefix, scheme, _replaced(plan, environment), beside=beside)
            if request.own.require_cuda:
                _require_cuda_before(before)
        if request.own.dry_run or not plan.steps:
            _compare_same_versions(planner, plan, work)
            return _unchanged(request, environment, plan, before, timings, notes)
        from safe_install.pipeline.delivery import Delivery

        delivery = Delivery(planner, plan, work)
        with naming_intruders(before, _built_in_this_run(planner, plan)):
            delivery.fetch()
        return _apply(delivery, before, timings, notes)


def _find_breakage(planner: Planner, plan: Plan) -> Sequence[Finding]:
    """What the plan is known to break is refused before anything is fetched. Errors: Refused.

    --allow-torch-change lets torch move; that extensions stop working is permitted by --no-rollback, which keeps a
    change whatever the check after it says.
    """
    if all(step.name != TORCH for step in plan.steps):
        return ()
    from safe_install.pipeline.breakage import find_breakage

    severity = Severity.WARNING if planner.request.own.no_rollback else Severity.ERROR
    torch = planner.torch_after(plan)
    broken = find_breakage(planner.environment, plan, torch, planner.world.environ, severity=severity)
    refuse_errors(broken, plan)
    return broken


def _compare_same_versions(planner: Planner, plan: Plan, work: Path) -> None:
    """A dry run fetches what only its files can tell: is it what is there? Errors: Refused."""
    steps = same_version_steps(plan, released=planner.released_by(plan))
    if steps:
        from safe_install.pipeline.delivery import Delivery

        Delivery(planner, dataclasses.replace(plan, steps=steps), work).fetch()


def _make_work_folder(stack: contextlib.ExitStack) -> Path:
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safe-install-")))
    except OSError as error:
        raise Refused(
            f"no folder for temporary files can be used: {error.strerror or error}",
            hint="Name one with room: TMPDIR=/path/to/folder.",
        ) from error


@contextlib.contextmanager
def _forgetting_refused(planner: Planner) -> Iterator[None]:
    """A file that is refused must not stand in the way of a better one at its address."""
    try:
        yield
    except SafeInstallError as error:
        if error.exit_status == Refused.exit_status:
            planner.forget_refused()
        raise


def _unchanged(
    request: InstallRequest,
    environment: Environment,
    plan: Plan,
    before: BaselineCheck,
    timings: Timings,
    broken: Sequence[Finding],
) -> InstallResult:
    outcome = Outcome.PLANNED if request.own.dry_run and plan.steps else Outcome.ALREADY_SATISFIED
    health = before.report() if environment.torch is not None and request.own.json else None
    return InstallResult(
        "install", outcome, 0, environment, plan, health, findings=tuple(broken), timings=timings.total()
    )


def _require_cuda_before(before: BaselineCheck) -> None:
    findings = check_cuda_required(before.report())
    if findings:
        raise Refused(findings[0].detail, hint=findings[0].hint, findings=findings)


def _built_in_this_run(planner: Planner, plan: Plan) -> Tuple[str, ...]:
    """The names whose build code ran, for the metadata or for the wheel."""
    by_pip = [step.name for step in plan.steps if step.kind in ("sdist", "editable")]
    return tuple(dict.fromkeys([*by_pip, *planner.built]))


def _apply(delivery: Delivery, before: BaselineCheck, timings: Timings, broken: Sequence[Finding]) -> InstallResult:
    """Stage, swap, verify, commit or roll back."""
    plan, environment, world = delivery.plan, delivery.environment, delivery.world
    replaced = _replaced(plan, environment)
    kept = kept_names(plan, environment)
    words = PipWords(plan.steps, [entry.text for entry in delivery.request.entries], environment)
    with swap.begin(
        environment.interpreter.prefix, command=world.command, scheme=environment.interpreter.scheme
    ) as transaction:
        delivery.check_space()
        built = _built_in_this_run(delivery.planner, plan)
        with timings.stage("stage"), naming_intruders(before, built):
            delivery.stage(transaction.stage)
        with timings.stage("check"):
            seen = (*delivery.notices(), *delivery.inspect(transaction.stage, replaced))
        refuse_errors(seen, plan)
        clones = delivery.planner.clones
        sources = clones.move_into(transaction.stage) if clones is not None else ()
        world.reporter.announce(words.installing())
        with timings.stage("moves"):
            transaction.plan(
                remove=replaced,
                keep=[environment.installed[name] for name in sorted(kept)],
                beside=_beside(plan, environment),
                closed=_folders_without_metadata(plan, environment),
                sources=sources,
            )
        with _clones_elsewhere(clones) as keep_clones:
            verdict = apply_and_verify(
                transaction,
                before,
                delivery.subjects(),
                expectation=dataclasses.replace(delivery.expectation(kept), built=built),
                summary=summarize(plan.steps, world.command),
                timings=timings,
                world=world,
            )
            if verdict.outcome is not Outcome.ROLLED_BACK:
                keep_clones()
    kept_change = verdict.outcome is not Outcome.ROLLED_BACK
    if not kept_change:
        delivery.planner.forget_refused()
    else:
        prune_history(environment.interpreter.prefix, world)
    if verdict.outcome is Outcome.INSTALLED:
        for line in words.replaced(replaced):
            world.reporter.announce(line)
        for line in delivery.path_warnings():
            world.reporter.pip_warning(line)
        world.reporter.announce(words.installed())
    return InstallResult(
        "install",
        verdict.outcome,
        verdict.exit_status,
        environment,
        plan,
        verdict.before,
        verdict.after,
        (*broken, *seen, *verdict.findings),
        transaction.id if kept_change else None,
        timings.total(),
    )


@contextlib.contextmanager
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


def _replaced(plan: Plan, environment: Environment) -> List[InstalledDistribution]:
    found = [environment.installed[step.name] for step in plan.steps if step.action is Action.REPLACE]
    return [distribution for distribution in found if is_own(distribution, environment)]


def _beside(plan: Plan, environment: Environment) -> List[InstalledDistribution]:
    """What stays beside another version of itself (--ignore-installed): its files may be overwritten."""
    added = [step.name for step in plan.steps if step.action is Action.ADD and step.name in environment.installed]
    found = [environment.installed[name] for name in added]
    return [distribution for distribution in found if is_own(distribution, environment)]


def _folders_without_metadata(plan: Plan, environment: Environment) -> Dict[Path, str]:
    """The folder of a torch that no distribution lists, and that stays: nothing comes into it, or over its files.

    A folder `torch` in site-packages would come before one to which a .pth file leads.
    """
    torch = torch_without_metadata(environment)
    if torch is None or torch.folder is None or any(step.name == TORCH for step in plan.steps):
        return {}
    scheme = environment.interpreter.scheme
    return {folder: str(TORCH) for folder in (torch.folder, scheme.purelib / "torch", scheme.platlib / "torch")}


def _note_beside(distribution: InstalledDistribution) -> Finding:
    return Finding(
        "stays-beside",
        Severity.NOTE,
        distribution.name,
        f"{distribution.name} {distribution.version} in {distribution.location} is left alone (--ignore-installed): "
        "its metadata stays, and files of the same name are overwritten",
    )


def refuse_errors(findings: Sequence[Finding], plan: Plan) -> None:
    """What would not load is not put into the environment. Errors: Refused."""
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise Refused(errors[0].detail, hint=errors[0].hint, findings=findings, rejections=plan.rejections)


def refuse_place(request: InstallRequest, executable: Path) -> None:
    """pip may put files elsewhere by itself, but not into the environment by another door. Errors: Refused."""
    prefix = Path(os.path.realpath(str(executable.parent.parent)))
    destination = find_destination(request, prefix)
    if destination is None:
        return
    place = Path(os.path.realpath(str(destination)))
    if place == prefix or prefix in place.parents:
        raise Refused(
            f"--{request.place} leads to {place}, into the environment {prefix}",
            hint=f"Leave --{request.place} out: then the install is guarded.",
        )


def find_destination(request: InstallRequest, environment: Path) -> Optional[Path]:
    """The folder into which pip would write by --target, --root and --prefix; None where none is given.

    As pip computes it: --root comes before the path of --prefix, or of the environment where there is none.
    """
    if request.target:
        return Path(request.target).expanduser()
    if not request.root and not request.prefix:
        return None
    prefix = environment
    if request.prefix:
        prefix = Path(os.path.normpath(str(Path.cwd() / Path(request.prefix).expanduser())))
    if not request.root:
        return prefix
    return Path(request.root).expanduser() / prefix.relative_to(prefix.anchor)

"""`safe-install install`, from beginning to end, and `stage`, which does the same up to the full
stage.

probe, lock, recover, check before (in parallel), plan (choose, ask pip, build), fetch and verify,
stage, static check, swap, check after, commit or roll back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from pathlib import Path
from typing import (
    Callable,
    FrozenSet,
    Hashable,
    Iterator,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

from packaging.utils import NormalizedName

from safe_install.environment.interpreter import Probe
from safe_install.errors import Refused, SafeInstallError, UsageError
from safe_install.events import Reporter
from safe_install.folders import expand_home
from safe_install.health.comparison import check_cuda_required
from safe_install.index.catalog import bundled_catalog, torch_table
from safe_install.models import (
    SOURCES,
    Environment,
    Finding,
    InstalledDistribution,
    InstallResult,
    Outcome,
    Plan,
    Severity,
    Step,
)
from safe_install.pipeline.baseline import (
    BaselineCheck,
    explaining_failed_build,
    refuse_changed,
)
from safe_install.pipeline.choice import IndexChooser, make_choice_options
from safe_install.pipeline.coming_torch import ComingTorch
from safe_install.pipeline.installer import PipInstaller, local_sources
from safe_install.pipeline.selection import Selected, refuse_errors, select
from safe_install.pipeline.session import (
    Session,
    defaults_to_user_site,
    error_context,
    find_leaving,
    find_staying_beside,
    lock_and_recover,
    make_work_folder,
    probe_environment,
    refuse_externally_managed,
    user_environment,
)
from safe_install.ports import Timings, World
from safe_install.resolve.accelerator import OPTION, with_known_accelerator
from safe_install.resolve.guard import same_version_steps
from safe_install.resolve.permission import find_conflicts, torch_terms
from safe_install.resolve.plan import make_removal
from safe_install.resolve.promises import is_promised
from safe_install.resolve.request import InstallRequest
from safe_install.resolve.torch_fit import (
    check_numpy,
    note_torch_stays,
    note_unused_cuda,
    warn_of_unused_gpu,
)
from safe_install.torch_family import TORCH
from safe_install.transaction.place import check_place


class Mending(NamedTuple):
    """What `doctor --fix` adds to an install."""

    removes: Tuple[NormalizedName, ...] = ()
    # files from the history, whose URL is of no use to anybody
    kept: FrozenSet[NormalizedName] = frozenset()


class Supply(Protocol):
    """The only files that an install may use: those of a bundle."""

    work: Path  # the temporary folder for these files

    def check(self, environment: Environment) -> None:
        """Check that they are for this environment. Errors: Refused."""

    def bring(self, environment: Environment, reporter: Reporter, *, anew: bool) -> None:
        """Put the files where the request expects them. Those of distributions that the environment
        has already are left out unless `anew`."""

    def name_origins(self, plan: Plan, *, records_address: bool) -> Plan:
        """The plan with the URLs that the files came from."""


def install(
    request: InstallRequest,
    world: World,
    probe: Optional[Probe] = None,
    *,
    supply: Optional[Supply] = None,
    stages: bool = False,
    mending: Optional[Mending] = None,
) -> InstallResult:
    """Install what was requested. Afterwards the environment is changed and verified, or as before.
    `probe`: a probe of the managed interpreter that was started before. `stages`: stage the change,
    to be committed later. `mending`: further changes in the same transaction.

    Errors: every SafeInstallError. After an error the environment is unchanged, except after
    RollBackFailed.
    """
    timings = Timings()
    if stages:
        _refuse_editables(request)
    request = dataclasses.replace(request, own=with_known_accelerator(request.own, torch_table()))
    with timings.stage("probe"):
        environment = probe_environment(request.own, world, probe)
    request, environment = _place(request, environment)
    with contextlib.ExitStack() as stack:
        stack.enter_context(error_context(environment))
        if supply is not None:
            supply.check(environment)
        if not request.own.dry_run:
            environment = lock_and_recover(environment, world, stack)
        before = BaselineCheck(
            environment, check_timeout=request.own.check_timeout, sources=local_sources(request)
        )
        stack.callback(before.stop)
        work = make_work_folder(stack) if supply is None else supply.work
        if supply is not None:
            supply.bring(environment, world.reporter, anew=request.force_reinstall)
        session = Session(request, environment, world, timings, work)
        installer = PipInstaller(session, read_index=lambda name: chooser.read_index(name))
        chooser = IndexChooser(
            make_choice_options(request), world, installer.credentials, pip=lambda: installer.pip
        )
        stack.enter_context(_forgetting_refused(chooser))
        result = _plan_and_apply(
            session, before, installer, chooser, supply, stages=stages, mending=mending
        )
        return dataclasses.replace(result, command="stage" if stages else "install")


def _place(request: InstallRequest, environment: Environment) -> Tuple[InstallRequest, Environment]:
    """The request and environment for this installation, or for the user site; that of the
    operating system is refused. Errors: ExternallyManaged, PipFailed, Refused."""
    # pip answers that everywhere
    is_only_report = request.own.dry_run and request.report_file is not None
    refuse_externally_managed(
        environment, break_system_packages=request.break_system_packages or is_only_report
    )
    if request.place is None and not request.refuses_user and defaults_to_user_site(environment):
        request = dataclasses.replace(request, place="user")
    if request.place == "user":
        environment = user_environment(environment)
    return request, environment


def _refuse_editables(request: InstallRequest) -> None:
    """Refuse editables in a stage: their source folder may still change. Errors: Refused."""
    if request.editables:
        text = request.editables[0].text
        raise Refused(
            f"an editable install cannot be staged: {text}",
            hint=f"Install it: safe-install install -e {text}",
        )


def _plan_and_apply(
    session: Session,
    before: BaselineCheck,
    installer: PipInstaller,
    chooser: IndexChooser,
    supply: Optional[Supply],
    *,
    stages: bool,
    mending: Optional[Mending],
) -> InstallResult:
    request, environment = session.request, session.environment
    promise = _promise(session, chooser, supply)
    coming = ComingTorch(session, installer, promise, chooser.fetcher)
    check = _PlanCheck(session, before)
    selected = _select(session, check, installer, chooser, coming)
    selected = _with_mending(_with_origins(selected, session, supply), mending, environment)
    plan = selected.plan
    built = _built_in_this_run(plan, chooser)
    same = same_version_steps(plan, released=selected.released)
    is_over = not plan.steps or (request.own.dry_run and not same)
    if built or is_over:  # else it is looked at right before the change
        refuse_changed(before.changed_paths(), environment, built=built)
    notes = (*selected.findings, *check.refuse(selected), *_notes_on(selected, session))
    # Only its files tell whether a version that is there already is what is there.
    if is_over:
        return _unchanged(session, plan, before, notes)
    from safe_install.pipeline.change import carry_out, compare_same_versions
    from safe_install.pipeline.delivery import begin_delivery

    delivery = begin_delivery(
        session, installer, promise, chooser.fetcher, brought=coming.artifacts
    )
    if request.own.dry_run:
        compare_same_versions(selected, delivery, same)
        return _unchanged(session, plan, before, notes)
    change = _set_aside() if stages else carry_out
    result = change(selected, delivery, before, built)
    if result.outcome is Outcome.ROLLED_BACK:
        chooser.fetcher.forget_first_seen()
    return dataclasses.replace(result, findings=(*notes, *result.findings))


def _set_aside() -> Callable[..., InstallResult]:
    from safe_install.pipeline.staging import set_aside

    return set_aside


def _promise(
    session: Session, chooser: IndexChooser, supply: Optional[Supply]
) -> Callable[[Step], bool]:
    """Are the bytes of a step promised? Supplied files were checked when they were chosen, and
    their hashes since."""
    if supply is not None:
        return lambda step: True
    return functools.partial(
        is_promised,
        request=session.request,
        environment=session.environment,
        is_on_index=chooser.is_on_index,
    )


def _with_origins(selected: Selected, session: Session, supply: Optional[Supply]) -> Selected:
    """The plan with the original URLs of supplied files, which are in a temporary folder."""
    if supply is None:
        return selected
    records = not session.request.own.no_direct_url
    plan = supply.name_origins(selected.plan, records_address=records)
    return dataclasses.replace(selected, plan=plan)


def _with_mending(
    selected: Selected, mending: Optional[Mending], environment: Environment
) -> Selected:
    """The plan with the removals of `doctor --fix`, without what the plan itself installs."""
    if mending is None:
        return selected
    steps = [
        dataclasses.replace(step, is_direct=step.is_direct and step.name not in mending.kept)
        for step in selected.plan.steps
    ]
    coming = {step.name for step in steps}
    for name in mending.removes:
        if name in environment.installed and name not in coming:
            steps.append(make_removal(environment.installed[name], "in the way of what comes"))
    plan = dataclasses.replace(selected.plan, steps=tuple(steps))
    return dataclasses.replace(selected, plan=plan)


class _PlanCheck:
    """The checks that refuse a plan before anything is fetched, for a build or for the change."""

    def __init__(self, session: Session, before: BaselineCheck) -> None:
        self.session, self.before = session, before
        self._seen: Optional[Hashable] = None
        self._findings: Sequence[Finding] = ()

    def refuse(self, selected: Selected) -> Sequence[Finding]:
        """Warnings on what is known to break and permitted to. They are computed once, unless the
        plan has changed after a build. Errors: Refused."""
        plan = selected.plan
        changes = frozenset((step.name, step.action) for step in plan.steps)
        if self._seen != (selected.torch_after, changes):
            self._findings = _find_breakage(self.session, selected)
            if plan.steps:
                _check_before(self.session, plan, self.before)
            self._seen = selected.torch_after, changes
        return self._findings


def _select(
    session: Session,
    check: _PlanCheck,
    installer: PipInstaller,
    chooser: IndexChooser,
    coming: ComingTorch,
) -> Selected:
    """The plan. It is checked before torch is fetched for a build."""

    before = check.before

    def unpack_torch(selected: Selected) -> Environment:
        check.refuse(selected)
        return coming.unpack(selected.plan.steps)

    with explaining_failed_build(before, chooser.built):
        selected = select(
            session,
            bundled_catalog(),
            chooser,
            chooser,
            installer,
            before.report,
            unpack_torch,
        )
    coming.remove()
    return selected


def _check_before(session: Session, plan: Plan, before: BaselineCheck) -> None:
    """Check that the environment can be changed; in a dry run, too. Errors: Refused."""
    environment = session.environment
    interpreter, beside = environment.interpreter, find_staying_beside(plan, environment)
    check_place(
        interpreter.prefix, interpreter.scheme, find_leaving(plan, environment), beside=beside
    )
    if session.request.own.require_cuda:
        _require_cuda_before(before)


def _notes_on(selected: Selected, session: Session) -> Tuple[Finding, ...]:
    """Notes and warnings on a plan that is permitted."""
    plan, torch, environment = selected.plan, selected.torch_after, session.environment
    terms = torch_terms(session.request, environment)
    is_meant = torch is not None and terms.ask_for(torch)
    unused = warn_of_unused_gpu(plan, torch, environment, catalog=bundled_catalog())
    return (
        *check_numpy(plan, torch),
        *note_unused_cuda(plan, torch, environment, accelerator=terms.accelerator),
        *(() if is_meant else unused),
        *note_torch_stays(plan, environment, accelerator=terms.asked.accelerator),
        *find_conflicts(plan, session.request, environment),
        *(_note_beside(distribution) for distribution in find_staying_beside(plan, environment)),
    )


def _find_breakage(session: Session, selected: Selected) -> Sequence[Finding]:
    """Refuse a plan that is known to break extensions, before anything is fetched. Errors: Refused.

    --allow-torch-change permits another torch; broken extensions are permitted by --no-rollback,
    which keeps a change whatever the check after it finds.
    """
    plan = selected.plan
    if plan.find(TORCH) is None:
        return ()
    from safe_install.pipeline.breakage import find_breakage

    severity = Severity.WARNING if session.request.own.no_rollback else Severity.ERROR
    broken = find_breakage(
        session.environment, plan, selected.torch_after, session.world.environ, severity=severity
    )
    refuse_errors(broken, plan)
    return broken


@contextlib.contextmanager
def _forgetting_refused(chooser: IndexChooser) -> Iterator[None]:
    """After a refusal, forget the hashes of files that were first seen in this run, so that a
    corrected file is accepted later."""
    try:
        yield
    except SafeInstallError as error:
        if error.exit_status == Refused.exit_status:
            chooser.fetcher.forget_first_seen()
        raise


def _unchanged(
    session: Session, plan: Plan, before: BaselineCheck, findings: Sequence[Finding]
) -> InstallResult:
    own, environment = session.request.own, session.environment
    outcome = Outcome.PLANNED if own.dry_run and plan.steps else Outcome.ALREADY_SATISFIED
    health = before.report() if environment.torch is not None and own.json else None
    return InstallResult(
        "install",
        outcome,
        0,
        environment,
        plan,
        health,
        findings=tuple(findings),
        timings=session.timings.total(),
    )


def _require_cuda_before(before: BaselineCheck) -> None:
    findings = check_cuda_required(before.report())
    if findings:
        raise Refused.by(findings)


def _built_in_this_run(plan: Plan, chooser: IndexChooser) -> Tuple[str, ...]:
    """The projects whose build code ran, for metadata or for a wheel."""
    by_pip = [step.name for step in plan.steps if step.origin in SOURCES]
    return tuple(dict.fromkeys([*by_pip, *chooser.built]))


def _note_beside(distribution: InstalledDistribution) -> Finding:
    return Finding(
        "stays-beside",
        Severity.NOTE,
        distribution.name,
        f"{distribution.name} {distribution.version} in {distribution.location} is left alone "
        "(--ignore-installed): "
        "its metadata stays, and files of the same name are overwritten",
    )


def refuse_place(request: InstallRequest, executable: Path, *, stages: bool = False) -> None:
    """Refuse an installation by pip into this environment by way of --target, --root or --prefix;
    other folders are left to pip. Errors: Refused; UsageError with an accelerator, which pip does
    not know, or for `stage` (`stages`)."""
    if stages:
        raise UsageError(
            f"stage takes no --{request.place}: only an environment has changes that are staged",
            hint=f"Install it: safe-install install --{request.place} ...",
        )
    if request.own.accelerator_origin == OPTION:
        raise UsageError(
            f"{OPTION} {request.own.accelerator}: with --{request.place} pip chooses, and knows no "
            "accelerators",
            hint=f"Name the index: --index-url https://download.pytorch.org/whl/{request.own.accelerator}.",
        )
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
    """The folder that pip would install into by --target, --root and --prefix; None without these
    options.

    As in pip, --root is put before the path of --prefix, or of the environment without --prefix.
    """
    if request.target:
        return expand_home(request.target)
    if not request.root and not request.prefix:
        return None
    prefix = environment
    if request.prefix:
        prefix = Path(os.path.normpath(str(Path.cwd() / expand_home(request.prefix))))
    if not request.root:
        return prefix
    return expand_home(request.root) / prefix.relative_to(prefix.anchor)

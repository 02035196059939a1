"""What every guarded command shares: check, swap, check again, then commit or roll back.

The light check before a change asks torch's libraries and the driver (0.02 to 0.4 s) and imports
nothing (2 s). Where the check after the change finds an error that the light one could not have
seen, the old environment is put back and checked by import. If it was no better, the change is
swapped in again.
"""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field, replace
from typing import (
    TYPE_CHECKING,
    Any,
    Collection,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Protocol,
    Sequence,
    Tuple,
)

from packaging.utils import NormalizedName

from safe_install.environment.interpreter import read_script
from safe_install.environment.programs import find_running
from safe_install.environment.stamp import Stamp, describe_paths, folder_of_torch
from safe_install.errors import Interrupted
from safe_install.events import Reporter
from safe_install.health.answers import Subject
from safe_install.health.comparison import check_cuda_required, check_torch_build, compare_health
from safe_install.health.running import note_running
from safe_install.index.catalog import cuda_table
from safe_install.models import (
    Action,
    Driver,
    Environment,
    Finding,
    HealthReport,
    InstallResult,
    Origin,
    Outcome,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pipeline.baseline import concerns_torch, refuse_changed
from safe_install.pipeline.session import progress_task
from safe_install.ports import Timings, World
from safe_install.redaction import redact
from safe_install.system.modules import load_packages, loaded_files
from safe_install.system.process import Tick

if TYPE_CHECKING:
    # Imported where it is needed, to start faster: many commands change nothing.
    from safe_install.transaction.summary import ChangeSummary, StepOrigin, StepRow
    from safe_install.transaction.swap import Transaction


@dataclass(frozen=True)
class Expectation:
    """What must hold after a change, and what may get worse, as the user asked."""

    requested: FrozenSet[str] = frozenset()  # modules and projects that must work afterwards
    torch_requested: bool = False
    coming_torch: Optional[TorchBuild] = None
    cuda_loss_requested: bool = False
    require_cuda: bool = False
    no_rollback: bool = False
    # distributions that were there before and are not touched
    kept: FrozenSet[NormalizedName] = frozenset()
    built: Tuple[str, ...] = ()  # projects that were built from source for this change
    # those of `kept` whose requirements may be broken, as pip would break them
    may_miss: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """The outcome of a swapped change."""

    outcome: Outcome
    exit_status: int
    before: HealthReport
    after: HealthReport
    findings: Tuple[Finding, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def check_target(
    torch: Optional[TorchBuild], driver: Optional[Driver], after: HealthReport
) -> Tuple[Finding, ...]:
    """A note where CUDA could not be tried for a CUDA build of torch: there is no driver, or the
    import failed."""
    # The imported torch is the installed one. Without an import `torch` says what is installed.
    version, cuda = after.torch_version, after.torch_cuda
    if version is None and torch is not None:
        version, cuda = torch.runtime_version, torch.cuda
    if version is None or cuda is None or after.cuda_available is not None:
        return ()
    reason = _why_not_asked(driver, after)
    detail = (
        f"torch {version} is a CUDA build, and {reason}: CUDA and the GPU code of the extensions "
        "were not tried"
    )
    hint = "`safe-install verify --require-cuda` at the first start on the target settles it."
    return (Finding("cuda-not-asked", Severity.NOTE, "torch", detail, hint),)


def _why_not_asked(driver: Optional[Driver], after: HealthReport) -> str:
    is_here = driver is not None and not driver.declared
    here = "there is no driver here"
    if driver is not None and is_here:
        here = f"driver {driver.version} is here" if driver.version else "a driver is here"
    imported = after.imports.get("torch")
    if imported is not None and not imported.ok:
        return f"it cannot be imported ({here})"
    if after.crashed is not None:
        return f"the check did not end ({here})"
    return f"{here}, but its libcuda.so.1 is not" if is_here else here


class Checks(Protocol):
    """What the gate asks about the environment; BaselineCheck implements it."""

    environment: Environment

    def report(self) -> HealthReport:
        """The health before, by the light check."""

    def full_report(self, on_tick: Optional[Tick] = None) -> HealthReport:
        """The health before, by import. The old files must be in place."""

    def report_after(
        self,
        subjects: Sequence[Subject],
        *,
        kept: Collection[NormalizedName],
        torch_may_change: bool,
        on_tick: Optional[Tick] = None,
    ) -> HealthReport:
        """The health after."""

    def changed_paths(self, *, in_torch: bool = True) -> Tuple[str, ...]:
        """The paths that were changed since the first look. `in_torch`: also compare the files of
        torch."""

    def stamp_now(self, *, torch_stays: bool = False) -> Stamp:
        """The environment as it is now. `torch_stays`: the change moved no file of torch, so the
        last look at its files is used again."""


class Decision(enum.Enum):
    """What to do with a change that was checked."""

    KEEP = "keep"
    ROLL_BACK = "roll-back"
    # the light check could not see what fails now: check the old environment by import
    SETTLE = "settle"


def decide(
    findings: Iterable[Finding],
    changed_meanwhile: Iterable[Finding],
    *,
    asked_before: str,
    no_rollback: bool,
) -> Decision:
    """What to do, given the findings after a change.

    `findings`: what got worse. `changed_meanwhile`: what the check itself or another program
    changed. `asked_before`: how the health before was checked, "loader" or "import".
    """
    if no_rollback:
        return Decision.KEEP
    if has_errors(changed_meanwhile):
        return Decision.ROLL_BACK
    if not has_errors(findings):
        return Decision.KEEP
    return Decision.SETTLE if asked_before == "loader" else Decision.ROLL_BACK


def apply_and_verify(
    transaction: Transaction,
    before: Checks,
    subjects: Sequence[Subject],
    *,
    expectation: Expectation,
    summary: ChangeSummary,
    timings: Timings,
    world: World,
    outcome: Outcome = Outcome.INSTALLED,
) -> Verdict:
    """Swap the planned moves in, check in a fresh process, then commit or roll back. Call it inside
    `with transaction`.

    `outcome`: that of a change that is committed and healthy.
    Errors: Refused when the moves could not be made (everything is as before), RollBackFailed,
    Interrupted (rolled back).
    """
    _preload_own_modules(transaction)
    torch_stays = not transaction.touches(folder_of_torch(before.environment))
    health_before = before.report()
    _refuse_changed_before(before, expectation, torch_stays=torch_stays)
    with timings.stage("swap"):
        transaction.swap()
    raise_if_interrupted = functools.partial(_raise_if_interrupted, transaction)
    with timings.stage("after"), progress_task("check after the change", world):
        swapped_in = before.stamp_now(torch_stays=torch_stays)
        compared = _compare(
            before, health_before, subjects, expectation, swapped_in, raise_if_interrupted
        )
    decision = decide(
        compared.findings,
        compared.changed_meanwhile,
        asked_before=health_before.asked,
        no_rollback=expectation.no_rollback,
    )
    if decision is Decision.SETTLE:
        with timings.stage("settle"):
            compared, is_kept = _settle(
                transaction, before, compared, expectation, raise_if_interrupted
            )
    else:
        is_kept = decision is Decision.KEEP
    raise_if_interrupted()
    if decision is Decision.ROLL_BACK:
        with timings.stage("roll-back"):
            transaction.roll_back()
    if not is_kept:
        left = _find_left_changed(before) if decision is Decision.ROLL_BACK else ()
        return compared.make_verdict(Outcome.ROLLED_BACK, left)
    with timings.stage("commit"):
        _commit(transaction, summary, world.reporter)
    return _judge_kept(compared, before.environment, summary, outcome)


def _judge_kept(
    compared: _Compared, environment: Environment, summary: ChangeSummary, outcome: Outcome
) -> Verdict:
    """The verdict on a change that is committed. `outcome`: that of a healthy one."""
    more = check_target(environment.torch, environment.driver, compared.after)
    more += _note_running(environment, summary)
    is_unhealthy = has_errors((*compared.findings, *compared.changed_meanwhile, *more))
    return compared.make_verdict(Outcome.UNHEALTHY if is_unhealthy else outcome, more)


def _refuse_changed_before(before: Checks, expectation: Expectation, *, torch_stays: bool) -> None:
    """Refuse where another program changed the environment meanwhile. Errors: Refused. Where torch
    stays, its files are compared after the swap only; that look covers the time before, too."""
    in_torch = bool(expectation.built) or not torch_stays
    changed = before.changed_paths(in_torch=in_torch)
    refuse_changed(changed, before.environment, built=expectation.built)


def _raise_if_interrupted(transaction: Transaction) -> None:
    """Raise where a signal has arrived; leaving the transaction rolls it back. Errors:
    Interrupted."""
    if transaction.pending_signal is not None:
        raise Interrupted(
            f"interrupted by signal {transaction.pending_signal}: rolled back, the environment is "
            "as it was",
            signal_number=transaction.pending_signal,
        )


def _commit(transaction: Transaction, summary: ChangeSummary, reporter: Reporter) -> None:
    transaction.commit(summary)
    reporter.change_made(transaction.id)
    if transaction.warning:
        reporter.warn(transaction.warning)


def _note_running(environment: Environment, summary: ChangeSummary) -> Tuple[Finding, ...]:
    """Notes on running programs that use files which this change replaced."""
    actions = {row["action"] for row in summary["steps"]}
    if actions <= {Action.ADD.value}:
        return ()
    return note_running(find_running(environment.interpreter.prefix))


@dataclass(frozen=True)
class _Compared:
    """The health before a change and after it, with what follows from them."""

    before: HealthReport
    after: HealthReport
    findings: Tuple[Finding, ...]  # what got worse
    changed_meanwhile: Tuple[Finding, ...]  # what the check or another program changed meanwhile

    def make_verdict(self, outcome: Outcome, more: Tuple[Finding, ...] = ()) -> Verdict:
        """The verdict with this outcome and all findings."""
        status = 12 if outcome in (Outcome.ROLLED_BACK, Outcome.UNHEALTHY) else 0
        return Verdict(
            outcome,
            status,
            self.before,
            self.after,
            (*self.findings, *self.changed_meanwhile, *more),
        )


def _compare(
    checks: Checks,
    health_before: HealthReport,
    subjects: Sequence[Subject],
    expectation: Expectation,
    swapped_in: Stamp,
    on_tick: Tick,
) -> _Compared:
    """Check the changed environment in a fresh process. `swapped_in`: the stamp right after the
    swap."""
    after = checks.report_after(
        subjects,
        kept=expectation.kept,
        torch_may_change=expectation.torch_requested,
        on_tick=on_tick,
    )
    changed_meanwhile = _changed_by_check(swapped_in, checks.stamp_now(), checks.environment)
    return _Compared(
        health_before, after, _judge(health_before, after, expectation), changed_meanwhile
    )


def _settle(
    transaction: Transaction,
    checks: Checks,
    compared: _Compared,
    expectation: Expectation,
    on_tick: Tick,
) -> Tuple[_Compared, bool]:
    """Roll back, check the old environment by import, and compare again. Where it was no better,
    the change is swapped in again, which takes milliseconds. The second value: is the change in
    place?"""
    transaction.roll_back()
    health_before = checks.full_report(on_tick)
    findings = _judge(health_before, compared.after, expectation)
    is_kept = not has_errors(findings)
    if is_kept:
        transaction.swap_again()
    return replace(compared, before=health_before, findings=findings), is_kept


def _preload_own_modules(transaction: Transaction) -> None:
    """Import everything that is still needed, where the change moves files of this program
    itself."""
    if transaction.moves_any(loaded_files()):
        load_packages("safe_install", "rich")
        for package in ("safe_install.health", "safe_install.environment"):
            read_script(package)
        cuda_table()


def _changed_by_check(
    swapped_in: Stamp, now: Stamp, environment: Environment
) -> Tuple[Finding, ...]:
    """Findings on files that changed since the swap: by code that the check imported, or by another
    program.

    New files that cannot affect torch or Python may belong to another installer. They are a warning
    and no reason to roll back, because that could remove that installer's files, too.
    """
    changed = swapped_in.changed(now)
    if not changed:
        return ()
    paths = describe_paths(changed, environment)
    detail = (
        "the environment was changed while it was checked, by what was imported or by another "
        f"installer: {paths}"
    )
    is_harmless = all(
        path not in swapped_in.states and not concerns_torch(path, environment) for path in changed
    )
    severity = Severity.WARNING if is_harmless else Severity.ERROR
    return (Finding("changed-meanwhile", severity, "environment", detail),)


def _find_left_changed(before: Checks) -> Tuple[Finding, ...]:
    """After a roll back: a warning on paths that differ from before, because another program
    changed them."""
    changed = before.changed_paths()
    if not changed:
        return ()
    paths = describe_paths(changed, before.environment)
    detail = f"not as before, since something else changed it: {paths}"
    return (
        Finding("left-changed", Severity.WARNING, "environment", detail, "Look at those paths."),
    )


def _judge(
    before: HealthReport, after: HealthReport, expectation: Expectation
) -> Tuple[Finding, ...]:
    findings = compare_health(
        before,
        after,
        requested=expectation.requested,
        torch_requested=expectation.torch_requested,
        cuda_loss_requested=expectation.cuda_loss_requested,
    )
    findings += check_torch_build(expectation.coming_torch, after)
    # What the plan may break was reported before the change.
    findings = tuple(
        finding
        for finding in findings
        if finding.check != "requirement-unmet" or finding.subject not in expectation.may_miss
    )
    if expectation.require_cuda:
        findings += check_cuda_required(after)
    return findings


def has_errors(findings: Iterable[Finding]) -> bool:
    """Is one of them an error?"""
    return any(finding.severity is Severity.ERROR for finding in findings)


def make_result(
    command: str,
    verdict: Verdict,
    transaction: Transaction,
    environment: Environment,
    plan: Plan,
    timings: Timings,
) -> InstallResult:
    """The result of a command that changed the environment, or tried to."""
    return InstallResult(
        command,
        verdict.outcome,
        verdict.exit_status,
        environment,
        plan,
        verdict.before,
        verdict.after,
        verdict.findings,
        transaction.id if verdict.outcome is not Outcome.ROLLED_BACK else None,
        timings.total(),
    )


class UnpackedFile(NamedTuple):
    """The wheel file that was unpacked for a step."""

    sha256: str
    size: int  # bytes


def summarize(
    steps: Sequence[Step],
    command: Sequence[str],
    files: Optional[Mapping[NormalizedName, UnpackedFile]] = None,
) -> ChangeSummary:
    """The summary of a change for the history; of each new file, where it came from."""
    kept: List[StepRow] = []
    for step in steps:
        row: StepRow = {
            "action": step.action.value,
            "name": step.name,
            "version": step.version,
            "from_version": step.from_version,
        }
        if step.url is not None:
            row = {**row, **_origin_of(step, (files or {}).get(step.name))}
        kept.append(row)
    return {"command": list(command), "steps": kept}


def _origin_of(step: Step, unpacked: Optional[UnpackedFile]) -> StepOrigin:
    """Where the files of a step came from, in the form that `export` reads."""
    sha256, size = step.sha256, None
    # The hash of a wheel built from a source is of no use elsewhere: the source's is recorded.
    if unpacked is not None and step.origin in (Origin.WHEEL, Origin.BUILT):
        sha256, size = unpacked.sha256, unpacked.size
    is_direct = step.is_direct or step.records_address
    is_remote = str(step.url).startswith(("https:", "http:"))
    return {
        "kind": step.origin.value,
        "url": redact(str(step.url)),
        "sha256": sha256,
        "size": size,
        "requested": step.requested,
        "direct": is_direct,
        "listed": is_remote and not is_direct and not step.is_hosted,
    }

"""What every guarded command shares: ask before, swap, ask after, keep or put back.

The light check before a change asks torch's libraries and the driver (0.02 to 0.4 s) and not an import (2 s). When the
check after the change fails on something that the light one was not asked, the old environment is put back and asked in
full; was it no better, the change is put in again.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.interpreter import read_environment, read_script
from safe_install.environment.stamp import Stamp, describe_paths, folder_of_torch, stamp_of, watched_folders
from safe_install.errors import (
    BuildFailed,
    Interrupted,
    PipFailed,
    ProbeFailed,
    Refused,
    SafeInstallError,
)
from safe_install.health.examination import Examination
from safe_install.health.report import (
    Subject,
    check_cuda_required,
    compare_health,
    is_healthy,
    unmet_requirements,
)
from safe_install.index.catalog import cuda_table, known_projects, load_project
from safe_install.index.facts import Project
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Driver,
    Environment,
    Finding,
    HealthReport,
    Outcome,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pip_output import name_at_work
from safe_install.pipeline.session import progress_task
from safe_install.ports import Timings, World
from safe_install.resolve.torch_fit import check_torch
from safe_install.system.modules import load_packages, loaded_files
from safe_install.system.process import Tick, ending_orphans
from safe_install.system.read_only import find_write_attempt
from safe_install.torch_family import is_guarded

if TYPE_CHECKING:
    from safe_install.transaction.swap import Transaction  # what only asks changes nothing, and need not import it


@dataclass(frozen=True)
class Expectation:
    """What the person asked for, as far as the verdict depends on it."""

    requested: FrozenSet[str] = frozenset()  # modules and projects that must work afterwards
    torch_requested: bool = False
    cuda_loss_requested: bool = False
    require_cuda: bool = False
    no_rollback: bool = False
    kept: FrozenSet[NormalizedName] = frozenset()  # distributions that were there before and are not touched
    built: Tuple[str, ...] = ()  # what was built from source on the way
    may_miss: FrozenSet[str] = frozenset()  # those of `kept` whose requirements may be broken, as pip breaks them


@dataclass(frozen=True)
class Verdict:
    """How a swapped change ended."""

    outcome: Outcome
    exit_status: int
    before: HealthReport
    after: HealthReport
    findings: Tuple[Finding, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def check_torch_here(environment: Environment, torch: Optional[TorchBuild] = None) -> Tuple[Finding, ...]:
    """Would `torch` (None: the installed one) run with the driver and on the GPUs that were declared, or that are here?

    Errors for what was declared, warnings for what is here. The GPU code of the installed torch is read in its files.
    """
    torch, driver = torch or environment.torch, environment.driver
    if torch is None or driver is None:
        return ()
    code = None
    if driver.declared and driver.devices and torch.lib_dir is not None:
        from safe_install.wheels.inspection import gpu_code_of_torch
        from safe_install.wheels.libraries import DiskFiles

        code = gpu_code_of_torch(DiskFiles(), {path.name: str(path) for path in sorted(torch.lib_dir.glob("*.so"))})
    return check_torch(torch, driver, environment.interpreter, code=code)


def check_target(torch: Optional[TorchBuild], driver: Optional[Driver], after: HealthReport) -> Tuple[Finding, ...]:
    """What could not be asked of a CUDA build of torch, and why: no driver, or an import that failed."""
    # The one that was imported is the one that is there now; one that does not import says nothing of itself.
    version, cuda = after.torch_version, after.torch_cuda
    if version is None and torch is not None:
        version, cuda = torch.runtime_version, torch.cuda
    if version is None or cuda is None or after.cuda_available is not None:
        return ()
    reason = _why_not_asked(driver, after)
    detail = f"torch {version} is a CUDA build, and {reason}: CUDA and the GPU code of the extensions were not tried"
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


def subject_of(project: Project) -> Subject:
    """The questions that the wheel index has for a project."""
    return Subject(project.name, project.imports, project.native, project.operation)


def installed_subjects(environment: Environment) -> Tuple[Subject, ...]:
    """The installed projects that the wheel index knows."""
    return tuple(subject_of(load_project(name)) for name in sorted(known_projects()) if name in environment.installed)


def with_subjects(known: Iterable[Subject], added: Iterable[Subject]) -> Tuple[Subject, ...]:
    """Both, each project once, by name."""
    merged = {subject.name: subject for subject in (*known, *added)}
    return tuple(merged[name] for name in sorted(merged))


def refuse_changed(before: BaselineCheck, *, built: Sequence[str] = ()) -> None:
    """Between the first look and the swap nobody else may change the environment. Errors: Refused.

    `built`: what was built meanwhile, whose build code may be the one that did it.
    """
    changed = before.changed_paths()
    if changed:
        raise _refused_for_changes(changed, before.environment, built)


@contextmanager
def naming_intruders(before: BaselineCheck, built: Sequence[str]) -> Iterator[None]:
    """A build that fails may have changed the environment before, or have failed because it could not: that is the
    worse news. Errors: Refused then."""
    try:
        yield
    except Interrupted:
        raise
    except SafeInstallError as error:
        if any(finding.check == "changed-meanwhile" for finding in error.findings):
            raise
        changed = before.changed_paths()
        refused = _refused_for_attempt(error, before)
        if changed:
            refused = _refused_for_changes(changed, before.environment, built)
        if refused is None:
            raise
        refused.message = f"{refused.message}\n  {error.message}"
        raise refused from error


def _refused_for_attempt(error: SafeInstallError, before: BaselineCheck) -> Optional[Refused]:
    """The refusal of a build that failed and says itself that it tried to write into the environment."""
    if not isinstance(error, (PipFailed, BuildFailed)):
        return None
    attempt = find_write_attempt(error.output, before.watched_folders())
    if attempt is None:
        return None
    name = name_at_work(error.output)
    what = f"the build of {name}" if name is not None else "a build"
    reason = f"{what} tried to write into the environment, which is read-only to builds: {attempt}"
    return Refused(
        reason,
        hint="Take a version whose build installs nothing, or install what it wants before.",
        findings=(Finding("build-wrote", Severity.ERROR, "environment", reason),),
    )


def _refused_for_changes(changed: Sequence[str], environment: Environment, built: Sequence[str]) -> Refused:
    paths = describe_paths(changed, environment)
    suspects = f" (built meanwhile: {', '.join(built)})" if built else ""
    hint = "Look at those paths; another installer, or code of a build, wrote there."
    torch = environment.torch
    if torch is not None and any(_concerns_torch(path, environment) for path in changed):
        hint += f" To bring torch back: safe-install --force-reinstall --no-deps torch=={torch.version}."
    return Refused(
        f"something else changed the environment while this ran{suspects}: {paths}",
        hint=hint,
        findings=(Finding("changed-meanwhile", Severity.ERROR, "environment", f"changed meanwhile: {paths}"),),
    )


class BaselineCheck:
    """The check before the change, working beside us; `report()` waits for it."""

    def __init__(
        self,
        environment: Environment,
        *,
        asked: str = "loader",
        check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
        sources: Sequence[Path] = (),
    ) -> None:
        """`check_timeout`: seconds for each of the checks, before and after; None: no limit.
        `sources`: local folders that the change builds; a torch in one of them is theirs to change."""
        self.environment = environment
        self.check_timeout = check_timeout
        self._sources = tuple(sources)
        self.stamp = stamp_of(environment, self._sources)
        self.subjects = installed_subjects(environment)
        self._asked = asked
        self._report: Optional[HealthReport] = None
        loadable = environment.torch is not None and environment.torch.lib_dir is not None
        self._examination = self._examine(asked if loadable else "import") if environment.torch is not None else None

    def changed_paths(self) -> Tuple[str, ...]:
        """The paths that somebody else changed since this object was made; after a swap ours are among them."""
        return self.stamp.changed(stamp_of(self.environment, self._sources))

    def watched_folders(self) -> Tuple[Path, ...]:
        """The folders into which nobody else may write."""
        return watched_folders(self.environment, self._sources)

    def _examine(self, asked: str) -> Examination:
        return Examination(
            self.environment.interpreter.executable,
            self.environment.torch,
            self.subjects,
            asked=asked,
            timeout=self.check_timeout,
        )

    def report(self) -> HealthReport:
        """The health before. A library that the loader does not find may be brought by torch's Python code: then, and
        only then, the slow import decides."""
        if self._report is None:
            unmet = unmet_requirements(self.environment.installed, self.environment.interpreter.markers)
            if self._examination is None:
                self._report = HealthReport(unmet=unmet)
            else:
                self._report = self._examination.result(unmet)
                if self._report.asked == "loader" and not is_healthy(self._report):
                    self._report = self._examine("import").result(unmet)
        return self._report

    def full_report(self, on_tick: Optional[Tick] = None) -> HealthReport:
        """The health before, by import: for when the light answer is not enough. The old files must be in place."""
        report = self.report()
        if report.asked == "loader":
            report = self._examine("import").result(report.unmet, on_tick=on_tick)
        return report

    def stop(self) -> None:
        """Nobody needs the answer any more."""
        if self._examination is not None and self._report is None:
            self._examination.stop()


def apply_and_verify(
    transaction: Transaction,
    before: BaselineCheck,
    subjects: Sequence[Subject],
    *,
    expectation: Expectation,
    summary: Mapping[str, Any],
    timings: Timings,
    world: World,
) -> Verdict:
    """Swap the planned moves in, ask a fresh process, then commit or roll back. Called inside `with transaction`.

    Errors: Refused when the moves could not be made (all is as before), RollBackFailed, Interrupted (rolled back).
    """
    _load_what_comes_later(transaction)
    health_before = before.report()
    refuse_changed(before, built=expectation.built)
    with timings.stage("swap"):
        transaction.swap()
    swapped_in = stamp_of(before.environment)

    def heed_signal() -> None:
        """Leaving the transaction rolls it back."""
        if transaction.pending_signal is not None:
            raise Interrupted(
                f"interrupted by signal {transaction.pending_signal}: rolled back, the environment is as it was",
                signal_number=transaction.pending_signal,
            )

    with timings.stage("after"), progress_task("check after the change", world):
        after = _ask_after(before, subjects, expectation, heed_signal)
    intruded = _changed_by_check(swapped_in, before.environment)
    findings = _judge(health_before, after, expectation)
    swapped = True
    may_settle = not expectation.no_rollback and not _has_errors(intruded) and health_before.asked == "loader"
    if _has_errors(findings) and may_settle:
        with timings.stage("settle"):
            transaction.roll_back()
            health_before = before.full_report(heed_signal)
            findings = _judge(health_before, after, expectation)
            swapped = not _has_errors(findings)
            if swapped:
                # The old environment was no better: what was asked for goes in again, within milliseconds.
                transaction.swap_again()
    findings += intruded
    heed_signal()
    if not swapped:
        return Verdict(Outcome.ROLLED_BACK, 12, health_before, after, findings)
    if _has_errors(findings) and not expectation.no_rollback:
        with timings.stage("roll-back"):
            transaction.roll_back()
        findings += _left_changed(before)
        return Verdict(Outcome.ROLLED_BACK, 12, health_before, after, findings)
    with timings.stage("commit"):
        transaction.commit(summary)
        world.reporter.change_made(transaction.id)
    if transaction.warning:
        world.reporter.warn(transaction.warning)
    findings += check_target(before.environment.torch, before.environment.driver, after)
    if _has_errors(findings):
        return Verdict(Outcome.UNHEALTHY, 12, health_before, after, findings)
    return Verdict(Outcome.INSTALLED, 0, health_before, after, findings)


def _load_what_comes_later(transaction: Transaction) -> None:
    """The program's own files may be among those that move: nothing is imported or read from them afterwards."""
    if transaction.moves_any(loaded_files()):
        load_packages("safe_install", "rich")
        for package in ("safe_install.health", "safe_install.environment"):
            read_script(package)
        cuda_table()


def _ask_after(
    before: BaselineCheck, subjects: Sequence[Subject], expectation: Expectation, on_tick: Tick
) -> HealthReport:
    """The fresh import, and beside it the fresh probe that tells whether requirements are met.

    An interpreter that cannot be probed any more is a result of the change, as a torch that does not import is.
    """
    old, limit = before.environment, before.check_timeout
    executable = old.interpreter.executable
    examination: Optional[Examination] = None
    with ending_orphans(), ThreadPoolExecutor(max_workers=1) as pool:
        probe = pool.submit(read_environment, executable, old.driver, on_tick=on_tick, timeout=limit)
        try:
            new = probe.result() if old.torch is None or expectation.torch_requested else None
            torch = new.torch if new is not None else old.torch
            if torch is not None:
                examination = Examination(executable, torch, subjects, timeout=limit)
            new = probe.result()
        except BaseException as error:
            if examination is not None:
                examination.stop()
            if isinstance(error, ProbeFailed):
                return HealthReport(crashed=error.message)
            raise
        unmet = unmet_requirements(new.installed, new.interpreter.markers, of=expectation.kept)
        if examination is None:
            return HealthReport(unmet=unmet)
        return examination.result(unmet, torch=new.torch, on_tick=on_tick)


def _changed_by_check(swapped_in: Stamp, environment: Environment) -> Tuple[Finding, ...]:
    """What was imported for the check, or somebody else meanwhile, may not change what is there.

    What only came, and cannot change what torch or Python does, may be another installer's: it is named and no reason
    for a roll back, which could take that installer's files away with ours.
    """
    changed = swapped_in.changed(stamp_of(environment))
    if not changed:
        return ()
    paths = describe_paths(changed, environment)
    detail = f"the environment was changed while it was checked, by what was imported or by another installer: {paths}"
    is_harmless = all(path not in swapped_in.states and not _concerns_torch(path, environment) for path in changed)
    severity = Severity.WARNING if is_harmless else Severity.ERROR
    return (Finding("changed-meanwhile", severity, "environment", detail),)


def _concerns_torch(path: str, environment: Environment) -> bool:
    """Is it a file of torch, the metadata of torch or its companions, or what every start of Python runs?"""
    from safe_install.wheels.startup import runs_at_start

    folder = str(folder_of_torch(environment))
    if path == folder or path.startswith(f"{folder}{os.sep}"):
        return True
    name = Path(path).name
    if name.endswith((".dist-info", ".egg-info")):
        return is_guarded(canonicalize_name(name.partition("-")[0]))
    return runs_at_start(name)


def _left_changed(before: BaselineCheck) -> Tuple[Finding, ...]:
    """After a roll back: what is not as it was, because it was not ours to put back."""
    changed = before.changed_paths()
    if not changed:
        return ()
    detail = f"not as before, since something else changed it: {describe_paths(changed, before.environment)}"
    return (Finding("left-changed", Severity.WARNING, "environment", detail, "Look at those paths."),)


def _judge(before: HealthReport, after: HealthReport, expectation: Expectation) -> Tuple[Finding, ...]:
    findings = compare_health(
        before,
        after,
        requested=expectation.requested,
        torch_requested=expectation.torch_requested,
        cuda_loss_requested=expectation.cuda_loss_requested,
    )
    # What may be broken was said before the change.
    findings = tuple(
        finding
        for finding in findings
        if finding.check != "requirement-unmet" or finding.subject not in expectation.may_miss
    )
    if expectation.require_cuda:
        findings += check_cuda_required(after)
    return findings


def _has_errors(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def summarize(steps: Sequence[Step], command: Sequence[str]) -> Dict[str, Any]:
    """What the history keeps of a change."""
    kept: List[Dict[str, Any]] = [
        {
            "action": step.action.value,
            "name": step.name,
            "version": step.version,
            "from_version": step.from_version,
        }
        for step in steps
    ]
    return {"command": list(command), "steps": kept}

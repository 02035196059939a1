"""The environment before a change: its health, and whether another program changes it while the
change is prepared."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Collection, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.environment.interpreter import read_environment
from safe_install.environment.stamp import (
    Stamp,
    describe_paths,
    folder_of_torch,
    stamp_of,
    watched_folders,
)
from safe_install.environment.waiting import WaitingInterpreter, can_wait
from safe_install.errors import (
    BuildFailed,
    Interrupted,
    PipFailed,
    ProbeFailed,
    Refused,
    SafeInstallError,
)
from safe_install.health.answers import Subject
from safe_install.health.comparison import is_healthy
from safe_install.health.examination import EXAMINATION_LIMIT, Examination
from safe_install.health.requirements import unmet_requirements
from safe_install.index.catalog import bundled_catalog, known_projects, load_project
from safe_install.index.facts import Project
from safe_install.models import (
    DEFAULT_CHECK_TIMEOUT,
    Environment,
    Finding,
    HealthReport,
    Severity,
    TorchBuild,
)
from safe_install.pip_output import name_at_work
from safe_install.resolve.torch_fit import check_torch
from safe_install.system.process import Tick, ending_orphans
from safe_install.system.read_only import find_write_attempt
from safe_install.torch_family import is_guarded


class BaselineCheck:
    """The check before a change. It runs in a process of its own; `report()` waits for its
    result."""

    def __init__(
        self,
        environment: Environment,
        *,
        asked: str = "loader",
        check_timeout: Optional[float] = DEFAULT_CHECK_TIMEOUT,
        sources: Sequence[Path] = (),
    ) -> None:
        """`asked`: "loader" for the light check, "import" for the full one. `check_timeout`:
        seconds for each check, before and after; None: no limit. `sources`: local folders that the
        change builds; files in them are not counted as files of torch, because their own build may
        change them."""
        self.environment = environment
        self.check_timeout = check_timeout
        self._sources = tuple(sources)
        self.subjects = installed_subjects(environment)
        self._asked = asked
        self._report: Optional[HealthReport] = None
        self._waiting: Optional[WaitingInterpreter] = None
        loadable = environment.torch is not None and environment.torch.lib_dir is not None
        self._examination = (
            self._examine(asked if loadable else "import")
            if environment.torch is not None
            else None
        )
        # The process is starting meanwhile: loading libraries changes no file.
        self.stamp = self._seen = stamp_of(environment, self._sources)

    def changed_paths(self, *, in_torch: bool = True) -> Tuple[str, ...]:
        """The paths that were changed since this object was made. After a swap this includes our
        own changes. `in_torch`: also compare the 12,000 files of torch."""
        if not in_torch:
            seen = stamp_of(self.environment, self._sources, seen=self._seen)
            return self.stamp.changed(seen)
        self._seen = stamp_of(self.environment, self._sources)
        return self.stamp.changed(self._seen)

    def watched_folders(self) -> Tuple[Path, ...]:
        """The folders that only this run may write to."""
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
        """The health before the change. The light check may miss a library that only torch's Python
        code loads, so a bad result is checked again by import, which is slow."""
        if self._report is None:
            unmet = unmet_requirements(
                self.environment.installed, self.environment.interpreter.markers
            )
            if self._examination is None:
                self._report = HealthReport(unmet=unmet)
            else:
                self._report = self._examination.result(unmet)
                if self._report.asked == "loader" and not is_healthy(self._report):
                    self._report = self._examine("import").result(unmet)
        return self._report

    def prepare_report_after(self, environ: Mapping[str, str]) -> None:
        """Start the interpreter for the check after the change; it waits for its questions.
        `environ`: the variables that it inherits."""
        interpreter = self.environment.interpreter
        if self.environment.torch is None or not can_wait(interpreter, environ):
            return
        with contextlib.suppress(OSError):
            self._waiting = WaitingInterpreter(
                interpreter.executable, stdout_limit=EXAMINATION_LIMIT
            )

    def _take_waiting(self) -> Optional[WaitingInterpreter]:
        """The waiting interpreter, once; None afterwards."""
        waiting, self._waiting = self._waiting, None
        return waiting

    def full_report(self, on_tick: Optional[Tick] = None) -> HealthReport:
        """The health before the change, always by import. The old files must be in place."""
        report = self.report()
        if report.asked == "loader":
            report = self._examine("import").result(report.unmet, on_tick=on_tick)
        return report

    def report_after(
        self,
        subjects: Sequence[Subject],
        *,
        kept: Collection[NormalizedName],
        torch_may_change: bool,
        on_tick: Optional[Tick] = None,
    ) -> HealthReport:
        """The health after a change, by a fresh import. The installed distributions are read again
        in parallel.

        `kept`: distributions that the change does not touch; only their requirements are checked.
        An interpreter that cannot be probed any more is a result of the change, so it is reported
        as a crash and raises no error.
        """
        executable = self.environment.interpreter.executable
        examination: Optional[Examination] = None
        with ending_orphans(), ThreadPoolExecutor(max_workers=1) as pool:
            probe = pool.submit(
                read_environment,
                executable,
                self.environment.driver,
                on_tick=on_tick,
                timeout=self.check_timeout,
            )
            try:
                torch = self.environment.torch
                if torch is None or torch_may_change:
                    torch = probe.result().torch
                if torch is not None:
                    examination = Examination(
                        executable,
                        torch,
                        subjects,
                        timeout=self.check_timeout,
                        waiting=self._take_waiting(),
                    )
                new = probe.result()
            except BaseException as error:
                if examination is not None:
                    examination.stop()
                if isinstance(error, ProbeFailed):
                    return HealthReport(crashed=error.message)
                raise
            unmet = unmet_requirements(new.installed, new.interpreter.markers, of=kept)
            if examination is None:
                return HealthReport(unmet=unmet)
            return examination.result(unmet, torch=new.torch, on_tick=on_tick)

    def stamp_now(self, *, torch_stays: bool = False) -> Stamp:
        """The environment as it is now. `torch_stays`: the change moved no file of torch, so the
        last look at its files is used again."""
        is_seen = torch_stays and not self._sources  # a source folder may hold torch, unseen
        return stamp_of(self.environment, seen=self._seen if is_seen else None)

    def stop(self) -> None:
        """End the processes of this check; its result is not needed any more."""
        waiting = self._take_waiting()
        if waiting is not None:
            waiting.stop()
        if self._examination is not None and self._report is None:
            self._examination.stop()


# --- what is asked of an environment --------------------------------------------------------------


def subject_of(project: Project) -> Subject:
    """What the health check asks about a project of the wheel index."""
    return Subject(project.name, project.imports, project.native, project.operation)


def installed_subjects(environment: Environment) -> Tuple[Subject, ...]:
    """What the health check asks about each installed project of the wheel index."""
    return tuple(
        subject_of(load_project(name))
        for name in sorted(known_projects())
        if name in environment.installed
    )


def with_subjects(known: Iterable[Subject], added: Iterable[Subject]) -> Tuple[Subject, ...]:
    """Both groups in one, sorted by name; of a project in both the added one counts."""
    merged = {subject.name: subject for subject in (*known, *added)}
    return tuple(merged[name] for name in sorted(merged))


def check_torch_here(
    environment: Environment, torch: Optional[TorchBuild] = None
) -> Tuple[Finding, ...]:
    """What speaks against `torch` (None: the installed one) on the driver and GPUs that were
    declared, or else on those of this machine.

    Findings are errors for what was declared and warnings for this machine. The GPU code of the
    installed torch is read from its files.
    """
    torch, driver = torch or environment.torch, environment.driver
    if torch is None or driver is None:
        return ()
    code = None
    if driver.declared and driver.devices and torch.lib_dir is not None:
        from safe_install.wheels.inspection import gpu_code_of_torch
        from safe_install.wheels.libraries import DiskFiles

        code = gpu_code_of_torch(
            DiskFiles(), {path.name: str(path) for path in sorted(torch.lib_dir.glob("*.so"))}
        )
    return check_torch(torch, driver, environment.interpreter, catalog=bundled_catalog(), code=code)


# --- changes by other programs --------------------------------------------------------------------


def refuse_changed(
    changed: Sequence[str], environment: Environment, *, built: Sequence[str] = ()
) -> None:
    """Refuse where another program changed the environment before the swap. Errors: Refused.

    `changed`: the changed paths. `built`: projects that were built meanwhile; their build code may
    be the cause.
    """
    if changed:
        raise _refused_for_changes(changed, environment, built)


@contextmanager
def explaining_failed_build(before: BaselineCheck, built: Sequence[str]) -> Iterator[None]:
    """Where a build fails inside this context, check whether the environment was changed, or
    whether the build tried to write to it. Errors: Refused in that case, else the original
    error."""
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
    """The refusal where the output of a failed build shows that it tried to write into the
    environment; None where it does not."""
    if not isinstance(error, (PipFailed, BuildFailed)):
        return None
    attempt = find_write_attempt(error.output, before.watched_folders())
    if attempt is None:
        return None
    name = name_at_work(error.output)
    what = f"the build of {name}" if name else "a build"
    reason = f"{what} tried to write into the environment, which is read-only to builds: {attempt}"
    return Refused(
        reason,
        hint="Take a version whose build installs nothing, or install what it wants before.",
        findings=(Finding("build-wrote", Severity.ERROR, "environment", reason),),
    )


def _refused_for_changes(
    changed: Sequence[str], environment: Environment, built: Sequence[str]
) -> Refused:
    paths = describe_paths(changed, environment)
    suspects = f" (built meanwhile: {', '.join(built)})" if built else ""
    hint = "Look at those paths; another installer, or code of a build, wrote there."
    torch = environment.torch
    if torch is not None and any(concerns_torch(path, environment) for path in changed):
        hint += (
            " To bring torch back: safe-install --force-reinstall --no-deps "
            f"torch=={torch.version}."
        )
    return Refused(
        f"something else changed the environment while this ran{suspects}: {paths}",
        hint=hint,
        findings=(
            Finding(
                "changed-meanwhile", Severity.ERROR, "environment", f"changed meanwhile: {paths}"
            ),
        ),
    )


def concerns_torch(path: str, environment: Environment) -> bool:
    """Is the path a file of torch, metadata of torch or its companions, or a file that Python runs
    at every start?"""
    from safe_install.wheels.startup import runs_at_start

    folder = str(folder_of_torch(environment))
    if path == folder or path.startswith(f"{folder}{os.sep}"):
        return True
    name = Path(path).name
    if name.endswith((".dist-info", ".egg-info")):
        return is_guarded(canonicalize_name(name.partition("-")[0]))
    return runs_at_start(name)

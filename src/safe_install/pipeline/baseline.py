"""The environment before a change: is it healthy, and does anybody else change it while a change is
prepared?"""

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
        `sources`: local folders that the change builds; a torch in one of them is theirs to
        change."""
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
        # while the process starts: what it loads changes nothing of the environment
        self.stamp = self._seen = stamp_of(environment, self._sources)

    def changed_paths(self, *, in_torch: bool = True) -> Tuple[str, ...]:
        """The paths that somebody else changed since this object was made; after a swap ours are
        among them. `in_torch`: are the 12,000 files of torch looked at, too?"""
        if not in_torch:
            seen = stamp_of(self.environment, self._sources, seen=self._seen)
            return self.stamp.changed(seen)
        self._seen = stamp_of(self.environment, self._sources)
        return self.stamp.changed(self._seen)

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
        """The health before. A library that the loader does not find may be brought by torch's
        Python code: then, and only then, the slow import decides."""
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
        """Start the interpreter of the check after the change, which waits for it. `environ`: the
        variables that it inherits."""
        interpreter = self.environment.interpreter
        if self.environment.torch is None or not can_wait(interpreter, environ):
            return
        with contextlib.suppress(OSError):
            self._waiting = WaitingInterpreter(
                interpreter.executable, stdout_limit=EXAMINATION_LIMIT
            )

    def _take_waiting(self) -> Optional[WaitingInterpreter]:
        waiting, self._waiting = self._waiting, None
        return waiting

    def full_report(self, on_tick: Optional[Tick] = None) -> HealthReport:
        """The health before, by import: for when the light answer is not enough. The old files must
        be in place."""
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
        """The health after a change: a fresh import, and beside it a fresh probe for what is
        installed.

        `kept`: distributions that were there before; only their requirements are looked at.
        An interpreter that cannot be probed any more is a result of the change, as a torch that
        does not import is.
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
        """The environment as it lies there now. `torch_stays`: nothing of torch was moved since
        its files were looked at last, and what was seen of them then counts."""
        is_seen = torch_stays and not self._sources  # which may hold torch, and were not looked at
        return stamp_of(self.environment, seen=self._seen if is_seen else None)

    def stop(self) -> None:
        """Nobody needs the answer any more."""
        waiting = self._take_waiting()
        if waiting is not None:
            waiting.stop()
        if self._examination is not None and self._report is None:
            self._examination.stop()


# --- what is asked of an environment --------------------------------------------------------------


def subject_of(project: Project) -> Subject:
    """The questions that the wheel index has for a project."""
    return Subject(project.name, project.imports, project.native, project.operation)


def installed_subjects(environment: Environment) -> Tuple[Subject, ...]:
    """The installed projects that the wheel index knows."""
    return tuple(
        subject_of(load_project(name))
        for name in sorted(known_projects())
        if name in environment.installed
    )


def with_subjects(known: Iterable[Subject], added: Iterable[Subject]) -> Tuple[Subject, ...]:
    """Both, each project once, by name."""
    merged = {subject.name: subject for subject in (*known, *added)}
    return tuple(merged[name] for name in sorted(merged))


def check_torch_here(
    environment: Environment, torch: Optional[TorchBuild] = None
) -> Tuple[Finding, ...]:
    """Would `torch` (None: the installed one) run with the driver and on the GPUs that were
    declared, or that are here?

    Errors for what was declared, warnings for what is here. The GPU code of the installed torch is
    read in its files.
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


# --- others who change it meanwhile ---------------------------------------------------------------


def refuse_changed(
    changed: Sequence[str], environment: Environment, *, built: Sequence[str] = ()
) -> None:
    """Between the first look and the swap nobody else may change the environment. Errors: Refused.

    `changed`: paths that somebody else changed. `built`: what was built meanwhile, whose build code
    may have done it.
    """
    if changed:
        raise _refused_for_changes(changed, environment, built)


@contextmanager
def naming_intruders(before: BaselineCheck, built: Sequence[str]) -> Iterator[None]:
    """A build that fails may have changed the environment before, or have failed because it could
    not: that is the worse news. Errors: Refused then."""
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
    """The refusal of a build that failed and says itself that it tried to write into the
    environment."""
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
        hint += f" To bring torch back: safe-install --force-reinstall --no-deps torch=={torch.version}."
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
    """Is it a file of torch, the metadata of torch or its companions, or what every start of Python
    runs?"""
    from safe_install.wheels.startup import runs_at_start

    folder = str(folder_of_torch(environment))
    if path == folder or path.startswith(f"{folder}{os.sep}"):
        return True
    name = Path(path).name
    if name.endswith((".dist-info", ".egg-info")):
        return is_guarded(canonicalize_name(name.partition("-")[0]))
    return runs_at_start(name)

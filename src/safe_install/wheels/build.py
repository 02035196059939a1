"""Builds an sdist against a torch, the installed one or a planned one; the wheel is kept in our own
store.

The build sees the managed interpreter's packages, and before them an overlay folder with the build
tools; a planned torch is unpacked between the two. Nothing is installed into the environment, and
no other torch is fetched, as build isolation would do.
"""

from __future__ import annotations

import functools
import json
import os
import pkgutil
import shutil
import tempfile
import time
import zipfile
from hashlib import sha256 as make_sha256
from pathlib import Path
from typing import List, Mapping, NoReturn, Optional, Sequence, Tuple

from safe_install.environment.stamp import watched_folders
from safe_install.errors import BuildFailed, Refused
from safe_install.events import Reporter
from safe_install.models import DEFAULT_BUILD_TIMEOUT, BuildTimeout, Environment
from safe_install.system import process
from safe_install.system.read_only import READ_ONLY_ERROR, READ_ONLY_HINT, Protection
from safe_install.wheels.archive import Artifact, hash_file, open_wheel
from safe_install.wheels.build_log import (
    FileCount,
    count_files,
    explain_failure,
    find_error_lines,
    find_source,
    split_log,
)
from safe_install.wheels.elf import NotElf, SharedObject
from safe_install.wheels.lock import hold_lock
from safe_install.wheels.machine import read_machine
from safe_install.wheels.recipe import (
    BuildPlan,
    BuildRecipe,
    BuildRefusal,
    BuildSystem,
    plan_build,
    select_tools,
    select_variables,
)
from safe_install.wheels.source import read_build_system, unpack_sdist
from safe_install.wheels.store import LOGS, WheelStore, make_record
from safe_install.wheels.toolkit import (
    InstallRequirements,
    bring_toolkit,
    install_toolkit_packages,
    make_home,
)

__all__ = ["build_wheel", "check_build", "plan_here", "unpack_sdist"]


def build_wheel(
    sdist: Path,
    *,
    recipe: BuildRecipe,
    environment: Environment,
    store: WheelStore,
    install_tools: InstallRequirements,
    reporter: Reporter,
    variables: Mapping[str, str],
    jobs: Optional[int] = None,
    timeout: BuildTimeout = DEFAULT_BUILD_TIMEOUT,
    install_toolkit: Optional[InstallRequirements] = None,
    forbidden_by: str = "",
) -> Path:
    """Build `sdist` against the environment's torch. The result: the wheel's path in the store.

    `install_tools` fills the overlay (`pip install --target`); `install_toolkit` fills the folder
    of a CUDA toolkit in the same way (default: `install_tools`), unless an option (`forbidden_by`)
    forbids that. `variables`: those of the shell. A wheel in the store for this torch and these
    GPUs is returned without a build.
    Errors: Refused (see plan_here), BuildFailed (the message names the log).
    """
    decide = functools.partial(
        plan_here,
        recipe,
        environment,
        store.cache,
        variables=variables,
        jobs=jobs,
        forbidden_by=forbidden_by,
    )
    plan = decide()
    with hold_lock(
        store.lock_path(recipe.name, environment), reporter, f"another build of {recipe.name}"
    ):
        known = store.select(
            recipe.name, recipe.version, environment, architectures=plan.gpu_architectures
        )
        if known is not None:
            return known
        if plan.toolkit_requirements:
            install = install_toolkit or install_tools
            folder = bring_toolkit(
                plan.toolkit_requirements, environment, store.cache, install, reporter
            )
            plan = decide()
            if plan.toolkit is None:  # without this the build would use any nvcc that it finds
                raise Refused(
                    f"the CUDA toolkit that was fetched into {folder} cannot be used on this "
                    "machine",
                    hint="Look whether its nvcc runs (is the folder mounted noexec?), or name another folder for the "
                    "cache: SAFE_INSTALL_CACHE_DIR=/path/to/folder.",
                )
        build = _Build(sdist, recipe, environment, plan, store, reporter)
        return build.run(install_tools, timeout)


def plan_here(
    recipe: BuildRecipe,
    environment: Environment,
    cache: Path,
    *,
    variables: Mapping[str, str],
    jobs: Optional[int] = None,
    forbidden_by: str = "",
) -> BuildPlan:
    """How the recipe would be built on this machine; nothing is fetched.

    Errors: Refused for no compiler, one that nvcc does not accept, no fitting toolkit, or no target
    GPU.
    """
    plan = plan_build(
        environment,
        recipe,
        machine=read_machine(environment, variables, cache),
        variables=variables,
        jobs=jobs,
        forbidden_by=forbidden_by,
    )
    if isinstance(plan, BuildRefusal):
        raise Refused(plan.detail, hint=plan.hint)
    return plan


def check_build(
    recipe: BuildRecipe,
    environment: Environment,
    cache: Path,
    *,
    variables: Mapping[str, str],
    install_toolkit: InstallRequirements,
    forbidden_by: str = "",
) -> None:
    """Raise the Refused that build_wheel would raise, before anything is fetched.

    `install_toolkit` only asks the index whether the toolkit is available (`pip install
    --dry-run`).
    """
    plan = plan_here(recipe, environment, cache, variables=variables, forbidden_by=forbidden_by)
    if plan.toolkit_requirements:
        with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
            install_toolkit_packages(plan.toolkit_requirements, Path(folder), install_toolkit)


class _Build:
    """One build: its folders, its log, its progress."""

    def __init__(
        self,
        sdist: Path,
        recipe: BuildRecipe,
        environment: Environment,
        plan: BuildPlan,
        store: WheelStore,
        reporter: Reporter,
    ) -> None:
        self.sdist = sdist
        self.recipe = recipe
        self.environment = environment
        self.plan = plan
        self.store = store
        self.reporter = reporter
        self.title = f"{recipe.name} {recipe.version}"
        self.log = _make_log(store.cache, f"{recipe.name}-{recipe.version}")

    def run(self, install_tools: InstallRequirements, timeout: BuildTimeout) -> Path:
        started = time.monotonic()
        digest = hash_file(self.sdist)
        work = Path(
            tempfile.mkdtemp(prefix="build-", dir=str(_make_folder(self.store.cache / "work")))
        )
        # A compiler that is killed leaves its files behind: it gets a temporary folder that is ours
        # to remove.
        temporary = Path(tempfile.mkdtemp(prefix="safe-install-"))
        task = f"build {self.recipe.name}"
        self._announce(digest)
        try:
            with self.reporter.task(task, unit="files"):
                source = unpack_sdist(self.sdist, work / "source")
                system = read_build_system(source)
                tools = select_tools(self.recipe, system, self.environment)
                overlay = find_overlay(
                    self.store.cache, self.environment, tools, install_tools, self.reporter
                )
                variables = {**self._variables(overlay, work), "TMPDIR": str(temporary)}
                wheel = self._call_backend(source, system, variables, work, task, timeout)
                artifact = self._check(wheel)
            record = make_record(
                artifact,
                self.environment,
                architectures=self.plan.gpu_architectures,
                sdist=self.sdist,
                sdist_sha256=digest,
                tools=tools,
                seconds=time.monotonic() - started,
                log=self.log,
            )
            return self.store.add(artifact, record, self.environment)
        finally:
            shutil.rmtree(str(work), ignore_errors=True)
            shutil.rmtree(str(temporary), ignore_errors=True)

    def _announce(self, digest: str) -> None:
        self.reporter.note(
            f"building {self.title} from {self.sdist.name} (sha256 {digest}) on {self.plan.jobs} "
            "core(s);"
            f" log: {self.log}"
        )
        for warning in self.plan.warnings:
            self.reporter.warn(warning)
        for note in self.plan.notes:
            self.reporter.note(note)

    def _call_backend(
        self,
        source: Path,
        system: BuildSystem,
        variables: Mapping[str, str],
        work: Path,
        task: str,
        timeout: BuildTimeout,
    ) -> Path:
        result = work / "result.json"
        command = self._write_order(system, work, result)
        lines: List[str] = []
        progress = _Progress(self.reporter, task)
        with self.log.open("w", encoding="utf-8", errors="replace") as log:
            log.write(f"# {' '.join(command)}\n# PYTHONPATH: {variables['PYTHONPATH']}\n")

            def on_line(line: str) -> None:
                lines.append(line)
                log.write(line + "\n")
                log.flush()
                progress.read(line)

            protection = Protection(watched_folders(self.environment), written=(work,))
            ended = process.run(
                protection.wrap(command),
                env=variables,
                cwd=source,
                timeout=timeout.whole,
                silence=timeout.silent,
                may_compute=True,  # a single file of GPU kernels may take an hour
                on_stdout=on_line,
                on_tick=progress.show,
                merge_stderr=True,
                end_children=True,
            )
        if ended.returncode != 0 or not result.is_file():
            self._fail(ended, lines, timeout)
        return work / "wheels" / str(json.loads(result.read_text("utf-8"))["wheel"])

    def _write_order(self, system: BuildSystem, work: Path, result: Path) -> List[str]:
        """Write the order for script.py to a file. The result: the command that executes it."""
        script, order = work / "backend.py", work / "order.json"
        script.write_bytes(pkgutil.get_data("safe_install.wheels", "script.py") or b"")
        said = {
            "backend": system.backend,
            "backend_path": list(system.backend_path),
            "wheel_dir": str(_make_folder(work / "wheels")),
            "jobs": self.plan.jobs,
            "result": str(result),
        }
        order.write_text(json.dumps(said), "utf-8")
        return [str(self.environment.interpreter.executable), "-u", str(script), str(order)]

    def _variables(self, overlay: Path, work: Path) -> Mapping[str, str]:
        variables = dict(self.plan.variables)
        toolkit = self.plan.toolkit
        if toolkit is not None:
            home = (
                make_home(toolkit.parts, work / "cuda")
                if toolkit.parts is not None
                else toolkit.home
            )
            variables = select_variables(variables, home)
        variables["PYTHONPATH"] = os.pathsep.join(map(str, (overlay, *self.environment.ahead)))
        variables["PATH"] = os.pathsep.join(
            [str(overlay / "bin"), variables.get("PATH", os.defpath)]
        )
        # Its own bytecode would be written beside the installed packages.
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
        variables.setdefault("LC_ALL", "C.UTF-8")  # compilers otherwise translate what we look for
        return variables

    def _fail(
        self, ended: process.Completed, lines: Sequence[str], timeout: BuildTimeout
    ) -> NoReturn:
        log = split_log("\n".join(lines))
        reasons = find_error_lines(log) or (ended.ended_by or f"exit status {ended.returncode}",)
        hint = explain_failure([*log, ended.ended_by or ""])
        if any(READ_ONLY_ERROR in line for line in lines):
            hint = READ_ONLY_HINT
        if ended.timed_out:
            reasons = (_describe_limit(ended, timeout),)
            hint = "Give it more time (--build-timeout 6h,2h; 0 for no limit), or look into the log for what hangs."
        raise BuildFailed(
            f"{self.title} could not be built; the whole log is {self.log}\n  "
            + "\n  ".join(reasons),
            hint=hint,
            output="\n".join(lines),
        )

    def _check(self, wheel: Path) -> Artifact:
        artifact = open_wheel(wheel)
        if (
            artifact.name != self.recipe.name
            or artifact.version.public != self.recipe.version.public
        ):
            raise BuildFailed(
                f"{self.sdist.name} built {artifact.name} {artifact.version}, asked was "
                f"{self.title}",
                hint="The source archive is not what its name says; nothing was installed.",
            )
        bound = _find_bound_objects(artifact, self.environment.ahead)
        if bound:
            raise BuildFailed(
                f"{self.title} looks for libraries in a folder of its build, which does not stay: "
                f"{', '.join(bound)}",
                hint="Install torch first: then the extension is built where its libraries stay.",
            )
        return artifact


def _find_bound_objects(artifact: Artifact, folders: Sequence[Path]) -> List[str]:
    """The shared objects of a wheel with an RPATH or RUNPATH into one of these folders."""
    found: List[str] = []
    starts = tuple(str(folder) for folder in folders)
    if not starts:
        return found
    with zipfile.ZipFile(str(artifact.path)) as archive:
        for name in artifact.native_objects:
            try:
                shared = SharedObject(archive.read(name))
            except NotElf:
                continue
            if any(path.startswith(starts) for path in (*shared.rpath, *shared.runpath)):
                found.append(name)
    return found


def _describe_limit(ended: process.Completed, timeout: BuildTimeout) -> str:
    if ended.fell_silent:
        return f"no output for {timeout.silent:.0f} s, and no work: it was ended"
    return f"not finished after {timeout.whole:.0f} s: it was ended"


class _Progress:
    """Shows the progress of a build by its output; the clock continues while there is none."""

    def __init__(self, reporter: Reporter, task: str) -> None:
        self.reporter = reporter
        self.task = task
        self.files = FileCount()
        self.text = ""

    def read(self, line: str) -> None:
        self.files = count_files(self.files, line)
        self.text = find_source(line) or self.text
        self.show()

    def show(self) -> None:
        total = float(self.files.total) if self.files.total else None
        self.reporter.task_advanced(self.task, float(self.files.done), self.text, total)


# --- the source -----------------------------------------------------------------------------------


# --- the tools ------------------------------------------------------------------------------------


def find_overlay(
    cache: Path,
    environment: Environment,
    tools: Tuple[str, ...],
    install_tools: InstallRequirements,
    reporter: Reporter,
) -> Path:
    """The folder with these build tools for this Python; it is made once and shared by all
    builds."""
    interpreter = environment.interpreter
    digest = make_sha256("\n".join(tools).encode()).hexdigest()[:12]
    name = f"{interpreter.python_tag}{interpreter.abiflags}-{interpreter.platform}-{digest}"
    folder = _make_folder(cache / "tools")
    overlay = folder / name
    with hold_lock(folder / f"{name}.lock", reporter, "another build that fetches the same tools"):
        if not overlay.is_dir():
            # A folder under its final name is complete: pip fills another one, which then changes
            # its name.
            unfinished = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=str(folder)))
            try:
                install_tools(tools, unfinished)
                unfinished.rename(overlay)
            except BaseException:
                shutil.rmtree(str(unfinished), ignore_errors=True)
                raise
    return overlay


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _make_log(cache: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    return _make_folder(cache / LOGS) / f"{name}-{stamp}-{os.getpid()}.log"

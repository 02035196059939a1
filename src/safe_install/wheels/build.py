"""Builds an sdist against the installed torch; the wheel goes into our own store.

The build sees the managed interpreter's packages and, before them, an overlay folder with the build tools.
Nothing is installed into the environment, and no other torch is fetched as build isolation would.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile
from hashlib import sha256 as make_sha256
from pathlib import Path, PurePosixPath
from typing import Callable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.errors import BuildFailed, Refused
from safe_install.events import Reporter
from safe_install.models import Candidate, Environment
from safe_install.system import process
from safe_install.wheels.archive import Artifact, hash_file, open_wheel
from safe_install.wheels.recipe import (
    BuildPlan,
    BuildRecipe,
    BuildRefusal,
    BuildSystem,
    Machine,
    Toolkit,
    explain_failure,
    find_error_lines,
    parse_build_system,
    plan_build,
    select_tools,
    split_log,
)
from safe_install.wheels.store import WheelStore, find_cache, lock_file, make_record

__all__ = ["build_wheel", "find_built", "read_machine", "unpack_sdist"]

InstallTools = Callable[[Sequence[str], Path], None]  # requirements, target folder

MAX_SOURCE_SIZE = 4 * 1024**3  # bytes, unpacked
MAX_SOURCE_ENTRIES = 200_000
_NINJA_PROGRESS = re.compile(r"^\[(\d+)/(\d+)\]")


def build_wheel(
    sdist: Path,
    *,
    recipe: BuildRecipe,
    environment: Environment,
    store: WheelStore,
    install_tools: InstallTools,
    reporter: Reporter,
    variables: Optional[Mapping[str, str]] = None,
    jobs: Optional[int] = None,
    timeout: Optional[float] = None,
) -> Path:
    """Build `sdist` against the environment's torch and return the wheel's path in the store.

    `install_tools` fills the overlay (`pip install --target`); `variables` is the shell's environment (ours if
    not given); `timeout` in seconds. What the store has for this torch and these GPUs is returned as it is.
    Raises Refused (no compiler, no fitting toolkit, no target GPU), BuildFailed (the message names the log).
    """
    variables = dict(os.environ) if variables is None else variables
    plan = plan_build(environment, recipe, machine=read_machine(environment, variables), variables=variables, jobs=jobs)
    if isinstance(plan, BuildRefusal):
        raise Refused(f"{recipe.name} {recipe.version}: {plan.detail}", hint=plan.hint)
    with store.lock(recipe.name, environment):
        known = store.select(recipe.name, recipe.version, environment, architectures=plan.gpu_architectures)
        if known is not None:
            return known
        build = _Build(sdist, recipe, environment, plan, store, reporter)
        return build.run(install_tools, timeout)


def find_built(name: NormalizedName, environment: Environment, *, cache: Optional[Path] = None) -> Iterator[Candidate]:
    """Wheels of the project that were built here for this torch, Python, platform and GPUs, newest first."""
    return WheelStore(cache or find_cache(os.environ)).find(name, environment)


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

    def run(self, install_tools: InstallTools, timeout: Optional[float]) -> Path:
        started = time.monotonic()
        digest = hash_file(self.sdist)
        work = Path(tempfile.mkdtemp(prefix="build-", dir=str(_make_folder(self.store.cache / "work"))))
        task = f"build {self.recipe.name}"
        self.reporter.note(
            f"building {self.title} from {self.sdist.name} (sha256 {digest}) on {self.plan.jobs} core(s);"
            f" this runs its setup code; log: {self.log}"
        )
        self.reporter.task_started(task)
        try:
            source = unpack_sdist(self.sdist, work / "source")
            system = _read_build_system(source)
            tools = select_tools(self.recipe, system, self.environment)
            overlay = find_overlay(self.store.cache, self.environment, tools, install_tools)
            wheel = self._call_backend(source, system, overlay, work, task, timeout)
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
            self.reporter.task_ended(task)
            shutil.rmtree(str(work), ignore_errors=True)

    def _call_backend(
        self,
        source: Path,
        system: BuildSystem,
        overlay: Path,
        work: Path,
        task: str,
        timeout: Optional[float],
    ) -> Path:
        wheels = _make_folder(work / "wheels")
        script, order, result = work / "backend.py", work / "order.json", work / "result.json"
        script.write_bytes(pkgutil.get_data("safe_install.wheels", "script.py") or b"")
        said = {
            "backend": system.backend,
            "backend_path": list(system.backend_path),
            "wheel_dir": str(wheels),
            "jobs": self.plan.jobs,
            "result": str(result),
        }
        order.write_text(json.dumps(said), "utf-8")
        command = [str(self.environment.interpreter.executable), "-u", str(script), str(order)]
        lines: List[str] = []
        progress = _Progress(self.reporter, task)
        with self.log.open("w", encoding="utf-8", errors="replace") as log:
            log.write(f"# {' '.join(command)}\n# overlay: {overlay}\n")

            def on_line(line: str) -> None:
                lines.append(line)
                log.write(line + "\n")
                log.flush()
                progress.read(line)

            variables = self._variables(overlay)
            ended = process.run(
                command, env=variables, cwd=source, timeout=timeout, on_stdout=on_line, merge_stderr=True
            )
        if ended.returncode != 0 or not result.is_file():
            self._fail(ended, lines, timeout)
        return wheels / str(json.loads(result.read_text("utf-8"))["wheel"])

    def _variables(self, overlay: Path) -> Mapping[str, str]:
        variables = dict(self.plan.variables)
        variables["PYTHONPATH"] = str(overlay)
        variables["PATH"] = os.pathsep.join([str(overlay / "bin"), variables.get("PATH", os.defpath)])
        # Its own bytecode would be written beside the installed packages.
        variables["PYTHONDONTWRITEBYTECODE"] = "1"
        variables.setdefault("LC_ALL", "C.UTF-8")  # compilers otherwise translate what we look for
        return variables

    def _fail(self, ended: process.Completed, lines: Sequence[str], timeout: Optional[float]) -> NoReturn:
        log = split_log("\n".join(lines))
        if ended.timed_out:
            reason: Tuple[str, ...] = (f"not finished after {timeout:.0f} s",)
        else:
            reason = find_error_lines(log) or (ended.ended_by or f"exit status {ended.returncode}",)
        raise BuildFailed(
            f"{self.title} could not be built; the whole log is {self.log}\n  " + "\n  ".join(reason),
            hint=explain_failure([*log, ended.ended_by or ""]),
        )

    def _check(self, wheel: Path) -> Artifact:
        artifact = open_wheel(wheel)
        if artifact.name != self.recipe.name or artifact.version.public != self.recipe.version.public:
            raise BuildFailed(
                f"{self.sdist.name} built {artifact.name} {artifact.version}, asked was {self.title}",
                hint="the source archive is not what its name says; nothing was installed",
            )
        return artifact


class _Progress:
    """Reads how far a build is from what it prints: our own lines, or ninja's [3/7]."""

    def __init__(self, reporter: Reporter, task: str) -> None:
        self.reporter = reporter
        self.task = task
        self.total = 0
        self.done = 0

    def read(self, line: str) -> None:
        text = line.strip()
        if text.startswith("safe-install: total "):
            self.total += int(text.rsplit(" ", 1)[1])
        elif text.startswith("safe-install: compiled "):
            self.done += 1
        ninja = _NINJA_PROGRESS.match(text)
        if ninja:
            self.done, self.total = int(ninja.group(1)), max(self.total, int(ninja.group(2)))
        if text:
            known = f"{self.done}/{self.total} files: " if self.total else ""
            self.reporter.task_advanced(self.task, float(self.done), known + text[:100])


# --- the source ------------------------------------------------------------------------------------


def unpack_sdist(sdist: Path, folder: Path) -> Path:
    """Unpack a source archive (.tar.gz, .tar.bz2, .zip) into `folder`; return its one top folder.

    Only plain files and folders below that folder are written; raises Refused for anything else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if sdist.name.endswith(".zip"):
            _unpack_zip(sdist, folder)
        else:
            _unpack_tar(sdist, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise Refused(f"{sdist.name} cannot be unpacked ({error})", hint="fetch it again") from error
    tops = [entry for entry in folder.iterdir() if entry.is_dir()]
    if len(tops) != 1:
        raise Refused(f"{sdist.name} has {len(tops)} top folders where a source archive has one")
    return tops[0]


def _unpack_tar(sdist: Path, folder: Path) -> None:
    with tarfile.open(str(sdist)) as archive:
        members = archive.getmembers()
        _check_amount(sdist, len(members), sum(member.size for member in members))
        links = {PurePosixPath(member.name) for member in members if member.issym()}
        for member in members:
            inner = _is_inner_link(member)
            if not (member.isfile() or member.isdir() or inner):
                raise Refused(f"{sdist.name}: {member.name!r} is a link that leaves it, or a special file")
            _check_name(sdist, member.name)
            if links.intersection(PurePosixPath(member.name).parents):
                raise Refused(f"{sdist.name}: {member.name!r} would be written through a link")
            member.mode = (member.mode or 0) & 0o755 | stat.S_IRUSR | stat.S_IWUSR
            member.uid = member.gid = 0
            member.uname = member.gname = ""
        options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(str(folder), members=members, **options)  # type: ignore[arg-type]  # noqa: S202 - each was checked


def _unpack_zip(sdist: Path, folder: Path) -> None:
    with zipfile.ZipFile(str(sdist)) as archive:
        infos = archive.infolist()
        _check_amount(sdist, len(infos), sum(info.file_size for info in infos))
        for info in infos:
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Refused(f"{sdist.name}: {info.filename!r} is a link or a special file")
            _check_name(sdist, info.filename)
        archive.extractall(str(folder))  # noqa: S202 - each was checked


def _is_inner_link(member: tarfile.TarInfo) -> bool:
    """A symbolic link (some projects have them) that stays below the archive's top folder.

    `..` may only lead its target: behind another name it would depend on where that one leads.
    """
    target = PurePosixPath(member.linkname)
    if not member.issym() or target.is_absolute():
        return False
    ups = len([part for part in target.parts if part == ".."])
    folders = len(PurePosixPath(member.name).parts) - 2  # between the top folder and the link
    return folders >= ups and ".." not in target.parts[ups:]


def _check_name(sdist: Path, name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[:1]:
        raise Refused(f"{sdist.name}: the path {name!r} leaves the archive's folder")


def _check_amount(sdist: Path, entries: int, size: int) -> None:
    if entries > MAX_SOURCE_ENTRIES or size > MAX_SOURCE_SIZE:
        raise Refused(f"{sdist.name} would unpack to {entries} entries of {size} bytes, more than the limits")


def _read_build_system(source: Path) -> BuildSystem:
    path = source / "pyproject.toml"
    return parse_build_system(path.read_text("utf-8")) if path.is_file() else BuildSystem()


# --- the tools -------------------------------------------------------------------------------------


def find_overlay(cache: Path, environment: Environment, tools: Tuple[str, ...], install_tools: InstallTools) -> Path:
    """The folder with these build tools for this Python; made once, then shared by all builds."""
    interpreter = environment.interpreter
    digest = make_sha256("\n".join(tools).encode()).hexdigest()[:12]
    name = f"{interpreter.python_tag}{interpreter.abiflags}-{interpreter.platform}-{digest}"
    folder = _make_folder(cache / "tools")
    overlay = folder / name
    with lock_file(folder / f"{name}.lock"):
        if not overlay.is_dir():
            # A folder under its final name is complete: pip fills another one, which then changes its name.
            unfinished = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=str(folder)))
            try:
                install_tools(tools, unfinished)
                unfinished.rename(overlay)
            except BaseException:
                shutil.rmtree(str(unfinished), ignore_errors=True)
                raise
    return overlay


# --- the machine -----------------------------------------------------------------------------------


def read_machine(environment: Environment, variables: Mapping[str, str]) -> Machine:
    """What this machine has for a build: cores, free memory, compiler, Python's headers, CUDA toolkits."""
    needs_cuda = environment.torch is not None and environment.torch.cuda is not None
    return Machine(
        cores=_read_cores(),
        memory=_read_memory(),
        compiler=_find_compiler(variables),
        has_python_headers=(environment.interpreter.scheme.include / "Python.h").is_file(),
        toolkits=tuple(_find_toolkits(variables)) if needs_cuda else (),
    )


def _find_compiler(variables: Mapping[str, str]) -> Optional[str]:
    named = variables.get("CXX", "").split()
    for command in (*named[:1], "g++", "c++", "clang++"):
        found = shutil.which(command, path=variables.get("PATH"))
        if found:
            return found
    return None


def _find_toolkits(variables: Mapping[str, str]) -> Iterator[Toolkit]:
    homes: List[Path] = [Path(variables[key]) for key in ("CUDA_HOME", "CUDA_PATH") if variables.get(key)]
    on_path = shutil.which("nvcc", path=variables.get("PATH"))
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    homes += [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    seen = set()
    for home in homes:
        nvcc = home / "bin" / "nvcc"
        # A wrapper script on PATH (/usr/local/bin/nvcc) has no headers beside it.
        if not nvcc.is_file() or not (home / "include" / "cuda_runtime.h").is_file():
            continue
        if home.resolve() in seen:
            continue
        seen.add(home.resolve())
        said = process.run([str(nvcc), "--version"], timeout=30)
        version = re.search(r"release (\d+\.\d+)", said.stdout)
        if version:
            listed = process.run([str(nvcc), "--list-gpu-arch"], timeout=30)
            yield Toolkit(home, version.group(1), tuple(re.findall(r"compute_(\d+)\b", listed.stdout)))


def _read_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _read_text("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _read_memory() -> int:
    """Bytes that may be used without swapping: what the kernel calls available, and the cgroup's rest."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read_text("/proc/meminfo"))
    amounts = [int(found.group(1)) * 1024] if found else []
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        most, now = _read_text(limit).strip(), _read_text(used).strip()
        if most.isdigit() and now.isdigit():
            # Cached files count as used there, and are given up when memory is wanted.
            stat_text = _read_text(str(Path(limit).with_name("memory.stat")))
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", stat_text, re.MULTILINE)
            amounts.append(max(0, int(most) - int(now) + (int(cached.group(1)) if cached else 0)))
    return min(amounts) if amounts else 0


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _make_log(cache: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    return _make_folder(cache / "logs") / f"{name}-{stamp}-{os.getpid()}.log"

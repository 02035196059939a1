"""The store of wheels built here: one folder per torch build, so that none is taken for another
torch.

<cache>/built/torch-scatter/torch2.13.0+cpu-1a2b3c4d-cxx11-cp311-linux_x86_64/glibc2.36/
    torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl
    torch_scatter-2.1.2-cp311-cp311-linux_x86_64.whl.json
"""

from __future__ import annotations

import atexit
import datetime
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from safe_install.folders import NO_HOME, NOWHERE, expand_home, find_cache_folder
from safe_install.models import BuiltFor, Candidate, CandidateKind, Environment, Interpreter, Link
from safe_install.system.atomic_write import replacing_file, write_atomically
from safe_install.tags import ComputeCapability, parse_capability, parse_device_capabilities

if TYPE_CHECKING:
    from safe_install.wheels.archive import Artifact

FORMAT = 1  # of the record beside each wheel
# FORCE_ONLY_CPU, MMCV_WITH_OPS, FLASH_ATTENTION_SKIP_CUDA_BUILD: setup.py files read them
_SWITCH = re.compile(r"(^|_)(FORCE|WITH|WITHOUT|USE|NO|SKIP|DISABLE|ENABLE|BUILD)_[A-Z]")
# variables of programs, not of builds; FORCE_CUDA is set by the recipe
_OTHER_SWITCHES = ("PIP_", "UV_", "SAFE_INSTALL_", "HF_", "NO_COLOR", "FORCE_COLOR", "FORCE_CUDA")
_SWITCH_VALUES = frozenset(["0", "1", "on", "off", "true", "false", "yes", "no"])
LOGS = "logs"  # of builds, below the cache


def find_cache(variables: Mapping[str, str]) -> Path:
    """The folder for everything that can be recreated; SAFE_INSTALL_CACHE_DIR has precedence."""
    chosen = variables.get("SAFE_INSTALL_CACHE_DIR")
    if chosen:
        return expand_home(chosen)
    return find_cache_folder()


def choose_cache(variables: Mapping[str, str]) -> Tuple[Path, str]:
    """(the cache of a command that fills it, why it is a temporary one, or "").

    In an image the user often has no home, or one that belongs to root. Wheels that were built in a
    temporary cache are lost; its logs stay, because messages name them.
    """
    cache = find_cache(variables)
    problem = _why_not_writable(cache)
    if not problem:
        return cache, ""
    temporary = Path(tempfile.mkdtemp(prefix="safe-install-cache-"))
    atexit.register(remove_all_but_logs, temporary)
    return temporary, problem


def _why_not_writable(cache: Path) -> str:
    """Why nothing can be written into this folder, which may not exist yet; "" where it can."""
    if cache == NOWHERE:
        return NO_HOME
    folder = cache.absolute()
    while not os.path.lexists(folder):  # of a folder that may not be entered, Path.exists() raises
        folder = folder.parent
    return (
        "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written by this user"
    )


def remove_all_but_logs(cache: Path) -> None:
    """Remove a temporary cache except its logs: a message may have named one."""
    for entry in cache.iterdir():
        if entry.name != LOGS:
            remove = shutil.rmtree if entry.is_dir() else os.unlink
            remove(entry)
    with suppress(OSError):
        cache.rmdir()


@dataclass(frozen=True)
class BuildRecord:
    """The record beside a wheel that was built here."""

    name: str
    version: str
    filename: str
    sha256: str
    torch: str  # torch.__version__
    accelerator: str
    cxx11_abi: Optional[bool]
    gpu_architectures: Tuple[str, ...]  # empty for a torch without CUDA
    libc: Tuple[str, str]
    sdist: str  # file name
    sdist_sha256: str
    tools: Tuple[str, ...]
    built: str  # ISO 8601, UTC
    seconds: float
    log: str
    format: int = FORMAT
    torch_file: str = ""  # sha256 of the wheel of a torch that was not installed yet
    switches: Tuple[
        str, ...
    ] = ()  # "FORCE_ONLY_CPU=1": switches that the user had set for the build


class WheelStore:
    """The wheels built here, below the cache folder. A wheel without a record is ignored."""

    def __init__(self, cache: Path, switches: Optional[Tuple[str, ...]] = None) -> None:
        """`switches`: the switches that are set now, from `read_switches`; wheels built with others
        are ignored. None: switches are not compared."""
        self.cache = cache
        self._switches = switches
        self.folder = cache / "built"

    def find(self, name: NormalizedName, environment: Environment) -> Iterator[Candidate]:
        """The wheels of the project that were built for this torch, Python, platform and GPUs,
        newest first.

        A damaged one is removed, so that it is built again.
        """
        if environment.torch is None:
            return
        found = [
            (Version(record.version), record.built, record, path)
            for path, record in self._read_candidates(name, environment)
            if self._suits(record, environment) and _is_whole(path, record)
        ]
        for _, _, record, path in sorted(found, key=lambda item: item[:2], reverse=True):
            yield _make_candidate(name, record, path)

    def list_all(self) -> Iterator[Tuple[Path, BuildRecord]]:
        """Every wheel with its record."""
        for folder in self.folder.glob("*/*/"):
            yield from self._read_records(folder)

    def may_have(self, name: NormalizedName, version: Version, environment: Environment) -> bool:
        """Was a wheel of this version built for a torch that may be the planned one? Only the
        planned torch's files tell its exact build."""
        torch = environment.torch
        if torch is None:
            return False
        for folder in (self.folder / name).glob("*/"):
            for _, record in self._read_records(folder):
                is_for_torch = record.torch == torch.runtime_version
                is_same = is_for_torch and Version(record.version) == version
                if is_same and _runs_on(record, environment) and self._suits(record, environment):
                    return True
        return False

    def _read_candidates(
        self, name: NormalizedName, environment: Environment
    ) -> Iterator[Tuple[Path, BuildRecord]]:
        """The wheels for this torch. Where torch is only planned, a part of the folder's name is
        not known; each wheel's record then tells."""
        torch = environment.torch
        if torch is None or torch.file is None or torch.folder is not None:
            yield from self._read_records(self._folder(name, environment))
            return
        for folder in sorted((self.folder / name).glob("*/")):
            for path, record in self._read_records(folder):
                if record.torch_file == torch.file:
                    yield path, record

    def select(
        self,
        name: NormalizedName,
        version: Version,
        environment: Environment,
        *,
        architectures: Tuple[str, ...],
    ) -> Optional[Path]:
        """The wheel of exactly this version and these GPU architectures; None where there is
        none."""
        for path, record in self._read_records(self._folder(name, environment)):
            same = Version(record.version) == version and record.gpu_architectures == architectures
            if same and self._suits(record, environment) and _is_whole(path, record):
                return path
        return None

    def add(self, artifact: Artifact, record: BuildRecord, environment: Environment) -> Path:
        """Store a built wheel. The result: its path. A wheel of that name is replaced
        atomically."""
        gpu = "-".join(a.replace("+", "").lower() for a in record.gpu_architectures)
        switches = self._switches or ()
        record = replace(record, switches=switches)
        parts = ("".join(record.libc), f"sm{gpu}" if gpu else "", *switches)
        leaf = "-".join(part for part in parts if part) or "any"
        folder = self._folder(artifact.name, environment) / _safe(leaf)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / artifact.path.name
        note = folder / f"{target.name}.json"
        # The record is removed first and written last: it must never describe another wheel.
        if note.exists():
            note.unlink()
        with replacing_file(target) as copy, artifact.path.open("rb") as built:
            shutil.copyfileobj(built, copy)
        write_atomically(note, json.dumps(asdict(record), indent=1).encode("utf-8"))
        return target

    def _suits(self, record: BuildRecord, environment: Environment) -> bool:
        is_same_build = self._switches is None or record.switches == self._switches
        return is_same_build and _suits(record, environment)

    def lock_path(self, name: NormalizedName, environment: Environment) -> Path:
        """The lock to hold while a project is built for one torch: a second build waits, then finds
        the result."""
        folder = self._folder(name, environment)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / ".lock"

    def _folder(self, name: NormalizedName, environment: Environment) -> Path:
        return self.folder / name / make_key(environment)

    def _read_records(self, folder: Path) -> Iterator[Tuple[Path, BuildRecord]]:
        for note in sorted(folder.glob("*/*.whl.json")):
            wheel = note.with_suffix("")
            try:
                record = _decode(json.loads(note.read_text("utf-8")))
                Version(record.version)
            except (OSError, ValueError, KeyError, TypeError, InvalidVersion):
                continue  # of another format or damaged: as if it had never been built
            if record.format == FORMAT and record.filename == wheel.name and wheel.is_file():
                yield wheel, record


def _is_whole(wheel: Path, record: BuildRecord) -> bool:
    """Does the wheel have the bytes that were built? If not, it and its record are removed, where
    possible."""
    # late: 20 ms, and most have built nothing here
    from safe_install.wheels.archive import hash_file

    try:
        if hash_file(wheel) == record.sha256:
            return True
        # without its record a wheel does not exist
        for path in (wheel.with_name(f"{wheel.name}.json"), wheel):
            path.unlink()
    except OSError:
        pass  # it cannot be read, or not be removed: either way it is no candidate
    return False


def read_switches(variables: Mapping[str, str]) -> Tuple[str, ...]:
    """The variables of the user's shell that turn parts of a build on or off, sorted.

    Only variables that mean yes or no: BUILD_ID of a build server has a new value each time.
    """
    switches = []
    for name, value in sorted(variables.items()):
        is_switch = _SWITCH.search(name) and not name.startswith(_OTHER_SWITCHES)
        if is_switch and value.lower() in _SWITCH_VALUES:
            switches.append(f"{name}={value}")
    return tuple(switches)


def make_key(environment: Environment) -> str:
    """The folder name for a torch build under one Python on one platform."""
    torch, interpreter = environment.torch, environment.interpreter
    if torch is None:
        return "no-torch"
    abi = {True: "cxx11", False: "pre-cxx11", None: ""}[torch.cxx11_abi]
    git = (torch.git_version or "")[:8]
    python = interpreter.python_tag + interpreter.abiflags
    if interpreter.implementation != "cpython":
        python = f"{interpreter.implementation}-{python}"
    parts = (
        f"torch{torch.runtime_version}",
        torch.vendor or "",
        git,
        abi,
        python,
        interpreter.platform,
    )
    return _safe("-".join(part for part in parts if part))


def make_record(
    artifact: Artifact,
    environment: Environment,
    *,
    architectures: Tuple[str, ...],
    sdist: Path,
    sdist_sha256: str,
    tools: Tuple[str, ...],
    seconds: float,
    log: Path,
) -> BuildRecord:
    """The record for `add` of a wheel that was just built in this environment."""
    torch = environment.torch
    return BuildRecord(
        name=artifact.name,
        version=str(artifact.version),
        filename=artifact.path.name,
        sha256=artifact.sha256,
        torch=torch.runtime_version if torch else "",
        accelerator=torch.accelerator if torch else "",
        cxx11_abi=torch.cxx11_abi if torch else None,
        gpu_architectures=architectures,
        libc=_libc(environment.interpreter),
        sdist=sdist.name,
        sdist_sha256=sdist_sha256,
        tools=tools,
        built=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        log=str(log),
        torch_file=(torch.file or "") if torch else "",
    )


def _runs_on(record: BuildRecord, environment: Environment) -> bool:
    """Is the wheel one for this Python on this platform?"""
    tags = parse_wheel_filename(record.filename)[3]
    return not tags.isdisjoint(environment.interpreter.tags)


def _suits(record: BuildRecord, environment: Environment) -> bool:
    """The remaining conditions, which need not be equal: libc not newer, every GPU supported."""
    name, version = _libc(environment.interpreter)
    if record.libc[0] != name or _numbers(record.libc[1]) > _numbers(version):
        return False
    devices = environment.driver.devices if environment.driver else ()
    if not record.gpu_architectures:
        return environment.torch is not None and environment.torch.cuda is None
    built_for = [parse_capability(text) for text in record.gpu_architectures]
    # None: a name such as "Ampere"; the check of the GPU code will see.
    wanted = parse_device_capabilities(device.compute_capability for device in devices)
    return all(_is_served(device, built_for) for device in wanted)


def _is_served(device: ComputeCapability, built_for: Sequence[Optional[ComputeCapability]]) -> bool:
    return any(code is None or code.runs_on(device) for code in built_for)


def _make_candidate(name: NormalizedName, record: BuildRecord, path: Path) -> Candidate:
    link = Link(
        url=path.absolute().as_uri(),
        filename=record.filename,
        sha256=record.sha256,
        size=path.stat().st_size,
        found_in="built here",
    )
    torch = record.torch.split("+")[0]
    return Candidate(
        name=name,
        version=Version(record.version),
        kind=CandidateKind.BUILT,
        link=link,
        tags=parse_wheel_filename(record.filename)[3],
        built_for=BuiltFor(torch, record.accelerator or None, record.cxx11_abi),
    )


def _decode(raw: Dict[str, Any]) -> BuildRecord:
    for key in ("gpu_architectures", "libc", "tools"):
        raw[key] = tuple(raw[key])
    raw["switches"] = tuple(raw.get("switches", ()))
    return BuildRecord(**raw)


def _libc(interpreter: Interpreter) -> Tuple[str, str]:
    return (interpreter.libc[0], interpreter.libc[1])


def _numbers(text: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+_-]", "_", text)

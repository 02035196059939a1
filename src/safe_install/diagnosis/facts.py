"""The facts from which the checks of `doctor` decide, as values. Paths are absolute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import FrozenSet, Mapping, Optional, Tuple

from packaging.utils import NormalizedName

from safe_install.models import Environment, Finding, HealthReport, RunningProgram, TorchBuild
from safe_install.torch_family import TORCH


@dataclass(frozen=True)
class ProbeProblem:
    """Why the interpreter could not be probed."""

    message: str
    hint: str


@dataclass(frozen=True)
class SearchPlaces:
    """Folders of the environment and the shell. All paths are resolved."""

    prefix: Path
    scripts: Path
    sites: FrozenSet[Path] = frozenset()  # purelib and platlib
    user_site: Optional[Path] = None
    pythonpath: FrozenSet[Path] = frozenset()
    active: FrozenSet[Path] = frozenset()  # the environments that are active in the shell


@dataclass(frozen=True)
class Program:
    """The first file of a name on PATH."""

    name: str  # "python", "pip", "nvcc"
    path: Path
    interpreter: Optional[Path] = None  # of a script, by its first line
    # the folder of the interpreter that runs it (for "python" its own folder), resolved
    folder: Optional[Path] = None
    own_folder: Optional[Path] = None  # the folder of the file, resolved


@dataclass(frozen=True)
class MetadataFolder:
    """A dist-info folder on sys.path."""

    path: Path
    site: Path  # its parent folder, resolved
    name: NormalizedName  # by the folder's name
    version: str  # by the folder's name
    is_readable: bool = True  # METADATA can be read, and has a name and a valid version


@dataclass(frozen=True)
class ChangedFile:
    """A file that differs from the RECORD of its distribution."""

    path: str  # as in the RECORD
    # other distributions whose RECORD lists the file; the one installed last has overwritten it
    others: Tuple[NormalizedName, ...] = ()


@dataclass(frozen=True)
class RecordState:
    """The files of one distribution, compared with its RECORD. Bytecode is not compared."""

    name: NormalizedName
    version: str
    missing: Tuple[str, ...] = ()  # paths as in the RECORD
    changed: Tuple[ChangedFile, ...] = ()
    problem: str = ""  # why its files cannot be compared
    closed: Tuple[str, ...] = ()  # paths of files that this user may not read


@dataclass(frozen=True)
class LostSource:
    """An editable install whose folder no longer exists."""

    name: NormalizedName
    version: str
    folder: Path


@dataclass(frozen=True)
class LockFile:
    """The lock file of another tool that manages the environment."""

    path: Path
    tool: str  # "uv"


@dataclass(frozen=True)
class ShadowingLibrary:
    """A library that the loader takes from LD_LIBRARY_PATH instead of torch's own."""

    name: str  # "libcudnn.so.9"
    path: Path  # the library that is loaded
    own: Path  # torch's own


@dataclass(frozen=True)
class FreeSpace:
    """The free space of a file system with the environment or the cache."""

    path: Path
    free: int  # bytes
    files: Optional[int] = None  # free inodes; None if the file system has no limit


@dataclass(frozen=True)
class Trial:
    """One more `import torch`, with one difference in the shell or the working folder."""

    subject: str  # a variable of the shell, or a path in the working folder
    value: str = ""  # of the variable
    error: str = ""  # the error of the import; "" if it works


@dataclass(frozen=True)
class StartProblem:
    """A startup file that fails at every start of the interpreter."""

    file: str  # a path, or "sitecustomize"
    error: str


@dataclass(frozen=True)
class OtherPython:
    """Packages that were installed for another version of Python in the same environment."""

    folder: Path
    version: str  # "3.10"
    names: Tuple[NormalizedName, ...]


@dataclass(frozen=True)
class ForeignWheel:
    """A distribution whose wheel was made for another Python, or for another kind of machine."""

    name: NormalizedName
    version: str
    made_for: str  # "Python 3.10", "macosx_11_0_arm64"


@dataclass(frozen=True)
class ClosedPort:
    """A setting with an address of this machine at which nothing listens."""

    setting: str  # "https_proxy", "index-url"
    address: str


@dataclass(frozen=True)
class FoundToolkit:
    """A CUDA toolkit that builds from source would use."""

    home: Path
    version: str  # "12.4"


@dataclass(frozen=True)
class CachedWheel:
    """A wheel in pip's cache, which pip installs again with whatever torch is installed."""

    path: Path
    name: NormalizedName
    version: str


@dataclass(frozen=True)
class CondaPackage:
    """A package that conda recorded in the environment."""

    name: str
    version: str
    build: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything from which the checks decide."""

    executable: Path
    environment: Optional[Environment] = None  # None: the interpreter could not be probed
    problem: Optional[ProbeProblem] = None  # why it could not be probed
    places: Optional[SearchPlaces] = None  # None: the interpreter could not be probed
    variables: Mapping[str, str] = field(default_factory=dict)  # of this process
    programs: Tuple[Program, ...] = ()
    metadata: Tuple[MetadataFolder, ...] = ()
    records: Tuple[RecordState, ...] = ()
    lost_sources: Tuple[LostSource, ...] = ()
    # distributions installed from a local file or folder that no longer exists
    lost_archives: FrozenSet[NormalizedName] = frozenset()
    # distributions installed from a wheel host of their project
    hosted: FrozenSet[NormalizedName] = frozenset()
    unreadable: Tuple[Path, ...] = ()  # folders on sys.path that cannot be listed
    closed: Tuple[Path, ...] = ()  # folders of torch and dist-info folders that cannot be read
    shadowing: Tuple[ShadowingLibrary, ...] = ()
    health: Optional[HealthReport] = None  # None with --quick
    # what was imported of each installed extension
    modules: Mapping[NormalizedName, Tuple[str, ...]] = field(default_factory=dict)
    # check -> findings that other parts of this program made
    found: Mapping[str, Tuple[Finding, ...]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)  # check -> why it cannot tell
    without: Tuple[Trial, ...] = ()  # the import fails, and works without these variables
    typed: Tuple[Trial, ...] = ()  # the import works in the check, and fails in the user's shell
    start_problems: Tuple[StartProblem, ...] = ()
    other_pythons: Tuple[OtherPython, ...] = ()
    foreign_wheels: Tuple[ForeignWheel, ...] = ()
    unwritable: Tuple[Path, ...] = ()  # folders of packages that this user may not write to
    closed_ports: Tuple[ClosedPort, ...] = ()
    lost_certificates: Mapping[str, str] = field(default_factory=dict)  # variable -> path
    interrupted_changes: Tuple[str, ...] = ()  # IDs of our changes that were killed
    rooms: Tuple[FreeSpace, ...] = ()
    toolkit: Optional[FoundToolkit] = None
    running: Tuple[RunningProgram, ...] = ()
    pip_settings: Mapping[str, str] = field(default_factory=dict)
    missing_folders: Tuple[str, ...] = ()  # missing folders that pip's settings name
    broken_settings: Mapping[str, str] = field(default_factory=dict)  # pip's file -> its error
    cached_wheels: Tuple[CachedWheel, ...] = ()
    conda: Tuple[CondaPackage, ...] = ()
    lock_files: Tuple[LockFile, ...] = ()


def environment_of(facts: Facts) -> Environment:
    """The environment, for checks that need a probed interpreter. Errors: ValueError."""
    if facts.environment is None:
        raise ValueError("the interpreter did not answer")
    return facts.environment


def torch_of(facts: Facts) -> TorchBuild:
    """The installed torch, for checks that need torch. Errors: ValueError."""
    torch = environment_of(facts).torch
    if torch is None:
        raise ValueError("there is no torch")
    return torch


def imports_torch(facts: Facts) -> bool:
    """Did a fresh process import torch?"""
    answer = facts.health.imports.get(TORCH) if facts.health is not None else None
    return answer is not None and answer.ok

"""What `doctor` looks at, gathered once; the checks are functions over it. Paths are absolute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import FrozenSet, Mapping, Optional, Tuple

from packaging.utils import NormalizedName

from safe_install.models import Environment, Finding, HealthReport, RunningProgram, TorchBuild
from safe_install.torch_family import TORCH


@dataclass(frozen=True)
class ProbeProblem:
    """Why the interpreter could not be asked."""

    message: str
    hint: str


@dataclass(frozen=True)
class SearchPlaces:
    """Folders that are compared: all of them are resolved."""

    prefix: Path
    scripts: Path
    sites: FrozenSet[Path] = frozenset()  # where an install of this environment puts files
    user_site: Optional[Path] = None
    pythonpath: FrozenSet[Path] = frozenset()
    active: FrozenSet[Path] = frozenset()  # the environments that are active in the shell


@dataclass(frozen=True)
class Program:
    """What a name starts in the person's shell: the first file of that name on PATH."""

    name: str  # "python", "pip", "nvcc"
    path: Path
    # what a script names in its first line; None where the file is no script
    interpreter: Optional[Path] = None
    # the folder of the interpreter that it is, or is started with, resolved; None: neither
    folder: Optional[Path] = None
    own_folder: Optional[Path] = None  # the one that the file itself lies in, resolved


@dataclass(frozen=True)
class MetadataFolder:
    """A dist-info folder on sys.path."""

    path: Path
    site: Path  # the folder that holds it, resolved
    name: NormalizedName  # of the folder's name
    version: str
    is_readable: bool = True  # False: no METADATA that says name and version


@dataclass(frozen=True)
class ChangedFile:
    """A file that is not as the RECORD of its distribution says."""

    path: str  # as the RECORD has it
    # other distributions whose RECORD lists the same file; the last one to be installed won
    others: Tuple[NormalizedName, ...] = ()


@dataclass(frozen=True)
class RecordState:
    """The files of one distribution, compared with its RECORD. Bytecode is not looked at."""

    name: NormalizedName
    version: str
    missing: Tuple[str, ...] = ()
    changed: Tuple[ChangedFile, ...] = ()
    problem: str = ""  # why nothing can be said of its files
    closed: Tuple[str, ...] = ()  # paths that this user may not read


@dataclass(frozen=True)
class LostSource:
    """An editable install whose folder is not there any more."""

    name: NormalizedName
    version: str
    folder: Path


@dataclass(frozen=True)
class LockFile:
    """A file by which another tool keeps the environment."""

    path: Path
    tool: str  # "uv"


@dataclass(frozen=True)
class ShadowingLibrary:
    """A library that the loader takes from LD_LIBRARY_PATH in place of torch's own."""

    name: str  # "libcudnn.so.9"
    path: Path  # the one that is taken
    own: Path  # torch's


@dataclass(frozen=True)
class FreeSpace:
    """Free space where files of this environment, the cache and temporary files go."""

    path: Path
    free: int  # bytes
    files: Optional[int] = None  # how many more it takes; None: it does not count them


@dataclass(frozen=True)
class Trial:
    """`import torch`, once more, with one thing different."""

    subject: str  # a variable of the shell, or a path in the working folder
    value: str = ""  # of the variable
    error: str = ""  # what the import failed with; "" where it works then


@dataclass(frozen=True)
class StartProblem:
    """A file that fails at every start of the interpreter, which goes on without it."""

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
    """An address on this machine that a setting leads to, and where nothing listens."""

    setting: str  # "https_proxy", "index-url"
    address: str


@dataclass(frozen=True)
class FoundToolkit:
    """A CUDA toolkit that builds from source would use."""

    home: Path
    version: str  # "12.4"


@dataclass(frozen=True)
class CachedWheel:
    """A wheel that pip built once and would install again, whatever torch is there."""

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
    """Everything that the checks decide from. What was not asked is None."""

    executable: Path
    environment: Optional[Environment] = None  # None: the interpreter could not be asked
    problem: Optional[ProbeProblem] = None
    places: Optional[SearchPlaces] = None  # None: the interpreter could not be asked
    variables: Mapping[str, str] = field(default_factory=dict)  # of this process
    programs: Tuple[Program, ...] = ()
    metadata: Tuple[MetadataFolder, ...] = ()
    records: Tuple[RecordState, ...] = ()
    lost_sources: Tuple[LostSource, ...] = ()
    # what was installed from a file or folder of this machine that is gone
    lost_archives: FrozenSet[NormalizedName] = frozenset()
    # came from a wheel host of their project, which is asked by name and version
    hosted: FrozenSet[NormalizedName] = frozenset()
    unreadable: Tuple[Path, ...] = ()  # folders on sys.path that cannot be listed
    # folders `torch`, and dist-info folders, that this user may not read
    closed: Tuple[Path, ...] = ()
    shadowing: Tuple[ShadowingLibrary, ...] = ()
    health: Optional[HealthReport] = None  # None: not asked, with --quick
    # what was imported of each installed extension
    modules: Mapping[NormalizedName, Tuple[str, ...]] = field(default_factory=dict)
    # what other parts of this program find by themselves, by the check that reports it
    found: Mapping[str, Tuple[Finding, ...]] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)  # why they could not, by the check
    without: Tuple[Trial, ...] = ()  # torch does not import, and does without these variables
    typed: Tuple[Trial, ...] = ()  # torch imports, and does not as the person types it
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
    missing_folders: Tuple[str, ...] = ()  # folders of pip's settings that are not there
    broken_settings: Mapping[str, str] = field(default_factory=dict)  # file of pip -> its fault
    cached_wheels: Tuple[CachedWheel, ...] = ()
    conda: Tuple[CondaPackage, ...] = ()
    lock_files: Tuple[LockFile, ...] = ()


def environment_of(facts: Facts) -> Environment:
    """The environment, for checks that need an interpreter that answered. Errors: ValueError."""
    if facts.environment is None:
        raise ValueError("the interpreter did not answer")
    return facts.environment


def torch_of(facts: Facts) -> TorchBuild:
    """The installed torch, for checks that need one. Errors: ValueError."""
    torch = environment_of(facts).torch
    if torch is None:
        raise ValueError("there is no torch")
    return torch


def imports_torch(facts: Facts) -> bool:
    """Did a fresh process import torch?"""
    answer = facts.health.imports.get(TORCH) if facts.health is not None else None
    return answer is not None and answer.ok

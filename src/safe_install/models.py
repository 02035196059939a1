"""The values that are passed between layers: frozen, with methods that only read fields."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import urlsplit

from packaging.tags import Tag
from packaging.utils import NormalizedName
from packaging.version import Version

# A value of a JSON document that we write. What is read is an `object` until it is checked.
JsonValue = Union[None, bool, float, str, Sequence["JsonValue"], Mapping[str, "JsonValue"]]

# --- the environment ------------------------------------------------------------------------------


class Device(NamedTuple):
    """One GPU, by the driver's name for it."""

    name: str
    compute_capability: str  # "8.0"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver of this machine, or one that the user declared for another machine."""

    version: Optional[str]  # "535.104.05"; None if only a CUDA version was declared
    cuda: Optional[str]  # the newest CUDA runtime that it serves, "12.2"
    devices: Tuple[Device, ...] = ()
    declared: bool = False
    problem: Optional[str] = None  # the error of NVML: "Driver/library version mismatch"

    def __str__(self) -> str:
        """`declared is 535.104 (CUDA 12.2)`, or `here is ...`."""
        where = "declared is" if self.declared else "here is"
        if self.version is None:
            return f"{where} one for CUDA {self.cuda or 'that is not known'}"
        return f"{where} {self.version}" + (f" (CUDA {self.cuda})" if self.cuda else "")


class DriverLibrary(NamedTuple):
    """The answers of libcuda.so.1 in a process that has imported torch."""

    path: Optional[str]  # the file that was loaded
    cuda: Optional[str]  # cuDriverGetVersion: the newest CUDA runtime that it serves, "12.8"
    status: int  # of cuInit: a CUresult of cuda.h, 0 is success
    devices: Optional[int]  # cuDeviceGetCount; None if cuInit failed


class RunningProgram(NamedTuple):
    """A process that has files of this environment in memory which were replaced since."""

    pid: int
    command: str
    files: Tuple[str, ...]


@dataclass(frozen=True)
class TorchPlace:
    """A folder on sys.path with torch's files, its metadata, or both. Paths are resolved."""

    location: Path  # the folder on sys.path
    torch: Path  # the module that `import torch` finds in it
    # "package", "module" (torch.py), "namespace" (no __init__.py), "" if there are no files
    files: str
    version: Optional[str] = None  # in its metadata; None if there is none
    editable: bool = False


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch, read from its files without importing it."""

    version: Version  # in METADATA, as pip compares it: "2.15.0" from PyPI, "2.13.0+cpu" elsewhere
    runtime_version: str  # torch.__version__, which wheel hosts name: "2.15.0+cu132"
    accelerator: str  # "cu111", "cpu", "rocm6.2"; "" if it is not known
    cuda: Optional[str] = None  # torch.version.cuda, "11.1"
    hip: Optional[str] = None
    cxx11_abi: Optional[bool] = None
    git_version: Optional[str] = None
    lib_dir: Optional[Path] = None
    # resolved; not compared, because the same build may lie in another folder
    folder: Optional[Path] = field(default=None, compare=False)
    # "NVIDIA", "conda", "distribution": a build that no public host has
    vendor: Optional[str] = None
    file: Optional[str] = field(default=None, compare=False)  # the SHA-256 of its wheel, if known
    has_metadata: bool = field(default=True, compare=False)  # without metadata pip ignores it


@dataclass(frozen=True)
class Scheme:
    """Absolute installation paths of the managed interpreter (sysconfig's names)."""

    purelib: Path
    platlib: Path
    scripts: Path
    data: Path
    include: Path


@dataclass(frozen=True)
class Interpreter:
    """The managed interpreter."""

    executable: Path
    version: str  # "3.11.7"
    implementation: str  # "cpython"
    tags: Tuple[Tag, ...]  # supported wheel tags, best first
    platform: str  # "linux_x86_64"
    libc: Tuple[str, str]  # ("glibc", "2.36"), ("musl", "1.2"), ("", "")
    prefix: Path
    base_prefix: Path
    scheme: Scheme
    pip_version: Optional[str] = None  # of its pip; None if there is none
    ensurepip_wheel: Optional[Path] = None  # the pip wheel that Python includes
    # the message in the marker file of PEP 668; None if there is none
    externally_managed: Optional[str] = None
    conda: bool = False
    user_site: Optional[Path] = None
    user_base: Optional[Path] = None
    user_scheme: Optional[Scheme] = None
    paths: Tuple[Path, ...] = ()  # sys.path folders that may hold distributions
    markers: Mapping[str, str] = field(default_factory=dict)  # PEP 508's environment markers
    abiflags: str = ""

    @property
    def is_virtual(self) -> bool:
        """Does it belong to a virtual environment?"""
        return self.prefix != self.base_prefix

    @property
    def system(self) -> str:
        """ "windows" or "linux", between which NVIDIA's minimum drivers differ."""
        return "windows" if self.platform.startswith("win") else "linux"

    @property
    def python_tag(self) -> str:
        """`cp311` for CPython 3.11."""
        major, minor = self.version.split(".")[:2]
        return f"cp{major}{minor}"


@dataclass(frozen=True)
class InstalledDistribution:
    """One dist-info (or egg-info) folder that the interpreter sees."""

    name: NormalizedName
    version: str  # as in METADATA; it may be no valid PEP 440 version
    metadata_path: Path  # the dist-info folder
    location: Path  # the folder on sys.path in which it lies
    installer: Optional[str] = None
    direct_url: Optional[Mapping[str, object]] = None
    editable: bool = False
    has_record: bool = True
    requested: bool = False
    requires: Tuple[str, ...] = ()
    written_name: str = ""  # the name in METADATA
    is_planned: bool = False  # by a plan: it is not there yet


class BuildTimeout(NamedTuple):
    """The time limits of a source build, in seconds; None: no limit."""

    whole: Optional[float] = 2 * 3600.0
    silent: Optional[float] = 20 * 60.0  # without a line of output


DEFAULT_BUILD_TIMEOUT = BuildTimeout()
DEFAULT_CHECK_TIMEOUT = 300.0  # seconds; the first import of torch from a slow disk takes a minute


class NetworkSettings(NamedTuple):
    """pip's network settings, which we use, too."""

    proxy: Optional[str] = None  # for every host
    # --cert: a file or folder of certificates, in addition to those of the machine
    ca_bundle: Optional[str] = None
    client_certificate: Optional[str] = None  # a file with key and certificate
    # "host" or "host:port": plain http is used, too, and certificates are not checked
    trusted_hosts: Tuple[str, ...] = ()

    def is_trusted(self, url: str) -> bool:
        """Is the URL's host trusted? One with a port is trusted on that port only."""
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").lower()
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
        except ValueError:
            return False
        names = (host, f"{host}:{port}")
        return any(trusted.lower() in names for trusted in self.trusted_hosts)


DEFAULT_NETWORK = NetworkSettings()


@dataclass(frozen=True)
class Environment:
    """The facts about an environment from which decisions are made."""

    interpreter: Interpreter
    torch: Optional[TorchBuild]
    driver: Optional[Driver]
    installed: Mapping[NormalizedName, InstalledDistribution] = field(default_factory=dict)
    torch_places: Tuple[TorchPlace, ...] = ()  # in the order of sys.path
    # folders before the interpreter's own packages: an unpacked torch that is not installed yet
    ahead: Tuple[Path, ...] = ()


# --- candidates -----------------------------------------------------------------------------------


class CandidateKind(enum.Enum):
    """The kind of a candidate's file."""

    WHEEL = "wheel"
    SDIST = "sdist"
    BUILT = "built"  # a wheel from our own store
    INSTALLED = "installed"


@dataclass(frozen=True)
class Link:
    """A file that can be fetched."""

    url: str
    filename: str
    sha256: Optional[str] = None
    size: Optional[int] = None
    found_in: str = ""  # the page's URL, "bundled facts" or "built here"
    requires_python: Optional[str] = None
    yanked: Optional[str] = None
    # the SHA-256 of the METADATA file beside it (PEP 658); "" for one without a hash
    metadata: Optional[str] = None
    hash_from_index: bool = False  # `sha256` is from the wheel index, not from the page
    conflicting_hash: Optional[str] = None  # another SHA-256 on the page


@dataclass(frozen=True)
class BuiltFor:
    """The torch for which a wheel was built, as far as it is known; None if it is not."""

    # "1.8.0", "2.13", "nv25.04" (NVIDIA's container), or a specifier: ">=2.14.0"
    torch: Optional[str] = None
    accelerator: Optional[str] = None  # "cu111", "cpu", "cu12" (major only)
    cxx11_abi: Optional[bool] = None


@dataclass(frozen=True)
class Candidate:
    """One file that could satisfy a requirement."""

    name: NormalizedName
    version: Version
    kind: CandidateKind
    link: Link
    tags: FrozenSet[Tag] = frozenset()
    built_for: BuiltFor = BuiltFor()
    requires_python: Optional[str] = None
    requires: Tuple[str, ...] = ()
    may_be_kept: bool = False  # a source, of which our store may have a wheel for this torch


class Rule(enum.Enum):
    """Why a candidate was not chosen. The value is in the JSON document."""

    SPECIFIER = "specifier"
    TORCH_VERSION = "torch-version"
    ACCELERATOR = "accelerator"
    CXX11_ABI = "cxx11-abi"
    PYTHON = "python"
    PLATFORM = "platform"
    LIBC = "libc"
    YANKED = "yanked"
    PRE_RELEASE = "pre-release"
    DRIVER = "driver"
    GPU_CODE = "gpu-code"  # it has no code for the GPUs
    NO_BUILD = "no-build"
    SDIST_BEHIND_WHEEL = "sdist-behind-wheel"
    OLDER_VERSION = "older-version"
    LATER_HOST = "later-host"
    HOST_DOWN = "host-down"  # it is in the bundled facts, but its host does not answer
    CONFLICT = "conflict"


class Rejection(NamedTuple):
    """A candidate that was not chosen, and the rule that rejected it."""

    candidate: Candidate
    rule: Rule
    detail: str


class HostAnswerKind(enum.Enum):
    """The kind of a host's answer. Only LISTED has candidates."""

    LISTED = "listed"
    DOWN = "host-down"
    PAGE_MISSING = "page-missing"
    PAGE_EMPTY = "page-empty"
    NO_WHEEL_FOR_TORCH = "no-wheel-for-this-torch"
    NOT_ASKED = "not-asked"  # --offline, or an earlier host answered
    LEFT_OUT = "left-out"  # it is asked only where the user names it


@dataclass(frozen=True)
class HostAnswer:
    """The answer of one host about one project."""

    project: NormalizedName
    host: str
    url: str
    kind: HostAnswerKind
    detail: str = ""
    # for a host that was not asked: why the bundled facts may be incomplete; "" if they are not
    gap: str = ""
    is_offline: bool = False  # not asked, because no host may be


# --- plans ----------------------------------------------------------------------------------------


class Action(enum.Enum):
    """What a step does to one distribution."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


class Origin(enum.Enum):
    """The origin of a distribution's files."""

    WHEEL = "wheel"
    BUILT = "built"  # a wheel that was built here for this torch
    SDIST = "sdist"  # a source archive or folder
    REPOSITORY = "repository"  # git, hg, svn, bzr
    EDITABLE = "editable"


# Origins whose code runs before the installation, to build a wheel or to read the requirements.
SOURCES = frozenset({Origin.SDIST, Origin.REPOSITORY, Origin.EDITABLE})


@dataclass(frozen=True)
class Step:
    """One distribution added, replaced or removed."""

    action: Action
    name: NormalizedName
    version: Optional[str]  # None when removed
    from_version: Optional[str] = None
    url: Optional[str] = None
    sha256: Optional[str] = None
    origin: Origin = Origin.WHEEL
    requested: bool = False
    extras: Tuple[str, ...] = ()  # that were requested
    keeps_requested: bool = False  # the installed one was requested, and the mark is kept
    because: str = ""  # the reason, in a sentence
    candidate: Optional[Candidate] = None  # our choice; None for a choice of pip
    download_info: Optional[Mapping[str, object]] = None  # pip's, in the form of direct_url.json
    is_direct: bool = False  # named by a URL or a path
    is_locked: bool = False  # named with a hash by a lock file; no index needs to have it
    is_hosted: bool = False  # on a wheel host, and not on a package index
    records_address: bool = False  # its URL is written into direct_url.json
    requires: Tuple[str, ...] = ()
    written_name: str = ""  # the name in METADATA


@dataclass(frozen=True)
class Plan:
    """All steps of one change."""

    steps: Tuple[Step, ...] = ()
    rejections: Tuple[Rejection, ...] = ()
    answers: Tuple[HostAnswer, ...] = ()

    def find(self, name: str) -> Optional[Step]:
        """The step on a distribution, by its normalized name; None if there is none."""
        return next((step for step in self.steps if step.name == name), None)


# --- health and results ---------------------------------------------------------------------------


class Severity(enum.Enum):
    """The severity of a finding. An error leads to a refusal or a roll back."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    check: str  # kebab-case, stable: "torch-moved", "cuda-lost", "import-failed", ...
    severity: Severity
    subject: str
    detail: str
    hint: str = ""


class ImportResult(NamedTuple):
    """The result of an import, of loading a native part, or of an operation."""

    ok: bool
    seconds: Optional[float] = None
    error: Optional[str] = None
    unknown: bool = False  # not ok because it took too long; it may work


@dataclass(frozen=True)
class UnmetRequirement:
    """A requirement of an installed distribution that the installed distributions do not meet."""

    name: NormalizedName  # of the distribution that requires it
    version: str
    requirement: str  # "numpy<2", without its marker
    present: str = ""  # the installed distribution: "numpy 2.0.1"; "" if there is none

    def __str__(self) -> str:
        """pip's message."""
        problem = "which is not installed."
        if self.present:
            problem = f"but you have {self.present} which is incompatible."
        return f"{self.name} {self.version} requires {self.requirement}, {problem}"


@dataclass(frozen=True)
class HealthReport:
    """The answers of a fresh process of the managed interpreter."""

    torch_version: Optional[str] = None
    accelerator: Optional[str] = None
    torch_cuda: Optional[str] = None  # torch.version.cuda
    cuda_available: Optional[bool] = None  # None if torch was not asked
    device_count: Optional[int] = None
    imports: Mapping[str, ImportResult] = field(default_factory=dict)
    operations: Mapping[str, ImportResult] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()
    unmet: Tuple[UnmetRequirement, ...] = ()
    # "import": torch was imported; "loader": only its libraries were loaded, and the driver asked
    asked: str = "import"
    seconds: float = 0.0
    crashed: Optional[str] = None  # "signal SIGSEGV", "no answer within 300 s"
    libraries: Tuple[str, ...] = ()  # paths of the libraries in memory after `import torch`
    torch_folder: Optional[str] = None  # the imported package, or the file torch.py; resolved
    driver_library: Optional[DriverLibrary] = None  # None if CUDA is available


class Outcome(enum.Enum):
    """How a command ended."""

    INSTALLED = "installed"
    UNINSTALLED = "uninstalled"
    ALREADY_SATISFIED = "already-satisfied"
    PLANNED = "planned"
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_FAILED = "rollback-failed"
    UNDONE = "undone"
    STAGED = "staged"
    ABANDONED = "abandoned"
    RECOVERED = "recovered"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EXPLAINED = "explained"
    LISTED = "listed"
    EXPORTED = "exported"
    UPDATED = "updated"  # the wheel index
    FITS = "fits"  # a wheel file
    DOES_NOT_FIT = "does-not-fit"
    SYNCED = "synced"
    SAME = "same"
    DIFFERS = "differs"
    ERROR = "error"


@dataclass(frozen=True)
class InstallResult:
    """The result of a command. `details`: JSON values of this command only."""

    command: str
    outcome: Outcome
    exit_status: int
    environment: Optional[Environment] = None
    plan: Optional[Plan] = None
    before: Optional[HealthReport] = None
    after: Optional[HealthReport] = None
    findings: Tuple[Finding, ...] = ()
    transaction: Optional[str] = None
    timings: Mapping[str, float] = field(default_factory=dict)
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

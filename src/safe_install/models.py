"""The values that are passed between layers: frozen, with no behaviour except reading their
fields."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, FrozenSet, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from packaging.tags import Tag
from packaging.utils import NormalizedName
from packaging.version import Version

# --- what is there --------------------------------------------------------------------------------


class Device(NamedTuple):
    """One GPU, as the driver names it."""

    name: str
    compute_capability: str  # "8.0"


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver of this machine, or the one declared for the machine that runs it."""

    version: Optional[str]  # "535.104.05"; None where only a CUDA version was declared
    cuda: Optional[str]  # newest CUDA runtime that it serves, "12.2"
    devices: Tuple[Device, ...] = ()
    declared: bool = False
    # NVML's own words where it answers no question: "Driver/library version mismatch"
    problem: Optional[str] = None

    def __str__(self) -> str:
        """`declared is 535.104 (CUDA 12.2)`, or `here is ...`."""
        where = "declared is" if self.declared else "here is"
        if self.version is None:
            return f"{where} one for CUDA {self.cuda or 'that is not known'}"
        return f"{where} {self.version}" + (f" (CUDA {self.cuda})" if self.cuda else "")


class DriverLibrary(NamedTuple):
    """What libcuda.so.1 answered in a process that has torch."""

    path: Optional[str]  # the file that was loaded
    cuda: Optional[str]  # cuDriverGetVersion: the newest CUDA runtime that it serves, "12.8"
    status: int  # of cuInit: a CUresult of cuda.h, 0 is success
    devices: Optional[int]  # cuDeviceGetCount; None where cuInit failed


class RunningProgram(NamedTuple):
    """A process that uses files of this environment which have been replaced since."""

    pid: int
    command: str
    files: Tuple[str, ...]


@dataclass(frozen=True)
class TorchPlace:
    """A folder on sys.path with torch's files, its metadata, or both. Paths are resolved."""

    location: Path  # the folder on sys.path
    torch: Path  # what `import torch` takes from here
    # "package", "module" (torch.py), "namespace" (no __init__.py), "" where there are none
    files: str
    version: Optional[str] = None  # of its metadata; None where there is none
    editable: bool = False


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch, read from its files without importing it."""

    version: Version  # of METADATA: what pip compares ("2.15.0" from PyPI, "2.13.0+cpu" elsewhere)
    runtime_version: str  # torch.__version__: what wheel hosts name ("2.15.0+cu132")
    accelerator: str  # "cu111", "cpu", "rocm6.2"; "" when it cannot be told
    cuda: Optional[str] = None  # torch.version.cuda, "11.1"
    hip: Optional[str] = None
    cxx11_abi: Optional[bool] = None
    git_version: Optional[str] = None
    lib_dir: Optional[Path] = None
    # resolved; a build is the same wherever it lies
    folder: Optional[Path] = field(default=None, compare=False)
    # "NVIDIA", "conda", "distribution": a build that no public host can replace
    vendor: Optional[str] = None
    file: Optional[str] = field(default=None, compare=False)  # sha256 of its wheel, if known
    has_metadata: bool = field(default=True, compare=False)  # False: pip does not see it


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
    pip_version: Optional[str] = None  # of the pip importable there, None when there is none
    ensurepip_wheel: Optional[Path] = None  # the pip wheel that this Python carries
    # the message of PEP 668's marker file, None when there is none
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
        """True in a virtual environment."""
        return self.prefix != self.base_prefix

    @property
    def system(self) -> str:
        """ "windows" or "linux": NVIDIA's minimum drivers differ between them."""
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
    version: str  # as METADATA writes it; not every installed version is a valid PEP 440 version
    metadata_path: Path  # the dist-info folder
    location: Path  # the folder on sys.path that holds it
    installer: Optional[str] = None
    direct_url: Optional[Mapping[str, Any]] = None
    editable: bool = False
    has_record: bool = True
    requested: bool = False
    requires: Tuple[str, ...] = ()
    written_name: str = ""  # as METADATA writes it


class BuildTimeout(NamedTuple):
    """The time limits of a source build, in seconds; None: no limit."""

    whole: Optional[float] = 2 * 3600.0
    silent: Optional[float] = 20 * 60.0  # without a line of output


DEFAULT_BUILD_TIMEOUT = BuildTimeout()
DEFAULT_CHECK_TIMEOUT = 300.0  # seconds: a cold torch on a slow disk takes up to a minute


class NetworkSettings(NamedTuple):
    """pip's settings on how to reach hosts, which we use, too."""

    proxy: Optional[str] = None  # of every host
    # --cert: a file, or a folder, of certificates that count beside the machine's
    ca_bundle: Optional[str] = None
    client_certificate: Optional[str] = None  # a file with key and certificate
    # "host" or "host:port": asked over plain http too, certificates unchecked
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
    """The facts about an environment that decisions are based on."""

    interpreter: Interpreter
    torch: Optional[TorchBuild]
    driver: Optional[Driver]
    installed: Mapping[NormalizedName, InstalledDistribution] = field(default_factory=dict)
    torch_places: Tuple[TorchPlace, ...] = ()  # in the order of sys.path
    # before the interpreter's own packages: a torch that is unpacked, and not installed yet
    ahead: Tuple[Path, ...] = ()


# --- what could be installed ----------------------------------------------------------------------


class CandidateKind(enum.Enum):
    """Where the bytes of a candidate come from."""

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
    # its METADATA lies beside it (PEP 658): the sha256 of that, "" where none is promised
    metadata: Optional[str] = None
    hash_from_index: bool = False  # `sha256` is of the wheel index, and not of the page
    conflicting_hash: Optional[str] = None  # the other sha256 that the page states


@dataclass(frozen=True)
class BuiltFor:
    """The torch that a wheel was built for, as far as its host tells; None: not known."""

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
    may_be_kept: bool = False  # of a source: a wheel built here before may be for this torch


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
    GPU_CODE = "gpu-code"  # none for the GPU that is here or declared
    NO_BUILD = "no-build"
    SDIST_BEHIND_WHEEL = "sdist-behind-wheel"
    OLDER_VERSION = "older-version"
    LATER_HOST = "later-host"
    HOST_DOWN = "host-down"  # known from the bundled facts, and its host does not answer now
    CONFLICT = "conflict"


class Rejection(NamedTuple):
    """A candidate that was not chosen, and the rule that rejected it."""

    candidate: Candidate
    rule: Rule
    detail: str


class HostAnswerKind(enum.Enum):
    """The kinds of answers of a wheel host; only the first one has candidates."""

    LISTED = "listed"
    DOWN = "host-down"
    PAGE_MISSING = "page-missing"
    PAGE_EMPTY = "page-empty"
    NO_WHEEL_FOR_TORCH = "no-wheel-for-this-torch"
    NOT_ASKED = "not-asked"  # --offline, or an earlier host answered
    LEFT_OUT = "left-out"  # asked only when the person names it


@dataclass(frozen=True)
class HostAnswer:
    """The answer of one host about one project."""

    project: NormalizedName
    host: str
    url: str
    kind: HostAnswerKind
    detail: str = ""
    # it was not asked, and why the bundled facts do not settle what it has; "" where they do
    gap: str = ""
    is_offline: bool = False  # not asked, because no host may be


# --- what will be done ----------------------------------------------------------------------------


class Action(enum.Enum):
    """What a step does to one distribution."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


class Origin(enum.Enum):
    """Where the files of a distribution come from."""

    WHEEL = "wheel"
    BUILT = "built"  # a wheel that was built here for this torch
    SDIST = "sdist"  # an archive or a folder of sources
    REPOSITORY = "repository"  # git, hg, svn, bzr
    EDITABLE = "editable"


# Origins whose code is run, to build a wheel or to learn the requirements.
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
    keeps_requested: bool = False  # not now, but the installed one was: REQUESTED stays
    because: str = ""
    candidate: Optional[Candidate] = None  # ours; None for what pip chose
    download_info: Optional[Mapping[str, Any]] = None  # pip's, in the form of direct_url.json
    is_direct: bool = False
    is_locked: bool = False  # from a pylock.toml: no index needs to have it
    is_hosted: bool = False  # a wheel host has it, and no package index
    records_address: bool = False  # in direct_url.json, as pip does where an address was named
    requires: Tuple[str, ...] = ()
    written_name: str = ""  # as its metadata writes it


@dataclass(frozen=True)
class Plan:
    """All steps of one change."""

    steps: Tuple[Step, ...] = ()
    rejections: Tuple[Rejection, ...] = ()
    answers: Tuple[HostAnswer, ...] = ()

    def find(self, name: str) -> Optional[Step]:
        """The step on a distribution, by its normalized name; None where there is none."""
        return next((step for step in self.steps if step.name == name), None)


# --- how it is ------------------------------------------------------------------------------------


class Severity(enum.Enum):
    """The weight of a finding; an error refuses or rolls back."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """The result of a check."""

    check: str  # kebab-case, stable: "torch-moved", "cuda-lost", "import-failed", ...
    severity: Severity
    subject: str
    detail: str
    hint: str = ""


class ImportResult(NamedTuple):
    """Whether a module could be imported (or its native part loaded), how long it took, and the
    error."""

    ok: bool
    seconds: Optional[float] = None
    error: Optional[str] = None
    unknown: bool = False  # not ok for lack of time: nobody knows whether it works


@dataclass(frozen=True)
class UnmetRequirement:
    """A requirement of an installed distribution that the installed distributions do not meet."""

    name: NormalizedName  # of the distribution that requires it
    version: str
    requirement: str  # "numpy<2", without its marker
    present: str = ""  # what is there instead: "numpy 2.0.1"; "" where nothing is

    def __str__(self) -> str:
        """In pip's words."""
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
    cuda_available: Optional[bool] = None  # None: there was nothing to ask
    device_count: Optional[int] = None
    imports: Mapping[str, ImportResult] = field(default_factory=dict)
    operations: Mapping[str, ImportResult] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()
    unmet: Tuple[UnmetRequirement, ...] = ()
    # "import": torch was imported; "loader": only its libraries and the driver were asked
    asked: str = "import"
    seconds: float = 0.0
    crashed: Optional[str] = None  # "signal SIGSEGV", "no answer within 300 s"
    libraries: Tuple[str, ...] = ()  # paths of all that was in memory after torch was imported
    # resolved: the package that was imported, or the file torch.py
    torch_folder: Optional[str] = None
    driver_library: Optional[DriverLibrary] = None  # asked where CUDA is not available


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

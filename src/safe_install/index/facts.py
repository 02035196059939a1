"""What is known about projects, torch and CUDA, as values. `index.document` reads them,
`index.catalog` finds them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import FrozenSet, Iterable, Mapping, NamedTuple, Optional, Protocol, Tuple
from urllib.parse import quote, unquote

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from safe_install.models import Driver
from safe_install.tags import ComputeCapability, parse_accelerator


def canonical_url(url: str) -> str:
    """One spelling for an address: pages and people write `+`, hosts and the wheel index `%2B`."""
    start, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{start}{separator}{host}{slash}{quote(unquote(path), safe='/')}"


class TorchMatch(enum.Enum):
    """How near the torch that a wheel was built for must be to the installed one."""

    EXACT = "exact"  # X.Y.Z
    MINOR = "minor"  # X.Y
    ANY = "any"  # the binary does not depend on torch


class AcceleratorMatch(enum.Enum):
    """How near the accelerator of a wheel must be to torch's."""

    EXACT = "exact"  # cu126 for cu126; a major-only cu12 fits every 12.x
    MAJOR = "major"  # any 12.x for 12.x
    ANY = "any"  # the binary has no accelerator code


class Layout(enum.Enum):
    """How the pages of a host read."""

    FIND_LINKS = "find-links"  # one HTML page of anchors for several projects
    SIMPLE = "simple"  # PEP 503 HTML or PEP 691 JSON, one page per project
    PYPI = "pypi"  # the user's package index (pypi.org unless told otherwise)
    GITHUB_RELEASES = "github-releases"  # assets of a repository's releases


class Holds(enum.Enum):
    """What the package index has under a project's name."""

    WHEELS = "wheels"
    SDISTS = "sdists"
    NOTHING = "nothing"
    PLACEHOLDER = "placeholder"  # an empty or unusable release that keeps the name
    ANOTHER_PROJECT = "another-project"  # the name belongs to somebody else


@dataclass(frozen=True)
class HostEntry:
    """A place where wheels lie. The fields of its templates are those of `index.location`."""

    host: str  # short name for messages, unique in the document: "data.pyg.org"
    layout: Layout
    # how names say their torch: a key of index.filename.GRAMMARS, or a template that begins with
    # "+"
    filename: str
    pages: Tuple[str, ...] = ()  # URL templates, asked in order until one is there
    # URL template of a file, with {file} too; None where only the page knows it
    wheel: Optional[str] = None
    repository: Optional[str] = None  # "Dao-AILab/flash-attention", for releases on GitHub
    tag: str = "v{version}"  # of such a release, where a row does not say another
    redirects: Tuple[str, ...] = ()  # hosts that a page or file of this one may redirect to
    torch: Tuple[str, ...] = ()  # asked for these releases of torch only; empty: for every one
    # asked for these kinds of accelerator only ("cpu", "cuda"); empty: for every one
    kinds: Tuple[str, ...] = ()
    torch_match: Optional[TorchMatch] = None  # where it differs from the project's
    optional: str = ""  # why it is asked only when the person names it; empty: asked always
    # for this torch and older ones the rows are all that it has; None: for none
    complete_to: Optional[str] = None
    note: str = ""


def is_named(host: HostEntry, names: Iterable[str]) -> bool:
    """Did the person name this host: `github.com/owner/name`, `owner/name`, or `owner`?"""
    parts = host.host.split("/")
    own = {host.host, "/".join(parts[1:]), *parts[1:]}
    return any(name in own for name in names)


class Alias(NamedTuple):
    """A torch version or accelerator whose page lists the wheels of another."""

    torch: str  # "1.8.1"
    base: str  # "1.8.0"
    accelerator: Optional[str] = None  # the alias holds for this accelerator only
    base_accelerator: Optional[str] = None  # whose wheels serve it


@dataclass(frozen=True)
class Build:
    """Wheels of one version that one host has for one torch."""

    host: str
    # as the host says it: "1.8.0", "2.8" where it names the minor only, "nv25.04" for NVIDIA's
    # container
    torch: str
    version: str  # public version, "2.0.8"
    accelerators: Tuple[str, ...]
    platform: str  # wheel platform tag, "linux_x86_64"; "macos" where the exact tag is not known
    python: Tuple[str, ...]  # "3.8"
    filename: Optional[str] = None  # grammar, where it differs from the host's
    # "abi3" or "none" where one wheel serves the Pythons from the first named on
    abi: Optional[str] = None
    cxx11_abi: Tuple[bool, ...] = ()  # the builds there are, where the file name says it
    tag: Optional[str] = None  # of the release, where it is not the host's
    note: str = ""


class Sdist(NamedTuple):
    """A source distribution on the package index."""

    version: str
    url: str
    sha256: str
    requires_python: Optional[str] = None


@dataclass(frozen=True)
class KnownWheel:
    """One wheel whose address no template makes."""

    url: str
    sha256: str
    requires_python: Optional[str] = None


@dataclass(frozen=True)
class Recipe:
    """How a source distribution becomes a wheel against the installed torch."""

    sdist: str  # distribution name on the package index
    requires: Tuple[str, ...]  # build tools, put into an overlay and not into the environment
    env: Mapping[str, str] = field(default_factory=dict)
    force_cuda: bool = False  # setup.py builds for the CPU where it sees no GPU unless FORCE_CUDA=1
    extension: bool = True  # compiles against torch's headers
    # its setup.py compiles CUDA code or fails: nothing comes of it beside a CPU torch
    cuda_only: bool = False


class Source(NamedTuple):
    """Where the right source lies, for a project that the package index does not really have."""

    repository: str  # "https://github.com/NVIDIA/apex"
    install: str  # a requirement that names it: "apex @ git+https://github.com/NVIDIA/apex"
    note: str = ""


@dataclass(frozen=True)
class PackageIndexEntry:
    """What the package index has under the name, where that is not simply the project."""

    holds: Holds
    note: str = ""


class GpuCode(NamedTuple):
    """The GPU code in the wheels of some versions."""

    versions: SpecifierSet
    capabilities: Tuple[ComputeCapability, ...]  # of the machine code
    ptx: Tuple[ComputeCapability, ...] = ()
    accelerators: Tuple[str, ...] = ()  # of the wheels; empty: all of them

    def runs_on(self, device: ComputeCapability) -> bool:
        """Is there code for a device of this compute capability?"""
        return any(code.runs_on(device) for code in (*self.capabilities, *self.ptx))

    def __str__(self) -> str:
        """`8.0, 9.0a, 12.0+PTX`."""
        return ", ".join(str(code) for code in (*self.capabilities, *self.ptx))


class Doubt(NamedTuple):
    """Something that is claimed somewhere and not confirmed; never offered from the bundled
    facts."""

    subject: str
    why: str


@dataclass(frozen=True)
class Project:
    """All that is known about one project."""

    name: NormalizedName
    imports: Tuple[str, ...]
    native: Tuple[str, ...]  # patterns of the shared objects that it needs, see index.native
    # Python source of a small operation; `device` is defined where it runs
    operation: Optional[str]
    torch_match: TorchMatch
    accelerator_match: AcceleratorMatch
    pins_torch: bool  # its metadata wants one torch
    requires: Tuple[str, ...]  # requirements that its metadata hides
    hosts: Tuple[HostEntry, ...]
    aliases: Tuple[Alias, ...]
    pins: Mapping[str, str]  # public version -> specifier of the torch that it belongs to
    recipe: Optional[Recipe]
    builds: Tuple[Build, ...]
    sdists: Tuple[Sdist, ...]
    wheels: Tuple[KnownWheel, ...]
    sha256: Mapping[str, str]  # URL -> hash, where one was published
    doubts: Tuple[Doubt, ...]
    checked: str  # date of the facts, ISO 8601
    sources: Tuple[str, ...]
    # of every wheel of this name, where the name says it: spconv-cu118
    accelerator: Optional[str] = None
    # the same software under other names, one for each accelerator
    family: Tuple[NormalizedName, ...] = ()
    package_index: PackageIndexEntry = PackageIndexEntry(Holds.WHEELS)
    source: Optional[Source] = None
    gpu_code: Tuple[GpuCode, ...] = ()
    # version -> accelerator of its wheels on the index
    untagged: Mapping[str, str] = field(default_factory=dict)
    # the same, where those for aarch64 differ
    untagged_aarch64: Mapping[str, str] = field(default_factory=dict)
    # its CPU build works beside every torch, with less: it decodes on the CPU
    cpu_fits_all: bool = False

    def base_of(self, torch: str, accelerator: str) -> Tuple[str, str]:
        """Torch and accelerator under which the hosts keep the wheels for `torch` ("1.8.1") and
        `accelerator`.

        An alias rule where there is one, else the X.Y.0 of the minor for projects that match by
        minor.
        """
        for alias in self.aliases:
            if alias.torch == torch and alias.accelerator == accelerator:
                return alias.base, alias.base_accelerator or accelerator
        for alias in self.aliases:
            if alias.torch == torch and alias.accelerator is None:
                return alias.base, accelerator
        if self.torch_match is TorchMatch.MINOR:
            return ".".join([*torch.split(".")[:2], "0"]), accelerator
        return torch, accelerator

    @cached_property
    def known_hashes(self) -> Mapping[str, str]:
        """Every hash that the index has, by the one spelling of its address."""
        rows = [(known.url, known.sha256) for known in self.wheels]
        rows += [(known.url, known.sha256) for known in self.sdists]
        return {canonical_url(url): sha256 for url, sha256 in (*rows, *self.sha256.items())}

    def pin_of(self, version: Version) -> Optional[SpecifierSet]:
        """The torch that a public version belongs to, None where it is not known here."""
        pin = self.pins.get(version.public)
        return SpecifierSet(pin) if pin else None

    def gpu_code_of(self, version: Version, accelerator: Optional[str]) -> Optional[GpuCode]:
        """The GPU code in a wheel, None where it is not known here."""
        for row in self.gpu_code:
            if row.accelerators and accelerator not in row.accelerators:
                continue
            if row.versions.contains(version.public, prereleases=True):
                return row
        return None


@dataclass(frozen=True)
class TorchRelease:
    """One release of torch."""

    version: str
    accelerators: Tuple[str, ...]  # of the Linux x86_64 builds on download.pytorch.org
    # accelerator of the Linux x86_64 wheel on PyPI, whose name has no local version
    untagged: Optional[str]
    companions: Mapping[str, str]  # project -> version that was released with it
    python: Tuple[str, ...]
    note: str = ""
    untagged_aarch64: Optional[str] = None  # the same of the Linux aarch64 wheel
    # of the Linux aarch64 builds on download.pytorch.org; None: not known
    accelerators_aarch64: Optional[Tuple[str, ...]] = None

    def accelerators_on(self, platform: str) -> Tuple[str, ...]:
        """Of the Linux builds on download.pytorch.org; where that is not known of a machine, those
        that there may be."""
        known = self.accelerators_aarch64 if platform.endswith("aarch64") else None
        return self.accelerators if known is None else known

    def untagged_on(self, platform: str) -> Optional[str]:
        """Of the Linux build on the package index; None where it is not known or not there."""
        machines = {"x86_64": self.untagged, "aarch64": self.untagged_aarch64}
        return next((machines[name] for name in machines if platform.endswith(name)), None)


class AbiRule(NamedTuple):
    """Builds of torch for Linux from a version on (until the next rule), and their
    _GLIBCXX_USE_CXX11_ABI."""

    since: str
    cxx11_abi: bool
    accelerators: Tuple[str, ...] = ()  # empty: every one
    architectures: Tuple[str, ...] = ()  # empty: every one


@dataclass(frozen=True)
class TorchTable:
    """What is known about torch itself."""

    releases: Mapping[str, TorchRelease]
    abi_rules: Tuple[AbiRule, ...]
    hosts: Tuple[HostEntry, ...] = ()
    builds: Tuple[Build, ...] = ()  # torch itself is pip's business: only where it lies is known
    accelerator: Optional[str] = None
    gpu_code: Tuple[GpuCode, ...] = ()  # of the builds for Linux on x86-64

    def gpu_code_of(
        self, version: Version, accelerator: str, *, platform: str
    ) -> Optional[GpuCode]:
        """The GPU code of a public build; None where it is not known here."""
        if platform != "linux_x86_64":
            return None
        for row in self.gpu_code:
            if accelerator in row.accelerators and row.versions.contains(version.public):
                return row
        return None

    def cxx11_abi_of(self, torch: str, accelerator: str, *, platform: str) -> Optional[bool]:
        """The C++ ABI of a public build; None where the question has no meaning (not Linux) or no
        answer."""
        if "linux" not in platform:
            return None
        version = parse_release(torch)
        if version is None:
            return None
        answer: Optional[bool] = None
        for rule in self.abi_rules:
            fits = (
                not rule.accelerators or any(_is_kind(accelerator, a) for a in rule.accelerators)
            ) and (not rule.architectures or platform.endswith(rule.architectures))
            if version >= Version(rule.since) and fits:
                answer = rule.cxx11_abi
        return answer

    def build_for(self, torch: str, cuda: str) -> Optional[str]:
        """The build of this release, or of the newest older one, for a driver that serves `cuda`:
        "2.14.1+cu126".

        From CUDA 11 on a driver serves every runtime of its major version; of those the newest is
        taken that it serves fully, else the oldest. None where nothing is known.
        """
        served, wanted = parse_release(cuda), parse_release(torch)
        if served is None or wanted is None:
            return None
        older = [
            release for release in self.releases.values() if Version(release.version) <= wanted
        ]
        for release in sorted(older, key=lambda release: Version(release.version), reverse=True):
            found = _best_accelerator(release.accelerators, served)
            if found is not None:
                return f"{release.version}+{found}"
        return None

    def first_release_with(self, project: str, version: str) -> Optional[TorchRelease]:
        """The oldest torch that a companion's version was released with."""
        found = [r for r in self.releases.values() if r.companions.get(project) == version]
        return min(found, key=lambda release: Version(release.version)) if found else None


def _best_accelerator(accelerators: Iterable[str], served: Version) -> Optional[str]:
    known = [(accelerator, parse_accelerator(accelerator)) for accelerator in accelerators]
    builds = [
        (Version(".".join(map(str, parsed.version))), text)
        for text, parsed in known
        if parsed is not None and parsed.kind == "cuda"
    ]
    full = [build for build in builds if build[0] <= served]
    if full:
        return max(full)[1]
    partial = [build for build in builds if build[0].major == served.major and served.major >= 11]
    return min(partial)[1] if partial else None


def _is_kind(accelerator: str, wanted: str) -> bool:
    """`rocm` stands for every ROCm."""
    parsed = parse_accelerator(accelerator)
    return accelerator == wanted or (parsed is not None and parsed.kind == wanted)


class CudaRelease(NamedTuple):
    """A release of CUDA and the driver that came with its toolkit; drivers of at least that version
    serve it fully."""

    cuda: str
    linux: Optional[str]
    windows: Optional[str]


class CudaTable(NamedTuple):
    """What is known about CUDA and its drivers."""

    floors: Mapping[str, Tuple[Optional[str], Optional[str]]]  # accelerator -> (Linux, Windows)
    # CUDA major from 11 on -> (Linux, Windows)
    majors: Mapping[str, Tuple[Optional[str], Optional[str]]]
    releases: Tuple[CudaRelease, ...]  # newest first

    def driver_floor(self, accelerator: str, *, system: str = "linux") -> Optional[str]:
        """The oldest driver on which a build for `accelerator` starts; None when none is needed or
        known."""
        parsed = parse_accelerator(accelerator)
        if parsed is None or parsed.kind != "cuda":
            return None
        floors = (
            self.floors.get(accelerator) or self.majors.get(str(parsed.version[0])) or (None, None)
        )
        return floors[0] if system == "linux" else floors[1]

    def is_too_old(self, driver: Driver, accelerator: str, *, system: str = "linux") -> bool:
        """Is the driver known to be too old for a build for `accelerator`?

        Versions are compared as far as they are written: "580" stands for every 580.x. Where only
        the CUDA of a driver was declared, the CUDA that the floor serves counts: any 12.x starts a
        build for CUDA 12 (minor version compatibility, NVIDIA's release notes).
        """
        floor = self.driver_floor(accelerator, system=system) or ""
        oldest, own = parse_release(floor), parse_release(driver.version or "")
        if oldest is None:
            return False
        if own is not None:
            return own.release < oldest.release[: len(own.release)]
        needed = parse_release(self.cuda_of_driver(floor, system=system) or "")
        served = parse_release(driver.cuda or "")
        return served is not None and needed is not None and served < needed

    def why_too_old(self, driver: Driver, accelerator: str, *, system: str = "linux") -> str:
        """`needs driver 580.65.06 or newer, declared is 535.104 (CUDA 12.2)`; "" where nothing says
        that."""
        if not self.is_too_old(driver, accelerator, system=system):
            return ""
        return f"needs driver {self.driver_floor(accelerator, system=system)} or newer, {driver}"

    def cuda_of_driver(self, driver: str, *, system: str = "linux") -> Optional[str]:
        """The newest CUDA that a driver serves fully: "535.104.05" -> "12.2"; None when it is older
        than all.

        As in is_too_old, "580" stands for every 580.x.
        """
        version = parse_release(driver)
        for release in self.releases:
            own = parse_release((release.linux if system == "linux" else release.windows) or "")
            if (
                version is not None
                and own is not None
                and version.release >= own.release[: len(version.release)]
            ):
                return release.cuda
        return None


class Catalog(Protocol):
    """What is known at one moment; it does not change. Decisions take it as an argument,
    `index.catalog` makes it."""

    @property
    def projects(self) -> FrozenSet[NormalizedName]:
        """The names of the projects that are known."""

    def project(self, name: str) -> Project:
        """One of them, by any spelling of its name. Raises IndexInvalid for another name."""

    @property
    def torch(self) -> TorchTable:
        """What is known about torch."""

    @property
    def cuda(self) -> CudaTable:
        """What is known about CUDA."""


@lru_cache(maxsize=4096)
def parse_release(text: str) -> Optional[Version]:
    """A version without its local part, or None for what is none (distribution and vendor
    strings)."""
    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None

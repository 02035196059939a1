"""The facts about projects, torch and CUDA as values. `index.catalog` finds their documents,
`index.document` reads them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property
from typing import FrozenSet, Iterable, Mapping, NamedTuple, Optional, Protocol, Set, Tuple
from urllib.parse import quote, unquote

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.models import Driver
from safe_install.tags import ComputeCapability, parse_accelerator, parse_release


def canonical_url(url: str) -> str:
    """One spelling for an address. Pages and users write `+`; hosts and the wheel index write
    `%2B`."""
    start, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{start}{separator}{host}{slash}{quote(unquote(path), safe='/')}"


class TorchMatch(enum.Enum):
    """How exactly the torch of a wheel must be the installed one."""

    EXACT = "exact"  # the same X.Y.Z
    MINOR = "minor"  # the same X.Y
    ANY = "any"  # the binary does not depend on torch


class AcceleratorMatch(enum.Enum):
    """How exactly the accelerator of a wheel must be torch's."""

    EXACT = "exact"  # cu126 for cu126; cu12 without a minor version fits every 12.x
    MAJOR = "major"  # any 12.x for 12.x
    ANY = "any"  # the binary has no accelerator code


class Layout(enum.Enum):
    """The form of a host's pages."""

    FIND_LINKS = "find-links"  # one HTML page of anchors for several projects
    SIMPLE = "simple"  # PEP 503 HTML or PEP 691 JSON, one page per project
    PYPI = "pypi"  # the user's package index, by default pypi.org
    GITHUB_RELEASES = "github-releases"  # assets of a repository's releases


class Holds(enum.Enum):
    """What the package index has under a project's name."""

    WHEELS = "wheels"
    SDISTS = "sdists"
    NOTHING = "nothing"
    PLACEHOLDER = "placeholder"  # an empty or unusable release that reserves the name
    ANOTHER_PROJECT = "another-project"  # the name is that of another project


@dataclass(frozen=True)
class HostEntry:
    """A host of wheels. `index.location` has the fields of its templates."""

    host: str  # short name for messages, unique in the document: "data.pyg.org"
    layout: Layout
    # how file names give the torch: a key of index.filename.GRAMMARS, or a template that begins
    # with "+"
    filename: str
    pages: Tuple[str, ...] = ()  # URL templates; the first page that exists is used
    # URL template of a file, with {file}; None: the address is only on the page
    wheel: Optional[str] = None
    repository: Optional[str] = None  # "Dao-AILab/flash-attention", for releases on GitHub
    tag: str = "v{version}"  # of such a release, unless the row has a tag of its own
    redirects: Tuple[str, ...] = ()  # hosts that its pages and files may redirect to
    torch: Tuple[str, ...] = ()  # only asked for these releases of torch; empty: for all
    # only asked for these kinds of accelerator ("cpu", "cuda"); empty: for all
    kinds: Tuple[str, ...] = ()
    torch_match: Optional[TorchMatch] = None  # None: that of the project
    optional: str = ""  # why it is only asked if the user names it; empty: it is always asked
    # the rows are complete for this torch and older ones; None: for none
    complete_to: Optional[str] = None
    note: str = ""


def is_named(host: HostEntry, names: Iterable[str]) -> bool:
    """Is this host among `names`, as `github.com/owner/name`, `owner/name` or `owner`?"""
    parts = host.host.split("/")
    own = {host.host, "/".join(parts[1:]), *parts[1:]}
    return any(name in own for name in names)


def all_redirects(hosts: Iterable[HostEntry]) -> Tuple[str, ...]:
    """The hosts to which these hosts may redirect, sorted."""
    names: Set[str] = set()
    for host in hosts:
        names.update(host.redirects)
    return tuple(sorted(names))


class Alias(NamedTuple):
    """A torch whose wheels are those of another torch or accelerator."""

    torch: str  # "1.8.1"
    base: str  # "1.8.0": the torch that has the wheels
    accelerator: Optional[str] = None  # only for this accelerator; None: for all
    base_accelerator: Optional[str] = None  # the accelerator that has the wheels; None: the same


@dataclass(frozen=True)
class Build:
    """Wheels of one version that one host has for one torch."""

    host: str
    # as the host names it: "1.8.0", "2.8" without the patch release, "nv25.04" for NVIDIA's
    # container
    torch: str
    version: str  # public version, "2.0.8"
    accelerators: Tuple[str, ...]
    platform: str  # wheel platform tag, "linux_x86_64"; "macos": the exact tag is not known
    python: Tuple[str, ...]  # "3.8"
    filename: Optional[str] = None  # the grammar of its names; None: that of the host
    # "abi3" or "none": one wheel is for the first of these Pythons and all newer ones
    abi: Optional[str] = None
    cxx11_abi: Tuple[bool, ...] = ()  # one build for each; empty: the file name does not say it
    tag: Optional[str] = None  # of the release; None: the host's template makes it
    note: str = ""


class Sdist(NamedTuple):
    """A source distribution on the package index."""

    version: str
    url: str
    sha256: str
    requires_python: Optional[str] = None


@dataclass(frozen=True)
class KnownWheel:
    """A wheel whose address cannot be made from a template."""

    url: str
    sha256: str
    requires_python: Optional[str] = None


@dataclass(frozen=True)
class Recipe:
    """How to build a wheel of a source distribution for the installed torch."""

    sdist: str  # distribution name on the package index
    requires: Tuple[str, ...]  # build tools; they go into an overlay, not into the environment
    env: Mapping[str, str] = field(default_factory=dict)
    force_cuda: bool = False  # without a GPU its setup.py builds for the CPU, unless FORCE_CUDA=1
    extension: bool = True  # it compiles against torch's headers
    # its setup.py needs CUDA: it cannot be built for a CPU torch
    cuda_only: bool = False


class Source(NamedTuple):
    """The source of a project whose name on the package index holds something else."""

    repository: str  # "https://github.com/NVIDIA/apex"
    install: str  # a requirement that names it: "apex @ git+https://github.com/NVIDIA/apex"
    note: str = ""


@dataclass(frozen=True)
class PackageIndexEntry:
    """What the package index has under a project's name."""

    holds: Holds
    note: str = ""


class GpuCode(NamedTuple):
    """The GPU code in the wheels of some versions."""

    versions: SpecifierSet
    capabilities: Tuple[ComputeCapability, ...]  # of the machine code
    ptx: Tuple[ComputeCapability, ...] = ()
    accelerators: Tuple[str, ...] = ()  # of these wheels only; empty: of all

    def runs_on(self, device: ComputeCapability) -> bool:
        """Does any of this code run on a device of this compute capability?"""
        return any(code.runs_on(device) for code in (*self.capabilities, *self.ptx))

    def __str__(self) -> str:
        """`8.0, 9.0a, 12.0+PTX`."""
        return ", ".join(str(code) for code in (*self.capabilities, *self.ptx))


class Doubt(NamedTuple):
    """A claim that was found somewhere and not confirmed. It is never offered."""

    subject: str
    why: str


@dataclass(frozen=True)
class Project:
    """The facts about one project."""

    name: NormalizedName
    imports: Tuple[str, ...]
    native: Tuple[str, ...]  # patterns of the shared objects that it needs: see index.native
    # Python source of a small operation; the variable `device` is defined when it runs
    operation: Optional[str]
    torch_match: TorchMatch
    accelerator_match: AcceleratorMatch
    pins_torch: bool  # its metadata requires one version of torch
    requires: Tuple[str, ...]  # requirements that are missing in its metadata
    hosts: Tuple[HostEntry, ...]
    aliases: Tuple[Alias, ...]
    pins: Mapping[str, str]  # public version -> specifier of its torch
    recipe: Optional[Recipe]
    builds: Tuple[Build, ...]
    sdists: Tuple[Sdist, ...]
    wheels: Tuple[KnownWheel, ...]
    sha256: Mapping[str, str]  # URL -> published hash
    doubts: Tuple[Doubt, ...]
    checked: str  # date of the facts, ISO 8601
    sources: Tuple[str, ...]
    # of all its wheels, if the project's name has it: spconv-cu118
    accelerator: Optional[str] = None
    # the same software for other accelerators, under other names
    family: Tuple[NormalizedName, ...] = ()
    package_index: PackageIndexEntry = PackageIndexEntry(Holds.WHEELS)
    source: Optional[Source] = None
    gpu_code: Tuple[GpuCode, ...] = ()
    # version -> accelerator of its wheels on the index
    untagged: Mapping[str, str] = field(default_factory=dict)
    # the same for aarch64, for the versions that differ
    untagged_aarch64: Mapping[str, str] = field(default_factory=dict)
    # its CPU build works beside every torch, but only computes on the CPU
    cpu_fits_all: bool = False

    def base_of(self, torch: str, accelerator: str) -> Tuple[str, str]:
        """The torch and accelerator under whose names the hosts keep the wheels for `torch`
        ("1.8.1") and `accelerator`.

        Those of an alias, if there is one; else X.Y.0 for a project that matches by minor version.
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
        """Every hash in the index, by canonical_url."""
        rows = [(known.url, known.sha256) for known in self.wheels]
        rows += [(known.url, known.sha256) for known in self.sdists]
        return {canonical_url(url): sha256 for url, sha256 in (*rows, *self.sha256.items())}

    def pin_of(self, version: Version) -> Optional[SpecifierSet]:
        """The torch of a version; None if it is not known."""
        pin = self.pins.get(version.public)
        return SpecifierSet(pin) if pin else None

    def gpu_code_of(self, version: Version, accelerator: Optional[str]) -> Optional[GpuCode]:
        """The GPU code in a wheel; None if it is not known."""
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
    companions: Mapping[str, str]  # project -> the version that was released with it
    python: Tuple[str, ...]
    note: str = ""
    untagged_aarch64: Optional[str] = None  # the same for the Linux aarch64 wheel
    # of the Linux aarch64 builds on download.pytorch.org; None: not known
    accelerators_aarch64: Optional[Tuple[str, ...]] = None

    def accelerators_on(self, platform: str) -> Tuple[str, ...]:
        """The accelerators of the Linux builds on download.pytorch.org. If those for aarch64 are
        not known, all that are possible."""
        if platform.endswith("aarch64") and self.accelerators_aarch64 is not None:
            return self.accelerators_aarch64
        return self.accelerators

    def untagged_on(self, platform: str) -> Optional[str]:
        """The accelerator of the Linux build on the package index; None if there is none, or it is
        not known."""
        if platform.endswith("x86_64"):
            return self.untagged
        if platform.endswith("aarch64"):
            return self.untagged_aarch64
        return None


class AbiRule(NamedTuple):
    """The C++ ABI of the Linux builds of torch since a version, until the next rule."""

    since: str  # version of torch
    cxx11_abi: bool  # _GLIBCXX_USE_CXX11_ABI
    accelerators: Tuple[str, ...] = ()  # empty: all
    architectures: Tuple[str, ...] = ()  # empty: all

    def applies(self, torch: Version, accelerator: str, platform: str) -> bool:
        """Is this rule for such a build?"""
        if torch < Version(self.since):
            return False
        if self.architectures and not platform.endswith(self.architectures):
            return False
        if not self.accelerators:
            return True
        return any(_is_kind(accelerator, wanted) for wanted in self.accelerators)


@dataclass(frozen=True)
class TorchTable:
    """The facts about torch itself."""

    releases: Mapping[str, TorchRelease]  # by version
    abi_rules: Tuple[AbiRule, ...]
    hosts: Tuple[HostEntry, ...] = ()
    # as in a Project, but empty: the wheels of torch are found on the pages of its hosts
    builds: Tuple[Build, ...] = ()
    accelerator: Optional[str] = None
    gpu_code: Tuple[GpuCode, ...] = ()  # of the builds for Linux on x86-64

    def gpu_code_of(
        self, version: Version, accelerator: str, *, platform: str
    ) -> Optional[GpuCode]:
        """The GPU code of a public build; None if it is not known."""
        if platform != "linux_x86_64":
            return None
        for row in self.gpu_code:
            if accelerator in row.accelerators and row.versions.contains(version.public):
                return row
        return None

    def cxx11_abi_of(self, torch: str, accelerator: str, *, platform: str) -> Optional[bool]:
        """The C++ ABI of a public build; None if the platform is not Linux, or the ABI is not
        known."""
        if "linux" not in platform:
            return None
        version = parse_release(torch)
        if version is None:
            return None
        answer: Optional[bool] = None
        for rule in self.abi_rules:
            if rule.applies(version, accelerator, platform):
                answer = rule.cxx11_abi
        return answer

    def build_for(self, torch: str, cuda: str) -> Optional[str]:
        """The build of torch for a driver: "2.14.1+cu126". None if none is known.

        `torch`: the newest release that may be named. `cuda`: the CUDA of the driver, "12.4". From
        CUDA 11 on, a driver runs every build for its major version.
        """
        served, wanted = parse_release(cuda), parse_release(torch)
        if served is None or wanted is None:
            return None
        releases = sorted(self.releases.values(), key=lambda one: Version(one.version))
        for release in reversed(releases):
            if Version(release.version) > wanted:
                continue
            found = _best_accelerator(release.accelerators, served)
            if found is not None:
                return f"{release.version}+{found}"
        return None

    def first_release_with(self, project: str, version: str) -> Optional[TorchRelease]:
        """The oldest torch that this version of a companion was released with."""
        found = [one for one in self.releases.values() if one.companions.get(project) == version]
        return min(found, key=lambda release: Version(release.version), default=None)


def _best_accelerator(accelerators: Iterable[str], served: Version) -> Optional[str]:
    """The newest CUDA that the driver serves fully; else the oldest one of its major version."""
    builds = []
    for accelerator in accelerators:
        parsed = parse_accelerator(accelerator)
        if parsed is not None and parsed.kind == "cuda":
            builds.append((Version(".".join(map(str, parsed.version))), accelerator))
    full = [build for build in builds if build[0] <= served]
    if full:
        return max(full)[1]
    partial = [build for build in builds if build[0].major == served.major and served.major >= 11]
    return min(partial)[1] if partial else None


def _is_kind(accelerator: str, wanted: str) -> bool:
    """Is it the accelerator `wanted`? `rocm` stands for every ROCm."""
    parsed = parse_accelerator(accelerator)
    return accelerator == wanted or (parsed is not None and parsed.kind == wanted)


class CudaRelease(NamedTuple):
    """A release of CUDA, and the driver of its toolkit. This driver and newer ones serve the
    release fully."""

    cuda: str
    linux: Optional[str]  # the driver on Linux
    windows: Optional[str]


class CudaTable(NamedTuple):
    """The facts about CUDA and its drivers. A pair of drivers: (on Linux, on Windows)."""

    floors: Mapping[str, Tuple[Optional[str], Optional[str]]]  # accelerator -> oldest drivers
    # CUDA major version, from 11 on -> oldest drivers
    majors: Mapping[str, Tuple[Optional[str], Optional[str]]]
    releases: Tuple[CudaRelease, ...]  # newest first

    def driver_floor(self, accelerator: str, *, system: str = "linux") -> Optional[str]:
        """The oldest driver on which a build for `accelerator` starts; None if it needs none, or
        the driver is not known."""
        parsed = parse_accelerator(accelerator)
        if parsed is None or parsed.kind != "cuda":
            return None
        floors = self.floors.get(accelerator) or self.majors.get(str(parsed.version[0]))
        if floors is None:
            return None
        return floors[0] if system == "linux" else floors[1]

    def is_too_old(self, driver: Driver, accelerator: str, *, system: str = "linux") -> bool:
        """Is the driver known to be too old for a build for `accelerator`?

        Versions are compared as far as they are written: "580" stands for every 580.x. If only the
        CUDA of the driver was declared, it is compared with the CUDA of the oldest driver: any 12.x
        starts a build for CUDA 12 (minor version compatibility, NVIDIA's release notes).
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
        """`needs driver 580.65.06 or newer, declared is 535.104 (CUDA 12.2)`; "" if the driver is
        not known to be too old."""
        if not self.is_too_old(driver, accelerator, system=system):
            return ""
        return f"needs driver {self.driver_floor(accelerator, system=system)} or newer, {driver}"

    def cuda_of_driver(self, driver: str, *, system: str = "linux") -> Optional[str]:
        """The newest CUDA that a driver serves fully: "535.104.05" -> "12.2". None: the driver is
        older than all in the table, or its version cannot be read.

        As in is_too_old, "580" stands for every 580.x.
        """
        version = parse_release(driver)
        if version is None:
            return None
        for release in self.releases:
            own = parse_release((release.linux if system == "linux" else release.windows) or "")
            if own is not None and version.release >= own.release[: len(version.release)]:
                return release.cuda
        return None


class Catalog(Protocol):
    """All facts of one index. It does not change. `index.catalog` makes it; decisions take it as an
    argument."""

    @property
    def projects(self) -> FrozenSet[NormalizedName]:
        """The names of the known projects."""

    def project(self, name: str) -> Project:
        """One project, by any spelling of its name. Errors: IndexInvalid if it is not known."""

    @property
    def torch(self) -> TorchTable:
        """The facts about torch."""

    @property
    def cuda(self) -> CudaTable:
        """The facts about CUDA."""

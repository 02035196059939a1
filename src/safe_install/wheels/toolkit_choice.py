"""Which CUDA toolkit can compile for the installed torch, of those on this machine? Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple, Union

from safe_install.models import Environment

# The places where a toolkit may be, in the order of the search.
CUDA_HOME = "CUDA_HOME"
CUDA_PATH = "CUDA_PATH"
NVCC_ON_PATH = "nvcc on PATH"
CONDA = "conda"
ENVIRONMENT = "the environment's nvidia packages"
SYSTEM = "the system"
CACHE = "the package index, kept in the cache"

NAMED_BY_PERSON = (CUDA_HOME, CUDA_PATH)


@dataclass(frozen=True)
class Header:
    """A header that torch's own CUDA headers include, and the packages that contain it."""

    path: str  # below an include folder, or below its `cccl` (CUDA 13 and newer)
    system_package: str  # apt's name without "-13-0"; conda's name is the same
    index_package: str  # of CUDA 13 and newer; older ones end in -cu12
    extra: str  # of the project cuda-toolkit on the package index


# ATen/cuda/CUDAContext.h and c10/util/complex.h include these, in torch 1.8.1 as in 2.14.1.
REQUIRED_HEADERS = (
    Header("cuda_runtime.h", "cuda-cudart-dev", "nvidia-cuda-runtime", "cudart"),
    Header("crt/host_config.h", "cuda-nvcc", "nvidia-cuda-crt", "crt"),
    Header("thrust/complex.h", "cuda-cccl", "nvidia-cuda-cccl", "cccl"),
    Header("cublas_v2.h", "libcublas-dev", "nvidia-cublas", "cublas"),
    Header("cusparse.h", "libcusparse-dev", "nvidia-cusparse", "cusparse"),
    Header("cusolverDn.h", "libcusolver-dev", "nvidia-cusolver", "cusolver"),
)
_HEADERS = {header.path: header for header in REQUIRED_HEADERS}
# The parts of nvcc. cuda-toolkit pins them to one version: an older ptxas rejects the PTX of a
# newer compiler.
COMPILER_EXTRAS = ("cccl", "crt", "cudart", "nvcc", "nvvm")
OLDEST_MAJOR_ON_INDEX = 13  # nvidia-cuda-nvcc-cu12 and -cu11 hold ptxas and no nvcc
ARCHIVE = "https://developer.nvidia.com/cuda-toolkit-archive"

# The last release of each CUDA that torch was built with, and the driver in the name of its
# runfile.
# Source: the toolkit archive; the names as spack's cuda package lists them (read 2026-11-28).
_RELEASES: Mapping[str, Tuple[str, str]] = {
    "10.2": ("10.2.89", "440.33.01"),
    "11.0": ("11.0.3", "450.51.06"),
    "11.1": ("11.1.1", "455.32.00"),
    "11.3": ("11.3.1", "465.19.01"),
    "11.5": ("11.5.2", "495.29.05"),
    "11.6": ("11.6.2", "510.47.03"),
    "11.7": ("11.7.1", "515.65.01"),
    "11.8": ("11.8.0", "520.61.05"),
    "12.1": ("12.1.1", "530.30.02"),
    "12.4": ("12.4.1", "550.54.15"),
    "12.6": ("12.6.3", "560.35.05"),
    "12.8": ("12.8.1", "570.124.06"),
    "12.9": ("12.9.1", "575.57.08"),
    "13.0": ("13.0.2", "580.95.05"),
}
OLDEST_CONDA_LABEL = (11, 3)  # nvidia/label/cuda-11.3.0 is the oldest with cuda-nvcc


@dataclass(frozen=True)
class ToolkitParts:
    """The folders from which a CUDA home is made, where no folder is one already; earlier ones have
    precedence."""

    programs: Path  # with nvcc and nvcc.profile
    nvvm: Path  # with bin/cicc
    includes: Tuple[Path, ...]
    libraries: Tuple[Path, ...]


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit whose nvcc runs."""

    home: Path
    version: str  # "13.0"
    # the architectures that its nvcc supports, "80"; empty where they are not known
    architectures: Tuple[str, ...] = ()
    origin: str = SYSTEM
    missing: Tuple[str, ...] = ()  # required headers that neither it nor the environment has
    completed: Tuple[str, ...] = ()  # required headers that the environment's packages add
    newest_gcc: Optional[int] = None  # major version, as crt/host_config.h says
    parts: Optional[ToolkitParts] = None  # None: `home` can be used as CUDA_HOME as it is


@dataclass(frozen=True)
class Unusable:
    """A place without a usable toolkit."""

    origin: str
    path: Path
    reason: str


Place = Union[Toolkit, Unusable]


@dataclass(frozen=True)
class ToolkitChoice:
    """The result of select_toolkit. No toolkit and no requirements: nothing here can compile for
    this torch."""

    toolkit: Optional[Toolkit]
    # requirements that pip has to fetch; empty where a toolkit was found, or none is available
    requirements: Tuple[str, ...] = ()
    rejected: Tuple[Unusable, ...] = ()


def select_toolkit(
    cuda: str,
    places: Sequence[Place],
    *,
    architectures: Sequence[str] = (),
    obtainable: Sequence[str] = (),
) -> ToolkitChoice:
    """The toolkit for torch's CUDA version ("13.0"), with the reason against each other one.

    In this order: the one named by the user, torch's own minor version, the order of `places`;
    torch itself rejects another major version. `architectures`: those to compile for ("80"); a
    toolkit that supports them is preferred. `obtainable`: the requirements that may be fetched
    where none fits.
    """
    rejected: List[Unusable] = []
    fitting: List[Toolkit] = []
    for place in places:
        reason = _reason_against(place, cuda)
        if isinstance(place, Toolkit) and not reason:
            fitting.append(place)
        else:
            path = place.home if isinstance(place, Toolkit) else place.path
            rejected.append(Unusable(place.origin, path, reason))
    if not fitting:
        return ToolkitChoice(None, tuple(obtainable), tuple(rejected))
    minor = minor_version(cuda)
    fitting.sort(key=lambda kit: (kit.origin not in NAMED_BY_PERSON, kit.version != minor))
    able = [
        kit
        for kit in fitting
        if not kit.architectures or set(architectures) <= set(kit.architectures)
    ]
    return ToolkitChoice((able or fitting)[0], (), tuple(rejected))


def _reason_against(place: Place, cuda: str) -> str:
    if isinstance(place, Unusable):
        return place.reason
    if major_version(place.version) != major_version(cuda):
        return f"CUDA {place.version}, torch needs CUDA {major_version(cuda)}"
    if place.missing:
        return f"CUDA {place.version} without {', '.join(place.missing)}"
    return ""


def describe_rejection(rejected: Unusable) -> str:
    """`/opt/cuda-12.4 (CUDA_HOME): CUDA 12.4, torch needs CUDA 13`."""
    return f"{rejected.path} ({rejected.origin}): {rejected.reason}"


def list_obtainable(environment: Environment, *, headers: Sequence[str]) -> Tuple[str, ...]:
    """The requirements that install a toolkit for this torch from the package index; empty where it
    has none.

    NVIDIA's own metapackage pins every part to one release, which torch's metadata names since
    2.12. `headers`: the required headers that packages of the environment have already.
    """
    torch = environment.torch
    if torch is None or torch.cuda is None or major_version(torch.cuda) < OLDEST_MAJOR_ON_INDEX:
        return ()
    if not environment.interpreter.platform.startswith("linux"):
        return ()
    extras = set(COMPILER_EXTRAS)
    extras.update(header.extra for header in REQUIRED_HEADERS if header.path not in headers)
    return (
        f"cuda-toolkit[{','.join(sorted(extras))}]=={_toolkit_release(environment, minor_version(torch.cuda))}",
    )


def find_planned_headers(environment: Environment) -> Tuple[str, ...]:
    """The required headers in the packages of a planned torch that is not unpacked yet; empty for
    one that is: then its packages are searched."""
    torch = environment.torch
    if torch is None or torch.cuda is None or torch.folder is not None:
        return ()
    major = major_version(torch.cuda)
    suffix = "" if major >= OLDEST_MAJOR_ON_INDEX else f"-cu{major}"
    found = [
        header.path
        for header in REQUIRED_HEADERS
        if f"{header.index_package}{suffix}" in environment.installed
    ]
    return tuple(found)


def complete_place(place: Place, headers: Sequence[str]) -> Place:
    """A toolkit with the headers that packages will add to it. Nothing is added to /usr, gcc's own
    folder."""
    if isinstance(place, Unusable) or str(place.home) == "/usr":
        return place
    missing = tuple(header for header in place.missing if header not in headers)
    return replace(place, missing=missing)


def _toolkit_release(environment: Environment, minor: str) -> str:
    installed = environment.installed.get("cuda-toolkit")  # type: ignore[call-overload]
    if installed is not None and minor_version(installed.version) == minor:
        return str(installed.version)
    return f"{minor}.*"


def check_one_release(versions: Mapping[str, str]) -> str:
    """Why compiler packages of these versions do not work together; "" where they do."""
    minors = {minor_version(version) for version in versions.values()}
    if len(minors) < 2:
        return ""
    return "of several releases: " + ", ".join(
        f"{name} {version}" for name, version in sorted(versions.items())
    )


# --- what to install ------------------------------------------------------------------------------


def render_toolkit_commands(cuda: str) -> str:
    """How to install the toolkit of this CUDA version: by apt, conda and the runfile, one line
    each."""
    minor = minor_version(cuda)
    dashed = minor.replace(".", "-")
    release, driver = _RELEASES.get(minor, ("", ""))
    lines = [
        f"  apt (NVIDIA's repository): apt-get install cuda-nvcc-{dashed} "
        f"cuda-libraries-dev-{dashed}"
    ]
    if release and _numbers(minor) >= OLDEST_CONDA_LABEL:
        lines.append(
            f"  conda: conda install -c nvidia/label/cuda-{release} cuda-nvcc cuda-libraries-dev"
        )
    if release:
        lines.append(f"  runfile: {_runfile(minor, release, driver)} (sh FILE --silent --toolkit)")
    else:
        lines.append(f"  runfile: {ARCHIVE}")
    return "\n".join(lines)


def _runfile(minor: str, release: str, driver: str) -> str:
    folder = f"{minor}/Prod" if _numbers(minor) < (11, 0) else release
    start = "https://developer.download.nvidia.com/compute/cuda"
    return f"{start}/{folder}/local_installers/cuda_{release}_{driver}_linux.run"


def render_header_commands(cuda: str, missing: Sequence[str]) -> str:
    """How to install the packages with these headers: by apt, conda and the package index, one line
    each."""
    minor = minor_version(cuda)
    headers = [_HEADERS[path] for path in missing]
    release = _RELEASES.get(minor, (f"{minor}.0", ""))[0]
    apt = " ".join(_apt_package(header, minor) for header in headers)
    conda = " ".join(header.system_package for header in headers)
    suffix = "" if major_version(minor) >= OLDEST_MAJOR_ON_INDEX else f"-cu{major_version(minor)}"
    index = " ".join(f"{header.index_package}{suffix}" for header in headers)
    lines = [f"  apt (NVIDIA's repository): apt-get install {apt}"]
    if _numbers(minor) >= OLDEST_CONDA_LABEL:
        lines.append(f"  conda: conda install -c nvidia/label/cuda-{release} {conda}")
    if _numbers(minor) >= (11, 7):  # the oldest on the package index
        lines.append(f"  package index, into the environment: {index}")
    return "\n".join(lines)


def _apt_package(header: Header, minor: str) -> str:
    stem = header.system_package if _numbers(minor) >= (11, 0) else "cuda-libraries-dev"
    return f"{stem}-{minor.replace('.', '-')}"


# --- the output of nvcc, and its headers ----------------------------------------------------------


@dataclass(frozen=True)
class NvccFolders:
    """The folders that an nvcc uses, by `nvcc -v`, whatever wrapper or link starts it."""

    top: Path
    programs: Path
    includes: Tuple[Path, ...]
    libraries: Tuple[Path, ...]
    cicc: Optional[Path]


def parse_nvcc_folders(text: str) -> Optional[NvccFolders]:
    """Read the `#$ NAME=value` lines of `nvcc -v`; None when there are none."""
    values = dict(re.findall(r"^#\$ (\w+)=(.*)$", text, re.MULTILINE))
    if "TOP" not in values or "_HERE_" not in values:
        return None
    includes = _paths(values.get("INCLUDES", ""), "-I")
    libraries = [path for path in _paths(values.get("LIBRARIES", ""), "-L") if path.name != "stubs"]
    cicc = values.get("CICC_PATH", "").strip()
    return NvccFolders(
        Path(values["TOP"].strip()),
        Path(values["_HERE_"].strip()),
        tuple(includes),
        tuple(libraries),
        Path(cicc) if cicc else None,
    )


def _paths(text: str, option: str) -> List[Path]:
    return [Path(path) for path in re.findall(rf"{option}([^\"\s]+)", text)]


def parse_release(text: str) -> Optional[str]:
    """`13.0` of what `nvcc --version` prints."""
    found = re.search(r"release (\d+\.\d+)", text)
    return found.group(1) if found else None


def parse_architectures_of_nvcc(text: str) -> Tuple[str, ...]:
    """`80`, `90` ... of what `nvcc --list-gpu-arch` prints."""
    return tuple(re.findall(r"compute_(\d+)\b", text))


def parse_newest_gcc(host_config: str) -> Optional[int]:
    """The newest gcc that crt/host_config.h accepts, by its major version."""
    found = re.search(r"gcc versions later than (\d+)", host_config)
    return int(found.group(1)) if found else None


def major_version(version: str) -> int:
    """13 of `13.0`."""
    return _numbers(version)[0]


def minor_version(version: str) -> str:
    """`13.0` of `13.0.88`."""
    return ".".join(version.split(".")[:2])


def _numbers(version: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)) or (0,)

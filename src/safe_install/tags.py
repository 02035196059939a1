"""Accelerator tags, local version identifiers, compute capabilities, and wheel tags. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple

from packaging import tags as packaging_tags
from packaging.tags import Tag
from packaging.version import InvalidVersion, Version

# --- accelerators ---------------------------------------------------------------------------------

_CUDA = re.compile(r"cu(?:da)?[._-]?(\d{1,2}\.\d{1,2}|\d{2,4})$")
_ROCM = re.compile(r"rocm[._-]?(\d+(?:\.\d+)*)$")
_PLAIN = ("cpu", "xpu")


class Accelerator(NamedTuple):
    """The accelerator of a build."""

    kind: str  # "cuda", "rocm", "cpu", "xpu"
    version: Tuple[int, ...] = ()  # (11, 1), (12,), ()

    @property
    def major_only(self) -> bool:
        """Is it any minor version of one major version of CUDA, as `cu12`?"""
        return self.kind == "cuda" and len(self.version) == 1

    def __str__(self) -> str:
        """The tag as download.pytorch.org writes it: `cu111`, `cu12`, `rocm6.2`, `cpu`."""
        if self.kind == "cuda":
            return "cu" + "".join(str(part) for part in self.version)
        return self.kind + ".".join(str(part) for part in self.version)


@lru_cache(maxsize=1024)
def parse_accelerator(text: str) -> Optional[Accelerator]:
    """Parse `cu111`, `cu.12.8`, `cu12` (major only), `cpu`, `rocm6.2` or `xpu`; None for other
    texts."""
    text = text.strip().lower()
    if text in _PLAIN:
        return Accelerator(text)
    found = _CUDA.match(text)
    if found:
        return Accelerator("cuda", _cuda_version(found.group(1)))
    found = _ROCM.match(text)
    if found:
        return Accelerator("rocm", tuple(int(part) for part in found.group(1).split(".")))
    return None


def _cuda_version(digits: str) -> Tuple[int, ...]:
    if "." in digits:
        major, minor = digits.split(".")
        return int(major), int(minor)
    if len(digits) == 2:
        # cu92 is 9.2; from CUDA 10 on two digits are a major version alone.
        return (int(digits),) if digits[0] in "123456" else (int(digits[0]), int(digits[1]))
    return int(digits[:2]), int(digits[2:])


def accelerator_of_cuda(cuda: str) -> str:
    """`"11.1"` or `"11.1.105"` -> `cu111`; a bare `"12"` -> `cu12`."""
    return "cu" + "".join(cuda.split(".")[:2])


def cuda_of_accelerator(accelerator: str) -> Optional[str]:
    """`cu111` -> `"11.1"`, `cu12` -> `"12"`; None for other accelerators."""
    parsed = parse_accelerator(accelerator)
    if parsed is None or parsed.kind != "cuda":
        return None
    return ".".join(str(part) for part in parsed.version)


def is_same_major(one: str, other: str) -> bool:
    """Are both tags CUDA of one major version (`cu12` and `cu126`), or the same?"""
    left, right = parse_accelerator(one), parse_accelerator(other)
    if left is None or right is None or left.kind != right.kind:
        return False
    return left == right or (left.kind == "cuda" and left.version[:1] == right.version[:1])


@lru_cache(maxsize=4096)
def parse_release(text: str) -> Optional[Version]:
    """A version without its local part; None for a text that is not a version, as distributions and
    vendors write them."""
    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return None


def split_local(version: str) -> Tuple[str, Optional[str]]:
    """`"1.8.1+cu111"` -> (`"1.8.1"`, `"cu111"`), `"1.8.1"` -> (`"1.8.1"`, None)."""
    public, plus, local = version.partition("+")
    return public, (local if plus else None)


def accelerator_of_version(version: str) -> Optional[str]:
    """The accelerator in a version of torch: `1.8.1+cu111` -> `cu111`; None if there is none."""
    parsed = parse_accelerator((split_local(version)[1] or "").partition(".cxx11")[0])
    return None if parsed is None else str(parsed)


# --- compute capabilities -------------------------------------------------------------------------


_CAPABILITY = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?([af]?)(\+PTX)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, order=True)
class ComputeCapability:
    """The compute capability of a device (8.6), or of GPU code (9.0a, 10.0f, 8.0+PTX)."""

    major: int
    minor: int
    suffix: str = ""  # "a": features of one architecture; "f": features of an architecture family
    ptx: bool = False  # PTX, which the driver compiles; else machine code

    def runs_on(self, device: ComputeCapability) -> bool:
        """Does code for this capability run on a device?

        Architecture-specific code ("a") runs on exactly its own capability. Family-specific code
        ("f") and other machine code run on the same major version from their minor version on.
        Other PTX runs on every newer device. Source: CUDA Programming Guide, 5.1.2 (feature set
        compiler targets, family-specific compatibility).
        """
        own, other = (self.major, self.minor), (device.major, device.minor)
        if self.suffix == "a":
            return own == other
        if self.ptx and not self.suffix:
            return own <= other
        return self.major == device.major and self.minor <= device.minor

    @property
    def sm(self) -> str:
        """nvcc's name of the architecture: `sm_90a`."""
        return f"sm_{self.major}{self.minor}{self.suffix}"

    def __str__(self) -> str:
        """`9.0a`, `8.0+PTX`."""
        return f"{self.major}.{self.minor}{self.suffix}{'+PTX' if self.ptx else ''}"


def parse_capability(text: str) -> Optional[ComputeCapability]:
    """Parse `8.0`, `9.0a`, `10.0f`, or one with `+PTX` as in TORCH_CUDA_ARCH_LIST; None for other
    texts, such as `Ampere`.

    In TORCH_CUDA_ARCH_LIST `8.0+PTX` means machine code and PTX. The PTX alone is enough here: it
    runs wherever the machine code does.
    """
    found = _CAPABILITY.fullmatch(text.strip())
    if found is None:
        return None
    major, minor, suffix, ptx = found.groups()
    return ComputeCapability(int(major), int(minor or 0), suffix.lower(), ptx is not None)


def parse_device_capabilities(texts: Iterable[str]) -> Tuple[ComputeCapability, ...]:
    """Parse the compute capabilities of several devices, each once; other texts are left out."""
    found = [parse_capability(text) for text in texts]
    return tuple(dict.fromkeys(one for one in found if one is not None))


# --- NVIDIA's containers --------------------------------------------------------------------------

# The torch of a wheel that was built for a container and not for a release of torch: "nv25.04".
_CONTAINER_NAME = re.compile(r"nv(\d{2}\.\d{2})$", re.ASCII)
# PEP 440 drops leading zeros: nv25.05 is nv25.5 in METADATA.
_CONTAINER_VERSION = re.compile(r"(?:^|\.)nv(\d{2})\.(\d{1,2})(?:\.|$)", re.ASCII)
# Source: the names of published wheels, which have cu12 up to 25.06, and cu13 from 25.08 on.
_FIRST_CONTAINER_WITH_CUDA_13 = (25, 8)


def container_of_version(version: str) -> Optional[str]:
    """The release of NVIDIA's container with this version of torch: `2.7.0a0+79aa17489c.nv25.04` ->
    `25.04`; None for other versions."""
    found = _CONTAINER_VERSION.search(split_local(version)[1] or "")
    return f"{found.group(1)}.{int(found.group(2)):02d}" if found else None


def container_of_name(torch: str) -> Optional[str]:
    """The release of NVIDIA's container in the torch of a wheel: `nv25.04` -> `25.04`; None for a
    release of torch."""
    found = _CONTAINER_NAME.match(torch)
    return found.group(1) if found else None


def accelerator_of_container(container: str) -> str:
    """The accelerator of a container's torch, by CUDA's major version: `25.04` -> `cu12`."""
    year, month = (int(part) for part in container.split("."))
    return "cu13" if (year, month) >= _FIRST_CONTAINER_WITH_CUDA_13 else "cu12"


# --- wheel tags -----------------------------------------------------------------------------------

# Where glibc is not known, every manylinux up to this one is accepted; torch has no newer ones.
NEWEST_GLIBC = (2, 44)
_LEGACY_MANYLINUX = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLD_ARCHITECTURES = ("x86_64", "i686")


def supported_tags(
    python_version: str,
    implementation: str,
    platform: str,
    libc: Tuple[str, str],
    abiflags: str = "",
) -> Tuple[Tag, ...]:
    """The wheel tags that an interpreter supports, best first. They are made from facts about it,
    not from the running process.

    `python_version`: "3.11.7" or "3.11". `platform`: of sysconfig, with underscores
    ("linux_x86_64", "macosx_14_0_arm64", "win_amd64"). `libc`: ("glibc", "2.36"), ("musl", "1.2"),
    or ("", "") where it is not known; then every manylinux is accepted. `abiflags`: "t" for a
    free-threaded build.
    """
    major, minor = (int(part) for part in python_version.split(".")[:2])
    platforms = supported_platforms(platform, libc)
    short_name = {"cpython": "cp", "pypy": "pp"}.get(implementation, implementation)
    interpreter = f"{short_name}{major}{minor}"
    found: List[Tag] = []
    if implementation == "cpython":
        abi = f"cp{major}{minor}{_abi_suffix((major, minor), abiflags)}"
        found.extend(packaging_tags.cpython_tags((major, minor), [abi], platforms, warn=False))
    found.extend(packaging_tags.compatible_tags((major, minor), interpreter, platforms))
    return tuple(dict.fromkeys(found))


def _abi_suffix(version: Tuple[int, int], abiflags: str) -> str:
    if version < (3, 8):
        return "m"
    return "t" if "t" in abiflags else ""


def supported_platforms(platform: str, libc: Tuple[str, str]) -> List[str]:
    """The platform tags for a platform and its libc (see `supported_tags`), best first."""
    platform = platform.replace("-", "_").replace(".", "_")
    if platform.startswith("linux_"):
        return list(_linux_platforms(platform[len("linux_") :], libc))
    found = re.match(r"macosx_(\d+)_(\d+)_(\w+)$", platform)
    if found:
        version = (int(found.group(1)), int(found.group(2)))
        return list(packaging_tags.mac_platforms(version, found.group(3)))
    return [platform]


def _linux_platforms(architecture: str, libc: Tuple[str, str]) -> Iterator[str]:
    family, version = libc[0], _version_pair(libc[1])
    if family == "musl":
        for minor in range((version or (1, 2))[1], -1, -1):
            yield f"musllinux_1_{minor}_{architecture}"
    else:
        newest = version or NEWEST_GLIBC
        oldest = 5 if architecture in _OLD_ARCHITECTURES else 17
        for minor in range(newest[1], oldest - 1, -1):
            yield f"manylinux_2_{minor}_{architecture}"
            legacy = _LEGACY_MANYLINUX.get((2, minor))
            if legacy:
                yield f"{legacy}_{architecture}"
    yield f"linux_{architecture}"


def _version_pair(text: str) -> Optional[Tuple[int, int]]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None

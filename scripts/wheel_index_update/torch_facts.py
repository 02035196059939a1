"""What one page, one METADATA, one torch/version.py or the build matrix says of torch. Pure.

What a text does not say is None or missing, never a guess.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from safe_install.environment.probe_answer import accelerator_of_torch
from safe_install.index.facts import TorchTable
from safe_install.index.filename import WheelName, parse_filename
from safe_install.models import Link
from safe_install.tags import accelerator_of_cuda, accelerator_of_version, parse_accelerator
from wheel_index_update.links import can_be, is_real_accelerator

# Machines with Linux of which the accelerators are written down.
MACHINES = ("x86_64", "aarch64")
_PYTHON = re.compile(r"cp(3)(\d{1,2})$", re.ASCII)
_FREE_THREADED = re.compile(r"cp3\d{1,2}t$", re.ASCII)
_PLAIN_RELEASE = re.compile(r"\d+\.\d+\.\d+$", re.ASCII)
# The packages with the CUDA runtime, whose version is that of CUDA. Up to torch 2.10
# nvidia-cuda-runtime-cu12 (nvidia-cuda-runtime in builds for CUDA 13); from 2.11 on cuda-toolkit.
_RUNTIME = re.compile(r"(nvidia-cuda-runtime(-cu\d\d)?|cuda-toolkit)$", re.ASCII)
_CUDA = re.compile(r"\d{1,2}\.\d{1,2}(\.\d+)*$", re.ASCII)


@dataclass(frozen=True)
class TorchWheel:
    """A wheel of a release of torch for Linux, by its name."""

    release: str  # "2.13.0"
    accelerator: Optional[str]  # of its local version; None where it has none
    machine: str  # "x86_64"
    python: str  # "3.13"; "" for a free-threaded one, which serves no other Python
    link: Link


def read_wheels(links: Iterable[Link]) -> Iterator[TorchWheel]:
    """The wheels of final releases for Linux that links name; what is none is passed over."""
    for link in links:
        name = parse_filename(link.filename) if link.filename.endswith(".whl") else None
        if name is None or name.project != "torch" or link.yanked is not None:
            continue
        version, machine = name.parsed_version, _machine_of(name)
        is_final = not version.is_prerelease and not version.is_postrelease and can_be(version)
        if not machine or not is_final or not _PLAIN_RELEASE.match(version.public):
            continue
        accelerator = accelerator_of_version(str(version))
        if version.local is not None and version.local != accelerator:
            continue  # "cpu.cxx11.abi" is another build than that for the CPU
        yield TorchWheel(version.public, accelerator, machine, _python_of(name), link)


def _machine_of(name: WheelName) -> str:
    platform = name.platform
    if not platform.startswith(("linux_", "manylinux")):
        return ""
    return next((machine for machine in MACHINES if platform.endswith(f"_{machine}")), "")


def _python_of(name: WheelName) -> str:
    found = _PYTHON.match(name.python)
    if found is None or _FREE_THREADED.match(name.abi):
        return ""
    return f"3.{int(found.group(2))}"


@dataclass(frozen=True)
class IndexRelease:
    """What the package index has of one release."""

    python: Tuple[str, ...]  # of the wheels for x86_64, oldest first
    # by machine: the wheel that is asked what it was built for, of the newest Python
    wheels: Mapping[str, Link] = field(default_factory=dict)


def read_index_releases(links: Iterable[Link]) -> Dict[str, IndexRelease]:
    """The releases that the page of the package index lists; their names have no local version."""
    pythons: Dict[str, List[str]] = {}
    newest: Dict[Tuple[str, str], Tuple[Tuple[int, ...], Link]] = {}
    for wheel in read_wheels(links):
        if wheel.accelerator is not None:
            continue
        found = pythons.setdefault(wheel.release, [])
        if wheel.machine == "x86_64" and wheel.python and wheel.python not in found:
            found.append(wheel.python)
        key, order = (wheel.release, wheel.machine), python_order(wheel.python)
        if key not in newest or order > newest[key][0]:
            newest[key] = order, wheel.link
    return {
        release: IndexRelease(
            tuple(sorted(found, key=python_order)),
            {
                machine: newest[release, machine][1]
                for machine in MACHINES
                if (release, machine) in newest
            },
        )
        for release, found in pythons.items()
    }


def python_order(python: str) -> Tuple[int, ...]:
    """`3.9` before `3.10`; what is none comes first."""
    return tuple(int(part) for part in python.split(".") if part.isdigit())


# release -> the Pythons of its wheels for one accelerator, for Linux on one machine
Builds = Mapping[str, Tuple[str, ...]]


def read_builds(
    links: Iterable[Link], accelerator: str, machine: str = "x86_64"
) -> Dict[str, Tuple[str, ...]]:
    """The releases that have a build for an accelerator, by the names on its page."""
    found: Dict[str, Tuple[str, ...]] = {}
    for wheel in read_wheels(links):
        if wheel.accelerator == accelerator and wheel.machine == machine:
            pythons = {*found.get(wheel.release, ()), *([wheel.python] if wheel.python else [])}
            found[wheel.release] = tuple(sorted(pythons, key=python_order))
    return found


def read_accelerators(links: Iterable[Link], table: TorchTable) -> List[str]:
    """The accelerators that the page of all builds names: CPU, then CUDA from old to new. Those
    of other kinds (ROCm, XPU) are not written down."""
    found = {wheel.accelerator for wheel in read_wheels(links) if wheel.accelerator}
    return sort_accelerators(one for one in found if is_written_down(one, table))


def is_written_down(accelerator: str, table: TorchTable) -> bool:
    """Is it of a kind that torch.json lists, and one that can be?"""
    parsed = parse_accelerator(accelerator)
    if parsed is None or parsed.kind not in ("cpu", "cuda") or parsed.major_only:
        return False
    return is_real_accelerator(accelerator, table)


def sort_accelerators(accelerators: Iterable[str]) -> List[str]:
    """CPU, then CUDA from old to new."""

    def order(text: str) -> Tuple[int, ...]:
        parsed = parse_accelerator(text)
        return parsed.version if parsed is not None else ()

    return sorted(set(accelerators), key=order)


# --- what the build on the package index is for ---------------------------------------------------


def accelerator_of_requirements(
    requires: Iterable[str], machine: str, python: str
) -> Optional[str]:
    """The CUDA whose runtime a METADATA requires on a machine; None where it requires none: the
    build may be for the CPU, or have the libraries of CUDA in itself (torch up to 1.12)."""
    found = set()
    for line in requires:
        version = _runtime_version(line, machine, python)
        if version:
            found.add(accelerator_of_cuda(version))
    return found.pop() if len(found) == 1 else None


def _runtime_version(line: str, machine: str, python: str) -> str:
    environment = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": machine,
        "extra": "",
    }
    if python:
        environment.update(python_version=python, python_full_version=f"{python}.0")
    try:
        requirement = Requirement(line[:1000])
        applies = requirement.marker is None or requirement.marker.evaluate(environment)
    except ValueError:  # no requirement, or a marker that cannot be compared
        return ""
    pins = [one.version for one in requirement.specifier if one.operator == "=="]
    if not applies or len(pins) != 1 or not _RUNTIME.match(canonicalize_name(requirement.name)):
        return ""
    return pins[0] if _CUDA.match(pins[0]) else ""


def accelerator_of_version_file(text: str, release: str) -> Optional[str]:
    """What the torch/version.py of a wheel says; None where it is of another release, or no such
    file."""
    # typed for Python 3.6: not at all
    script: Any = importlib.import_module("safe_install.environment.script")
    try:
        constants = script.constants_in(text)
    except (RecursionError, MemoryError):
        return None
    version = constants.get("__version__")
    if not isinstance(version, str) or version.partition("+")[0] != release:
        return None
    cuda, hip = constants.get("cuda"), constants.get("hip")
    if not all(value is None or isinstance(value, str) for value in (cuda, hip)):
        return None
    if "cuda" not in constants:
        return None
    return accelerator_of_torch(version, cuda, hip)


# --- the build matrix -----------------------------------------------------------------------------


@dataclass(frozen=True)
class BuildMatrix:
    """What pytorch/test-infra builds of the current release."""

    release: str
    accelerators: Tuple[str, ...]  # for Linux on x86_64
    accelerators_aarch64: Tuple[str, ...] = ()  # empty: it does not say


def read_matrix(text: str, table: TorchTable) -> Optional[BuildMatrix]:
    """The matrix in test-infra's tools/scripts/generate_binary_build_matrix.py, parsed and not run;
    None where it cannot be read."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    constants: Dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except (ValueError, TypeError, RecursionError, MemoryError):
                continue
    release, by_channel = (
        constants.get("CURRENT_STABLE_VERSION"),
        constants.get("CUDA_ARCHES_DICT"),
    )
    cuda = by_channel.get("release") if isinstance(by_channel, dict) else None
    if not isinstance(release, str) or not _PLAIN_RELEASE.match(release):
        return None
    if not isinstance(cuda, list) or not all(isinstance(one, str) for one in cuda):
        return None
    return BuildMatrix(
        release,
        _accelerators_of(cuda, table),
        _accelerators_of(_cuda_of_aarch64(constants, cuda), table),
    )


def _cuda_of_aarch64(constants: Mapping[str, Any], released: List[str]) -> List[str]:
    """The CUDAs of the release for aarch64. Their list has no channels: what is not released for
    x86_64 is the nightlies'."""
    listed = constants.get("CUDA_AARCH64_ARCHES")
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        return []
    names = [one.partition("-")[0] for one in listed]
    return [one for one in names if one in released]


def _accelerators_of(cuda: List[str], table: TorchTable) -> Tuple[str, ...]:
    if not cuda:
        return ()
    names = ["cpu", *(accelerator_of_cuda(one) for one in cuda if _CUDA.match(one))]
    return tuple(sort_accelerators(one for one in names if is_written_down(one, table)))

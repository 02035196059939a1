"""Which builds of torch may come on which machine, as tables of the wheel page.

The order of the builds is that of the program's own `rank_torches`. A person may type any driver, and what follows from
it changes at a few versions only, the steps: those that a build of torch needs, and those that came with a CUDA. All
that follows is computed here for each step, so that the page's script compares one version with the steps, and selects.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.version import Version

from safe_install.environment.driver import declared_driver
from safe_install.index.catalog import bundled_catalog
from safe_install.index.facts import GpuCode
from safe_install.models import Driver, Environment
from safe_install.resolve.target import environment_for, parse_platform
from safe_install.resolve.torch_ranking import Exclusion, TorchOption, TorchTerms, rank_torches
from safe_install.tags import cuda_of_accelerator, parse_capability

# Compute capabilities, each with devices that have it. Source: developer.nvidia.com/cuda-gpus
GPUS: Tuple[Tuple[str, str], ...] = (
    ("3.5", "Tesla K40"),
    ("3.7", "Tesla K80"),
    ("5.0", "GTX 750"),
    ("5.2", "GTX 980, Tesla M40"),
    ("6.0", "Tesla P100"),
    ("6.1", "GTX 1080, Tesla P40"),
    ("7.0", "V100"),
    ("7.5", "T4, RTX 2080"),
    ("8.0", "A100"),
    ("8.6", "RTX 3090, A10, A40"),
    ("8.7", "Jetson Orin"),
    ("8.9", "RTX 4090, L4, L40"),
    ("9.0", "H100, H200"),
    ("10.0", "B200"),
    ("10.3", "B300"),
    ("11.0", "Jetson Thor"),
    ("12.0", "RTX 5090"),
    ("12.1", "DGX Spark"),
)
_SYSTEMS = ("linux", "windows")
# Every release of torch has wheels for one of these, so that what else speaks against a build is seen.
_PYTHONS = ("3.11", "3.8")


class Build(NamedTuple):
    """One build of torch on one platform."""

    release: str  # "2.13.0"
    accelerator: str  # "" where it is not known
    is_on_index: bool
    reason: str  # why there is none for the platform: "has no build for cu126"; "" where there is one
    code: Optional[GpuCode]  # None where it is not known, or it has none


@functools.lru_cache(maxsize=None)
def driver_steps() -> Tuple[str, ...]:
    """The versions of drivers at which an answer changes, oldest first."""
    table = bundled_catalog().cuda
    pairs = [*table.floors.values(), *table.majors.values()]
    pairs += [(release.linux, release.windows) for release in table.releases]
    found = {version for pair in pairs for version in pair if version}
    return tuple(sorted(found, key=Version))


def declared(version: Optional[str], gpu: str = "") -> Optional[Driver]:
    """What a person declares with --target-driver and --target-gpu."""
    cuda = bundled_catalog().cuda.cuda_of_driver(version) if version else None
    return declared_driver(version=version, cuda=cuda, capabilities=(gpu,) if gpu else ())


def _drivers() -> List[Driver]:
    """One that is older than every step, and one for each step."""
    found = [declared(version) for version in ("0", *driver_steps())]
    return [driver for driver in found if driver is not None]


def served_cuda() -> List[List[str]]:
    """For each system the newest CUDA that a driver serves fully, by its number of steps; "" for none."""
    table = bundled_catalog().cuda
    versions = [driver.version or "" for driver in _drivers()]
    return [[table.cuda_of_driver(version, system=system) or "" for version in versions] for system in _SYSTEMS]


def driver_floors(accelerators: Iterable[str]) -> Dict[str, List[int]]:
    """By accelerator and system, how many steps a driver must have reached for it."""
    found = {}
    for accelerator in accelerators:
        steps = [_steps_needed(accelerator, system) for system in _SYSTEMS]
        if any(steps):
            found[accelerator] = steps
    return found


def _steps_needed(accelerator: str, system: str) -> int:
    table = bundled_catalog().cuda
    return sum(table.is_too_old(driver, accelerator, system=system) for driver in _drivers())


def served_gpus(code: GpuCode) -> List[str]:
    """The compute capabilities of GPUS on which it runs."""
    known = {text: parse_capability(text) for text, _ in GPUS}
    return [text for text, device in known.items() if device is not None and code.runs_on(device)]


class Orders(NamedTuple):
    """The builds for one platform, in order of preference."""

    undeclared: List[Build]  # neither a driver nor a GPU is declared
    gpu_only: List[Build]  # a GPU is declared, and no driver
    by_driver: List[List[Build]]  # by the number of steps that the driver has reached
    by_accelerator: Mapping[str, List[Build]]  # that was asked for


@functools.lru_cache(maxsize=None)
def orders_of(platform: str, accelerators: Tuple[str, ...]) -> Orders:
    """By a platform tag, and the accelerators that a person may ask for."""
    reasons = _missing_builds(platform, accelerators)

    def order(driver: Optional[Driver], accelerator: str = "") -> List[Build]:
        options = _ranked(platform, driver, accelerator)
        builds = [_build_of(option, parse_platform(platform)[0], reasons) for option in options]
        # Of those that were asked for, and that there are not, the release's own build says enough.
        return [build for build in builds if build.is_on_index or not build.reason]

    undeclared = order(None)
    if platform.startswith("macosx"):  # it has one build of each release
        by_driver = [undeclared for _ in _drivers()]
        return Orders(undeclared, undeclared, by_driver, dict.fromkeys(accelerators, undeclared))
    by_cuda: Dict[int, List[Build]] = {}
    for driver in _drivers():
        if _count_served(driver, accelerators) not in by_cuda:
            by_cuda[_count_served(driver, accelerators)] = order(driver)
    return Orders(
        undeclared,
        gpu_only=order(declared(None, GPUS[-1][0])),
        by_driver=[by_cuda[_count_served(driver, accelerators)] for driver in _drivers()],
        by_accelerator={accelerator: order(None, accelerator) for accelerator in accelerators},
    )


def _count_served(driver: Driver, accelerators: Sequence[str]) -> int:
    """How many CUDAs, of those that there is a torch for, a driver serves fully. The order depends on that."""
    cudas = filter(None, map(cuda_of_accelerator, accelerators))
    return sum(driver.cuda is not None and Version(cuda) <= Version(driver.cuda) for cuda in cudas)


def _missing_builds(platform: str, accelerators: Sequence[str]) -> Dict[str, str]:
    """By version, why there is no build of it for the platform."""
    found: Dict[str, str] = {}
    newest = declared(driver_steps()[-1])
    for python in _PYTHONS:
        options = list(_ranked(platform, newest, python=python))
        for accelerator in accelerators:
            options += _ranked(platform, None, accelerator, python=python)
        for option in options:
            if option.excluded in (Exclusion.PLATFORM, Exclusion.BUILD):
                found[option.version] = option.reason[len(f"torch {option.release} ") :]
    return found


def _ranked(
    platform: str, driver: Optional[Driver], accelerator: str = "", *, python: str = _PYTHONS[0]
) -> Sequence[TorchOption]:
    here = replace(_machine(platform, python), driver=driver)
    return rank_torches(None, TorchTerms(accelerator=accelerator), here, bundled_catalog())


@functools.lru_cache(maxsize=None)
def _machine(platform: str, python: str) -> Environment:
    return environment_for(
        torch=None, python_version=python, platform=platform, torch_table=bundled_catalog().torch
    )


def _build_of(option: TorchOption, machine: str, reasons: Mapping[str, str]) -> Build:
    build = option.build
    code = None
    if build.cuda is not None:
        code = bundled_catalog().torch.gpu_code_of(build.version, build.accelerator, platform=machine)
    return Build(
        option.release, build.accelerator, option.is_on_index, reasons.get(option.version, ""), code
    )


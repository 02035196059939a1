"""Which builds of torch may come on which machine, as tables of the wheel page.

The order of the builds is that of the program's own `rank_torches`. A person may type any driver,
and what follows from it changes at a few versions only, the steps: those that a build of torch
needs, and those that came with a CUDA. All that follows is computed here for each step, so that the
page's script compares one version with the steps, and selects.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from packaging.utils import NormalizedName
from packaging.version import Version

from safe_install.environment.driver import declared_driver
from safe_install.index.catalog import bundled_catalog, torch_table
from safe_install.index.facts import Catalog, CudaTable, Project, TorchRelease, TorchTable
from safe_install.models import Driver
from safe_install.resolve.target import environment_for
from safe_install.resolve.torch_fit import Code, ToolkitLimits, toolkit_limits
from safe_install.resolve.torch_ranking import Exclusion, TorchOption, TorchTerms, rank_torches
from safe_install.tags import cuda_of_accelerator, parse_accelerator, parse_capability
from wheel_page_table import Table

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
_PYTHON = "3.11"


class TorchEntry(NamedTuple):
    """One build of torch on one platform."""

    release: str  # "2.13.0"
    accelerator: str  # "" where it is not known
    is_on_index: bool
    # why there is none for the platform: "has no build for cu126"; "" where there is one
    reason: str
    code: Optional[Code]  # None where nothing is known of it, or it has none


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
    """For each system the newest CUDA that a driver serves fully, by its number of steps; "" for
    none."""
    table = bundled_catalog().cuda
    versions = [driver.version or "" for driver in _drivers()]
    return [
        [table.cuda_of_driver(version, system=system) or "" for version in versions]
        for system in _SYSTEMS
    ]


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


def served_gpus(code: Code) -> List[str]:
    """The compute capabilities of GPUS on which it runs."""
    known = {text: parse_capability(text) for text, _ in GPUS}
    return [text for text, device in known.items() if device is not None and code.runs_on(device)]


class Orders(NamedTuple):
    """The builds for one platform, in order of preference."""

    undeclared: List[TorchEntry]  # neither a driver nor a GPU is declared
    gpu_only: List[TorchEntry]  # a GPU is declared, and no driver
    by_driver: List[List[TorchEntry]]  # by the number of steps that the driver has reached
    by_accelerator: Mapping[str, List[TorchEntry]]  # that was asked for


class _ForAnyPython:
    """What is known, as if each release of torch had wheels for this Python: which has one, the
    page's script sees."""

    def __init__(self, catalog: Catalog) -> None:
        releases = {
            name: replace(release, python=(_PYTHON,))
            for name, release in catalog.torch.releases.items()
        }
        self.projects: FrozenSet[NormalizedName] = catalog.projects
        self.project: Callable[[str], Project] = catalog.project
        self.torch: TorchTable = replace(catalog.torch, releases=releases)
        self.cuda: CudaTable = catalog.cuda


@functools.lru_cache(maxsize=None)
def orders_of(platform: str, accelerators: Tuple[str, ...]) -> Orders:
    """By a platform tag, and the accelerators that a person may ask for."""
    catalog = _ForAnyPython(bundled_catalog())
    machine = environment_for(
        torch=None, python_version=_PYTHON, platform=platform, torch_table=catalog.torch
    )

    def order(driver: Optional[Driver], accelerator: str = "") -> List[TorchEntry]:
        options = rank_torches(
            None, TorchTerms(accelerator=accelerator), replace(machine, driver=driver), catalog
        )
        # Of builds that were asked for and do not exist, the release's own build says enough.
        there = [one for one in options if one.is_on_index or one.excluded is not Exclusion.BUILD]
        return [_entry_of(option, machine.interpreter.platform) for option in there]

    undeclared = order(None)
    if platform.startswith("macosx"):  # it has one build of each release
        by_driver = [undeclared for _ in _drivers()]
        return Orders(undeclared, undeclared, by_driver, dict.fromkeys(accelerators, undeclared))
    by_count: Dict[int, List[TorchEntry]] = {}
    for driver in _drivers():
        if _count_served(driver, accelerators) not in by_count:
            by_count[_count_served(driver, accelerators)] = order(driver)
    return Orders(
        undeclared,
        gpu_only=order(declared(None, GPUS[-1][0])),
        by_driver=[by_count[_count_served(driver, accelerators)] for driver in _drivers()],
        by_accelerator={accelerator: order(None, accelerator) for accelerator in accelerators},
    )


def _count_served(driver: Driver, accelerators: Sequence[str]) -> int:
    """How many CUDAs, of those that there is a torch for, a driver serves fully. The order depends
    on that."""
    cudas = filter(None, map(cuda_of_accelerator, accelerators))
    return sum(driver.cuda is not None and Version(cuda) <= Version(driver.cuda) for cuda in cudas)


def _entry_of(option: TorchOption, machine: str) -> TorchEntry:
    build = option.build
    reason, code = "", None
    if option.excluded in (Exclusion.PLATFORM, Exclusion.BUILD) and option.reason is not None:
        reason = option.reason.text
    if build.cuda is not None:
        table = bundled_catalog().torch
        known = table.gpu_code_of(build.version, build.accelerator, platform=machine)
        code = known or toolkit_limits(build.accelerator)
    return TorchEntry(option.release, build.accelerator, option.is_on_index, reason, code)


# --- for the page ---------------------------------------------------------------------------------


def tabulate_torches(
    platforms: Mapping[str, str],
    releases: Sequence[str],
    *,
    needing_drivers: Iterable[str],
    asked_for: Sequence[str],
    texts: Table,
    codes: Table,
) -> Dict[str, Any]:
    """All of it as JSON values.

    `platforms`: platform tags by the page's name; `releases` of torch, in the page's order;
    `needing_drivers`: the accelerators whose drivers may be asked about; `asked_for`: those for
    which a torch may be asked for. Orders are numbers in `texts`, whose texts are numbers of
    builds: [release, accelerator, is on the index, why there is none, number in `codes` or -1].
    """
    builds = Table()

    def number(order: Sequence[TorchEntry]) -> int:
        numbers = []
        for entry in order:
            row = [
                releases.index(entry.release),
                entry.accelerator,
                int(entry.is_on_index),
                entry.reason,
            ]
            numbers.append(builds.number([*row, code_number(entry.code, codes)]))
        return texts.number(" ".join(map(str, numbers)))

    orders = {}
    for name, platform in platforms.items():
        found = orders_of(platform, tuple(asked_for))
        orders[name] = {
            "undeclared": number(found.undeclared),
            "gpu_only": number(found.gpu_only),
            "by_driver": [number(order) for order in found.by_driver],
            "by_accelerator": {
                accelerator: number(order) for accelerator, order in found.by_accelerator.items()
            },
        }
    return {
        "steps": driver_steps(),
        "served": served_cuda(),
        "floors": driver_floors(needing_drivers),
        "gpus": GPUS,
        "orders": orders,
        "builds": builds.values,
    }


def code_number(code: Optional[Code], codes: Table) -> int:
    """The number of some GPU code in `codes`; -1 where nothing is known of it. Of some only the
    limits of its toolkit are known."""
    if code is None:
        return -1
    return codes.number([str(code), served_gpus(code), int(isinstance(code, ToolkitLimits))])


# --- names ----------------------------------------------------------------------------------------


def releases() -> List[TorchRelease]:
    """The releases of torch, newest first."""
    return sorted(
        torch_table().releases.values(), key=lambda release: Version(release.version), reverse=True
    )


def accelerators_of(release: TorchRelease) -> List[str]:
    """What a person can choose for a release: CPU, CUDA from old to new, the rest."""
    found = {*release.accelerators, *([release.untagged] if release.untagged else [])}
    return sorted(found, key=accelerator_order)


def accelerator_order(accelerator: str) -> Tuple[int, Tuple[int, ...]]:
    parsed = parse_accelerator(accelerator)
    if parsed is None:
        return 9, ()
    return {"cpu": 0, "cuda": 1, "rocm": 2, "xpu": 3}[parsed.kind], parsed.version


def label_of(accelerator: str) -> str:
    """`cu126` -> `CUDA 12.6 (cu126)`."""
    if accelerator == "cpu":
        return "CPU"
    cuda = cuda_of_accelerator(accelerator)
    if cuda is not None:
        return f"CUDA {cuda} ({accelerator})"
    if accelerator.startswith("rocm"):
        return f"ROCm {accelerator[len('rocm') :]} ({accelerator})"
    return {"xpu": "Intel XPU (xpu)"}.get(accelerator, accelerator)


def pythons() -> List[str]:
    """Every Python that a release of torch was built for, oldest first."""
    found = {python for release in releases() for python in release.python}
    return sorted(found, key=Version)

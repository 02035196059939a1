"""The known wheels of one project as a table: a row for each torch, a column for each accelerator,
the newest version in each cell."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from packaging.version import InvalidVersion, Version

from safe_install.index.facts import Build, HostEntry, Project, TorchMatch, is_named
from safe_install.tags import container_of_name, parse_accelerator

# the column for versions without a row, which are known by the torch that they require
PINNED = "package index"


class Cell(NamedTuple):
    """The newest version for one torch and one accelerator."""

    torch: str  # "2.8", "2.8.0" if the patch release matters, or a specifier: ">=2.14.0"
    accelerator: str
    version: str
    hosts: Tuple[str, ...]  # the hosts that have it, in the order of the project
    python: Tuple[str, ...]
    build: Optional[Build] = None  # a row with this version; None for a pin


class Matrix(NamedTuple):
    """All cells of one project for one platform."""

    torches: Tuple[str, ...]  # newest first
    accelerators: Tuple[str, ...]  # cpu, then CUDA from old to new, then the others
    cells: Tuple[Cell, ...]

    def find(self, torch: str, accelerator: str) -> Optional[Cell]:
        """The cell; None if no version is known for it."""
        for cell in self.cells:
            if cell.torch == torch and cell.accelerator == accelerator:
                return cell
        return None


def make_matrix(project: Project, *, platform: str, third_party: Tuple[str, ...] = ()) -> Matrix:
    """The table for a platform ("linux_x86_64", "win_amd64", "macosx_14_0_arm64").

    `third_party`: the optional hosts that are included.
    """
    hosts = [host for host in project.hosts if not host.optional or is_named(host, third_party)]
    order = {host.host: rank for rank, host in enumerate(hosts)}
    exact = {host.host: _is_exact(project, host) for host in hosts}
    rows: Dict[Tuple[str, str], List[Build]] = {}
    for build in project.builds:
        if build.host not in order or not is_for_platform(build, platform):
            continue
        torch = build.torch if exact[build.host] else ".".join(build.torch.split(".")[:2])
        for accelerator in build.accelerators:
            rows.setdefault((torch, accelerator), []).append(build)
    cells = [_make_cell(key, builds, order) for key, builds in rows.items()]
    cells += _make_pinned_cells(project, {cell.version for cell in cells})
    torches = sorted({cell.torch for cell in cells}, key=_torch_order, reverse=True)
    accelerators = sorted({cell.accelerator for cell in cells}, key=_accelerator_order)
    return Matrix(tuple(torches), tuple(accelerators), tuple(cells))


def is_for_platform(build: Build, platform: str) -> bool:
    """Is a row for this platform? The version of macOS or glibc does not matter."""
    if platform.startswith("macosx"):
        architecture = _mac_architecture(build.platform)
        if build.platform == "macos" or architecture == "universal2":
            return True
        return architecture == _mac_architecture(platform)
    machine = platform.replace("linux_", "")
    parts = [part for part in build.platform.split(".") if not part.startswith("mac")]
    return any(part.endswith(machine) for part in parts)


def _mac_architecture(platform: str) -> Optional[str]:
    """`macosx_10_15_x86_64` -> `x86_64`."""
    found = re.match(r"macosx_\d+_\d+_(\w+)$", platform)
    return found.group(1) if found else None


def newest_version(project: Project) -> Optional[str]:
    """The newest version about which anything is known; None: there is none. Optional hosts do not
    count."""
    optional = {host.host for host in project.hosts if host.optional}
    known = [build.version for build in project.builds if build.host not in optional]
    known += [sdist.version for sdist in project.sdists]
    known += list(project.pins)
    known += [wheel.url.rsplit("/", 1)[-1].split("-")[1] for wheel in project.wheels]
    return max(known, key=_version, default=None)


def _is_exact(project: Project, host: HostEntry) -> bool:
    return (host.torch_match or project.torch_match) is TorchMatch.EXACT


def _make_cell(key: Tuple[str, str], builds: List[Build], order: Dict[str, int]) -> Cell:
    """`key`: (torch, accelerator). `order`: the rank of each host."""
    newest = max(builds, key=lambda build: (_version(build.version), -order[build.host]))
    same = [build for build in builds if build.version == newest.version]
    hosts = sorted({build.host for build in same}, key=lambda host: order[host])
    pythons: Set[str] = set()
    for build in same:
        pythons.update(build.python)
    python = tuple(sorted(pythons, key=_version))
    return Cell(*key, newest.version, tuple(hosts), python, newest)


def _make_pinned_cells(project: Project, shown: Set[str]) -> List[Cell]:
    """The newest version for each pinned torch, among the versions that have no row. `shown`: the
    versions of the other cells."""
    newest: Dict[str, str] = {}
    for version, pin in project.pins.items():
        if version in shown:
            continue
        torch = pin[2:] if pin.startswith("==") else pin
        newest[torch] = max(version, newest.get(torch, version), key=_version)
    return [Cell(torch, PINNED, version, (), ()) for torch, version in newest.items()]


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _torch_order(torch: str) -> Tuple[bool, Version]:
    """The sort key of a torch: NVIDIA's containers come before the releases."""
    container = container_of_name(torch)
    if container is not None:
        return False, _version(container)
    first_bound = torch.lstrip("<>=!~").split(",")[0]
    return True, _version(first_bound.replace(".*", ""))


def _accelerator_order(accelerator: str) -> Tuple[int, Tuple[int, ...], str]:
    """The sort key of an accelerator: cpu, CUDA, the others, and last what is not known."""
    parsed = parse_accelerator(accelerator)
    if parsed is None:
        return 3, (), accelerator
    return {"cpu": 0, "cuda": 1}.get(parsed.kind, 2), parsed.version, accelerator

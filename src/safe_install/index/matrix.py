"""What the index knows of one project as a table: torch x accelerator, the newest version in each
cell."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from packaging.version import InvalidVersion, Version

from safe_install.index.facts import Build, HostEntry, Project, TorchMatch, is_named
from safe_install.tags import container_of_name, parse_accelerator

# the column of versions that are known by the torch that their metadata wants
PINNED = "package index"


class Cell(NamedTuple):
    """The newest version for one torch and one accelerator."""

    torch: str  # "2.8", or "2.8.0" where the patch release matters, or a specifier: ">=2.14.0"
    accelerator: str
    version: str
    hosts: Tuple[str, ...]  # that have it, in their order
    python: Tuple[str, ...]
    build: Optional[Build] = None  # the row that it comes from; None for a pin


class Matrix(NamedTuple):
    """All cells of one project on one kind of machine."""

    torches: Tuple[str, ...]  # newest first
    accelerators: Tuple[str, ...]  # cpu, then CUDA from old to new, then the others
    cells: Tuple[Cell, ...]

    def at(self, torch: str, accelerator: str) -> Optional[Cell]:
        """The cell, None where nothing is known."""
        return next(
            (c for c in self.cells if (c.torch, c.accelerator) == (torch, accelerator)), None
        )


def make_matrix(project: Project, *, platform: str, third_party: Tuple[str, ...] = ()) -> Matrix:
    """The table for a platform ("linux_x86_64", "win_amd64", "macosx_14_0_arm64")."""
    hosts = [host for host in project.hosts if not host.optional or is_named(host, third_party)]
    order = {host.host: rank for rank, host in enumerate(hosts)}
    exact = {host.host: _is_exact(project, host) for host in hosts}
    rows: Dict[Tuple[str, str], List[Build]] = {}
    for build in project.builds:
        if build.host in order and is_for_platform(build, platform):
            torch = build.torch if exact[build.host] else ".".join(build.torch.split(".")[:2])
            for accelerator in build.accelerators:
                rows.setdefault((torch, accelerator), []).append(build)
    cells = [_cell(key, builds, order) for key, builds in rows.items()]
    cells += _pinned(project, {cell.version for cell in cells})
    torches = sorted({cell.torch for cell in cells}, key=_torch_order, reverse=True)
    accelerators = sorted({cell.accelerator for cell in cells}, key=_accelerator_order)
    return Matrix(tuple(torches), tuple(accelerators), tuple(cells))


def is_for_platform(build: Build, platform: str) -> bool:
    """Is a row for this kind of machine?"""
    if platform.startswith("macosx"):
        return build.platform == "macos" or _mac_architecture(build.platform) in (
            "universal2",
            _mac_architecture(platform),
        )
    parts = [part for part in build.platform.split(".") if not part.startswith("mac")]
    return any(part.endswith(platform.replace("linux_", "")) for part in parts)


def _mac_architecture(platform: str) -> Optional[str]:
    """`macosx_10_15_x86_64` -> `x86_64`."""
    found = re.match(r"macosx_\d+_\d+_(\w+)$", platform)
    return found.group(1) if found else None


def newest_version(project: Project) -> Optional[str]:
    """The newest version that the index knows anything about."""
    optional = {host.host for host in project.hosts if host.optional}
    known = [build.version for build in project.builds if build.host not in optional]
    known += [sdist.version for sdist in project.sdists]
    known += list(project.pins)
    known += [wheel.url.rsplit("/", 1)[-1].split("-")[1] for wheel in project.wheels]
    return max(known, key=_version, default=None)


def _is_exact(project: Project, host: HostEntry) -> bool:
    return (host.torch_match or project.torch_match) is TorchMatch.EXACT


def _cell(key: Tuple[str, str], builds: List[Build], order: Dict[str, int]) -> Cell:
    newest = max(builds, key=lambda build: (_version(build.version), -order[build.host]))
    same = [build for build in builds if build.version == newest.version]
    hosts = sorted({build.host for build in same}, key=lambda host: order[host])
    python = sorted({python for build in same for python in build.python}, key=_version)
    return Cell(*key, newest.version, tuple(hosts), tuple(python), newest)


def _pinned(project: Project, shown: set[str]) -> List[Cell]:
    """Versions of which no row but a pin is known."""
    newest: Dict[str, str] = {}
    for version, pin in project.pins.items():
        if version not in shown:
            torch = pin[2:] if pin.startswith("==") else pin
            newest[torch] = max(version, newest.get(torch, version), key=_version)
    return [Cell(torch, PINNED, version, (), ()) for torch, version in newest.items()]


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _torch_order(torch: str) -> Tuple[bool, Version]:
    """Releases above NVIDIA's containers, the newest of each first when reversed."""
    container = container_of_name(torch)
    return container is None, _version(
        container or torch.lstrip("<>=!~").split(",")[0].replace(".*", "")
    )


def _accelerator_order(accelerator: str) -> Tuple[int, Tuple[int, ...], str]:
    parsed = parse_accelerator(accelerator)
    if parsed is None:
        return 9, (), accelerator
    return {"cpu": 0, "cuda": 1}.get(parsed.kind, 2), parsed.version, accelerator

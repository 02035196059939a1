"""Unpacks the torch of a plan before it is installed, so that extensions without a wheel can be
built against it.

Its wheels, and those of everything that it requires in the plan, are fetched and verified, then
unpacked into a temporary folder outside of the environment. The installation unpacks the same
wheels again, after comparing their hashes again: a build that changes the unpacked torch, or a
wheel, cannot change the environment.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.environment.interpreter import read_environment
from safe_install.errors import Refused
from safe_install.models import Environment, Plan, Step, TorchBuild
from safe_install.pipeline.fetching import Fetcher
from safe_install.pipeline.installer import PipInstaller
from safe_install.pipeline.session import Session, make_folder
from safe_install.resolve.plan import steps_of_torch
from safe_install.torch_family import TORCH
from safe_install.transaction.room import find_shortage_of_files

if TYPE_CHECKING:
    # Imported where it is needed, to start faster: most runs build nothing.
    from safe_install.wheels.archive import Artifact


class ComingTorch:
    """The unpacked torch of the plans of one run."""

    def __init__(
        self,
        session: Session,
        installer: PipInstaller,
        is_promised: Callable[[Step], bool],
        fetcher: Fetcher,
    ) -> None:
        """The arguments of a delivery. `is_promised`: does a hash from the command or the index
        vouch for the bytes that pip fetches for a step?"""
        self._session, self._installer = session, installer
        self._is_promised, self._fetcher = is_promised, fetcher
        self._folder = session.work / "coming"
        self._folders = 0  # number of folders made in it
        self._unpacked: Optional[Tuple[Tuple[Step, ...], Environment]] = None
        self.artifacts: Dict[NormalizedName, Artifact] = {}  # the wheels that were fetched

    def unpack(self, steps: Sequence[Step]) -> Environment:
        """The environment for a build: the torch of this plan and its requirements come before the
        installed packages.

        Errors: those of a delivery; Refused, where there is no room, or where another torch would
        be imported.
        """
        needed = steps_of_torch(steps)
        if self._unpacked is not None and self._unpacked[0] == needed:
            return self._unpacked[1]
        self.remove()
        self._folders += 1
        sites = self._fill(make_folder(self._folder / str(self._folders)), needed)
        environment = self._read(sites, needed)
        self._unpacked = needed, environment
        return environment

    def remove(self) -> None:
        """Remove the unpacked files; the fetched wheels are kept."""
        self._unpacked = None
        for root in self._folder.glob("*/unpacked"):
            shutil.rmtree(root, ignore_errors=True)

    def _fill(self, folder: Path, steps: Sequence[Step]) -> Tuple[Path, ...]:
        """Fetch and unpack the wheels. The result: the new site-packages folders."""
        from safe_install.pipeline.delivery import begin_delivery, fetch_files, unpack_wheels

        delivery = begin_delivery(
            self._session,
            self._installer,
            self._is_promised,
            self._fetcher,
            brought=self.artifacts,
            folder=folder,
        )
        found = fetch_files(delivery, Plan(tuple(steps)), {})
        self.artifacts = {**self.artifacts, **found}
        _check_room(folder, found)
        root = make_folder(folder / "unpacked")
        with self._session.timings.stage("stage"):
            unpack_wheels(self._session, steps, found, root, compile_bytecode=False).finish()
        scheme = self._session.environment.interpreter.scheme
        sites = [root / site.relative_to(site.anchor) for site in (scheme.purelib, scheme.platlib)]
        return tuple(site for site in dict.fromkeys(sites) if site.is_dir())

    def _read(self, sites: Tuple[Path, ...], steps: Sequence[Step]) -> Environment:
        """The environment with the torch that a build will import, probed like an installed one."""
        here = self._session.environment
        found = read_environment(here.interpreter.executable, here.driver, ahead=sites)
        torch = _check_torch(found, sites, steps)
        artifact = self.artifacts.get(TORCH)
        torch = dataclasses.replace(torch, file=artifact.sha256 if artifact is not None else None)
        return dataclasses.replace(
            here,
            torch=torch,
            installed=found.installed,
            torch_places=found.torch_places,
            ahead=sites,
        )


def _check_torch(found: Environment, sites: Sequence[Path], steps: Sequence[Step]) -> TorchBuild:
    """The torch that is imported. It has to be the unpacked one, in the version of the plan.
    Errors: Refused."""
    planned = next((step.version for step in steps if step.name == TORCH), None)
    torch, distribution = found.torch, found.installed.get(TORCH)
    places = [site.resolve() / "torch" for site in sites]
    is_planned = distribution is not None and distribution.version == planned
    if torch is not None and torch.folder in places and is_planned:
        return torch
    what = "no torch" if torch is None else f"torch {torch.runtime_version} in {torch.folder}"
    raise Refused(
        f"nothing can be built for torch {planned} before it is installed: {what} is imported in "
        "its place",
        hint="Install torch first: then the extension is built for it.",
    )


def _check_room(folder: Path, artifacts: Dict[NormalizedName, Artifact]) -> None:
    """Refuse before anything is unpacked, where the disk has too little room. Errors: Refused."""
    sizes = [entry for artifact in artifacts.values() for entry in artifact.sizes]
    shortage = find_shortage_of_files(folder, sizes, compile_bytecode=False)
    if shortage is not None:
        raise Refused(
            f"torch cannot be unpacked for the build of an extension: {shortage}",
            hint="Name a folder with more room: TMPDIR=/path/to/folder.",
        )

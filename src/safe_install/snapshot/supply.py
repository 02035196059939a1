"""A bundle as what an install is made from: it has to fit, and its wheels lie where pip looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Mapping

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Environment, Plan, Step
from safe_install.snapshot.bundle_file import Bundle, unpack_wheels
from safe_install.snapshot.manifest import BundledWheel, find_misfits
from safe_install.snapshot.remembered import read_installed_wheels
from safe_install.torch_family import TORCH


class BundleSupply:
    """The wheels of a bundle, for one install."""

    def __init__(self, bundle: Bundle, work: Path) -> None:
        """`work`: a folder of this run."""
        self._bundle = bundle
        self.work = work
        self.folder = work / "wheels"

    def write_constraints(self) -> Path:
        """The torch in it is the one that the others were chosen for: no other one may come."""
        lines = [
            f"{wheel.name}=={wheel.version}\n"
            for wheel in self._bundle.manifest.wheels
            if wheel.name == TORCH
        ]
        path = self.work / "constraints.txt"
        path.write_text("".join(lines), encoding="utf-8")
        return path

    def check(self, environment: Environment) -> None:
        """Errors: Refused where it is for another environment."""
        misfits = find_misfits(self._bundle.manifest, environment)
        if misfits:
            raise Refused.by(misfits)

    def name_origins(self, plan: Plan, *, records_address: bool) -> Plan:
        """The plan with the addresses from which its wheels came, in place of those in the folder of
        this run. `records_address`: direct_url.json names those that no package index lists."""
        by_hash = {wheel.sha256: wheel for wheel in self._bundle.manifest.wheels}
        steps: List[Step] = []
        for step in plan.steps:
            wheel = by_hash.get(step.sha256 or "")
            if wheel is not None:
                is_hosted = bool(wheel.url) and not wheel.is_listed
                step = replace(
                    step,
                    url=wheel.url or None,
                    is_hosted=is_hosted,
                    records_address=is_hosted and records_address,
                )
            steps.append(step)
        return replace(plan, steps=tuple(steps))

    def bring(self, environment: Environment, reporter: Reporter, *, anew: bool) -> None:
        """Unpack the wheels, each compared with its hash. Those that are installed, as our history
        knows them, are not needed again, unless all is installed `anew`. Errors: BundleInvalid,
        Refused."""
        wheels = self._bundle.manifest.wheels
        if not anew:
            there = read_installed_wheels(environment)
            wheels = tuple(wheel for wheel in wheels if not _is_there(wheel, there))
        if wheels:
            unpack_wheels(self._bundle, wheels, self.folder, reporter)
        else:
            self.folder.mkdir(exist_ok=True)


def _is_there(wheel: BundledWheel, there: Mapping[NormalizedName, str]) -> bool:
    """`there`: the sha256 of what is installed."""
    return there.get(canonicalize_name(wheel.name)) == wheel.sha256

"""Prepares a bundle for an install: checks it, and unpacks its wheels to a folder for pip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List, Mapping, Sequence

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import BundleInvalid, Refused, SystemFailed, hint_for_oserror
from safe_install.events import Reporter
from safe_install.models import Environment, Plan, Step
from safe_install.snapshot.bundle_file import Bundle, unpack_wheels
from safe_install.snapshot.installed_wheels import read_installed_wheels
from safe_install.snapshot.manifest import BundledWheel, find_misfits
from safe_install.torch_family import TORCH
from safe_install.wheels.kept_wheels import find_kept_wheels, take_kept_wheel


class BundleSupply:
    """The wheels of a bundle, for one install."""

    def __init__(self, bundle: Bundle, work: Path, cache: Path) -> None:
        """`work`: a temporary folder. `cache`: our cache, for wheels that are not in the bundle."""
        self._bundle, self._cache = bundle, cache
        self.work = work
        self.folder = work / "wheels"

    def write_constraints(self) -> Path:
        """Write a constraints file that pins torch to the bundle's own, for which the other wheels
        were chosen; its path."""
        text = ""
        for wheel in self._bundle.manifest.wheels:
            if wheel.name == TORCH:
                text = f"{wheel.name}=={wheel.version}\n"
        path = self.work / "constraints.txt"
        path.write_text(text, encoding="utf-8")
        return path

    def check(self, environment: Environment) -> None:
        """Raise Refused if the bundle is not for this environment."""
        misfits = find_misfits(self._bundle.manifest, environment)
        if misfits:
            raise Refused.by(misfits)

    def name_origins(self, plan: Plan, *, records_address: bool) -> Plan:
        """The plan with the original URLs of the wheels instead of their temporary paths.
        `records_address`: URLs that no package index lists are written into direct_url.json."""
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
        """Unpack the wheels and compare their hashes. Wheels that are installed, by our history,
        are left out, unless `anew`. Errors: BundleInvalid, Refused, SystemFailed."""
        wheels = self._bundle.manifest.wheels
        if not anew:
            installed = read_installed_wheels(environment)
            wheels = tuple(wheel for wheel in wheels if not _is_installed(wheel, installed))
        self.folder.mkdir(exist_ok=True)
        inside = tuple(wheel for wheel in wheels if wheel.is_inside)
        if inside:
            unpack_wheels(self._bundle, inside, self.folder, reporter)
        self._take_from_cache([wheel for wheel in wheels if not wheel.is_inside])

    def _take_from_cache(self, wheels: Sequence[BundledWheel]) -> None:
        """Copy these wheels from the cache, and compare their hashes. Errors: BundleInvalid,
        SystemFailed."""
        kept = find_kept_wheels(self._cache) if wheels else {}
        for wheel in wheels:
            found = kept.get(wheel.sha256)
            try:
                is_taken = found is not None and take_kept_wheel(
                    found, self.folder / wheel.filename
                )
            except OSError as error:
                raise SystemFailed(
                    f"{wheel.filename} could not be taken from {self._cache}: "
                    f"{error.strerror or error}",
                    hint=hint_for_oserror(error),
                ) from error
            if not is_taken:
                raise BundleInvalid(
                    f"{self._bundle.path} does not hold {wheel.filename}, which was in the cache "
                    f"of its machine: {self._cache} has it not, or has other bytes",
                    hint="Make the bundle again: what the cache has not is in it then.",
                )


def _is_installed(wheel: BundledWheel, installed: Mapping[NormalizedName, str]) -> bool:
    """`installed`: distribution -> the SHA-256 of its wheel."""
    return installed.get(canonicalize_name(wheel.name)) == wheel.sha256

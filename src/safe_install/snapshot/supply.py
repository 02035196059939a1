"""A bundle as what an install is made from: it has to fit, and its wheels lie where pip looks."""

from __future__ import annotations

from pathlib import Path

from safe_install.errors import Refused
from safe_install.events import Reporter
from safe_install.models import Environment
from safe_install.snapshot.bundle_file import Bundle, unpack_wheels
from safe_install.snapshot.manifest import find_misfits
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

    def bring(self, reporter: Reporter) -> None:
        """Unpack the wheels, each compared with its hash. Errors: BundleInvalid, Refused."""
        unpack_wheels(self._bundle, self.folder, reporter)

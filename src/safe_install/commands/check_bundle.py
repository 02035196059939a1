"""`safe-install check-bundle FILE`: is a bundle intact, and what is in it?"""

from __future__ import annotations

from pathlib import Path
from typing import List

from safe_install.models import InstallResult, Outcome
from safe_install.ports import Timings, World
from safe_install.snapshot.bundle_file import Bundle, check_bundle
from safe_install.snapshot.manifest import describe_target, describe_wheel


def check(world: World, file: str) -> InstallResult:
    """Check a bundle. Errors: BundleInvalid for the first difference from its manifest."""
    timings = Timings()
    bundle = check_bundle(Path(file), world.reporter)
    manifest = bundle.manifest
    lines = [
        *describe_bundle(bundle),
        f"{file} is whole: everything in it has the hash of its list.",
    ]
    return InstallResult(
        "check-bundle",
        Outcome.LISTED,
        0,
        timings=timings.total(),
        message="\n".join(lines),
        details={
            "bundle": {
                "requirements": list(manifest.requirements),
                "made_for": describe_target(manifest.made_for),
                "wheels": [describe_wheel(wheel) for wheel in manifest.wheels],
            }
        },
    )


def describe_bundle(bundle: Bundle) -> List[str]:
    """Its content and its target, as lines."""
    manifest = bundle.manifest
    lines = [f"{', '.join(manifest.requirements)} for {manifest.made_for}"]
    for wheel in manifest.wheels:
        place = "" if wheel.is_inside else "  not in it: in the cache of the machine"
        lines.append(f"  {wheel.name} {wheel.version}  {wheel.size / 1e6:.1f} MB{place}")
    return lines

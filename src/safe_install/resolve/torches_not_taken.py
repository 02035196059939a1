"""Why was each preferred torch not chosen? For each release, and for each build. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import List, Optional, Sequence, Tuple

from packaging.version import Version

from safe_install.models import TorchBuild
from safe_install.resolve.torch_choice import TorchChoice
from safe_install.resolve.torch_ranking import Exclusion, TorchOption

_NOT_PUBLISHED = (Exclusion.PYTHON, Exclusion.PLATFORM, Exclusion.BUILD)
_NO_DRIVER = Version("0")


@dataclass(frozen=True)
class NotTaken:
    """A torch that was not chosen, and why."""

    build: TorchBuild
    version: str  # "2.14.1+cu130"; "2.14.1" where there is no such build
    reason: str  # "needs driver 580.65.06 or newer, declared is 560.35 (CUDA 12.6)"
    is_near: bool = False  # it is permitted; only a wheel is missing


def list_not_taken(
    options: Sequence[TorchOption], choice: TorchChoice, taken: TorchOption
) -> Tuple[NotTaken, ...]:
    """Every build of a newer release; of the same release those that are preferred or would not
    run. Newest first. A release without one for the requested accelerator is one row."""
    # The reason of what was not tried may be about another build of its release.
    passed = {one.version: one.reason for one in choice.passed_over if not one.is_untried}
    before = options[: options.index(taken)]
    lacks_build = {one.release for one in options if one.excluded is Exclusion.BUILD}
    found = []
    for option in sorted(options, key=lambda option: Version(option.release), reverse=True):
        is_newer = Version(option.release) > Version(taken.release)
        is_beside = option.release == taken.release and (option in before or bool(option.warning))
        is_same = option.build.runtime_version == taken.build.runtime_version
        if is_same or not (is_newer or is_beside):
            continue
        # "has no build for cu118" says the same of the release as "is a build for cu130".
        if option.excluded is Exclusion.ACCELERATOR and option.release in lacks_build:
            continue
        lacking = passed.get(option.version)
        reason = lacking or option.reason
        text = reason.text if reason is not None else ""
        version = (
            option.release if option.excluded in _NOT_PUBLISHED else option.build.runtime_version
        )
        found.append(NotTaken(option.build, version, text, is_near=lacking is not None))
    return tuple(found)


def nearest_of_each_release(
    options: Sequence[TorchOption], rows: Sequence[NotTaken]
) -> Tuple[NotTaken, ...]:
    """For each release the build that came nearest: it lacks only a wheel, else a newer driver,
    where the oldest that does is nearest, else it is not for another accelerator."""
    by_version = {option.version: option for option in options}
    nearest = []
    for _, group in groupby(rows, key=lambda row: row.build.version.public):
        nearest.append(
            min(group, key=lambda row: _distance(row, by_version.get(str(row.build.version))))
        )
    return tuple(nearest)


def _distance(row: NotTaken, option: Optional[TorchOption]) -> Tuple[int, Version]:
    """How far it is from being taken; where it needs a newer driver, by that."""
    if row.is_near or option is None:
        return 0, _NO_DRIVER
    if option.needed_driver:
        return 1, Version(option.needed_driver)
    return 3 if option.excluded is Exclusion.ACCELERATOR else 2, _NO_DRIVER


def group_reasons(rows: Sequence[NotTaken]) -> List[Tuple[Tuple[str, ...], str]]:
    """(consecutive versions with the same reason, the reason), in order."""
    groups = []
    for reason, group in groupby(rows, key=lambda row: row.reason):
        groups.append((tuple(row.version for row in group), reason))
    return groups

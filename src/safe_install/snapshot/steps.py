"""Makes the steps of a plan from the difference to a lock. Pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import FrozenSet, List, Optional, Sequence, Tuple

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, NormalizedName, parse_wheel_filename

from safe_install.errors import InputError
from safe_install.models import (
    Action,
    Environment,
    Finding,
    InstalledDistribution,
    Origin,
    Severity,
    Step,
)
from safe_install.pip_output import ArchiveInfo, DownloadInfo
from safe_install.resolve.plan import make_removal
from safe_install.snapshot.difference import Deviation, Difference
from safe_install.snapshot.forms import no_file
from safe_install.snapshot.locked import (
    LONGEST_FILENAME,
    NO_NAME,
    LockedDistribution,
    address_of,
    only_sha256,
)
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    UrlSource,
)
from safe_install.torch_family import TORCH


def make_step(deviation: Deviation, location: str) -> Step:
    """The step for one deviation, with the facts in the lock. `location`: the file's name in
    messages."""
    locked, installed = deviation.locked, deviation.installed
    source = locked.source
    url = address_of(source)
    sha256 = only_sha256(locked.hashes)
    step = Step(
        Action.ADD,
        locked.name if locked.name != NO_NAME else NormalizedName(locked.line),
        locked.version or None,
        url=url,
        sha256=sha256,
        origin=origin_of(locked),
        requested=locked.is_requested,
        because=f"as {location} says",
        download_info=_download_info(url, sha256),
        is_direct=source is not None and not isinstance(source, IndexSource),
        is_locked=sha256 is not None,
    )
    if installed is None:
        return step
    return replace(
        step,
        action=Action.REPLACE,
        from_version=installed.version,
        keeps_requested=installed.requested,
        because=f"{step.because}: {deviation.because}",
    )


def origin_of(locked: LockedDistribution) -> Origin:
    """The kind of file that the lock names."""
    source = locked.source
    if isinstance(source, (DirectorySource, RepositorySource)):
        if source.is_editable:
            return Origin.EDITABLE
        return Origin.SDIST if isinstance(source, DirectorySource) else Origin.REPOSITORY
    return Origin.WHEEL if source is None or is_wheel(locked) else Origin.SDIST


def _download_info(url: Optional[str], sha256: Optional[str]) -> Optional[DownloadInfo]:
    """URL and hash in the form of pip's report and direct_url.json; None without a URL."""
    if url is None:
        return None
    archive: ArchiveInfo = {}
    if sha256 is not None:
        archive = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
    return {"url": url, "archive_info": archive}


def is_wheel(locked: LockedDistribution) -> bool:
    """Does the lock name a wheel by its URL or path?"""
    source = locked.source
    is_file = isinstance(source, (IndexSource, UrlSource, FileSource))
    return is_file and getattr(source, "filename", "").lower().endswith(".whl")


def needs_pip(locked: LockedDistribution) -> bool:
    """Does pip have to find or build the file? Not for a local wheel, or one with a URL and a
    hash."""
    if not is_wheel(locked):
        return True
    return not (isinstance(locked.source, FileSource) or only_sha256(locked.hashes))


def pip_line(locked: LockedDistribution) -> str:
    """The requirement line for pip, with hashes. Errors: InputError if there is none."""
    if not locked.line:
        raise InputError(
            f"{str(locked)!r} is no name and version of a project: nobody can be asked for it",
            hint="Leave it out of the file; what is there stays with --keep-extra.",
        )
    return " ".join([locked.line, *(f"--hash={text}" for text in locked.hashes)])


def make_removals(extra: Sequence[InstalledDistribution], location: str) -> Tuple[Step, ...]:
    """One step for each distribution that is removed."""
    return tuple(make_removal(distribution, f"not in {location}") for distribution in extra)


def describe_steps(difference: Difference, location: str) -> Tuple[Step, ...]:
    """All steps, for output only: versions that only the source code has are missing."""
    steps = [make_step(one, location) for one in difference.deviations]
    return (*steps, *make_removals(difference.extra, location))


def find_folders(difference: Difference) -> Tuple[Path, ...]:
    """The source folders that will be built."""
    found = []
    for deviation in difference.deviations:
        if isinstance(deviation.locked.source, DirectorySource):
            found.append(Path(deviation.locked.source.path))
    return tuple(found)


# --- refusals -------------------------------------------------------------------------------------


def find_unfit_wheels(
    deviations: Sequence[Deviation], environment: Environment
) -> Tuple[Finding, ...]:
    """Errors on wheels that this interpreter does not support."""
    interpreter = environment.interpreter
    supported = frozenset(interpreter.tags)
    found = []
    for deviation in deviations:
        locked = deviation.locked
        if not is_wheel(locked):
            continue
        filename = getattr(locked.source, "filename", "")
        if not _has_tag_of(filename, supported):
            detail = f"{filename} is not for Python {interpreter.version} on {interpreter.platform}"
            found.append(no_file(locked.name, detail))
    return tuple(found)


def _has_tag_of(filename: str, supported: FrozenSet[Tag]) -> bool:
    if len(filename) > LONGEST_FILENAME:
        return False
    try:
        tags = parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return True  # the error is reported when the file is opened
    return not supported.isdisjoint(tags)


def refuse_lost_torch(extra: Sequence[InstalledDistribution], location: str) -> List[Finding]:
    """An error if a sync would remove torch: a file that does not name torch is no request to
    remove it."""
    found = []
    for distribution in extra:
        if distribution.name == TORCH:
            finding = Finding(
                "torch-removed",
                Severity.ERROR,
                TORCH,
                f"{location} does not name torch, and torch {distribution.version} is installed",
                "Name it in the file; or leave what the file does not name: --keep-extra; or "
                "permit it: --allow-torch-change removes torch.",
            )
            found.append(finding)
    return found

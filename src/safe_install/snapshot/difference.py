"""The difference between an environment and a lock. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from safe_install.models import Environment, InstalledDistribution
from safe_install.requirements import applies, parse_requirement
from safe_install.snapshot.locked import (
    NO_NAME,
    LockedDistribution,
    LockedEnvironment,
    filename_of,
    path_of,
)
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    Source,
    UrlSource,
)

OWN_NAME = canonicalize_name("torch-safe-install")
# Distributions that change an environment; few files name them.
TOOLS = frozenset(canonicalize_name(name) for name in ("pip", "setuptools", "wheel"))
# Other installers that write into site-packages: INSTALLER -> its name in messages.
OTHER_INSTALLERS: Mapping[str, str] = {
    "conda": "conda",
    "rpm": "the operating system",
    "debian": "the operating system",
}


@dataclass(frozen=True)
class Deviation:
    """A distribution that is not installed as the lock says."""

    locked: LockedDistribution
    installed: Optional[InstalledDistribution]
    because: str  # "not installed", "1.0 is installed"


@dataclass(frozen=True)
class Difference:
    """What has to change so that the environment matches the lock."""

    deviations: Tuple[Deviation, ...] = ()
    extra: Tuple[InstalledDistribution, ...] = ()  # not in the lock: removed
    kept: Mapping[NormalizedName, str] = field(default_factory=dict)  # not in the lock, kept -> why


def compare_with_lock(
    lock: LockedEnvironment,
    environment: Environment,
    kept: Mapping[NormalizedName, str],
    files: Mapping[NormalizedName, str],
) -> Difference:
    """The difference between a lock and an environment.

    `kept`: distributions that are never removed -> the reason. `files`: distribution -> the SHA-256
    of its wheel, as far as the history has it.
    """
    deviations: List[Deviation] = []
    named = set(lock.others)
    for locked in lock.distributions:
        installed = _find_installed(locked, environment.installed)
        named.add(installed.name if installed is not None else locked.name)
        sha256 = files.get(installed.name, "") if installed is not None else ""
        mismatch = describe_mismatch(locked, installed, sha256)
        if mismatch:
            deviations.append(Deviation(locked, installed, mismatch))
    left = {
        name: kept[name] for name in environment.installed if name in kept and name not in named
    }
    left = {**_needed_by_tools(left, environment), **left}
    extra: List[InstalledDistribution] = []
    for name, distribution in sorted(environment.installed.items()):
        if name not in named and name not in left:
            extra.append(distribution)
    ordered = {name: left[name] for name in sorted(left) if name not in named}
    return Difference(tuple(deviations), tuple(extra), ordered)


def _needed_by_tools(
    left: Collection[NormalizedName], environment: Environment
) -> Mapping[NormalizedName, str]:
    """What the tools that are left alone require, with the reason to leave it: `packaging` for a new
    `wheel`, where `virtualenv` or `uv venv --seed` put them."""
    found: Dict[NormalizedName, str] = {}
    for tool in sorted(TOOLS.intersection(left)):
        markers = environment.interpreter.markers
        for name in find_required([tool], environment.installed, markers):
            found[name] = f"{tool} needs it"
    return found


def installed_files(
    rows: Iterable[Mapping[str, object]],
    installed: Mapping[NormalizedName, InstalledDistribution],
) -> Mapping[NormalizedName, str]:
    """Distribution -> the SHA-256 of its wheel. `rows`: the steps of past changes, newest first.
    A distribution that has another version now is left out: another program installed it."""
    found: Dict[NormalizedName, str] = {}
    for row in rows:
        found.setdefault(canonicalize_name(str(row["name"])), _sha256_of(row, installed))
    return {name: sha256 for name, sha256 in found.items() if sha256}


def _sha256_of(
    row: Mapping[str, object], installed: Mapping[NormalizedName, InstalledDistribution]
) -> str:
    distribution = installed.get(canonicalize_name(str(row["name"])))
    if distribution is None or distribution.version != row.get("version"):
        return ""
    return str(row.get("sha256") or "") if row.get("kind") == "wheel" else ""


def find_kept(
    environment: Environment, own: Collection[NormalizedName]
) -> Mapping[NormalizedName, str]:
    """The distributions that a sync never removes -> the reason. `own`: the distributions in this
    environment's own site-packages."""
    installed, markers = environment.installed, environment.interpreter.markers
    ours = find_required([OWN_NAME], installed, markers)
    found: Dict[NormalizedName, str] = {}
    for name, distribution in installed.items():
        other = OTHER_INSTALLERS.get((distribution.installer or "").lower())
        if name in ours:
            found[name] = "safe-install needs it"
        elif name in TOOLS:
            found[name] = "environments are changed with it"
        elif other is not None:
            found[name] = f"{other} installed it"
        elif name not in own:
            found[name] = f"it lies outside of the environment, in {distribution.location}"
    return found


def find_required(
    names: Iterable[NormalizedName],
    installed: Mapping[NormalizedName, InstalledDistribution],
    markers: Mapping[str, str],
) -> Collection[NormalizedName]:
    """The installed ones among these distributions, with their direct and indirect requirements."""
    found: Dict[NormalizedName, None] = {}
    waiting = list(names)
    while waiting:
        distribution = installed.get(waiting.pop())
        if distribution is None or distribution.name in found:
            continue
        found[distribution.name] = None
        for text in distribution.requires:
            requirement = parse_requirement(text)
            if requirement is not None and _applies(requirement, markers):
                waiting.append(canonicalize_name(requirement.name))
    return found


def _applies(requirement: Requirement, markers: Mapping[str, str]) -> bool:
    """Is the marker true for this interpreter? False for one that cannot be evaluated."""
    try:
        return applies(requirement, markers)
    except ValueError:
        return False


# --- one distribution -----------------------------------------------------------------------------


def _find_installed(
    locked: LockedDistribution, installed: Mapping[NormalizedName, InstalledDistribution]
) -> Optional[InstalledDistribution]:
    """The installed distribution with the name in the lock; for a folder without a name, the one
    that was installed from it."""
    if locked.name != NO_NAME:
        return installed.get(locked.name)
    for distribution in installed.values():
        if distribution.direct_url is not None and describe_mismatch(locked, distribution) == "":
            return distribution
    return None


def describe_mismatch(
    locked: LockedDistribution, installed: Optional[InstalledDistribution], sha256: str = ""
) -> str:
    """Why an installed distribution is not what a lock names; "" if they match as far as is
    known. `sha256`: of its wheel; "" if that is not known."""
    if installed is None:
        return "not installed"
    if locked.version and not _is_version(locked, installed.version):
        return f"{installed.version} is installed"
    return _describe_other_source(locked, installed, sha256)


def _is_version(locked: LockedDistribution, version: str) -> bool:
    """Is it the version in the lock? Like in pip, a version without a local part accepts every
    build (`==2.13.0` accepts 2.13.0+cpu), unless the lock names a file."""
    try:
        wanted, present = Version(locked.version), Version(version)
    except InvalidVersion:
        return locked.version == version
    if locked.source is None:
        return bool(SpecifierSet(f"=={locked.version}").contains(present, prereleases=True))
    return wanted == present


def _describe_other_source(
    locked: LockedDistribution, installed: InstalledDistribution, sha256: str
) -> str:
    record = installed.direct_url or {}
    source = locked.source
    url = str(record.get("url", ""))
    if isinstance(source, RepositorySource):
        return _describe_other_commit(source, record, installed)
    if isinstance(source, DirectorySource):
        is_same = url.startswith("file:") and path_of(url) == source.path.rstrip("/")
        if not is_same or "archive_info" in record:
            return f"it was not installed from {source.path}"
        if installed.editable != source.is_editable:
            return "it is editable" if installed.editable else "it is not editable"
        return ""
    if installed.editable:
        return "it is editable"
    if "vcs_info" in record or "dir_info" in record:
        return f"it was built from {url}"
    return _describe_other_file(locked, record, sha256)


def _describe_other_commit(
    source: RepositorySource, record: Mapping[str, object], installed: InstalledDistribution
) -> str:
    info = record.get("vcs_info")
    if not isinstance(info, Mapping):
        if installed.editable and source.is_editable:
            return ""  # pip records the folder of its clone instead of the commit
        return f"it was not installed from {source.url}"
    if str(record.get("url", "")) != source.url:
        return f"it was installed from {record.get('url')}"
    if source.commit and info.get("commit_id") != source.commit:
        return f"it is of commit {info.get('commit_id')}"
    if not source.commit and info.get("requested_revision", "") != source.requested_revision:
        return f"it is of revision {info.get('requested_revision') or info.get('commit_id')}"
    if str(record.get("subdirectory", "")) != source.subdirectory:
        return f"it is of the folder {record.get('subdirectory') or '.'}"
    return ""


def _describe_other_file(
    locked: LockedDistribution, record: Mapping[str, object], sha256: str
) -> str:
    """Compare the hashes, else the file names in the URLs. A missing record is no mismatch."""
    recorded = recorded_hashes(record)
    if not recorded and sha256:
        recorded = frozenset({f"sha256:{sha256}"})
    kinds = {text.partition(":")[0] for text in recorded}
    if any(text.partition(":")[0] in kinds for text in locked.hashes):
        is_same = not recorded.isdisjoint(locked.hashes)
        return "" if is_same else "another file of this version is installed"
    url = str(record.get("url", ""))
    wanted = _filename_of(locked.source)
    if url and wanted and filename_of(url) != wanted:
        return f"it was installed from {url}"
    return ""


def recorded_hashes(record: Mapping[str, object]) -> FrozenSet[str]:
    """The hashes in a direct_url.json (PEP 610), in the form `sha256:...`."""
    info = record.get("archive_info")
    if not isinstance(info, Mapping):
        return frozenset()
    found = set()
    hashes = info.get("hashes")
    if isinstance(hashes, Mapping):
        found = {f"{name}:{value}".lower() for name, value in hashes.items()}
    old = str(info.get("hash", ""))
    if "=" in old:
        found.add(old.replace("=", ":", 1).lower())
    return frozenset(found)


def _filename_of(source: Optional[Source]) -> str:
    if isinstance(source, (IndexSource, UrlSource, FileSource)):
        return source.filename
    return ""

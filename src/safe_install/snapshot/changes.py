"""The differences between two snapshots, most important first. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Collection, Dict, List, Optional, Tuple

from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from safe_install.snapshot.values import (
    DirectorySource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    Source,
    UnknownSource,
)
from safe_install.torch_family import COMPANIONS, TORCH, is_guarded


class Topic(enum.Enum):
    """The subject of a change, in the order in which changes are shown."""

    TORCH = "torch"
    CUDA = "cuda"
    PYTHON = "python"
    COMPANION = "companion"
    EXTENSION = "extension"
    LIBRARY = "library"  # libraries that torch loads, and its compilers
    OTHER = "other"


@dataclass(frozen=True)
class Discrepancy:
    """One difference."""

    topic: Topic
    name: str
    old: str  # a version; "" if it is not known, or there is none
    new: str
    detail: str = ""  # what else differs if the versions are the same
    is_in_old: bool = True
    is_in_new: bool = True


def compare_snapshots(
    old: Snapshot, new: Snapshot, extensions: Collection[str]
) -> Tuple[Discrepancy, ...]:
    """The changes from one snapshot to the other. `extensions`: projects that are built against
    torch."""
    old, new = _with_names(old, new), _with_names(new, old)
    changes = _compare_facts(old, new)
    names = {one.name for one in (*old.distributions, *new.distributions)}
    for name in names:
        change = _compare_distribution(name, old.find(name), new.find(name), extensions)
        if change is not None:
            changes.append(change)
    order = list(Topic)
    return tuple(sorted(changes, key=lambda one: (order.index(one.topic), one.name)))


def _with_names(one: Snapshot, other: Snapshot) -> Snapshot:
    """The first snapshot if a line without a name (`-e /src`) gets the name that the other one
    has for that folder."""
    names: Dict[Source, NormalizedName] = {
        distribution.source: distribution.name
        for distribution in other.distributions
        if isinstance(distribution.source, DirectorySource)
    }
    found: List[RecordedDistribution] = []
    for distribution in one.distributions:
        name = names.get(distribution.source) if not distribution.version else None
        found.append(replace(distribution, name=name) if name else distribution)
    return replace(one, distributions=tuple(found))


def _compare_facts(old: Snapshot, new: Snapshot) -> List[Discrepancy]:
    """The differences in facts that both snapshots have. torch.__version__ is compared, too,
    because two builds of torch may have the same version in METADATA."""
    changes: List[Discrepancy] = []
    if not _is_one_python(old.python, new.python):
        changes.append(Discrepancy(Topic.PYTHON, "Python", old.python, new.python))
    if old.torch is None or new.torch is None:
        return changes + _compare_torch_versions(old, new)
    if old.torch.cuda != new.torch.cuda:
        changes.append(Discrepancy(Topic.CUDA, "torch's CUDA", old.torch.cuda, new.torch.cuda))
    before, after = old.find(TORCH), new.find(TORCH)
    if before is None or after is None or old.torch.version == new.torch.version:
        return changes
    if before.version == after.version or not (before.version and after.version):
        changes.append(
            Discrepancy(Topic.TORCH, "torch.__version__", old.torch.version, new.torch.version)
        )
    return changes


def _compare_torch_versions(old: Snapshot, new: Snapshot) -> List[Discrepancy]:
    """The difference in torch's version if one snapshot has torch.__version__ only (a bundle),
    and the other one may have the version in METADATA."""
    before, after = old.find(TORCH), new.find(TORCH)
    if before is None or after is None or (before.version and after.version):
        return []  # compared like every other distribution
    versions = (_torch_version(old, before), _torch_version(new, after))
    if not all(versions) or _may_be_one_build(*versions):
        return []
    return [Discrepancy(Topic.TORCH, "torch.__version__", *versions)]


def _torch_version(snapshot: Snapshot, torch: RecordedDistribution) -> str:
    return torch.version or (snapshot.torch.version if snapshot.torch is not None else "")


def _may_be_one_build(one: str, other: str) -> bool:
    """May two versions of torch be of one build? A version without a local part, as on the package
    index, may be any build."""
    if "+" in one and "+" in other:
        return _is_one_version(one, other)
    return _is_one_version(one.partition("+")[0], other.partition("+")[0])


def _is_one_python(old: str, new: str) -> bool:
    """Do two versions of Python agree in the parts that both have? "3.11" agrees with "3.11.7"."""
    numbers = zip(old.split("."), new.split("."))
    return not (old and new) or all(one == other for one, other in numbers)


def _compare_distribution(
    name: NormalizedName,
    old: Optional[RecordedDistribution],
    new: Optional[RecordedDistribution],
    extensions: Collection[str],
) -> Optional[Discrepancy]:
    topic = _topic_of(name, extensions)
    if old is None or new is None:
        before = old.version if old is not None else ""
        after = new.version if new is not None else ""
        return Discrepancy(
            topic, name, before, after, is_in_old=old is not None, is_in_new=new is not None
        )
    if old.version and new.version and not _is_one_version(old.version, new.version):
        return Discrepancy(topic, name, old.version, new.version)
    detail = _compare_sources(old.source, new.source)
    return Discrepancy(topic, name, old.version, new.version, detail) if detail else None


def _topic_of(name: NormalizedName, extensions: Collection[str]) -> Topic:
    if name == TORCH:
        return Topic.TORCH
    if name in COMPANIONS:
        return Topic.COMPANION
    if is_guarded(name):
        return Topic.LIBRARY
    return Topic.EXTENSION if name in extensions else Topic.OTHER


def _is_one_version(old: str, new: str) -> bool:
    try:
        return Version(old) == Version(new)
    except InvalidVersion:
        return old == new


def _compare_sources(old: Source, new: Source) -> str:
    """The difference between two sources if both are known."""
    if isinstance(old, UnknownSource) or isinstance(new, UnknownSource):
        return ""
    if isinstance(old, RepositorySource) or isinstance(new, RepositorySource):
        return _difference_in_words(_commit_of(old), _commit_of(new))
    if isinstance(old, DirectorySource) or isinstance(new, DirectorySource):
        return _difference_in_words(_folder_of(old), _folder_of(new))
    if old.sha256 and new.sha256 and old.sha256 != new.sha256:
        before, after = old.sha256[:12], new.sha256[:12]
        return f"another file: sha256 {before}... and {after}..."
    return ""


def _difference_in_words(old: str, new: str) -> str:
    return "" if old == new else f"from {old}, and from {new}"


def _commit_of(source: Source) -> str:
    if isinstance(source, RepositorySource):
        where = f" in {source.subdirectory}" if source.subdirectory else ""
        return f"{source.url}@{source.commit or source.requested_revision}{where}"
    return _folder_of(source)


def _folder_of(source: Source) -> str:
    if isinstance(source, DirectorySource):
        return f"{source.path} (editable)" if source.is_editable else source.path
    return "a file"

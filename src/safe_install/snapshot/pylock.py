"""A snapshot as a lock file (PEP 751: packaging.python.org/en/latest/specifications/pylock-toml).
Pure.

Facts without a place in the specification are in our own tables ([tool.safe-install]), which other
programs ignore: what was requested, what was built here, and distributions of unknown source.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Union

from packaging.version import InvalidVersion, Version

from safe_install.snapshot.sources import is_named_by
from safe_install.snapshot.toml_text import Pairs, Section, Value, render_sections
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    KnownSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    UnknownSource,
    UrlSource,
    is_tree,
)

LOCK_VERSION = "1.0"
CREATED_BY = "safe-install"
TOOL = "safe-install"  # the name of our tables
NO_HASH = "no hash of it is known"


def render_pylock(snapshot: Snapshot) -> str:
    """The text of a pylock.toml. Equal snapshots give equal texts."""
    packages: List[Section] = []
    unknown: List[Section] = []
    for one in sorted(snapshot.distributions, key=lambda one: one.name):
        source = one.source
        if isinstance(source, UnknownSource):
            origin = {"reason": source.reason, "sha256": source.sha256 or None}
            unknown.append(_unknown(one, origin))
        elif isinstance(source, UrlSource) and source.sha256 is None:
            # a lock file cannot name a file without a hash
            origin = {"reason": NO_HASH, "url": source.url, "subdirectory": source.subdirectory}
            unknown.append(_unknown(one, origin))
        else:
            packages += _package(one, source)
    head: Pairs = {
        "lock-version": LOCK_VERSION,
        "environments": snapshot.environments or None,
        "requires-python": snapshot.requires_python,
        "created-by": CREATED_BY,
        "packages": None if packages else [],
    }
    ours = [(f"[tool.{TOOL}]", _environment(snapshot)), (f"[tool.{TOOL}.torch]", _torch(snapshot))]
    return render_sections([("", head), *packages, *ours, *unknown])


def _package(one: RecordedDistribution, source: KnownSource) -> List[Section]:
    """The tables of one distribution."""
    pairs: Dict[str, Optional[Value]] = {"name": one.name, "version": _locked_version(one)}
    pairs["requires-python"] = one.requires_python
    if isinstance(source, IndexSource):
        pairs["index"] = source.index
    sections: List[Section] = [("[[packages]]", pairs)]
    if isinstance(source, RepositorySource):
        sections.append(("[packages.vcs]", _repository(source)))
    elif isinstance(source, DirectorySource):
        sections.append(("[packages.directory]", _directory(source)))
    else:
        sections.append((_heading(one, source), _file(source, with_name=_is_plain(one, source))))
    sections.append((f"[packages.tool.{TOOL}]", _notes(one)))
    return sections


FileOrigin = Union[IndexSource, UrlSource, FileSource]


def _heading(one: RecordedDistribution, source: FileOrigin) -> str:
    """The heading of a file's table. It is an archive where the user named its URL or path, or
    where its name does not have the version: an installer records the URL of an archive (PEP
    610)."""
    if not _is_plain(one, source):
        return "[packages.archive]"
    return "[[packages.wheels]]" if source.filename.endswith(".whl") else "[packages.sdist]"


def _is_plain(one: RecordedDistribution, source: FileOrigin) -> bool:
    """Is it a file of an index, or built here, with name and version in its file name?"""
    if isinstance(source, UrlSource):
        return False
    if isinstance(source, FileSource) and not source.is_built_here:
        return False
    return is_named_by(source.filename, one.name, one.version)


def _file(source: FileOrigin, *, with_name: bool) -> Pairs:
    pairs: Dict[str, Optional[Value]] = {"name": source.filename if with_name else None}
    if isinstance(source, FileSource):
        pairs["path"] = source.path
    else:
        pairs["url"] = source.url
    pairs["size"] = source.size
    if not isinstance(source, IndexSource):
        pairs["subdirectory"] = source.subdirectory
    if source.sha256 is not None:  # without a hash a URL is among the unknown ones
        pairs["hashes"] = {"sha256": source.sha256}
    return pairs


def _repository(source: RepositorySource) -> Pairs:
    return {
        "type": source.vcs,
        "url": source.url,
        "requested-revision": source.requested_revision,
        "commit-id": source.commit,
        "subdirectory": source.subdirectory,
    }


def _directory(source: DirectorySource) -> Pairs:
    return {
        "path": source.path,
        "editable": source.is_editable or None,
        "subdirectory": source.subdirectory,
    }


def _locked_version(one: RecordedDistribution) -> Optional[str]:
    """The version; None if the specification forbids it, or it is invalid."""
    if is_tree(one.source):
        return None
    try:
        Version(one.version)
    except InvalidVersion:
        return None
    return one.version


def _notes(one: RecordedDistribution) -> Pairs:
    """The pairs of our own table. A pair with None is not written."""
    source = one.source
    is_built_here = isinstance(source, FileSource) and source.is_built_here
    is_editable = isinstance(source, RepositorySource) and source.is_editable
    has_version = _locked_version(one) is not None
    return {
        "version": None if has_version else one.version,
        "written-name": _written_name(one),
        "requested": one.is_requested or None,
        "built-here": is_built_here or None,
        "editable": is_editable or None,
    }


def _written_name(one: RecordedDistribution) -> Optional[str]:
    """The name in METADATA if it is not the normalized one."""
    return None if one.written_name in ("", one.name) else one.written_name


def _unknown(one: RecordedDistribution, origin: Pairs) -> Section:
    """The table of a distribution that no lock file can name. `origin`: the pairs of its source."""
    pairs: Dict[str, Optional[Value]] = {
        "name": one.name,
        **origin,
        "version": one.version,
        "requires-python": one.requires_python,
        "written-name": _written_name(one),
        "requested": one.is_requested or None,
    }
    return f"[[tool.{TOOL}.unknown]]", pairs


def _environment(snapshot: Snapshot) -> Pairs:
    return {
        "python": snapshot.python,
        "platform": snapshot.platform,
        "libc": " ".join(snapshot.libc).strip(),
    }


def _torch(snapshot: Snapshot) -> Pairs:
    if snapshot.torch is None:
        return {}
    torch = snapshot.torch
    return {"version": torch.version, "accelerator": torch.accelerator, "cuda": torch.cuda}

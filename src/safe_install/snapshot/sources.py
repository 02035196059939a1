"""Decides from which source the files of a distribution came. Pure.

Sources are tried in this order: direct_url.json (PEP 610), our history, our store of built wheels,
the wheel index, and the package indexes. direct_url.json comes before our history, because another
program may have changed the environment since.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import unquote, urldefrag, urlsplit

from packaging.tags import Tag
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from safe_install.models import Candidate, CandidateKind, InstalledDistribution, Link, Origin
from safe_install.redaction import HIDDEN, without_secrets
from safe_install.requirements import is_project_name
from safe_install.snapshot.locked import COMMIT, VCS
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    IndexSource,
    RepositorySource,
    Source,
    UnknownSource,
    UrlSource,
)

PYPI = "https://pypi.org/simple"
FILES_OF_PYPI = "files.pythonhosted.org"
SYSTEM_INSTALLERS = ("conda", "debian", "rpm", "apk")

# --- direct_url.json ------------------------------------------------------------------------------


def source_of_direct_url(direct_url: Mapping[str, object]) -> Source:
    """The source in a direct_url.json (packaging.python.org/en/latest/specifications/direct-url).
    It is not trusted, because a wheel may contain one: a URL that pip would misread is refused."""
    url, subdirectory = _text(direct_url, "url"), _text(direct_url, "subdirectory")
    repository = _table(direct_url, "vcs_info")
    # A path may have any characters: its URL is written again, with escapes.
    is_path = url.startswith("file:") and not repository
    if not url or (not is_path and _is_unsafe(url)) or _is_unsafe(subdirectory):
        return UnknownSource("its direct_url.json names no address")
    if repository:
        return _source_of_repository(repository, url, subdirectory)
    if "dir_info" in direct_url:
        is_editable = bool(_table(direct_url, "dir_info").get("editable"))
        return DirectorySource(path_of_url(url), is_editable, subdirectory)
    sha256 = _sha256_of(_table(direct_url, "archive_info"))
    return _source_of_address(url, sha256, None, subdirectory=subdirectory)


def _source_of_repository(
    repository: Mapping[str, object], url: str, subdirectory: str
) -> Union[RepositorySource, UnknownSource]:
    commit = _text(repository, "commit_id")
    if _text(repository, "vcs") not in VCS or not re.fullmatch(COMMIT, commit, re.ASCII):
        return UnknownSource("its direct_url.json names no commit")
    return RepositorySource(
        vcs=_text(repository, "vcs"),
        url=without_secrets(url),
        commit=commit,
        requested_revision=_text(repository, "requested_revision"),
        subdirectory=subdirectory,
    )


def _is_unsafe(text: str) -> bool:
    """Would pip misread this text in a line? It splits lines at spaces, and replaces `${NAME}` by
    variables. Only user and password of a URL may have variables."""
    without_user = re.sub(r"://[^/@\s]*@", "://", text)
    return re.search(r"\s|\$\{", without_user) is not None


def _source_of_address(
    url: str, sha256: Optional[str], size: Optional[int], *, subdirectory: str = ""
) -> Source:
    """The source of a file at a URL, which may be a `file:` URL."""
    filename = filename_of_url(url)
    if not url.startswith("file:"):
        return UrlSource(without_secrets(urldefrag(url)[0]), filename, sha256, size, subdirectory)
    if sha256 is None:
        return UnknownSource(f"it came from {path_of_url(url)}, and no hash of that is known")
    return FileSource(path_of_url(url), filename, sha256, size, subdirectory=subdirectory)


def _sha256_of(archive: Mapping[str, object]) -> Optional[str]:
    """The SHA-256 in archive_info, in `hashes` or in the older field `hash`; None if there is
    none."""
    found = _text(_table(archive, "hashes"), "sha256")
    method, _, value = _text(archive, "hash").partition("=")
    sha256 = found or (value if method == "sha256" else "")
    return sha256.lower() if re.fullmatch("[0-9a-fA-F]{64}", sha256) else None


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def path_of_url(url: str) -> str:
    """`file:///home/me/x%20y` -> `/home/me/x y`."""
    return unquote(urlsplit(url).path)


def filename_of_url(url: str) -> str:
    """The file name in a URL."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]


# --- our history ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PastFile:
    """A file that one of our changes installed."""

    version: str
    url: str
    sha256: Optional[str]
    size: Optional[int]
    origin: Origin
    is_direct: bool  # its URL was written into direct_url.json
    is_listed: bool  # a package index listed it


def read_past_file(row: Mapping[str, object]) -> Optional[PastFile]:
    """The file of a step in the history; None if the step has none."""
    url, version = _text(row, "url"), _text(row, "version")
    if not url or not version:
        return None
    try:
        origin = Origin(_text(row, "kind"))
    except ValueError:
        return None
    size = row.get("size")
    return PastFile(
        version,
        url,
        _text(row, "sha256") or None,
        size if isinstance(size, int) else None,
        origin,
        bool(row.get("direct")),
        bool(row.get("listed")),
    )


def source_of_past(past: PastFile, indexes: Sequence[str]) -> Optional[Source]:
    """The source of a file in the history; None if it does not identify one file. `indexes`: the
    user's package indexes."""
    if past.origin in (Origin.EDITABLE, Origin.REPOSITORY) or past.sha256 is None:
        return None
    filename = filename_of_url(past.url)
    if past.url.startswith("file:"):
        is_built_here = past.origin is Origin.BUILT
        path = path_of_url(past.url)
        return FileSource(path, filename, past.sha256, past.size, is_built_here)
    url = without_secrets(urldefrag(past.url)[0])
    if past.is_listed:
        return IndexSource(index_of(url, indexes), url, filename, past.sha256, past.size)
    return UrlSource(url, filename, past.sha256, past.size)


def find_past(past: Iterable[PastFile], distribution: InstalledDistribution) -> Optional[PastFile]:
    """The newest file of our changes that may be the installed one: it has the same version, and is
    direct where the installed one has a direct_url.json."""
    is_direct = distribution.direct_url is not None
    for one in past:
        if one.version == distribution.version and one.is_direct == is_direct:
            return one
    return None


def index_of(url: str, indexes: Sequence[str]) -> str:
    """The package index that lists a file; "" if that is not known."""
    host = urlsplit(url).hostname or ""
    if host == FILES_OF_PYPI:
        return PYPI
    for index in indexes:
        if urlsplit(index).hostname == host:
            return index.rstrip("/")
    return ""


# --- package indexes and the wheel index ----------------------------------------------------------


@dataclass(frozen=True)
class InstalledFiles:
    """Facts about the wheel of an installed distribution."""

    tags: FrozenSet[Tag] = frozenset()  # in its WHEEL
    metadata: str = ""  # the SHA-256 of its METADATA


@dataclass(frozen=True)
class Listed:
    """A file on a package index that may be the installed one."""

    source: Union[IndexSource, FileSource]
    is_compared: bool  # its METADATA has the hash of the installed one


def find_listed(
    name: NormalizedName, version: str, files: InstalledFiles, links: Iterable[Link], index: str
) -> Optional[Listed]:
    """The file on an index from which a distribution was installed, by version, wheel tags, and the
    hash of METADATA where the index has that.

    Without such a wheel it is the source distribution, from which a wheel was built. Without that,
    it is a wheel that its publisher renamed.
    """
    found: List[Tuple[int, Link]] = []
    for link in links:
        if link.sha256 is None or not is_named_by(link.filename, name, version):
            continue
        rank = _rank(link, files)
        if rank is not None:
            found.append((rank, link))
    if not found:
        return None
    rank, link = min(found, key=lambda pair: (pair[0], pair[1].filename))
    return Listed(_source_of_link(link, str(link.sha256), index), is_compared=rank == 0)


def _source_of_link(link: Link, sha256: str, index: str) -> Union[IndexSource, FileSource]:
    """The source of a link on an index page, which may be a local folder."""
    if link.url.startswith("file:"):
        return FileSource(path_of_url(link.url), link.filename, sha256, link.size)
    return IndexSource(index, without_secrets(link.url), link.filename, sha256, link.size)


def _rank(link: Link, files: InstalledFiles) -> Optional[int]:
    """How well a file fits: 0 a wheel with the same METADATA, 1 a wheel with the same tags, 2 the
    source distribution, 3 a renamed wheel. None for another file."""
    if not link.filename.endswith(".whl"):
        return 2
    tags = parse_wheel_filename(link.filename)[3]
    is_renamed = tags != files.tags
    if not files.tags or (is_renamed and _as_built(tags) != files.tags):
        return None
    is_known = bool(link.metadata and files.metadata)
    if is_known and link.metadata != files.metadata:
        return None
    if is_renamed:
        return 3
    return 0 if is_known else 1


def _as_built(tags: FrozenSet[Tag]) -> FrozenSet[Tag]:
    """The tags that the WHEEL of a renamed wheel may still have: linux_x86_64 for
    manylinux1_x86_64, as in torch 1.8.1."""
    found = set()
    for tag in tags:
        platform = re.sub(r"manylinux(1|2010|2014|_\d+_\d+)_", "linux_", tag.platform)
        found.add(Tag(tag.interpreter, tag.abi, platform))
    return frozenset(found)


def is_named_by(filename: str, name: str, version: str) -> bool:
    """Does the file name of a wheel or a source distribution have this name and version?"""
    parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
    try:
        return parse(filename)[:2] == (name, Version(version))
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return False


def find_known(
    version: str, files: InstalledFiles, candidates: Iterable[Candidate]
) -> Optional[UrlSource]:
    """The wheel on a wheel host with this version and the installed tags; None if there are
    several, for different torches."""
    found: List[Link] = []
    for candidate in candidates:
        is_wheel = candidate.kind is CandidateKind.WHEEL
        if is_wheel and str(candidate.version) == version and candidate.tags == files.tags:
            found.append(candidate.link)
    if len(found) != 1 or found[0].url.startswith("file:"):
        return None
    link = found[0]
    return UrlSource(link.url, link.filename, link.sha256, link.size)


def find_same(sha256: str, links: Iterable[Link], index: str) -> Optional[Listed]:
    """The file on an index with this hash."""
    for link in links:
        if link.sha256 == sha256:
            return Listed(_source_of_link(link, sha256, index), is_compared=True)
    return None


# --- unknown sources ------------------------------------------------------------------------------


def unknown_because(distribution: InstalledDistribution, silence: str) -> UnknownSource:
    """The unknown source with its reason. `silence`: why the package indexes did not answer; ""
    if they answered and do not list the file."""
    if is_of_system(distribution):
        return UnknownSource(f"{distribution.installer} installed it")
    if not is_project_name(distribution.name):
        return UnknownSource("no project may have that name")
    if not distribution.has_record and not distribution.metadata_path.name.endswith(".dist-info"):
        return UnknownSource("it was installed without a list of its files")
    if silence:
        return UnknownSource(silence)
    return UnknownSource("no package index that is used here lists a file like the installed one")


def is_of_system(distribution: InstalledDistribution) -> bool:
    """Did conda or the operating system install it? No package index has their files."""
    return (distribution.installer or "").lower() in SYSTEM_INSTALLERS


def may_be_named(distribution: InstalledDistribution) -> bool:
    """Can a package index have this distribution at all?"""
    return is_project_name(distribution.name) and not is_of_system(distribution)


def is_hidden(source: Source) -> bool:
    """Was a secret removed from the URL, which does not work without it?"""
    return HIDDEN in str(getattr(source, "url", ""))

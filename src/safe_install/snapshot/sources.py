"""Where did the files of a distribution come from? From what is known of one, its one source. Pure.

In this order: what it says itself (direct_url.json, PEP 610), our history, what was built here, what
the wheel index knows, what a package index lists. A person who changed the environment by other
means is believed before our history is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple, Union
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

# --- what it says itself --------------------------------------------------------------------------


def source_of_direct_url(direct_url: Mapping[str, Any]) -> Source:
    """What direct_url.json says (packaging.python.org/en/latest/specifications/direct-url). A wheel
    may bring one of its own: what would end a line of a document is no address."""
    url, subdirectory = _text(direct_url, "url"), _text(direct_url, "subdirectory")
    repository = _table(direct_url, "vcs_info")
    is_path = url.startswith("file:") and not repository  # written anew, with its escapes
    if not url or (not is_path and _is_odd(url)) or _is_odd(subdirectory):
        return UnknownSource("its direct_url.json names no address")
    if repository:
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
    if "dir_info" in direct_url:
        is_editable = bool(_table(direct_url, "dir_info").get("editable"))
        return DirectorySource(path_of_url(url), is_editable, subdirectory)
    sha256 = _sha256_of(_table(direct_url, "archive_info"))
    return _source_of_address(url, sha256, None, subdirectory=subdirectory)


def _is_odd(text: str) -> bool:
    """Would pip read more in it? It ends lines and words at blanks, and writes the values of
    variables into them, which have a place in an address only where user and password stand."""
    without_user = re.sub(r"://[^/@\s]*@", "://", text)
    return re.search(r"\s|\$\{", without_user) is not None


def _source_of_address(
    url: str, sha256: Optional[str], size: Optional[int], *, subdirectory: str = ""
) -> Source:
    """A file at an address, which may be one of this machine."""
    filename = filename_of_url(url)
    if not url.startswith("file:"):
        return UrlSource(without_secrets(urldefrag(url)[0]), filename, sha256, size, subdirectory)
    if sha256 is None:
        return UnknownSource(f"it came from {path_of_url(url)}, and no hash of that is known")
    return FileSource(path_of_url(url), filename, sha256, size, subdirectory=subdirectory)


def _sha256_of(archive: Mapping[str, Any]) -> Optional[str]:
    """Older installers write `hash` alone, and some none."""
    found = _text(_table(archive, "hashes"), "sha256")
    method, _, value = _text(archive, "hash").partition("=")
    sha256 = found or (value if method == "sha256" else "")
    return sha256.lower() if re.fullmatch("[0-9a-fA-F]{64}", sha256) else None


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def path_of_url(url: str) -> str:
    """`file:///home/me/x%20y` -> `/home/me/x y`."""
    return unquote(urlsplit(url).path)


def filename_of_url(url: str) -> str:
    """The name of the file at an address."""
    return unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]


# --- what our history says ------------------------------------------------------------------------


@dataclass(frozen=True)
class PastFile:
    """A file that one of our changes installed."""

    version: str
    url: str
    sha256: Optional[str]
    size: Optional[int]
    origin: Origin
    is_direct: bool  # its address was written into direct_url.json
    is_listed: bool  # a package index listed it


def read_past_file(row: Mapping[str, Any]) -> Optional[PastFile]:
    """A step of the history; None for one that says of no file."""
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
    """None where the row does not name one file. `indexes`: those that the person uses."""
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
    """The newest of our files that is the installed one, as far as that can be told: it has the
    version, and is direct where the installed one says so."""
    is_direct = distribution.direct_url is not None
    for one in past:
        if one.version == distribution.version and one.is_direct == is_direct:
            return one
    return None


def index_of(url: str, indexes: Sequence[str]) -> str:
    """The package index that lists a file; "" where that is not known."""
    host = urlsplit(url).hostname or ""
    if host == FILES_OF_PYPI:
        return PYPI
    for index in indexes:
        if urlsplit(index).hostname == host:
            return index.rstrip("/")
    return ""


# --- what is listed somewhere ---------------------------------------------------------------------


@dataclass(frozen=True)
class InstalledFiles:
    """What the files of an installed distribution say of the archive that they were in."""

    tags: FrozenSet[Tag] = frozenset()  # of its WHEEL
    metadata: str = ""  # sha256 of its METADATA


@dataclass(frozen=True)
class Listed:
    """A file of a package index that may be the one that was installed."""

    source: Union[IndexSource, FileSource]
    is_compared: bool  # its METADATA, too, is the installed one


def find_listed(
    name: NormalizedName, version: str, files: InstalledFiles, links: Iterable[Link], index: str
) -> Optional[Listed]:
    """The file among those that an index lists: of that version, with the installed wheel tags, and
    with the installed METADATA where the index says the hash of it.

    Without such a wheel it is the source distribution: a wheel was built of it. Without that, too, it
    is a wheel that its publisher renamed.
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
    """A file that a page lists; an index may be a folder."""
    if link.url.startswith("file:"):
        return FileSource(path_of_url(link.url), link.filename, sha256, link.size)
    return IndexSource(index, without_secrets(link.url), link.filename, sha256, link.size)


def _rank(link: Link, files: InstalledFiles) -> Optional[int]:
    """0 the same wheel by its METADATA, 1 by its tags alone, 2 the source, 3 a renamed wheel; None:
    another file."""
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
    """The tags that a wheel had before its publisher renamed it for a package index, and that its
    WHEEL may have kept: linux_x86_64 in manylinux1_x86_64, as those of torch 1.8.1."""
    found = set()
    for tag in tags:
        platform = re.sub(r"manylinux(1|2010|2014|_\d+_\d+)_", "linux_", tag.platform)
        found.add(Tag(tag.interpreter, tag.abi, platform))
    return frozenset(found)


def is_named_by(filename: str, name: str, version: str) -> bool:
    """Does the name of a wheel or a source distribution say this name and this version?"""
    parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
    try:
        return parse(filename)[:2] == (name, Version(version))
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return False


def find_known(
    version: str, files: InstalledFiles, candidates: Iterable[Candidate]
) -> Optional[UrlSource]:
    """The wheel that the wheel index knows on a host: of that version, with the installed tags.
    None where it may be one of several, for different torches."""
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
    """A file of this machine where an index lists the same one, which others have, too."""
    for link in links:
        if link.sha256 == sha256:
            return Listed(_source_of_link(link, sha256, index), is_compared=True)
    return None


# --- what is not known ----------------------------------------------------------------------------


def unknown_because(distribution: InstalledDistribution, silence: str) -> UnknownSource:
    """Why nobody knows. `silence`: why the package indexes said nothing; "" where they were
    asked and do not list it."""
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
    """Did another kind of installer bring it, whose files no package index of Python has?"""
    return (distribution.installer or "").lower() in SYSTEM_INSTALLERS


def may_be_named(distribution: InstalledDistribution) -> bool:
    """Can a file or an index of Python's name it at all?"""
    return is_project_name(distribution.name) and not is_of_system(distribution)


def is_hidden(source: Source) -> bool:
    """Was a secret taken out of the address, so that it does not work as it stands?"""
    return HIDDEN in str(getattr(source, "url", ""))

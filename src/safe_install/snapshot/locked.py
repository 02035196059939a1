"""A lock: the distributions that a file names exactly, by their versions and files. Pure."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from safe_install.models import Finding, Severity
from safe_install.requirements import (
    applies,
    is_project_name,
    is_version,
    parse_requirement,
)
from safe_install.resolve.requirements_file import Entry
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    RepositorySource,
    Source,
    UnknownSource,
    UrlSource,
)

NO_NAME = canonicalize_name("")
ARCHIVES = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")
LONGEST_FILENAME = 255  # characters
VCS = ("git", "hg", "svn", "bzr")
COMMIT = r"\w[\w.:+-]*"  # in any of them


@dataclass(frozen=True)
class LockedDistribution:
    """One distribution that a file names exactly."""

    name: NormalizedName  # NO_NAME where only its source code has it
    version: str  # "" if only its file or source code has it
    source: Optional[Source] = None  # None: a file of this version on the package index
    hashes: Tuple[str, ...] = ()  # "sha256:..."; the file has to have one of them
    # the requirement line for pip, without hashes; "" if pip accepts no such name or version
    line: str = ""
    is_requested: bool = True

    def __str__(self) -> str:
        """`numpy 2.1.0`; the line where the name is not known."""
        if self.name == NO_NAME:
            return self.line
        return f"{self.name} {self.version}".rstrip()


@dataclass(frozen=True)
class LockedEnvironment:
    """The content of a lock."""

    distributions: Tuple[LockedDistribution, ...] = ()
    python: str = ""  # the version that an environment.yml requests from conda
    # distributions that may stay and are not compared: conda's, and those of unknown source
    others: FrozenSet[NormalizedName] = frozenset()
    problems: Tuple[Finding, ...] = ()  # errors, because of which it cannot be used
    notes: Tuple[Finding, ...] = ()


# --- requirements files ---------------------------------------------------------------------------


def lock_of_entries(
    entries: Sequence[Entry], markers: Mapping[str, str], *, folder: str
) -> LockedEnvironment:
    """The lines of a requirements file as a lock. `markers`: of the interpreter; lines whose
    markers are false are left out. `folder`: the base of relative paths. A line that is not exact
    is a problem in the result."""
    found: Dict[str, LockedDistribution] = {}
    problems: List[Finding] = []
    for entry in entries:
        requirement = parse_requirement(entry.text)
        if entry.constraint or (requirement is not None and not applies(requirement, markers)):
            continue
        try:
            locked = _lock_entry(entry, requirement, folder)
        except ValueError as error:  # https://[x]
            locked = _problem(entry, f"{entry.text}: no address: {error}")
        if isinstance(locked, Finding):
            problems.append(locked)
            continue
        key = locked.name or locked.line
        if not _is_same_pin(found.setdefault(key, locked), locked):
            problems.append(_problem(entry, f"{entry.text}: {locked.name} is named twice"))
    return LockedEnvironment(tuple(found.values()), problems=tuple(problems))


def _is_same_pin(one: LockedDistribution, other: LockedDistribution) -> bool:
    return (one.name, one.version, one.source) == (other.name, other.version, other.source)


def _lock_entry(
    entry: Entry, requirement: Optional[Requirement], folder: str
) -> Union[LockedDistribution, Finding]:
    hashes = tuple(text.lower() for text in entry.hashes)
    if entry.editable or requirement is None or requirement.url:
        return _lock_address(entry, requirement, hashes, folder)
    version = exact_version(requirement)
    name = canonicalize_name(requirement.name)
    if version is None:
        return _problem(entry, f"{entry.text}: not an exact version")
    line = f"{requirement.name}=={version}"
    return LockedDistribution(name, version, None, hashes, line)


def exact_version(requirement: Requirement) -> Optional[str]:
    """The only version that a requirement accepts (with any local version identifier); None if
    it accepts several."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "==="):
        return None
    version = specifiers[0].version
    return None if version.endswith(".*") else version


def _problem(entry: Entry, detail: str) -> Finding:
    where = f"{entry.origin}: " if entry.origin else ""
    return Finding(
        "not-exact",
        Severity.ERROR,
        entry.text,
        f"{where}{detail}",
        "A file for sync names one version (name==1.0) or one file (name @ URL): "
        "`safe-install freeze` writes such a file.",
    )


def _lock_address(
    entry: Entry,
    requirement: Optional[Requirement],
    hashes: Tuple[str, ...],
    folder: str,
) -> Union[LockedDistribution, Finding]:
    """Lock a file, a folder or a repository that is named by a URL or a path."""
    text = str(requirement.url) if requirement is not None and requirement.url else entry.text
    address, fragments = _split_fragment(text)
    name = canonicalize_name(requirement.name if requirement is not None else "")
    name = name or canonicalize_name(fragments.get("egg", ""))
    subdirectory = fragments.get("subdirectory", "")
    if address.split("+")[0] in VCS and "+" in address:
        repository = _repository(address, subdirectory, is_editable=entry.editable)
        return _lock_repository(entry, name, repository)
    url = _as_url(re.sub(r"\[[^\]]*\]$", "", address), folder)
    if not filename_of(url).lower().endswith(ARCHIVES):
        is_path = "/" in address or address.startswith(".")
        if not url.startswith("file:") or not is_path:
            return _problem(entry, f"{entry.text}: neither a version nor the address of a file")
        source = DirectorySource(path_of(url), entry.editable, subdirectory)
        return LockedDistribution(name, "", source, (), _line_of(entry))
    if "sha256" in fragments:
        hashes = (*hashes, f"sha256:{fragments['sha256'].lower()}")
    return _lock_file(entry, name, url, hashes, subdirectory)


def _lock_file(
    entry: Entry, name: NormalizedName, url: str, hashes: Tuple[str, ...], subdirectory: str
) -> LockedDistribution:
    filename = filename_of(url)
    name_of_file, version = parse_filename(filename)
    source = _file_at(url, filename, only_sha256(hashes), subdirectory)
    return LockedDistribution(name or name_of_file, version, source, hashes, _line_of(entry))


def _lock_repository(
    entry: Entry, name: NormalizedName, source: RepositorySource
) -> LockedDistribution:
    line = _line_of(entry)
    if name != NO_NAME and source.url.startswith("file:"):
        line = _repository_line(name, source)
    return LockedDistribution(name, "", source, (), line)


def _file_at(url: str, filename: str, sha256: Optional[str], subdirectory: str) -> Source:
    if url.startswith("file:"):
        return FileSource(path_of(url), filename, sha256 or "", subdirectory=subdirectory)
    return UrlSource(url, filename, sha256, subdirectory=subdirectory)


def _line_of(entry: Entry) -> str:
    """The line for pip, without its marker, which is true."""
    text = re.split(r"\s;", entry.text)[0].strip()
    return f"-e {text}" if entry.editable else text


def _split_fragment(text: str) -> Tuple[str, Mapping[str, str]]:
    if "://" not in text and not text.startswith("file:"):
        return text, {}
    address, _, fragment = text.partition("#")
    pairs = [part.partition("=") for part in fragment.split("&") if part]
    return address, {name: unquote(value) for name, _, value in pairs}


def _repository(address: str, subdirectory: str, *, is_editable: bool) -> RepositorySource:
    """Parse `git+https://host/path.git@REVISION`."""
    vcs, _, url = address.partition("+")
    parts = urlsplit(url)
    path, at, revision = parts.path.rpartition("@")
    if not at:
        path, revision = parts.path, ""
    return RepositorySource(
        vcs,
        urlunsplit(parts._replace(path=path)),
        revision if is_commit(revision) else "",
        requested_revision=revision,
        subdirectory=subdirectory,
        is_editable=is_editable,
    )


def is_commit(revision: str) -> bool:
    """Is it the full hash of a git commit?"""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def _as_url(text: str, folder: str) -> str:
    if re.match(r"[a-z]+://", text, re.I):
        return text
    if text.startswith("file:"):
        text = unquote(text[len("file:") :])
    return file_url(posixpath.normpath(posixpath.join(folder, text)))


def file_url(path: str) -> str:
    """The `file:` URL of an absolute path."""
    return PurePosixPath(path).as_uri()


def path_of(url: str) -> str:
    """The path in a `file:` URL."""
    return unquote(urlsplit(url).path).rstrip("/") or "/"


def filename_of(url: str) -> str:
    """The file name in a URL."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def only_sha256(hashes: Sequence[str]) -> Optional[str]:
    """The SHA-256 among hashes such as "sha256:..."; None if there is none, or several."""
    found = {text.partition(":")[2] for text in hashes if text.startswith("sha256:")}
    return found.pop() if len(found) == 1 else None


def parse_filename(filename: str) -> Tuple[NormalizedName, str]:
    """Name and version in the file name of a wheel or a source distribution; (NO_NAME, "") where
    they are not in it."""
    if len(filename) > LONGEST_FILENAME:  # a long name may expand to millions of wheel tags
        return NO_NAME, ""
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
        else:
            name, version = parse_sdist_filename(filename)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return NO_NAME, ""
    return name, str(version)


def entry_of(locked: LockedDistribution) -> Entry:
    """The entry of a requirements file for a locked distribution."""
    is_editable = locked.line.startswith("-e ")
    text = locked.line[len("-e ") :] if is_editable else locked.line
    return Entry(text, editable=is_editable, hashes=locked.hashes)


# --- snapshots ------------------------------------------------------------------------------------


def lock_recorded(recorded: RecordedDistribution) -> LockedDistribution:
    """Lock a distribution of a snapshot."""
    source: Optional[Source] = recorded.source
    if isinstance(source, UnknownSource):
        source = None
    sha256 = getattr(source, "sha256", None)
    return LockedDistribution(
        recorded.name,
        recorded.version,
        source,
        (f"sha256:{sha256}",) if sha256 else (),
        line=_recorded_line(recorded, source),
        is_requested=recorded.is_requested,
    )


def _recorded_line(recorded: RecordedDistribution, source: Optional[Source]) -> str:
    name = recorded.written_name or recorded.name
    if isinstance(source, DirectorySource):
        tail = f"#subdirectory={source.subdirectory}" if source.subdirectory else ""
        if source.is_editable:
            is_plain = re.fullmatch(r"[\w./+~-]+", source.path)
            return f"-e {source.path if is_plain else file_url(source.path)}{tail}"
        return f"{name} @ {file_url(source.path)}{tail}"
    if not is_project_name(name):
        return ""
    if isinstance(source, RepositorySource):
        return _repository_line(name, source)
    url = address_of(source)
    if url is None:
        return f"{name}=={recorded.version}" if is_version(recorded.version) else ""
    subdirectory = getattr(source, "subdirectory", "")
    tail = f"#subdirectory={subdirectory}" if subdirectory else ""
    return f"{name} @ {url}{tail}"


def _repository_line(name: str, source: RepositorySource) -> str:
    revision = source.commit or source.requested_revision
    address = f"{source.vcs}+{source.url}{'@' if revision else ''}{revision}"
    subdirectory = f"subdirectory={source.subdirectory}" if source.subdirectory else ""
    # pip before 23.3 reads `name @ git+file:///...` as a path.
    if source.is_editable or source.url.startswith("file:"):
        option = "-e " if source.is_editable else ""
        return f"{option}{address}#egg={name}{'&' if subdirectory else ''}{subdirectory}"
    return f"{name} @ {address}{'#' if subdirectory else ''}{subdirectory}"


def address_of(source: Optional[Source]) -> Optional[str]:
    """The URL of the file of a source; None for folders and repositories."""
    if isinstance(source, FileSource):
        return file_url(source.path)
    return getattr(source, "url", None) if not isinstance(source, RepositorySource) else None

"""Parses a file that names an environment exactly, in any of the known formats. Pure."""

from __future__ import annotations

import dataclasses
import enum
import posixpath
import re
from typing import FrozenSet, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote, urljoin

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import InputError
from safe_install.models import Finding, Interpreter, Severity
from safe_install.resolve.requirements_file import Reader, parse_file
from safe_install.snapshot.conda_reader import (
    CondaFile,
    accepts_python,
    exact_python,
    parse_conda_file,
)
from safe_install.snapshot.difference import TOOLS
from safe_install.snapshot.locked import (
    LockedEnvironment,
    file_url,
    lock_of_entries,
    lock_recorded,
)
from safe_install.snapshot.pylock_reader import (
    DEFAULT_GROUPS,
    NO_WHEEL_HERE,
    Machine,
    RequestedGroups,
    parse_pylock,
)
from safe_install.snapshot.requirements_text import read_unknown_names
from safe_install.snapshot.values import (
    DirectorySource,
    FileSource,
    RecordedDistribution,
    RepositorySource,
    Snapshot,
    Source,
    UnknownSource,
    UrlSource,
)

SHOWN = 6  # names in one sentence
OTHER_PYTHON = "other-python"  # the finding on a file that is for another Python


class Form(enum.Enum):
    """The format of a file."""

    PYLOCK = "pylock.toml"
    REQUIREMENTS = "requirements"
    CONDA = "environment.yml"


# Lock files that only one program reads -> its command that writes a standard one.
FOREIGN_LOCKS = {
    "uv.lock": ("uv", "export", "--format", "pylock.toml", "-o", "pylock.toml"),
    "poetry.lock": ("poetry", "export", "-o", "requirements.txt"),
    "pdm.lock": ("pdm", "export", "-o", "requirements.txt"),
    "pipfile.lock": ("pipenv", "requirements", ">", "requirements.txt"),
}


def form_of(location: str) -> Form:
    """The format by the file's name. Errors: InputError for a lock file of a single program."""
    name = re.split(r"[/\\]", location.partition("?")[0])[-1].lower()
    if name in FOREIGN_LOCKS:
        command = " ".join(FOREIGN_LOCKS[name])
        raise InputError(
            f"{location} is written for one program alone",
            hint=f"Write it down for others, too: {command}",
        )
    if name.endswith(".toml"):
        return Form.PYLOCK
    return Form.CONDA if name.endswith((".yml", ".yaml")) else Form.REQUIREMENTS


def split_extras(location: str) -> Tuple[str, FrozenSet[str]]:
    """`pylock.toml[gpu]` -> (lock file, requested extras), as in pip."""
    match = re.match(r"(.+\.toml)\s*\[([^\]]+)\]$", location, re.IGNORECASE)
    if match is None:
        return location, frozenset()
    names = [name.strip() for name in match.group(2).split(",")]
    return match.group(1), frozenset(canonicalize_name(name) for name in names if name)


def parse_lock(
    location: str,
    *,
    interpreter: Interpreter,
    read: Reader,
    environ: Mapping[str, str],
    folder: str,
    wanted: RequestedGroups = DEFAULT_GROUPS,
) -> LockedEnvironment:
    """The content of a file for an interpreter.

    `read`: returns the text of a file; `folder`: the working folder; `wanted`: requested extras and
    groups of a lock file. Errors: InputError.
    """
    form = form_of(location)
    if form is Form.PYLOCK:
        return _parse_pylock(location, read(location), interpreter, folder, wanted)
    text = read(location)
    conda = parse_conda_file(text, location) if form is Form.CONDA else None
    lines = with_whole_paths(text if conda is None else "\n".join(conda.pip))
    parsed = parse_file(
        location, read=lambda named: lines if named == location else read(named), environ=environ
    )
    lock = lock_of_entries(parsed.entries, interpreter.markers, folder=folder)
    lock = _with_unknown(lock, read_unknown_names(text))
    return lock if conda is None else _with_conda(lock, conda, location, interpreter)


def with_whole_paths(text: str) -> str:
    """The text with URLs for the paths of editable folders. `pip freeze` writes paths with spaces
    without quotes; it writes nothing else on such a line."""
    return re.sub(r"(?m)^-e (/[^\s'\"\\#]*(?: (?!-)[^\s'\"\\#]+)+)$", _with_address, text)


def _with_address(line: re.Match[str]) -> str:
    return f"-e {file_url(line.group(1))}"


def requirements_text(location: str, text: str) -> str:
    """The requirements and pip options in a file, as a requirements file; "" for a pylock.toml."""
    form = form_of(location)
    if form is Form.PYLOCK:
        return ""
    lines = text if form is Form.REQUIREMENTS else "\n".join(parse_conda_file(text, location).pip)
    return with_whole_paths(lines)


# --- pylock.toml ----------------------------------------------------------------------------------


def _parse_pylock(
    location: str, text: str, interpreter: Interpreter, folder: str, wanted: RequestedGroups
) -> LockedEnvironment:
    machine = Machine(interpreter.version, interpreter.markers, interpreter.tags)
    snapshot = parse_pylock(text, name=location, machine=machine, wanted=wanted)
    if re.match(r"https?://", location):
        distributions = tuple(_at_url(location, one) for one in snapshot.distributions)
        snapshot = dataclasses.replace(snapshot, distributions=distributions)
    here = posixpath.dirname(posixpath.join(folder, location))
    return lock_of_snapshot(snapshot, interpreter, folder=here)


def read_record(
    location: str, *, interpreter: Interpreter, read: Reader, folder: str, wanted: RequestedGroups
) -> Snapshot:
    """The content of a lock file as a snapshot for a comparison. The lock file may be for another
    machine. Errors: InputError."""
    machine = Machine(interpreter.version, interpreter.markers, interpreter.tags)
    snapshot = parse_pylock(
        read(location), name=location, machine=machine, wanted=wanted, takes_foreign=True
    )
    here = posixpath.dirname(posixpath.join(folder, location))
    found = []
    for one in snapshot.distributions:
        found.append(dataclasses.replace(one, source=_at_absolute_path(one.source, here)))
    return dataclasses.replace(snapshot, distributions=tuple(found))


def _at_url(location: str, recorded: RecordedDistribution) -> RecordedDistribution:
    """A distribution of a lock file on a host, with the URL of a file that is named relative to the
    lock file. Errors: InputError for a local file, which such a lock file may not name."""
    source = recorded.source
    if isinstance(source, FileSource) and not posixpath.isabs(source.path):
        url = urljoin(location, quote(source.path))
        source = UrlSource(url, source.filename, source.sha256, source.size, source.subdirectory)
        return dataclasses.replace(recorded, source=source)
    place = str(getattr(source, "path", "") or getattr(source, "url", ""))
    is_file = isinstance(source, (FileSource, DirectorySource)) or place.startswith(("file:", "/"))
    is_repository = isinstance(source, RepositorySource) and _is_path(source.url)
    if is_file or is_repository:
        raise InputError(
            f"{location} names {place}, which is of this machine",
            hint="Fetch the lock file, look at it, and name the copy.",
        )
    return recorded


def lock_of_snapshot(
    snapshot: Snapshot, interpreter: Interpreter, *, folder: str
) -> LockedEnvironment:
    """A snapshot as a lock. `folder`: the base of relative paths in the snapshot."""
    found = []
    problems = []
    notes = []
    for recorded in snapshot.distributions:
        problem = _why_unfit(recorded, interpreter)
        if problem is not None:
            problems.append(problem)
            continue
        if isinstance(recorded.source, UnknownSource):
            if recorded.name in TOOLS:
                continue  # pip and setuptools come with every environment
            notes.append(_note_unknown(recorded, recorded.source))
        source = _at_absolute_path(recorded.source, folder)
        found.append(lock_recorded(dataclasses.replace(recorded, source=source)))
    return LockedEnvironment(tuple(found), problems=tuple(problems), notes=tuple(notes))


def _why_unfit(recorded: RecordedDistribution, interpreter: Interpreter) -> Optional[Finding]:
    source = recorded.source
    name = f"{recorded.name} {recorded.version}".rstrip()
    if isinstance(source, UnknownSource) and source.reason == NO_WHEEL_HERE:
        return no_file(recorded.name, f"{name}: {source.reason}")
    try:
        wanted = SpecifierSet(recorded.requires_python)
    except InvalidSpecifier:
        return None
    if wanted.contains(interpreter.version, prereleases=True):
        return None
    detail = f"{name} requires Python {wanted}, and this is {interpreter.version}"
    return no_file(recorded.name, detail)


def no_file(name: str, detail: str) -> Finding:
    """The finding that a lock has no file for this interpreter."""
    return Finding("no-file-here", Severity.ERROR, name, detail)


def _note_unknown(recorded: RecordedDistribution, source: UnknownSource) -> Finding:
    return Finding(
        "source-unknown",
        Severity.NOTE,
        recorded.name,
        f"{recorded.name} {recorded.version}: the file does not say where it is from "
        f"({source.reason}); if it has to be fetched, the package index is asked",
    )


def _at_absolute_path(source: Source, folder: str) -> Source:
    if isinstance(source, (FileSource, DirectorySource)):
        path = posixpath.normpath(posixpath.join(folder, source.path))
        return dataclasses.replace(source, path=path)
    if isinstance(source, RepositorySource) and _is_path(source.url):
        path = posixpath.normpath(posixpath.join(folder, source.url))
        return dataclasses.replace(source, url=file_url(path))
    return source


def _is_path(place: str) -> bool:
    """Is a repository named by a local path? URLs and `git@host:path` have a colon."""
    return ":" not in place


# --- distributions of unknown source --------------------------------------------------------------


def _with_unknown(lock: LockedEnvironment, names: FrozenSet[NormalizedName]) -> LockedEnvironment:
    """The lock, in which distributions with an unknown source may stay as they are."""
    unknown = names - set(TOOLS)
    if not unknown:
        return lock
    listed = sorted(unknown)
    shown = ", ".join(listed[:SHOWN]) + (" ..." if len(listed) > SHOWN else "")
    detail = f"the file does not say where these are from, and they are left as they are: {shown}"
    note = Finding("source-unknown", Severity.NOTE, listed[0], detail)
    return dataclasses.replace(lock, others=unknown, notes=(*lock.notes, note))


# --- environment.yml ------------------------------------------------------------------------------


def _with_conda(
    lock: LockedEnvironment, conda: CondaFile, location: str, interpreter: Interpreter
) -> LockedEnvironment:
    """The lock, in which conda's packages stay as they are and are not compared."""
    problems = list(lock.problems)
    if not accepts_python(conda.python, interpreter.version):
        detail = f"{location} is for Python {conda.python}, and this is {interpreter.version}"
        problems.append(Finding(OTHER_PYTHON, Severity.ERROR, "python", detail))
    notes = list(lock.notes)
    pip = {one.name for one in lock.distributions}
    others = [name for name in conda.names if name not in (*NOT_DISTRIBUTIONS, *pip)]
    if others:
        notes.append(_note_conda(location, others))
    return dataclasses.replace(
        lock,
        python=exact_python(conda.python),
        others=lock.others.union(others),
        problems=tuple(problems),
        notes=tuple(notes),
    )


NOT_DISTRIBUTIONS = ("python", "pip")


def _note_conda(location: str, names: Sequence[str]) -> Finding:
    listed = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
    return Finding(
        "conda-part",
        Severity.NOTE,
        "conda",
        f"what {location} asks of conda is not looked at ({listed})",
        f"conda env update --file {location} does that.",
    )

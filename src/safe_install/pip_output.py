"""Parses the messages of pip. pip has no other interface for failures: its report describes a
success only.

This is the only module that knows pip's messages, as in pip 23.0 to 26.2; the tests have lines that
these versions printed. Messages of pip that we print are in `resolve.pip_words`.
"""

from __future__ import annotations

import re
from typing import Container, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, TypedDict

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.requirements import (
    accepts,
    parse_requirement,
    requirement_name,
    without_marker,
)

# --- the installation report ----------------------------------------------------------------------


class ArchiveInfo(TypedDict, total=False):
    """The hashes of a file. `hash` is the older form: "sha256=..."."""

    hash: str
    hashes: Dict[str, str]


class DirectoryInfo(TypedDict, total=False):
    """A folder."""

    editable: bool


class DownloadInfo(TypedDict, total=False):
    """Where a file comes from, in the form of direct_url.json (PEP 610)."""

    url: str
    archive_info: ArchiveInfo
    dir_info: DirectoryInfo
    vcs_info: Mapping[str, str]
    subdirectory: str


class _Metadata(TypedDict):
    name: str
    version: str


class ReportMetadata(_Metadata, total=False):
    """The fields of METADATA that are used."""

    requires_dist: List[str]


class _Entry(TypedDict):
    metadata: ReportMetadata


class ReportEntry(_Entry, total=False):
    """A distribution that pip would install."""

    download_info: DownloadInfo
    is_direct: bool
    requested: bool
    requested_extras: List[str]


class InstallationReport(TypedDict, total=False):
    """pip's report of format 1, as far as it is used."""

    install: List[ReportEntry]


# --- kinds of lines -------------------------------------------------------------------------------

_OF_BUILDS = (
    "Building wheel",
    "Building editable",
    "Created wheel for",
    "Created editable for",
    "Stored in directory",
    "Successfully built",
    "Failed to build",
)
_OF_SEARCHES = (
    "Collecting ",
    "Processing ",
    "Obtaining ",
    "Looking in ",
    "Using pip ",
    "Using cached ",
    "Saved ",
    "Installing collected packages",
    "Successfully installed",
    "Link requires a different Python",
)
# Python's warnings where a password is not read from a terminal.
_OF_GETPASS = (
    "GetPassWarning: ",
    "passwd = fallback_getpass(",
    "Warning: Password input may be echoed.",
)


def is_of_build(line: str) -> bool:
    """Does a line say that something is being built, or was?"""
    return line.strip().startswith(_OF_BUILDS)


def is_of_search(line: str) -> bool:
    """Is it a line about the search, which was shown before, or which we print ourselves?"""
    return line.strip().startswith(_OF_SEARCHES)


def is_summary_of_dry_run(line: str) -> bool:
    """Does a line list what a dry run would install?"""
    return line.startswith("Would install ")


def is_about_same_version(line: str, names: Container[NormalizedName]) -> bool:
    """Does a line say that the provided wheel of one of these projects is not installed, because
    the same version is installed? For our files this is not true."""
    name, phrase, _ = line.partition(" is already installed with the same version as the provided")
    return bool(phrase) and canonicalize_name(name) in names


def is_of_getpass(line: str) -> bool:
    """Is it a warning about a password that is not read from a terminal?"""
    return any(words in line for words in _OF_GETPASS)


# --- questions ------------------------------------------------------------------------------------

# pip writes them without a newline, then reads an answer: pip/_internal/network/auth.py.
_USER = re.compile(r"User for (\S+): $")
PASSWORD_QUESTION = "Password: "  # noqa: S105 - a question
SAVE_QUESTION = "Save credentials to keyring [y/N]: "


def user_question(place: str) -> str:
    """The question for a user name; `place`: host and port."""
    return f"User for {place}: "


def place_in_question(text: str) -> Optional[str]:
    """The host and port in a question for a user name; None if the text is no such question."""
    match = _USER.search(text)
    return match.group(1) if match is not None else None


# --- failures -------------------------------------------------------------------------------------

# Python's messages for ENOSPC and EDQUOT.
_FULL = ("No space left on device", "Disk quota exceeded")
_NOTHING_FOUND = "No matching distribution"
_AT_WORK = re.compile(
    r"^\s*(?:Collecting|Processing|Obtaining|Building (?:wheel|editable) for) (\S+)", re.M
)
_USER_CONSTRAINT = re.compile(r"The user requested \(constraint\) (\S+)")
_DEPENDS = re.compile(r"^\s+(\S+(?: \S+)?) depends on (\S.*)$", re.M)
_NO_VERSION = re.compile(r"(?:satisfies the requirement|No matching distribution found for) (\S+)")
_INCONSISTENT = re.compile(
    r"Requested (\S+) .*has inconsistent version: expected '([^']*)', but metadata has '([^']*)'"
)
_REQUESTED = re.compile(r"The user requested (?!\(constraint\))(\S.*)")
_ERROR_OR_COLLECTING = re.compile(r"^(?:ERROR: (.*)|Collecting (\S+).*)$", re.M)
_NAME = re.compile(r"(?<![/\w.-])[A-Za-z0-9][A-Za-z0-9._-]*(?![/\w])")  # no part of a path


def failure_line(errors: str) -> str:
    """The line of pip's stderr that explains the failure: the last error, else the last line."""
    lines: List[str] = [line for line in errors.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("ERROR:")]
    return (marked or lines or ["no message"])[-1]


def is_disk_full(output: str) -> bool:
    """Was there no room on a disk?"""
    return any(words in output for words in _FULL)


def has_no_match(output: str) -> bool:
    """Did pip find no file for a requirement?"""
    return _NOTHING_FOUND in output


def name_at_work(output: str) -> Optional[str]:
    """The last requirement, path or URL on which pip worked before it ended."""
    names: List[str] = _AT_WORK.findall(output)
    return names[-1] if names else None


def unmatched_requirement(output: str) -> Optional[str]:
    """The requirement for which pip found no file: `torch==2.13.0`."""
    found: List[str] = _NO_VERSION.findall(output)
    return found[0] if found else None


def wishes_in_conflict(output: str, name: NormalizedName) -> Tuple[str, ...]:
    """The requirements on a project in pip's conflict: `torch<2.1,>=2.0`. Several versions of one
    distribution may be among those that require it."""
    return tuple(party.what for party in parties_in_conflict(output, name))


class Party(NamedTuple):
    """A distribution and its requirement in pip's conflict."""

    who: str  # "torchvision 0.29.1"
    what: str  # "torch==2.14.1"

    @property
    def project(self) -> str:
        """`torchvision`."""
        return self.who.partition(" ")[0]


def parties_in_conflict(output: str, name: NormalizedName) -> Tuple[Party, ...]:
    """Each line on a project in pip's conflict."""
    parties = _read_parties(output)
    return tuple(party for party in parties if requirement_name(party.what) == name)


def _read_parties(output: str) -> List[Party]:
    """All of them. pip joins two specifiers by a word: torch<2.1 and >=2.0."""
    return [Party(who, what.replace(" and ", ",")) for who, what in _DEPENDS.findall(output)]


def lacks_module(output: str, module: str) -> bool:
    """Did a build fail to import this module?"""
    return f"No module named '{module}'" in output


def other_version(output: str, name: NormalizedName, version: str) -> Optional[str]:
    """The version in the METADATA of a file that pip discarded, because its file name has
    `version`; None if pip discarded none."""
    for requirement, in_filename, in_metadata in _INCONSISTENT.findall(output):
        if requirement_name(requirement) == name and in_filename == version:
            return str(in_metadata)
    return None


class ConstraintConflict(NamedTuple):
    """Something in a request that one of our constraints excludes."""

    wish: str  # as a sentence: "base 1.0 requires torch>=2.14", "torch>=2.14 was wanted"
    constraint: str  # "torch==2.13.0"
    asked: str = ""  # "torch>=2.14": the requirement, where no distribution has it

    def __str__(self) -> str:
        return f"{self.wish}, but {self.constraint} is installed"


def find_constraint_conflict(
    output: str, constraints: Sequence[str]
) -> Optional[ConstraintConflict]:
    """What conflicts with one of our constraints if that is why pip failed; None if it is not.

    pip's resolver prints "The conflict is caused by:" and one line for each party (unchanged since
    pip 20.3), or, where no version is left, "Could not find a version that satisfies the
    requirement".
    """
    guarded = {requirement_name(line): line for line in constraints}
    parties = [party for party in _read_parties(output) if requirement_name(party.what) in guarded]
    # pip lists all parties, also those that the constraint meets
    parties = [
        party for party in parties if _excludes(party, guarded[requirement_name(party.what)])
    ] or parties
    if parties:
        constraint = guarded[requirement_name(parties[0].what)]
        return ConstraintConflict(_describe_parties(parties), constraint)
    for line in _USER_CONSTRAINT.findall(output):
        name = requirement_name(line)
        if name in guarded:
            asked = [text for text in _REQUESTED.findall(output) if requirement_name(text) == name]
            return _asked_against(asked[0] if asked else str(name), guarded[name])
    for text in _NO_VERSION.findall(output):
        if requirement_name(text) in guarded:
            return _asked_against(text, guarded[requirement_name(text)])
    return None


def _excludes(party: Party, constraint: str) -> bool:
    """Does it exclude the version of a constraint such as torch==2.13.0?"""
    requirement = parse_requirement(party.what)
    _, _, version = constraint.partition("==")
    return requirement is not None and bool(version) and not accepts(requirement, version)


def _describe_parties(parties: Sequence[Party]) -> str:
    """`base 1.0 requires torch>=2.14`; of several the first three."""
    sentences = [f"{party.who} requires {without_marker(party.what)}" for party in parties]
    return "; ".join(list(dict.fromkeys(sentences))[:3])


def _asked_against(asked: str, constraint: str) -> ConstraintConflict:
    return ConstraintConflict(f"{asked} was wanted", constraint, asked)


def names_in_failure(output: str, known: Container[NormalizedName]) -> Tuple[NormalizedName, ...]:
    """The known projects that pip was collecting, or that its errors name, in order of appearance.
    Paths do not count, such as a find-links folder called torchvision."""
    found: List[NormalizedName] = []
    for error, collected in _ERROR_OR_COLLECTING.findall(output):
        for text in _NAME.findall(error or collected):
            name = canonicalize_name(text)
            if name in known and name not in found:
                found.append(name)
    return tuple(found)


# "ERROR: Cannot install torch and torchvision==0.28.0 because ...": versions that pip tried, too.
_TRIED = re.compile(r"(?m)^ERROR: Cannot install .*$")


def requirement_in_failure(output: str, name: NormalizedName) -> str:
    """The requirement on `name` in pip's failure, with its specifier where there is one. The versions
    that pip tried are not requirements."""
    pattern = "[-_.]+".join(re.escape(part) for part in name.split("-"))
    specifiers = r"((?:[<>=!~]=?=?\s*[\w.*+!]+\s*,?\s*)+)"
    requirements = _TRIED.sub("", output)
    for match in re.finditer(rf"(?i)\b{pattern}\b\s*{specifiers}", requirements):
        requirement = parse_requirement(f"{name}{match.group(1).strip().rstrip(',')}")
        if requirement is not None:
            return str(requirement)
    return str(name)

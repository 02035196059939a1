"""What pip's sentences say. pip has no other interface for this: its report tells of a success
alone.

The one place that knows pip's English, as it is in pip 23.0 to 26.2; the tests have lines that
these versions printed. What we say in pip's words stands in `resolve.pip_words`.
"""

from __future__ import annotations

import re
from typing import Container, List, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.requirements import parse_requirement, requirement_name, without_marker

# --- whose a line is ------------------------------------------------------------------------------

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
# What Python says of a password that is not read from a terminal.
_OF_GETPASS = (
    "GetPassWarning: ",
    "passwd = fallback_getpass(",
    "Warning: Password input may be echoed.",
)


def is_of_build(line: str) -> bool:
    """Does it say that something is built, or was?"""
    return line.strip().startswith(_OF_BUILDS)


def is_of_search(line: str) -> bool:
    """Was it said before, by the pip that resolved, or is it ours to say?"""
    return line.strip().startswith(_OF_SEARCHES)


def is_summary_of_dry_run(line: str) -> bool:
    """Does it list what an install would bring?"""
    return line.startswith("Would install ")


def is_about_same_version(line: str, names: Container[NormalizedName]) -> bool:
    """Does it say of one of these that a wheel which pip was shown is not installed, because that
    version is there? Of our files that is wrong: they replace it."""
    name, said, _ = line.partition(" is already installed with the same version as the provided")
    return bool(said) and canonicalize_name(name) in names


def is_of_getpass(line: str) -> bool:
    """Does it warn of a password that is read from us?"""
    return any(words in line for words in _OF_GETPASS)


# --- questions ------------------------------------------------------------------------------------

# Written without a newline before an answer is read: pip/_internal/network/auth.py.
_USER = re.compile(r"User for (\S+): $")
PASSWORD_QUESTION = "Password: "  # noqa: S105 - a question
SAVE_QUESTION = "Save credentials to keyring [y/N]: "


def user_question(place: str) -> str:
    """The question for a user name; `place`: host and port."""
    return f"User for {place}: "


def place_in_question(text: str) -> Optional[str]:
    """The host and port for which a user name is asked; None where the text is no such question."""
    match = _USER.search(text)
    return match.group(1) if match is not None else None


# --- failures -------------------------------------------------------------------------------------

# What Python has of ENOSPC and EDQUOT.
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
_TELLING_LINE = re.compile(r"^(?:ERROR: (.*)|Collecting (\S+).*)$", re.M)


def failure_line(errors: str) -> str:
    """The line of pip's stderr that says best why it failed."""
    lines: List[str] = [line for line in errors.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("ERROR:")]
    return (marked or lines or ["no message"])[-1]


def is_disk_full(output: str) -> bool:
    """Was there no room on a disk?"""
    return any(words in output for words in _FULL)


def has_no_match(output: str) -> bool:
    """Did no index have a file for a requirement?"""
    return _NOTHING_FOUND in output


def name_at_work(output: str) -> Optional[str]:
    """What pip was at when it ended: the last requirement, path or address whose code it said that
    it would start."""
    names: List[str] = _AT_WORK.findall(output)
    return names[-1] if names else None


def unmatched_requirement(output: str) -> Optional[str]:
    """The requirement for which no place had a file: `torch==2.13.0`."""
    found: List[str] = _NO_VERSION.findall(output)
    return found[0] if found else None


def wishes_in_conflict(output: str, name: NormalizedName) -> Tuple[str, ...]:
    """What the parties of pip's conflict require of a project: `torch<2.1,>=2.0`. Of one party
    there may be several versions, each with a wish of its own."""
    return tuple(what for _, what in parties_in_conflict(output, name))


def parties_in_conflict(output: str, name: NormalizedName) -> Tuple[Tuple[str, str], ...]:
    """Who requires what of a project in pip's conflict: `torchvision 0.29.1`, `torch==2.14.1`. pip
    joins two specifiers by a word: torch<2.1 and >=2.0."""
    parties = [(who, what.replace(" and ", ",")) for who, what in _DEPENDS.findall(output)]
    return tuple((who, what) for who, what in parties if requirement_name(what) == name)


def lacks_module(output: str, module: str) -> bool:
    """Did a build that pip started fail to import it?"""
    return f"No module named '{module}'" in output


def other_version(output: str, name: NormalizedName, version: str) -> Optional[str]:
    """The version in the METADATA of a file of `name`, where pip put the file aside because its
    name says `version`."""
    for requirement, expected, said in _INCONSISTENT.findall(output):
        if requirement_name(requirement) == name and expected == version:
            return str(said)
    return None


def conflict_reason(output: str, constraints: Sequence[str]) -> Optional[str]:
    """The sentence that names who wanted a guarded distribution moved, when pip's failure was one
    of our constraints.

    pip's resolver prints "The conflict is caused by:" with one line a party (unchanged since pip
    20.3), or, when no version at all is left, "Could not find a version that satisfies the
    requirement".
    """
    guarded = {requirement_name(line): line for line in constraints}
    parties = [
        (who, what) for who, what in _DEPENDS.findall(output) if requirement_name(what) in guarded
    ]
    if parties:
        told = []
        for who, what in parties:
            # pip joins two specifiers by a word: torch<2.1 and >=2.0
            sentence = f"{who} requires {without_marker(what.replace(' and ', ','))}"
            if sentence not in told:
                told.append(sentence)
        name = requirement_name(parties[0][1])
        return f"{'; '.join(told[:3])}, but {guarded[name]} is installed"
    for line in _USER_CONSTRAINT.findall(output):
        name = requirement_name(line)
        if name in guarded:
            asked = [text for text in _REQUESTED.findall(output) if requirement_name(text) == name]
            return f"{asked[0] if asked else name} was wanted, but {guarded[name]} is installed"
    for text in _NO_VERSION.findall(output):
        if requirement_name(text) in guarded:
            return f"{text} was wanted, but {guarded[requirement_name(text)]} is installed"
    return None


def names_in_failure(output: str, known: Container[NormalizedName]) -> Tuple[NormalizedName, ...]:
    """The projects of the wheel index that pip was collecting, or that its errors name, in order of
    appearance.

    Paths are no names: a folder called torchvision among the find-links says nothing.
    """
    found: List[NormalizedName] = []
    for error, collected in _TELLING_LINE.findall(output):
        for text in re.findall(
            r"(?<![/\w.-])[A-Za-z0-9][A-Za-z0-9._-]*(?![/\w])", error or collected
        ):
            name = canonicalize_name(text)
            if name in known and name not in found:
                found.append(name)
    return tuple(found)


# "ERROR: Cannot install torch and torchvision==0.28.0 because ...": versions that pip tried, too.
_TRIED = re.compile(r"(?m)^ERROR: Cannot install .*$")


def requirement_in_failure(output: str, name: NormalizedName) -> str:
    """The requirement on `name` as pip's failure words it, with its specifier when there is one.

    The versions that pip tried are no requirements.
    """
    pattern = "[-_.]+".join(re.escape(part) for part in name.split("-"))
    requirements = _TRIED.sub("", output)
    for match in re.finditer(
        rf"(?i)\b{pattern}\b\s*((?:[<>=!~]=?=?\s*[\w.*+!]+\s*,?\s*)+)", requirements
    ):
        requirement = parse_requirement(f"{name}{match.group(1).strip().rstrip(',')}")
        if requirement is not None:
            return str(requirement)
    return str(name)

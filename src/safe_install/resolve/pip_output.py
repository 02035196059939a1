"""What pip's sentences say."""

from __future__ import annotations

import re
from typing import Container, List, Optional, Sequence, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.resolve.requirements_file import requirement_name, without_marker

_USER_CONSTRAINT = re.compile(r"The user requested \(constraint\) (\S+)")
_DEPENDS = re.compile(r"^\s+(\S+(?: \S+)?) depends on (\S.*)$", re.M)
_NO_VERSION = re.compile(r"(?:satisfies the requirement|No matching distribution found for) (\S+)")
_REQUESTED = re.compile(r"The user requested (?!\(constraint\))(\S.*)")


def conflict_reason(output: str, constraints: Sequence[str]) -> Optional[str]:
    """The sentence that names who wanted a guarded distribution moved, when pip's failure was one of our constraints.

    pip's resolver prints "The conflict is caused by:" with one line a party (unchanged since pip 20.3), or, when no
    version at all is left, "Could not find a version that satisfies the requirement".
    """
    guarded = {requirement_name(line): line for line in constraints}
    parties = [(who, what) for who, what in _DEPENDS.findall(output) if requirement_name(what) in guarded]
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


_TELLING_LINE = re.compile(r"^(?:ERROR: (.*)|Collecting (\S+).*)$", re.M)


def names_in_failure(output: str, known: Container[NormalizedName]) -> Tuple[NormalizedName, ...]:
    """The projects of the wheel index that pip was collecting, or that its errors name, in order of appearance.

    Paths are no names: a folder called torchvision among the find-links says nothing.
    """
    found: List[NormalizedName] = []
    for error, collected in _TELLING_LINE.findall(output):
        for text in re.findall(r"(?<![/\w.-])[A-Za-z0-9][A-Za-z0-9._-]*(?![/\w])", error or collected):
            name = canonicalize_name(text)
            if name in known and name not in found:
                found.append(name)
    return tuple(found)

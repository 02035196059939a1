"""Parses requirements (PEP 508), and evaluates their markers and specifiers. Pure."""

from __future__ import annotations

import re
from typing import AbstractSet, Iterable, Mapping, Optional, Sequence, Tuple, Union

from packaging.markers import (
    InvalidMarker,
    Marker,
    UndefinedComparison,
    UndefinedEnvironmentName,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

MarkerValue = Union[str, AbstractSet[str]]  # a set: what PEP 751 added, such as `extras`

SHOWN = 200  # characters of a marker in a message
# RecursionError: older Pythons, for many nested brackets.
NOT_UNDERSTOOD = (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError)


def parse_requirement(text: str) -> Optional[Requirement]:
    """Parse a requirement (PEP 508); None for other texts, such as a path or a URL."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def normalize_requirements(texts: Sequence[str]) -> Tuple[str, ...]:
    """The requirements in one spelling, so that they can be compared; invalid ones are left out."""
    parsed = [parse_requirement(text) for text in texts]
    return tuple(str(requirement) for requirement in parsed if requirement is not None)


def requirement_name(text: str) -> Optional[NormalizedName]:
    """The project at the beginning of a requirement's text; None if there is none."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", text)
    return canonicalize_name(match.group(1)) if match else None


def is_project_name(text: str) -> bool:
    """Is it a valid project name (PEP 508)? Such a name is safe in a path, and in a line of a
    file."""
    return re.fullmatch(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", text, re.I | re.ASCII) is not None


def is_version(text: str) -> bool:
    """Is it a valid version (PEP 440)?"""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def without_marker(text: str) -> str:
    """A requirement for a message, without its marker and spaces."""
    return text.split(";")[0].strip().replace(" ", "")


def applies(
    requirement: Requirement, markers: Mapping[str, str], extras: Iterable[str] = ()
) -> bool:
    """Is the requirement's marker true?

    `markers`: the values of an interpreter (`Interpreter.markers`). `extras`: the requested extras;
    it is also true where the marker is true without an extra. Errors: UndefinedComparison,
    UndefinedEnvironmentName.
    """
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in (*extras, ""))


def is_true(marker: str, values: Mapping[str, MarkerValue]) -> bool:
    """Is the marker of a lock file true? Errors: ValueError for an invalid one."""
    try:
        return Marker(marker).evaluate(dict(values))
    except NOT_UNDERSTOOD as error:
        raise ValueError(f"the marker {marker[:SHOWN]!r} is not understood") from error


def accepts(requirement: Requirement, version: str) -> bool:
    """Does an installed version meet the specifier? An invalid version meets none, not even the
    empty one."""
    try:
        # Parsed first, because some releases of packaging raise for an invalid version.
        parsed = Version(version)
    except InvalidVersion:
        return False
    return bool(requirement.specifier.contains(parsed, prereleases=True))

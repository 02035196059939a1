"""A requirement (PEP 508): as text, as a value, and whether its marker is true for an
interpreter."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping, Optional, Sequence, Tuple

from packaging.markers import (
    InvalidMarker,
    Marker,
    UndefinedComparison,
    UndefinedEnvironmentName,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

SHOWN = 200  # letters of a marker
# Brackets in brackets go deeper than older Pythons can follow.
NOT_UNDERSTOOD = (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError)


def parse_requirement(text: str) -> Optional[Requirement]:
    """A requirement as PEP 508 writes it, None for anything else (a path, an address, what is
    malformed)."""
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def normalize_requirements(texts: Sequence[str]) -> Tuple[str, ...]:
    """In one form, so that they can be compared; what cannot be read is left out."""
    parsed = [parse_requirement(text) for text in texts]
    return tuple(str(requirement) for requirement in parsed if requirement is not None)


def requirement_name(text: str) -> Optional[NormalizedName]:
    """The project that a requirement's text names."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", text)
    return canonicalize_name(match.group(1)) if match else None


def is_project_name(text: str) -> bool:
    """Is it a name that a project may have (PEP 508)? What is none leads nowhere as part of a path,
    and is no line of its own in a file."""
    return re.fullmatch(r"[A-Z0-9]([A-Z0-9._-]*[A-Z0-9])?", text, re.I | re.ASCII) is not None


def is_version(text: str) -> bool:
    """Is it a version (PEP 440)?"""
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def without_marker(text: str) -> str:
    """A requirement as a sentence shows it: without its marker and its spaces."""
    return text.split(";")[0].strip().replace(" ", "")


def applies(
    requirement: Requirement, markers: Mapping[str, str], extras: Iterable[str] = ()
) -> bool:
    """Is the requirement's marker true?

    `markers`: the values of an interpreter (`Interpreter.markers`). `extras`: those that were asked
    for; what needs no extra applies without one, too. Errors: packaging's, for a marker that
    compares what cannot be compared.
    """
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({**markers, "extra": extra}) for extra in (*extras, ""))


def is_true(marker: str, values: Mapping[str, Any]) -> bool:
    """Is a marker alone true, as a lock file has it? Errors: ValueError for what is none, or what
    compares what cannot be compared."""
    try:
        return Marker(marker).evaluate(dict(values))
    except NOT_UNDERSTOOD as error:
        raise ValueError(f"the marker {marker[:SHOWN]!r} is not understood") from error


def accepts(requirement: Requirement, version: str) -> bool:
    """Does an installed version meet the specifier? A text that is no version meets none, not even
    the empty one."""
    try:
        # Some releases of packaging raise for such a text, others compare it.
        parsed = Version(version)
    except InvalidVersion:
        return False
    return bool(requirement.specifier.contains(parsed, prereleases=True))

"""Which torch was a binary built for? Its assertions tell: each contains the header and line of its
source.

`TORCH_INTERNAL_ASSERT` and similar macros write `.../torch/include/c10/util/intrusive_ptr.h":317`
into .rodata. Lines move between minor releases of torch, so they identify the minor; patch releases
do not differ. The table of lines by version (`torch_headers.json.gz`, made by
scripts/extend_torch_headers.py) was measured: 32 of 32 wheels whose metadata pins one torch were
identified correctly (docs/abi.md).
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional, Set, Tuple

from safe_install.wheels.elf import Buffer

Assertion = Tuple[str, int]  # header below torch/include, line
# header -> "12,34,56" -> versions that have assertions in these lines
Table = Mapping[str, Mapping[str, List[str]]]

_WRITTEN = re.compile(rb"torch/include/([\w+./-]{3,200}\.(?:h|hpp|cuh|inl))\"?:(\d{1,6})\b")
_MACRO = re.compile(r"\b\w*(?:CHECK|ASSERT|ENFORCE)\w*\s*\(")
MIN_ASSERTIONS = 3  # fewer name nothing
# share of a binary's assertions that stand in the headers of the torch that it was built for
SAME = 0.9


class Fingerprint(NamedTuple):
    """What the assertions of a binary tell."""

    assertions: int  # number of assertions in headers that the table has
    # the minors of torch that fit best, several where they do not differ; empty: not known
    minors: Tuple[str, ...] = ()
    share: float = 0.0  # share of the assertions that are in these headers


def find_assertions(rodata: Buffer) -> FrozenSet[Assertion]:
    """The headers and lines in a binary's read-only data."""
    return frozenset(
        (found.group(1).decode(), int(found.group(2))) for found in _WRITTEN.finditer(rodata)
    )


def identify_torch(assertions: Iterable[Assertion], table: Table) -> Fingerprint:
    """The minors whose headers contain most of the assertions' lines."""
    hits: Dict[str, int] = {}
    known = 0
    for header, line in assertions:
        rows = table.get(header)
        if not rows:
            continue
        versions = {
            v for lines, versions in rows.items() if str(line) in lines.split(",") for v in versions
        }
        known += 1
        for version in versions:
            hits[version] = hits.get(version, 0) + 1
    if known < MIN_ASSERTIONS or not hits:
        return Fingerprint(known)
    most = max(hits.values())
    minors = sorted(
        {minor_of(version) for version, count in hits.items() if count == most}, key=_order
    )
    return Fingerprint(known, tuple(minors), most / known)


def minor_of(version: str) -> str:
    """`2.13.0+cpu` -> `2.13`."""
    return ".".join(version.split(".")[:2])


def _order(minor: str) -> Tuple[int, ...]:
    return tuple(int(part) for part in minor.split(".") if part.isdigit())


def known_minors(table: Table) -> FrozenSet[str]:
    """The minors of torch whose headers the table has."""
    return frozenset(
        minor_of(v) for rows in table.values() for versions in rows.values() for v in versions
    )


def share_in_headers(
    assertions: Iterable[Assertion], lines: Mapping[str, FrozenSet[int]]
) -> Optional[float]:
    """The share of the assertions that are in these headers, for a torch that the table does not
    have; None for too few assertions."""
    found = [line in lines.get(header, frozenset()) for header, line in assertions]
    return sum(found) / len(found) if len(found) >= MIN_ASSERTIONS else None


def find_assertion_lines(text: str) -> FrozenSet[int]:
    """The lines of a header that an assertion may report: where the macro begins, and where it
    ends."""
    found: Set[int] = set()
    for macro in _MACRO.finditer(text):
        found.add(text.count("\n", 0, macro.start()) + 1)
        end = _end_of_call(text, macro.end())
        if end is not None:
            found.add(text.count("\n", 0, end) + 1)
    return frozenset(found)


def _end_of_call(text: str, start: int) -> Optional[int]:
    depth = 1
    for position in range(start, min(len(text), start + 4000)):
        character = text[position]
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return position
    return None

"""Rows of a document as cells, which are rows of one wheel each, and cells as rows."""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from packaging.version import Version

from safe_install.index.bundled import make_candidate
from safe_install.index.facts import Build, HostEntry, Project, canonical_url
from safe_install.index.filename import build_filename
from safe_install.models import Link
from safe_install.tags import parse_accelerator

Json = Dict[str, Any]


def cells_of(build: Build) -> Iterator[Build]:
    """A row as rows of one wheel each."""
    for accelerator in build.accelerators:
        for python in build.python:
            for abi in build.cxx11_abi or (None,):
                one = () if abi is None else (abi,)
                yield replace(build, accelerators=(accelerator,), python=(python,), cxx11_abi=one)


def address_of(project: Project, host: HostEntry, cell: Build) -> str:
    """Where a wheel lies; its name where no template says that, and nothing where its name is not
    known."""
    if cell.platform == "macos":
        return ""
    accelerator, python = cell.accelerators[0], cell.python[0]
    abi = cell.cxx11_abi[0] if cell.cxx11_abi else None
    if host.wheel is None:
        return build_filename(
            project.name, cell, host, accelerator=accelerator, python=python, cxx11_abi=abi
        )
    made = make_candidate(
        project, host, cell, accelerator=accelerator, python=python, cxx11_abi=abi
    )
    return canonical_url(made.link.url)


def address_of_link(host: HostEntry, link: Link) -> str:
    return link.filename if host.wheel is None else canonical_url(link.url)


def frame_of(row: Build) -> Build:
    """What the cells of a row have in common."""
    return replace(row, accelerators=(), python=(), cxx11_abi=())


def adopt(frame: Build, known: Mapping[Build, Sequence[Build]]) -> Build:
    """The same with the note of the rows that it joins, where there is one."""
    same = [other for other in known if replace(other, note="") == frame]
    return same[0] if len(same) == 1 else frame


def group(frame: Build, cells: Iterable[Build]) -> List[Build]:
    """As few rows as there are sets of Pythons: each with all the accelerators that have them."""
    table: Dict[str, Dict[str, Set[bool]]] = {}
    for cell in cells:
        table.setdefault(cell.accelerators[0], {}).setdefault(cell.python[0], set()).update(
            cell.cxx11_abi
        )
    shapes: Dict[Tuple[Tuple[str, ...], Tuple[bool, ...]], List[str]] = {}
    for accelerator in sorted(table, key=accelerator_order):
        by_abi: Dict[Tuple[bool, ...], List[str]] = {}
        for python, abis in table[accelerator].items():
            by_abi.setdefault(tuple(sorted(abis)), []).append(python)
        for abi, pythons in by_abi.items():
            shape = (tuple(sorted(set(pythons), key=Version)), abi)
            shapes.setdefault(shape, []).append(accelerator)
    return [
        replace(frame, accelerators=tuple(accelerators), python=pythons, cxx11_abi=abi)
        for (pythons, abi), accelerators in shapes.items()
    ]


def accelerator_order(accelerator: str) -> Tuple[bool, str, Tuple[int, ...]]:
    parsed = parse_accelerator(accelerator)
    return (
        (accelerator != "cpu", parsed.kind, parsed.version) if parsed else (True, accelerator, ())
    )


def row_json(row: Build) -> Json:
    """A row as it stands in a document: only what differs from the default."""
    value: Json = {}
    for one in fields(row):
        found = getattr(row, one.name)
        if one.default is MISSING or found != one.default:
            value[one.name] = list(found) if isinstance(found, tuple) else found
    return value

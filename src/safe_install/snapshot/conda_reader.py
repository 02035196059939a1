"""Parses an environment.yml: its requests to conda, and those to pip. Pure.

Only the usual content is parsed (docs.conda.io, "Creating an environment file manually"): a list of
dependencies, one of which may be a table with a list for pip.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import List, Optional, Tuple

from packaging.utils import NormalizedName, canonicalize_name

from safe_install.errors import InputError

# Projects with another name in conda.
OTHER_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch", "pytorch-gpu": "torch"}

# Characters that begin a list, a table, an anchor, an alias, a tag or a text of several lines.
OTHER_SHAPES = frozenset("[{&*!|>")


@dataclass(frozen=True)
class CondaFile:
    """The requests of an environment.yml."""

    pip: Tuple[str, ...] = ()  # lines of a requirements file
    python: str = ""  # the specification as written: "3.11", "3.11.7", ">=3.10"
    names: Tuple[NormalizedName, ...] = ()  # conda's packages, by their names on the package index


def parse_conda_file(text: str, location: str) -> CondaFile:
    """The requests in the text of a file. Errors: InputError, naming file and line."""
    lines = _read_lines(text, location)
    specifications: List[str] = []
    pip: List[str] = []
    depth_of_pip: Optional[int] = None
    is_inside = False
    for number, depth, content in lines:
        if depth == 0 and not content.startswith("-"):
            is_inside = content.startswith("dependencies:")
            _refuse_inline(content, is_inside, f"{location}, line {number}")
            continue
        if not is_inside:
            continue
        item = _item_of(content, f"{location}, line {number}")
        if depth_of_pip is not None and depth > depth_of_pip:
            pip.append(item)
        elif item.rstrip(": ") == "pip" and item.endswith(":"):
            depth_of_pip = depth
        else:
            depth_of_pip = None
            specifications.append(item)
    return CondaFile(tuple(pip), _python_of(specifications), _names_of(specifications))


def _read_lines(text: str, location: str) -> List[Tuple[int, int, str]]:
    """(number, indentation, content) of the lines that are not empty or comments."""
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        if not line.strip() or line.strip() in ("---", "..."):
            continue
        indentation = line[: len(line) - len(line.lstrip())]
        if "\t" in indentation:
            raise InputError(
                f"{location}, line {number}: a tab in the indentation", hint="Write spaces."
            )
        found.append((number, len(indentation), line.strip()))
    return found


def _refuse_inline(content: str, is_inside: bool, where: str) -> None:
    if is_inside and content != "dependencies:":
        raise InputError(
            f"{where}: the dependencies are not written as a list",
            hint="Write one a line: - numpy.",
        )


def _item_of(content: str, where: str) -> str:
    if not content.startswith("- "):
        raise InputError(f"{where}: {content!r} is no item of a list", hint="Write: - numpy.")
    item = content[2:].strip()
    if item[:1] in OTHER_SHAPES or re.match(r"pip\s*:\s*\S", item):
        raise InputError(
            f"{where}: {item!r} is not written as one text", hint="Write one a line: - numpy."
        )
    return _unquote(item, where)


def _unquote(item: str, where: str) -> str:
    """The value of a YAML text. In single quotes, two single quotes are one. In double quotes only
    the escapes of JSON are known; YAML has some more."""
    quote = item[:1]
    if quote not in ("'", '"'):
        return item
    is_closed = len(item) > 1 and item.endswith(quote)
    if quote == "'" and is_closed:
        return item[1:-1].replace("''", "'")
    try:
        return str(json.loads(item))
    except ValueError as error:
        raise InputError(
            f"{where}: {item} is no text in quotes", hint="Write it in single quotes."
        ) from error


def _python_of(specifications: List[str]) -> str:
    for text in specifications:
        match = re.match(r"(?:[\w.-]+::)?python\s*(?![\w-])(.*)$", text)
        if match is not None:
            return match.group(1).strip()
    return ""


def _names_of(specifications: List[str]) -> Tuple[NormalizedName, ...]:
    found = []
    for text in specifications:
        match = re.match(r"(?:[\w./-]+::)?([A-Za-z0-9_][A-Za-z0-9._-]*)", text)
        if match is not None:
            name = match.group(1).lower().strip("_")
            found.append(canonicalize_name(OTHER_NAMES.get(name, name)))
    return tuple(found)


def accepts_python(specification: str, version: str) -> bool:
    """Does conda's `=3.11`, `3.11.7=h123_0` or `>=3.10,<3.12` accept this version of Python?

    True for what cannot be parsed.
    """
    parts = [part.strip() for part in specification.split(",") if part.strip()]
    return all(_accepts_part(part, version) for part in parts)


def _accepts_part(part: str, version: str) -> bool:
    number = "[0-9]{1,9}"
    numbers = rf"({number}(?:\.{number})*)(\.\*)?"
    match = re.match(rf"(==|>=|<=|!=|>|<|=)?\s*{numbers}(?:=.*)?$", part)
    if match is None:
        return True
    operator, wanted = match.group(1) or "=", _numbers(match.group(2))
    present = _numbers(version)
    if operator in ("=", "==", "!="):
        # In conda `=3.11` is a prefix. For Python `==3.11` is treated in the same way.
        is_prefix = present[: len(wanted)] == wanted
        return is_prefix != (operator == "!=")
    if operator == ">=":
        return present >= wanted
    if operator == "<=":
        return present <= wanted or present[: len(wanted)] == wanted
    return present > wanted if operator == ">" else present < wanted


def exact_python(specification: str) -> str:
    """The exact version: "3.11.7" of `=3.11.7=h123_0`; "" if several are accepted."""
    match = re.match(r"=*\s*([0-9]+(?:\.[0-9]+)*)(?:=.*)?$", specification)
    return "" if match is None else match.group(1)


def _numbers(text: str) -> List[int]:
    return [int(part) for part in re.findall(r"[0-9]+", text)]

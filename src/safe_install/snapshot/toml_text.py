"""Writes simple TOML (toml.io/en/v1.0.0), and reads any TOML. Pure.

Python has no writer for TOML, and a reader only since 3.11.
"""

from __future__ import annotations

import re
import sys
from typing import List, Mapping, Optional, Sequence, Tuple, Union

Value = Union[str, bool, int, Sequence[str], Mapping[str, str]]
Pairs = Mapping[str, Optional[Value]]
Section = Tuple[str, Pairs]  # a heading and its pairs

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {
    "\\": "\\\\",
    '"': '\\"',
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\f": "\\f",
    "\r": "\\r",
}


def render_pairs(pairs: Pairs) -> List[str]:
    """One line `key = value` for each pair; pairs with None or "" are left out."""
    lines: List[str] = []
    for key, value in pairs.items():
        if value is None or value == "":
            continue
        lines.append(f"{render_key(key)} = {render_value(value)}")
    return lines


def render_key(key: str) -> str:
    """A key, in quotes where it needs them."""
    return key if _BARE_KEY.fullmatch(key) else render_text(key)


def render_value(value: Value) -> str:
    """A string, boolean, number, list of strings, or inline table of strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return render_text(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{render_key(key)} = {render_text(value[key])}" for key in value)
        return f"{{ {pairs} }}"
    return f"[{', '.join(render_text(item) for item in value)}]"


def render_text(text: str) -> str:
    """A basic string, with control characters escaped."""
    return '"' + "".join(_render_letter(letter) for letter in text) + '"'


def _render_letter(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    code = ord(letter)
    if code < 0x20 or code == 0x7F:
        return f"\\u{code:04x}"
    if 0xD800 <= code <= 0xDFFF:  # a surrogate, from a path that is not UTF-8
        return "\ufffd"
    return letter


def parse_toml(text: str) -> Mapping[str, object]:
    """The tables of a document. Errors: ValueError."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # Python 3.8 to 3.10
        import tomli as tomllib
    tables: Mapping[str, object] = tomllib.loads(text)
    return tables


def render_sections(sections: Sequence[Section]) -> str:
    """The text of a document. A heading is `[tool.x]`, `[[packages]]`, or "" for the first section.
    A section without pairs is left out, unless it is an element of an array."""
    blocks: List[str] = []
    for heading, pairs in sections:
        lines = render_pairs(pairs)
        if not lines and not heading.startswith("[["):
            continue
        blocks.append("\n".join([heading, *lines] if heading else lines))
    return "\n\n".join(blocks) + "\n"

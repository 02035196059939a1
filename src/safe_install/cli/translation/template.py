"""Sentences with fields, "{name} {version} is gone", and matching of finished sentences.

A text from outside may be anything, so the time for matching is linear in its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Match, Optional, Tuple

FIELD = re.compile(r"\{([a-z][a-z0-9_]*)\}")
# The value of a field may be anything, except where the field's name ends with one of these.
TYPED: Mapping[str, str] = {
    "number": r"\d[\d.]*",
    "version": r"\d([^\s,;]*[^\s,;:])?",
    "word": r"[^\s,;]*[^\s,;:]",
}
# Words of sentences, which are in no name, path, number or command.
PROSE = re.compile(
    r"(?<![^\s(])(?:(?:an?|the) \w|(?:is|are|was|were|be|has|have|had|does|do|did|can|cannot|not|no"
    r"|nothing|which|that|this|what|who|from|with|without|here|there|of|for|to|it|its|by|at|on|as|in"
    r"|or|than|then|when|where|while|until|because)(?=[\s,;:)]|\.(?:\s|$)|$))",
    re.IGNORECASE,
)
QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")
WIDE = re.compile("[\u2e80-\u9fff\uff00-\uffef]")  # Chinese characters and signs


@dataclass(frozen=True)
class Template:
    """A sentence, split at its fields; it has at least one."""

    literals: Tuple[str, ...]  # the texts before, between and after the fields
    fields: Tuple[str, ...]

    @property
    def weight(self) -> int:
        """The length of its fixed texts: of two templates that match, the heavier one is used."""
        return sum(len(literal) for literal in self.literals)

    @property
    def text(self) -> str:
        """The sentence as in the catalogue."""
        pairs = zip(self.literals, self.fields)
        return "".join(f"{literal}{{{field}}}" for literal, field in pairs) + self.literals[-1]

    @property
    def has_lines(self) -> bool:
        """Does the sentence itself have more than one line?"""
        return any("\n" in literal for literal in self.literals)

    def may_have_ends(self, first: str, last: str) -> bool:
        """Could a text with this first and last character be this sentence?"""
        begins = self.literals[0].startswith(first) or not self.literals[0]
        return begins and (self.literals[-1].endswith(last) or not self.literals[-1])

    def match(self, text: str) -> Optional[Dict[str, str]]:
        """The values of the fields; None where the text is another sentence. A value ends where the
        following text first occurs."""
        first, last = self.literals[0], self.literals[-1]
        if "\n" in text and not self.has_lines:
            return None
        end = len(text) - len(last)
        if end < len(first) or not text.startswith(first) or not text.endswith(last):
            return None
        values: Dict[str, str] = {}
        place = len(first)
        for name, literal in zip(self.fields, self.literals[1:-1]):
            found = text.find(literal, place, end)
            if found < 0:
                return None
            values[name] = text[place:found]
            place = found + len(literal)
        values[self.fields[-1]] = text[place:end]
        return values if _are_of_their_types(values) else None


def _are_of_their_types(values: Mapping[str, str]) -> bool:
    for name, value in values.items():
        for ending, pattern in TYPED.items():
            if name.endswith(ending) and re.fullmatch(pattern, value) is None:
                return False
    return True


def is_prose(text: str) -> bool:
    """Is it English prose, and not a name or a command?"""
    return " " in text and PROSE.search(QUOTED.sub("", text)) is not None


def parse_template(text: str) -> Template:
    """`text` in the form of the catalogue."""
    parts = FIELD.split(text)
    literals: List[str] = parts[0::2]
    return Template(tuple(literals), tuple(parts[1::2]))


def fill(text: str, values: Mapping[str, str], told: Mapping[str, str]) -> str:
    """The translation with its values. `told`: the translated values.

    Spaces separate Chinese from other words only: they are removed around a Chinese value.
    """

    def put(found: Match[str]) -> str:
        before, name, behind = found.groups()
        said = told[name]
        if said != values[name]:
            before = "" if WIDE.match(said) else before
            behind = "" if WIDE.match(said[-1:]) else behind
        return f"{before}{said}{behind}"

    return re.sub(rf"( ?){FIELD.pattern}( ?)", put, text)

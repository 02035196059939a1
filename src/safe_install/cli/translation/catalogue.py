"""The catalogue of a language: a .po file of English sentences with fields, and the translation of
finished sentences.

Findings and errors are finished English sentences, which JSON and logs keep. On the way to a
terminal the catalogue recognizes the sentence, extracts its values, and puts them into the
translation. A value that is itself a sentence of the catalogue is translated, too.

A sentence is translated as a whole, or stays English as a whole. Where a value is English prose
without a translation, a more general sentence of the catalogue matched by mistake (`Write
{command}.`), and is not used.
"""

from __future__ import annotations

import pkgutil
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from safe_install.cli.translation.template import WIDE, Template, fill, is_prose, parse_template

# msgctxt of the beginning of a line ("error: "); the rest of the line is a sentence of its own.
BEGINNING = "beginning"
# msgctxt of what is a line, or a cell of a table, by itself: `commit`, `unknown`. In a sentence the same
# word may be a name.
ALONE = "alone"
# Limit of sentences in sentences; ours are never nested deeper.
DEEPEST = 8
# A field whose name ends so holds what torch, Python or the system said, or what is typed: that stays
# as it is.
WORDS_OF_OTHERS = ("error", "typed")
# In one that ends so the words may be those of others, or a sentence of ours.
QUOTES = ("said",)
LONGEST = 10_000  # letters; what is longer is a log
# What parts sentences in Chinese.
COLON, SEMICOLON, FULL_STOP, LIST_COMMA = "\uff1a", "\uff1b", "\u3002", "\u3001"
_BETWEEN_SENTENCES = re.compile(r"(?<=\.) (?=[A-Z])")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPES = {"n": "\n", "t": "\t"}


@dataclass(frozen=True)
class Message:
    """One translation in the file."""

    context: str
    source: str  # msgid
    translation: str  # msgstr


def parse_catalogue(text: str) -> List[Message]:
    """The messages of a .po file: msgctxt, msgid and msgstr, each of one or more strings."""
    messages = []
    for block in text.split("\n\n"):
        values: Dict[str, str] = {}
        keyword = ""
        for line in block.splitlines():
            if not line or line.startswith("#"):
                continue
            first, _, rest = line.partition(" ")
            if not line.startswith('"'):
                keyword, line = first, rest
            values[keyword] = values.get(keyword, "") + _unquote(line)
        if values.get("msgid"):  # the header has none
            source, translation = values["msgid"], values.get("msgstr", "")
            messages.append(Message(values.get("msgctxt", ""), source, translation))
    return messages


def _unquote(text: str) -> str:
    """`"a \\"b\\" c"` -> `a "b" c`."""
    found = _STRING.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"no string of a catalogue: {text}")
    return re.sub(
        r"\\(.)", lambda escape: _ESCAPES.get(escape.group(1), escape.group(1)), found.group(1)
    )


class Catalogue:
    """The sentences of one language."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._beginnings: List[Tuple[str, str]] = []
        self._whole: Dict[str, str] = {}
        self._alone: Dict[str, str] = {}
        templates: List[Tuple[Template, str]] = []
        for message in messages:
            if not message.translation:  # nobody has translated it yet
                continue
            if message.context == BEGINNING:
                self._beginnings.append((message.source, message.translation))
                continue
            if message.context == ALONE:
                self._alone[message.source] = message.translation
                continue
            template = parse_template(message.source.strip())
            if template.fields:
                templates.append((template, message.translation.strip()))
            else:
                self._whole[message.source.strip()] = message.translation.strip()
        self._templates = sorted(templates, key=lambda one: -one[0].weight)
        self._by_ends: Dict[Tuple[str, str], List[Tuple[Template, str]]] = {}

    def translate(self, text: str) -> str:
        """The translation of a text of one or more lines; unknown lines are unchanged."""
        if len(text) > LONGEST:
            return text
        if text in self._alone:
            return self._alone[text]
        indent, beginning, rest = self.split_beginning(text)
        found = self._find(rest.rstrip(), 0)
        if found is not None:
            return indent + beginning + found
        lines = text.split("\n")
        if len(lines) > 1:
            return "\n".join(self.translate(line) for line in lines)
        return indent + beginning + self._translate_part(rest, 0)

    def find(self, text: str) -> Optional[str]:
        """The translation of one sentence; None where it is not in the catalogue."""
        _, beginning, rest = self.split_beginning(text)
        if beginning:
            return beginning + self._translate_part(rest, 0)
        return self._find(rest.rstrip(), 0)

    def source_of(self, text: str) -> Optional[str]:
        """The sentence of the catalogue that a finished one is matched with; None where there is
        none."""
        if text in self._whole:
            return text
        for template, _ in self._find_possible(text):
            if template.match(text) is not None:
                return template.text
        return None

    def split_beginning(self, text: str) -> Tuple[str, str, str]:
        """(white space, the translated beginning of a line, its rest)."""
        bare = text.lstrip()
        indent = text[: len(text) - len(bare)]
        for source, beginning in self._beginnings:
            if bare.startswith(source):
                return indent, beginning, bare[len(source) :]
        return indent, "", bare

    def _find(self, text: str, depth: int) -> Optional[str]:
        if text in self._whole:
            return self._whole[text]
        if " " not in text or depth > DEEPEST:
            return None
        several = self._find_several(text, depth)
        if several is not None:
            return several
        for template, translation in self._find_possible(text):
            values = template.match(text)
            told = self._translate_values(values, depth) if values is not None else None
            if values is not None and told is not None:
                return fill(translation, values, told)
        return None

    def _find_possible(self, text: str) -> List[Tuple[Template, str]]:
        """The templates that may match, by their first and last character: a few of a thousand."""
        ends = text[:1], text[-1:]
        if ends not in self._by_ends:
            self._by_ends[ends] = [one for one in self._templates if one[0].may_have_ends(*ends)]
        return self._by_ends[ends]

    def _find_several(self, text: str, depth: int) -> Optional[str]:
        """The translation of `Sentence. Sentence.`, where each is in the catalogue; else None."""
        told = self._find_each(_BETWEEN_SENTENCES.split(text), depth)
        if told is None:
            return None
        ended = [one if WIDE.match(one[-1]) else one + FULL_STOP for one in told]
        return "".join(ended)

    def _find_each(self, parts: Sequence[str], depth: int) -> Optional[List[str]]:
        """The translations of several parts; None where one is not in the catalogue."""
        if len(parts) < 2:
            return None
        told = []
        for part in parts:
            found = self._find(part, depth + 1)
            if found is None:
                return None
            told.append(found)
        return told

    def _translate_values(self, values: Mapping[str, str], depth: int) -> Optional[Dict[str, str]]:
        """The translated values; None where one of them is an untranslated sentence of ours."""
        told = {}
        for name, value in values.items():
            if name.endswith(WORDS_OF_OTHERS):
                told[name] = value
                continue
            told[name] = self._translate_part(value, depth + 1)
            if told[name] == value and is_prose(value) and not name.endswith(QUOTES):
                return None
        return told

    def _translate_part(self, text: str, depth: int) -> str:
        """The translation of a value, or of a line that is no sentence itself: several lines, a
        list, `SENTENCE; SENTENCE`."""
        whole = text.strip()
        told = self._translate_clause(whole, depth)
        if told != whole:
            return told
        if "\n" in whole:
            return "\n".join(self.translate(line) for line in text.split("\n"))
        listed = self._find_each(whole.split(", "), depth)
        if listed is not None:
            return LIST_COMMA.join(listed)
        parts = whole.split("; ")
        told_parts = [self._translate_clause(part, depth) for part in parts]
        is_mixed = any(one in parts and is_prose(one) for one in told_parts)
        return text if told_parts == parts or is_mixed else SEMICOLON.join(told_parts)

    def _translate_clause(self, text: str, depth: int) -> str:
        """The translation of a sentence, or of one after a name: `torch-scatter: SENTENCE`."""
        found = self._find(text, depth)
        if found is not None:
            return found
        name, colon, rest = text.partition(": ")
        if not colon or depth > DEEPEST:
            return text
        told_name = self._find(name, depth + 1)
        told = self._translate_clause(rest, depth + 1)
        if told == rest or (told_name is None and is_prose(name)):
            return text
        return f"{told_name or name}{COLON}{told}"


@lru_cache(maxsize=None)
def read_catalogue(language: str) -> Catalogue:
    """The catalogue file beside this module, also inside a zip archive."""
    content = pkgutil.get_data(__package__ or "", f"{language}.po")
    return Catalogue(parse_catalogue((content or b"").decode("utf-8")))

"""What a maintainer should know of a run, project by project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Mapping, Sequence

MAX_EXAMPLES = 3  # examples of each kind in the summary


@dataclass
class Notes:
    """What a person should know, project by project."""

    lines: List[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.lines.append(text)

    def add_left_out(self, where: str, reasons: Mapping[str, Sequence[str]]) -> None:
        for reason, names in sorted(reasons.items()):
            examples = ", ".join(escape(name) for name in names[:MAX_EXAMPLES])
            self.add(f"{where}: left out {count(len(names), 'file')} ({reason}): {examples}")


def escape(text: str) -> str:
    """A host's text for a terminal: no control characters, at most 160 characters."""
    return ascii(text if len(text) <= 160 else text[:160] + "...")


def join_first(words: Sequence[str]) -> str:
    return ", ".join([*words[:10], *(["..."] if len(words) > 10 else [])])


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

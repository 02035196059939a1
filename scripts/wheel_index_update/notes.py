"""What a maintainer should know of a run, project by project."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Mapping, Sequence

_SHOWN = 3  # examples of each kind in the summary


@dataclass
class Told:
    """What a person should know, project by project."""

    lines: List[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def left_out(self, where: str, reasons: Mapping[str, Sequence[str]]) -> None:
        for reason, names in sorted(reasons.items()):
            examples = ", ".join(shown(name) for name in names[:_SHOWN])
            self.say(f"{where}: left out {count(len(names), 'file')} ({reason}): {examples}")


def shown(text: str) -> str:
    """Somebody else's text on a terminal: no control characters, and not without end."""
    return ascii(text if len(text) <= 160 else text[:160] + "...")


def some(words: Sequence[str]) -> str:
    return ", ".join([*words[:10], *(["..."] if len(words) > 10 else [])])


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

"""Values of the wheel page by number, each once."""

from __future__ import annotations

import json
from typing import Any, Dict, Hashable, List


class Table:
    """Values by number, each once."""

    def __init__(self) -> None:
        self.values: List[Any] = []
        self._numbers: Dict[Hashable, int] = {}

    def number(self, value: Any) -> int:
        """The number of a value, a new one where it was not seen before."""
        key = json.dumps(value)
        if key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(value)
        return self._numbers[key]


def embed(value: Any) -> str:
    """JSON that can end no script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

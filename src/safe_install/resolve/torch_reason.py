"""Why a torch does not come, as a value. What is said of it is made from this, and never read back.
Pure."""

from __future__ import annotations

from typing import NamedTuple

_PLURAL = {"has": "have", "needs": "need", "is": "are"}


class Reason(NamedTuple):
    """Why a torch does not come, without its name."""

    text: str  # "no torch-scatter was built for it", "has no build for cu126"
    is_predicate: bool = False  # it goes on after the name; else it is a sentence of its own

    def about(self, name: str) -> str:
        """`torch 2.14.1: no torch-scatter was built for it`, and `torch 2.14.1 has no build for
        cu126`."""
        return f"{name} {self.text}" if self.is_predicate else f"{name}: {self.text}"

    def of_several(self) -> Reason:
        """The same of more than one: `have no build for cu126`."""
        if not self.is_predicate:
            return self
        verb, _, rest = self.text.partition(" ")
        return self._replace(text=f"{_PLURAL.get(verb, verb)} {rest}")


def predicate(text: str) -> Reason:
    """What is said of the torch itself, behind its name: `has no build for cu126`."""
    return Reason(text, is_predicate=True)

"""The indexes and --find-links places where pip looks for torch: is the package index among them,
and do they name an accelerator? Pure."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple, Tuple

from safe_install.tags import parse_accelerator


class Places(NamedTuple):
    """Where pip looks, by the command line, requirements files and pip's configuration."""

    indexes: Tuple[str, ...] = ()
    pages: Tuple[str, ...] = ()  # --find-links: addresses and folders

    @property
    def have_package_index(self) -> bool:
        """Is there an index that may have PyPI's own builds? Any except those for one
        accelerator."""
        return any(not _is_of_one_accelerator(index) for index in self.indexes)

    def name(self, accelerator: str) -> bool:
        """Does one of them name this accelerator: `https://download.pytorch.org/whl/cpu`?"""
        return is_written(accelerator, (*self.indexes, *self.pages))


def is_written(accelerator: str, texts: Iterable[str]) -> bool:
    """Does one of these requirements or URLs name an accelerator?"""
    # Behind a plus sign, or as a whole segment of a path: not in `/cpu-images/simple`.
    name = re.escape(accelerator)
    written = re.compile(rf"\+{name}(?![a-z0-9])|/{name}(?=[/?#\s]|$)", re.IGNORECASE)
    return any(written.search(text.replace("%2B", "+")) for text in texts)


def accelerators_of(place: str) -> Tuple[str, ...]:
    """The accelerators that are whole segments of a URL or path: `/whl/cu126`."""
    segments = _segments(place)
    return tuple(segment for segment in segments if parse_accelerator(segment) is not None)


def _segments(place: str) -> List[str]:
    return place.partition("?")[0].lower().split("/")


def _is_of_one_accelerator(index: str) -> bool:
    return bool(accelerators_of(index)) or "download.pytorch.org" in _segments(index)

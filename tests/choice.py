"""Which cases of a test every run has: the others are for `--all` (tests/conftest.py)."""

from __future__ import annotations

from typing import Any, Callable, Iterable, List

import pytest


def long_unless(is_chosen: Callable[[Any], bool], cases: Iterable[Any]) -> List[Any]:
    """The cases for `parametrize`: those that are not chosen are long."""
    return [
        case if is_chosen(case) else pytest.param(case, marks=pytest.mark.long) for case in cases
    ]

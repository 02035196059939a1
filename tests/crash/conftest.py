"""Random moments that can be tried again: `python -m pytest tests/crash --crash-seed N`."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def generator(pytestconfig: pytest.Config) -> random.Random:
    """The random numbers of a test. pytest shows the seed with a test that fails."""
    given = pytestconfig.getoption("--crash-seed")
    chosen = random.randrange(10**9) if given is None else given
    print(f"To try the same again: --crash-seed {chosen}")
    return random.Random(chosen)

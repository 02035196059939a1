"""Random moments that can be tried again: `python -m pytest tests/crash --crash-seed N`."""

from __future__ import annotations

import random
import sys
from typing import Callable

import pytest

from tests.functional.conftest import driver as driver
from tests.functional.conftest import lab_wheels as lab_wheels
from tests.functional.conftest import shared as shared
from tests.lab import LabWheels

RUNNING = f"3.{sys.version_info[1]}"


@pytest.fixture(scope="session")
def wheels(lab_wheels: Callable[[str], LabWheels]) -> LabWheels:
    """The stand-in wheels for the Python that runs us."""
    return lab_wheels(RUNNING)


@pytest.fixture
def generator(pytestconfig: pytest.Config) -> random.Random:
    """The random numbers of a test. pytest shows the seed with a test that fails."""
    given = pytestconfig.getoption("--crash-seed")
    chosen = random.randrange(10**9) if given is None else given
    print(f"To try the same again: --crash-seed {chosen}")
    return random.Random(chosen)

"""The environment variables of a process that shall see nothing of whoever runs the tests."""

from __future__ import annotations

import os
from typing import Dict, Mapping

# Set by coverage (`./scripts/test --coverage`): a process without it is not measured.
MEASURED = "COVERAGE_PROCESS_CONFIG"


def keep_variables(*names: str) -> Dict[str, str]:
    """These of our own variables, as far as they are set, and the one that measures."""
    kept = (*names, MEASURED)
    return {name: os.environ[name] for name in kept if name in os.environ}


def without_measuring(variables: Mapping[str, str]) -> Dict[str, str]:
    """For a test of how long a process takes."""
    return {name: value for name, value in variables.items() if name != MEASURED}

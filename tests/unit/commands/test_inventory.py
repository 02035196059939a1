"""What `inventory` says to people."""

from __future__ import annotations

import pytest

from safe_install.commands.inventory import name_driver
from safe_install.models import Driver


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (None, "none"),
        (Driver("535.104.05", "12.2"), "535.104.05"),
        (Driver(None, "12.2", declared=True), "12.2"),
        (Driver(None, None, problem="NVML error 999: Unknown Error"), "of an unknown version"),
    ],
)
def test_the_driver(driver, said):
    assert name_driver(driver) == said

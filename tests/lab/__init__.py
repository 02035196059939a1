"""A stub NVIDIA driver and wheels that behave like torch, its libraries and its extensions. See
README.md."""

from __future__ import annotations

from tests.lab.driver import build_driver
from tests.lab.wheels import LabWheels, build_wheels

__all__ = ["LabWheels", "build_driver", "build_wheels"]

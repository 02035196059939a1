"""The driver that is declared, and the one that is not here."""

from __future__ import annotations

import ctypes
import sys

import pytest

from safe_install.environment import driver
from safe_install.models import Device, Driver


@pytest.mark.parametrize(
    ("version", "cuda", "capabilities", "declared"),
    [
        (None, None, (), None),
        ("", "", (), None),
        ("535.104", None, (), Driver("535.104", None, (), declared=True)),
        (None, "11.8", (), Driver(None, "11.8", (), declared=True)),
        (
            "535.104",
            "12.2",
            ("8.0", "9.0"),
            Driver("535.104", "12.2", (Device("declared", "8.0"), Device("declared", "9.0")), declared=True),
        ),
        (None, None, ("7.5",), Driver(None, None, (Device("declared", "7.5"),), declared=True)),
    ],
)
def test_declared_driver(version, cuda, capabilities, declared):
    assert driver.declared_driver(version=version, cuda=cuda, capabilities=capabilities) == declared


def test_without_its_library_there_is_no_driver_and_nothing_is_imported(monkeypatch):
    asked = []

    def missing(name):
        asked.append(name)
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import would fail
    assert driver.read_driver() is None
    assert asked == ["libnvidia-ml.so.1"]

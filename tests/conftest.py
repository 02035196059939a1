"""What every kind of test shares: the tests that need something special run only when asked for."""

from __future__ import annotations

import signal

import pytest

ASKED = {
    "cuda_lab": ("--run-cuda-lab", "downloads a CUDA torch of several gigabytes"),
    "gpu": ("--run-gpu", "needs a real NVIDIA GPU"),
}


def pytest_configure(config):
    # A shell that starts us in the background has SIGINT ignored, and our children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    for option, why in ASKED.values():
        parser.addoption(option, action="store_true", help=f"run the tests that are marked for it ({why})")


def pytest_collection_modifyitems(config, items):
    for item in items:
        for marker, (option, why) in ASKED.items():
            if marker in item.keywords and not config.getoption(option):
                item.add_marker(pytest.mark.skip(reason=f"{why}: run with {option}"))
    # The long files first, so that no worker is left alone with one at the end.
    items.sort(key=lambda item: "torch" not in item.keywords)

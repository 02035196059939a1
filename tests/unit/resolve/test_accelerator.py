"""The accelerator that the person asked for: known or not, and who named it."""

from __future__ import annotations

import pytest

from safe_install.errors import UsageError
from safe_install.index.catalog import torch_table
from safe_install.resolve.accelerator import accelerator_asked_for, known_accelerators
from safe_install.resolve.options_table import BY_NAME
from safe_install.resolve.own_options import own_options
from safe_install.tags import parse_accelerator

TABLE = torch_table()


@pytest.mark.parametrize(
    ("environ", "accelerator"),
    [
        ({}, ""),
        ({"SAFE_INSTALL_ACCELERATOR": "auto"}, ""),
        ({"SAFE_INSTALL_ACCELERATOR": "cpu"}, "cpu"),
        ({"SAFE_INSTALL_ACCELERATOR": "cu132"}, "cu132"),
        ({"SAFE_INSTALL_ACCELERATOR": "rocm6.4"}, "rocm6.4"),
        ({"SAFE_INSTALL_ACCELERATOR": "xpu"}, "xpu"),
        ({"UV_TORCH_BACKEND": "cu118"}, "cu118"),
        ({"UV_TORCH_BACKEND": "cu999"}, ""),
        ({"UV_TORCH_BACKEND": "musa"}, ""),
    ],
)
def test_what_is_known_is_taken(environ, accelerator):
    assert accelerator_asked_for(own_options((), environ), TABLE) == accelerator


@pytest.mark.parametrize("name", ["cu999", "cu12", "cu125"])
def test_what_no_release_is_built_for_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError) as raised:
        accelerator_asked_for(own_options((), {"SAFE_INSTALL_ACCELERATOR": name}), TABLE)
    assert raised.value.exit_status == 2
    assert raised.value.message == f"SAFE_INSTALL_ACCELERATOR {name}: no release of torch is known for it"
    assert all(known in raised.value.hint for known in ("cpu", "cu126", "cu132", "rocm", "xpu"))


def test_the_known_ones_are_in_order():
    known = known_accelerators(TABLE)
    assert known[:3] == ["cpu", "cu92", "cu101"]
    assert known.index("cu126") < known.index("cu128") < known.index("cu130")


def test_what_a_shell_offers_is_known():
    known = set(known_accelerators(TABLE))
    for name in BY_NAME["--accelerator"].choices:
        accelerator = parse_accelerator(name)
        assert name == "auto" or name in known or (accelerator is not None and accelerator.kind in ("rocm", "xpu"))

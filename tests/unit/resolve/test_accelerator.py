"""The accelerator that the person asked for: known or not, and who named it."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from safe_install.errors import UsageError
from safe_install.index.catalog import torch_table
from safe_install.index.torch_files import Listing
from safe_install.models import Link
from safe_install.resolve.accelerator import (
    accelerator_asked_for,
    accelerator_of_requirement,
    choose_accelerator,
    describe_unknown_backend,
    known_accelerators,
    with_listing,
)
from safe_install.resolve.command_line import split_words
from safe_install.resolve.options_table import BY_NAME
from safe_install.resolve.own_options import own_options
from safe_install.tags import parse_accelerator
from tests.factories import make_environment

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


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("cu118", ""),
        (
            "cu999",
            "UV_TORCH_BACKEND=cu999: no release of torch is known for it, and it is passed over",
        ),
        ("musa", "UV_TORCH_BACKEND=musa is no accelerator: it is passed over"),
        ("rocm6.4", ""),
        ("auto", ""),
    ],
)
def test_what_is_passed_over_is_told(backend, said):
    own = own_options((), {"UV_TORCH_BACKEND": backend})
    told = [*own.passed_over, *describe_unknown_backend(own, TABLE)]
    assert told == ([said] if said else [])


@pytest.mark.parametrize("name", ["cu999", "cu12", "cu125"])
def test_what_no_release_is_built_for_is_refused_with_those_that_are(name):
    with pytest.raises(UsageError) as raised:
        accelerator_asked_for(own_options((), {"SAFE_INSTALL_ACCELERATOR": name}), TABLE)
    assert raised.value.exit_status == 2
    assert (
        raised.value.message
        == f"SAFE_INSTALL_ACCELERATOR {name}: no release of torch is known for it"
    )
    assert all(known in raised.value.hint for known in ("cpu", "cu126", "cu132", "rocm", "xpu"))


def test_the_known_ones_are_in_order():
    known = known_accelerators(TABLE)
    assert known[:3] == ["cpu", "cu92", "cu101"]
    assert known.index("cu126") < known.index("cu128") < known.index("cu130")


def test_what_a_shell_offers_is_known():
    known = set(known_accelerators(TABLE))
    for name in BY_NAME["--accelerator"].choices:
        accelerator = parse_accelerator(name)
        assert (
            name == "auto"
            or name in known
            or (accelerator is not None and accelerator.kind in ("rocm", "xpu"))
        )


# --- with requirements ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "accelerator"),
    [
        ("torch==2.13.0+cu126", "cu126"),
        ("torch===2.13.0+CPU", "cpu"),
        ("torch==2.8.0+rocm6.4", "rocm6.4"),
        ("torch==2.0.1+cpu.cxx11.abi", "cpu"),
        ("torch>=2,==2.13.0+cu126", "cu126"),
        (
            "torch @ https://h/whl/torch-2.13.0%2Bcu126-cp311-cp311-linux_x86_64.whl#sha256=00",
            "cu126",
        ),
        ("torch @ https://h/whl/torch-2.13.0-cp311-cp311-linux_x86_64.whl", ""),
        ("torch @ https://h/torch.whl", ""),
        ("torch==2.13.0", ""),
        ("torch==2.*", ""),
        ("torch>=2.13", ""),
        ("torch==2.7.0a0+nv25.4", ""),  # a container's
        ("torch", ""),
    ],
)
def test_the_build_that_a_requirement_names(text, accelerator):
    assert accelerator_of_requirement(Requirement(text)) == accelerator


OPTION, OURS, UVS = "--accelerator", "SAFE_INSTALL_ACCELERATOR", "UV_TORCH_BACKEND"


@pytest.mark.parametrize(
    ("words", "environ", "pinned", "installed", "accelerator"),
    [
        ([], {}, [], None, ""),
        ([OPTION, "cpu"], {}, [], None, "cpu"),
        ([OPTION, "cpu"], {}, ["torch>=2", "torch==2.13.0"], None, "cpu"),
        ([OPTION, "cpu"], {}, ["torch==2.13.0+cpu"], None, "cpu"),
        ([], {}, ["torch==2.13.0+cu126"], None, "cu126"),
        # a requirement has to be met; a variable is a wish
        ([], {OURS: "cpu"}, ["torch==2.13.0+cu126"], None, "cu126"),
        ([], {UVS: "cpu"}, ["torch==2.13.0+cu126"], None, "cu126"),
        # an installed torch
        ([OPTION, "cpu"], {}, [], "2.13.0+cu126", "cpu"),
        ([], {OURS: "cpu"}, [], "2.13.0+cu126", "cpu"),
        ([], {UVS: "cpu"}, [], "2.13.0+cu126", ""),
        ([], {UVS: "cpu"}, [], "2.13.0+cpu", "cpu"),
        ([OPTION, "auto"], {UVS: "cpu"}, [], None, ""),
    ],
)
def test_whose_word_counts(words, environ, pinned, installed, accelerator):
    own = own_options(split_words(["torch", *words]).checked(), environ)
    build = make_environment(torch=installed).torch
    assert choose_accelerator(own, [Requirement(text) for text in pinned], build) == accelerator


def test_the_command_line_may_not_contradict_itself():
    own = own_options(split_words(["torch", OPTION, "cpu"]).checked(), {})
    with pytest.raises(UsageError) as raised:
        choose_accelerator(own, [Requirement("torch==2.13.0+cu126")], None)
    assert raised.value.message.startswith(
        "--accelerator cpu and torch==2.13.0+cu126 contradict each other"
    )
    assert raised.value.hint == "Leave out --accelerator, or write torch==2.13.0."


# --- what a page adds -----------------------------------------------------------------------------


def test_a_page_adds_builds_and_takes_none_away():
    link = Link("https://h/x.whl", "x.whl")
    links = {"2.15.0+cu126": link, "9.9.9+cu126": link, "2.14.1+cu130": link, "2.14.1": link}
    more = with_listing(TABLE, "cu126", Listing("https://h/", links), "3.11").releases
    assert "cu126" not in TABLE.releases["2.15.0"].accelerators
    assert "cu126" in more["2.15.0"].accelerators and more["2.15.0"].untagged == "cu132"
    assert (more["9.9.9"].accelerators, more["9.9.9"].untagged, more["9.9.9"].python) == (
        ("cu126",),
        None,
        ("3.11",),
    )
    assert more["2.13.0"] == TABLE.releases["2.13.0"]

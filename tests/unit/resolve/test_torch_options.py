"""What is said where no torch may come."""

from __future__ import annotations

import pytest

from safe_install.index.torch_files import Absent, Listing
from safe_install.resolve.command_line import split_words
from safe_install.resolve.decisions import Selection, make_wanted
from safe_install.resolve.request import parse_install
from safe_install.resolve.torch_options import no_torch
from tests.factories import make_environment

HERE = make_environment(torch="2.13.0+cpu")


@pytest.mark.parametrize(
    ("problem", "environ", "hint"),
    [
        (
            Absent("it was not asked", is_open=True, forbidden_by="--offline"),
            {},
            "Leave --offline out to ask it.",
        ),
        (
            Absent("it does not answer", is_open=True),
            {},
            "Name a mirror of that host (SAFE_INSTALL_MIRRORS), or the very version that an index "
            "of yours has: torch==X.Y.Z+cu126.",
        ),
        (
            Absent("it has no such page"),
            {},
            "--accelerator names cu126: --accelerator auto lets the driver decide.",
        ),
        (
            Absent("it has no such page"),
            {"SAFE_INSTALL_ACCELERATOR": "cu126"},
            "SAFE_INSTALL_ACCELERATOR names cu126: --accelerator auto lets the driver decide.",
        ),
    ],
)
def test_the_list_of_a_host_that_could_not_be_had(problem, environ, hint):
    words = ["torch"] if environ else ["--accelerator", "cu126", "torch"]
    request = parse_install(
        split_words(words), environ=environ, configuration={}, read=lambda name: ""
    )
    wanted = make_wanted(request, HERE)
    error = no_torch(Selection(HERE, HERE), (), wanted, Listing("https://h/", problem=problem))
    assert error.message == f"no torch for cu126 can come: {problem.reason}"
    assert error.hint == hint

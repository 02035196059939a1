"""Names that are nearly another: what is meant, and what is left alone."""

from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from safe_install.errors import UsageError
from safe_install.index.catalog import known_projects
from safe_install.resolve.command_line import split_words
from safe_install.resolve.request import parse_install
from safe_install.resolve.spelling import (
    NEIGHBOURS_OF_COMMANDS,
    NEIGHBOURS_OF_PROJECTS,
    is_one_edit,
    nearest_command,
    nearest_option,
    nearest_project,
    refuse_misspelled,
)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("torch", "torch", False),
        ("torh", "torch", True),
        ("ttorch", "torch", True),
        ("torcx", "torch", True),
        ("tocrh", "torch", True),
        ("torch", "", False),
        ("hcrot", "torch", False),
        ("tahc", "torch", False),
        ("xyrch", "torch", False),
    ],
)
def test_one_edit(one, other, expected):
    assert is_one_edit(one, other) is expected
    assert is_one_edit(other, one) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torch-scater", "torch-scatter"),
        ("troch-scatter", "torch-scatter"),
        ("torchvison", "torchvision"),
        ("torch-vision", "torchvision"),
        ("flash-atten", "flash-attn"),
        ("xformer", "xformers"),
        ("deep-speed", "deepspeed"),
        ("bitsandbyte", "bitsandbytes"),
        ("pytorc", "pytorch"),
        ("troch", "torch"),
        ("torhc", "torch"),
        ("torch-scatter", None),
        ("torchx", None),
        ("torch", None),
        ("numpy", None),
        ("torchio", None),
        ("gpytorch", None),
        ("cupy-cuda112", None),
        ("dgl-cu111", None),
        ("flash-attn-4", None),
        ("apec", None),
        ("vllm2", None),
    ],
)
def test_nearest_project(name, expected):
    assert nearest_project(name, known_projects()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("--dryrun", "--dry-run"),
        ("--ofline", "--offline"),
        ("--no_deps", "--no-deps"),
        ("--no-rolback", "--no-rollback"),
        ("--no-such-option", None),
        ("--x", None),
    ],
)
def test_nearest_option(name, expected):
    assert (
        nearest_option(name, ["-n", "--dry-run", "--offline", "--no-deps", "--no-rollback"])
        == expected
    )


@pytest.mark.parametrize(
    "words", [["--dryrun", "x"], ["x", "--ofline"], ["--no_deps", "x"], ["--alow-torch-change"]]
)
def test_a_misspelled_option_goes_nowhere(words):
    with pytest.raises(UsageError, match="no such option") as caught:
        parse_install(split_words(words), environ={}, configuration={}, read=lambda _: "")
    assert "Did you mean: --" in (caught.value.hint or "")


def test_an_option_that_only_a_newer_pip_knows_is_left_to_it():
    request = parse_install(
        split_words(["x", "--frobnicate"]), environ={}, configuration={}, read=lambda _: ""
    )
    assert "--frobnicate" in request.pip_arguments


def test_every_neighbour_is_one():
    assert all(nearest_command(name, ()) is None for name in NEIGHBOURS_OF_COMMANDS)
    known = {*known_projects(), "torch"}
    for name in NEIGHBOURS_OF_PROJECTS:
        assert any(is_one_edit(name, project) for project in known), name


@pytest.mark.parametrize(
    "text",
    [
        "torch-scater==1.0",
        "torch-scater @ https://example.org/x.whl",
        "torch-scatter",
        "torchio>=0.19",
    ],
)
def test_what_is_meant_is_left_alone(text):
    refuse_misspelled([Requirement(text)], known=known_projects(), installed=())


def test_an_installed_project_is_left_alone():
    refuse_misspelled(
        [Requirement("torch_scater")], known=known_projects(), installed={"torch-scater"}
    )


@pytest.mark.parametrize(
    "text",
    ["torch_scater", "torch-scater>=2", "torch-scater==2.*", "torch-scater[x]; python_version>'3'"],
)
def test_a_misspelled_name_is_refused(text):
    with pytest.raises(UsageError, match="one letter away from torch-scatter") as caught:
        refuse_misspelled(
            [Requirement("numpy"), Requirement(text)], known=known_projects(), installed=()
        )
    assert caught.value.exit_status == 2
    assert "Did you mean: torch-scatter?" in caught.value.hint

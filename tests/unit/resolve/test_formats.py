"""--only-binary and --no-binary: which projects may be built, as pip reads the two options."""

from __future__ import annotations

import pytest

from safe_install.resolve.command_line import split_words
from safe_install.resolve.pip_settings import parse_formats
from safe_install.resolve.request import parse_install


@pytest.mark.parametrize(
    ("options", "scatter", "others"),
    [
        ([], True, True),
        ([("only-binary", ":all:")], False, False),
        ([("only-binary", "Torch_Scatter,scipy")], False, True),
        ([("only-binary", "scipy")], True, True),
        ([("only-binary", ":all:"), ("no-binary", "torch-scatter")], True, False),
        ([("no-binary", "torch-scatter"), ("only-binary", ":all:")], False, False),
        ([("no-binary", ":all:"), ("only-binary", "torch-scatter")], False, True),
        ([("only-binary", ":all:"), ("only-binary", ":none:")], True, True),
        ([("only-binary", ":all:,:none:,torch-scatter")], False, True),
        ([("only-binary", "torch-scatter"), ("no-binary", ":all:")], True, True),
    ],
)
def test_a_later_option_wins(options, scatter, others):
    formats = parse_formats(options)
    assert (formats.allows_source("torch-scatter"), formats.allows_source("other")) == (
        scatter,
        others,
    )


@pytest.mark.parametrize(
    ("argv", "configuration", "lines", "allowed"),
    [
        (["torch-scatter"], {}, "", True),
        (["--only-binary", ":all:", "torch-scatter"], {}, "", False),
        (["--only-binary=torch-scatter", "torch-scatter"], {}, "", False),
        (["torch-scatter"], {"only-binary": ":all:"}, "", False),
        (["--no-binary", "torch-scatter", "torch-scatter"], {"only-binary": ":all:"}, "", True),
        (["-r", "r.txt"], {}, "--only-binary :all:\ntorch-scatter\n", False),
    ],
)
def test_where_they_are_read(argv, configuration, lines, allowed):
    request = parse_install(
        split_words(argv), environ={}, configuration=configuration, read=lambda name: lines
    )
    assert request.formats.allows_source("torch-scatter") is allowed

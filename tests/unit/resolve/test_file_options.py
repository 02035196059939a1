"""Which indexes pip searches where requirements files name some."""

from __future__ import annotations

import pytest

from safe_install.resolve.file_options import searched_indexes
from safe_install.resolve.requirements_file import Parsed

MAIN = "https://main/simple"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], (MAIN,)),
        ([("extra-index-url", "https://a")], (MAIN, "https://a")),
        ([("extra-index-url", "https://a"), ("index-url", "https://b")], ("https://b",)),
        ([("index-url", "https://b"), ("no-index", None)], ()),
        ([("find-links", "wheels")], (MAIN,)),
    ],
)
def test_which_indexes_are_searched(options, expected):
    assert searched_indexes((MAIN,), [Parsed((), tuple(options))]) == expected

"""What is said where nothing fits."""

from __future__ import annotations

import pytest

from safe_install.models import HostAnswer, HostAnswerKind
from safe_install.resolve.no_candidate import render_answer


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        (
            HostAnswerKind.LISTED,
            "28 files that may be for torch 2.13",
            "has none that fits (28 files that may be for torch 2.13)",
        ),
        (HostAnswerKind.LISTED, "", "has none that fits"),
        (HostAnswerKind.DOWN, "timed out", "does not answer (timed out)"),
        (HostAnswerKind.PAGE_EMPTY, "", "its page is empty"),
    ],
)
def test_where_nothing_fits_it_is_said_of_each_host(kind, detail, said):
    assert render_answer(HostAnswer("torch-scatter", "h.example", "", kind, detail)) == said

"""What is said where nothing fits."""

from __future__ import annotations

import pytest

from safe_install.models import HostAnswer, HostAnswerKind
from safe_install.resolve.no_candidate import render_answer


@pytest.mark.parametrize(
    ("kind", "detail", "said"),
    [
        (HostAnswerKind.LISTED, "28 files for this torch", "has 28 files for this torch"),
        (HostAnswerKind.LISTED, "", "has files for this torch"),
        (HostAnswerKind.DOWN, "timed out", "does not answer (timed out)"),
        (HostAnswerKind.PAGE_EMPTY, "", "its page is empty"),
    ],
)
def test_what_a_host_said_is_told_once(kind, detail, said):
    assert render_answer(HostAnswer("torch-scatter", "h.example", "", kind, detail)) == said

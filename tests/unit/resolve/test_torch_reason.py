"""Why a torch does not come is said by what kind of reason it is, and not by its first word."""

from __future__ import annotations

import pytest

from safe_install.resolve.torch_reason import Reason, predicate


@pytest.mark.parametrize(
    ("reason", "line", "of_several"),
    [
        (
            Reason("no a was built for it"),
            "torch 2.14.1: no a was built for it",
            "torch 2.14.1 and 2.13.0: no a was built for it",
        ),
        (
            predicate("needs driver 580"),
            "torch 2.14.1 needs driver 580",
            "torch 2.14.1 and 2.13.0 need driver 580",
        ),
        (
            predicate("has no build for cu126"),
            "torch 2.14.1 has no build for cu126",
            "torch 2.14.1 and 2.13.0 have no build for cu126",
        ),
        (
            predicate("is a build for cpu"),
            "torch 2.14.1 is a build for cpu",
            "torch 2.14.1 and 2.13.0 are a build for cpu",
        ),
        (
            predicate("would not run"),
            "torch 2.14.1 would not run",
            "torch 2.14.1 and 2.13.0 would not run",
        ),
        # projects that are called like a verb
        (
            Reason("needs 1.0 requires torch<2"),
            "torch 2.14.1: needs 1.0 requires torch<2",
            "torch 2.14.1 and 2.13.0: needs 1.0 requires torch<2",
        ),
        (
            Reason("is requires torch<2"),
            "torch 2.14.1: is requires torch<2",
            "torch 2.14.1 and 2.13.0: is requires torch<2",
        ),
    ],
)
def test_a_reason_is_told_as_a_sentence(reason, line, of_several):
    assert reason.about("torch 2.14.1") == line
    assert reason.of_several().about("torch 2.14.1 and 2.13.0") == of_several

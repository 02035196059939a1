"""Power cuts on a loop-mounted ext4; the long form is `python -m tests.crash.power`."""

from __future__ import annotations

import functools
import random
from typing import Optional

import pytest

from tests.crash.power import cuts, why_not


@functools.lru_cache(maxsize=None)
def reason() -> Optional[str]:
    return why_not()


@pytest.mark.parametrize("number", [10, pytest.param(30, marks=pytest.mark.long)])
def test_the_disk_holds_the_state_before_or_the_state_after(
    number: int, generator: random.Random
) -> None:
    if reason() is not None:
        pytest.skip(f"no power can be cut here: {reason()}")
    found = list(cuts(number, generator))
    assert not [state for state in found if state.endswith("neither")]
    if number >= 30:  # the cuts reach from the first step to the last one
        assert {"before", "after"} <= {state.rpartition(" ")[2] for state in found}


def test_without_the_sync_of_the_stage_it_would_not(generator: random.Random) -> None:
    if reason() is not None:
        pytest.skip(f"no power can be cut here: {reason()}")
    assert any(state.endswith("neither") for state in cuts(20, generator, stage_synced=False))

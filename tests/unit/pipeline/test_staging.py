"""What is said of a change that was staged."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from safe_install.pipeline.staging import _describe
from safe_install.transaction.staged import StagedChange
from safe_install.transaction.staged_states import State
from tests.factories import make_interpreter

ID = "20261123T101112Z-3f2a"
STEPS = ({"action": "add", "name": "einops", "version": "1", "from_version": None},)


@pytest.mark.parametrize(
    ("user_base", "expires", "kept", "command"),
    [
        (None, 0.0, "until 1970-01-01T00:00:00Z", f"safe-install commit {ID}"),
        (Path("/home"), None, "until it is abandoned", f"safe-install commit {ID}"),
        (Path("/env"), None, "until it is abandoned", f"safe-install commit --user {ID}"),
    ],
)
def test_how_to_go_on(
    user_base: Optional[Path], expires: Optional[float], kept: str, command: str
) -> None:
    change = StagedChange(ID, State.STAGED, Path("/there"), expires=expires, steps=STEPS)
    interpreter = make_interpreter(user_base=user_base)
    assert _describe(change, interpreter, 2_500_000).splitlines() == [
        f"Staged, nothing is changed: +einops 1 (2.5 MB, kept {kept}).",
        f"Put it in place with: {command}",
    ]

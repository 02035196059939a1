"""What is said of running programs that have replaced files in memory."""

from __future__ import annotations

import pytest

from safe_install.health.running import note_running
from safe_install.models import RunningProgram, Severity

TORCH = "/env/lib/python3.11/site-packages/torch/lib"


def test_nothing_runs():
    assert note_running(()) == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["libc10.so"], "libc10.so"),
        (["a.so", "b.so", "c.so"], "a.so, b.so, c.so"),
        (["a.so", "b.so", "c.so", "d.so", "e.so"], "a.so, b.so, c.so and 2 more"),
    ],
)
def test_each_program_is_named_with_some_of_its_files(names, told):
    files = tuple(f"{TORCH}/{name}" for name in names)
    (one,) = note_running([RunningProgram(4711, "python train.py", files)])
    assert (one.check, one.severity, one.subject) == (
        "running-with-old-files",
        Severity.WARNING,
        "4711",
    )
    assert one.detail == (
        f"process 4711 (python train.py) has files in memory that were replaced: {told}"
    )

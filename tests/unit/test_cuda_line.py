"""The line on the CUDA suite, which `.ci/run` looks for."""

from __future__ import annotations

import re
import types
from pathlib import Path

import pytest

from tests.conftest import describe_cuda_suite

CI = Path(__file__).parents[2] / ".ci" / "run"


def report(nodeid="tests/cuda/test_machine.py::test_x", longrepr=None):
    return types.SimpleNamespace(nodeid=nodeid, duration=1.5, longrepr=longrepr)


SKIPPED = report(
    longrepr=("conftest.py", 1, "Skipped: the CUDA suite cannot run here: uv was not found")
)


@pytest.mark.parametrize(
    ("stats", "line", "satisfies_ci"),
    [
        pytest.param(
            {"passed": [report("tests/unit/test_cli.py::test_cuda[cuda]")]},
            "",
            False,
            id="none was chosen",
        ),
        pytest.param(
            {"skipped": [report("tests/cuda/test_stacks.py::test_x")]},
            "",
            False,
            id="only the long suite",
        ),
        pytest.param(
            {"passed": [report(), report()]}, "CUDA suite: 2 passed, 3 s", True, id="passed"
        ),
        pytest.param(
            {"skipped": [SKIPPED, SKIPPED]},
            "CUDA suite: not run: the CUDA suite cannot run here: uv was not found",
            False,
            id="skipped",
        ),
        pytest.param({"error": [report()]}, "CUDA suite: 1 error, 2 s", False, id="no template"),
        pytest.param(
            {"passed": [report()], "skipped": [SKIPPED]},
            "CUDA suite: 1 passed, 1 skipped, 3 s",
            False,
            id="some skipped",
        ),
        pytest.param(
            {"passed": [report()], "deselected": [types.SimpleNamespace(nodeid=report().nodeid)]},
            "CUDA suite: 1 passed, 2 s",
            True,
            id="some deselected",
        ),
    ],
)
def test_the_line_says_what_became_of_the_suite(stats, line, satisfies_ci):
    assert describe_cuda_suite(stats) == line
    (pattern,) = re.findall(r"grep -E '(\^CUDA suite[^']*)'", CI.read_text())
    assert bool(re.match(pattern, line)) is satisfies_ci

"""tests/coverage_report.py: which modules are pure, and what is said of their gaps."""

from __future__ import annotations

import sys

from tests.conftest import restore_tracing
from tests.coverage_report import ROOT, describe, read_coverage, read_pure_modules

TEXT = """
src/safe_install/
  cli.py             S    the surface
  tags.py            P    tags
  resolve/                what to install
    plan.py          P    a plan
    finder.py        IO   a finder
  wheels/                 the files
    elf.py           P    bytes
scripts/   test
```
"""


def measured(covered, total, lines=(), branches=(), left_out=()):
    summary = {
        "covered_lines": covered,
        "num_statements": total,
        "covered_branches": 0,
        "num_branches": 0,
    }
    return {
        "summary": summary,
        "missing_lines": list(lines),
        "missing_branches": [list(pair) for pair in branches],
        "excluded_lines": list(left_out),
    }


def test_the_pure_modules_are_those_that_are_marked():
    assert read_pure_modules(TEXT) == ["tags.py", "resolve/plan.py", "wheels/elf.py"]


def test_every_pure_module_of_the_document_is_a_file():
    pure = read_pure_modules((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert "resolve/compatibility.py" in pure
    assert [
        module for module in pure if not (ROOT / "src" / "safe_install" / module).is_file()
    ] == []


def test_gaps_are_named():
    document = {
        "files": {
            "src/safe_install/tags.py": measured(10, 10),
            "src/safe_install/resolve/plan.py": measured(
                6, 10, [3, 4, 5, 9], [(7, 12), (8, -1), (9, 11)]
            ),
            "src/safe_install/cli.py": measured(9, 10, [1], left_out=[7, 8, 12]),
            "src/safe_install/resolve/finder.py": measured(95, 100, [1, 2, 3, 4, 5]),
            "src/safe_install/resolve/whole.py": measured(10, 10),
            "src/safe_install/health/script.py": measured(0, 10, [1]),
        }
    }
    assert describe(read_coverage(document), read_pure_modules(TEXT)) == [
        "pure modules: 80.0 % of lines and branches",
        "  wheels/elf.py: not measured",
        "  resolve/plan.py: 60.0 %, not covered: 3-5, 9, 7->12, 8->end",
        "other modules: 95.0 % of lines and branches",
        "below 92 %: 1",
        "  cli.py: 90.0 %, not covered: 1",
        "92 % and more, with a gap:",
        "  resolve/finder.py: 95.0 %, not covered: 1-5",
        "left out, for a type checker or an older Python:",
        "  cli.py: 7-8, 12",
        "run by the managed interpreter and not measured there: environment/script.py, "
        "health/script.py, "
        "system/script.py, wheels/script.py",
    ]


def test_a_test_that_ends_the_tracing_ends_it_for_itself_alone():
    def trace(*arguments):
        return None

    before = sys.gettrace()
    try:
        sys.settrace(None)
        restore_tracing(trace)
        assert sys.gettrace() is trace
        sys.settrace(None)
        restore_tracing(None)
        assert sys.gettrace() is None
    finally:
        sys.settrace(before)

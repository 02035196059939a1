"""What the tests do not cover: `python -m tests.coverage_report coverage.json`.

docs/architecture.md marks the pure modules with `P`: they are to be covered whole. Each other module
is to be covered to 92 %. What is not covered is named, and so is what is left out of the figures.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/safe_install/"
FLOOR = 92.0  # percent of lines and branches
# The managed interpreter runs these, which has no coverage; what unit tests import of them is
# measured.
STAND_ALONE = (
    "environment/script.py",
    "health/script.py",
    "system/script.py",
    "wheels/script.py",
)


class Coverage(NamedTuple):
    """Of one module."""

    module: str  # "resolve/plan.py"
    covered: int  # statements and branches
    total: int
    lines: List[int]  # that were not run
    branches: List[List[int]]  # from line, to line; a negative line is the end of a function
    left_out: List[int]  # lines that do not count: for a type checker, for an older Python


def read_pure_modules(text: str) -> List[str]:
    """The modules that section 2 of docs/architecture.md marks as pure: "resolve/plan.py"."""
    pure: List[str] = []
    folder = ""
    listing = text.partition("src/safe_install/\n")[2].partition("```")[0]
    for line in listing.splitlines():
        found = re.match(r"^( +)([a-z_/]+/|[a-z_]+\.py)( +P )?", line)
        if found is None:
            continue
        indent, name, mark = found.groups()
        is_at_top = len(indent) == 2
        if is_at_top:
            folder = name if name.endswith("/") else ""
        if mark:
            pure.append(name if is_at_top else folder + name)
    return pure


def read_coverage(document: Mapping[str, Any]) -> Dict[str, Coverage]:
    """What `coverage json` wrote, by module."""
    found = {}
    for path, measured in document["files"].items():
        module = path.partition(PACKAGE)[2] or path
        summary = measured["summary"]
        covered = summary["covered_lines"] + summary["covered_branches"]
        total = summary["num_statements"] + summary["num_branches"]
        branches = measured.get("missing_branches", [])
        left_out = measured.get("excluded_lines", [])
        missing = measured["missing_lines"]
        found[module] = Coverage(module, covered, total, missing, branches, left_out)
    return found


def percent(modules: List[Coverage]) -> float:
    """Covered statements and branches of these modules together."""
    total = sum(module.total for module in modules)
    covered = sum(module.covered for module in modules)
    return 100.0 * covered / total if total else 100.0


def describe(coverage: Mapping[str, Coverage], pure: List[str]) -> List[str]:
    """The report."""
    measured = [coverage[module] for module in pure if module in coverage]
    rest = [
        found
        for module, found in sorted(coverage.items())
        if module not in pure and module not in STAND_ALONE
    ]
    lines = [f"pure modules: {percent(measured):.1f} % of lines and branches"]
    lines += [f"  {module}: not measured" for module in pure if module not in coverage]
    lines += _describe_gaps(measured)
    low = [found for found in rest if percent([found]) < FLOOR]
    lines.append(f"other modules: {percent(rest):.1f} % of lines and branches")
    lines.append(f"below {FLOOR:.0f} %: {len(low)}")
    lines += _describe_gaps(low)
    lines.append(f"{FLOOR:.0f} % and more, with a gap:")
    lines += _describe_gaps([found for found in rest if found not in low])
    lines.append("left out, for a type checker or an older Python:")
    for found in [*measured, *rest]:
        if found.left_out:
            lines.append(f"  {found.module}: {', '.join(_ranges(found.left_out))}")
    lines.append("run by the managed interpreter and not measured there: " + ", ".join(STAND_ALONE))
    return lines


def _describe_gaps(modules: List[Coverage]) -> List[str]:
    return [
        f"  {found.module}: {percent([found]):.1f} %, not covered: {_places(found)}"
        for found in modules
        if found.lines or found.branches
    ]


def _ranges(numbers: List[int]) -> List[str]:
    """Lines as "12" and "40-44"."""
    ranges: List[List[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return [str(first) if first == last else f"{first}-{last}" for first, last in ranges]


def _places(found: Coverage) -> str:
    """ "12, 40-44, 7->9": lines that were not run, and branches that were not taken."""
    places = _ranges(found.lines)
    for start, end in found.branches:
        if start not in found.lines and abs(end) not in found.lines:
            places.append(f"{start}->{'end' if end < 0 else end}")
    return ", ".join(places) or "branches to uncovered lines"


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    pure = read_pure_modules((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    print("\n".join(describe(read_coverage(document), pure)))


if __name__ == "__main__":
    main()

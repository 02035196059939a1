"""What the tests do not cover: `python -m tests.coverage_report coverage.json`.

docs/architecture.md marks the pure modules with `P`; their uncovered lines and branches are named.
Of the others there are the figures of each module that is below 92 % and a total.
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
        found[module] = Coverage(module, covered, total, measured["missing_lines"], branches)
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
    for module in pure:
        if module not in coverage:
            lines.append(f"  {module}: not measured")
    for found in measured:
        if found.lines or found.branches:
            lines.append(
                f"  {found.module}: {percent([found]):.1f} %, not covered: {_places(found)}"
            )
    lines.append(f"other modules: {percent(rest):.1f} % of lines and branches")
    for found in rest:
        if percent([found]) < FLOOR:
            lines.append(f"  {found.module}: {percent([found]):.1f} %")
    lines.append("run by the managed interpreter and not measured there: " + ", ".join(STAND_ALONE))
    return lines


def _places(found: Coverage) -> str:
    """ "12, 40-44, 7->9": lines that were not run, and branches that were not taken."""
    ranges: List[List[int]] = []
    for line in found.lines:
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    places = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
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

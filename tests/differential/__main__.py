"""`python -m tests.differential [--pip 23.2.1 ...] [--only TEXT]`: the whole table, with each of
these versions of pip.

The wheels of pip come from the package index. Ends with 1 when a row differs in what is not
allowed, and prints the counts as the table of docs/drop-in.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List

from tests.differential.compare import Bench, Row, differences, judge
from tests.differential.packages import PackageIndex, write_packages
from tests.differential.rows import ROWS

PIPS = ("23.2.1", "24.3.1", "25.3", "26.2")


def main() -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pip", action="append", choices=PIPS, help="a version of pip (default: all)"
    )
    parser.add_argument("--only", default="", help="the rows that hold this text")
    parser.add_argument("--short", action="store_true", help="one row of each kind")
    parser.add_argument(
        "--verbose", action="store_true", help="show both outputs of a row that differs"
    )
    options = parser.parse_args()
    rows = [
        row for row in ROWS if options.only in row.words and (row.is_short or not options.short)
    ]
    wrong = 0
    table = []
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        root = Path(folder).resolve()
        files = write_packages(root / "files")
        index = PackageIndex(files)
        for version in options.pip or PIPS:
            started = time.monotonic()
            bench = Bench(root / version, files, index, sys.executable, _fetch(version, root))
            counts = _run(bench, version, rows, is_verbose=options.verbose)
            wrong += counts["wrong"]
            table.append((version, counts, time.monotonic() - started))
        index.stop()
    print(
        "\n| pip | command lines | alike | allowed to differ | wrong | seconds "
        "|\n|---|---|---|---|---|---|"
    )
    for version, counts, seconds in table:
        numbers = [counts[name] for name in ("rows", "alike", "allowed", "wrong")]
        print(f"| {version} | {' | '.join(map(str, numbers))} | {seconds:.0f} |")
    return 1 if wrong else 0


def _fetch(version: str, root: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(root),
        f"pip=={version}",
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return next(root.glob(f"pip-{version}-*.whl"))


def _run(bench: Bench, version: str, rows: List[Row], *, is_verbose: bool) -> Dict[str, int]:
    counts = {"rows": 0, "alike": 0, "allowed": 0, "wrong": 0}
    for row in rows:
        if not row.applies(version):
            continue
        by_pip, ours = bench.compare(row)
        found = differences(by_pip, ours)
        problems = judge(row, found)
        counts["rows"] += 1
        counts["wrong" if problems else "allowed" if found else "alike"] += 1
        if problems:
            print(f"{version}: {row.words} [{row.given}] {dict(row.variables)}", flush=True)
            for problem in problems:
                print(f"    {problem}", flush=True)
            if is_verbose:
                print(f"--- pip\n{by_pip.text}--- safe-install\n{ours.text}---", flush=True)
    return counts


if __name__ == "__main__":
    sys.exit(main())

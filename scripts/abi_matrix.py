"""What does the check of shared objects say, and what does the loader really do? Real wheels beside
real torches.

    scripts/abi_matrix.py [--cache FOLDER] [--torch VERSION ...] [--keep] [--write | --report]

For each torch a virtual environment is made of unpacked wheels: torch, the libraries that its
metadata names, and a few packages without which nothing imports. One process there imports torch
and forks a child for each shared object, which loads it: as an extension module where the file is
one, else by dlopen with RTLD_NOW; a child that dies is an answer too. The same files are judged by
safe_install.wheels.inspection, from a stage, before they are there. Nothing is compiled, nothing
needs a GPU.

What was measured is kept in FOLDER, also the wheels (about 20 GB); an environment is deleted when
it is done, unless --keep. --write puts the tables into docs/abi.md, --report prints them from what
FOLDER has, without measuring. The Python that runs this must be 3.11 and have safe_install; pip
must find torch 2.13.0+cpu (PIP_EXTRA_INDEX_URL= https://download.pytorch.org/whl/cpu), which is not
on PyPI.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Sequence

from abi_comparison.matrix import TORCHES
from abi_comparison.measurement import measure
from abi_comparison.results import results_of
from abi_comparison.tables import report
from abi_comparison.wheels import Store

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "docs" / "abi.md"
START, END = "<!-- made by scripts/abi_matrix.py -->", "<!-- end -->"


def replaced(text: str, table: str) -> str:
    """The page with new tables between its two marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--cache", type=Path, default=Path.home() / ".cache" / "torch-safe-install" / "abi-matrix"
    )
    parser.add_argument(
        "--torch", action="append", choices=TORCHES, help="only this one, may be repeated"
    )
    parser.add_argument("--keep", action="store_true", help="leave the environments")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/abi.md")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    if sys.version_info[:2] != (3, 11):
        parser.error("run it with Python 3.11: the wheels are for it")
    cache: Path = options.cache.resolve()
    (cache / "results").mkdir(parents=True, exist_ok=True)
    if not options.report:
        store = Store(cache)
        for version in options.torch or TORCHES:
            build = measure(version, store, keep=options.keep)
            (cache / "results" / f"{version}.json").write_text(
                json.dumps(asdict(build), indent=1), "utf-8"
            )
    builds = results_of(cache, TORCHES)
    if not builds:
        parser.error("nothing was measured yet")
    table = report(builds)
    if options.write:
        REPORT.write_text(replaced(REPORT.read_text("utf-8"), table), "utf-8")
    else:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

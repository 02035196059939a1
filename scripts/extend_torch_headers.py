"""Adds torch builds to the table that says which torch a binary was built for.

scripts/extend_torch_headers.py FILE.whl|DIR...     wheels of torch, or folders with an unpacked one

The table (src/safe_install/wheels/torch_headers.json.gz) holds the lines of assertions in torch's
headers, by version. A header whose lines are those of a version that is known already shares its
row. Run the tests afterwards.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from safe_install.wheels.fingerprint import find_assertion_lines

TABLE = (
    Path(__file__).resolve().parents[1]
    / "src"
    / "safe_install"
    / "wheels"
    / "torch_headers.json.gz"
)
PREFIX = "torch/include/"
HEADER = re.compile(r"^torch/include/[\w+./-]{3,200}\.(?:h|hpp|cuh|inl)$")

Rows = Dict[str, Dict[str, List[str]]]


def read_headers(source: Path) -> Iterator[Tuple[str, str]]:
    """The name below torch/include and the text of each header."""
    if source.is_dir():
        for path in sorted((source / "torch" / "include").rglob("*")):
            name = path.relative_to(source).as_posix()
            if HEADER.match(name) and path.is_file():
                yield name[len(PREFIX) :], path.read_text("utf-8", "replace")
        return
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if HEADER.match(name):
                yield name[len(PREFIX) :], archive.read(name).decode("utf-8", "replace")


def read_version(source: Path) -> str:
    """`2.13.0+cpu`, as torch/version.py says it."""
    if source.is_dir():
        text = (source / "torch" / "version.py").read_text("utf-8")
    else:
        with zipfile.ZipFile(source) as archive:
            text = archive.read("torch/version.py").decode("utf-8")
    said = re.search(r"^__version__ = ['\"]([\w.+]+)['\"]", text, re.MULTILINE)
    if said is None:
        raise SystemExit(
            f"extend_torch_headers.py: {source} does not say its version in torch/version.py"
        )
    return said.group(1)


def add(table: Rows, version: str, headers: Iterator[Tuple[str, str]]) -> int:
    """Put one version's lines into the table, in the place of what it had; how many headers have
    any."""
    for rows in table.values():
        for lines in [lines for lines, versions in rows.items() if version in versions]:
            rows[lines].remove(version)
            if not rows[lines]:
                del rows[lines]
    count = 0
    for name, text in headers:
        found = find_assertion_lines(text)
        if found:
            rows = table.setdefault(name, {})
            rows.setdefault(",".join(map(str, sorted(found))), []).append(version)
            count += 1
    return count


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    table: Rows = json.loads(gzip.decompress(TABLE.read_bytes()))
    for argument in arguments:
        source = Path(argument)
        version = read_version(source)
        print(
            f"torch {version}: {add(table, version, read_headers(source))} headers with assertions"
        )
    table = {name: rows for name, rows in table.items() if rows}
    text = json.dumps(table, separators=(",", ":"))
    TABLE.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`alias pip=safe-install`: the same command lines by pip and by safe-install, with the pip of this
Python.

One row of each kind. The whole table, with four versions of pip: `python -m tests.differential`;
`--short` is this one.
"""

from __future__ import annotations

import sys
from typing import Iterator

import pytest

from tests.choice import long_unless
from tests.differential.compare import Bench, Row, differences, judge
from tests.differential.packages import PackageIndex, write_packages
from tests.differential.rows import SHORT


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    """The environments, each made when it is first needed."""
    root = tmp_path_factory.mktemp("differential")
    files = write_packages(root / "files")
    index = PackageIndex(files)
    yield Bench(root, files, index, sys.executable, None)
    index.stop()


# What people type; and one that asks, one that fails, one that removes.
QUICK = (
    "install alpha",
    "install -q --report - alpha",
    "install no-such-project",
    "uninstall --yes alpha gamma beta",
    "uninstall alpha beta",
    "freeze",
)


def _is_quick(row: Row) -> bool:
    return row.words in QUICK and not row.variables


def _name(row: Row) -> str:
    return " ".join([row.words, row.given, *row.variables]).replace("{", "").replace("}", "")


@pytest.mark.parametrize("row", long_unless(_is_quick, SHORT), ids=_name)
def test_both_do_the_same(bench, row):
    if not row.applies(bench.version()):
        pytest.skip(f"for pip {row.pips}")
    by_pip, ours = bench.compare(row)
    assert judge(row, differences(by_pip, ours)) == [], f"pip:\n{by_pip.text}\nours:\n{ours.text}"

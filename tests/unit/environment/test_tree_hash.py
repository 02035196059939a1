"""One value for what is installed: the same where the same is installed, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

import pytest

from safe_install.environment.record import RecordEntry
from safe_install.environment.tree_hash import hash_installed, hash_rows, hash_tree
from safe_install.models import InstalledDistribution
from tests.small_environment import SmallEnvironment

ROWS = [RecordEntry("p/__init__.py", "sha256=a", "1"), RecordEntry("p/b.py", "sha256=b", "2")]
SAME = {
    "another order": list(reversed(ROWS)),
    "bytecode": [*ROWS, RecordEntry("p/__pycache__/b.cpython-311.pyc", "", "")],
    "a script, which names its interpreter": [*ROWS, RecordEntry("../../../bin/p", "sha256=c", "")],
    "an absolute path": [*ROWS, RecordEntry("/usr/bin/p", "sha256=c", "")],
    "who installed it": [*ROWS, RecordEntry("p-1.dist-info/INSTALLER", "sha256=c", "4")],
    "where from": [*ROWS, RecordEntry("p-1.dist-info/direct_url.json", "sha256=c", "4")],
    "itself": [*ROWS, RecordEntry("p-1.dist-info/RECORD", "", "")],
}
OTHERS = {
    "a file more": [*ROWS, RecordEntry("p/c.py", "sha256=c", "1")],
    "a file less": ROWS[:1],
    "another content": [ROWS[0], RecordEntry("p/b.py", "sha256=x", "2")],
    "a file of that name elsewhere": [*ROWS, RecordEntry("p/RECORD", "sha256=c", "1")],
    "other metadata": [*ROWS, RecordEntry("p-1.dist-info/METADATA", "sha256=c", "1")],
    "nothing": [],
}


@pytest.mark.parametrize("rows", SAME.values(), ids=SAME)
def test_the_same(rows: list[RecordEntry]) -> None:
    assert hash_rows("p", "1", rows) == hash_rows("p", "1", ROWS)


@pytest.mark.parametrize("rows", OTHERS.values(), ids=OTHERS)
def test_not_the_same(rows: list[RecordEntry]) -> None:
    assert hash_rows("p", "1", rows) != hash_rows("p", "1", ROWS)


def test_name_and_version_count() -> None:
    values = {hash_rows("p", "1", ROWS), hash_rows("p", "2", ROWS), hash_rows("q", "1", ROWS)}
    assert len(values) == 3


def test_two_environments(tmp_path: Path) -> None:
    first, second = (SmallEnvironment(tmp_path / name) for name in ("first", "second"))
    files = {"p/a.py": "1", "../../../bin/p": "#!interpreter"}
    installed: Dict[str, dict[str, InstalledDistribution]] = {}
    for name, env in (("first", first), ("second", second)):
        found = [env.install("q", "1", {"q.py": ""}), env.install("p", "1", files)]
        installed[name] = {one.name: one for one in found}
    one, other = (hash_installed(installed[name]) for name in ("first", "second"))
    assert [row.name for row in one] == ["p", "q"]
    assert hash_tree(one) == hash_tree(other)
    second.install("p", "1", {"p/a.py": "2"})
    other = hash_installed(installed["second"])
    assert hash_tree(one) != hash_tree(other)
    assert one[1] == other[1]
    del installed["second"]["p"]
    assert hash_tree(hash_installed(installed["second"])) not in (hash_tree(one), hash_tree(other))


def test_without_a_record(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    env.install("p", "1", {"p.py": ""}, record=False)
    installed = {"p": InstalledDistribution("p", "1", env.site / "p-1.dist-info", env.site)}
    (row,) = hash_installed(installed)
    assert row.sha256 == hash_rows("p", "1", [])

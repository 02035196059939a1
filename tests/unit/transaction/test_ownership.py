"""Whose is a file? RECORD may write its path in more than one way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from safe_install.transaction.ownership import find_top
from safe_install.transaction.place import make_ownership
from tests.small_environment import SmallEnvironment

SPELLINGS = {
    "plain": ("p/a.py", lambda site: "p/a.py,,"),
    "in quotes": ("p/a.py", lambda site: '"p/a.py",,'),
    "a folder with a comma": ("p,q/a.py", lambda site: '"p,q/a.py",,'),
    "a folder with a quote": ('p"q/a.py', lambda site: '"p""q/a.py",,'),
    "absolute": ("p/a.py", lambda site: f"{site}/p/a.py,,"),
    "out and in again": ("p/a.py", lambda site: "../site-packages/p/a.py,,"),
    "from the current folder": ("p/a.py", lambda site: "./p/a.py,,"),
    "the end of a line in the name": ("p/a\nb.py", lambda site: '"p/a\nb.py",,'),
    "no UTF-8": ("p\udce9/a.py", lambda site: "p\udce9/a.py,,"),
}


@pytest.mark.parametrize(("name", "write_row"), SPELLINGS.values(), ids=list(SPELLINGS))
def test_the_owner_is_found_however_the_row_is_written(
    tmp_path: Path, name: str, write_row: Callable[[Path], str]
) -> None:
    env = SmallEnvironment(tmp_path / "env")
    owner = env.install("owner", "1", {"p/last.py": ""})
    record = owner.metadata_path / "RECORD"
    record.write_bytes(os.fsencode(f"{write_row(env.site)}\n") + record.read_bytes())
    ownership = make_ownership([owner], env.prefix, env.scheme)
    assert ownership.find_owner(f"{env.site}/{name}") == "owner"
    assert ownership.find_owner(f"{env.site}/p/last.py") == "owner"
    assert ownership.find_owner(f"{env.site}/p/other.py") is None


@pytest.mark.parametrize(
    ("row", "top"),
    [
        ("p/a.py,sha256=abc,3\r\n", "p"),
        ("six.py,,\n", "six.py"),
        ("six.py\n", "six.py"),
        ('"p,q/a.py",,\n', "p,q"),
        ('"p/a""b.py",,\n', "p"),
        ("../../../bin/p,,\n", ".."),
        ("/opt/p.py,,\n", ".."),
        ("./p/a.py,,\n", ".."),
        ("\r\n", ".."),
        ('"",,\n', ".."),
    ],
)
def test_the_first_component_of_a_row(row: str, top: str) -> None:
    assert find_top(row) == top

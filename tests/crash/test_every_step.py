"""SIGKILL before every system call of a change, then before every one of the recovery: before or
after, exactly.

The short form of what `python tests/crash/full.py` does at length.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator

import pytest

from tests.crash.victim import ACTIONS

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and kills")
ROOT = Path(__file__).resolve().parents[2]
BY_FILE = [
    pytest.param(False, id="directories"),
    pytest.param(True, id="files", marks=pytest.mark.long),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    # In memory where that is possible: the kernel keeps what a killed process wrote, so a disk adds
    # only time.
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


def run_story(story: str, folder: Path, action: str, *, by_file: bool = False) -> Dict[str, int]:
    """What a story of every_step.py counted; all of its promises were kept."""
    words = [sys.executable, "-m", "tests.crash.every_step", story, str(folder), action]
    if by_file:
        words.append("--by-file")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("by_file", BY_FILE)
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_once(folder: Path, action: str, by_file: bool) -> None:
    counts = run_story("kill-once", folder, action, by_file=by_file)
    assert counts["kills"] > 20  # a count of nothing would prove nothing


def test_without_recovery_it_would_be_a_mix(folder: Path) -> None:
    assert run_story("leave-unrecovered", folder, "commit")["mixed"] > 5


@pytest.mark.parametrize("by_file", BY_FILE)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_call_fails(folder: Path, action: str, by_file: bool) -> None:
    statuses = run_story("fail-each", folder, action, by_file=by_file)
    assert statuses["11"] > 10
    assert statuses.get("13")


@pytest.mark.long
def test_killed_and_killed_again_in_the_recovery(folder: Path) -> None:
    assert run_story("kill-twice", folder, "roll back")["pairs"] > 100

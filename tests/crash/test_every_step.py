"""SIGKILL before every system call of a change, then before every one of the recovery: before or
after, exactly.

The short form of what `python tests/crash/full.py` does at length.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Iterator

import pytest

from tests.crash.victim import ACTIONS, ERRORS, Trial, fail

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and kills")


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


@pytest.mark.parametrize("by_file", [False, True], ids=["directories", "files"])
@pytest.mark.parametrize("action", ACTIONS)
def test_killed_once(folder: Path, action: str, by_file: bool) -> None:
    steps = sum(1 for _ in kill_at_every_step(Trial(folder / "env", by_file=by_file), action))
    assert steps > 20  # a count of nothing would prove nothing


def test_without_recovery_it_would_be_a_mix(folder: Path) -> None:
    trial, mixed = Trial(folder / "env"), 0
    for step in range(1, 100):
        trial.begin("commit")
        if trial.run("commit", die_at=step) is None:
            break
        mixed += not trial.is_exact("commit")
    assert mixed > 5


def kill_at_every_step(trial: Trial, action: str) -> Iterator[int]:
    """Kill, recover, compare; yields each step until the action lives to its end."""
    step = 0
    while True:
        step += 1
        trial.begin(action)
        killed = trial.run(action, die_at=step)
        if killed is None:
            return
        assert trial.run("recover") is None
        assert trial.is_exact(action), f"{action} killed at {step}"
        yield step


@pytest.mark.parametrize("by_file", [False, True], ids=["directories", "files"])
@pytest.mark.parametrize("action", ACTIONS)
def test_each_call_fails(folder: Path, action: str, by_file: bool) -> None:
    """Every other one alone, those between with all that follow; full.py does both for each, with
    every error."""
    trial, statuses, at = Trial(folder / "env", by_file=by_file), Counter(), 0
    while statuses[-1] < 2:
        at += 1
        statuses[fail(trial, action, at, ERRORS[at // 2 % len(ERRORS)], sticky=at % 2 == 0)] += 1
    assert statuses[11] > 10
    assert statuses[13]


def test_killed_and_killed_again_in_the_recovery(folder: Path) -> None:
    trial, step, pairs = Trial(folder / "env"), 0, 0
    while True:
        step += 3
        again, killed = 0, None
        while True:
            again += 1
            trial.begin("roll back")
            killed = trial.run("roll back", die_at=step)
            if killed is None or trial.run("recover", die_at=again) is None:
                break
            assert trial.run("recover") is None
            assert trial.is_exact("roll back"), f"killed at {step}, the recovery at {again}"
            pairs += 1
        if killed is None:
            break
    assert pairs > 100

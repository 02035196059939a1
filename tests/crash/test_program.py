"""The whole program killed, its file calls failing: the short form of `python -m
tests.crash.program`."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.crash.conftest import RUNNING
from tests.crash.program import (
    ERRORS,
    STAGED,
    Action,
    Program,
    fail_at_step,
    kill_at_random,
    kill_at_step,
    steps_of,
)
from tests.lab import LabWheels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="LD_PRELOAD of the GNU C library"
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheels: LabWheels) -> Iterator[Program]:
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("program")))
    yield Program(folder, RUNNING, wheels)


@pytest.mark.long
def test_killed_at_a_random_moment(program: Program, generator: random.Random) -> None:
    for name in ("upgrade", "replace torch"):
        assert kill_at_random(program, name, generator) in ("before", "after")


def test_killed_before_calls_of_the_swap(program: Program, generator: random.Random) -> None:
    """The last calls of an upgrade: journal, renames, commit. Without the recovery some of them
    leave a mix."""
    mixed = 0
    last = program.count("upgrade")
    for step in range(last - 24, last, 3):
        unrecovered, state = kill_at_step(program, "upgrade", step, generator)
        assert state in ("before", "after"), f"killed before call {step} of {last}"
        mixed += unrecovered.startswith("neither")
    assert mixed > 2


@pytest.mark.long
def test_killed_while_a_wheel_is_unpacked_that_is_refused(
    program: Program, generator: random.Random
) -> None:
    """The environment is as before at every moment, and no part of the stage is left behind the
    recovery."""
    name, unfinished = "refused in the stage", 0
    last = program.count(name)
    for step in range(last // 5, last, last // 5):
        unrecovered, state = kill_at_step(program, name, step, generator)
        assert (unrecovered, state) == ("before", "before"), f"killed before call {step} of {last}"
        assert list_transactions(program.prefix) == list_transactions(program.templates[name])
        unfinished += 1
    assert unfinished >= 4


@pytest.mark.long
def test_killed_before_calls_of_a_commit(program: Program, generator: random.Random) -> None:
    """Of what was staged before: afterwards the state says which of the two it is."""
    states = set()
    last = program.count("commit")
    for step in range(max(1, last - 40), last, 4):
        _, state = kill_at_step(program, "commit", step, generator)
        assert state in ("before", "after"), f"killed before call {step} of {last}"
        done = program.run(Action(("status", STAGED, "--json")))
        (change,) = json.loads(done.stdout)["details"]["changes"]
        assert change["state"] in ("staged", "rolled-back", "committed")
        assert (change["state"] == "committed") == (state == "after")
        states.add(change["state"])
    assert len(states) > 1


@pytest.mark.long
def test_killed_while_it_is_staged(program: Program, generator: random.Random) -> None:
    last = program.count("stage")
    for step in (last // 2, last - 6, last - 1):
        assert kill_at_step(program, "stage", step, generator) == ("before", "before")
        assert list_transactions(program.prefix) == list_transactions(program.templates["stage"])


def list_transactions(prefix: Path) -> List[str]:
    """Those that are kept, or that nobody has cleaned up."""
    names = os.listdir(prefix / ".safe-install")
    return sorted(name for name in names if name.startswith(("txn-", "trash-")))


@pytest.mark.long
@pytest.mark.parametrize("name", ["upgrade", "uninstall", "commit"])
def test_a_call_fails(program: Program, name: str) -> None:
    statuses = set()
    for number, step in enumerate(steps_of(program, name, 20 if name == "upgrade" else 5, first=3)):
        status, _ = fail_at_step(
            program, name, step, ERRORS[number % len(ERRORS)], sticky=number % 3 == 2
        )
        statuses.add(status)
    assert statuses & {1, 11, 13}  # it did fail

"""SIGKILL before every system call of staging and of committing: before or after, exactly, and the
state says which."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Iterator

import pytest

from safe_install.transaction import staged, unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.staged import StagedChanges
from safe_install.transaction.staged_states import State
from tests.crash.victim import NEW, Trial
from tests.small_environment import SmallEnvironment, make_installed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and kills")


class StagedTrial(Trial):
    """The change of the victim, in two processes."""

    def begin(self, action: str) -> None:
        super().begin("commit")
        if action == "commit":
            assert self.run("stage") is None

    def _act(self, action: str) -> None:
        with lock_environment(self.prefix):
            unfinished.recover(self.prefix)
            if action == "stage":
                self._stage()
            elif action == "commit":
                self._commit()

    def _stage(self) -> None:
        env = SmallEnvironment(self.prefix, fresh=False)
        with env.begin() as transaction:
            env.stage(transaction, "p", "2", NEW)
            staged.set_aside(transaction, b"{}", {"created": time.time(), "expires": None})

    def _commit(self) -> None:
        env = SmallEnvironment(self.prefix, fresh=False)
        changes = StagedChanges(self.prefix)
        change = changes.find(changes.ids[0])
        transaction = staged.begin_commit(self.prefix, change, scheme=env.scheme)
        with transaction, staged.stage_in(transaction, change):
            old, other = make_installed(env.site, "p", "1"), make_installed(env.site, "other", "1")
            transaction.plan(remove=[old], keep=[other])
            transaction.swap()
            transaction.commit({"steps": []})
        staged.record_outcome(change, State.COMMITTED)

    def state(self) -> State:
        """Of the one change that was staged."""
        changes = StagedChanges(self.prefix)
        return changes.find(changes.ids[0]).state if changes.ids else State.UNKNOWN

    def is_before(self) -> bool:
        return self.hash() == self.before


@pytest.fixture
def trial() -> Iterator[StagedTrial]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield StagedTrial(Path(folder) / "env")


def kill_at_every_step(trial: StagedTrial, action: str) -> Iterator[int]:
    """Kill at each step until the action lives to its end; yields each one, not yet recovered."""
    step = 0
    while True:
        step += 1
        trial.begin(action)
        if trial.run(action, die_at=step) is None:
            return
        yield step


def test_killed_while_it_is_staged(trial: StagedTrial) -> None:
    states: Counter[State] = Counter()
    for step in kill_at_every_step(trial, "stage"):
        assert trial.is_before()
        assert trial.run("recover") is None
        assert trial.is_before()
        states[trial.state()] += 1
        folder = trial.prefix / ".safe-install"
        left = [path for path in folder.iterdir() if path.name.startswith(("txn-", "trash-"))]
        assert left == [], step
    assert set(states) == {State.UNKNOWN, State.STAGED}
    assert states[State.UNKNOWN] > 8


@pytest.mark.long
def test_killed_while_it_is_committed(trial: StagedTrial) -> None:
    found: Counter[State] = Counter()
    first: Counter[State] = Counter()
    for step in kill_at_every_step(trial, "commit"):
        first[trial.state()] += 1
        if trial.state() is State.STAGED:
            assert trial.is_before()
        assert trial.run("recover") is None
        state = trial.state()
        found[state] += 1
        assert state in (State.STAGED, State.ROLLED_BACK, State.COMMITTED), step
        assert trial.is_before() == (state is not State.COMMITTED), step
        assert trial.is_exact("commit"), step
        if state is State.STAGED:
            assert trial.run("commit") is None
            assert trial.is_exact("commit")
            assert not trial.is_before()
        # said again, it is the same
        assert trial.run("recover") is None
    assert min(found[state] for state in (State.STAGED, State.ROLLED_BACK, State.COMMITTED)) > 1
    # what the next contact sees before anything was put right
    assert set(first) == {State.STAGED, State.INTERRUPTED, State.COMMITTED}

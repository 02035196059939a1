"""Processes that change a small environment and are killed at the n-th system call that matters.

The product has no hook for this: in a forked child the functions of `os`, and the two of `recovery.disk`
that reach the kernel by ctypes, are replaced by versions that count and that end the process by
SIGKILL just before call number n.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
from pathlib import Path
from typing import Any, Callable, Optional

from safe_install.errors import SafeInstallError
from safe_install.transaction import history, unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import disk
from tests.disk_calls import replace_everywhere
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment, make_installed
from tests.treehash import hash_tree

CALLS = ("rename", "unlink", "rmdir", "mkdir", "fsync", "utime", "chmod")
OLD = {
    "p/__init__.py": "1",
    "p/sub/a.py": "1",
    "module.py": "1",
    "../../../bin/tool": "1",
    "mixed/a.py": "1",
}
NEW = {
    "p/__init__.py": "2",
    "p/new/b.py": "2",
    "module.py": "2",
    "../../../share/tool": "2",
    "mixed/b.py": "2",
}
ACTIONS = ("roll back", "commit", "undo")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)


class Trial:
    """One environment, what may be done to it, and the two states that are allowed afterwards."""

    def __init__(self, prefix: Path, *, by_file: bool = False) -> None:
        self.prefix, self.by_file = prefix, by_file
        self.before = ""

    def begin(self, action: str) -> None:
        """Make the environment anew; for "undo" and "recover" with the earlier change that they
        need."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        env = SmallEnvironment(self.prefix)
        env.install("p", "1", OLD)
        env.install("other", "1", {"other.py": ""})
        (env.site / "mixed" / "mine.txt").write_text("mine")
        for folder, _, _ in os.walk(self.prefix):
            os.utime(folder, ns=(1_500_000_000_000_000_000, 1_500_000_000_123_456_789))
        if action == "undo":
            assert self.run("commit") is None
        self.before = self.hash()

    def hash(self) -> str:
        """The state of the environment, the times of its directories included."""
        return hash_tree(self.prefix, times=True)

    def run(self, action: str, *, die_at: int = 0) -> Optional[int]:
        """Run one action in a child. None: it ended well. Else the signal that ended it."""
        status = self._in_child(action, lambda: _count_calls(die_at, _die))
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status)
        assert os.WEXITSTATUS(status) == 0, f"{action} failed at {die_at}"
        return None

    def fail(self, action: str, *, at: int, code: int, sticky: bool) -> int:
        """Run one action in a child whose call number `at` (and if asked each later one) fails; its
        exit status, or
        -1 where there are fewer calls."""
        calls = self.prefix.with_name("calls")

        def fail_from(number: int) -> None:
            if number == at or (sticky and number > at):
                with calls.open("w"):  # not touch(): it calls what is counted
                    pass
                raise OSError(code, os.strerror(code))

        calls.unlink(missing_ok=True)
        status = self._in_child(action, lambda: _count_calls(at, fail_from))
        return os.WEXITSTATUS(status) if calls.exists() else -1

    def _in_child(self, action: str, prepare: Callable[[], None]) -> int:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if self.by_file:
                    refuse_renames_of_directories(setattr)
                prepare()
                self._act(action)
                status = 0
            except SafeInstallError as error:
                status = error.exit_status
            finally:
                os._exit(status)
        return os.waitpid(child, 0)[1]

    def is_exact(self, action: str) -> bool:
        """Is the environment exactly as before, or exactly as after (there directory times are
        new)?"""
        if self.hash() == self.before:
            return True
        return action in ("commit", "undo") and self._holds_the_other_version(action)

    def _holds_the_other_version(self, action: str) -> bool:
        model = Trial(self.prefix.with_name(f"model-{action}"))
        if not model.prefix.exists():
            model.begin("commit")
            if action == "commit":
                model.run("commit")
        return hash_tree(self.prefix) == hash_tree(model.prefix)

    def _act(self, action: str) -> None:
        with lock_environment(self.prefix):
            unfinished.recover(self.prefix)
            if action == "undo":
                with history.begin_undo(self.prefix) as undo:
                    undo.swap()
                    undo.commit({})
            elif action != "recover":
                self._change(keep=action == "commit")

    def _change(self, *, keep: bool) -> None:
        env = SmallEnvironment(self.prefix, fresh=False)
        with env.begin() as transaction:
            env.stage(transaction, "p", "2", NEW)
            old, other = make_installed(env.site, "p", "1"), make_installed(env.site, "other", "1")
            transaction.plan(remove=[old], keep=[other])
            transaction.swap()
            if keep:
                transaction.commit({})
            else:
                transaction.roll_back()


def _die(number: int) -> None:
    del number
    os.kill(os.getpid(), signal.SIGKILL)


def _count_calls(at: int, strike: Callable[[int], None]) -> None:
    """From call number `at` on, `strike` is asked before each call."""
    calls = [0]

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if 0 < at <= calls[0]:
                strike(calls[0])
            return function(*arguments, **options)

        return counting

    for name in CALLS:
        setattr(os, name, count(getattr(os, name)))
    for name in ("exchange", "sync_filesystem"):
        replace_everywhere(setattr, name, count(getattr(disk, name)))


def fail(trial: Trial, action: str, at: int, code: int, *, sticky: bool) -> int:
    """One call of an action fails, then the cause is gone and the recovery runs; the exit status of
    the action.

    Raises AssertionError where the environment is not what that status says.
    """
    trial.begin(action)
    status = trial.fail(action, at=at, code=code, sticky=sticky)
    where = f"{action}: call {at} fails with {os.strerror(code)}{', and all later ones' if sticky else ''}: {status}"
    assert status in (-1, 0, 1, 11, 13), where
    if status in (1, 11):
        assert trial.hash() == trial.before, where
    assert trial.run("recover") is None, where
    assert trial.is_exact(action), where
    # What was refused, or could not be put back yet, is as before now; what was done stays done.
    done = status in (-1, 0) and action != "roll back"
    assert (trial.hash() == trial.before) != done, where
    return status

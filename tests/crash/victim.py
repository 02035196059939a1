"""Processes that change a small environment and are killed at the n-th system call that matters.

The product has no hook for this: in a forked child the functions of `os`, and the two of `recover` that reach the
kernel by ctypes, are replaced by versions that count and that end the process by SIGKILL just before call number n.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any, Callable, Optional

from safe_install.transaction import history, swap
from safe_install.transaction import recover as recovery
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment, make_installed
from tests.treehash import hash_tree

CALLS = ("rename", "unlink", "rmdir", "mkdir", "fsync", "utime", "chmod")
OLD = {"p/__init__.py": "1", "p/sub/a.py": "1", "module.py": "1", "../../../bin/tool": "1", "mixed/a.py": "1"}
NEW = {"p/__init__.py": "2", "p/new/b.py": "2", "module.py": "2", "../../../share/tool": "2", "mixed/b.py": "2"}
ACTIONS = ("roll back", "commit", "undo")


class Trial:
    """One environment, what may be done to it, and the two states that are allowed afterwards."""

    def __init__(self, prefix: Path, *, by_file: bool = False) -> None:
        self.prefix, self.by_file = prefix, by_file
        self.before = ""

    def begin(self, action: str) -> None:
        """Make the environment anew; for "undo" and "recover" with the earlier change that they need."""
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
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if self.by_file:
                    refuse_renames_of_directories(setattr)
                _count_calls(die_at)
                self._act(action)
                status = 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return os.WTERMSIG(status)
        assert os.WEXITSTATUS(status) == 0, f"{action} failed at {die_at}"
        return None

    def is_exact(self, action: str) -> bool:
        """Is the environment exactly as before, or exactly as after (there directory times are new)?"""
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
        with swap.lock_environment(self.prefix):
            swap.recover(self.prefix)
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


def _count_calls(die_at: int) -> None:
    calls = [0]

    def count(function: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counting

    for owner, names in ((os, CALLS), (recovery, ("exchange", "sync_filesystem"))):
        for name in names:
            setattr(owner, name, count(getattr(owner, name)))

"""A host that mounts a served folder and remembers what it saw there, as NFS does for up to a minute:
what it recovers or takes back is what lies on the server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Set

import pytest

from safe_install.transaction import unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.ranks import Record
from safe_install.transaction.recovery.transactions import list_transactions
from safe_install.transaction.rendezvous import Rendezvous
from safe_install.transaction.swap import Transaction
from tests.small_environment import SmallEnvironment, make_installed
from tests.treehash import read_tree


class Memory:
    """What a host saw below a folder. It answers from that, until the folder in which something
    lies is opened."""

    def __init__(self, root: Path) -> None:
        self._root = f"{root}/"
        self._seen: Dict[str, os.stat_result] = {}
        self._opened: Set[str] = set()
        self._lstat = os.lstat
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                self._seen[path] = os.lstat(path)

    def answer(self, patch: pytest.MonkeyPatch) -> None:
        """From now on."""
        for name in ("lstat", "stat"):
            patch.setattr(os, name, self._make_asking(getattr(os, name)))
        for name in ("open", "listdir", "scandir"):
            patch.setattr(os, name, self._make_opening(getattr(os, name)))

    def _make_asking(self, real: Any) -> Any:
        def ask(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
            if isinstance(path, int) or not self._is_remembered(os.fspath(path)):
                return real(path, *arguments, **options)  # type: ignore[no-any-return]
            if os.fspath(path) not in self._seen:
                raise FileNotFoundError(2, "it was not there", path)
            return self._seen[os.fspath(path)]

        return ask

    def _make_opening(self, real: Any) -> Any:
        def open_it(path: Any, *arguments: Any, **options: Any) -> Any:
            found = real(path, *arguments, **options)
            is_folder = not arguments or arguments[0] & os.O_DIRECTORY
            if not isinstance(path, int) and is_folder:
                self._opened.add(os.fspath(path))
            return found

        return open_it

    def _is_remembered(self, path: str) -> bool:
        """What lies in a folder that is another one now was never seen."""
        folder = os.path.dirname(path)
        if not path.startswith(self._root) or folder in self._opened:
            return False
        if f"{folder}/" == self._root or self._is_remembered(folder):
            return True
        seen = self._seen.get(folder)
        return seen is not None and seen.st_ino == self._lstat(folder).st_ino


@pytest.fixture
def env(tmp_path: Path) -> SmallEnvironment:
    made = SmallEnvironment(tmp_path / "env")
    made.install("p", "1", {"p/a.py": "1", "q/a.py": "1", "p.py": "1"})
    with lock_environment(made.prefix):
        pass
    return made


def prepare(env: SmallEnvironment) -> Transaction:
    """Another host has staged a change, and plans it."""
    transaction = env.begin()
    env.stage(transaction, "p", "2", {"p/a.py": "2", "p/new/b.py": "2", "r.py": "2"})
    transaction.plan(remove=[make_installed(env.site, "p", "1")], keep=[])
    return transaction


def swap_and_die(transaction: Transaction) -> None:
    transaction.swap()
    transaction._signals.release()


@pytest.mark.parametrize("looked", ["before the change", "while it was prepared"])
def test_the_change_of_a_host_that_died_is_undone(
    env: SmallEnvironment, looked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its memory nothing was moved, and what is to be put back would be deleted."""
    before = read_tree(env.prefix)
    memory = Memory(env.prefix)
    transaction = prepare(env)
    if looked == "while it was prepared":
        memory = Memory(env.prefix)
    swap_and_die(transaction)
    assert read_tree(env.prefix) != before
    with monkeypatch.context() as patched:
        memory.answer(patched)
        with lock_environment(env.prefix):
            found = unfinished.recover(env.prefix)
    assert [one.what for one in found] == ["rolled-back"]
    assert read_tree(env.prefix) == before


def test_a_change_that_was_kept_meanwhile_is_no_unfinished_one(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction = prepare(env)
    memory = Memory(env.prefix)
    transaction.swap()
    transaction.commit({})
    memory.answer(monkeypatch)
    assert list_transactions(str(env.prefix)) == [(f"txn-{transaction.id}", "committed")]


def test_the_word_of_a_leader_is_seen(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (Rendezvous(env.prefix, "0" * 16) for _ in range(2))
    assert here.read() == (None, None)
    memory = Memory(env.prefix)
    there.write(Record(0, "node0", 0))
    memory.answer(monkeypatch)
    assert here.read()[0] == Record(0, "node0", 0)

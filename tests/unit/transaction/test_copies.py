"""An environment that was copied while a change was half done: `recover` ends, with the environment
from before."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from safe_install.errors import RollBackFailed
from safe_install.transaction import history, swap, unfinished
from safe_install.transaction.journal import encode
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery.journal_file import read_journal
from safe_install.transaction.recovery.rows import Identity, is_copy_of
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment, let_time_pass, make_installed
from tests.treehash import hash_tree, read_tree

SAME: Dict[str, str] = {"same/a.py": "1", "same/b.py": "other"}


class Killed(BaseException):
    """Nothing of ours runs after it."""


def run_and_kill(env: SmallEnvironment, after: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A change of two distributions, ended after so many renames; was there another one to come?"""
    old = [make_installed(env.site, name, version) for name, version in (("p", "1"), ("same", "1"))]
    calls: List[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if len(calls) == after:
                raise Killed
            calls.append(function.__name__)
            return function(*arguments)

        return call

    transaction = env.begin()
    # `p` trades places as a folder that has no RECORD of its own; `same` is installed once more.
    env.stage(transaction, "p", "2", {"p/a.py": "2", "p.py": "new", "p/sub/new.py": ""})
    env.stage(transaction, "same", "1", SAME)
    transaction.plan(remove=old, keep=[])
    with monkeypatch.context() as patched:
        patched.setattr(swap.Transaction, "_undo", lambda self: None)
        patched.setattr(swap, "exchange", counted(swap.exchange))
        patched.setattr(swap, "_rename_to_free_name", counted(swap._rename_to_free_name))
        patched.setattr(swap.os, "rmdir", counted(os.rmdir))
        patched.setattr(swap.os, "mkdir", counted(os.mkdir))
        real = os.rename
        patched.setattr(
            swap.os, "rename", lambda *a: real(*a) if a[0].endswith(".tmp") else counted(real)(*a)
        )
        try:
            transaction.swap()
        except Killed:
            return True
    transaction._signals.release()
    return False


def copy_by_cp(source: Path, target: Path) -> None:
    """As `cp -a`: all but the inode numbers."""
    shutil.copytree(source, target, symlinks=True)


def copy_by_tar(source: Path, target: Path) -> None:
    """Whole seconds."""
    with tarfile.open(target.with_suffix(".tar"), "w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(source, target.name)
    with tarfile.open(target.with_suffix(".tar")) as archive:
        archive.extraction_filter = lambda member, path: member  # type: ignore[method-assign,assignment]
        archive.extractall(target.parent)


def copy_without_times(source: Path, target: Path) -> None:
    """As `cp -r`."""
    let_time_pass(source.parent)
    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy)


COPIES: Dict[str, Callable[[Path, Path], None]] = {
    "cp -a": copy_by_cp,
    "tar": copy_by_tar,
    "cp -r": copy_without_times,
}


def make(folder: Path) -> SmallEnvironment:
    env = SmallEnvironment(folder / "env")
    env.install("p", "1", {"p/a.py": "1", "p.py": "old", "p/only1.py": ""})
    env.install("same", "1", {"same/a.py": "1", "same/b.py": "first"})
    env.install("other", "1", {"other.py": ""})
    for path in env.site.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return env


@pytest.mark.parametrize("how", COPIES)
def test_recover_puts_a_copy_back_from_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "cp -r":
        # Without times the RECORDs of two builds of one version are told apart by their sizes
        # alone.
        monkeypatch.setitem(SAME, "same/b.py", "another one")
    steps, was_killed = 0, True
    while was_killed:
        folder = tmp_path / str(steps)
        env = make(folder)
        before = read_tree(env.prefix)
        with lock_environment(env.prefix):
            was_killed = run_and_kill(env, steps, monkeypatch)
        copy = folder / "copy"
        COPIES[how](env.prefix, copy)
        with lock_environment(copy):
            assert [found.what for found in unfinished.recover(copy)] == ["rolled-back"], steps
        assert read_tree(copy) == before, f"after {steps} steps"
        with lock_environment(env.prefix):
            unfinished.recover(env.prefix)
        assert read_tree(env.prefix) == before
        steps += 1
    assert steps > 5


@pytest.mark.parametrize("how", COPIES)
def test_a_change_file_by_file_is_put_back_in_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Where directories cannot be renamed (overlayfs) the journal has no inode numbers."""
    refuse_renames_of_directories(monkeypatch.setattr)
    env = make(tmp_path)
    before = read_tree(env.prefix)
    with lock_environment(env.prefix):
        run_and_kill(env, 10**6, monkeypatch)
    (journal,) = env.prefix.glob(".safe-install/txn-*/journal")
    document = read_journal(str(journal))
    assert {identity[1] for *_, identity in document["outs"]} == {0}
    copy = tmp_path / "copy"
    COPIES[how](env.prefix, copy)
    with lock_environment(copy):
        assert [found.what for found in unfinished.recover(copy)] == ["rolled-back"]
    assert read_tree(copy) == before


def test_what_cannot_be_told_apart_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new of the same second, and both RECORDs of one size."""
    env = make(tmp_path)
    with lock_environment(env.prefix):
        run_and_kill(env, 3, monkeypatch)
    for path in env.prefix.rglob("RECORD"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (journal,) = env.prefix.glob(".safe-install/txn-*/journal")
    document = read_journal(str(journal))
    for row in document["exchanges"]:
        row[2][3] = row[3][3] = 1_700_000_000 * 10**9 if "dist-info" in row[0] else row[2][3]
    journal.write_bytes(encode(document))
    copy_by_cp(env.prefix, tmp_path / "copy")
    before = read_tree(tmp_path / "copy")
    with lock_environment(tmp_path / "copy"), pytest.raises(RollBackFailed, match="changed by"):
        unfinished.recover(tmp_path / "copy")
    assert read_tree(tmp_path / "copy") == before


def test_another_installer_in_a_copy_is_still_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = make(tmp_path)
    with lock_environment(env.prefix):
        run_and_kill(env, 3, monkeypatch)
    copy_by_cp(env.prefix, tmp_path / "copy")
    changed = SmallEnvironment(tmp_path / "copy", fresh=False)
    for folder in changed.site.glob("p-*.dist-info"):
        shutil.rmtree(folder)
    changed.install("p", "3", {"p/a.py": "3", "p.py": "another one"})
    with lock_environment(changed.prefix), pytest.raises(RollBackFailed, match="changed by"):
        unfinished.recover(changed.prefix)


def test_what_is_no_copy_is_compared_by_its_inodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same sizes and no copy: somebody else's files."""
    env = make(tmp_path)
    with lock_environment(env.prefix):
        run_and_kill(env, 100, monkeypatch)
        for name in ("p", "same"):
            for path in (env.site / name, *env.site.glob(f"{name}-*.dist-info")):
                # Renamed first: a file system gives the number of a removed file to the next one.
                path.rename(tmp_path / path.name)
                shutil.copytree(tmp_path / path.name, path)
        with pytest.raises(RollBackFailed, match="changed by"):
            unfinished.recover(env.prefix)


@pytest.mark.parametrize("how", COPIES)
def test_undo_in_a_copy(tmp_path: Path, how: str) -> None:
    """A file that RECORD names without a hash is known by its time."""
    env = make(tmp_path)
    before = hash_tree(env.prefix)
    with lock_environment(env.prefix), env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2", "p.py": "new"})
        record = Path(f"{transaction.stage}{env.site}") / "p-2.dist-info" / "RECORD"
        record.write_text(
            "\n".join(
                row if "p.py" not in row else "p.py,," for row in record.read_text().splitlines()
            )
        )
        transaction.plan(remove=[make_installed(env.site, "p", "1")], keep=[])
        transaction.swap()
        transaction.commit({"steps": []})
    copy = tmp_path / "copy"
    COPIES[how](env.prefix, copy)
    with lock_environment(copy):
        if how == "cp -r":
            with pytest.raises(swap.Refused, match=r"p\.py"):
                history.begin_undo(copy)
            return
        with history.begin_undo(copy) as undo:
            undo.swap()
            undo.commit({})
    assert hash_tree(copy) == before


@pytest.mark.parametrize(
    ("now", "is_copy"),
    [
        (["f", 9, 5, 1_234_567_891], True),
        (["f", 9, 5, 1_234_567_000], True),
        (["f", 9, 5, 1_000_000_000], True),
        (["f", 9, 5, 1_234_000_000], False),
        (["f", 9, 6, 1_234_567_891], False),
        (["d", 9, 5, 1_234_567_891], False),
        (None, False),
    ],
)
def test_what_copies_lose(now: Any, is_copy: bool) -> None:
    found = None if now is None else Identity(*now)
    assert is_copy_of(found, Identity("f", 1, 5, 1_234_567_891)) is is_copy

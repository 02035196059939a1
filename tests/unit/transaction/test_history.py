from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from safe_install import errors
from safe_install.transaction import history, swap, unfinished
from safe_install.transaction.kept_sources import read_kept_sources
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import transactions
from safe_install.transaction.recovery.transactions import discard
from tests.small_environment import SmallEnvironment, let_time_pass, make_installed
from tests.treehash import hash_tree


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallEnvironment]:
    # Ids have a resolution of one second and a random end: here they count.
    numbers = iter(range(100))
    for module in (swap, history):
        monkeypatch.setattr(
            module, "make_id", lambda moment: f"20261123T1011{next(numbers):02d}Z-0000"
        )
    found = SmallEnvironment(tmp_path / "env")
    with lock_environment(found.prefix):
        yield found


def change(env: SmallEnvironment, old: str, new: str, name: str = "p", **summary: Any) -> str:
    with env.begin() as transaction:
        env.stage(transaction, name, new, {f"{name}/a.py": new, f"{name}/only_{new}.py": ""})
        transaction.plan(remove=[make_installed(env.site, name, old)] if old else [], keep=[])
        transaction.swap()
        transaction.commit(summary)
    return transaction.id


def ids(env: SmallEnvironment) -> List[str]:
    return [entry.id for entry in history.read_history(env.prefix)]


def test_entries_newest_first(env: SmallEnvironment) -> None:
    assert history.read_history(env.prefix) == ()
    first, second = change(env, "", "1"), change(env, "1", "2")
    newest, oldest = history.read_history(env.prefix)
    assert (newest.id, oldest.id) == (second, first)
    assert newest.command == ("install", "x")
    assert newest.committed is not None and newest.committed >= newest.created
    assert newest.undone_by is None


def test_undo_goes_back_step_by_step(env: SmallEnvironment) -> None:
    states = [hash_tree(env.prefix)]
    for old, new in (("", "1"), ("1", "2"), ("2", "3")):
        change(env, old, new)
        states.append(hash_tree(env.prefix))
    for expected in reversed(states[:-1]):
        with history.begin_undo(env.prefix) as undo:
            undo.swap()
            undo.commit({})
        assert hash_tree(env.prefix) == expected
    with pytest.raises(errors.Refused, match="nothing to undo"):
        history.begin_undo(env.prefix)


def test_an_older_one_needs_the_later_ones_undone(env: SmallEnvironment) -> None:
    change(env, "", "1")
    middle, last = change(env, "1", "2"), change(env, "2", "3")
    with pytest.raises(errors.Refused, match="changed since") as caught:
        history.begin_undo(env.prefix, middle)
    assert last in caught.value.hint


def test_an_older_one_that_nothing_touched_can_be_undone(env: SmallEnvironment) -> None:
    first = change(env, "", "1", name="q")
    change(env, "", "1")
    with history.begin_undo(env.prefix, first) as undo:
        undo.swap()
        undo.commit({})
    assert sorted(path.name for path in env.site.iterdir()) == ["p", "p-1.dist-info"]


def test_twice_is_refused_and_names_the_way_forward(env: SmallEnvironment) -> None:
    first = change(env, "", "1")
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        undo.commit({})
    with pytest.raises(errors.Refused, match="undone already") as caught:
        history.begin_undo(env.prefix, first)
    assert undo.id in caught.value.hint
    with pytest.raises(errors.Refused, match="no transaction"):
        history.begin_undo(env.prefix, "20000101T000000Z-0000")


def test_undone_and_brought_back_can_be_undone_again(env: SmallEnvironment) -> None:
    first = change(env, "", "1")
    last = None
    for _ in range(2):
        with history.begin_undo(env.prefix, last) as undo:
            undo.swap()
            undo.commit({})
        last = undo.id
    entries = {entry.id: entry for entry in history.read_history(env.prefix)}
    assert entries[first].undone_by is None
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        undo.commit({})
    assert not (env.site / "p").exists()


def test_a_package_replaced_by_hand_is_not_undone(env: SmallEnvironment) -> None:
    change(env, "", "1")
    (env.site / "p" / "a.py").rename(env.site / "p" / "b.py")
    (env.site / "p-1.dist-info" / "RECORD").write_text("")
    with pytest.raises(errors.Refused, match=r"p-1\.dist-info"):
        history.begin_undo(env.prefix)


def test_a_users_new_file_is_not_taken_away(env: SmallEnvironment) -> None:
    change(env, "", "1")
    let_time_pass(env.prefix)
    (env.site / "p" / "notes.txt").write_text("mine")
    with pytest.raises(errors.Refused, match=r"notes\.txt"):
        history.begin_undo(env.prefix)


def test_a_killed_undo_is_undone(env: SmallEnvironment) -> None:
    change(env, "", "1")
    change(env, "1", "2")
    before = hash_tree(env.prefix)
    undo = history.begin_undo(env.prefix)
    undo.swap()
    undo._signals.release()
    assert hash_tree(env.prefix) != before
    assert [item.what for item in unfinished.recover(env.prefix)] == ["rolled-back"]
    assert hash_tree(env.prefix) == before
    with history.begin_undo(env.prefix) as again:
        again.swap()
        again.commit({})
    assert (env.site / "p" / "a.py").read_text() == "1"


def test_prune_keeps_the_newest(env: SmallEnvironment) -> None:
    made = [change(env, old, new) for old, new in (("", "1"), ("1", "2"), ("2", "3"))]
    assert [item.id for item in history.prune(env.prefix, keep=2)] == [made[0]]
    assert ids(env) == [made[2], made[1]]
    pruned = history.prune(env.prefix, keep=1, limit_bytes=0)
    assert [item.id for item in pruned] == [made[1]]
    assert pruned[0].size > 0
    assert pruned[0].problem is None
    assert ids(env) == [made[2]]


def test_prune_keeps_none_where_none_is_wanted(env: SmallEnvironment) -> None:
    made = [change(env, old, new) for old, new in (("", "1"), ("1", "2"))]
    assert [item.id for item in history.prune(env.prefix, keep=0)] == [made[1], made[0]]
    assert ids(env) == []
    assert history.prune(env.prefix, keep=0) == ()


def test_where_the_files_came_from_outlives_the_change(env: SmallEnvironment) -> None:
    """Of each version once, as it came last."""
    first, again, second = (row_of(*words) for words in (("1", "a"), ("1", "b"), ("2", "c")))
    for old, row in (("", first), ("1", second), ("2", again)):
        change(env, old, row["version"], steps=[row, {"action": "add", "name": "q"}])
    history.prune(env.prefix, keep=2)
    history.prune(env.prefix, keep=0)
    kept = [(row["version"], row["sha256"], row["url"]) for row in read_kept_sources(env.prefix)]
    assert kept == [("1", "b" * 64, "https://h/b"), ("2", "c" * 64, "https://h/c")]


@pytest.mark.parametrize("text", ["", "{}", "[1, {}]", '[{"name": 1}]', "[" * 9999])
def test_what_was_kept_and_cannot_be_read_knows_nothing(env: SmallEnvironment, text: str) -> None:
    change(env, "", "1", steps=[row_of("1", "a")])
    (env.prefix / ".safe-install" / "sources.json").write_text(text)
    assert read_kept_sources(env.prefix) == ()
    history.prune(env.prefix, keep=0)
    assert [row["version"] for row in read_kept_sources(env.prefix)] == ["1"]


def row_of(version: str, digit: str) -> Dict[str, Any]:
    """A step, as a summary has it."""
    row = {"action": "add", "name": "p", "version": version, "kind": "wheel", "listed": False}
    return {**row, "url": f"https://h/{digit}", "sha256": digit * 64, "from_version": None}


# --- another layer of an image, an archive, a copy ------------------------------------------------


def put_into_a_layer(prefix: Path) -> None:
    """What an image build does between two steps: whole seconds, and other inode numbers."""
    copy = prefix.with_name("layer")
    prefix.rename(prefix.with_name("before"))
    shutil.copytree(prefix.with_name("before"), copy, symlinks=True)
    for folder, _, files in os.walk(copy, topdown=False):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            second = os.lstat(path).st_mtime_ns // 10**9
            os.utime(path, (second, second), follow_symlinks=False)
    copy.rename(prefix)


def test_undo_of_what_lies_in_a_layer(tmp_path: Path) -> None:
    env = SmallEnvironment(tmp_path / "env")
    env.install("kept", "1", {"shared/kept.py": ""})
    change(env, "", "1")
    before = hash_tree(env.prefix)
    change(env, "1", "2")
    put_into_a_layer(env.prefix)
    after = hash_tree(env.prefix)
    for expected in (before, after):
        newest = history.read_history(env.prefix)[0].id
        with lock_environment(env.prefix), history.begin_undo(env.prefix, newest) as undo:
            undo.swap()
            undo.commit({})
        assert hash_tree(env.prefix) == expected


@pytest.mark.parametrize("path", ["p/a.py", "p-2.dist-info/METADATA"])
def test_what_was_edited_in_a_layer_is_refused(tmp_path: Path, path: str) -> None:
    env = SmallEnvironment(tmp_path / "env")
    change(env, "", "1")
    change(env, "1", "2")
    let_time_pass(env.prefix)
    content = (env.site / path).read_text()
    (env.site / path).write_text(content.swapcase() if content.swapcase() != content else "3")
    put_into_a_layer(env.prefix)
    with lock_environment(env.prefix), pytest.raises(errors.Refused, match=path):
        history.begin_undo(env.prefix)


def test_prune_of_what_lies_in_a_lower_layer(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [change(env, old, new) for old, new in (("", "1"), ("1", "2"))]

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)

    monkeypatch.setattr(os, "rename", refuse)
    (pruned,) = history.prune(env.prefix, keep=1)
    assert (pruned.id, pruned.problem) == (made[0], None)
    assert ids(env) == [made[1]]
    assert not list((env.prefix / ".safe-install").glob("*" + made[0]))


def test_a_killed_prune_in_a_lower_layer_is_finished(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [change(env, old, new) for old, new in (("", "1"), ("1", "2"))]

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source)

    monkeypatch.setattr(os, "rename", refuse)
    with monkeypatch.context() as killed:
        killed.setattr(transactions, "_remove_tree", lambda path: sys.exit("killed"))
        with pytest.raises(SystemExit):
            history.prune(env.prefix, keep=1)
    assert ids(env) == [made[1]]
    (cleaned,) = unfinished.recover(env.prefix)
    assert (cleaned.transaction, cleaned.what) == (made[0], "cleaned")
    assert not list((env.prefix / ".safe-install").glob("*" + made[0]))


def test_prune_removes_an_undo_with_what_it_undid(env: SmallEnvironment) -> None:
    change(env, "", "1")
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        undo.commit({})
    last = change(env, "", "2")
    assert len(history.prune(env.prefix, keep=2)) == 2
    assert ids(env) == [last]
    assert history.measure(env.prefix, last) > 0


def test_a_damaged_entry_is_shown_and_not_undone(env: SmallEnvironment) -> None:
    only = change(env, "", "1")
    (env.prefix / ".safe-install" / f"txn-{only}" / "committed").write_text("damaged\n")
    assert "damaged" in str(history.read_history(env.prefix)[0].problem)
    with pytest.raises(errors.Refused, match="cannot be read"):
        history.begin_undo(env.prefix)


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become somebody who may not write everywhere"
)
def test_clearing_keeps_the_mode_of_files_that_others_share(tmp_path: Path) -> None:
    """A hard link shares its mode with uv's cache, a symbolic one with its target."""
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir(mode=0o550)
    cache.write_text("shared")
    cache.chmod(0o444)
    transaction = tmp_path / "txn-20261123T101100Z-0000"
    for folder in ("read-only", "closed/inner"):
        (transaction / folder).mkdir(parents=True)
        os.link(cache, transaction / folder / "file")
        (transaction / folder / "link").symlink_to(os.path.relpath(outside, transaction / folder))
    for path in (tmp_path, cache, outside, *tmp_path.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    for folder, mode in (("read-only", 0o555), ("closed/inner", 0), ("closed", 0)):
        (transaction / folder).chmod(mode)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.chdir(tmp_path)  # the folders above it are not theirs to enter
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            status = 0 if discard(transaction.name) is None else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "outside"]
    assert (cache.stat().st_mode & 0o777, outside.stat().st_mode & 0o777) == (0o444, 0o550)

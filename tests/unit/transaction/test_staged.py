"""Staged changes on a real disk: set aside, taken into a transaction, let go, and what became of
them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional

import pytest

from safe_install import errors
from safe_install.transaction import history, identifiers, staged, unfinished
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import lock_file
from safe_install.transaction.recovery_script import write_recovery_script
from safe_install.transaction.staged import StagedChange, StagedChanges
from safe_install.transaction.staged_states import State
from safe_install.transaction.tree import hash_stage
from tests.small_environment import SmallEnvironment
from tests.treehash import hash_tree


@pytest.fixture
def env(tmp_path: Path) -> Iterator[SmallEnvironment]:
    found = SmallEnvironment(tmp_path / "env")
    with lock_environment(found.prefix):
        yield found


def stage(env: SmallEnvironment, name: str = "p", *, ttl: Optional[float] = 3600.0) -> str:
    """A staged change that adds a distribution; its ID."""
    now = time.time()
    summary = {
        "command": ["stage", name],
        "created": now,
        "expires": None if ttl is None else now + ttl,
        "steps": [{"action": "add", "name": name, "version": "1", "from_version": None}],
    }
    with env.begin() as transaction:
        env.stage(transaction, name, "1", {f"{name}/__init__.py": name})
        staged.set_aside(transaction, b'{"name": "%s"}' % name.encode(), summary)
    return transaction.id


def commit(env: SmallEnvironment, identifier: str, *, keep: bool = True) -> None:
    """As the command does it, without its checks."""
    change = find(env, identifier)
    transaction = staged.begin_commit(env.prefix, change, scheme=env.scheme)
    with transaction, staged.stage_in(transaction, change):
        transaction.plan(remove=[], keep=[])
        transaction.swap()
        if keep:
            transaction.commit({"steps": []})
        else:
            transaction.roll_back()
    staged.record_outcome(
        change, State.COMMITTED if keep else State.ROLLED_BACK, detail="" if keep else "because"
    )


def undo(env: SmallEnvironment, identifier: str) -> str:
    with history.begin_undo(env.prefix, identifier) as transaction:
        transaction.swap()
        transaction.commit({})
    return transaction.id


def find(env: SmallEnvironment, identifier: str, **options: float) -> StagedChange:
    return StagedChanges(env.prefix, **options).find(identifier)


def state(env: SmallEnvironment, identifier: str) -> State:
    return find(env, identifier).state


def names(env: SmallEnvironment) -> List[str]:
    found = sorted(path.name for path in (env.prefix / ".safe-install").iterdir())
    return [name for name in found if name not in ("lock", "marker", "recover.py")]


def test_what_is_staged_changes_nothing(env: SmallEnvironment) -> None:
    before = hash_tree(env.prefix, times=True)
    first, second = stage(env), stage(env, "q")
    assert hash_tree(env.prefix, times=True) == before
    assert names(env) == sorted([f"staged-{first}", f"staged-{second}"])
    assert set(StagedChanges(env.prefix).ids) == {first, second}
    change = find(env, first)
    assert (change.state, change.command) == (State.STAGED, ("stage", "p"))
    assert change.steps[0]["name"] == "p"
    assert staged.read_document(change) == {"name": "p"}
    assert history.read_history(env.prefix) == ()
    assert env.find_unfinished() == []


@pytest.mark.real_process
def test_recoveries_leave_it_alone(env: SmallEnvironment) -> None:
    """Ours, and the script that lies in the environment, run by a Python that has nothing of
    ours."""
    identifier = stage(env)
    before = hash_stage(find(env, identifier).stage)
    assert unfinished.recover(env.prefix) == ()
    write_recovery_script(env.prefix / ".safe-install")
    script = env.prefix / ".safe-install" / "recover.py"
    shutil.copytree(env.prefix, env.prefix.with_name("other"), symlinks=True)
    other = env.prefix.with_name("other")
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), str(other)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for prefix in (env.prefix, other):
        assert StagedChanges(prefix).find(identifier).state is State.STAGED
        assert hash_stage(StagedChanges(prefix).find(identifier).stage) == before


def test_pruning_leaves_it_alone(env: SmallEnvironment) -> None:
    identifier, other = stage(env), stage(env, "q")
    commit(env, other)
    assert [item.id for item in history.prune(env.prefix, keep=0)] == [other]
    assert state(env, identifier) is State.STAGED
    commit(env, identifier)
    assert (env.site / "p" / "__init__.py").read_text() == "p"


def test_committed_undone_brought_back(env: SmallEnvironment) -> None:
    before = hash_tree(env.prefix)
    identifier = stage(env)
    commit(env, identifier)
    assert state(env, identifier) is State.COMMITTED
    assert not find(env, identifier).stage.exists()
    assert [entry.id for entry in history.read_history(env.prefix)] == [identifier]
    undoing = undo(env, identifier)
    assert hash_tree(env.prefix) == before
    assert state(env, identifier) is State.UNDONE
    assert find(env, identifier).undone_by == undoing
    undo(env, undoing)
    assert state(env, identifier) is State.COMMITTED


def test_the_newest_change_is_the_one_that_was_committed_last(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its ID it would be the oldest; on this host, whose clock is behind, by its time too."""
    monkeypatch.setattr(identifiers.time, "time", lambda: 1_700_000_000.0)
    first = stage(env)
    second = stage(env, "q")
    commit(env, second)
    commit(env, first)
    assert [entry.id for entry in history.read_history(env.prefix)] == [first, second]


def test_what_became_of_it_outlives_its_transaction(env: SmallEnvironment) -> None:
    kept, undone = stage(env), stage(env, "q")
    commit(env, kept)
    commit(env, undone)
    undo(env, undone)
    staged.settle(env.prefix)
    history.prune(env.prefix, keep=0)
    assert state(env, kept) is State.COMMITTED
    assert state(env, undone) is State.UNDONE


def test_rolled_back(env: SmallEnvironment) -> None:
    before = hash_tree(env.prefix)
    identifier = stage(env)
    commit(env, identifier, keep=False)
    assert hash_tree(env.prefix) == before
    assert (state(env, identifier), find(env, identifier).detail) == (State.ROLLED_BACK, "because")
    assert names(env) == [f"staged-{identifier}"]


def test_a_refused_commit_leaves_it_staged(env: SmallEnvironment) -> None:
    identifier = stage(env)
    (env.site / "p").mkdir()
    (env.site / "p" / "__init__.py").write_text("somebody's")
    with pytest.raises(errors.Refused):
        commit(env, identifier)
    assert state(env, identifier) is State.STAGED
    assert names(env) == [f"staged-{identifier}"]
    shutil.rmtree(env.site / "p")
    commit(env, identifier)
    assert state(env, identifier) is State.COMMITTED


@pytest.mark.parametrize("is_kept", [False, True], ids=["swapped", "committed"])
def test_an_error_behind_the_swap_gives_nothing_back(env: SmallEnvironment, is_kept: bool) -> None:
    """What was moved is put back by the transaction, or stays: the stage has had its turn."""
    before = hash_tree(env.prefix)
    identifier = stage(env)
    change = find(env, identifier)
    transaction = staged.begin_commit(env.prefix, change, scheme=env.scheme)
    with pytest.raises(errors.Interrupted), transaction, staged.stage_in(transaction, change):
        transaction.plan(remove=[], keep=[])
        transaction.swap()
        if is_kept:
            transaction.commit({"steps": []})
        raise errors.Interrupted("ended", signal_number=15)
    assert (hash_tree(env.prefix) == before) is not is_kept
    assert not change.stage.exists()
    assert state(env, identifier) is (State.COMMITTED if is_kept else State.ROLLED_BACK)
    assert env.find_unfinished() == []


def test_over_its_time(env: SmallEnvironment) -> None:
    short, long, endless = stage(env, ttl=60), stage(env, "q", ttl=3600), stage(env, "r", ttl=None)
    later = time.time() + 100
    assert find(env, short, now=later).state is State.EXPIRED
    assert [change.id for change in staged.settle(env.prefix, now=later)] == [short]
    assert staged.settle(env.prefix, now=later) == ()  # no news
    assert state(env, short) is State.EXPIRED
    assert not find(env, short).stage.exists()
    assert state(env, long) is state(env, endless) is State.STAGED
    staged.settle(env.prefix, now=time.time() + 10**9)
    assert (state(env, long), state(env, endless)) == (State.EXPIRED, State.STAGED)


def test_kept_longer(env: SmallEnvironment) -> None:
    identifier = stage(env, ttl=0.0)
    before = find(env, identifier)
    staged.keep_longer(before, expires=time.time() + 60)
    after = find(env, identifier)
    assert after.state is State.STAGED
    assert (after.created, after.command, after.steps) == (
        before.created,
        before.command,
        before.steps,
    )
    staged.keep_longer(after, expires=None)
    assert find(env, identifier, now=time.time() + 10**8).state is State.STAGED


def test_every_changing_command_lets_it_go(env: SmallEnvironment) -> None:
    identifier = stage(env, ttl=0.0)
    unfinished.recover(env.prefix)
    assert state(env, identifier) is State.EXPIRED
    assert names(env) == [f"staged-{identifier}"]
    assert not find(env, identifier).stage.exists()


def test_a_removal_that_was_killed_is_finished(env: SmallEnvironment) -> None:
    identifier = stage(env)
    change = find(env, identifier)
    (change.folder / "outcome.json").write_text('{"state": "abandoned"}')
    assert state(env, identifier) is State.ABANDONED
    unfinished.recover(env.prefix)
    assert not change.stage.exists()
    assert state(env, identifier) is State.ABANDONED


def test_only_so_many_outcomes_are_kept(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "_KEPT_OUTCOMES", 2)
    ids = sorted(stage(env, f"p{number}", ttl=0.0) for number in range(4))
    staged.settle(env.prefix)
    staged.settle(env.prefix)
    assert [state(env, one) for one in ids] == [State.UNKNOWN] * 2 + [State.EXPIRED] * 2


def test_committing_and_interrupted(env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    identifier = stage(env)
    change = find(env, identifier)
    transaction = staged.begin_commit(env.prefix, change, scheme=env.scheme)
    with staged.stage_in(transaction, change):
        transaction.plan(remove=[], keep=[])
        transaction.swap()
        assert state(env, identifier) is State.COMMITTING
        with monkeypatch.context() as dead:
            dead.setattr(lock_file, "read_start", lambda pid: None)
            assert state(env, identifier) is State.INTERRUPTED
    transaction._signals.release()
    assert [item.what for item in unfinished.recover(env.prefix)] == ["rolled-back"]
    assert state(env, identifier) is State.ROLLED_BACK
    assert "interrupted" in find(env, identifier).detail
    assert not (env.site / "p").exists()


# --- what others may have written -----------------------------------------------------------------

HOSTILE = {
    "no-json": b"{",
    "not-utf8": b"\xff\xfe",
    "deep": b"[" * 100_000,
    "a-list": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", ["summary.json", "outcome.json", "commit.json"])
def test_small_files_that_say_nothing(env: SmallEnvironment, name: str, content: bytes) -> None:
    identifier = stage(env)
    (find(env, identifier).folder / name).write_bytes(content)
    assert state(env, identifier) is State.STAGED
    staged.settle(env.prefix)
    staged.settle(env.prefix, now=time.time() + 10**6)
    assert state(env, identifier) is State.EXPIRED


WRONG = [
    {"state": "staged"},
    {"state": ["abandoned"]},
    {"created": "yesterday", "expires": []},
    {"created": True, "expires": -1},
    {"created": 1e308, "expires": float("inf")},
    {"steps": [{"name": 3}, [], {"name": "x", "version": 7, "action": None}], "command": [1]},
    {"pid": 2**80, "host": "x"},
    {"pid": -1},
]


@pytest.mark.parametrize("value", WRONG)
def test_wrong_values(env: SmallEnvironment, value: object) -> None:
    identifier = stage(env)
    for name in ("summary.json", "outcome.json", "commit.json"):
        (find(env, identifier).folder / name).write_text(json.dumps(value))
    assert state(env, identifier) is State.STAGED
    staged.settle(env.prefix)
    assert all(isinstance(step["action"], str) for step in find(env, identifier).steps)


def test_a_pid_that_no_process_has(env: SmallEnvironment) -> None:
    identifier = stage(env)
    change = find(env, identifier)
    holder = {**lock_file.describe_process(), "pid": 2**70}
    (change.folder / "commit.json").write_text(json.dumps(holder))
    (change.folder.with_name(f"txn-{identifier}")).mkdir()
    assert state(env, identifier) is State.INTERRUPTED


@pytest.mark.parametrize("what", ["link", "fifo", "folder", "large"])
def test_a_document_that_is_no_file(
    env: SmallEnvironment, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = stage(env)
    path = find(env, identifier).folder / "staged.json"
    path.unlink()
    if what == "link":
        path.with_name("elsewhere").write_text("{}")
        path.symlink_to("elsewhere")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        monkeypatch.setattr(staged, "_LARGEST", 10)
        path.write_text('{"name": "ppppppp"}')
    with pytest.raises(errors.Refused, match="cannot be read"):
        staged.read_document(find(env, identifier))


def test_a_link_is_no_staged_change(env: SmallEnvironment, tmp_path: Path) -> None:
    identifier = stage(env)
    folder = find(env, identifier).folder
    outside = tmp_path / "outside"
    folder.rename(outside)
    folder.symlink_to(outside)
    assert state(env, identifier) is State.UNKNOWN
    staged.settle(env.prefix, now=time.time() + 10**6)
    assert (outside / "stage").is_dir()
    folder.unlink()
    outside.rename(folder)
    (folder / "stage").rename(outside)
    (folder / "stage").symlink_to(outside)
    assert state(env, identifier) is State.UNKNOWN
    staged.settle(env.prefix)
    assert any(outside.rglob("__init__.py"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_not_ours(env: SmallEnvironment) -> None:
    identifier = stage(env)
    os.chown(find(env, identifier).folder, 65534, 65534)
    assert StagedChanges(env.prefix).ids == ()
    assert state(env, identifier) is State.UNKNOWN


# --- is the stage what it was? --------------------------------------------------------------------


def test_hash_of_a_stage(env: SmallEnvironment) -> None:
    folder = find(env, stage(env)).stage
    before = hash_stage(folder)
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    assert hash_stage(copy) == before is not None
    (file,) = folder.rglob("__init__.py")
    os.utime(file, ns=(1, 1))
    assert hash_stage(folder) != before
    (file.parent / "more.py").write_text("")
    changed = hash_stage(folder)
    (file.parent / "more.py").unlink()
    assert changed != hash_stage(folder)
    file.chmod(0o777)
    assert hash_stage(folder) not in (before, changed)
    (file.parent / "link").symlink_to("/etc")
    assert hash_stage(folder) is None

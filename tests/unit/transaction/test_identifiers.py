"""IDs of changes: in the order in which they were made, on hosts with clocks of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import List

import pytest

from safe_install.transaction import history, identifiers
from safe_install.transaction.identifiers import make_id, next_moment
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery.rows import TRANSACTION_NAME
from tests.small_environment import SmallEnvironment


def set_clock(patch: pytest.MonkeyPatch, now: float) -> None:
    patch.setattr(identifiers.time, "time", lambda: now)


def test_they_sort_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: List[str] = []
    for thousandth in range(20):
        set_clock(monkeypatch, 1_700_000_000 + thousandth / 500)
        made.append(make_id(next_moment(tmp_path)))
    assert made == sorted(made)
    assert made[0].startswith("20231114T221320Z-")
    assert all(TRANSACTION_NAME.match(f"txn-{name}") for name in made)


@pytest.mark.parametrize("kind", ["txn", "staged"])
def test_a_host_whose_clock_is_behind(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{kind}-20991231T235959Z-3e7fff").mkdir()
    (tmp_path / "txn-20200101T000000Z-000000").mkdir()
    set_clock(monkeypatch, 1_700_000_000)
    assert make_id(next_moment(tmp_path)).startswith("21000101T000000Z-00")


def test_many_at_one_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 1_700_000_000)
    made: List[str] = []
    for _ in range(20):
        made.append(make_id(next_moment(tmp_path)))
        (tmp_path / f"txn-{made[-1]}").mkdir()
    assert made == sorted(made)


def test_a_moment_that_no_name_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 1_700_000_000)
    assert next_moment(tmp_path, 1_700_000_100.0) > 1_700_000_100
    assert next_moment(tmp_path, 1_600_000_000.0) == 1_700_000_000


@pytest.mark.parametrize("name", ["txn-99999999T999999Z-ffffff", "trash-txn-2", "lock", "txn-x"])
def test_names_that_are_no_times(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    year = time.strftime("%Y", time.gmtime())
    assert make_id(next_moment(tmp_path)).startswith(year)


def change(env: SmallEnvironment, name: str) -> str:
    with env.begin() as transaction:
        env.stage(transaction, name, "1", {f"{name}.py": ""})
        transaction.plan(remove=[], keep=[])
        transaction.swap()
        transaction.commit({})
    return transaction.id


def test_undo_takes_the_last_change_back_and_not_that_of_the_fastest_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = SmallEnvironment(tmp_path / "env")
    with lock_environment(env.prefix):
        set_clock(monkeypatch, 1_700_003_600)
        change(env, "first")
        set_clock(monkeypatch, 1_700_000_000)  # another host, an hour behind
        last = change(env, "last")
        assert history.read_history(env.prefix)[0].id == last
        with history.begin_undo(env.prefix) as undo:
            undo.swap()
            undo.commit({"undoes": last})
    assert not (env.site / "last.py").exists()
    assert (env.site / "first.py").exists()

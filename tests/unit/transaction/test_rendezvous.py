"""The record of a step, as it lies in an environment."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from safe_install import errors
from safe_install.transaction import rendezvous
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.ranks import Record
from safe_install.transaction.recovery.main import main
from safe_install.transaction.rendezvous import Rendezvous
from tests.small_environment import SmallEnvironment

WORK = "0123456789abcdef"
MADE = Record(3, "node1", 0, "", {"six": "ab", "torch": None})


@pytest.fixture
def env(tmp_path: Path) -> SmallEnvironment:
    return SmallEnvironment(tmp_path / "env")


def test_what_one_writes_another_reads(env: SmallEnvironment) -> None:
    first, second = Rendezvous(env.prefix, WORK), Rendezvous(env.prefix, WORK)
    assert second.read() == (None, None)
    for record in (Record(3, "node1"), MADE, Record(3, "node1", 12, "worse")):
        first.write(record)
        assert second.read()[0] == record
    assert Rendezvous(env.prefix, "f" * 16).read() == (None, None)


def test_one_leads_at_a_time(env: SmallEnvironment) -> None:
    first, second = Rendezvous(env.prefix, WORK), Rendezvous(env.prefix, "f" * 16)
    assert first.take_lock()
    assert not second.take_lock()
    with lock_environment(env.prefix):  # the change itself has a lock of its own
        pass
    first.release_lock()
    assert second.take_lock()
    second.release_lock()


def good(**changes: Any) -> Any:
    return {"leader": 1, "host": "n", "status": 0, "message": "", "seen": {}, **changes}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        None,
        good(leader="1"),
        good(leader=True),
        good(host=1),
        good(status="0"),
        good(status=False),
        good(status=-1),
        good(status=256),
        good(message=None),
        good(seen=[]),
        good(seen={"six": 1}),
    ],
)
def test_what_is_no_record(env: SmallEnvironment, document: Any) -> None:
    meeting = Rendezvous(env.prefix, WORK)
    path = env.prefix / ".safe-install" / f"step-{WORK}.json"
    path.write_text(json.dumps(good()))
    assert meeting.read()[0] == Record(1, "n", 0)
    path.write_text(json.dumps(document))
    assert meeting.read()[0] is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_cannot_be_read(env: SmallEnvironment, content: bytes) -> None:
    meeting = Rendezvous(env.prefix, WORK)
    path = env.prefix / ".safe-install" / f"step-{WORK}.json"
    path.write_bytes(content)
    assert meeting.read() == (None, None)
    path.unlink()
    os.mkfifo(path)
    assert meeting.read() == (None, None)


def test_a_leader_sends_heartbeats(env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "_HEARTBEAT", 0.01)
    leader, other = Rendezvous(env.prefix, WORK), Rendezvous(env.prefix, WORK)
    leader.write(Record(0, "node0"))
    _, before = other.read()
    with leader.sending_heartbeats():
        deadline = time.monotonic() + 20
        while other.read()[1] == before and time.monotonic() < deadline:
            time.sleep(0.01)
    record, after = other.read()
    assert after != before
    assert record == Record(0, "node0")
    time.sleep(0.05)
    assert other.read()[1] == after


def test_old_records_go_and_recoveries_leave_them(env: SmallEnvironment) -> None:
    for number in range(25):
        Rendezvous(env.prefix, f"{number:016x}").write(MADE)
    meeting = Rendezvous(env.prefix, WORK)
    meeting.write(MADE)
    meeting.remove_old_records()
    state = env.prefix / ".safe-install"
    left = {path.name for path in state.glob("step-*")}
    assert len(left) == 21
    assert f"step-{WORK}.json" in left
    assert f"step-{0:016x}.json" not in left
    assert main([str(env.prefix)]) == 0
    assert {path.name for path in state.glob("step-*")} == left


def test_a_disk_that_is_full_is_told(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rendezvous, "write_durably", fail)
    with pytest.raises(errors.Refused, match="No space left"):
        Rendezvous(env.prefix, WORK).write(MADE)

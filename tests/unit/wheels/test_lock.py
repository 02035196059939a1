"""One process at a time in a folder of the cache, on every file system."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import List

import pytest

from safe_install.events import Reporter
from safe_install.system.several import Stop
from safe_install.transaction.recovery.lock_file import Lock
from safe_install.wheels.lock import hold_lock
from tests.unit.transaction.test_lock import end, hold

fcntl = pytest.importorskip("fcntl")
FLOCK = ("works", "ENOSYS", "ENOLCK", "EOPNOTSUPP")


@pytest.fixture(params=FLOCK)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    if request.param != "works":
        monkeypatch.setattr(fcntl, "flock", failing_with(request.param))
    return tmp_path / ".lock"


def failing_with(name: str):  # type: ignore[no-untyped-def]
    def fail(*arguments: object) -> None:
        raise OSError(getattr(errno, name), name)

    return fail


class Notes(Reporter):
    def __init__(self) -> None:
        self.lines: List[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_the_second_waits_for_the_first(path: Path) -> None:
    order, notes = [], Notes()

    def second() -> None:
        with hold_lock(path, notes, "another build"):
            order.append("second")

    other = threading.Thread(target=second)
    with hold_lock(path, Reporter(), "nobody"):
        other.start()
        while not notes.lines:
            time.sleep(0.01)
        order.append("first")
    other.join(30)
    assert order == ["first", "second"]
    assert len(notes.lines) == 1
    assert notes.lines[0].startswith("waiting for another build")


def test_a_holder_that_was_killed_is_not_waited_for(path: Path) -> None:
    end(hold(str(path)))
    notes = Notes()
    with hold_lock(path, notes, "another build"):
        assert notes.lines == []


@pytest.mark.parametrize("name", FLOCK[1:])
def test_a_holder_elsewhere_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_with(name))
    held = tmp_path / ".lock.held"
    held.write_text('{"token": "0123456789abcdef", "host": "elsewhere", "machine": "m", "pid": 5}')
    notes = Notes()
    monkeypatch.setattr(
        Stop, "sleep", lambda stop, seconds: os.unlink(held)
    )  # its holder has ended
    with hold_lock(tmp_path / ".lock", notes, "another build"):
        pass
    told = f"(process 5 on elsewhere; if that has ended: rm {tmp_path}/.lock.held*)"
    assert notes.lines == [f"waiting for another build {told} ..."]


def test_after_an_error_the_next_one_has_it(path: Path) -> None:
    with pytest.raises(ValueError, match="of the block"), hold_lock(path, Reporter(), "nobody"):
        raise ValueError("of the block")
    assert Lock(str(path)).take()


def test_another_error_of_the_disk_is_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_with("EIO"))
    with pytest.raises(OSError, match="EIO"), hold_lock(tmp_path / ".lock", Reporter(), "nobody"):
        pass

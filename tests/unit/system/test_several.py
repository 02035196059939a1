"""Several calls at the same time: order, groups, errors, signals."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from safe_install.system.several import AT_ONCE, Call, Stopped, call_several


class Gate:
    """Counts who is inside at the same time."""

    def __init__(self):
        self.inside, self.most, self._guard = 0, 0, threading.Lock()

    def __call__(self, stop):
        with self._guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.05)
        with self._guard:
            self.inside -= 1
        return threading.get_ident()


def wait_for_ever(stop):
    stop.sleep(60)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_the_results_stand_in_the_order_of_the_calls():
    """The first ends last."""
    calls = [
        Call("h", lambda stop, number=number: (time.sleep(0.2 - number / 10), number)[1])
        for number in range(3)
    ]
    assert call_several(calls) == [0, 1, 2]
    assert call_several([]) == []


def test_so_many_of_a_group_at_the_same_time():
    gate = Gate()
    assert len(set(call_several([Call("h", gate)] * 12))) == AT_ONCE
    assert gate.most == AT_ONCE


def test_a_slow_group_holds_back_no_other():
    is_over = threading.Event()
    slow = [Call("slow", lambda stop: is_over.wait(30)) for _ in range(2 * AT_ONCE)]
    quick = [Call("quick", lambda stop: None) for _ in range(9)]
    last = Call("quick", lambda stop: is_over.set())
    assert all(call_several([*slow, *quick, last])[: 2 * AT_ONCE])


def test_an_error_ends_all_others():
    def fail(stop):
        raise ValueError("the file a.whl")

    ends = []

    def wait(stop):
        try:
            stop.sleep(60)
        except Stopped:
            ends.append(True)
            raise

    started = time.monotonic()
    with pytest.raises(ValueError, match=r"the file a\.whl"):
        call_several([Call("b", wait), Call("a", fail), *[Call("b", wait)] * 9])
    assert time.monotonic() - started < 30
    assert len(ends) <= AT_ONCE, "those that had not begun never began"


def test_what_waits_for_a_connection_is_cut():
    connection = threading.Event()

    def fail(stop):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        call_several(
            [Call("a", lambda stop: connection.wait(60)), Call("b", fail)], cut=connection.set
        )
    assert connection.is_set()


def test_a_signal_ends_all():
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        call_several([Call("h", wait_for_ever)] * 8)
    timer.join()
    assert time.monotonic() - started < 30


def test_only_the_one_that_waits_is_told_of_the_time():
    told = []
    call_several(
        [Call("h", lambda stop: time.sleep(0.4))],
        on_tick=lambda: told.append(threading.current_thread()),
    )
    assert len(told) >= 2
    assert set(told) == {threading.main_thread()}

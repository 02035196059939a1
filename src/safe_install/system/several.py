"""Several calls at the same time, in threads: at most some of each group.

The thread that waits is the only one that speaks to a person. An error of one call, or a signal to
the one that waits, ends all others at once.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, Generic, List, Optional, Sequence, TypeVar

AT_ONCE = 4  # calls of one group
THREAD_NAME = "safe-install call"
TICK = 0.1  # seconds between two looks of the one that waits
GRACE = 2.0  # seconds for the threads to end after the word to stop

_T = TypeVar("_T")


class Stopped(Exception):
    """The call was told to end before it had a result."""


class Stop:
    """The word to end, which a call looks for where it waits."""

    def __init__(self) -> None:
        self._is_said = threading.Event()

    def say(self) -> None:
        """From now on every look at it ends the call."""
        self._is_said.set()

    def check(self) -> None:
        """Errors: Stopped."""
        if self._is_said.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Errors: Stopped, without waiting any longer."""
        if self._is_said.wait(seconds):
            raise Stopped


@dataclass(frozen=True)
class Call(Generic[_T]):
    """One of several calls. Those of other groups do not wait for it."""

    group: str
    function: Callable[[Stop], _T]


@dataclass
class _Outcome(Generic[_T]):
    """What became of a call."""

    value: Optional[_T] = None
    error: Optional[BaseException] = None


def call_several(
    calls: Sequence[Call[_T]],
    *,
    cut: Callable[[], None] = lambda: None,
    on_tick: Callable[[], None] = lambda: None,
) -> List[_T]:
    """The results in the order of the calls. Errors: the first error of a call, after all others
    have ended.

    `cut`: ends what a call may be waiting for, a connection; called until every thread has ended.
    `on_tick`: called here from time to time, and once more at the end.
    """
    if not calls:
        return []
    stop = Stop()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    outcomes: Dict[int, _Outcome[_T]] = {}
    threads: List[threading.Thread] = []
    try:
        _start(calls, stop, outcomes, ended, threads)
        for _ in calls:
            outcome = outcomes[_wait_for_one(ended, on_tick)]
            if outcome.error is not None:
                raise outcome.error
        on_tick()
    finally:
        stop.say()
        _end(threads, cut)
    return [outcomes[number].value for number in range(len(calls))]  # type: ignore[misc]


def _wait_for_one(ended: queue.SimpleQueue[int], on_tick: Callable[[], None]) -> int:
    """The number of the next call that has ended."""
    while True:
        try:
            return ended.get(timeout=TICK)
        except queue.Empty:
            on_tick()


def _start(
    calls: Sequence[Call[_T]],
    stop: Stop,
    outcomes: Dict[int, _Outcome[_T]],
    ended: queue.SimpleQueue[int],
    threads: List[threading.Thread],
) -> None:
    groups: Dict[str, queue.SimpleQueue[int]] = {}
    sizes: Dict[str, int] = {}
    for number, call in enumerate(calls):
        groups.setdefault(call.group, queue.SimpleQueue()).put(number)
        sizes[call.group] = sizes.get(call.group, 0) + 1

    def work(waiting: queue.SimpleQueue[int]) -> None:
        while True:
            try:
                stop.check()
                number = waiting.get_nowait()
            except (queue.Empty, Stopped):
                return
            outcomes[number] = _make_call(calls[number], stop)
            ended.put(number)

    for group, waiting in groups.items():
        for _ in range(min(AT_ONCE, sizes[group])):
            # a thread that cannot be ended (a name that is being resolved) ends with the process
            thread = threading.Thread(target=work, name=THREAD_NAME, args=(waiting,), daemon=True)
            threads.append(thread)
            thread.start()


def _make_call(call: Call[_T], stop: Stop) -> _Outcome[_T]:
    try:
        return _Outcome(call.function(stop))
    except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
        return _Outcome(error=error)


def _end(threads: Sequence[threading.Thread], cut: Callable[[], None]) -> None:
    """Wait for the threads, which have been told to stop."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        alive = [thread for thread in threads if thread.is_alive()]
        if not alive:
            return
        cut()
        alive[0].join(TICK)

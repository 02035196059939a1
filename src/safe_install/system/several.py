"""Makes several calls at the same time, in threads. The number of calls of one group is limited.

An error of one call, or a signal to the waiting thread, ends all other calls at once. Only the
waiting thread may print or ask the user.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Callable, Dict, Generic, List, Optional, Sequence, TypeVar

AT_ONCE = 4  # calls of one group at the same time
THREAD_NAME = "safe-install call"
TICK = 0.1  # seconds between two calls of `on_tick`
GRACE = 2.0  # seconds for the threads to end after a stop

_T = TypeVar("_T")


class Stopped(Exception):
    """The call was stopped before it had a result."""


class Stop:
    """Stops calls. They check it whenever they wait."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Stop the calls: from now on `check` and `sleep` raise."""
        self._event.set()

    def check(self) -> None:
        """Errors: Stopped, if a stop was requested."""
        if self._event.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait. Errors: Stopped, as soon as a stop is requested."""
        if self._event.wait(seconds):
            raise Stopped


@dataclass(frozen=True)
class Call(Generic[_T]):
    """One call. `group`: at most AT_ONCE calls of a group are made at the same time."""

    group: str
    function: Callable[[Stop], _T]


@dataclass
class _Outcome(Generic[_T]):
    """The result or the error of a call."""

    value: Optional[_T] = None
    error: Optional[BaseException] = None


def call_several(
    calls: Sequence[Call[_T]],
    *,
    cut: Callable[[], None] = lambda: None,
    on_tick: Callable[[], None] = lambda: None,
) -> List[_T]:
    """The results, in the order of the calls. Errors: the first error of a call, after all other
    calls have ended.

    `cut`: ends whatever calls may be waiting for, such as connections; it is called until all
    threads have ended. `on_tick`: called in this thread every TICK seconds, and at the end.
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
        stop.request()
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
    """Start the threads, and add them to `threads`. They put outcomes into `outcomes`, and the
    numbers of the calls into `ended`."""
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
            # A daemon, since some threads cannot be stopped (while a host name is resolved).
            thread = threading.Thread(target=work, name=THREAD_NAME, args=(waiting,), daemon=True)
            threads.append(thread)
            thread.start()


def _make_call(call: Call[_T], stop: Stop) -> _Outcome[_T]:
    try:
        return _Outcome(call.function(stop))
    except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
        return _Outcome(error=error)


def _end(threads: Sequence[threading.Thread], cut: Callable[[], None]) -> None:
    """Wait for the end of the threads, after a stop was requested."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        alive = [thread for thread in threads if thread.is_alive()]
        if not alive:
            return
        cut()
        alive[0].join(TICK)

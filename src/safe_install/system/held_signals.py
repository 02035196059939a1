"""Holds signals back while work must not be interrupted."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Callable, Dict, Optional, Union

# of a signal, as Python has it
Handler = Union[Callable[[int, Optional[FrameType]], object], int, None]
_HELD = ("SIGINT", "SIGTERM", "SIGHUP")


class HeldSignals:
    """From `hold` to `release`, SIGINT, SIGTERM and SIGHUP are only recorded.

    This uses handlers, since a mask is for one thread only and a progress display has a thread of
    its own. Signals that the parent process ignores (nohup) stay ignored.
    """

    def __init__(self) -> None:
        self.pending: Optional[int] = None  # the first signal that came
        self._before: Dict[int, Handler] = {}

    def hold(self) -> None:
        """Begin to record. Only in the main thread: Python delivers signals to no other."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for name in _HELD:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self.take)

    def release(self) -> None:
        """Restore the former handlers. `pending` has the recorded signal."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def take(self, number: int, frame: Optional[FrameType]) -> None:
        """Record a signal."""
        del frame
        if self.pending is None:
            self.pending = number

"""Ctrl-C while nodes are at work: they end what they do, and then all is taken back."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from types import FrameType
from typing import Any, Callable, Dict, Optional

_HELD = ("SIGINT", "SIGTERM", "SIGHUP")


class Stop:
    """The first signal after `hold` is remembered in `number`; the second one acts at once, as it
    did before. What the parent process had told us to ignore (nohup) stays ignored."""

    def __init__(self, tell: Callable[[], None]) -> None:
        """`tell`: says what the first one does."""
        self.number = 0
        self._tell = tell
        self._before: Dict[int, Any] = {}

    def hold(self) -> None:
        """Begin; without effect outside of the main thread, where Python delivers no signals."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for name in _HELD:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self._take)

    def release(self) -> None:
        """Give every signal back to whom it belonged."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _take(self, number: int, frame: Optional[FrameType]) -> None:
        if self.number:
            handler = self._before[number]
            self.release()
            if callable(handler):
                handler(number, frame)
            else:
                os.kill(os.getpid(), number)
            return
        self.number = number
        # In a thread: the main one may be in the middle of a line. `threading` has a lock of its
        # own, which the main one may hold.
        _thread.start_new_thread(self._tell, ())

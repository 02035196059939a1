"""Signals that wait: no Ctrl-C in the middle of what has to be ended or taken back."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Dict, Optional

_HELD = ("SIGINT", "SIGTERM", "SIGHUP")


class HeldSignals:
    """SIGINT, SIGTERM and SIGHUP are remembered instead of acted upon, from `hold` to `release`.

    A handler rather than a mask: a mask holds for one thread only, and a progress display has its
    own.
    What the parent process had told us to ignore (nohup) stays ignored.
    """

    def __init__(self) -> None:
        self.pending: Optional[int] = None  # the first that came
        self._before: Dict[int, Any] = {}

    def hold(self) -> None:
        """Begin to remember; without effect outside of the main thread, where Python delivers no
        signals."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for name in _HELD:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            self._before[number] = signal.signal(number, self.take)

    def release(self) -> None:
        """Give every signal back to whom it belonged; what came meanwhile is in `pending`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def take(self, number: int, frame: Optional[FrameType]) -> None:
        """A signal came."""
        del frame
        if self.pending is None:
            self.pending = number

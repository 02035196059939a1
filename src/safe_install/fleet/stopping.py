"""Ctrl-C while nodes are at work: they end what they do, and then all is taken back."""

from __future__ import annotations

import _thread
import os
from types import FrameType
from typing import Callable, Optional

from safe_install.system.held_signals import HeldSignals


class Stop(HeldSignals):
    """The first signal after `hold` is remembered in `pending`; the second one acts at once, as it
    did before."""

    def __init__(self, tell: Callable[[], None]) -> None:
        """`tell`: says what the first one does."""
        super().__init__()
        self._tell = tell

    def take(self, number: int, frame: Optional[FrameType]) -> None:
        """A signal came."""
        if self.pending is None:
            super().take(number, frame)
            # In a thread: the main one may be in the middle of a line. `threading` has a lock of
            # its own, which the main one may hold.
            _thread.start_new_thread(self._tell, ())
            return
        handler = self._before[number]
        self.release()
        if callable(handler):
            handler(number, frame)
        else:
            os.kill(os.getpid(), number)

"""Handles Ctrl-C while nodes work: they finish the current phase, then the change is undone."""

from __future__ import annotations

import _thread
import os
from types import FrameType
from typing import Callable, Optional

from safe_install.system.held_signals import HeldSignals


class Stop(HeldSignals):
    """The first signal after `hold` is stored in `pending`. The second one calls the handler that
    was there before `hold`."""

    def __init__(self, tell: Callable[[], None]) -> None:
        """`tell`: explains the effect of the first signal to the user."""
        super().__init__()
        self._tell = tell

    def take(self, number: int, frame: Optional[FrameType]) -> None:
        """The handler of the signals."""
        if self.pending is None:
            super().take(number, frame)
            # In a thread, because the main thread may be in the middle of a line. Not by
            # `threading`, which has a lock that the main thread may hold.
            _thread.start_new_thread(self._tell, ())
            return
        handler = self._before[number]
        self.release()
        if callable(handler):
            handler(number, frame)
        else:
            os.kill(os.getpid(), number)

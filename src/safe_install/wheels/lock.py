"""One process at a time in a folder of the cache.

The lock is the one of `transaction/recovery`, which stands alone and imports nothing else of ours: flock,
and where the file system has none, a file that names its holder.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from safe_install.events import Reporter
from safe_install.system.several import Stop
from safe_install.transaction.recovery.lock_file import Lock

_WAIT = 0.05  # seconds between two attempts


@contextmanager
def hold_lock(
    path: Path, reporter: Reporter, holder: str, stop: Optional[Stop] = None
) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is there. While another process has it: say so once,
    and wait.

    `holder`: what the other process is, for people. Errors: OSError, when the file cannot be opened
    or locked; Stopped.
    """
    stop = stop or Stop()
    lock = Lock(str(path))
    if not lock.take():
        reporter.note(f"waiting for {holder}{lock.describe_holder()} ...")
        while not lock.take():
            stop.sleep(_WAIT)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def hold_lock_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` for the block, or not, where another process has it: is it held?
    Errors: OSError."""
    lock = Lock(str(path))
    is_held = lock.take()
    try:
        yield is_held
    finally:
        lock.release()

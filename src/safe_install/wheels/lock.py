"""Locks a folder of the cache for one process at a time.

The lock is that of `transaction/recovery`, which imports nothing else of this package: flock, or,
where the file system has none, a file that names its holder.
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
    """Hold the lock file `path`, whose folder exists. Where another process has it, this is
    reported once, and waited for.

    `holder`: a name for the other process in that message. Errors: OSError, where the file cannot
    be opened or locked; Stopped.
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
    """Try to hold the lock file `path` inside the context; yields whether it is held. Errors:
    OSError."""
    lock = Lock(str(path))
    is_held = lock.take()
    try:
        yield is_held
    finally:
        lock.release()

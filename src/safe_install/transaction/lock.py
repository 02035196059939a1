"""The lock of an environment: one changing command at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path
from typing import Iterator

from safe_install.errors import EnvironmentLocked, Refused, hint_for_oserror
from safe_install.transaction.marker import place_marker
from safe_install.transaction.recovery.lock_file import Lock
from safe_install.transaction.recovery.rows import LOCK, STATE_DIRECTORY

try:
    import fcntl
except ImportError:  # not a POSIX system: `lock_environment` raises Refused
    fcntl = None  # type: ignore[assignment]

_UV_WAIT = 5.0  # seconds; uv holds its lock for a whole install


def open_state_directory(prefix: Path) -> Path:
    """The folder `<prefix>/.safe-install` with mode 0700; it is made where it is missing. Errors:
    Refused if it cannot be made, or belongs to another user."""
    state = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY
    try:
        os.makedirs(state, 0o700)  # with parents: a user base may not exist yet
    except FileExistsError:
        pass
    except OSError as error:
        raise Refused(
            f"{state} cannot be made: {error.strerror}",
            hint=hint_for_oserror(error),
        ) from error
    status = os.lstat(state)
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(
            f"{state} is not a directory",
            hint=f"Look at it, then move it away: mv {state} {state}.old",
        )
    if status.st_uid != os.geteuid():
        raise Refused(
            f"{state} belongs to another user (uid {status.st_uid})",
            hint="Run as the user that owns this environment (for your own user site: --user).",
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(state, 0o700)
    return state


@contextlib.contextmanager
def lock_environment(prefix: Path) -> Iterator[Path]:
    """Lock the environment `prefix` for one changing command; yields its state directory.

    Errors: EnvironmentLocked, at once where another safe-install holds the lock, after a few
    seconds where uv does. Our lock is taken first; uv never takes it, so there is no deadlock. uv's
    lock file is locked only where it exists, because making one would change the environment. The
    kernel releases the locks when this process ends.
    """
    if fcntl is None:
        raise Refused(
            "environments can only be changed on Linux and macOS", hint="Use WSL on Windows."
        )
    state = open_state_directory(prefix)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_own_lock(state))
        uv_lock = state.parent / ".lock"
        if uv_lock.is_file() and not stack.enter_context(_flock(uv_lock, wait=_UV_WAIT)):
            raise EnvironmentLocked(
                f"uv is changing {state.parent} (it holds {uv_lock})",
                hint="Wait until it has ended, then run the command again.",
            )
        place_marker(state)
        yield state


@contextlib.contextmanager
def _own_lock(state: Path) -> Iterator[None]:
    lock = Lock(str(state / LOCK))
    try:
        taken = lock.take()
    except OSError as error:
        raise Refused(
            f"{error.filename or state} cannot be locked: {error.strerror}",
            hint=hint_for_oserror(error),
        ) from error
    if not taken:
        raise EnvironmentLocked(
            f"another safe-install is changing {state.parent}{lock.describe_holder()}",
            hint="Wait until it has ended, then run the command again.",
        )
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _flock(path: Path, *, wait: float) -> Iterator[bool]:
    """Lock uv's lock file; is it ours? True also where the file cannot be opened, or its file
    system has no flock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOENT, errno.ELOOP):
            yield True
            return
        raise Refused(
            f"{path} cannot be opened: {error.strerror}", hint=hint_for_oserror(error)
        ) from error
    try:
        yield _try_lock(descriptor, wait=wait)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, *, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)

"""The communication of the ranks of a Slurm step, by files in the environment that they change.

    .safe-install/steps.lock         held by the leader until it ends
    .safe-install/step-WORK.json     the leader's record; touched while it is alive

Recoveries and prunings of every version leave both alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Tuple

from safe_install.errors import Refused, hint_for_oserror
from safe_install.transaction.lock import open_state_directory
from safe_install.transaction.ranks import Record
from safe_install.transaction.recovery.disk import open_regular_file, write_durably
from safe_install.transaction.recovery.lock_file import Lock
from safe_install.transaction.recovery.rows import JournalInvalid

LOCK_OF_STEPS = "steps.lock"
_NAME = re.compile(r"step-[0-9a-f]{16}\.json")
_KEPT = 20  # records
_LARGEST = 2**20  # bytes
_LONGEST = 2000  # characters of a message
_HEARTBEAT = 15.0  # seconds between two heartbeats


class Rendezvous:
    """The communication of the ranks that run one command in one environment."""

    def __init__(self, prefix: Path, work: str) -> None:
        """Errors: Refused if the environment may not be changed."""
        self.prefix = prefix
        self._state = open_state_directory(prefix)
        self._path = self._state / f"step-{work}.json"
        self._lock = Lock(str(self._state / LOCK_OF_STEPS))

    def take_lock(self) -> bool:
        """Take the lock of the steps; is it ours? Errors: Refused."""
        try:
            return self._lock.take()
        except OSError as error:
            raise Refused(
                f"{self._lock.path} cannot be locked: {error.strerror}",
                hint=hint_for_oserror(error),
            ) from error

    def release_lock(self) -> None:
        """Release the lock; no effect where it is not ours."""
        self._lock.release()

    def describe_holder(self) -> str:
        """The holder of the lock, as far as it is known; the text begins with a space."""
        return self._lock.describe_holder()

    def read(self) -> Tuple[Optional[Record], Optional[int]]:
        """The leader's record, and the time of its last heartbeat in nanoseconds by the file
        server's clock; (None, None) where there is no record."""
        try:
            # The folder is listed first, because a client of a file server caches missing files.
            if self._path.name not in os.listdir(self._state):
                return None, None
            with open_regular_file(str(self._path)) as stream:
                sign = os.fstat(stream.fileno()).st_mtime_ns
                text = stream.read(_LARGEST)
            return _parse_record(json.loads(text.decode("utf-8"))), sign
        except (OSError, ValueError, RecursionError, JournalInvalid):
            return None, None

    def write(self, record: Record) -> None:
        """Write the record durably. Errors: Refused."""
        document = {
            "leader": record.leader,
            "host": record.host,
            "status": record.status,
            "message": record.message[:_LONGEST],
            "seen": dict(record.seen),
        }
        try:
            write_durably(str(self._path), json.dumps(document).encode())
        except OSError as error:
            raise Refused(
                f"{self._path} cannot be written: {error.strerror}", hint=hint_for_oserror(error)
            ) from error

    @contextlib.contextmanager
    def sending_heartbeats(self) -> Iterator[None]:
        """Send heartbeats while the context is active."""
        over = threading.Event()

        def touch() -> None:
            while not over.wait(_HEARTBEAT):
                with contextlib.suppress(OSError):
                    os.utime(self._path)

        thread = threading.Thread(target=touch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def remove_old_records(self) -> None:
        """Remove the records of old steps, except the newest _KEPT. The caller has the lock. Errors
        of the disk are ignored."""
        found: List[Tuple[int, Path]] = []
        with contextlib.suppress(OSError):
            for name in os.listdir(self._state):
                path = self._state / name
                if _NAME.fullmatch(name) and path != self._path:
                    found.append((os.lstat(path).st_mtime_ns, path))
        for _, path in sorted(found, reverse=True)[_KEPT:]:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _parse_record(document: object) -> Optional[Record]:
    """The record in a JSON value, which is not trusted; None if it has another form."""
    if not isinstance(document, dict):
        return None
    leader, host, status = (document.get(key) for key in ("leader", "host", "status"))
    message, seen = document.get("message"), document.get("seen")
    if type(leader) is not int or not isinstance(host, str) or not isinstance(message, str):
        return None
    if status is not None and (type(status) is not int or not 0 <= status <= 255):
        return None
    if not isinstance(seen, dict) or not all(_is_seen(value) for value in seen.values()):
        return None
    return Record(leader, host[:_LONGEST], status, message[:_LONGEST], _sorted(seen))


def _is_seen(value: object) -> bool:
    return value is None or isinstance(value, str)


def _sorted(seen: Mapping[str, Optional[str]]) -> Mapping[str, Optional[str]]:
    return {name: seen[name] for name in sorted(seen)}

"""Staged changes: they are kept in the environment's state folder, complete and checked, until they
are committed, abandoned or expired.

    .safe-install/staged-<id>/{stage/, staged.json, summary.json} [commit.json] [outcome.json]

Recoveries of every version work on `txn-*` and `trash-*` only, and leave staged changes alone. A
commit moves the stage into a transaction with the same ID, which is then a change like any other.
The state of a change is derived from its files (`staged_states`); `outcome.json` records it where
nothing else shows it any more.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple

from safe_install.errors import Refused, hint_for_oserror
from safe_install.models import Scheme
from safe_install.transaction.history import HistoryEntry, read_history
from safe_install.transaction.identifiers import moment_of, next_moment
from safe_install.transaction.journal import Journal
from safe_install.transaction.lock import open_state_directory
from safe_install.transaction.place import check_place, make_areas
from safe_install.transaction.recovery.disk import (
    libc,
    open_regular_file,
    sync_directory,
    sync_filesystem,
    unlink_if_there,
    write_durably,
)
from safe_install.transaction.recovery.lock_file import describe_process, is_gone
from safe_install.transaction.recovery.rows import (
    COMMITTED,
    JOURNAL,
    STATE_DIRECTORY,
    JournalInvalid,
)
from safe_install.transaction.recovery.transactions import discard, list_transactions
from safe_install.transaction.staged_states import LASTING, State, Traces, derive_state
from safe_install.transaction.summary import StepRow
from safe_install.transaction.swap import Transaction, make_facts
from safe_install.transaction.walk import walk_files

DOCUMENT = "staged.json"  # the facts for a commit
STAGE = "stage"
_SUMMARY = "summary.json"  # the facts for `status`
_COMMIT = "commit.json"  # the process that began the commit
_OUTCOME = "outcome.json"  # the final state
_NAME = re.compile(r"^staged-(\d{8}T\d{6}Z-[0-9a-f]{4,8})$")
_LARGEST = 64 * 2**20  # bytes of a document; the 12,000 files of torch take 2 MB
_KEPT_OUTCOMES = 100
_LONGEST = 2000  # characters of a text that is shown
_LONGEST_WAIT = 24 * 3600.0  # seconds until a stage without a readable summary expires


@dataclass(frozen=True)
class StagedChange:
    """A staged change, as it is on disk now."""

    id: str
    state: State
    folder: Path  # need not exist
    command: Tuple[str, ...] = ()
    created: Optional[float] = None  # seconds since the epoch
    expires: Optional[float] = None  # seconds since the epoch; None: never
    steps: Tuple[StepRow, ...] = ()
    undone_by: Optional[str] = None
    detail: str = ""  # why it is in that state

    @property
    def stage(self) -> Path:
        """The folder of its files while it is staged."""
        return self.folder / STAGE


class StagedChanges:
    """Reads the staged changes of one environment, without a lock."""

    def __init__(self, prefix: Path, *, now: Optional[float] = None) -> None:
        """`now`: seconds since the epoch. Errors: Refused if they cannot be read."""
        self._prefix = prefix
        self._state = Path(os.path.realpath(str(prefix))) / STATE_DIRECTORY
        self._now = time.time() if now is None else now
        try:
            self._transactions = dict(list_transactions(str(prefix)))
            names = os.listdir(self._state) if self._state.is_dir() else []
        except PermissionError as error:
            raise Refused(
                f"{self._state} cannot be read: {error.strerror}",
                hint="Run as the user that owns this environment.",
            ) from error
        matches = [_NAME.match(name) for name in sorted(names, reverse=True)]
        found = [match.group(1) for match in matches if match is not None]
        self.ids = tuple(one for one in found if _is_own_folder(self._folder(one)))

    @cached_property
    def _history(self) -> Dict[str, HistoryEntry]:
        return {entry.id: entry for entry in read_history(self._prefix)}

    def find(self, identifier: str) -> StagedChange:
        """The change with this ID, with the state UNKNOWN where there is none."""
        transaction = self._transactions.get(f"txn-{identifier}")
        entry = self._history.get(identifier) if transaction == "committed" else None
        undone_by = entry.undone_by if entry is not None else None
        if identifier not in self.ids:
            return self._find_unstaged(identifier, Traces(transaction, undone_by), entry)
        folder = self._folder(identifier)
        summary = _read_small(folder / _SUMMARY)
        outcome = _read_small(folder / _OUTCOME)
        created = _moment(summary.get("created"))
        expires = _moment(summary.get("expires"))
        if created is None:
            expires = moment_of(identifier) + _LONGEST_WAIT
        has_begun = os.path.lexists(folder / _COMMIT)
        traces = Traces(
            transaction,
            undone_by,
            has_stage=_is_own_folder(folder / STAGE),
            is_over_time=expires is not None and self._now >= expires,
            has_begun=has_begun,
            is_running=has_begun and _is_running(_read_small(folder / _COMMIT)),
            recorded=_parse_state(outcome.get("state")),
        )
        state = derive_state(traces)
        known = outcome if traces.recorded is state else {}
        return StagedChange(
            identifier,
            state,
            folder,
            command=_texts(summary.get("command")),
            created=created,
            expires=expires,
            steps=_parse_steps(summary.get("steps")),
            undone_by=undone_by or _text(known.get("undone_by")) or None,
            detail=_text(known.get("detail")) or _explain(state, traces),
        )

    def _find_unstaged(
        self, identifier: str, traces: Traces, entry: Optional[HistoryEntry]
    ) -> StagedChange:
        state, folder = derive_state(traces), self._folder(identifier)
        if entry is None:
            return StagedChange(identifier, state, folder, detail=_explain(state, traces))
        return StagedChange(
            identifier,
            state,
            folder,
            command=entry.command,
            created=entry.created,
            steps=entry.steps,
            undone_by=entry.undone_by,
        )

    def _folder(self, identifier: str) -> Path:
        return self._state / f"staged-{identifier}"


def _explain(state: State, traces: Traces) -> str:
    if state is State.INTERRUPTED:
        return "the process that committed it has ended: the next change, or recover, undoes it"
    if state is State.ROLLED_BACK:
        return "its commit was interrupted, and undone"
    if state is State.EXPIRED:
        return "it was staged for longer than it was to be kept"
    if state is State.UNKNOWN and traces.transaction is None:
        return "nothing of that ID is kept here"
    return ""


# --- functions that change the state; the caller holds the lock -----------------------------------


def set_aside(transaction: Transaction, document: bytes, summary: Mapping[str, object]) -> Path:
    """Turn the folder of a transaction with a full stage into the folder of a staged change, with
    one rename; its new path. `summary`: command, created, expires, steps. Errors: Refused."""
    folder = transaction.directory
    target = folder.with_name(f"staged-{transaction.id}")
    try:
        write_durably(str(folder / DOCUMENT), document)
        write_durably(str(folder / _SUMMARY), json.dumps(dict(summary)).encode())
        sync_filesystem(str(folder))
        os.rmdir(folder / "stash")
        os.rename(folder, target)
        sync_directory(str(folder.parent))
    except OSError as error:
        raise Refused(
            f"the change could not be staged, nothing was changed: {error}",
            hint=hint_for_oserror(error),
        ) from error
    return target


def keep_longer(change: StagedChange, *, expires: Optional[float]) -> None:
    """Set when a staged change expires (seconds since the epoch; None: never). Errors: Refused."""
    summary = {
        "command": list(change.command),
        "created": change.created,
        "expires": expires,
        "steps": list(change.steps),
    }
    try:
        write_durably(str(change.folder / _SUMMARY), json.dumps(summary).encode())
    except OSError as error:
        raise Refused(
            f"{change.id} is staged, and could not be kept longer: {error}",
            hint=hint_for_oserror(error),
        ) from error


def read_document(change: StagedChange) -> object:
    """The JSON value of the document of `set_aside`; not validated. Errors: Refused."""
    path = str(change.folder / DOCUMENT)
    try:
        return json.loads(_read_limited(path, _LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError, JournalInvalid) as error:
        raise Refused(
            f"the staged change {change.id} cannot be read: {error}",
            hint=f"Let it go (safe-install abandon {change.id}), and stage it again.",
        ) from error


def begin_commit(prefix: Path, change: StagedChange, *, scheme: Scheme) -> Transaction:
    """A transaction with the ID of a staged change; its stage is still empty. Errors: Refused."""
    state = open_state_directory(prefix)
    areas = make_areas(state.parent, scheme)
    check_place(prefix, scheme)
    libc()  # imports ctypes: nothing may be imported later, while the environment is half changed
    facts = make_facts()
    made = [entry.created for entry in read_history(prefix)]
    moment = next_moment(state, max(made, default=0.0))
    journal = Journal(id=change.id, command=change.command, created=moment, facts=facts)
    return Transaction(state, journal, areas)


@contextlib.contextmanager
def stage_in(transaction: Transaction, change: StagedChange) -> Iterator[None]:
    """Use the stage of a staged change as the stage of the transaction. If the context ends with an
    error before anything was swapped, the stage is moved back, and the change stays staged. Errors:
    Refused."""
    record = change.folder / _COMMIT
    try:
        write_durably(str(record), json.dumps(describe_process()).encode())
        os.rename(change.stage, transaction.stage)
    except OSError as error:
        unlink_if_there(str(record))
        hint = hint_for_oserror(error)
        if error.errno == errno.EXDEV:  # a lower layer of overlayfs
            hint = "In the build of an image: stage and commit in the same RUN step."
        raise Refused(
            f"the stage of {change.id} cannot be moved, nothing was changed: {error}", hint=hint
        ) from error
    try:
        yield
    except BaseException:
        if not _has_moved(transaction):
            os.rename(transaction.stage, change.stage)
            unlink_if_there(str(record))
        raise


def _has_moved(transaction: Transaction) -> bool:
    names = (JOURNAL, COMMITTED)
    return any(os.path.lexists(transaction.directory / name) for name in names)


def record_outcome(
    change: StagedChange, state: State, *, detail: str = "", undone_by: Optional[str] = None
) -> None:
    """Record the final state of a change durably, and remove its stage. Errors: OSError."""
    outcome = {"state": state.value, "when": time.time(), "detail": detail, "undone_by": undone_by}
    write_durably(str(change.folder / _OUTCOME), json.dumps(outcome).encode())
    _remove_stage(change)


def _remove_stage(change: StagedChange) -> None:
    unlink_if_there(str(change.folder / DOCUMENT))
    if os.path.lexists(change.stage):
        # If the removal is interrupted, a recovery finishes it by this name.
        trash = change.folder.with_name(f"trash-{change.folder.name}")
        while os.path.lexists(trash):
            trash = trash.with_name(trash.name + "-")
        os.rename(change.stage, trash)
        discard(str(trash))


def settle(prefix: Path, *, now: Optional[float] = None) -> Tuple[StagedChange, ...]:
    """Record the final states of staged changes, and remove expired ones; the changes that have
    expired since the last time. Errors of the disk are ignored."""
    changes = StagedChanges(prefix, now=now)
    dropped: List[StagedChange] = []
    lasting: List[Path] = []
    for identifier in changes.ids:
        change = changes.find(identifier)
        with contextlib.suppress(OSError):
            if change.state is State.UNKNOWN:
                discard(str(change.folder))
            elif change.state in LASTING:
                lasting.append(change.folder)
                if _settle_one(change) and change.state is State.EXPIRED:
                    dropped.append(change)
    for folder in lasting[_KEPT_OUTCOMES:]:
        discard(str(folder))
    return tuple(dropped)


def _settle_one(change: StagedChange) -> bool:
    """Record the final state of one change; was it new?"""
    recorded = _parse_state(_read_small(change.folder / _OUTCOME).get("state"))
    if recorded is change.state:
        _remove_stage(change)
        return False
    record_outcome(change, change.state, detail=change.detail, undone_by=change.undone_by)
    return True


def measure_stage(change: StagedChange) -> int:
    """The bytes on disk that a staged change takes."""
    total = 0
    for path in walk_files(change.folder):
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                total += status.st_blocks * 512
    return total


# --- reading files that are not trusted -----------------------------------------------------------


def _is_own_folder(path: Path) -> bool:
    """Is it a directory of this user? False for a symbolic link."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _read_limited(path: str, limit: int) -> bytes:
    """The bytes of a file. Errors: JournalInvalid for anything but a regular file, ValueError for
    one that is too large."""
    with open_regular_file(path) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return content


def _read_small(path: Path) -> Mapping[str, object]:
    """The JSON object in a file; empty if there is none."""
    try:
        found = json.loads(_read_limited(str(path), 2**20).decode("utf-8"))
    except (OSError, ValueError, RecursionError, JournalInvalid):
        return {}
    return found if isinstance(found, dict) else {}


def _is_running(holder: Mapping[str, object]) -> bool:
    """May the process of a commit still run?"""
    pid = holder.get("pid")
    return isinstance(pid, int) and 0 < pid < 2**31 and not is_gone(dict(holder))


def _parse_state(value: object) -> Optional[State]:
    """A final state; None for other values."""
    lasting = {state.value: state for state in LASTING}
    return lasting.get(value) if isinstance(value, str) else None


def _moment(value: object) -> Optional[float]:
    """A value as seconds since the epoch if that is a valid date; else None."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if 0 <= value < 250_000_000_000 else None


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _texts(value: object) -> Tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return ()
    return tuple(one[:_LONGEST] for one in value[:_LONGEST])


def _parse_steps(value: object) -> Tuple[StepRow, ...]:
    """Rows in the form that `pipeline.health_gate.summarize` writes; others are left out."""
    found: List[StepRow] = []
    for row in value if isinstance(value, list) else ():
        if isinstance(row, dict) and isinstance(row.get("name"), str):
            kept: StepRow = {
                "action": _text(row.get("action")),
                "name": _text(row["name"]),
                "version": _text(row.get("version")) or None,
                "from_version": _text(row.get("from_version")) or None,
            }
            found.append(kept)
    return tuple(found)

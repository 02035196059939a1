"""Files of this controller's runs: what is staged and committed on which node. The file of a killed
controller has the state before its last calls.

    DATA/fleet/20261130T024000Z-1f43f2.json
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Mapping, Pattern, Tuple

from safe_install.errors import (
    EnvironmentLocked,
    Refused,
    SystemFailed,
    UsageError,
    hint_for_oserror,
)
from safe_install.fleet.answers import StepFacts
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.models import JsonValue
from safe_install.system.atomic_write import write_atomically
from safe_install.transaction.recovery.lock_file import Lock

SCHEMA = 1
KEPT = 100  # runs
LARGEST = 64 * 2**20  # bytes of a file
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,8}")
_TRANSACTION = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{4,8})?")


@dataclass(frozen=True)
class KeptRun:
    """A run, as in its file."""

    state: FleetState
    command: Tuple[str, ...]  # as it was typed
    engine: str  # "ansible", "dask", "ray"
    target: str  # the inventory or the address
    removes: bool  # True for an uninstall
    limit: str = ""  # --limit: a pattern for hosts of the inventory


class RunFolder:
    """The folder of the runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, run: KeptRun) -> None:
        """Write the run's file atomically. Errors: SystemFailed."""
        content = json.dumps(_make_document(run), indent=1, sort_keys=True).encode("ascii")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._path(run.state.run), content, mode=0o600)
        except OSError as error:
            raise SystemFailed(
                f"the run cannot be written down in {self._folder}: {error.strerror or error}",
                hint=hint_for_oserror(error),
            ) from error

    def read(self, identifier: str) -> KeptRun:
        """The run with this ID. Errors: UsageError if there is none, Refused if its file
        cannot be read."""
        if _ID.fullmatch(identifier) is None or identifier not in self.ids():
            raise UsageError(
                f"{identifier[:60]!r} is no run of this machine",
                hint="safe-install fleet status lists them.",
            )
        path = self._path(identifier)
        try:
            with path.open("rb") as stream:
                content = stream.read(LARGEST + 1)
            if len(content) > LARGEST:
                raise ValueError("it is too large")
            return _parse(json.loads(content.decode("utf-8")), identifier)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refused(
                f"{path} cannot be read: {error}",
                hint="Ask the nodes themselves: safe-install status, on each of them.",
            ) from error

    def ids(self) -> Tuple[str, ...]:
        """The IDs of the runs, newest first."""
        try:
            found = [path.stem for path in self._folder.iterdir() if path.suffix == ".json"]
        except OSError:
            return ()
        return tuple(sorted((one for one in found if _ID.fullmatch(one)), reverse=True))

    @contextmanager
    def hold(self, identifier: str) -> Iterator[None]:
        """Lock a run: one controller at a time works on it. Errors: EnvironmentLocked,
        SystemFailed."""
        path = self._path(identifier).with_suffix(".lock")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = Lock(str(path))
            is_taken = lock.take()
        except OSError as error:
            raise SystemFailed(
                f"the run cannot be held in {self._folder}: {error.strerror or error}",
                hint=hint_for_oserror(error),
            ) from error
        if not is_taken:
            raise EnvironmentLocked(
                f"another safe-install works on {identifier}{lock.describe_holder()}",
                hint="Wait until it has ended: safe-install fleet status shows the run.",
            )
        try:
            yield
        finally:
            lock.release()

    def prune(self) -> None:
        """Remove all but the newest KEPT runs, as far as that is possible."""
        for identifier in self.ids()[KEPT:]:
            path = self._path(identifier)
            for one in (path.with_suffix(".lock"), path):
                with suppress(OSError):
                    one.unlink()

    def _path(self, identifier: str) -> Path:
        return self._folder / f"{identifier}.json"


# --- value -> document ----------------------------------------------------------------------------


def _make_document(run: KeptRun) -> Mapping[str, JsonValue]:
    state = run.state
    return {
        "schema": SCHEMA,
        "run": state.run,
        "command": list(run.command),
        "engine": run.engine,
        "target": run.target,
        "removes": run.removes,
        "limit": run.limit,
        "is_settled": state.is_settled,
        "tolerated": state.tolerated,
        "stopped_by": state.stopped_by,
        "nodes": [_make_node(node) for node in state.nodes],
    }


def _make_node(node: NodeState) -> Mapping[str, JsonValue]:
    return {
        "name": node.name,
        "python": node.python,
        "standing": node.standing.value,
        "leader": node.leader,
        "transaction": node.transaction,
        "failure": node.failure,
        "status": node.status,
        "was_touched": node.was_touched,
        "steps": [[step.name, step.old, step.new] for step in node.steps],
    }


# --- document -> value ----------------------------------------------------------------------------


def _parse(document: object, identifier: str) -> KeptRun:
    """Errors: KeyError, TypeError, ValueError."""
    keys = "schema run command engine target removes limit is_settled tolerated stopped_by nodes"
    found = _object(document, keys)
    if found["schema"] != SCHEMA or found["run"] != identifier:
        raise ValueError("another schema, or another run")
    return KeptRun(
        state=_parse_state(found, identifier),
        command=tuple(_text(word) for word in _list(found["command"])),
        engine=_text(found["engine"]),
        target=_text(found["target"]),
        removes=_flag(found["removes"]),
        limit=_text(found["limit"]),
    )


def _parse_state(found: Mapping[str, object], identifier: str) -> FleetState:
    nodes = tuple(_parse_node(row) for row in _list(found["nodes"]))
    names = {node.name for node in nodes}
    if len(names) != len(nodes):
        raise ValueError("a node stands in it twice")
    if any(node.leader and node.leader not in names for node in nodes):
        raise ValueError("a node has a leader that is none")
    tolerated = found["tolerated"]
    return FleetState(
        identifier,
        nodes,
        is_settled=_flag(found["is_settled"]),
        tolerated=None if tolerated is None else _number(tolerated),
        stopped_by=_number(found["stopped_by"]),
    )


def _parse_node(row: object) -> NodeState:
    keys = "name python standing leader transaction failure status was_touched steps"
    found = _object(row, keys)
    return NodeState(
        _text(found["name"]),
        _text(found["python"]),
        Standing(_text(found["standing"])),
        leader=_text(found["leader"]),
        transaction=_matching(_TRANSACTION, found["transaction"]),
        failure=_text(found["failure"]),
        status=_number(found["status"]),
        was_touched=_flag(found["was_touched"]),
        steps=tuple(_parse_step(step) for step in _list(found["steps"])),
    )


def _parse_step(row: object) -> StepFacts:
    name, old, new = (_text(part) for part in _list(row))
    return StepFacts(name, old, new)


def _object(value: object, keys: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or set(value) != set(keys.split()):
        raise TypeError(f"not an object of {keys}")
    return value


def _list(value: object) -> List[object]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a number is missing")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is missing")
    return value


def _matching(pattern: Pattern[str], value: object) -> str:
    text = _text(value)
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{text[:60]!r} is not what stands there")
    return text

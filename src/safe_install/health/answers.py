"""Reads what health/script.py answered: its lines become events, and these one HealthReport."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from packaging.utils import NormalizedName

from safe_install.health.crash import describe_end, name_of_status
from safe_install.models import (
    DriverLibrary,
    HealthReport,
    ImportResult,
    JsonValue,
    TorchBuild,
    UnmetRequirement,
)

Event = Mapping[str, Any]  # one answer of the script; _EVENTS has the keys of each kind

_TEXT = (str, type(None))
_NUMBER = (int, float, type(None))


class Subject(NamedTuple):
    """One project to check."""

    name: NormalizedName
    imports: Tuple[str, ...] = ()  # modules
    native: Tuple[str, ...] = ()  # patterns of shared objects: see index.native
    operation: Optional[str] = None  # Python source; the variable `device` is defined

    def as_json(self) -> Dict[str, JsonValue]:
        """The subject as the script reads it."""
        return {
            "name": self.name,
            "imports": list(self.imports),
            "native": list(self.native),
            "operation": self.operation,
        }


class Answers(NamedTuple):
    """The answers of one process."""

    events: Tuple[Event, ...]
    unfinished: Optional[str]  # the step that began and did not end: "import torch_scatter"
    done: bool  # did it come to its end?


# The keys that an event of each kind must have, and the types of their values.
_EVENTS: Mapping[str, Mapping[str, Tuple[type, ...]]] = {
    "begin": {"kind": (str,), "name": (str,)},
    "end": {"kind": (str,), "name": (str,), "ok": (bool,), "error": _TEXT, "seconds": _NUMBER},
    "torch": {"version": (str,), "cuda": _TEXT, "hip": _TEXT, "folder": (str,)},
    "cuda": {"available": (bool, type(None)), "devices": (int,)},
    "libraries": {"paths": (list,)},
    "libcuda": {"path": _TEXT, "cuda": _TEXT, "status": (int,), "devices": (int, type(None))},
    "warning": {"text": (str,)},
    "done": {},
}
# The keys that an "end" may also have: about a file that ended a process when it was loaded.
_CRASH_KEYS: Mapping[str, Tuple[type, ...]] = {
    "file": (str,),
    "status": (int,),
    "stderr": (str,),
    "files": (list,),
}
_UNKNOWN = "unknown"  # a key that only this module may set: there was no time for the step

NO_ANSWER = "it gave no answer: what it imports has changed the process that asks"


def _is_event(event: object) -> bool:
    """Is it an event with the keys and types that its kind must have?"""
    if not isinstance(event, dict) or _UNKNOWN in event:
        return False
    required = _EVENTS.get(str(event.get("event")))
    if required is None:
        return False
    if not all(isinstance(event.get(key), types) for key, types in required.items()):
        return False
    return all(isinstance(event[key], types) for key, types in _CRASH_KEYS.items() if key in event)


def parse_answers(lines: Iterable[str], words: Sequence[str]) -> Answers:
    """The answers in the lines of the script. A line that was cut by a crash is left out.

    `words`: the secret words with which the script begins its lines, in this order. A line with
    another word, or with one that was used before, is not from the script but from a module that it
    imported. Such a module can also keep the script from answering: a step without an answer of its
    own has failed.
    """
    order = {word: number for number, word in enumerate(words)}
    expected = 0
    events: List[Event] = []
    unfinished: Optional[str] = None
    done = False
    for line in lines:
        word, _, text = line.partition(" ")
        number = order.get(word, -1)
        if number < expected:
            continue
        event = _parse_event(text)
        if event is None:
            continue
        expected = number + 1
        if event["event"] == "end" and _step_of(event) != unfinished:
            continue
        if event["event"] in ("begin", "done") and unfinished is not None:
            events.append(crash_event(unfinished, NO_ANSWER))
            unfinished = None
        if event["event"] == "begin":
            unfinished = _step_of(event)
        elif event["event"] == "end":
            unfinished = None
            events.append(event)
        elif event["event"] == "done":
            done = True
        else:
            events.append(event)
    return Answers(tuple(events), unfinished, done)


def _parse_event(text: str) -> Optional[Event]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if _is_event(event) else None


def _step_of(event: Event) -> str:
    """ "import torch"."""
    return f"{event['kind']} {event['name']}"


def answered_steps(events: Iterable[Event]) -> Set[str]:
    """The steps that have an answer, such as "import torch"."""
    return {_step_of(event) for event in events if event.get("event") == "end"}


def missing_answers(
    expected: Iterable[str], events: Iterable[Event], reason: str, *, unknown: bool = False
) -> List[Event]:
    """A failed answer, with this reason, for each `expected` step ("import torch") that has no
    answer. `unknown`: see crash_event."""
    answered = answered_steps(events)
    return [crash_event(step, reason, unknown=unknown) for step in expected if step not in answered]


def crash_event(step: str, reason: str, *, unknown: bool = False) -> Event:
    """The failed answer of a step, with this reason. `unknown`: there was no time for it, so it may
    work."""
    kind, _, name = step.partition(" ")
    event = {
        "event": "end",
        "kind": kind,
        "name": name,
        "ok": False,
        "error": reason,
        "seconds": None,
    }
    if unknown:
        event[_UNKNOWN] = True
    return event


def undecided_files(events: Iterable[Event]) -> Dict[str, List[List[str]]]:
    """The files that ended a copy of the process, by project. They may work in a process that
    imported less.

    One file of each inner list must load.
    """
    return {event["name"]: event["files"] for event in events if event.get("files")}


def replace_undecided(events: Iterable[Event], second: Sequence[Event]) -> List[Event]:
    """The events, with the answers of a second process in place of the undecided ones."""
    answers = []
    for event in second:
        if event.get("event") == "end" and event.get("kind") == "native":
            answers.append(event)
    names = {event["name"] for event in answers}
    decided = []
    for event in events:
        is_replaced = event.get("files") and event["name"] in names
        if not is_replaced:
            decided.append(event)
    return decided + answers


def explain_crashes(events: Iterable[Event]) -> List[Event]:
    """The events with an error for each file that ended a process: how it ended, and what it wrote
    last."""
    explained: List[Event] = []
    for event in events:
        if event.get("event") == "end" and isinstance(event.get("status"), int):
            ending = describe_end(name_of_status(event["status"]), event.get("stderr", ""))
            file = event.get("file", "").rpartition("/")[2]
            event = {**event, "error": f"{file}: {ending}"}
        explained.append(event)
    return explained


def make_report(
    events: Sequence[Event],
    *,
    torch: Optional[TorchBuild],
    asked: str,
    seconds: float,
    unmet: Sequence[UnmetRequirement] = (),
    crashed: Optional[str] = None,
) -> HealthReport:
    """The report on the events of one or more processes.

    `torch`: the installed one, read from its files. It is reported if torch was not imported.
    `asked`: "loader" or "import". `seconds`: how long it took. `crashed`: why no more could be
    asked.
    """
    version: Optional[str] = None
    cuda: Optional[str] = None
    folder: Optional[str] = None
    if torch is not None and asked == "loader":
        version = torch.runtime_version
        cuda = torch.cuda
        folder = str(torch.folder) if torch.folder else None
    answer = _last_event(events, "torch")
    if answer is not None:
        version, cuda, folder = answer["version"], answer["cuda"], answer["folder"]
    available, devices = _read_availability(events)
    libraries = _last_event(events, "libraries") or {"paths": ()}
    imports, operations = _read_results(events)
    return HealthReport(
        torch_version=version,
        accelerator=torch.accelerator if torch else None,
        torch_cuda=cuda,
        cuda_available=available,
        device_count=devices,
        imports=imports,
        operations=operations,
        warnings=tuple(event["text"] for event in events if event.get("event") == "warning"),
        unmet=tuple(unmet),
        asked=asked,
        seconds=seconds,
        crashed=crashed,
        libraries=tuple(libraries["paths"]),
        torch_folder=folder,
        driver_library=_read_driver_library(events),
    )


def _last_event(events: Sequence[Event], kind: str) -> Optional[Event]:
    for event in reversed(events):
        if event.get("event") == kind:
            return event
    return None


def _read_availability(events: Sequence[Event]) -> Tuple[Optional[bool], Optional[int]]:
    """Is CUDA available, and how many devices are there? None: there is no answer."""
    available: Optional[bool] = None
    devices: Optional[int] = None
    for event in events:
        if event.get("event") == "cuda":
            available = event["available"]
            devices = event["devices"]
        elif event.get("event") == "end" and event["kind"] == "cuda" and not event["ok"]:
            available = False
    return available, devices


def _read_driver_library(events: Sequence[Event]) -> Optional[DriverLibrary]:
    event = _last_event(events, "libcuda")
    if event is None:
        return None
    return DriverLibrary(event["path"], event["cuda"], event["status"], event["devices"])


def _read_results(
    events: Sequence[Event],
) -> Tuple[Dict[str, ImportResult], Dict[str, ImportResult]]:
    """The results of the imports, and of the operations and native files, by name."""
    imports: Dict[str, ImportResult] = {}
    operations: Dict[str, ImportResult] = {}
    for event in events:
        if event.get("event") != "end":
            continue
        result = ImportResult(
            event["ok"], event["seconds"], event["error"], event.get(_UNKNOWN, False)
        )
        kind = event["kind"]
        name = event["name"]
        if kind == "import":
            imports[name] = result
        elif kind == "operation":
            operations[name] = result
        elif kind != "cuda":
            operations[f"{name} native part"] = result
        elif not event["ok"]:
            operations[f"cuda {name}"] = result
    return imports, operations

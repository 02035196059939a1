"""What a process that was asked answered: lines -> events -> one HealthReport."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.health.crash import describe_end, name_of_status
from safe_install.models import (
    DriverLibrary,
    HealthReport,
    ImportResult,
    TorchBuild,
    UnmetRequirement,
)

Event = Mapping[str, Any]  # one line of the script; _EVENTS has the keys of each kind

_TEXT = (str, type(None))
_NUMBER = (int, float, type(None))


class Subject(NamedTuple):
    """One project to be asked about."""

    name: NormalizedName
    imports: Tuple[str, ...] = ()
    # patterns below site-packages; braces name alternatives, the first is needed
    native: Tuple[str, ...] = ()
    operation: Optional[str] = None  # Python source; `device` is defined

    def as_json(self) -> Dict[str, Any]:
        """The form that the script reads."""
        return {
            "name": self.name,
            "imports": list(self.imports),
            "native": list(self.native),
            "operation": self.operation,
        }


class Answers(NamedTuple):
    """The events of one process."""

    events: Tuple[Event, ...]
    unfinished: Optional[str]  # the step that began and did not end, "import torch_scatter"
    done: bool


# What an event of the script must hold: key -> the types that its value may have.
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
# What an "end" may also hold: about a file whose loading ended a process.
_CRASH_KEYS: Mapping[str, Tuple[type, ...]] = {
    "file": (str,),
    "status": (int,),
    "stderr": (str,),
    "files": (list,),
}
_UNKNOWN = "unknown"  # a key that only this module sets: the step had no time to answer

NO_ANSWER = "it gave no answer: what it imports has changed the process that asks"


def _is_event(event: object) -> bool:
    if not isinstance(event, dict):
        return False
    wanted = _EVENTS.get(str(event.get("event")))
    if wanted is None:
        return False
    if not all(isinstance(event.get(key), types) for key, types in wanted.items()):
        return False
    if _UNKNOWN in event:
        return False
    return all(isinstance(event[key], types) for key, types in _CRASH_KEYS.items() if key in event)


def parse_answers(lines: Iterable[str], words: Sequence[str]) -> Answers:
    """The script's lines, as far as they are whole (a crash may cut the last one).

    `words`: what the script was given to begin its lines with, in order. A line without one of
    them, or with one that had its turn, is not the script's. A step ends with its own answer or
    with none: what was imported may have taken the script's words, or its means to speak.
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
        if event["event"] == "end" and f"{event['kind']} {event['name']}" != unfinished:
            continue
        if event["event"] in ("begin", "done") and unfinished is not None:
            events.append(crash_event(unfinished, NO_ANSWER))
            unfinished = None
        if event["event"] == "begin":
            unfinished = f"{event['kind']} {event['name']}"
        elif event["event"] == "end":
            unfinished = None
            events.append(event)
        elif event["event"] == "done":
            done = True
        else:
            events.append(event)
    return Answers(tuple(events), unfinished, done)


def _parse_event(text: str) -> Optional[Dict[str, Any]]:
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return event if _is_event(event) else None


def missing_answers(
    expected: Iterable[str], events: Iterable[Event], reason: str, *, unknown: bool = False
) -> List[Event]:
    """An answer for each `expected` step that has none, such as "import torch": it failed, for this
    reason."""
    answered = {
        f"{event['kind']} {event['name']}" for event in events if event.get("event") == "end"
    }
    return [crash_event(step, reason, unknown=unknown) for step in expected if step not in answered]


def crash_event(step: str, reason: str, *, unknown: bool = False) -> Event:
    """The answer of a step that ended its process, or that had no time to answer (`unknown`)."""
    kind, _, name = step.partition(" ")
    event = {
        "event": "end",
        "kind": kind,
        "name": name,
        "ok": False,
        "error": reason,
        "seconds": None,
    }
    return {**event, _UNKNOWN: True} if unknown else event


def undecided_files(events: Iterable[Event]) -> Dict[str, List[List[str]]]:
    """The files that a copy of the asking process died of, by project: they may only not bear what
    was loaded there.

    Of each inner list one must load.
    """
    return {event["name"]: event["files"] for event in events if event.get("files")}


def replace_undecided(events: Iterable[Event], second: Sequence[Event]) -> List[Event]:
    """The events, with the answers of the second process in the place of those that it could
    decide."""
    answers = [
        event for event in second if event.get("event") == "end" and event.get("kind") == "native"
    ]
    names = {event["name"] for event in answers}
    return [
        event for event in events if not (event.get("files") and event["name"] in names)
    ] + answers


def explain_crashes(events: Iterable[Event]) -> List[Event]:
    """Where loading a file ended a process, its last words become the error."""
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
    """One report from the events of one or more processes.

    `torch`: what its files say; the report has it where only the loader was asked.
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
    """Whether CUDA is available, and the number of devices; None where nothing was answered."""
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

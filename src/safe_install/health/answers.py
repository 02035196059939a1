"""What a process that was asked answered: lines -> events -> one HealthReport."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from packaging.utils import NormalizedName

from safe_install.health.crash import describe_end, name_of_status
from safe_install.models import DriverLibrary, HealthReport, ImportResult, TorchBuild

_TEXT = (str, type(None))
_NUMBER = (int, float, type(None))


@dataclass(frozen=True)
class Subject:
    """One project to be asked about."""

    name: NormalizedName
    imports: Tuple[str, ...] = ()
    native: Tuple[str, ...] = ()  # patterns below site-packages; braces name alternatives, the first is needed
    operation: Optional[str] = None  # Python source; `device` is defined

    def as_json(self) -> Dict[str, Any]:
        """The form that the script reads."""
        return {
            "name": self.name,
            "imports": list(self.imports),
            "native": list(self.native),
            "operation": self.operation,
        }


@dataclass(frozen=True)
class Answers:
    """What the lines of one process said."""

    events: Tuple[Mapping[str, Any], ...]
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
# What an "end" may hold besides: of a file of which a process died.
_OF_A_DEATH: Mapping[str, Tuple[type, ...]] = {"file": (str,), "status": (int,), "stderr": (str,), "files": (list,)}
_OF_US = "unknown"  # what only this side says of an answer


NO_ANSWER = "it gave no answer: what it imports has changed the process that asks"


def _is_whole(event: object) -> bool:
    """Has it the form of an answer?"""
    if not isinstance(event, dict):
        return False
    wanted = _EVENTS.get(str(event.get("event")))
    if wanted is None:
        return False
    if not all(isinstance(event.get(key), types) for key, types in wanted.items()):
        return False
    if _OF_US in event:
        return False
    return all(isinstance(event[key], types) for key, types in _OF_A_DEATH.items() if key in event)


def parse_answers(lines: Iterable[str], words: Sequence[str]) -> Answers:
    """The script's lines, as far as they are whole (a crash may cut the last one).

    `words`: what the script was given to begin its lines with, in order. A line without one of them, or with one that
    had its turn, is somebody else's. A step ends with its own answer or with none: what was imported may have taken
    the script's words, or its means to speak.
    """
    order = {word: number for number, word in enumerate(words)}
    expected = 0
    events: List[Mapping[str, Any]] = []
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
    return event if _is_whole(event) else None


def missing_answers(
    expected: Iterable[str], events: Iterable[Mapping[str, Any]], reason: str, *, unknown: bool = False
) -> List[Mapping[str, Any]]:
    """An answer for each `expected` step that has none, such as "import torch": it failed, for this reason."""
    answered = {f"{event['kind']} {event['name']}" for event in events if event.get("event") == "end"}
    return [crash_event(step, reason, unknown=unknown) for step in expected if step not in answered]


def crash_event(step: str, reason: str, *, unknown: bool = False) -> Mapping[str, Any]:
    """The answer of a step that ended its process, or that had no time to answer (`unknown`)."""
    kind, _, name = step.partition(" ")
    event = {"event": "end", "kind": kind, "name": name, "ok": False, "error": reason, "seconds": None}
    return {**event, _OF_US: True} if unknown else event


def undecided_files(events: Iterable[Mapping[str, Any]]) -> Dict[str, List[List[str]]]:
    """The files that a copy of the asking process died of, by project: they may only not bear what was loaded there.

    Of each inner list one must load.
    """
    return {event["name"]: event["files"] for event in events if event.get("files")}


def replace_undecided(
    events: Iterable[Mapping[str, Any]], settled: Sequence[Mapping[str, Any]]
) -> List[Mapping[str, Any]]:
    """The events, with the answers of the process that was asked again in the place of what it could settle."""
    answers = [event for event in settled if event.get("event") == "end" and event.get("kind") == "native"]
    names = {event["name"] for event in answers}
    return [event for event in events if not (event.get("files") and event["name"] in names)] + answers


def explain_deaths(events: Iterable[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Where loading a file ended a process, its last words become the error."""
    explained: List[Mapping[str, Any]] = []
    for event in events:
        if event.get("event") == "end" and isinstance(event.get("status"), int):
            ending = describe_end(name_of_status(event["status"]), event.get("stderr", ""))
            file = event.get("file", "").rpartition("/")[2]
            event = {**event, "error": f"{file}: {ending}"}
        explained.append(event)
    return explained


def make_report(
    events: Sequence[Mapping[str, Any]],
    *,
    torch: Optional[TorchBuild],
    asked: str,
    seconds: float,
    unmet: Sequence[str] = (),
    crashed: Optional[str] = None,
) -> HealthReport:
    """One report from the answers of one or more processes. `torch`: what its files say, a loader is not asked."""
    imports: Dict[str, ImportResult] = {}
    operations: Dict[str, ImportResult] = {}
    warnings: List[str] = []
    libraries: Tuple[str, ...] = ()
    library: Optional[DriverLibrary] = None
    folder = str(torch.folder) if torch and torch.folder and asked == "loader" else None
    version, cuda = (torch.runtime_version, torch.cuda) if torch and asked == "loader" else (None, None)
    available: Optional[bool] = None
    devices: Optional[int] = None
    for event in events:
        kind = event.get("event")
        if kind == "torch":
            version, cuda, folder = event["version"], event["cuda"], event["folder"]
        elif kind == "cuda":
            available, devices = event["available"], event["devices"]
        elif kind == "libraries":
            libraries = tuple(event["paths"])
        elif kind == "libcuda":
            library = DriverLibrary(event["path"], event["cuda"], event["status"], event["devices"])
        elif kind == "warning":
            warnings.append(event["text"])
        elif kind == "end":
            result = ImportResult(event["ok"], event["seconds"], event["error"], event.get("unknown", False))
            if event["kind"] == "import":
                imports[event["name"]] = result
            elif event["kind"] == "cuda":
                if not event["ok"]:
                    operations[f"cuda {event['name']}"] = result
                    available = False
            else:
                name = event["name"] if event["kind"] == "operation" else f"{event['name']} native part"
                operations[name] = result
    return HealthReport(
        torch_version=version,
        accelerator=torch.accelerator if torch else None,
        torch_cuda=cuda,
        cuda_available=available,
        device_count=devices,
        imports=imports,
        operations=operations,
        warnings=tuple(warnings),
        unmet=tuple(unmet),
        asked=asked,
        seconds=seconds,
        crashed=crashed,
        libraries=libraries,
        torch_folder=folder,
        driver_library=library,
    )

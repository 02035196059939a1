"""HealthReport values: made from a process's answers, compared before against after.

The verdict is a sequence of findings; an error among them means: put everything back.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Collection, Container, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion

from safe_install.health.crash import describe_end, name_of_status
from safe_install.models import (
    DriverLibrary,
    Finding,
    HealthReport,
    ImportResult,
    InstalledDistribution,
    Severity,
    TorchBuild,
)
from safe_install.requirements import applies

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


def is_healthy(report: HealthReport) -> bool:
    """Nothing that was asked failed."""
    answers = (*report.imports.values(), *report.operations.values())
    return report.crashed is None and all(answer.ok for answer in answers)


def compare_health(
    before: HealthReport,
    after: HealthReport,
    *,
    requested: Collection[str],
    torch_requested: bool,
    cuda_loss_requested: bool = False,
) -> Tuple[Finding, ...]:
    """What got worse, as findings; an error among them means roll back.

    `requested`: modules and operations of what the person asked for: they must work even if they are new.
    `torch_requested`: torch itself was named, so its version may change. `cuda_loss_requested`: a CPU build was named.
    """
    findings: List[Finding] = []
    if not torch_requested:
        findings += _torch_moved(before, after)
    if after.crashed and not before.crashed and after.cuda_available is None:
        pass  # nothing was answered, which is an error of its own
    elif before.cuda_available and not after.cuda_available:
        severity = Severity.WARNING if cuda_loss_requested else Severity.ERROR
        findings.append(
            Finding(
                "cuda-lost",
                severity,
                "torch",
                f"torch.cuda.is_available() was True and is now {after.cuda_available}: {_reason(after)}",
                "The change that was tried does not fit this driver or replaced the CUDA build of torch.",
            )
        )
    elif (before.device_count or 0) > (after.device_count or 0) and before.cuda_available:
        findings.append(
            Finding(
                "devices-lost",
                Severity.ERROR,
                "torch",
                f"torch saw {before.device_count} GPUs before and {after.device_count} after",
            )
        )
    for check, old, new in (
        ("import-failed", before.imports, after.imports),
        ("operation-failed", before.operations, after.operations),
    ):
        findings += _got_worse(
            check, old, new, requested, unasked_was_good=before.asked == "loader", torch=after.torch_version
        )
    if after.crashed and not before.crashed:
        findings.append(
            Finding("check-crashed", Severity.ERROR, "torch", f"the process of the check ended: {after.crashed}")
        )
    for text in new_sentences(before.unmet, after.unmet):
        findings.append(
            Finding(
                "requirement-unmet",
                Severity.ERROR,
                text.split()[0],
                text,
                "Install versions that fit each other, in one command.",
            )
        )
    return tuple(findings)


def _torch_moved(before: HealthReport, after: HealthReport) -> Iterable[Finding]:
    if before.torch_version is None:
        return
    for what, old, new in (
        ("torch.__version__", before.torch_version, after.torch_version),
        ("torch.version.cuda", before.torch_cuda, after.torch_cuda),
    ):
        if new != old and after.torch_version is not None:
            yield Finding(
                "torch-moved",
                Severity.ERROR,
                "torch",
                f"{what} was {old} and is now {new}, although nobody asked for it",
                "--allow-torch-change permits it.",
            )
    if before.torch_folder and after.torch_folder and before.torch_folder != after.torch_folder:
        yield Finding(
            "torch-moved",
            Severity.ERROR,
            "torch",
            f"torch was imported from {before.torch_folder} and is now imported from {after.torch_folder}",
            "A file of this change puts another folder in front of it: a .pth file, a module named torch.",
        )


def _got_worse(
    check: str,
    before: Mapping[str, ImportResult],
    after: Mapping[str, ImportResult],
    requested: Collection[str],
    *,
    unasked_was_good: bool,
    torch: Optional[str],
) -> Iterable[Finding]:
    for name, answer in after.items():
        if answer.ok:
            continue
        if answer.unknown:
            # However it was before: what could not be asked was not verified.
            detail = f"{name} could not be asked: {first_line(answer.error)}"
            yield Finding(check, Severity.ERROR, name, detail, "Give the check more time: --check-timeout 20m.")
            continue
        old = before.get(name)
        # A loader is asked fewer questions than an import: what it was not asked is taken for good here, and the
        # caller asks the old environment again, in full, before it believes the worst.
        worse = (name == "torch" or unasked_was_good) if old is None else old.ok
        if worse or name.split(" ")[0] in requested:
            verb = "does not import" if check == "import-failed" else "fails"
            detail = f"{name} {verb}: {first_line(answer.error)}"
            yield Finding(check, Severity.ERROR, name, detail, hint_for(name, torch, answer.error))
        else:
            yield Finding(
                check,
                Severity.WARNING,
                name,
                f"{name} fails, as it did before: {first_line(answer.error)}"
                if old is not None
                else f"{name} fails: {first_line(answer.error)}",
                hint_for(name, torch, answer.error),
            )


LONGEST_LINE = 300  # characters

# Libraries of the operating system that wheels do not bring, and who does.
_MISSING_LIBRARIES: Tuple[Tuple[str, str], ...] = (
    (
        r"FFmpeg|libav(util|codec|format|device|filter)\.so",
        "Install FFmpeg: apt-get install ffmpeg, dnf install ffmpeg, or conda install ffmpeg.",
    ),
    (r"libGL\.so", "Install OpenGL's library: apt-get install libgl1, dnf install mesa-libGL."),
    (r"libgthread-2|libglib-2", "Install GLib: apt-get install libglib2.0-0, dnf install glib2."),
    (r"libgomp\.so", "Install GCC's OpenMP library: apt-get install libgomp1, dnf install libgomp."),
    (r"libsndfile\.so", "Install libsndfile: apt-get install libsndfile1, dnf install libsndfile."),
    (r"libsox\.so", "Install SoX: apt-get install libsox-dev, dnf install sox."),
    (r"libopenblas\.so", "Install OpenBLAS: apt-get install libopenblas0, dnf install openblas."),
    (r"libmpi\w*\.so", "Install MPI: apt-get install libopenmpi3, dnf install openmpi."),
)


def first_line(error: Optional[str]) -> str:
    """What an exception says first: torch appends advice and stacks of many lines. The JSON document has all of it."""
    lines = [line.strip() for line in (error or "").splitlines() if line.strip()]
    return lines[0][:LONGEST_LINE] if lines else "no reason was given"


def hint_for(name: str, torch: Optional[str], error: Optional[str] = None) -> str:
    """The remedy for a failed answer, where one is known. torch 2.3 is the first that was built for numpy 2."""
    release = re.match(r"(\d+)\.(\d+)", torch or "")
    if name == "torch.from_numpy" and release and (int(release.group(1)), int(release.group(2))) < (2, 3):
        return 'Ask for "numpy<2": torch before 2.3 was built for numpy 1.'
    if "no kernel image is available" in (error or ""):
        return "This build has no code for this GPU: take one that has, or build it with --target-gpu."
    for pattern, hint in _MISSING_LIBRARIES:
        if re.search(pattern, error or ""):
            return hint
    return ""


def _reason(after: HealthReport) -> str:
    """Why CUDA is not available, in torch's own words where it has any."""
    if after.torch_version is not None and after.torch_cuda is None:
        return f"torch {after.torch_version} is a build without CUDA"
    if after.warnings:
        return after.warnings[0]
    return _first_error(after) or "torch gives no reason"


def _first_error(report: HealthReport) -> Optional[str]:
    for answers in (report.imports, report.operations):
        for answer in answers.values():
            if not answer.ok:
                return answer.error
    return None


# --- requirements among the installed distributions ------------------------------------------------


def unmet_requirements(
    installed: Mapping[NormalizedName, InstalledDistribution],
    markers: Mapping[str, str],
    *,
    of: Optional[Container[NormalizedName]] = None,
) -> Tuple[str, ...]:
    """What pip says after an install of the distributions `of` (all, when None), as sentences, in order.

    Extras are not looked at: nobody knows which were asked for.
    """
    found: List[str] = []
    for name in sorted(installed):
        if of is not None and name not in of:
            continue
        distribution = installed[name]
        for text in distribution.requires:
            problem = _unmet(text, installed, markers)
            if problem:
                found.append(f"{name} {distribution.version} requires {problem}")
    return tuple(found)


def _unmet(
    text: str, installed: Mapping[NormalizedName, InstalledDistribution], markers: Mapping[str, str]
) -> Optional[str]:
    # Most requirements are met and most texts are plain; markers are the slow part of packaging.
    if "extra ==" in text or "extra==" in text:
        return None
    try:
        requirement = Requirement(text)
        if not applies(requirement, markers):
            return None
    except (InvalidRequirement, InvalidVersion, KeyError):
        return None  # an old distribution's metadata is not ours to judge
    found = installed.get(canonicalize_name(requirement.name))
    wanted = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return f"{wanted}, which is not installed."
    try:
        fits = requirement.specifier.contains(found.version, prereleases=True)
    except InvalidVersion:
        return None
    return None if fits else f"{wanted}, but you have {found.name} {found.version} which is incompatible."


def new_sentences(before: Iterable[str], after: Iterable[str]) -> Tuple[str, ...]:
    """The sentences of `after` about requirements that `before` says nothing of. One that was not met before, and is
    not met by another version now, is not new."""
    known = {text.partition(", ")[0] for text in before}
    return tuple(text for text in after if text.partition(", ")[0] not in known)


def dependents_of(
    names: Collection[NormalizedName], installed: Mapping[NormalizedName, InstalledDistribution]
) -> Set[NormalizedName]:
    """The distributions that require one of `names`."""
    found: Set[NormalizedName] = set()
    for name, distribution in installed.items():
        for text in distribution.requires:
            match = re.match(r"[A-Za-z0-9._-]+", text)
            if match is not None and canonicalize_name(match.group()) in names:
                found.add(name)
    return found


def check_cuda_required(report: HealthReport, cause: Optional[Finding] = None) -> Tuple[Finding, ...]:
    """`--require-cuda`: available or an error. `cause`: what a diagnosis found."""
    if report.cuda_available:
        return ()
    if cause is not None:
        detail = f"CUDA is required and torch.cuda.is_available() is not True: {cause.detail}"
        return (Finding("cuda-required", Severity.ERROR, "torch", detail, cause.hint),)
    reason, hint = _reason(report), "Start the container with its GPUs (docker run --gpus all), or repair the driver."
    if report.cuda_available is None:
        reason = _why_not_asked(report)
    if not _is_imported(report):
        hint = "Make torch import first: what its import says is above."
    elif _is_cpu_build(report):
        hint = "Install a CUDA build of this torch: https://pytorch.org/get-started/locally has its index."
    detail = f"CUDA is required and torch.cuda.is_available() is not True: {reason}"
    return (Finding("cuda-required", Severity.ERROR, "torch", detail, hint),)


def _why_not_asked(report: HealthReport) -> str:
    if not _is_imported(report):
        return f"torch does not import: {report.imports['torch'].error}"
    if report.crashed is not None:
        return f"the check did not end: {report.crashed}"
    if _is_cpu_build(report):
        return f"torch {report.torch_version} is built without CUDA"
    return "there is no NVIDIA driver here (libcuda.so.1 is not found)"


def _is_cpu_build(report: HealthReport) -> bool:
    """No driver would help this torch."""
    return report.torch_version is not None and report.torch_cuda is None and report.accelerator in (None, "cpu")


def _is_imported(report: HealthReport) -> bool:
    torch = report.imports.get("torch")
    return torch is None or torch.ok

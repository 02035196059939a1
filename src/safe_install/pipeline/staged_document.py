"""A prepared change as JSON, and back. Others may have written to the file, so everything in it is
checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple, TypeVar

from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from safe_install.environment.stamp import Stamp, State
from safe_install.errors import Refused
from safe_install.health.answers import Subject
from safe_install.models import (
    Action,
    Finding,
    InstalledDistribution,
    Origin,
    Plan,
    Severity,
    Step,
    TorchBuild,
)
from safe_install.pipeline.commit import PreparedChange
from safe_install.pipeline.health_gate import Expectation, UnpackedFile
from safe_install.redaction import redact

SCHEMA = 1
_LONGEST_TEXT = 20_000  # letters
_MAX_ROWS = 500_000
_CHECK = re.compile(r"[a-z0-9-]{1,100}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Value = TypeVar("Value")


@dataclass(frozen=True)
class StagedDocument:
    """A prepared change, with the environment that it was prepared for."""

    id: str
    prefix: str  # a real path; the paths in the stage are below it
    python: str  # "3.11.7"
    stage_hash: str  # `transaction.tree.hash_stage`
    stamp: Stamp  # of the environment when it was staged
    change: PreparedChange


# --- written --------------------------------------------------------------------------------------


def make_document(staged: StagedDocument) -> Dict[str, object]:
    """The JSON object, without passwords of URLs."""
    change = staged.change
    files = [_make_file(name, change.files[name]) for name in sorted(change.files)]
    return {
        "schema": SCHEMA,
        "id": staged.id,
        "prefix": staged.prefix,
        "python": staged.python,
        "stage": staged.stage_hash,
        "command": list(change.command),
        "requested": list(map(redact, change.requested)),
        "steps": list(map(_make_step, change.plan.steps)),
        "coming": list(map(_make_subject, change.coming)),
        "files": files,
        "expectation": _make_expectation(change.expectation),
        "path_warnings": list(change.path_warnings),
        "findings": list(map(_make_finding, change.findings)),
        "stamp": {path: list(state) for path, state in staged.stamp.states.items()},
    }


def _make_step(step: Step) -> Dict[str, object]:
    return {
        "action": step.action.value,
        "name": step.name,
        "version": step.version,
        "from_version": step.from_version,
        "url": None if step.url is None else redact(step.url),
        "sha256": step.sha256,
        "origin": step.origin.value,
        "requested": step.requested,
        "because": redact(step.because),
        "is_direct": step.is_direct,
        "is_hosted": step.is_hosted,
        "records_address": step.records_address,
        "requires": [redact(text) for text in step.requires],
        "written_name": step.written_name,
    }


def _make_file(name: NormalizedName, unpacked: UnpackedFile) -> Dict[str, object]:
    return {"name": name, "sha256": unpacked.sha256, "size": unpacked.size}


def _make_subject(subject: Subject) -> Dict[str, object]:
    """Without the Python code that the check would run: that is only taken from the wheel index."""
    return {
        "name": subject.name,
        "imports": list(subject.imports),
        "native": list(subject.native),
    }


def _make_expectation(expectation: Expectation) -> Dict[str, object]:
    torch = expectation.coming_torch
    return {
        "requested": sorted(expectation.requested),
        "coming_torch": None if torch is None else _make_torch(torch),
        "torch_requested": expectation.torch_requested,
        "cuda_loss_requested": expectation.cuda_loss_requested,
        "require_cuda": expectation.require_cuda,
        "no_rollback": expectation.no_rollback,
        "may_miss": sorted(expectation.may_miss),
        "built": list(expectation.built),
    }


def _make_torch(torch: TorchBuild) -> Dict[str, object]:
    return {
        "version": str(torch.version),
        "runtime_version": torch.runtime_version,
        "accelerator": torch.accelerator,
        "cuda": torch.cuda,
    }


def _make_finding(finding: Finding) -> Dict[str, object]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "subject": finding.subject,
        "detail": redact(finding.detail),
        "hint": redact(finding.hint),
    }


# --- read -----------------------------------------------------------------------------------------


def parse_document(
    document: object, find_subject: Callable[[NormalizedName], Optional[Subject]]
) -> StagedDocument:
    """The change of a JSON object. `find_subject`: what the wheel index asks about a project; None
    for a project that it does not know. Errors: Refused."""
    try:
        return _parse(document, find_subject)
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(
            f"the staged change cannot be read: {str(error)[:200]}",
            hint="Abandon it, and stage it again.",
        ) from error


def _parse(
    document: object, find_subject: Callable[[NormalizedName], Optional[Subject]]
) -> StagedDocument:
    keys = (
        "schema id prefix python stage command requested steps coming files expectation "
        "path_warnings findings stamp"
    )
    found = _object(document, keys)
    if found["schema"] != SCHEMA or isinstance(found["schema"], bool):
        raise ValueError(f"schema {found['schema']!r}, known is {SCHEMA}")
    steps = _rows(found["steps"], _parse_step)
    if len({step.name for step in steps}) != len(steps) or not steps:
        raise ValueError("steps: each distribution once, and one at least")
    change = PreparedChange(
        Plan(steps),
        command=_texts(found["command"]),
        requested=_texts(found["requested"]),
        coming=_rows(found["coming"], lambda row: _parse_subject(row, find_subject)),
        files=dict(_rows(found["files"], _parse_file)),
        expectation=_parse_expectation(found["expectation"]),
        path_warnings=_texts(found["path_warnings"]),
        findings=_rows(found["findings"], _parse_finding),
    )
    return StagedDocument(
        _text(found["id"]),
        prefix=_text(found["prefix"]),
        python=_text(found["python"]),
        stage_hash=_sha256(found["stage"]),
        stamp=_parse_stamp(found["stamp"]),
        change=change,
    )


def _parse_step(row: object) -> Step:
    keys = (
        "action name version from_version url sha256 origin requested because is_direct is_hosted "
        "records_address requires written_name"
    )
    found = _object(row, keys)
    return Step(
        Action(_text(found["action"])),
        _name(found["name"]),
        _optional(found["version"], _text),
        from_version=_optional(found["from_version"], _text),
        url=_optional(found["url"], _text),
        sha256=_optional(found["sha256"], _sha256),
        origin=Origin(_text(found["origin"])),
        requested=_flag(found["requested"]),
        because=_text(found["because"]),
        is_direct=_flag(found["is_direct"]),
        is_hosted=_flag(found["is_hosted"]),
        records_address=_flag(found["records_address"]),
        requires=_texts(found["requires"]),
        written_name=_text(found["written_name"]),
    )


def _parse_file(row: object) -> Tuple[NormalizedName, UnpackedFile]:
    found = _object(row, "name sha256 size")
    size = found["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise TypeError("the size of a file is missing")
    return _name(found["name"]), UnpackedFile(_sha256(found["sha256"]), size)


def _parse_subject(
    row: object, find_subject: Callable[[NormalizedName], Optional[Subject]]
) -> Subject:
    """Modules to import and patterns of files below site-packages; no code."""
    found = _object(row, "name imports native")
    name, imports, native = _name(found["name"]), _texts(found["imports"]), _texts(found["native"])
    known = find_subject(name)
    if known is not None:
        return known
    if not all(part.isidentifier() for module in imports for part in module.split(".")):
        raise ValueError(f"{name}: what is imported is no module")
    if any(path.startswith("/") or ".." in path.split("/") for path in native):
        raise ValueError(f"{name}: a file outside of site-packages")
    return Subject(name, imports, native)


def _parse_expectation(row: object) -> Expectation:
    keys = (
        "requested coming_torch torch_requested cuda_loss_requested require_cuda no_rollback "
        "may_miss built"
    )
    found = _object(row, keys)
    return Expectation(
        requested=frozenset(_texts(found["requested"])),
        coming_torch=_optional(found["coming_torch"], _parse_torch),
        torch_requested=_flag(found["torch_requested"]),
        cuda_loss_requested=_flag(found["cuda_loss_requested"]),
        require_cuda=_flag(found["require_cuda"]),
        no_rollback=_flag(found["no_rollback"]),
        may_miss=frozenset(_texts(found["may_miss"])),
        built=_texts(found["built"]),
    )


def _parse_torch(row: object) -> TorchBuild:
    found = _object(row, "version runtime_version accelerator cuda")
    return TorchBuild(
        Version(_text(found["version"])),
        _text(found["runtime_version"]),
        _text(found["accelerator"]),
        cuda=_optional(found["cuda"], _text),
    )


def _parse_finding(row: object) -> Finding:
    found = _object(row, "check severity subject detail hint")
    check = _text(found["check"])
    if _CHECK.fullmatch(check) is None:
        raise ValueError(f"{check!r} is no check")
    return Finding(
        check,
        Severity(_text(found["severity"])),
        _text(found["subject"]),
        _text(found["detail"]),
        _text(found["hint"]),
    )


def _parse_stamp(value: object) -> Stamp:
    if not isinstance(value, dict) or len(value) > _MAX_ROWS:
        raise TypeError("stamp: no object, or too large")
    return Stamp({path: _parse_state(state) for path, state in value.items()})


def _parse_state(value: object) -> State:
    if not isinstance(value, list) or [type(one) for one in value] != [int, int]:
        raise TypeError("stamp: a state is two numbers")
    return value[0], value[1]


def _object(value: object, keys: str) -> Mapping[str, object]:
    """An object with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(keys.split()):
        raise TypeError(f"not an object of {keys}")
    return value


def _rows(value: object, read: Callable[[object], Value]) -> Tuple[Value, ...]:
    if not isinstance(value, list) or len(value) > _MAX_ROWS:
        raise TypeError("a list is missing, or too long")
    return tuple(read(row) for row in value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or "\0" in value:
        raise TypeError("a text is missing, or too long")
    return value


def _texts(value: object) -> Tuple[str, ...]:
    return _rows(value, _text)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("true or false is missing")
    return value


def _optional(value: object, read: Callable[[object], Value]) -> Optional[Value]:
    return None if value is None else read(value)


def _sha256(value: object) -> str:
    text = _text(value)
    if _SHA256.fullmatch(text) is None:
        raise ValueError("no sha256")
    return text


def _name(value: object) -> NormalizedName:
    text = _text(value)
    if not text or canonicalize_name(text) != text:
        raise ValueError(f"{text!r} is not the name of a project")
    return NormalizedName(text)


# --- does it still fit? ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Misfit:
    """Why a staged change cannot be committed now."""

    reason: str
    hint: str
    moved: Tuple[str, ...] = ()  # paths that were changed since; absolute


STAGE_AGAIN = "Stage it again."


def find_misfit(
    staged: StagedDocument,
    *,
    prefix: str,
    python: str,
    installed: Mapping[NormalizedName, InstalledDistribution],
    stamp: Stamp,
    stage_hash: Optional[str],
    in_stage: FrozenSet[NormalizedName],
) -> Optional[Misfit]:
    """Compare a staged change with the environment now, and with the files of its stage. `prefix`:
    a real path. `in_stage`: the distributions in the stage. None where all fits."""
    if staged.prefix != prefix:
        return Misfit(
            f"it was staged for {staged.prefix}, and this environment is {prefix}: it was copied, "
            "or moved",
            "Stage it here.",
        )
    if staged.python != python:
        return Misfit(f"it was staged for Python {staged.python}, here is {python}", STAGE_AGAIN)
    moved = staged.stamp.changed(stamp)
    if moved:
        return Misfit(
            "the environment has changed since it was staged",
            "Undo what changed it (safe-install history), or stage it again.",
            moved,
        )
    steps = staged.change.plan.steps
    coming = {step.name for step in steps if step.action is not Action.REMOVE}
    if stage_hash != staged.stage_hash or in_stage != coming:
        return Misfit("its files are not those that were staged", STAGE_AGAIN)
    if not _begins_with(steps, installed):
        return Misfit("its steps do not begin with what is installed", STAGE_AGAIN)
    return None


def has_same_files(
    staged: StagedDocument, plan: Plan, hashes: Mapping[NormalizedName, str]
) -> bool:
    """Does a plan install the same files as the staged one? `hashes`: the sha256 of files that are
    on disk."""
    rows = [_make_step(step) for step in plan.steps]
    if rows != [_make_step(step) for step in staged.change.plan.steps]:
        return False
    files = staged.change.files
    known = [name for name in files if name in hashes]
    return all(files[name].sha256 == hashes[name] for name in known)


def _begins_with(
    steps: Sequence[Step], installed: Mapping[NormalizedName, InstalledDistribution]
) -> bool:
    """Is everything that the steps replace or remove installed, in that version?"""
    for step in steps:
        if step.action is Action.ADD:
            continue
        present = installed.get(step.name)
        if present is None or present.version != step.from_version:
            return False
    return True

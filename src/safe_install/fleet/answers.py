"""Reads the answer of a node, which is not trusted: with limits, a closed schema, and no control
characters in texts. An invalid answer is a value with its reason."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from typing import Callable, FrozenSet, List, Mapping, Optional, Pattern, Tuple, TypeVar

from safe_install.fleet.engine import MAX_ANSWER, Reply
from safe_install.redaction import redact

LONGEST = 400  # characters of a text
MAX_ROWS = 20_000  # of a list
MAX_WHEELS = 1000  # of a cache
MAX_DIGITS = 20  # of a number; an inode has up to 20
NO_ANSWER = "it did not answer"
_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,8}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,100}[a-z0-9])?")
_WORD = re.compile(r"[a-z0-9-]{1,60}")
_VERSION = re.compile(r"[A-Za-z0-9][\w.+!-]{0,99}", re.ASCII)
_PLATFORM = re.compile(r"[A-Za-z0-9][\w.-]{0,59}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CAPABILITY = re.compile(r"\d{1,3}\.\d{1,2}")

Value = TypeVar("Value")


@dataclass(frozen=True)
class NodeTorch:
    """The torch of a node."""

    version: str  # "2.8.0+cu126"
    accelerator: str
    cxx11_abi: Optional[bool]


@dataclass(frozen=True)
class DriverFacts:
    """The NVIDIA driver of a node, and its GPUs."""

    version: str  # "535.104.05"; "" if it is not known
    cuda: str
    gpus: Tuple[str, ...]  # the names of the devices
    capabilities: Tuple[str, ...]  # of each device: "8.0"


@dataclass(frozen=True)
class NodeFacts:
    """A node's `inventory`."""

    host: str
    python: str  # "3.11.7"
    prefix: str
    platform: str
    libc: Tuple[str, str]  # ("glibc", "2.36"); ("", "") where it is not known
    torch: Optional[NodeTorch]
    driver: Optional[DriverFacts]
    distributions: Mapping[str, Tuple[str, str]]  # name -> version, the hash of its files
    tree: str  # one hash for all of them
    head: str  # the ID of the last change
    place: Tuple[int, int]  # device and inode of the environment
    marker: str = ""  # the environment's own identifier if it has one
    wheels: Tuple[str, ...] = ()  # the SHA-256 of the wheels in its cache


@dataclass(frozen=True)
class StepFacts:
    """One step of a plan."""

    name: str
    old: str  # the version before; "" if it was not installed
    new: str  # the version after; "" if it is removed


@dataclass(frozen=True)
class Answer:
    """A node's answer to one verb, as far as it is used."""

    node: str
    problem: str = ""  # why the answer cannot be used; the other fields are then empty
    status: int = 0  # exit status
    outcome: str = ""
    transaction: str = ""
    state: str = ""  # of the change that was asked about
    message: str = ""  # of its error, or of its first finding with severity "error"
    steps: Tuple[StepFacts, ...] = ()
    errors: FrozenSet[Tuple[str, str]] = frozenset()  # (check, subject) of findings
    facts: Optional[NodeFacts] = None


class _Wrong(Exception):
    """The document is not an answer to this verb."""


def parse_reply(reply: Reply, verb: str, identifier: str = "") -> Answer:
    """Parse a node's reply to a verb. `identifier`: of the change that it was asked about."""
    if reply.status is None:
        return Answer(reply.node, problem=clean(reply.problem) or NO_ANSWER)
    try:
        document = _load(reply.output)
        return _read(reply, document, verb, identifier)
    except (_Wrong, ValueError, RecursionError) as error:
        problem = f"its answer cannot be used: {clean(str(error))}"
        stderr = clean(reply.problem)
        if stderr:
            problem = f"{problem} ({stderr})"
        return Answer(reply.node, problem=problem)


def clean(text: str) -> str:
    """A text of a node as one short line, without control characters and secrets."""
    line = " ".join(redact(text[: 4 * LONGEST]).split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= LONGEST else f"{printable[: LONGEST - 3]}..."


def _load(output: bytes) -> Mapping[str, object]:
    if len(output) > MAX_ANSWER:
        raise _Wrong(f"it is longer than {MAX_ANSWER} bytes")
    try:
        document = json.loads(output.decode("utf-8"), parse_int=_integer)
    except ValueError as error:
        raise _Wrong("it is no JSON document") from error
    return _object(document)


def _integer(text: str) -> int:
    """Refuse long numbers: `int` takes very long for millions of digits."""
    if len(text) > MAX_DIGITS:
        raise _Wrong("a number is too long")
    return int(text)


def _read(reply: Reply, document: Mapping[str, object], verb: str, identifier: str) -> Answer:
    if _number(document.get("schema")) != 1:
        raise _Wrong("it has another schema")
    if document.get("command") != verb:
        raise _Wrong(f"it is no answer to {verb}")
    status = _number(document.get("exit_code"))
    if status != reply.status:
        raise _Wrong("it contradicts the exit status")
    details = _object(document.get("details"))
    if identifier and verb in ("commit", "abandon", "undo"):
        _compare_id(document, details, verb, identifier)
    errors, first = _read_findings(document.get("findings"))
    return Answer(
        reply.node,
        status=status,
        outcome=_matching(_WORD, document.get("outcome"), "outcome"),
        transaction=_optional(document.get("transaction"), _identifier) or "",
        state=_read_state(verb, details, identifier),
        message=_read_error(document.get("error")) or first,
        steps=_read_steps(document.get("plan")),
        errors=errors,
        facts=_read_facts(document, details) if verb == "inventory" and status == 0 else None,
    )


def _compare_id(
    document: Mapping[str, object], details: Mapping[str, object], verb: str, identifier: str
) -> None:
    """Refuse an answer about another change. `transaction` of an undo is the undo's own ID."""
    named = [details.get("id")]
    if verb == "commit":
        named.append(document.get("transaction"))
    if any(one not in (None, identifier) for one in named):
        raise _Wrong("it speaks of another change")


def _read_state(verb: str, details: Mapping[str, object], identifier: str) -> str:
    if verb != "status":
        return _optional(details.get("state"), lambda one: _matching(_WORD, one, "state")) or ""
    rows = [_object(row) for row in _list(details.get("changes"))]
    states = [row.get("state") for row in rows if row.get("id") == identifier]
    return _matching(_WORD, states[0], "state") if states else ""


def _read_error(value: object) -> str:
    if value is None:
        return ""
    return clean(_text(_object(value).get("message"), "error"))


def _read_findings(value: object) -> Tuple[FrozenSet[Tuple[str, str]], str]:
    """The errors among the findings as (check, subject), and the detail of the first one."""
    errors: List[Tuple[str, str]] = []
    first = ""
    for item in _list(value):
        row = _object(item)
        if row.get("severity") == "error":
            check = _matching(_WORD, row.get("check"), "check")
            errors.append((check, clean(_text(row.get("subject"), "subject"))))
            first = first or clean(_text(row.get("detail"), "detail"))
    return frozenset(errors), first


def _read_steps(value: object) -> Tuple[StepFacts, ...]:
    found = []
    for item in _list(_object(value).get("steps")):
        row = _object(item)
        name = _matching(_NAME, row.get("name"), "name")
        old = _optional(row.get("from_version"), _version) or ""
        new = _optional(row.get("version"), _version) or ""
        found.append(StepFacts(name, old, new))
    return tuple(found)


def _read_facts(document: Mapping[str, object], details: Mapping[str, object]) -> NodeFacts:
    environment = _object(document.get("environment"))
    place = _object(details.get("place"))
    history = _object(details.get("history"))
    return NodeFacts(
        host=clean(_text(details.get("host"), "host")),
        python=_version(environment.get("python")),
        prefix=clean(_text(environment.get("prefix"), "prefix")),
        platform=_matching(_PLATFORM, environment.get("platform"), "platform"),
        libc=_read_libc(environment.get("libc")),
        torch=_optional(environment.get("torch"), _read_torch),
        driver=_optional(environment.get("driver"), _read_driver),
        distributions=_read_distributions(details.get("distributions")),
        tree=_matching(_SHA256, _object(details.get("tree")).get("sha256"), "tree"),
        head=_optional(history.get("head"), _identifier) or "",
        place=(_number(place.get("device")), _number(place.get("inode"))),
        marker=_optional(place.get("marker"), lambda one: clean(_text(one, "marker"))) or "",
        wheels=_optional(details.get("wheels"), _read_wheels) or (),
    )


def _read_libc(value: object) -> Tuple[str, str]:
    name, _, version = _text(value, "libc").partition(" ")
    return (_version(name), _version(version)) if version else ("", "")


def _read_torch(value: object) -> NodeTorch:
    row = _object(value)
    abi = row.get("cxx11_abi")
    if abi is not None and not isinstance(abi, bool):
        raise _Wrong("cxx11_abi is neither true nor false")
    version = _version(row.get("version"))
    return NodeTorch(version, _matching(_PLATFORM, row.get("accelerator"), "accelerator"), abi)


def _read_driver(value: object) -> DriverFacts:
    row = _object(value)
    devices = [_object(device) for device in _list(row.get("devices"))]
    names = [clean(_text(one.get("name"), "name")) for one in devices]
    found = [_matching(_CAPABILITY, one.get("compute_capability"), "GPU") for one in devices]
    version = _optional(row.get("version"), _version) or ""
    cuda = _optional(row.get("cuda"), _version) or ""
    return DriverFacts(version, cuda, tuple(names), tuple(found))


def _read_distributions(value: object) -> Mapping[str, Tuple[str, str]]:
    found = {}
    for item in _list(value):
        row = _object(item)
        name = _matching(_NAME, row.get("name"), "name")
        sha256 = _optional(row.get("sha256"), lambda one: _matching(_SHA256, one, "sha256"))
        version = clean(_text(row.get("version"), "version"))  # METADATA may have any text there
        # Thousands of nodes have the same texts.
        found[sys.intern(name)] = (sys.intern(version), sys.intern(sha256 or ""))
    return found


def _read_wheels(value: object) -> Tuple[str, ...]:
    rows = _list(value)
    if len(rows) > MAX_WHEELS:
        raise _Wrong("it names too many wheels")
    # Thousands of nodes have the same texts.
    return tuple(sys.intern(_matching(_SHA256, one, "sha256")) for one in rows)


# --- values ---------------------------------------------------------------------------------------


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _Wrong("an object is missing")
    return value


def _list(value: object) -> List[object]:
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise _Wrong("a list is missing, or too long")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{what} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Wrong("a number is missing")
    return value


def _matching(pattern: Pattern[str], value: object, what: str) -> str:
    text = _text(value, what)
    if pattern.fullmatch(text) is None:
        raise _Wrong(f"{what} is not what stands there")
    return text


def _identifier(value: object) -> str:
    return _matching(_ID, value, "an ID")


def _version(value: object) -> str:
    return _matching(_VERSION, value, "a version")


def _optional(value: object, read: Callable[[object], Value]) -> Optional[Value]:
    return None if value is None else read(value)

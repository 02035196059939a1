"""Groups the processes of a cluster by their environments; each environment is a node. Pure. What a
process says is not trusted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

from safe_install.fleet.engine import Node

MAX_TEXT = 1024  # characters of a name or a path
MAX_HEAD = 64 * 1024  # bytes of the JSON of an answer
_TEXTS = ("host", "python", "prefix")


class InvalidAnswer(Exception):
    """A process did not answer the question; the message is the reason."""


@dataclass(frozen=True)
class Member:
    """A process of a cluster and its environment."""

    address: str  # as the cluster names the process
    host: str
    python: str  # sys.executable
    prefix: str  # sys.prefix
    place: Tuple[str, ...]  # equal where two processes have the same folder on the same machine


@dataclass(frozen=True)
class Group:
    """A node, and the processes through which it can be reached."""

    node: Node
    addresses: Tuple[str, ...]


def split_answer(answer: object) -> Tuple[Dict[str, object], bytes]:
    """The JSON object in the first line of an answer, and the bytes after it. Errors:
    InvalidAnswer."""
    if not isinstance(answer, bytes):
        raise InvalidAnswer(f"the answer is no bytes but {type(answer).__name__}")
    head, _, body = answer.partition(b"\n")
    if len(head) > MAX_HEAD:
        raise InvalidAnswer(f"the answer begins with a line of {len(head)} bytes")
    try:
        value = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer("the answer is no JSON") from error
    if not isinstance(value, dict):
        raise InvalidAnswer("the answer is no JSON object")
    if "problem" in value:
        raise InvalidAnswer(_printable(str(value["problem"])))
    return value, body


def read_member(address: str, answer: object) -> Member:
    """The process at this address. Errors: InvalidAnswer."""
    head, _ = split_answer(answer)
    host, python, prefix = (_text(head, key) for key in _TEXTS)
    if not python.startswith("/") or not prefix.startswith("/"):
        raise InvalidAnswer("its Python has no path of its own")
    place = head.get("place")
    if not isinstance(place, list) or not place:
        raise InvalidAnswer("it does not say where its environment lies")
    return Member(address, host, python, prefix, tuple(str(part) for part in place))


def _text(head: Mapping[str, object], key: str) -> str:
    value = head.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidAnswer(f"it does not say its {key}")
    if len(value) > MAX_TEXT or not value.isprintable():
        raise InvalidAnswer(f"its {key} is no name that can be shown")
    return value


def _printable(text: str) -> str:
    """A reason that a process gives, in one line without control characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[:MAX_TEXT])
    return line.strip() or "it gives no reason"


def group_members(members: Sequence[Member]) -> Tuple[Group, ...]:
    """One group for each environment, sorted by name."""
    by_place: Dict[Tuple[str, ...], List[Member]] = {}
    for member in members:
        by_place.setdefault(member.place, []).append(member)
    names = Counter(_name(group[0]) for group in by_place.values())
    groups = [_make_group(group, names) for group in by_place.values()]
    return tuple(sorted(groups, key=lambda group: group.node.name))


def _name(member: Member) -> str:
    return f"{member.host}:{member.prefix}"


def _make_group(members: Sequence[Member], names: Mapping[str, int]) -> Group:
    """Where two environments have the same name, the address of a process is added."""
    first = members[0]
    name = _name(first)
    if names[name] > 1:
        name = f"{name} ({first.address})"
    return Group(Node(name, first.python), tuple(member.address for member in members))

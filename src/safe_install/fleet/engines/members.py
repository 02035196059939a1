"""Processes of a cluster -> the environments that they share, each of them a node. Decisions only:
what a process says of itself is not trusted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from safe_install.fleet.engine import Node

MOST_TEXT = 1024  # characters of a name or a path
MOST_HEAD = 64 * 1024  # bytes of the JSON of an answer
_TEXTS = ("host", "python", "prefix")


class Unclear(Exception):
    """A process did not say what it was asked; the reason."""


@dataclass(frozen=True)
class Member:
    """A process, as the cluster addresses it, and its environment as it describes that."""

    address: str
    host: str
    python: str
    prefix: str
    place: Tuple[str, ...]  # equal: the same folder of the same running machine


@dataclass(frozen=True)
class Group:
    """A node, and the processes through which it can be reached."""

    node: Node
    addresses: Tuple[str, ...]


def split_answer(answer: object) -> Tuple[Dict[str, Any], bytes]:
    """The JSON at the head of an answer, and what follows. Errors: Unclear."""
    if not isinstance(answer, bytes):
        raise Unclear(f"the answer is no bytes but {type(answer).__name__}")
    head, _, body = answer.partition(b"\n")
    if len(head) > MOST_HEAD:
        raise Unclear(f"the answer begins with a line of {len(head)} bytes")
    try:
        value = json.loads(head)
    except (ValueError, RecursionError) as error:
        raise Unclear("the answer is no JSON") from error
    if not isinstance(value, dict):
        raise Unclear("the answer is no JSON object")
    if "problem" in value:
        raise Unclear(_printable(str(value["problem"])))
    return value, body


def read_member(address: str, answer: object) -> Member:
    """The process at this address. Errors: Unclear."""
    said, _ = split_answer(answer)
    host, python, prefix = (_text(said, key) for key in _TEXTS)
    if not python.startswith("/") or not prefix.startswith("/"):
        raise Unclear("its Python has no path of its own")
    place = said.get("place")
    if not isinstance(place, list) or not place:
        raise Unclear("it does not say where its environment lies")
    return Member(address, host, python, prefix, tuple(str(part) for part in place))


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not value:
        raise Unclear(f"it does not say its {key}")
    if len(value) > MOST_TEXT or not value.isprintable():
        raise Unclear(f"its {key} is no name that can be shown")
    return value


def _printable(text: str) -> str:
    """A reason from outside, on one line."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[:MOST_TEXT])
    return shown.strip() or "it gives no reason"


def group_members(members: Sequence[Member]) -> Tuple[Group, ...]:
    """One group for each environment, by name."""
    by_place: Dict[Tuple[str, ...], List[Member]] = {}
    for member in members:
        by_place.setdefault(member.place, []).append(member)
    names = Counter(_name(group[0]) for group in by_place.values())
    groups = [_make_group(group, names) for group in by_place.values()]
    return tuple(sorted(groups, key=lambda group: group.node.name))


def _name(member: Member) -> str:
    return f"{member.host}:{member.prefix}"


def _make_group(members: Sequence[Member], names: Mapping[str, int]) -> Group:
    """Machines may have the same name: then the address tells them apart."""
    first = members[0]
    name = _name(first)
    if names[name] > 1:
        name = f"{name} ({first.address})"
    return Group(Node(name, first.python), tuple(member.address for member in members))

"""The journal as values: the renames of a change, their encoding, and the reverse change. Pure.

`recovery` reads a journal from disk and undoes it, and describes the format; it must work alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_type_hints,
)

from safe_install.models import JsonValue
from safe_install.transaction.recovery.rows import (
    FORMAT,
    DirectoryTimes,
    Exchange,
    Identity,
    MadeDirectory,
    MoveIn,
    MoveOut,
    RemovedDirectory,
)

Row = TypeVar("Row", bound=Tuple[object, ...])  # of a journal
Value = TypeVar("Value")


@dataclass(frozen=True)
class Journal:
    """One change, in the order of its steps; it is undone in reverse order.

    Targets are relative to the prefix, slots to its `.safe-install` directory, both with `/`.
    """

    id: str
    command: Tuple[str, ...]
    created: float  # seconds since the epoch
    exchanges: Tuple[Exchange, ...] = ()
    outs: Tuple[MoveOut, ...] = ()
    rmdirs: Tuple[RemovedDirectory, ...] = ()  # deepest first
    mkdirs: Tuple[MadeDirectory, ...] = ()  # parents first
    ins: Tuple[MoveIn, ...] = ()
    times: Tuple[DirectoryTimes, ...] = ()
    undoes: Optional[str] = None  # the ID of the transaction that this one undoes
    facts: Mapping[str, JsonValue] = field(default_factory=dict)  # versions of Python, for people

    @property
    def leaving(self) -> Tuple[Tuple[str, Identity], ...]:
        """(target, identity before) of everything that the change moves out."""
        replaced = [(pair.target, pair.old) for pair in self.exchanges]
        removed = [(gone.target, gone.old) for gone in self.outs]
        return (*replaced, *removed)

    @property
    def coming(self) -> Tuple[Tuple[str, str], ...]:
        """(slot, target) of everything that the change moves in."""
        replacing = [(pair.slot, pair.target) for pair in self.exchanges]
        added = [(new.slot, new.target) for new in self.ins]
        return (*replacing, *added)


_ROWS = {
    "exchanges": Exchange,
    "outs": MoveOut,
    "rmdirs": RemovedDirectory,
    "mkdirs": MadeDirectory,
    "ins": MoveIn,
    "times": DirectoryTimes,
}
_TYPES = {kind: tuple(get_type_hints(kind).values()) for kind in _ROWS.values()}  # of the fields
_LAST_MOMENT = 250_000_000_000.0  # in the year 9892; datetime ends with 9999


def make_document(journal: Journal) -> Dict[str, JsonValue]:
    """The JSON object of a journal. Each row is a list of its fields, in order."""
    document: Dict[str, JsonValue] = {
        "format": FORMAT,
        "id": journal.id,
        "command": list(journal.command),
        "created": journal.created,
        "undoes": journal.undoes,
        "facts": dict(journal.facts),
    }
    for key in _ROWS:
        document[key] = [_make_row(row) for row in getattr(journal, key)]
    return document


def _make_row(row: Iterable[Union[str, int, Identity]]) -> List[JsonValue]:
    return [list(value) if isinstance(value, Identity) else value for value in row]


def encode(document: Mapping[str, object]) -> bytes:
    """The bytes of a journal file: the sha256 of the rest, a line feed, one JSON object in
    ASCII."""
    body = json.dumps(document, separators=(",", ":")).encode("ascii")
    return hashlib.sha256(body).hexdigest().encode("ascii") + b"\n" + body


def parse_document(document: Mapping[str, Any]) -> Journal:
    """The journal of a document from `recovery.read_journal`. Errors: KeyError, TypeError,
    ValueError."""
    if document["format"] != FORMAT:
        raise ValueError(f"journal format {document['format']!r}, known is {FORMAT}")
    undoes = document["undoes"]
    return Journal(
        id=_typed(document["id"], str),
        command=tuple(_typed(word, str) for word in _typed(document["command"], list)),
        created=_parse_moment(document["created"]),
        undoes=None if undoes is None else _typed(undoes, str),
        facts=dict(_typed(document["facts"], dict)),
        exchanges=_parse_rows(Exchange, document["exchanges"]),
        outs=_parse_rows(MoveOut, document["outs"]),
        rmdirs=_parse_rows(RemovedDirectory, document["rmdirs"]),
        mkdirs=_parse_rows(MadeDirectory, document["mkdirs"]),
        ins=_parse_rows(MoveIn, document["ins"]),
        times=_parse_rows(DirectoryTimes, document["times"]),
    )


def _parse_rows(kind: Type[Row], rows: Iterable[object]) -> Tuple[Row, ...]:
    return tuple(_parse_row(kind, row) for row in rows)


def _parse_row(kind: Type[Row], row: object) -> Row:
    values = []
    for value in _typed(row, list):
        values.append(_parse_identity(value) if isinstance(value, list) else value)
    parsed = kind(*values)
    for value, expected in zip(parsed, _TYPES[kind]):
        _typed(value, expected)
        if isinstance(value, str):
            _check_path(value)
    return parsed


def _check_path(path: str) -> None:
    """Raise ValueError for a path with a null character."""
    if b"\0" in path.encode("utf-8", "surrogateescape"):
        raise ValueError(f"{path!r} is not a path")


def _parse_identity(value: Sequence[object]) -> Identity:
    kind, inode, size, mtime_ns = value
    return Identity(_typed(kind, str), _typed(inode, int), _typed(size, int), _typed(mtime_ns, int))


def _parse_moment(value: object) -> float:
    """Seconds since the epoch that can be shown as a date."""
    moment = float(_typed(value, (int, float)))
    if not 0 <= moment <= _LAST_MOMENT:
        raise ValueError(f"{value!r} is no moment")
    return moment


def _typed(value: object, expected: Union[Type[Value], Tuple[Type[Value], ...]]) -> Value:
    if not isinstance(value, expected) or isinstance(value, bool):
        raise TypeError(f"{value!r} has another type than expected")
    return value


def make_reverse(
    journal: Journal, *, transaction_id: str, command: Tuple[str, ...], created: float
) -> Journal:
    """The change that undoes `journal`: it moves the stash in, and stashes what was installed.

    The times of directories, and the owners of removed directories, are not filled in: they have to
    be read from disk.
    """
    exchanges = [Exchange(x.target, x.slot, x.new, x.old) for x in journal.exchanges]
    outs = [
        MoveOut(move.target, f"txn-{transaction_id}/stash/{number}", move.new)
        for number, move in enumerate(reversed(journal.ins))
    ]
    rmdirs = [RemovedDirectory(made.target, made.mode, 0, 0) for made in journal.mkdirs]
    mkdirs = [MadeDirectory(gone.target, gone.mode) for gone in journal.rmdirs]
    ins = [MoveIn(move.slot, move.target, move.old) for move in journal.outs]
    return Journal(
        id=transaction_id,
        command=command,
        created=created,
        exchanges=tuple(reversed(exchanges)),
        outs=tuple(outs),
        rmdirs=tuple(reversed(rmdirs)),
        mkdirs=tuple(reversed(mkdirs)),
        ins=tuple(reversed(ins)),
        undoes=journal.id,
    )

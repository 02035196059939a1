from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from safe_install.transaction.journal import (
    Journal,
    encode,
    make_document,
    make_reverse,
    parse_document,
)
from safe_install.transaction.recovery.journal_file import read_journal
from safe_install.transaction.recovery.rows import (
    DirectoryTimes,
    Exchange,
    Identity,
    JournalInvalid,
    MadeDirectory,
    MoveIn,
    MoveOut,
    RemovedDirectory,
    is_same,
)

OLD, NEW = Identity("f", 1, 10, 100), Identity("f", 2, 20, 200)
JOURNAL = Journal(
    id="20261123T101112Z-3f2a",
    command=("install", "p"),
    created=5.0,
    exchanges=(Exchange("p", "txn-20261123T101112Z-3f2a/stage/p", OLD, NEW),),
    outs=(
        MoveOut("a", "txn-20261123T101112Z-3f2a/stash/0", OLD),
        MoveOut("b", "txn-20261123T101112Z-3f2a/stash/1", OLD),
    ),
    rmdirs=(RemovedDirectory("d/e", 0o755, 7, 8), RemovedDirectory("d", 0o755, 7, 8)),
    mkdirs=(MadeDirectory("f", 0o750),),
    ins=(MoveIn("txn-20261123T101112Z-3f2a/stage/g", "f/g", NEW),),
    times=(DirectoryTimes("lib", 1, 2),),
    facts={"python": "3.11.7"},
)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    odd = dataclasses.replace(
        JOURNAL, outs=(MoveOut("a\udce9\u4e2d\n", JOURNAL.outs[0].slot, OLD),)
    )
    path = tmp_path / "journal"
    path.write_bytes(encode(make_document(odd)))
    assert parse_document(read_journal(str(path))) == odd


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = encode(make_document(JOURNAL))
    for position in (0, 40, 70, len(content) - 1):
        path.write_bytes(content[:position] + b"#" + content[position + 1 :])
        with pytest.raises(JournalInvalid):
            read_journal(str(path))


def test_another_format_is_refused() -> None:
    document = {**make_document(JOURNAL), "format": 2}
    with pytest.raises(ValueError, match="format"):
        parse_document(document)


def test_reverse() -> None:
    reverse = make_reverse(
        JOURNAL, transaction_id="20261124T000000Z-0001", command=("undo",), created=9.0
    )
    assert reverse.undoes == JOURNAL.id
    assert reverse.exchanges == (Exchange("p", JOURNAL.exchanges[0].slot, NEW, OLD),)
    assert reverse.outs == (MoveOut("f/g", "txn-20261124T000000Z-0001/stash/0", NEW),)
    assert [row.target for row in reverse.rmdirs] == ["f"]
    assert [row.target for row in reverse.mkdirs] == ["d", "d/e"]
    assert [(row.slot, row.target) for row in reverse.ins] == [
        (JOURNAL.outs[1].slot, "b"),
        (JOURNAL.outs[0].slot, "a"),
    ]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Identity("f", 1, 10, 100), True),
        (Identity("f", 0, 10, 100), True),
        (Identity("f", 2, 10, 100), False),
        (Identity("f", 0, 11, 100), False),
        (Identity("d", 1, 10, 100), False),
    ],
)
def test_is_same(other: Identity, expected: bool) -> None:
    assert is_same(OLD, other) is expected


@pytest.mark.parametrize("created", [-1, 1e300, float("inf"), float("nan"), "2026-11-23", None])
def test_a_moment_that_is_no_date_is_refused(created: object) -> None:
    document = {**make_document(JOURNAL), "created": created}
    with pytest.raises((ValueError, TypeError)):
        parse_document(document)

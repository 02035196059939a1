from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from safe_install.transaction import recover
from safe_install.transaction.journal import (
    DirectoryTimes,
    Exchange,
    Identity,
    Journal,
    MadeDirectory,
    MoveIn,
    MoveOut,
    RemovedDirectory,
    encode,
    make_document,
    make_reverse,
    parse_document,
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
    assert parse_document(recover.read_journal(str(path))) == odd


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    content = encode(make_document(JOURNAL))
    for position in (0, 40, 70, len(content) - 1):
        path.write_bytes(content[:position] + b"#" + content[position + 1 :])
        with pytest.raises(recover.JournalInvalid):
            recover.read_journal(str(path))


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
def test_ambiguous(other: Identity, expected: bool) -> None:
    assert OLD.is_ambiguous_with(other) is expected


@pytest.mark.real_process
def test_recover_keeps_to_the_syntax_of_python_3_6() -> None:
    python = Path("~/.pyenv/versions/3.6.15/bin/python").expanduser()
    if not python.exists():
        pytest.skip("no Python 3.6 here")
    script = "import sys; compile(open(sys.argv[1]).read(), 'recover.py', 'exec')"
    done = subprocess.run(
        [str(python), "-c", script, recover.__file__], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_recover_imports_only_the_standard_library(tmp_path: Path) -> None:
    imported = {
        line.split()[1].split(".")[0]
        for line in Path(recover.__file__).read_text().splitlines()
        if line.strip().startswith(("import ", "from "))
    }
    allowed = {
        "base64",
        "csv",
        "ctypes",
        "errno",
        "fcntl",
        "hashlib",
        "io",
        "json",
        "os",
        "re",
        "shutil",
        "stat",
        "sys",
        "typing",
    }
    assert imported <= allowed
    assert json.loads(json.dumps(make_document(JOURNAL)))["format"] == recover.FORMAT
    assert recover.main([str(tmp_path)]) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("created", [-1, 1e300, float("inf"), float("nan"), "2026-11-23", None])
def test_a_moment_that_is_no_date_is_refused(created: object) -> None:
    document = {**make_document(JOURNAL), "created": created}
    with pytest.raises((ValueError, TypeError)):
        parse_document(document)

"""What lies in a journal's place and is none: 13 with words and nothing touched, and nothing is
waited for."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safe_install import errors
from safe_install.environment.record import read_record_text
from safe_install.transaction import history, unfinished
from safe_install.transaction.journal import encode
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery.journal_file import read_journal
from safe_install.transaction.recovery.lock_file import Lock
from safe_install.transaction.recovery.main import main
from safe_install.transaction.recovery.records import read_record
from safe_install.transaction.recovery.rows import COMMITTED, JOURNAL
from tests.small_environment import SmallEnvironment, make_installed
from tests.treehash import hash_tree


@pytest.fixture
def env(tmp_path: Path) -> Iterator[SmallEnvironment]:
    found = SmallEnvironment(tmp_path / "env")
    with lock_environment(found.prefix):
        yield found


def swapped(env: SmallEnvironment, *, commit: bool = False) -> Path:
    """A change that was made and not committed, or one that was; its journal."""
    old = env.install("p", "1", {"p/a.py": "1", "q/a.py": "1", "r/a.py": "1"})
    transaction = env.begin()
    env.stage(transaction, "p", "2", {"p/a.py": "2", "r/a.py": "1", "s/a.py": ""})
    transaction.plan(remove=[old], keep=[])
    transaction.swap()
    if commit:
        transaction.commit(
            {"steps": [{"action": "add", "name": "p", "version": "2", "from_version": None}]}
        )
    else:
        transaction._signals.release()
    return transaction.directory / (COMMITTED if commit else JOURNAL)


def make_link(path: Path) -> None:
    shutil.copyfile(path.with_name("kept"), path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def make_socket(path: Path) -> None:
    # An address has room for 107 bytes: the folder has a short name, too.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, 0o20600, os.makedev(5, 0))  # /dev/tty, of which a read waits
    except PermissionError:
        pytest.skip("only root makes devices")


KINDS: Dict[str, Callable[[Path], Any]] = {
    "a FIFO": os.mkfifo,
    "a directory": os.mkdir,
    "a symbolic link": make_link,
    "a socket": make_socket,
    "a device": make_device,
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named_and_not_opened(env: SmallEnvironment, kind: str) -> None:
    journal = swapped(env)
    journal.rename(journal.with_name("kept"))
    KINDS[kind](journal)
    before = hash_tree(env.prefix)
    with pytest.raises(
        errors.RollBackFailed, match=f"journal is {kind} and not a regular file"
    ) as caught:
        unfinished.recover(env.prefix)
    assert caught.value.exit_status == 13 and "given-up" in caught.value.hint
    assert main([str(env.prefix)]) in (13, 14)  # 14: the test holds the lock
    assert hash_tree(env.prefix) == before


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a symbolic link"])
def test_history_lists_what_cannot_be_read(env: SmallEnvironment, kind: str) -> None:
    journal = swapped(env, commit=True)
    for path in (journal, journal.with_name("summary.json")):
        path.rename(path.with_name("kept"))
        KINDS[kind](path)
        path.with_name("kept").unlink()
        if kind == "a symbolic link":
            path.with_name("elsewhere").unlink()
    (entry,) = history.read_history(env.prefix)
    assert kind in str(entry.problem)
    with pytest.raises(errors.Refused, match="cannot be read"):
        history.begin_undo(env.prefix, entry.id)


def test_a_lock_file_or_a_record_that_is_a_fifo_is_not_waited_for(env: SmallEnvironment) -> None:
    os.mkfifo(env.prefix / "held.held")
    assert Lock(str(env.prefix / "held"))._read_chain() == (
        [str(env.prefix / "held.held")],
        {},
    )
    os.mkfifo(env.prefix / "RECORD")
    assert read_record_text(env.prefix) is None
    assert read_record(str(env.prefix / "RECORD")) == []


def test_what_is_named_like_a_transaction_and_is_none_is_removed(env: SmallEnvironment) -> None:
    state = env.prefix / ".safe-install"
    names = ["txn-20261123T101112Z-3f2a", "txn-20261123T101112Z-3f2b", "trash-a", "trash-b"]
    (state / names[0]).write_text("")
    os.mkfifo(state / names[2])
    outside = env.prefix / "outside"
    outside.mkdir()
    (outside / "mine").write_text("")
    for name in (names[1], names[3]):
        (state / name).symlink_to(outside)
    unfinished.recover(env.prefix)
    assert not [name for name in names if os.path.lexists(state / name)]
    assert (outside / "mine").exists()
    assert unfinished.recover(env.prefix) == ()


ODD: List[Any] = [
    None,
    True,
    -1,
    2**70,
    1.5,
    float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "..",
    "a" * 5000,
    [],
    [[]],
    {},
    {"a": 1},
]


def replace_at(value: Any, number: int, odd: Any) -> Any:
    """The value with its part `number`, counted in depth, replaced."""
    counter = iter(range(10**6))

    def walk(part: Any) -> Any:
        if next(counter) == number:
            return odd
        if isinstance(part, list):
            return [walk(one) for one in part]
        if isinstance(part, dict):
            return {key: walk(one) for key, one in part.items()}
        return part

    return walk(value)


@pytest.fixture(scope="module")
def wrecks(tmp_path_factory: pytest.TempPathFactory) -> Dict[bool, Path]:
    found = {}
    for commit in (False, True):
        made = SmallEnvironment(tmp_path_factory.mktemp("wreck") / "env")
        with lock_environment(made.prefix):
            found[commit] = swapped(made, commit=commit)
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 90), odd=st.sampled_from(ODD))
def test_wrong_types_touch_nothing(wrecks: Dict[bool, Path], number: int, odd: Any) -> None:
    """A checksum that fits, and anything inside: a message, or a change that is undone as a
    whole."""
    journal = wrecks[False]
    prefix = journal.parents[2]
    content = journal.read_bytes()
    with tempfile.TemporaryDirectory(dir=prefix.parent) as folder:
        copy = Path(folder) / "env"
        shutil.copytree(prefix, copy, symlinks=True)
        before = hash_tree(copy)
        changed = replace_at(read_journal(str(journal)), number, odd)
        (copy / journal.relative_to(prefix)).write_bytes(
            encode(changed) if isinstance(changed, dict) else content[:9]
        )
        with lock_environment(copy):
            try:
                unfinished.recover(copy)
            except errors.RollBackFailed as error:
                assert error.message and error.hint
                assert hash_tree(copy) == before


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(number=st.integers(0, 90), odd=st.sampled_from(ODD), in_summary=st.booleans())
def test_wrong_types_in_the_history(
    wrecks: Dict[bool, Path], number: int, odd: Any, in_summary: bool
) -> None:
    committed = wrecks[True]
    prefix, summary = committed.parents[2], committed.with_name("summary.json")
    kept = committed.read_bytes(), summary.read_bytes()
    try:
        if in_summary:
            summary.write_text(json.dumps(replace_at(json.loads(kept[1]), number % 12, odd)))
        else:
            committed.write_bytes(
                encode(replace_at(read_journal(str(committed)), number or 1, odd))
            )
        for entry in history.read_history(prefix):
            assert entry.problem or all(isinstance(step["name"], str) for step in entry.steps)
            try:
                history.begin_undo(prefix, entry.id).abandon()
            except errors.Refused as error:
                assert error.message
    finally:
        committed.write_bytes(kept[0])
        summary.write_bytes(kept[1])


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"{", b"null", b"[]", b'"x"', b"NaN"])
def test_a_checksum_that_fits_and_no_journal(env: SmallEnvironment, body: bytes) -> None:
    import hashlib

    journal = swapped(env)
    journal.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    with pytest.raises(errors.RollBackFailed, match=r"is not JSON|another format"):
        unfinished.recover(env.prefix)


def test_an_old_installed_version_is_made(env: SmallEnvironment) -> None:
    """The stand-in of the tests above is sound: it is undone as it is."""
    swapped(env)
    assert [found.what for found in unfinished.recover(env.prefix)] == ["rolled-back"]
    assert make_installed(env.site, "p", "1").metadata_path.is_dir()

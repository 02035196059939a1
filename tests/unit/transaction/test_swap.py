"""Real files: each edge that was seen to break an installer, swapped, rolled back, put in again,
undone."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import pytest

from safe_install import errors
from safe_install.transaction import history, swap, unfinished
from safe_install.transaction.journal import encode
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.moves import Level
from safe_install.transaction.place import check_device
from safe_install.transaction.recovery.disk import exchange, sync_directory
from safe_install.transaction.recovery.journal_file import read_journal
from tests.disk_calls import replace_everywhere
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment, let_time_pass, make_installed
from tests.treehash import hash_tree, read_tree


@pytest.fixture
def env(tmp_path: Path) -> Iterator[SmallEnvironment]:
    found = SmallEnvironment(tmp_path / "env")
    found.install("other", "1", {"other.py": "x = 1\n", "other_package/__init__.py": ""})
    with lock_environment(found.prefix):
        yield found


# old files, new files, files of nobody
Case = Tuple[Dict[str, str], Dict[str, str], Dict[str, str]]
CASES: Dict[str, Case] = {
    "package": (
        {"p/__init__.py": "1", "p/sub/a.py": "1"},
        {"p/__init__.py": "2", "p/b.py": "2"},
        {},
    ),
    "single module": ({"p.py": "1"}, {"p.py": "2"}, {}),
    "user's file inside": (
        {"p/__init__.py": "1", "p/sub/a.py": "1"},
        {"p/__init__.py": "2"},
        {"p/mine.txt": "x"},
    ),
    "directory to file": (
        {"p/__init__.py": "1", "p/d/a": "1"},
        {"p/__init__.py": "2", "p/d": "2"},
        {},
    ),
    "file to directory": (
        {"p/__init__.py": "1", "p/d": "1"},
        {"p/__init__.py": "2", "p/d/a": "2"},
        {"p/mine": ""},
    ),
    "scripts and data": (
        {
            "../../../bin/tool": "1",
            "../../../share/man/tool.1": "1",
            "../../../etc/t/conf": "1",
            "p.py": "1",
        },
        {"../../../bin/tool": "2", "../../../share/doc/tool": "2", "p.py": "2"},
        {"../../../share/mine": "x"},
    ),
    "bytecode": (
        {"p/a.py": "1"},
        {"p/a.py": "2"},
        {"p/__pycache__/a.cpython-311.pyc": "", "p/__pycache__/a.cpython-38.opt-1.pyc": ""},
    ),
    "bytecode of nothing": (
        {"p/a.py": "1"},
        {"p/a.py": "2"},
        {"p/__pycache__/gone.cpython-311.pyc": ""},
    ),
    "editable to wheel": (
        {"__editable__.p-1.pth": "import _p_finder", "_p_finder.py": "1"},
        {"p/__init__.py": "2"},
        {},
    ),
    "a name that is not UTF-8 safe": ({"p/\u00e9\u4e2d.py": "1"}, {"p/\u00e9\u4e2d.py": "2"}, {}),
    "nothing new": ({"p/a.py": "1"}, {}, {}),
}


@pytest.mark.parametrize("level", [Level.DIRECTORY, Level.FILE], ids=["directories", "files"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_swap_roll_back_again_commit_undo(
    env: SmallEnvironment, case: Case, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_files, new_files, strays = case
    old = env.install("p", "1", old_files)
    keep = [make_installed(env.site, "other", "1")]
    for path, content in strays.items():
        target = Path(os.path.normpath(env.site / path))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    if level is Level.FILE:
        refuse_renames_of_directories(monkeypatch.setattr)
    before = read_tree(env.prefix, times=True, bytecode=True)
    with env.begin() as transaction:
        if new_files:
            env.stage(transaction, "p", "2", new_files)
        transaction.plan(remove=[old], keep=keep)
        transaction.swap()
        after = read_tree(env.prefix)
        assert_files(env, new_files, gone=set(old_files) - set(new_files), kept=strays)
        transaction.roll_back()
        assert read_tree(env.prefix, times=True, bytecode=True) == before
        transaction.swap_again()
        assert read_tree(env.prefix) == after
        transaction.commit({"outcome": "installed"})
    assert read_tree(env.prefix) == after
    assert unfinished.recover(env.prefix) == ()
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        assert read_tree(env.prefix, bytecode=True) == without_times(before)
        undo.roll_back()
        assert read_tree(env.prefix) == after
        undo.swap_again()
        undo.commit({})
    assert read_tree(env.prefix, bytecode=True) == without_times(before)
    with history.begin_undo(env.prefix, undo.id) as redo:
        redo.swap()
        redo.commit({})
    assert read_tree(env.prefix) == after


def without_times(tree: Dict[str, Tuple[object, ...]]) -> Dict[str, Tuple[object, ...]]:
    return {path: (row[0], row[1], 0) if row[0] == "d" else row for path, row in tree.items()}


def assert_files(
    env: SmallEnvironment, new: Dict[str, str], *, gone: set[str], kept: Dict[str, str]
) -> None:
    for path, content in new.items():
        assert Path(os.path.normpath(env.site / path)).read_text() == content
    for path in gone:
        target = Path(os.path.normpath(env.site / path))
        assert not target.exists() or target.is_dir()
    for path, content in kept.items():
        if "__pycache__" not in path:
            assert Path(os.path.normpath(env.site / path)).read_text() == content


def test_a_whole_package_is_exchanged_in_one_step(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {f"p/{number}.py": "1" for number in range(50)})
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/0.py": "2"})
        moves = transaction.plan(remove=[old], keep=[])
    assert [target for target, _ in moves.exchanges] == [str(env.site / "p")]
    assert (len(moves.outs), len(moves.ins)) == (1, 1)  # the two dist-info folders


def test_a_shared_file_stays_for_the_other(env: SmallEnvironment) -> None:
    cu11 = env.install("nvidia-x-cu11", "1", {"nvidia/__init__.py": "", "nvidia/cu11.so": "1"})
    cu12 = env.install("nvidia-x-cu12", "1", {"nvidia/__init__.py": "", "nvidia/cu12.so": "1"})
    with env.begin() as transaction:
        transaction.plan(remove=[cu11], keep=[cu12])
        transaction.swap()
        transaction.commit({})
    assert sorted(os.listdir(env.site / "nvidia")) == ["__init__.py", "cu12.so"]


def test_a_file_of_another_is_not_overwritten(env: SmallEnvironment) -> None:
    other = make_installed(env.site, "other", "1")
    with env.begin() as transaction:
        env.stage(transaction, "p", "1", {"other.py": "hidden\n"})
        with pytest.raises(errors.Refused, match=r"other\.py .*belongs to other"):
            transaction.plan(remove=[], keep=[other])
    assert (env.site / "other.py").read_text() == "x = 1\n"
    assert sorted(os.listdir(env.prefix / ".safe-install")) == ["lock", "marker"]


@pytest.mark.parametrize(
    "row",
    [
        "/{outside}/x.py",
        "../../../../outside/x.py",
        "../../../../env-sibling/x.py",
        "../../../bin/activate",
        "../../../bin/python",
        "../../../pyvenv.cfg",
        "../os.py",
        "other.py",
        "link/x.py",
    ],
)
def test_hostile_rows_remove_nothing(env: SmallEnvironment, tmp_path: Path, row: str) -> None:
    for name in ("outside", "env-sibling"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text("precious")
    (env.site / "link").symlink_to(tmp_path / "outside")
    (env.site.parent / "os.py").write_text("precious")
    row = row.replace("/{outside}", str(tmp_path / "outside"))
    hostile = env.install("p", "1", {"p.py": "1"}, rows=[f"{row},sha256=x,1"])
    tree = read_tree(tmp_path)
    with env.begin() as transaction:
        transaction.plan(remove=[hostile], keep=[make_installed(env.site, "other", "1")])
        transaction.swap()
        transaction.commit({})
    left = read_tree(tmp_path)
    gone = {
        path
        for path in tree
        if path not in left and "p-1.dist-info" not in path and ".safe-install" not in path
    }
    assert gone == {"env/lib/python3.11/site-packages/p.py"}


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda env, dist: (dist.metadata_path / "RECORD").unlink(), "has no RECORD"),
        (lambda env, dist: (dist.metadata_path / "INSTALLER").write_text("conda"), ""),
    ],
)
def test_a_distribution_without_record_is_refused(
    env: SmallEnvironment, break_it: Callable[..., object], words: str
) -> None:
    dist = env.install("p", "1", {"p.py": "1"}, installer="conda" if not words else "pip")
    break_it(env, dist)
    with env.begin() as transaction, pytest.raises(
        errors.Refused, match=words or "conda installed p"
    ):
        transaction.plan(remove=[dist], keep=[])
    assert (env.site / "p.py").exists()


def test_a_development_install_elsewhere_is_refused(env: SmallEnvironment, tmp_path: Path) -> None:
    source = SmallEnvironment(tmp_path / "source")
    dist = source.install("p", "1", {"p.py": "1"})
    with env.begin() as transaction, pytest.raises(
        errors.Refused, match="outside of the environment"
    ):
        transaction.plan(remove=[dist], keep=[])


def test_a_symlinked_environment(env: SmallEnvironment, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(env.prefix)
    old = env.install("p", "1", {"p/a.py": "1"})
    through = SmallEnvironment(link)
    before = hash_tree(env.prefix, times=True)
    with through.begin() as transaction:
        through.stage(transaction, "p", "2", {"p/a.py": "2"})
        transaction.plan(remove=[make_installed(through.site, "p", "1")], keep=[])
        transaction.swap()
        assert (env.site / "p/a.py").read_text() == "2"
        transaction.roll_back()
    assert hash_tree(env.prefix, times=True) == before
    assert old.metadata_path.is_dir()


@pytest.mark.parametrize("fail_at", range(1, 9))
def test_an_error_in_the_middle_is_undone_exactly(
    env: SmallEnvironment, fail_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = env.install("p", "1", {"p/a.py": "1", "q.py": "1", "../../../bin/tool": "1"})
    rename, count = os.rename, [0]
    before = hash_tree(env.prefix, times=True)

    def rename_or_fail(first: str, second: str) -> None:
        if "journal" not in str(second) and "recover" not in str(second):
            count[0] += 1
            if count[0] == fail_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), first)
        rename(first, second)

    with env.begin() as transaction:
        env.stage(transaction, "r", "2", {"r/a.py": "2", "s.py": "2", "../../../bin/tool2": "2"})
        transaction.plan(remove=[old], keep=[])
        monkeypatch.setattr(os, "rename", rename_or_fail)
        with pytest.raises(errors.Refused, match="everything is as before"):
            transaction.swap()
        monkeypatch.setattr(os, "rename", rename)
        assert hash_tree(env.prefix, times=True) == before
        transaction.swap()
        transaction.roll_back()
    assert hash_tree(env.prefix, times=True) == before


def test_something_else_installs_between_plan_and_swap(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2", "new.py": "2"})
        transaction.plan(remove=[old], keep=[])
        (env.site / "new.py").write_text("by hand")
        with pytest.raises(errors.Refused, match="changed while"):
            transaction.swap()
    assert (env.site / "p/a.py").read_text() == "1"


def test_leaving_the_block_without_commit_rolls_back(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    before = hash_tree(env.prefix, times=True)
    with pytest.raises(ZeroDivisionError), env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        raise ZeroDivisionError
    assert hash_tree(env.prefix, times=True) == before
    assert env.find_unfinished() == []


def test_a_commit_that_cannot_be_written_rolls_back(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    before = hash_tree(env.prefix, times=True)

    def fail(path: str, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    with env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        replace_everywhere(monkeypatch.setattr, "write_durably", fail)
        with pytest.raises(errors.Refused, match=r"as before.*No space"):
            transaction.commit({})
    assert hash_tree(env.prefix, times=True) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_committed_stays_although_the_last_sync_fails(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})

    def fail(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        replace_everywhere(
            monkeypatch.setattr,
            "write_durably",
            lambda path, content: Path(path).write_bytes(content),
        )
        replace_everywhere(monkeypatch.setattr, "sync_directory", fail)
        transaction.commit({})
    assert "power cut" in transaction.warning
    assert "Input/output error" in transaction.warning
    assert not (env.site / "p").exists()
    assert env.find_unfinished() == []


def test_a_journal_that_cannot_be_written_is_not_left(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    real = sync_directory

    def fail(path: str) -> None:
        if os.path.basename(path).startswith("txn-"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        real(path)

    replace_everywhere(monkeypatch.setattr, "sync_directory", fail)
    with env.begin() as transaction, pytest.raises(errors.Refused, match="as before") as caught:
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
    assert "read-only" in caught.value.hint
    assert env.find_unfinished() == []
    assert not list((env.prefix / ".safe-install").glob("txn-*"))


# Installed this very moment, or before: others are then seen by names, or by the time of a change.
ages = pytest.mark.parametrize("age", [0.0, 0.15])  # seconds


@ages
def test_what_somebody_puts_into_a_moving_directory_before_the_swap_is_kept(
    env: SmallEnvironment, age: float
) -> None:
    """As pip does, which takes no lock: another package with a file in a folder that only ours was
    in."""
    old = env.install("p", "1", {"p/a.py": "1", "shared/p.txt": "1"})
    time.sleep(age)
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2", "shared/p.txt": "2"})
        transaction.plan(remove=[old], keep=[])
        env.install("q", "1", {"shared/sub/q.txt": "q"})
        before = hash_tree(env.prefix, times=True)
        with pytest.raises(errors.Refused, match=r"shared/sub"):
            transaction.swap()
    assert hash_tree(env.prefix, times=True) == before


@ages
def test_and_in_the_last_moment_too(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    old = env.install("p", "1", {"p/a.py": "1", "shared/p.txt": "1"})
    time.sleep(age)
    real = exchange

    def exchange_late(first: str, second: str) -> None:
        if first.endswith("/shared"):
            Path(first, "q.txt").write_text("q")
        real(first, second)

    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2", "shared/p.txt": "2"})
        transaction.plan(remove=[old], keep=[])
        replace_everywhere(monkeypatch.setattr, "exchange", exchange_late)
        with pytest.raises(errors.Refused, match=r"as before.*shared/q\.txt") as caught:
            transaction.swap()
    assert "again" in caught.value.hint
    assert (env.site / "shared" / "q.txt").read_text() == "q"
    assert (env.site / "shared" / "p.txt").read_text() == "1"
    assert env.find_unfinished() == []


def test_what_another_installer_brought_since_does_not_go_with_a_roll_back(
    env: SmallEnvironment,
) -> None:
    old = env.install("p", "1", {"p/a.py": "1", "shared/p.txt": "1"})
    with pytest.raises(errors.RollBackFailed, match=r"shared/q\.txt"), env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2", "shared/p.txt": "2"})
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        let_time_pass(env.prefix)
        env.install("q", "1", {"shared/q.txt": "q", "other/q.txt": "q"})
        transaction.roll_back()
    assert (env.site / "shared" / "q.txt").read_text() == "q"
    # The way out that the message names: what is in the way is moved, then the recovery finishes.
    (env.site / "shared" / "q.txt").rename(env.prefix / "q.txt")
    unfinished.recover(env.prefix)
    assert (env.site / "shared" / "p.txt").read_text() == "1"


def test_what_it_brought_elsewhere_is_no_obstacle(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2"})
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        env.install("q", "1", {"q/a.py": "q", "q.py": ""})
        transaction.roll_back()
    assert (env.site / "p" / "a.py").read_text() == "1"
    assert (env.site / "q" / "a.py").read_text() == "q"


def test_it_knows_whether_it_moves_a_file(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/a.py": "1", "module.py": "1", "mixed/a.py": "1"})
    (env.site / "mixed" / "mine.py").write_text("")
    site = str(env.site.resolve())
    with env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        for path, moves in {
            "p/a.py": True,
            "module.py": True,
            "mixed/a.py": True,
            "mixed/mine.py": False,
        }.items():
            assert transaction.moves_any({f"{site}/{path}"}) is moves, path
        assert not transaction.moves_any({"/usr/lib/python3/p/a.py"})


def test_it_knows_which_folders_it_touches(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/sub/a.py": "1", "mixed/a.py": "1"})
    (env.site / "mixed" / "mine.py").write_text("")
    with env.begin() as transaction:
        new = transaction.stage / env.site.relative_to(env.site.anchor) / "fresh"
        new.mkdir(parents=True)
        (new / "b.py").write_text("")
        transaction.plan(remove=[old], keep=[])
        for name in ("p", "p/sub", "mixed", "fresh", "."):
            assert transaction.touches(env.site / name), name
        for name in ("other", "pp", "fresher", "fres"):
            assert not transaction.touches(env.site / name), name


def test_signals_wait_and_are_reported(env: SmallEnvironment) -> None:
    old = env.install("p", "1", {"p/a.py": "1"})
    with env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        assert transaction.pending_signal is None
        transaction.swap()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert transaction.pending_signal == signal.SIGINT
        transaction.roll_back()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert transaction.pending_signal == signal.SIGINT


# --- recovery -------------------------------------------------------------------------------------


def leave_swapped(env: SmallEnvironment) -> swap.Transaction:
    """A transaction as a killed process leaves it: swapped, its journal there."""
    old = env.install("p", "1", {"p/a.py": "1", "q/a.py": "1"})
    transaction = env.begin()
    env.stage(transaction, "p", "2", {"p/a.py": "2"})
    transaction.plan(remove=[old], keep=[])
    transaction.swap()
    transaction._signals.release()
    return transaction


def test_recover_undoes_and_says_so(env: SmallEnvironment) -> None:
    transaction = leave_swapped(env)
    assert env.find_unfinished() == [(transaction.id, "journal")]
    found = unfinished.recover(env.prefix)
    assert [(item.transaction, item.what) for item in found] == [(transaction.id, "rolled-back")]
    assert "install x" in found[0].detail
    assert (env.site / "p/a.py").read_text() == "1"
    assert unfinished.recover(env.prefix) == ()


def test_a_time_that_cannot_be_restored_stops_no_recovery(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_swapped(env)

    def refuse(path: str, ns: object) -> None:
        raise PermissionError(errno.EPERM, "not yours", path)

    monkeypatch.setattr(os, "utime", refuse)
    assert [item.what for item in unfinished.recover(env.prefix)] == ["rolled-back"]
    assert (env.site / "p/a.py").read_text() == "1"


def test_an_empty_folder_that_nobody_owns_stays(env: SmallEnvironment) -> None:
    """`python -m venv` makes include/python3.11; pip puts headers into include/site beside it."""
    (env.prefix / "include" / "python3.11").mkdir(parents=True)
    old = env.install(
        "p", "1", {"../../../include/site/p.h": "", "p/a.py": "", "../../../share/p/note": ""}
    )
    (env.site / "p" / "empty").mkdir()
    with env.begin() as transaction:
        transaction.plan(remove=[old], keep=[])
        transaction.swap()
        transaction.commit({})
    assert (env.prefix / "include" / "python3.11").is_dir()
    assert sorted(path.name for path in (env.prefix / "include").iterdir()) == ["python3.11"]
    assert not (env.site / "p").exists() and not (env.prefix / "share").exists()


def test_recover_cleans_what_had_not_begun(env: SmallEnvironment) -> None:
    transaction = env.begin()
    assert env.find_unfinished() == [(transaction.id, "unfinished")]
    assert [item.what for item in unfinished.recover(env.prefix)] == ["cleaned"]
    assert not transaction.directory.exists()


def reinstall_by_hand(env: SmallEnvironment) -> str:
    folder = env.site / "p-2.dist-info"
    shutil.rmtree(folder)
    env.install("p", "2", {"p/a.py": "3"})  # the file system may give it the same inode number
    return folder.name


def put_back_by_hand(env: SmallEnvironment) -> str:
    (env.site / "q").mkdir()
    (env.site / "q" / "mine.py").write_text("by hand")
    return "q"


def remove_by_hand(env: SmallEnvironment) -> str:
    os.rename(env.site / "p-2.dist-info", env.site.parent / "elsewhere")
    return "p-2.dist-info"


@pytest.mark.parametrize("work", [reinstall_by_hand, put_back_by_hand, remove_by_hand])
def test_recover_touches_nothing_after_somebody_else(
    env: SmallEnvironment, work: Callable[[SmallEnvironment], str]
) -> None:
    leave_swapped(env)
    name = work(env)
    before = hash_tree(env.prefix, times=True)
    with pytest.raises(errors.RollBackFailed, match=name) as caught:
        unfinished.recover(env.prefix)
    assert caught.value.exit_status == 13
    assert "recover.py" in caught.value.hint
    assert hash_tree(env.prefix, times=True) == before
    assert env.find_unfinished()[0][1] == "journal"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-5], lambda data: data.replace(b'"format":1', b'"format":9')]
)
def test_a_damaged_journal_moves_nothing(
    env: SmallEnvironment, damage: Callable[[bytes], bytes]
) -> None:
    transaction = leave_swapped(env)
    journal = transaction.directory / "journal"
    journal.write_bytes(damage(journal.read_bytes()))
    with pytest.raises(errors.RollBackFailed, match="damaged"):
        unfinished.recover(env.prefix)
    assert (env.site / "p/a.py").read_text() == "2"


@pytest.mark.parametrize(
    "change",
    [
        {"outs": [["../../outside/x", "{txn}/stash/0", ["f", 0, 7, 0]]]},
        {"outs": [["/outside", "{txn}/stash/0", ["f", 0, 7, 0]]]},
        {"outs": [["lib/x", "../lib/python3.11", ["d", 0, 0, 0]]]},
        {"outs": [["lib/x", "{txn}/stash/../../../bin", ["d", 0, 0, 0]]]},
        {"ins": [["{txn}/stage/x", "link/x.py", ["f", 0, 7, 0]]]},
        {"ins": [["{txn}/stage/x", ".safe-install/lock", ["f", 0, 0, 0]]]},
        {"times": [["..", 0, 0]]},
        {"mkdirs": "nonsense"},
    ],
    ids=repr,
)
def test_a_planted_journal_moves_nothing(
    env: SmallEnvironment, tmp_path: Path, change: Dict[str, List[object]]
) -> None:
    transaction = leave_swapped(env)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.py").write_text("precious")
    (env.prefix / "link").symlink_to(tmp_path / "outside")
    journal = transaction.directory / "journal"
    document = read_journal(str(journal))
    document.update(json.loads(json.dumps(change).replace("{txn}", transaction.directory.name)))
    journal.write_bytes(encode(document))
    before = hash_tree(tmp_path)
    with pytest.raises(errors.RollBackFailed):
        unfinished.recover(env.prefix)
    assert hash_tree(tmp_path) == before


# --- the lock -------------------------------------------------------------------------------------


def test_only_one_at_a_time(env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: List[float] = []
    monkeypatch.setattr("safe_install.transaction.lock.time.sleep", pauses.append)
    with pytest.raises(errors.EnvironmentLocked) as caught, lock_environment(env.prefix):
        pass
    assert caught.value.exit_status == 14
    assert pauses == []  # it is not waited for


def test_uv_is_waited_for_and_then_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr("safe_install.transaction.lock._UV_WAIT", 0.1)
    found = SmallEnvironment(tmp_path / "env")
    with (found.prefix / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(errors.EnvironmentLocked, match="uv"), lock_environment(found.prefix):
            pass
    with lock_environment(found.prefix):
        pass


def test_the_lock_adds_nothing_but_its_folder(tmp_path: Path) -> None:
    found = SmallEnvironment(tmp_path / "env")
    before = hash_tree(found.prefix)
    with lock_environment(found.prefix) as state:
        assert os.stat(state).st_mode & 0o777 == 0o700
    assert hash_tree(found.prefix) == before


def test_a_linked_state_directory_is_refused(tmp_path: Path) -> None:
    found = SmallEnvironment(tmp_path / "env")
    (tmp_path / "elsewhere").mkdir()
    (found.prefix / ".safe-install").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.Refused, match="not a directory"), lock_environment(found.prefix):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
def test_a_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    found = SmallEnvironment(tmp_path / "env")
    (found.prefix / ".safe-install").mkdir()
    os.chown(found.prefix / ".safe-install", 12345, 12345)
    with pytest.raises(errors.Refused, match="another user"), lock_environment(found.prefix):
        pass


def test_a_scheme_outside_of_the_prefix_is_refused(env: SmallEnvironment, tmp_path: Path) -> None:
    other = SmallEnvironment(tmp_path / "user-base")
    with pytest.raises(errors.Refused, match="not inside"):
        swap.begin(env.prefix, command=[], scheme=other.scheme)


def test_a_scheme_on_another_file_system_is_refused(env: SmallEnvironment, tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev
    places = [Path("/dev/shm"), Path("/var/tmp")]
    others = [place for place in places if place.is_dir() and os.stat(place).st_dev != device]
    if not others:
        pytest.skip("no second file system")
    with pytest.raises(errors.Refused, match="is on another file system"):
        check_device(str(others[0]), device, str(env.prefix))
    with pytest.raises(errors.Refused):
        scheme = env.scheme.__class__(
            others[0], env.site, env.scripts, env.prefix, env.scheme.include
        )
        swap.begin(env.prefix, command=[], scheme=scheme)

"""Distributions of every shape on a small environment: planned, swapped, rolled back, committed,
undone, exactly."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Sequence

import pytest

from safe_install import errors
from safe_install.models import InstalledDistribution
from safe_install.transaction import history, swap
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.moves import Level
from tests.exdev import refuse_renames_of_directories
from tests.small_environment import SmallEnvironment, make_installed, write_distribution
from tests.treehash import read_tree


@pytest.fixture
def env(tmp_path: Path) -> Iterator[SmallEnvironment]:
    found = SmallEnvironment(tmp_path / "env")
    with lock_environment(found.prefix):
        yield found


@pytest.fixture(params=[Level.DIRECTORY, Level.FILE], ids=["directories", "files"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Level:
    if request.param is Level.FILE:
        refuse_renames_of_directories(monkeypatch.setattr)
    return Level(request.param)


def cycle(
    env: SmallEnvironment,
    remove: Sequence[InstalledDistribution],
    keep: Sequence[InstalledDistribution],
    stage: Callable[[swap.Transaction], None] = lambda transaction: None,
) -> Dict[str, object]:
    """Roll back, again, commit, undo, redo; the tree after the change."""
    before = read_tree(env.prefix, times=True, bytecode=True)
    plain = read_tree(env.prefix, bytecode=True)
    with env.begin() as transaction:
        stage(transaction)
        transaction.plan(remove=remove, keep=keep)
        transaction.swap()
        after = read_tree(env.prefix, bytecode=True)
        transaction.roll_back()
        assert read_tree(env.prefix, times=True, bytecode=True) == before
        transaction.swap_again()
        transaction.commit({})
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        undo.commit({})
    assert read_tree(env.prefix, bytecode=True) == plain
    with history.begin_undo(env.prefix, undo.id) as redo:
        redo.swap()
        redo.commit({})
    assert read_tree(env.prefix, bytecode=True) == after
    return dict(after)


def below(env: SmallEnvironment, tree: Mapping[str, object]) -> List[str]:
    """The files in site-packages, without dist-info folders."""
    site = os.path.relpath(env.site, env.prefix) + "/"
    files = [
        path[len(site) :] for path, row in tree.items() if path.startswith(site) and row[0] != "d"
    ]  # type: ignore[index]
    return sorted(path for path in files if ".dist-info/" not in path)


# --- owned by many --------------------------------------------------------------------------------


def test_a_folder_of_many_and_one_of_them_is_replaced(env: SmallEnvironment, level: Level) -> None:
    shared = {"nvidia/__init__.py": ""}
    keep = [
        env.install(f"nvidia-{name}", "1", {**shared, f"nvidia/{name}/lib.so": "1"})
        for name in ("a", "b", "c")
    ]
    old = env.install("nvidia-x", "1", {**shared, "nvidia/x/lib.so": "1", "nvidia/x/old.so": "1"})

    def stage(transaction: swap.Transaction) -> None:
        env.stage(transaction, "nvidia-x", "2", {**shared, "nvidia/x/lib.so": "2"})

    after = cycle(env, [old], keep, stage)
    expected = ["nvidia/__init__.py", *(f"nvidia/{name}/lib.so" for name in "abcx")]
    assert below(env, after) == expected


def test_both_owners_of_a_file_go_together(env: SmallEnvironment, level: Level) -> None:
    both = [
        env.install(name, "1", {"tests/__init__.py": "", f"tests/{name}.py": ""})
        for name in ("p", "q")
    ]
    assert below(env, cycle(env, both, [])) == []


def test_one_owner_goes_and_the_other_comes_anew(env: SmallEnvironment, level: Level) -> None:
    p = env.install("p", "1", {"tests/__init__.py": "", "tests/p.py": ""})
    q = env.install("q", "1", {"tests/__init__.py": "", "tests/q.py": "1"})

    def stage(transaction: swap.Transaction) -> None:
        env.stage(transaction, "q", "2", {"tests/__init__.py": "", "tests/q.py": "2"})

    assert below(env, cycle(env, [p, q], [], stage)) == ["tests/__init__.py", "tests/q.py"]


def test_the_same_file_from_two_that_come_together(env: SmallEnvironment) -> None:
    with env.begin() as transaction:
        env.stage(transaction, "p", "1", {"tests/__init__.py": "", "p.py": ""})
        env.stage(transaction, "q", "1", {"tests/__init__.py": "", "q.py": ""})
        transaction.plan(remove=[], keep=[])
        transaction.swap()
        transaction.commit({})
    p, q = (make_installed(env.site, name, "1") for name in "pq")
    with env.begin() as transaction:
        transaction.plan(remove=[p], keep=[q])
        transaction.swap()
        transaction.commit({})
    assert below(env, read_tree(env.prefix)) == ["q.py", "tests/__init__.py"]


# --- links ----------------------------------------------------------------------------------------


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def test_links_that_are_files_of_the_package(env: SmallEnvironment, level: Level) -> None:
    """lib.so -> lib.so.1, a dangling one, one to a directory: each is a row, and moves as it is."""
    rows = ["p/lib.so,sha256=x,1", "p/none,sha256=x,1", "p/dir,sha256=x,1", "p.so,,"]
    old = env.install("p", "1", {"p/lib.so.1": "1"}, rows=rows)
    link(env.site / "p" / "lib.so", "lib.so.1")
    link(env.site / "p" / "none", "/nowhere/at/all")
    link(env.site / "p" / "dir", "../../..")
    link(env.site / "p.so", "p/lib.so.1")

    def stage(transaction: swap.Transaction) -> None:
        # A link that becomes a directory is refused file by file: the journal would name a path
        # through a link.
        files = {"p/lib.so": "2", **({"p/dir/a.py": "2"} if level is Level.DIRECTORY else {})}
        env.stage(transaction, "p", "2", files)

    expected = ["p/dir/a.py", "p/lib.so"] if level is Level.DIRECTORY else ["p/lib.so"]
    assert below(env, cycle(env, [old], [], stage)) == expected
    assert (env.prefix / "pyvenv.cfg").exists()


def test_a_link_that_becomes_a_directory_is_refused_file_by_file(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = env.install("p", "1", {"p/a.py": ""}, rows=["p/dir,sha256=x,1"])
    link(env.site / "p" / "dir", "../../..")
    refuse_renames_of_directories(monkeypatch.setattr)
    before = read_tree(env.prefix, times=True)
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/dir/a.py": "2"})
        transaction.plan(remove=[old], keep=[])
        with pytest.raises(errors.Refused, match=r"as before.*through a link"):
            transaction.swap()
    assert read_tree(env.prefix, times=True) == before


def test_a_package_that_somebody_moved_and_linked(env: SmallEnvironment, tmp_path: Path) -> None:
    """A link to a big disk: its files are not the environment's, so neither removed nor
    overwritten."""
    old = env.install("p", "1", {"p/a.py": "1"})
    os.rename(env.site / "p", tmp_path / "big")
    link(env.site / "p", str(tmp_path / "big"))
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/a.py": "2"})
        with pytest.raises(errors.Refused, match="outside of the environment"):
            transaction.plan(remove=[old], keep=[])
    assert (tmp_path / "big" / "a.py").read_text() == "1"


def test_a_linked_folder_inside_of_the_environment(env: SmallEnvironment, level: Level) -> None:
    (env.site / "real").mkdir()
    link(env.site / "p", "real")
    old = env.install("p", "1", {"p/a.py": "1", "p/b.py": "1"})

    def stage(transaction: swap.Transaction) -> None:
        env.stage(transaction, "p", "2", {"p/a.py": "2"})

    after = cycle(env, [old], [], stage)
    assert below(env, after) == ["p", "real/a.py"]


# --- rows of RECORD -------------------------------------------------------------------------------


def test_rows_with_absolute_paths_into_the_environment(env: SmallEnvironment, level: Level) -> None:
    (env.prefix / "share").mkdir()
    for path in (env.scripts / "tool", env.prefix / "share" / "tool.1", env.site / "p.py"):
        path.write_text("1")
    rows = [
        f"{path},sha256=x,1"
        for path in (env.scripts / "tool", env.prefix / "share" / "tool.1", env.site / "p.py")
    ]
    old = env.install("p", "1", {}, rows=rows)
    assert below(env, cycle(env, [old], [])) == []
    assert not (env.scripts / "tool").exists()
    assert not (env.prefix / "share").exists()


@pytest.mark.parametrize("quoted", ['"p/a,b.py",sha256=x,1', '"p/""q"".py",sha256=x,1'])
def test_rows_that_are_quoted(env: SmallEnvironment, quoted: str) -> None:
    import csv

    (name,) = [row[0] for row in csv.reader([quoted])]
    old = env.install("p", "1", {"p/__init__.py": ""}, rows=[quoted])
    (env.site / name).write_text("1")
    assert below(env, cycle(env, [old], [])) == []


def test_path_files_come_and_go(env: SmallEnvironment, level: Level) -> None:
    old = env.install("p", "1", {"p.pth": "import p", "p/a.py": ""})
    keep = env.install("q", "1", {"q.pth": "q"})

    def stage(transaction: swap.Transaction) -> None:
        env.stage(transaction, "p", "2", {"p-new.pth": "x", "p/a.py": "2"})

    assert below(env, cycle(env, [old], [keep], stage)) == ["p-new.pth", "p/a.py", "q.pth"]


# --- names ----------------------------------------------------------------------------------------


def test_names_that_differ_in_case_only(env: SmallEnvironment, level: Level) -> None:
    old = env.install("p", "1", {"Pkg/__init__.py": "1", "pkg/other.py": "1", "Module.py": "1"})

    def stage(transaction: swap.Transaction) -> None:
        env.stage(
            transaction, "p", "2", {"pkg/__init__.py": "2", "module.py": "2", "Pkg/x.py": "2"}
        )

    assert below(env, cycle(env, [old], [], stage)) == ["Pkg/x.py", "module.py", "pkg/__init__.py"]


@pytest.mark.parametrize(
    "name", ["a b.py", "new\nline.py", "-rf", "~tilde.py", "é.py", "x" * 250 + ".py", "*.py"]
)
def test_file_names_of_every_kind(env: SmallEnvironment, level: Level, name: str) -> None:
    files = {f"p/{name}": "1"} if "\n" not in name else {"p/a.py": ""}
    old = env.install("p", "1", files)

    def stage(transaction: swap.Transaction) -> None:
        env.stage(transaction, "p", "2", dict.fromkeys(files, "2"))

    cycle(env, [old], [], stage)


# --- many and large -------------------------------------------------------------------------------


def timed(seconds: Dict[str, float], name: str, act: Callable[[], object]) -> None:
    started = time.perf_counter()
    act()
    seconds[name] = time.perf_counter() - started


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.any_python
@pytest.mark.parametrize("by_file", [False, True], ids=["directories", "files"])
def test_many_files_take_seconds(
    env: SmallEnvironment, by_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 files by directories; a tenth of them where each file is renamed."""
    folders = 100 if by_file else 1000
    files = {f"p/d{folder}/m{number}.py": "" for folder in range(folders) for number in range(100)}
    old = write_quickly(env.site, "1", files)
    if by_file:
        refuse_renames_of_directories(monkeypatch.setattr)
    seconds: Dict[str, float] = {}
    with env.begin() as transaction:
        site = Path(f"{transaction.stage}{env.site}")
        site.mkdir(parents=True)
        write_quickly(site, "2", files)
        timed(seconds, "plan", lambda: transaction.plan(remove=[old], keep=[]))
        timed(seconds, "swap", transaction.swap)
        timed(seconds, "commit", lambda: transaction.commit({}))
    with history.begin_undo(env.prefix) as undo:
        timed(seconds, "undo", undo.swap)
        undo.commit({})
    print({name: round(value, 3) for name, value in seconds.items()})
    assert sum(seconds.values()) < 60, seconds  # a loaded machine; calm it is a few seconds
    assert (env.site / "p-1.dist-info").is_dir()


def write_quickly(site: Path, version: str, files: Mapping[str, str]) -> InstalledDistribution:
    """As write_distribution, where hashing and normalizing 100,000 paths would be most of the
    time."""
    found = write_distribution(
        site, "p", version, {}, rows=[f"{path},sha256=x,0" for path in files]
    )
    for folder in {os.path.dirname(path) for path in files}:
        os.makedirs(site / folder)
    for path in files:
        os.close(os.open(f"{site}/{path}", os.O_CREAT | os.O_WRONLY))
    return found


def test_gigabytes_take_no_time(env: SmallEnvironment) -> None:
    """Five, as torch and its libraries have them; sparse, so that only the names and sizes are
    real."""
    old = env.install(
        "p",
        "1",
        {"p/__init__.py": "1"},
        rows=[f"p/lib{number}.so,sha256=x,1" for number in range(5)],
    )
    for number in range(5):
        make_sparse(env.site / "p" / f"lib{number}.so")
    seconds: Dict[str, float] = {}
    with env.begin() as transaction:
        env.stage(transaction, "p", "2", {"p/__init__.py": "2"})
        for number in range(5):
            make_sparse(Path(f"{transaction.stage}{env.site}/p/lib{number}.so"))
        timed(seconds, "plan", lambda: transaction.plan(remove=[old], keep=[]))
        timed(seconds, "swap", transaction.swap)
        transaction.commit({})
    with history.begin_undo(env.prefix) as undo:
        timed(seconds, "undo", undo.swap)
        undo.commit({})
    assert (env.site / "p" / "__init__.py").read_text() == "1"
    assert sum(seconds.values()) < 10, seconds
    assert history.measure(env.prefix, undo.id) < 2**20  # what it really takes on the disk


def make_sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**30)

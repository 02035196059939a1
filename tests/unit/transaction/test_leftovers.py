"""What becomes of pip's `~` folders: the decisions as a table, and the same on a small
environment."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List, Tuple

import pytest

from safe_install.errors import Refused
from safe_install.transaction import history
from safe_install.transaction.asides import check_leftovers
from safe_install.transaction.leftover_files import (
    find_moved,
    lay_out,
    read_leftovers,
)
from safe_install.transaction.leftovers import (
    LeftoverAction,
    LeftoverDecision,
    Recorded,
    SetAsideFolder,
    decide,
    is_name_aside,
)
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.place import make_areas
from tests.small_environment import SmallEnvironment
from tests.treehash import hash_tree


@pytest.mark.parametrize(
    ("aside", "name", "is_one"),
    [
        ("~orch", "torch", True),
        ("~rch", "torch", False),  # another length
        ("~-rch", "torch", True),
        ("~~rch", "torch", True),
        ("~9%ch", "torch", True),
        ("~arch", "torch", False),
        ("~torch", "torch", True),  # every shorter name was taken
        ("~-torch", "torch", True),
        ("~xtorch", "torch", False),
        ("torch", "torch", False),
        ("~orch-2.1.0.dist-info", "torch-2.1.0.dist-info", True),
        ("~", "a", False),
        ("~orch", "~orch", False),
    ],
)
def test_the_names_that_pip_gives(aside: str, name: str, is_one: bool) -> None:
    assert is_name_aside(aside, name) is is_one


SITE = "/env/site"
ASIDE = f"{SITE}/~orch"
INFO = f"{SITE}/~orch-1.dist-info"


def recorded(
    version: str = "1", *, aside: bool = True, name: str = "torch", **fields: object
) -> Recorded:
    home = f"{SITE}/{name}-{version}.dist-info"
    fields.setdefault("claimed", {ASIDE: f"{SITE}/torch", INFO: home})
    return Recorded(
        name, version, f"{SITE}/~orch-{version}.dist-info" if aside else home, home, **fields
    )  # type: ignore[arg-type]


NEEDED = frozenset({ASIDE, INFO})
TABLE = {
    "moved aside and complete": ([recorded(needed=NEEDED)], [(LeftoverAction.PUT_BACK, "torch 1")]),
    "the real one is there": (
        [recorded(), recorded("2", aside=False, is_whole=True)],
        [(LeftoverAction.MOVE_AWAY, "torch 2")],
    ),
    "a file is nowhere": ([recorded(needed=NEEDED, lost=("x.py",))], [(LeftoverAction.REPORT, "")]),
    "two versions, each complete": (
        [recorded(needed=NEEDED), recorded("2", needed=NEEDED)],
        [(LeftoverAction.REPORT, "")],
    ),
    "the real one is there, and not complete": (
        [recorded(needed=NEEDED), recorded("2", aside=False, lost=("x.py",))],
        [(LeftoverAction.REPORT, "")],
    ),
    "half of it in place": (
        [recorded(aside=False, claimed={ASIDE: f"{SITE}/torch"}, needed=frozenset({ASIDE}))],
        [(LeftoverAction.REPORT, ""), (LeftoverAction.PUT_BACK, "torch 1")],
    ),
    "of two distributions": (
        [recorded(needed=NEEDED), recorded(name="porch", aside=False, is_whole=True)],
        [(LeftoverAction.REPORT, ""), (LeftoverAction.REPORT, "")],
    ),
    "of nobody": ([], [(LeftoverAction.REPORT, ""), (LeftoverAction.REPORT, "")]),
}


@pytest.mark.parametrize(("found", "expected"), TABLE.values(), ids=TABLE.keys())
def test_decisions(found: List[Recorded], expected: List[Tuple[LeftoverAction, str]]) -> None:
    decisions = decide([SetAsideFolder(ASIDE), SetAsideFolder(INFO)], found)
    assert [(decision.action, decision.distribution) for decision in decisions] == expected
    told = {path for decision in decisions for path in decision.paths}
    assert told == {ASIDE, INFO}
    for decision in decisions:
        assert (decision.action is LeftoverAction.REPORT) == bool(decision.hint), decision


def test_a_folder_that_no_record_claims_goes_when_what_it_was_made_of_is_there() -> None:
    known, unknown = (
        SetAsideFolder(ASIDE, (f"{SITE}/torch",), frozenset({"torch"})),
        SetAsideFolder(INFO, (f"{SITE}/porch",)),
    )
    assert [decision.action for decision in decide([known, unknown], [])] == [
        LeftoverAction.MOVE_AWAY,
        LeftoverAction.REPORT,
    ]


def test_only_files_were_moved() -> None:
    half = recorded(
        aside=False, claimed={}, kept_elsewhere={"/env/bin/tool": "/tmp/pip-uninstall-x/tool"}
    )
    (decision,) = decide([], [half])
    assert (decision.action, decision.paths) == (LeftoverAction.PUT_BACK, ())


# --- on the disk ----------------------------------------------------------------------------------

FILES = {
    "torch/__init__.py": "1",
    "torch/lib/a.so": "1",
    "torch/sub/b.py": "1",
    "../../../bin/torchrun": "1",
}


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallEnvironment]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    found = SmallEnvironment(tmp_path / "env")
    found.install("other", "1", {"other/__init__.py": "", "space/other.py": ""})
    found.install("torch", "1", FILES)
    with lock_environment(found.prefix):
        yield found


def move_aside(env: SmallEnvironment, *names: str) -> None:
    """As pip does: `torch` becomes `~orch`; a file goes to its temporary folder."""
    for name in names:
        path = env.site / name
        if path.is_dir():
            os.rename(path, path.with_name("~" + path.name[1:]))
        else:
            folder = Path(tempfile.gettempdir()) / "pip-uninstall-abc"
            folder.mkdir(exist_ok=True)
            os.rename(os.path.normpath(path), folder / path.name)


def judge(env: SmallEnvironment) -> Tuple[LeftoverDecision, ...]:
    return decide(*read_leftovers(make_areas(env.prefix, env.scheme)))


def apply_and_verify(env: SmallEnvironment, decision: LeftoverDecision) -> None:
    with env.begin() as transaction:
        for one in decision.recorded:
            lay_out(one, transaction.stage)
        transaction.plan_paths(find_moved(decision, make_areas(env.prefix, env.scheme)), keep=[])
        transaction.swap()
        transaction.commit({})


INFO_1 = "torch-1.dist-info"
SCRIPT = "../../../bin/torchrun"


def begin_the_next(env: SmallEnvironment) -> None:
    """The next version as far as pip had got: no RECORD yet."""
    (env.site / "torch").mkdir()
    (env.site / "torch" / "__init__.py").write_text("2")
    (env.site / "torch" / "new.py").write_text("2")
    (env.site / "torch-2.dist-info").mkdir()
    (env.site / "torch-2.dist-info" / "METADATA").write_text("Name: torch\nVersion: 2\n\n")
    (env.scripts / "torchrun").write_text("2")


def remove_a_file_with_the_same_name(env: SmallEnvironment) -> None:
    (Path(tempfile.gettempdir()) / "pip-uninstall-abc" / "torchrun").write_text(
        "of another version"
    )


PUT_BACK = {
    "only the script": ((SCRIPT,), None),
    "the script and the dist-info": ((SCRIPT, INFO_1), None),
    "everything": ((SCRIPT, INFO_1, "torch"), None),
    "everything, and the next one is half there": ((SCRIPT, INFO_1, "torch"), begin_the_next),
    "the package, not yet the dist-info": ((SCRIPT, "torch"), None),
    "a part of the package": ((SCRIPT, "torch/sub"), None),
}


@pytest.mark.parametrize(("moved", "more"), PUT_BACK.values(), ids=PUT_BACK.keys())
def test_put_back(
    env: SmallEnvironment, moved: Tuple[str, ...], more: Callable[[SmallEnvironment], None]
) -> None:
    before = hash_tree(env.prefix)
    move_aside(env, *moved)
    if more:
        more(env)
    interrupted = hash_tree(env.prefix)
    (decision,) = judge(env)
    assert (decision.action, decision.distribution) == (LeftoverAction.PUT_BACK, "torch 1")
    assert hash_tree(env.prefix) == interrupted  # looking changes nothing
    apply_and_verify(env, decision)
    assert hash_tree(env.prefix) == before
    assert judge(env) == ()
    with history.begin_undo(env.prefix) as undo:
        undo.swap()
        undo.commit({})
    assert hash_tree(env.prefix) == interrupted


def lose_the_script(env: SmallEnvironment) -> None:
    shutil.rmtree(tempfile.gettempdir())


def delete_some(env: SmallEnvironment) -> None:
    (env.site / "~orch" / "lib" / "a.so").unlink()


def delete_the_record(env: SmallEnvironment) -> None:
    shutil.rmtree(env.site / "~orch-1.dist-info")


def edit(env: SmallEnvironment) -> None:
    (env.site / "~orch" / "sub" / "b.py").write_text("other")


def put_something_in(env: SmallEnvironment) -> None:
    (env.site / "~orch" / "mine.txt").write_text("mine")


def install_the_next_and_lose_a_file_of_it(env: SmallEnvironment) -> None:
    env.install("torch", "2", {"torch/__init__.py": "2", "torch/x.py": ""})
    (env.site / "torch" / "x.py").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        lose_the_script,
        remove_a_file_with_the_same_name,
        delete_some,
        delete_the_record,
        edit,
        put_something_in,
        install_the_next_and_lose_a_file_of_it,
    ],
)
def test_nothing_is_guessed(
    env: SmallEnvironment, damage: Callable[[SmallEnvironment], None]
) -> None:
    move_aside(env, SCRIPT, INFO_1, "torch")
    damage(env)
    before = hash_tree(env.prefix)
    decisions = judge(env)
    assert decisions
    assert {decision.action for decision in decisions} == {LeftoverAction.REPORT}
    assert all("rm -r" in decision.hint for decision in decisions)
    assert hash_tree(env.prefix) == before


@pytest.mark.parametrize("damage", [None, delete_some, delete_the_record])
def test_moved_away_where_the_real_one_is_whole(
    env: SmallEnvironment, damage: Callable[[SmallEnvironment], None]
) -> None:
    move_aside(env, SCRIPT, INFO_1, "torch")
    if damage:
        damage(env)
    shutil.rmtree(tempfile.gettempdir())
    interrupted = hash_tree(env.prefix)
    env.install("torch", "2", {"torch/__init__.py": "2", "../../../bin/torchrun": "2"})
    now = hash_tree(env.prefix)
    decisions = judge(env)
    assert {decision.action for decision in decisions} == {LeftoverAction.MOVE_AWAY}, decisions
    assert all("torch" in decision.distribution for decision in decisions)
    for decision in decisions:
        apply_and_verify(env, decision)
    assert not list(env.site.glob("~*"))
    assert (env.site / "torch/__init__.py").read_text() == "2"
    for _ in decisions:
        with history.begin_undo(env.prefix) as undo:
            undo.swap()
            undo.commit({})
    assert hash_tree(env.prefix) == now != interrupted


def test_a_package_in_a_shared_folder(env: SmallEnvironment) -> None:
    env.install("space-x", "1", {"space/extra/a.py": "1", "space/extra/b.py": "1"})
    before = hash_tree(env.prefix)
    move_aside(env, "space/extra")
    (decision,) = judge(env)
    assert (decision.action, [Path(path).name for path in decision.paths]) == (
        LeftoverAction.PUT_BACK,
        ["~xtra"],
    )
    apply_and_verify(env, decision)
    assert hash_tree(env.prefix) == before


def test_a_folder_that_was_moved_aside_twice_is_not_written_into(env: SmallEnvironment) -> None:
    """Which of the two is the right one is not known, and both stay as they are."""
    move_aside(env, "torch")
    shutil.copytree(env.site / "~orch", env.site / "~~rch")
    (env.site / "~orch" / "__init__.py").write_text("1")
    (decision,) = judge(env)
    interrupted = hash_tree(env.prefix)
    with pytest.raises(Refused, match="moved aside twice"):
        apply_and_verify(env, decision)
    assert hash_tree(env.prefix) == interrupted


def test_another_users_file_is_not_taken(
    env: SmallEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    move_aside(env, SCRIPT)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert judge(env) == ()


def test_verify_warns(env: SmallEnvironment) -> None:
    assert check_leftovers(env.scheme) == ()
    move_aside(env, "torch")
    (finding,) = check_leftovers(env.scheme)
    assert (finding.check, finding.severity.value) == ("interrupted-pip", "warning")
    assert "~orch" in finding.detail
    assert "recover" in finding.hint

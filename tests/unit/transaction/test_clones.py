"""Clones of repositories: built beside the environment, and nothing in them names that place
afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safe_install.environment.record import make_entry, read_record, render_record
from safe_install.errors import Refused
from safe_install.transaction import clones as clones_module
from safe_install.transaction.clones import LARGEST_TEXT, Clones, is_repository


@pytest.fixture
def clones(tmp_path):
    """With pip's folder of sources in the environment."""
    (tmp_path / "work").mkdir()
    place = tmp_path / "env" / "src"
    place.mkdir(parents=True)
    return Clones(tmp_path / "work", place, tmp_path / "env")


@pytest.fixture
def outside(tmp_path):
    """With pip's folder of sources outside of the environment (--src)."""
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "env").mkdir(exist_ok=True)
    return Clones(tmp_path / "work", tmp_path / "elsewhere", tmp_path / "env")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_clones_that_pip_takes_on_are_copied(clones):
    write(clones.place / "Demo_Clone" / "setup.py", "1")
    write(clones.place / "other" / "setup.py", "1")
    write(clones.place / "demo-clone.txt", "no folder")
    clones.copy_present(["demo-clone"])
    assert clones.names() == ["Demo_Clone"]
    write(clones.work / "Demo_Clone" / "setup.py", "2")
    clones.copy_present(["demo-clone"])  # pip has been at work on it
    assert (clones.work / "Demo_Clone" / "setup.py").read_text() == "2"


def test_a_clone_that_cannot_be_copied_refuses_the_change(clones, monkeypatch):
    write(clones.place / "demo" / "setup.py", "1")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clones_module.shutil, "copytree", fail)
    with pytest.raises(Refused, match=r"a clone could not be copied: .*No space left"):
        clones.copy_present(["demo"])


@pytest.mark.parametrize(
    ("is_there", "covered", "now"),
    [
        (True, True, "work"),
        (False, True, "work"),
        # outside of the environment what is there is what was wanted
        (True, False, "place"),
        (False, False, "work"),
    ],
)
def test_where_the_sources_of_a_final_address_are_now(is_there, covered, now, clones, outside):
    used = clones if covered else outside
    write(used.work / "my demo" / "setup.py", "")
    if is_there:
        write(used.place / "my demo" / "setup.py", "")
    folder = {"work": used.work, "place": used.place}[now]
    address = f"file://{used.place}/my%20demo"
    assert used.source_of(address) == folder / "my demo"
    assert used.source_of(f"file://{used.place}/missing") is None
    assert used.source_of("file:///somewhere/my%20demo") is None


# --- what the build wrote -------------------------------------------------------------------------


def test_nothing_names_the_place_of_the_build_afterwards(clones, tmp_path):
    """Texts, addresses and links; RECORD fits them, and bytecode of what changed is gone."""
    stage, work = tmp_path / "stage", clones.work
    site = stage / "env" / "site"
    files = {
        site / "demo.pth": f"{work}/demo\n",
        site / "finder.py": f"MAPPING = {{'demo': '{work}/demo/src'}}\n",
        site / "demo-1.dist-info" / "direct_url.json": f'{{"url": "file://{work}/demo"}}',
        site / "same.py": "x = 1\n",
        site / "__pycache__" / "finder.cpython-311.pyc": b"old",
        site / "__pycache__" / "same.cpython-311.pyc": b"kept",
    }
    for path, content in files.items():
        write(path, content)
    record = site / "demo-1.dist-info" / "RECORD"
    rows = [make_entry(str(path.relative_to(site)), path.read_bytes()) for path in files]
    record.write_bytes(render_record(rows))
    clones.rewrite(stage)
    assert (site / "demo.pth").read_text() == f"{clones.place}/demo\n"
    assert str(work) not in "".join(path.read_text() for path in site.glob("*.p*"))
    assert f"file://{clones.place}/demo" in (site / "demo-1.dist-info/direct_url.json").read_text()
    assert not (site / "__pycache__" / "finder.cpython-311.pyc").exists()
    kept = {path for path in files if path.exists()}
    assert {entry.path for entry in read_record(record.parent)} == {
        str(path.relative_to(site)) for path in kept
    }
    for entry in read_record(record.parent):
        assert entry == make_entry(entry.path, (site / entry.path).read_bytes())


@pytest.mark.parametrize("name", ["my demo", "d%mo"])
def test_the_clones_themselves_name_their_last_place(name, clones, tmp_path):
    """Also as in an address; not what is no text, nor git's own files."""
    work, place = clones.work / name, clones.place / name
    address = work.as_uri()[len("file://") :]
    texts = {"demo.egg-info/SOURCES.txt": f"{work}/a.py\n{address}/b.py\n"}
    texts["plain.txt"] = "nothing\n"
    for path, content in texts.items():
        write(work / path, content)
    untouched = {"_C.so": b"\0" + os.fsencode(f"{work}/x"), ".git/config": f"{work}".encode()}
    untouched["large.txt"] = os.fsencode(f"{work}/x") + b" " * LARGEST_TEXT
    for path, content in untouched.items():
        write(work / path, content)
    (work / "link").symlink_to(work / "plain.txt")
    (work / "inner").symlink_to("plain.txt")
    clones.rewrite(tmp_path / "stage")
    sources = (work / "demo.egg-info" / "SOURCES.txt").read_text()
    assert sources == f"{place}/a.py\n{place.as_uri()[len('file://') :]}/b.py\n"
    assert os.readlink(work / "link") == f"{place}/plain.txt"
    assert os.readlink(work / "inner") == "plain.txt"
    for path, content in untouched.items():
        assert (work / path).read_bytes() == content


# --- into their place -----------------------------------------------------------------------------


def test_in_the_environment_they_are_part_of_the_change(clones, tmp_path):
    write(clones.work / "demo" / "setup.py", "1")
    stage = tmp_path / "stage"
    assert clones.move_into(stage) == (clones.place / "demo",)
    assert (Path(f"{stage}{clones.place}") / "demo" / "setup.py").read_text() == "1"
    assert clones.names() == []
    clones.place_uncovered()  # nothing is left to do outside of it
    assert not list(clones.place.iterdir())


def test_outside_of_the_environment_a_new_one_is_placed_and_taken_away_again(outside, tmp_path):
    write(outside.work / "demo" / "setup.py", "1")
    write(outside.place / "old" / "setup.py", "0")
    write(outside.work / "old" / "setup.py", "1")
    assert outside.move_into(tmp_path / "stage") == ()
    outside.place_uncovered()
    assert (outside.place / "demo" / "setup.py").read_text() == "1"
    assert (outside.place / "old" / "setup.py").read_text() == "0", "what is there stays"
    outside.take_away()
    assert sorted(path.name for path in outside.place.iterdir()) == ["old"]


def test_once_the_change_is_committed_it_stays(outside):
    write(outside.work / "demo" / "setup.py", "1")
    outside.place_uncovered()
    outside.keep()
    outside.take_away()
    assert (outside.place / "demo" / "setup.py").exists()


@pytest.mark.parametrize(
    ("there", "now", "is_refused"), [("a", "a", False), ("a", "b", True), (None, "b", True)]
)
def test_outside_of_the_environment_none_moves_to_another_revision(
    there, now, is_refused, outside, monkeypatch
):
    """That could not be taken back."""
    write(outside.place / "demo" / "setup.py", "")
    write(outside.work / "demo" / "setup.py", "")
    commits = {outside.place / "demo": there, outside.work / "demo": now}
    monkeypatch.setattr(clones_module, "_read_commit", commits.get)
    if not is_refused:
        outside.refuse_uncovered()
        return
    with pytest.raises(Refused, match="would be moved to another revision") as caught:
        outside.refuse_uncovered()
    assert f"-e {outside.place / 'demo'}" in caught.value.hint


def test_in_the_environment_another_revision_is_a_change_like_any_other(clones, monkeypatch):
    write(clones.place / "demo" / "setup.py", "")
    write(clones.work / "demo" / "setup.py", "")
    monkeypatch.setattr(clones_module, "_read_commit", lambda clone: str(clone))
    clones.refuse_uncovered()


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("git+https://h/x.git", True),
        ("demo @ git+ssh://git@h/x.git@v1", True),
        ("https://h/x+cpu.whl", False),
        ("./folder", False),
        ("demo", False),
    ],
)
def test_what_is_a_repository(text, is_one):
    assert is_repository(text) is is_one

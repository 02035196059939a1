"""Real pips, killed in the middle of replacing and removing a package of many files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.treehash import read_tree


def kill_pip(place, *words, folders, pause=0.0):
    """Start pip and kill it as soon as so many `~` folders are there (and a little later)."""
    command = [str(place.executable), "-m", "pip", *words]
    with subprocess.Popen(
        command, env=place.variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as pip:
        deadline = time.monotonic() + 60
        while pip.poll() is None and time.monotonic() < deadline:
            if count_moved_aside(place.site) >= folders:
                time.sleep(pause)
                pip.send_signal(signal.SIGKILL)
                break
    assert pip.returncode == -signal.SIGKILL, "pip had ended before: the test shows nothing"


def count_moved_aside(site):
    """pip makes an empty folder, removes it, and renames the old one to its name: an empty one says
    nothing yet."""
    found = 0
    for name in os.listdir(site):
        try:
            found += name.startswith("~") and bool(os.listdir(os.path.join(site, name)))
        except OSError:
            pass  # it was the empty one
    return found


def files_moved_aside(site):
    return sum(count_files(folder) for folder in site.glob("~*"))


def count_files(folder):
    return sum(path.is_file() for path in folder.rglob("*"))


def leftovers(place):
    return place.document("recover")["details"]["leftovers"]


@pytest.mark.long
def test_an_upgrade_that_was_killed_is_put_back(make_place):
    place = make_place("many==1.0")
    before = place.tree()
    kill_pip(place, "install", "-q", "--no-compile", "many==2.0", folders=1)
    interrupted = place.tree()
    assert interrupted != before
    found = place.document("verify")["findings"]
    assert [one["severity"] for one in found if one["check"] == "interrupted-pip"] == ["warning"]
    place.safe_install("undo")  # other commands leave it alone
    assert place.tree() == interrupted
    (told,) = leftovers(place)
    assert (told["what"], told["distribution"]) == ("put-back", "many 1.0"), told
    assert place.tree() == before
    assert leftovers(place) == []
    place.must("undo", told["transaction"])
    assert place.tree() == interrupted


def test_an_upgrade_that_was_killed_at_its_end(make_place):
    place = make_place("many==1.0")
    (metadata,) = place.site.glob("many-1.0.dist-info")
    whole = count_files(place.site / "many") + count_files(metadata)
    for pause in (0.05, 0.02, 0.0, 0.0):
        kill_pip(place, "install", "-q", "--no-compile", "many==2.0", folders=2, pause=pause)
        place.must_pip("install", "-q", "--no-compile", "many==2.0")  # what most people do then
        if files_moved_aside(place.site) == whole:
            break
        # Pip had begun to delete what it had moved aside: earlier, then.
        for folder in place.site.glob("~*"):
            shutil.rmtree(folder)
        place.must_pip("install", "-q", "--no-compile", "many==1.0")
    assert files_moved_aside(place.site) == whole
    before = place.tree()
    told = leftovers(place)
    assert {one["what"] for one in told} == {"moved-away"}, told
    assert not [name for name in os.listdir(place.site) if name.startswith("~")]
    assert place.ask("import many; print(many.version)") == "2.0"
    (change,) = {one["transaction"] for one in told}
    place.must("undo", change)
    assert read_tree(place.prefix) == before


def test_a_removal_that_was_killed(make_place):
    place = make_place("many==1.0")
    before = place.tree()
    kill_pip(place, "uninstall", "-q", "-y", "many", folders=1)
    told = leftovers(place)
    # Killed early it is complete; killed while pip deletes, it is only told.
    assert {one["what"] for one in told} in ({"put-back"}, {"told"}), told
    if told[0]["what"] == "put-back":
        assert place.tree() == before
    else:
        assert "rm -r" in told[0]["hint"]

"""What is done where something was mounted, as a process of its own: `python -m tests.shapes.inside
STORY FOLDER`.

Each story finds its environment in FOLDER/env and fails by an assertion.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable, Dict

from tests.functional.conftest import run_process
from tests.shapes.conftest import TOOL, Place
from tests.treehash import read_tree

# Killed in the middle: before the n-th file goes to the stash.
DYING = """
import os, signal
rename, left = os.rename, [{number}]
def rename_or_die(first, second):
    if "/stash/" in str(second):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    rename(first, second)
os.rename = rename_or_die
"""


def refuse(place: Place, *words: str, telling: str, status: int = 11, **variables: str) -> str:
    """The command is refused, says why, and everything is as before."""
    before = read_tree(place.prefix)
    done = place.safe_install(*words, **variables)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    assert telling in done.stderr, done.stderr
    assert read_tree(place.prefix) == before
    assert not list((place.prefix / ".safe-install").glob("txn-*"))
    return done.stderr


def overlay(place: Place) -> None:
    """An image build: everything that is there lies in a lower layer."""
    before = read_tree(place.prefix)
    place.must("install", "-q", "alpha==1.5")
    assert place.ask("import alpha.only_15, alpha; print(alpha.version)") == "1.5"
    journal = next((place.prefix / ".safe-install").glob("txn-*/committed")).read_text()
    assert "site-packages/alpha/__init__.py" in journal, (
        "directories were renamed: the test shows nothing"
    )
    after = read_tree(place.prefix)
    failed = place.safe_install("install", "-q", "alpha==2.0")
    assert failed.returncode == 12, failed.stderr
    assert read_tree(place.prefix) == after
    place.must("undo")
    assert read_tree(place.prefix) == before
    for number in (2, 5):
        tool = [*TOOL[:2], DYING.format(number=number) + TOOL[2]]
        killed = run_process(
            [*tool, "uninstall", "-y", "alpha", "torch"], place.variables, cwd=place.prefix.parent
        )
        assert killed.returncode == -signal.SIGKILL, (number, killed.stdout, killed.stderr)
        assert "undone" in place.must("recover").stdout
        assert read_tree(place.prefix) == before


def first_layer(place: Place) -> None:
    """What `next_layer` finds: one change of whole directories, and one file by file."""
    seen = [read_tree(place.prefix)]
    for requirement in ("many==1.0", "alpha==1.5"):
        place.must("install", "-q", requirement)
        seen.append(read_tree(place.prefix))
    (place.prefix.parent / "states").write_text(repr(seen))


def next_layer(place: Place) -> None:
    """Changes that were committed in the layer below are taken back in this one, and that as
    well."""
    bare, many, both = eval((place.prefix.parent / "states").read_text())
    assert read_tree(place.prefix) == both
    for expected in (many, bare):
        place.must("undo")
        assert read_tree(place.prefix) == expected
    newest = place.document("history")["details"]["history"][0]["id"]
    place.must("undo", newest)
    assert read_tree(place.prefix) == many


def small_temporary_folder(place: Place) -> None:
    """TMPDIR is too small for what pip downloads: noticed before, with the folder and the mend."""
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(place.prefix.parent / "large"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    folder = place.variables["TMPDIR"]
    told = refuse(
        place,
        "install",
        "-q",
        "large",
        status=1,
        telling="TMPDIR",
        PIP_FIND_LINKS=url,
        PIP_NO_CACHE_DIR="1",
    )
    assert folder in told
    assert "MiB free" in told
    roomy = place.prefix.parent / "roomy"
    roomy.mkdir()
    place.must(
        "install", "-q", "large", PIP_FIND_LINKS=url, PIP_NO_CACHE_DIR="1", TMPDIR=str(roomy)
    )


class Quiet(SimpleHTTPRequestHandler):
    """A page of links, without a word."""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


def small_environment(place: Place) -> None:
    """The environment's own file system is too small for old and new side by side."""
    told = refuse(
        place,
        "install",
        "-q",
        "large",
        telling="MiB free",
        PIP_FIND_LINKS=str(place.prefix.parent / "large"),
    )
    assert str(place.prefix) in told
    assert "history --prune" in told


def few_files(place: Place) -> None:
    """It has room, and takes no more files."""
    told = refuse(place, "install", "-q", "many", telling="more files")
    assert str(place.prefix) in told


def read_only_part(place: Place) -> None:
    """site-packages is mounted read-only, and the rest is not."""
    refuse(place, "uninstall", "-y", "alpha", telling="mounted read-only")


def read_only_data(place: Place) -> None:
    """Only a folder that one of the files goes to."""
    told = refuse(place, "uninstall", "-y", "alpha", telling="share")
    assert "read-only" in told or "another file system" in told


def read_only_everything(place: Place) -> None:
    """The whole environment: said in one sentence; questions are still answered."""
    refuse(
        place, "install", "-q", "alpha==1.5", telling="Read-only file system", PYTHONNOUSERSITE="1"
    )
    assert place.safe_install("history").returncode == 0


def read_only_state(place: Place) -> None:
    """Only our own folder."""
    for words in (["uninstall", "-y", "alpha"], ["undo"], ["history", "--prune"]):
        before = read_tree(place.prefix)
        done = place.safe_install(*words)
        assert (done.returncode, "Read-only file system" in done.stderr) == (11, True), (
            words,
            done.stderr,
        )
        assert read_tree(place.prefix) == before
    assert place.must("history").stdout.count("alpha") == 1


def other_file_system(place: Place) -> None:
    """site-packages is another mount: refused before anything is fetched."""
    told = refuse(place, "install", "-q", "alpha==1.5", telling="is on another file system")
    assert str(place.site) in told


def linked_elsewhere(place: Place) -> None:
    """The same by a symbolic link."""
    site, elsewhere = place.site, place.prefix.parent / "tmp" / "elsewhere"
    shutil.move(str(site), elsewhere)
    site.symlink_to(elsewhere)
    refuse(place, "uninstall", "-y", "alpha", telling="is not inside of")


def bind_mounted_package(place: Place) -> None:
    """One package is a mount of the same file system: a rename cannot cross it, and all is put
    back."""
    refuse(place, "uninstall", "-y", "alpha", telling="everything is as before")


STORIES: Dict[str, Callable[[Place], None]] = {
    story.__name__: story
    for story in (
        overlay,
        first_layer,
        next_layer,
        small_temporary_folder,
        small_environment,
        few_files,
        read_only_part,
        read_only_data,
        read_only_everything,
        read_only_state,
        other_file_system,
        linked_elsewhere,
        bind_mounted_package,
    )
}

if __name__ == "__main__":
    STORIES[sys.argv[1]](Place(Path(sys.argv[2]) / "env", os.environ))

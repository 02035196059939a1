"""File systems as images, servers and small machines have them, really mounted, where nobody else
sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.wheels import write_wheel
from tests.shapes.conftest import (
    PYTHON,
    SOURCE,
    Place,
    make_plain_python,
    mounted,
    need_mounts,
    need_plain_layout,
    other_user,
    put,
    put_torch,
)

SITE = f"lib/python{PYTHON}/site-packages"

ROOT = Path(__file__).resolve().parents[2]
OVERLAY = "mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {prefix}"


@pytest.fixture
def place(tmp_path, variables) -> Place:
    """alpha 1.0 and torch in a plain Python; a file of the user's keeps one of the directories."""
    need_mounts()
    need_plain_layout()
    found = Place(make_plain_python(tmp_path / "env"), variables)
    put(found.site)
    put_torch(found.site)
    return found


def tell(place, story, *mounts):
    """Run a story behind these mounts."""
    folder = place.prefix.parent
    variables = {**place.variables, "PYTHONPATH": os.pathsep.join([SOURCE, str(ROOT)])}
    words = [
        sys.executable,
        "-B",
        "-c",
        f"import sys, runpy; sys.argv = ['inside', {story!r}, {str(folder)!r}]\n{RUN}",
    ]
    filled = [
        line.format(
            folder=folder,
            prefix=place.prefix,
            site=place.site,
            lower="{lower}",
            upper="{upper}",
            work="{work}",
        )
        for line in mounts
    ]
    done = mounted(filled, words, env=variables, marker=folder / "marker", cwd=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr


# The folders of this source tree for the story, and not for the interpreters that it starts.
RUN = "import os; del os.environ['PYTHONPATH']; runpy.run_module('tests.shapes.inside', run_name='__main__')"


def layers(folder, lower):
    """An overlay of its own upper layer over `lower`, on a file system that can hold one."""
    return [
        f"mkdir -p {folder}/up {folder}/work",
        f"mount -t overlay overlay -o lowerdir={lower},upperdir={folder}/up,workdir={folder}/work "
        f"{{prefix}}",
    ]


def test_an_image_build(place):
    tell(place, "overlay", "mount -t tmpfs tmpfs {folder}/tmp", *layers("{folder}/tmp", "{prefix}"))


@pytest.mark.long
def test_undo_in_a_later_step_of_an_image_build(place, tmp_path):
    (tmp_path / "layers").mkdir()
    tell(place, "first_layer", *layers("{folder}/layers", "{prefix}"))
    (tmp_path / "layers" / "second").mkdir()
    tell(
        place,
        "next_layer",
        *layers("{folder}/layers/second", f"{tmp_path}/layers/up:{place.prefix}"),
    )


@pytest.fixture
def large(tmp_path):
    """A wheel of 24 MB that cannot be compressed."""
    write_wheel(
        tmp_path / "large",
        "large",
        "1.0",
        {"large/__init__.py": "", "large/data": os.urandom(24 * 2**20)},
    )


@pytest.mark.long
def test_a_small_folder_for_temporary_files(place, large):
    tell(place, "small_temporary_folder", "mount -t tmpfs -o size=8m tmpfs {folder}/tmp")


COPY = "cp -a {prefix} {folder}/copy && mount -t tmpfs -o {options} tmpfs {prefix} && cp -a {folder}/copy/. {prefix}"


def test_a_small_file_system_for_the_environment(place, large):
    taken = int(subprocess.check_output(["du", "-sm", str(place.prefix)], text=True).split()[0])
    tell(place, "small_environment", COPY.replace("{options}", f"size={taken + 16}m"))


def test_a_file_system_that_takes_no_more_files(place):
    tell(place, "few_files", COPY.replace("{options}", "size=1g,nr_inodes=800"))


READ_ONLY = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"


@pytest.mark.parametrize(
    ("story", "part"),
    [
        ("read_only_part", "{site}"),
        ("read_only_data", "{prefix}/share"),
        ("read_only_everything", "{prefix}"),
        ("bind_mounted_package", None),
    ],
)
def test_a_part_that_is_mounted(place, story, part):
    tell(
        place,
        story,
        READ_ONLY.replace("{0}", part) if part else "mount --bind {site}/alpha {site}/alpha",
    )


def test_a_read_only_folder_of_our_own(place):
    place.must("uninstall", "-y", "alpha", "torch")
    tell(place, "read_only_state", READ_ONLY.replace("{0}", "{prefix}/.safe-install"))


def test_site_packages_on_another_file_system(place):
    copy = (
        "cp -a {site} {folder}/copy && mount -t tmpfs tmpfs {site} && cp -a {folder}/copy/. {site}"
    )
    tell(place, "other_file_system", copy)
    tell(place, "linked_elsewhere", "mount -t tmpfs tmpfs {folder}/tmp")


# --- without mounts -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [SITE, "share"])
def test_a_folder_without_the_right_to_write(tmp_path, variables, which):
    need_plain_layout()
    nobody = other_user()
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/shape-XXXXXX"], text=True).strip())
    try:
        folder.chmod(0o755)
        place = Place(
            make_plain_python(folder / "env"), {**variables, "HOME": str(folder / "env" / "home")}
        )
        put(place.site)
        for parent, names, files in os.walk(folder / "env"):
            for name in [".", *names, *files]:
                os.chown(os.path.join(parent, name), 65534, 65534, follow_symlinks=False)
        (place.prefix / which).chmod(0o555)
        before = place.tree()
        from tests.functional.conftest import run_process
        from tests.shapes.conftest import TOOL

        words = [*nobody, *TOOL, "uninstall", "-y", "alpha"]
        refused = run_process(words, {**place.variables, "TMPDIR": "/tmp"}, cwd="/")
        assert (refused.returncode, place.tree()) == (11, before), refused.stderr
        assert f"{place.prefix / which} cannot be written by this user" in refused.stderr
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def immutable(tmp_path):
    """Makes files immutable, and mutable again in the end."""
    made = []

    def make(path):
        done = (
            subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False)
            if CHATTR
            else None
        )
        if done is None or done.returncode != 0:
            pytest.skip("nothing can be made immutable here")
        made.append(path)

    yield make
    for path in made:
        subprocess.run(["chattr", "-i", str(path)], check=True)


CHATTR = shutil.which("chattr")


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (SITE, "it is immutable"),
        (f"{SITE}/torch", "it is immutable"),
        ("share/alpha/about.txt", "everything is as before"),
    ],
)
def test_something_immutable(tmp_path, variables, immutable, which, words):
    need_plain_layout()
    place = Place(make_plain_python(tmp_path / "env"), variables)
    put(place.site)
    put_torch(place.site)
    (place.prefix / "share" / "alpha" / "mine.txt").write_text("keeps the directory")
    before = place.tree()
    immutable(place.prefix / which)
    refused = place.safe_install("uninstall", "-y", "alpha", "torch")
    assert (refused.returncode, place.tree()) == (11, before), refused.stderr
    assert words in refused.stderr

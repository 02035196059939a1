"""The program as one file unpacks itself once: a small program with the real start, as processes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest

from safe_install import packed, program_archive
from safe_install.packed import WEEK
from safe_install.program_archive import hash_program
from safe_install.snapshot.bundle_file import render_program
from tests.functional.conftest import find_python

MAIN = """
import json, pkgutil, sys
def run():
    from safe_install.part import thing
    import beside
    archive = sys.modules["safe_install"].__spec__.loader.archive
    text = pkgutil.get_data("safe_install.part", "data.txt").decode()
    print(json.dumps([thing.__file__, beside.__file__, archive, sys.argv, text, thing.WHO]))
"""
PROGRAM = {
    "safe_install/__init__.py": b"",
    "safe_install/__main__.py": MAIN.encode(),
    "safe_install/packed.py": Path(packed.__file__).read_bytes(),
    "safe_install/program_archive.py": Path(program_archive.__file__).read_bytes(),
    "safe_install/part/__init__.py": b"",
    "safe_install/part/thing.py": b"WHO = 'the program'\n",
    "safe_install/part/data.txt": b"data",
    "beside.py": b"",
}
EVIL = "raise SystemExit('evil')\n"
NOBODY = 12345  # no user that this machine knows


class Packed:
    """A program as one file, and the cache of the person who starts it."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder, self.cache = folder, folder / "cache"
        self.file = folder / "program.pyz"
        self.file.write_bytes(render_program(PROGRAM, "3.8"))
        self.variables = {"HOME": str(folder), "SAFE_INSTALL_CACHE_DIR": str(self.cache)}

    @property
    def programs(self) -> Path:
        return self.cache / "program"

    @property
    def unpacked(self) -> Path:
        """Where it belongs."""
        return self.programs / f"{hash_program(PROGRAM)[:32]}-{int(time.time()) // WEEK}"

    def start(self, *options: str, python: str = sys.executable, **rest) -> subprocess.Popen:
        return subprocess.Popen(
            [python, *(options or ("-I",)), str(self.file), "word"],
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **rest,
        )

    def fail(self, *options: str, **rest) -> str:
        """What it says when it cannot run."""
        with self.start(*options, **rest) as process:
            _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        return told

    def end(self, process) -> bool:
        """Does it run from its folder? Else out of its file; nothing else differs."""
        with process:
            output, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (0, "")
        thing, beside, archive, argv, text, who = json.loads(output)
        assert (archive, argv) == (str(self.file), [str(self.file), "word"])
        assert (text, who) == ("data", "the program")
        root = Path(thing).parents[2]
        assert root in (self.unpacked, self.file)
        assert Path(beside).parent == root
        return root == self.unpacked

    def run(self, *options: str, **rest) -> bool:
        return self.end(self.start(*options, **rest))


@pytest.fixture
def program(tmp_path) -> Packed:
    return Packed(tmp_path)


def read_times(folder):
    return {path: path.lstat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_the_second_start_finds_bytecode(program):
    assert program.run()
    compiled = program.unpacked / "safe_install/part/__pycache__"
    (bytecode,) = compiled.glob("thing.*.pyc")
    assert program.unpacked.stat().st_mode & 0o777 == 0o700
    assert program.programs.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in program.programs.iterdir()] == [program.unpacked.name]
    before = read_times(program.cache)
    assert program.run()
    assert read_times(program.cache) == before
    # What is read is the bytecode: it says something else than its source, which looks the same.
    source = compiled.parent / "thing.py"
    status = source.stat()
    source.write_text("WHO = 'THE PROGRAM'\n")
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert program.run()
    assert bytecode.exists()


@pytest.mark.parametrize("version", ["3.8", "3.13"])
def test_other_pythons_share_it(program, version):
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    if version == "{}.{}".format(*sys.version_info):
        pytest.skip(f"the tests themselves run on Python {version}")
    assert program.run()
    assert program.run(python=python)
    assert len(list(program.unpacked.glob("safe_install/part/__pycache__/thing.*.pyc"))) == 2


def test_a_python_that_is_too_old(program):
    for version in ("2.7", "3.6"):
        python = find_python(version)
        if python is None:
            continue
        told = program.fail("-E", python=python)
        assert told == "safe-install needs Python 3.8 or newer\n"
    assert not program.cache.exists()


def test_who_wants_no_bytecode_gets_no_folder(program):
    program.variables["PYTHONDONTWRITEBYTECODE"] = "1"
    assert not program.run("-s")
    assert not program.run("-B")
    assert not program.cache.exists()
    assert program.run("-I")  # which takes no variable of Python's
    before = read_times(program.cache)
    assert program.run("-s")
    assert read_times(program.cache) == before


# --- what is not safe -----------------------------------------------------------------------------


def plant(folder: Path) -> None:
    """A program of somebody else."""
    for name in ("safe_install/part/__init__.py", "beside.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(EVIL)


def link_to_it(program):
    plant(program.folder / "evil")
    program.programs.mkdir(0o700, parents=True)
    program.unpacked.symlink_to(program.folder / "evil")


def link_to_its_parent(program):
    plant(program.folder / "evil" / program.unpacked.name)
    program.cache.mkdir()
    program.programs.symlink_to(program.folder / "evil")


def open_to_all(program):
    plant(program.unpacked)
    program.unpacked.chmod(0o777)


def parent_open_to_all(program):
    plant(program.unpacked)
    program.programs.chmod(0o777)


def of_another_user(program):
    if os.geteuid() != 0:
        pytest.skip("another user's folder needs root")
    plant(program.unpacked)
    os.chown(program.unpacked, NOBODY, NOBODY)


def parent_of_another_user(program):
    if os.geteuid() != 0:
        pytest.skip("another user's folder needs root")
    plant(program.unpacked)
    os.chown(program.programs, NOBODY, NOBODY)


def a_file(program):
    program.programs.mkdir(parents=True)
    program.unpacked.write_text("nothing")


def cache_is_a_file(program):
    program.cache.write_text("nothing")


def no_such_cache(program):
    program.variables["SAFE_INSTALL_CACHE_DIR"] = "/dev/null/cache"


@pytest.mark.parametrize(
    "prepare",
    [
        link_to_it,
        link_to_its_parent,
        open_to_all,
        parent_open_to_all,
        of_another_user,
        parent_of_another_user,
        a_file,
        cache_is_a_file,
        no_such_cache,
    ],
)
def test_it_runs_out_of_its_file_where_a_folder_is_not_its_own(program, prepare):
    prepare(program)
    before = read_times(program.folder)
    assert not program.run()
    assert read_times(program.folder) == before


def test_a_disk_that_is_full(program):
    """A limit on the size of a file refuses what is written as a full disk does."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    assert not program.run(preexec_fn=limit)
    assert not list(program.programs.iterdir())
    assert program.run()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_user_without_a_home_and_one_who_may_not_write():
    python = "/usr/bin/python3"  # which every user may start
    if not os.path.exists(python):
        pytest.skip(f"no {python} here")

    def become():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        program = Packed(Path(folder))
        assert not program.run(python=python, preexec_fn=become)
        program.variables = {}
        assert not program.run(python=python, preexec_fn=become)
        program.cache.mkdir()
        os.chown(program.cache, NOBODY, NOBODY)
        program.variables["SAFE_INSTALL_CACHE_DIR"] = str(program.cache)
        assert program.run(python=python, preexec_fn=become)
        assert not program.run(), "of root, who does not run what another user can write"


# --- the file -------------------------------------------------------------------------------------


def test_a_damaged_file_is_an_error_and_leaves_no_folder(program):
    content = bytearray(program.file.read_bytes())
    with zipfile.ZipFile(program.file) as archive:
        header = archive.getinfo("safe_install/part/thing.py").header_offset
    # behind the header, which ends with a name and a field of these lengths
    lengths = struct.unpack_from("<HH", content, header + 26)
    content[header + 30 + sum(lengths) + 3] ^= 0xFF
    program.file.write_bytes(content)
    assert "rror" in program.fail()
    assert not list(program.programs.iterdir())
    program.file.write_bytes(content[: len(content) // 2])
    assert "This bundle is damaged or incomplete" in program.fail()


def test_a_file_whose_names_lead_elsewhere(program):
    """It runs: that was asked for. It writes nothing outside of the cache."""
    program.file.write_bytes(render_program({**PROGRAM, "../../../beside.py": b"evil"}, "3.8"))
    assert not program.run()
    assert not list(program.programs.iterdir())
    assert not list(program.folder.rglob("beside.py"))


def test_another_program_has_another_folder(program):
    assert program.run()
    first = program.unpacked
    changed = {**PROGRAM, "safe_install/part/new.py": b""}
    program.file.write_bytes(render_program(changed, "3.8"))
    with program.start() as process:
        output, _ = process.communicate()
    thing = Path(json.loads(output)[0])
    assert first not in thing.parents
    assert thing.with_name("new.py").exists()


# --- several --------------------------------------------------------------------------------------


def test_twenty_at_once_on_an_empty_cache(program):
    started = [program.start() for _ in range(20)]
    ran_from_folder = [program.end(process) for process in started]
    assert any(ran_from_folder)
    assert [path.name for path in program.programs.iterdir()] == [program.unpacked.name]
    assert program.run()


def test_the_next_unpacking_removes_the_old_but_not_what_runs(program):
    assert program.run()
    running, unused = program.programs / "runs", program.programs / "unused"
    for old in (running, unused):
        shutil.copytree(program.unpacked, old)
        os.utime(old, (0, 0))
    shutil.rmtree(program.unpacked)
    # A real process that has started from its folder, and goes on.
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import safe_install.packed as packed; packed.use(Path(sys.argv[2]), sys.argv[1]);"
        "print('there', flush=True); sys.stdin.readline(); import beside; print(beside.__file__)"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(program.file), str(running)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "there\n"
        assert program.run()
        names = {path.name for path in program.programs.iterdir()}
        assert names == {program.unpacked.name, "runs"}
        output, _ = process.communicate("\n")
    assert output == f"{running / 'beside.py'}\n"

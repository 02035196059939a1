"""Programs that run while files of their environment are replaced: they are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from safe_install.environment.programs import find_running
from tests.unit.wheels.crafted import make_wheel

HOLD = """\
import mmap, sys
file = open(sys.argv[1], "rb")
held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hold():
    """Start a program that has a file in memory; it ends with the test."""
    started = []

    def start(path: Path) -> int:
        program = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(program)
        assert program.stdout.readline() == b"ready\n"
        return program.pid

    yield start
    for program in started:
        program.communicate()


def make_file(path: Path, content: str = "old") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_file_that_is_as_it_was_is_not_named(tmp_path, hold):
    hold(make_file(tmp_path / "env" / "lib.so"))
    assert find_running(tmp_path / "env") == ()


def test_a_file_that_was_removed_and_one_that_was_replaced(tmp_path, hold):
    removed = make_file(tmp_path / "env" / "removed.so")
    replaced = make_file(tmp_path / "env" / "replaced.so")
    pids = [hold(removed), hold(replaced)]
    removed.unlink()
    make_file(tmp_path / "new.so", "new").replace(replaced)
    programs = find_running(tmp_path / "env")
    assert [program.pid for program in programs] == pids
    assert [program.files for program in programs] == [(str(removed),), (str(replaced),)]
    assert all(program.command.startswith(sys.executable) for program in programs)


def test_a_file_that_was_set_aside(tmp_path, hold):
    path = make_file(tmp_path / "env" / "lib.so")
    pid = hold(path)
    aside = tmp_path / "env" / ".safe-install" / "txn-1" / "stage" / "lib.so"
    aside.parent.mkdir(parents=True)
    path.rename(aside)
    (program,) = find_running(tmp_path / "env")
    assert (program.pid, program.files) == (pid, (str(aside),))


def test_files_of_other_environments_are_not_named(tmp_path, hold):
    path = make_file(tmp_path / "env2" / "lib.so")
    hold(path)
    path.unlink()
    assert find_running(tmp_path / "env") == ()


def test_install_and_undo_name_the_program(make_environment, tmp_path, hold):
    environment = make_environment("3.11")
    wheels = [make_version(tmp_path, version) for version in ("1.0", "2.0")]
    added = environment.safe_install("--json", str(wheels[0]))
    assert "running-with-old-files" not in added.stdout
    library = environment.site / "alpha" / "native.so"
    pid = hold(library)
    replaced = environment.safe_install(str(wheels[1]))
    assert replaced.returncode == 0
    assert f"warning: process {pid} ({sys.executable}" in replaced.stderr
    assert "has files in memory that were replaced: native.so" in replaced.stderr
    undone = environment.safe_install("undo")
    assert undone.returncode == 0
    assert f"process {pid} " not in undone.stderr  # its file is the installed one again


def make_version(folder: Path, version: str) -> Path:
    place = folder / version
    place.mkdir()
    return make_wheel(
        place,
        {"alpha/__init__.py": f"x = '{version}'\n", "alpha/native.so": f"library {version}"},
        filename=f"alpha-{version}-py3-none-any.whl",
        metadata=f"Metadata-Version: 2.1\nName: alpha\nVersion: {version}\n",
        wheel="Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        dist_info=f"alpha-{version}.dist-info",
    )

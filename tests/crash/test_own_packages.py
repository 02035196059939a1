"""The program's own packages, and itself, among what a change replaces: it still finishes, or is
recovered."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Sequence

import pytest
from packaging.requirements import Requirement

from tests.crash.conftest import RUNNING
from tests.crash.program import ROOT, Action, Program
from tests.lab import LabWheels
from tests.lab.wheels import write_wheel
from tests.treehash import hash_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="LD_PRELOAD of the GNU C library"
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]
WANTED: List[str] = []
NEVER = "raise ImportError('the new one does not even import')\n"


def own_requirements(
    name: str = "torch-safe-install",
) -> Dict[str, importlib.metadata.Distribution]:
    """The distributions that the program needs, and those that they need, by name."""
    found: Dict[str, importlib.metadata.Distribution] = {}
    for text in importlib.metadata.distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found[requirement.name] = importlib.metadata.distribution(requirement.name)
            found.update(own_requirements(requirement.name))
    return found


def copy_distribution(distribution: importlib.metadata.Distribution, site: Path) -> None:
    """A distribution of the running interpreter into another environment, RECORD and all; its
    commands aside."""
    for file in distribution.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), str(site / file))
    record = site / f"{distribution._path.name}" / "RECORD"  # type: ignore[attr-defined]
    record.write_text(
        "".join(row for row in record.read_text().splitlines(True) if not row.startswith("../"))
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheels: LabWheels) -> Iterator[Program]:
    """An environment in which the program is installed as a person would have it, and wheels that
    break it."""
    made = Program(Path(os.path.realpath(tmp_path_factory.mktemp("own"))), RUNNING, wheels)
    made.begin("")
    (site,) = made.prefix.glob("lib/python3*/site-packages")
    index = Path(made.variables["PIP_FIND_LINKS"])
    requirements = own_requirements()
    for name, distribution in requirements.items():
        copy_distribution(distribution, site)
        names = {
            file.parts[0]
            for file in distribution.files or ()
            if file.suffix == ".py" and ".." not in file.parts
        }
        files = {
            name if name.endswith(".py") else f"{name}/__init__.py": NEVER for name in sorted(names)
        }
        write_wheel(index, name, "99", files)
    sources = {
        f"safe_install/{path.relative_to(ROOT / 'src' / 'safe_install')}": path.read_bytes()
        for path in (ROOT / "src" / "safe_install").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    sources.update(
        {
            f"safe_install/wheel_index/{path.name}": path.read_bytes()
            for path in (ROOT / "wheel_index").glob("*.*")
        }
    )
    sources.setdefault("safe_install/wheel_index/__init__.py", b"")
    for version, files in (("1", sources), ("99", {"safe_install/__init__.py": NEVER})):
        write_wheel(index, "torch-safe-install", version, files)
    made.must("install", "--no-deps", "torch-safe-install==1")
    shutil.rmtree(made.prefix / ".safe-install")
    WANTED[:] = [f"{name}==99" for name in (*requirements, "torch-safe-install")]
    made.templates["own"] = made.folder / "template-own"
    made._save(made.templates["own"])
    yield made


def from_within(
    program: Program, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The program by the environment's own interpreter, from its own site-packages."""
    outer = {name: value for name, value in program.variables.items() if name != "PYTHONPATH"}
    command = [str(program.prefix / "bin" / "python"), "-B", "-m", "safe_install", *words]
    return subprocess.run(
        command,
        env={**outer, **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=program.folder,
    )


@pytest.fixture
def fresh(program: Program) -> Program:
    shutil.rmtree(program.prefix)
    subprocess.run(["cp", "-a", str(program.templates["own"]), str(program.prefix)], check=True)
    return program


def test_it_finishes_with_nothing_of_its_own_left(fresh: Program) -> None:
    before = hash_tree(fresh.prefix)
    done = from_within(fresh, "install", "--no-deps", *WANTED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Successfully installed .*\btorch-safe-install-99\b", done.stdout)
    again = from_within(fresh, "verify")
    assert "does not even import" in again.stderr
    undone = fresh.run(Action(("undo",)))
    assert undone.returncode == 0, undone.stderr
    assert hash_tree(fresh.prefix) == before


@pytest.mark.long
def test_killed_half_way_it_is_recovered_by_a_bare_python(fresh: Program) -> None:
    """Before the swap, in it, and behind it; the program itself cannot run then."""
    words = ("install", "--no-deps", *WANTED)
    counting = from_within(fresh, *words, **fresh.shimmed(at=0))
    assert counting.returncode == 0, counting.stderr
    last, broken = fresh.counted(), 0
    for step in range(last - 40, last, 13):
        shutil.rmtree(fresh.prefix)
        subprocess.run(["cp", "-a", str(fresh.templates["own"]), str(fresh.prefix)], check=True)
        before = hash_tree(fresh.prefix)
        killed = from_within_killed(fresh, words, step)
        assert killed == -signal.SIGKILL
        broken += from_within(fresh, "--version").returncode != 0
        script = fresh.prefix / ".safe-install" / "recover.py"
        if script.exists():
            done = subprocess.run(
                [*bare_python(), str(script)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        assert hash_tree(fresh.prefix) == before, f"killed before call {step} of {last}"
    assert broken


def from_within_killed(program: Program, words: Sequence[str], step: int) -> int:
    outer = {name: value for name, value in program.variables.items() if name != "PYTHONPATH"}
    command = [str(program.prefix / "bin" / "python"), "-B", "-m", "safe_install", *words]
    return subprocess.run(
        command,
        env={**outer, **program.shimmed(at=step)},
        capture_output=True,
        check=False,
        cwd=program.folder,
        start_new_session=True,
    ).returncode


def bare_python() -> List[str]:
    """The system's own Python, with nothing but its standard library."""
    return [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-I", "-S"]

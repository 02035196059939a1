"""Others at work in the same environment meanwhile: another safe-install, pip, programs that import
torch."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.crash.conftest import RUNNING
from tests.crash.program import ACTIONS, Action, Program, hang_up_at_random, interrupt_at_random
from tests.lab import LabWheels

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="signals, flock and /proc of Linux"
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, wheels: LabWheels) -> Iterator[Program]:
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("beside")))
    yield Program(folder, RUNNING, wheels)


def test_the_second_is_told_at_once_and_the_first_finishes(program: Program) -> None:
    program.begin("upgrade")
    first = program.start(ACTIONS["upgrade"])
    deadline = time.monotonic() + 60
    while not is_held(program.prefix / ".safe-install" / "lock") and time.monotonic() < deadline:
        time.sleep(0.01)
    second = program.run(Action(("install", "beta")))
    _, words = first.communicate(timeout=120)
    assert second.returncode == 14, second.stderr
    assert "another safe-install is changing" in second.stderr
    assert first.returncode == 0, words
    assert program.state("upgrade") == "after"


def is_held(lock: Path) -> bool:
    """Does somebody hold this lock?"""
    with lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.long
def test_pip_beside_it_loses_nothing(program: Program, generator: random.Random) -> None:
    """pip takes no lock. Whatever comes first, both packages are whole afterwards, or ours is as it
    was."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(program.prefix / "bin" / "python"),
        "install",
        "--no-deps",
    ]
    statuses: Counter[int] = Counter()
    program.begin("replace torch")
    started = time.monotonic()
    assert program.run(Action(("install", "alpha==2"))).returncode == 0
    alone = time.monotonic() - started
    # The last one comes when ours has been done, however busy the machine is.
    for delay in (*(generator.uniform(0, alone) for _ in range(3)), 2 * alone):
        program.begin("replace torch")  # alpha 1 and torch 1.8.1
        process = program.start(Action(("install", "alpha==2")))
        time.sleep(delay)
        beside = subprocess.run(
            [*pip, "beta"],
            env=program.variables,
            capture_output=True,
            text=True,
            check=False,
            cwd=program.folder,
        )
        _, words = process.communicate(timeout=120)
        assert beside.returncode == 0, beside.stderr
        assert process.returncode in (0, 11), words
        statuses[process.returncode] += 1
        (site,) = program.prefix.glob("lib/python3*/site-packages")
        assert broken_distributions(site) == []
        assert (site / f"alpha-{2 if process.returncode == 0 else 1}.dist-info").is_dir()
        assert (site / "shared" / "beta.txt").read_text() == "beta"
    assert statuses[0]


def broken_distributions(site: Path) -> List[str]:
    """Files that a RECORD lists and that are not there."""
    missing = []
    for record in site.glob("*.dist-info/RECORD"):
        rows = [line.split(",")[0] for line in record.read_text().splitlines()]
        missing += [
            f"{record.parent.name}: {row}" for row in rows if not os.path.lexists(site / row)
        ]
    return missing


def test_programs_that_import_torch_see_the_old_one_or_the_new_one(program: Program) -> None:
    program.begin("replace torch")
    seen: Counter[str] = Counter()
    stop = threading.Event()
    variables = {**program.variables, "PYTHONDONTWRITEBYTECODE": "1"}

    def look() -> None:
        question = [
            str(program.prefix / "bin" / "python"),
            "-c",
            "import torch; print(torch.__version__)",
        ]
        while not stop.is_set():
            done = subprocess.run(
                question, env=variables, capture_output=True, text=True, check=False
            )
            seen[done.stdout.strip() or done.stderr.strip().splitlines()[-1]] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert program.run(ACTIONS["replace torch"]).returncode == 0
        assert program.run(Action(("undo",))).returncode == 0
    finally:
        stop.set()
        thread.join()
    versions = {"1.8.1+cu111", "2.4.1+cu121"}
    # An import that is under way while the folders trade places may find half of each: a window of
    # a millisecond.
    assert set(seen) >= {"1.8.1+cu111"}
    assert sum(count for told, count in seen.items() if told not in versions) <= 2, seen


def test_a_program_that_runs_keeps_the_old_files(program: Program) -> None:
    program.begin("replace torch")
    code = (
        "import torch, sys\n"
        "print(torch.__version__, flush=True)\n"
        "sys.stdin.readline()\n"
        "print(torch.cuda.is_available(), torch.ones(2).sum().item())\n"
    )
    with subprocess.Popen(
        [str(program.prefix / "bin" / "python"), "-B", "-c", code],
        env=program.variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "1.8.1+cu111"
        assert program.run(ACTIONS["replace torch"]).returncode == 0
        out, _ = process.communicate("go\n", timeout=60)
    assert out.strip() == "True 2.0"


@pytest.mark.parametrize(
    "name", ["upgrade", pytest.param("replace torch, rolled back", marks=pytest.mark.long)]
)
def test_a_signal_at_a_random_moment(program: Program, name: str, generator: random.Random) -> None:
    for _ in range(3):
        interrupt_at_random(program, name, generator)


@pytest.mark.long
def test_a_terminal_that_is_closed_at_a_random_moment(
    program: Program, generator: random.Random
) -> None:
    for _ in range(3):
        assert hang_up_at_random(program, "upgrade", generator) in ("before", "after")

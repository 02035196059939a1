"""Ctrl-C while files are read: the process that imports torch meanwhile ends, too."""

from __future__ import annotations

import os
import sys
import time

import pytest

from tests.functional.conftest import run_process
from tests.functional.doctor_lab import make_lab as make_lab
from tests.lab.breakage.torch_parts import put_torch

# Runs the command with Ctrl-C pressed in the middle of reading files.
PROGRAM = """
import importlib, os, pathlib, signal, sys, time
from safe_install.cli.main import main
module, name, started = sys.argv[1:4]

def pressed(*words, **options):
    while not pathlib.Path(started).exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

setattr(importlib.import_module(module), name, pressed)
sys.exit(main(sys.argv[4:]))
"""
READING = {
    "doctor": ("safe_install.diagnosis.gather", "_read_files"),
    "verify": ("safe_install.commands.verify", "find_broken"),
}


@pytest.mark.parametrize("command", ["doctor", "verify"])
def test_the_process_that_imports_torch_ends(command, make_lab):
    lab = make_lab()
    started = lab.folder / "started"
    put_torch(
        lab,
        "import os, time\n"
        f"open({str(started)!r} + '.new', 'w').write(str(os.getpid()))\n"
        f"os.rename({str(started)!r} + '.new', {str(started)!r})\n"
        "time.sleep(60)\n",
    )
    words = [command, "--python", str(lab.environment.executable)]
    program = [sys.executable, "-c", PROGRAM, *READING[command], str(started), *words]
    done = run_process(program, lab.variables, cwd=lab.folder)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted: nothing was changed" in done.stderr
    assert has_ended(int(started.read_text()))


def has_ended(pid: int) -> bool:
    """Within a second: its parent may be the first process of a container, which reaps it."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                state = file.read().rpartition(b") ")[2][:1]
        except OSError:
            return True
        if state == b"Z":
            return True
        time.sleep(0.01)
    os.kill(pid, 9)
    return False

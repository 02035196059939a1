"""Finds running processes that still use replaced files of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

from safe_install.environment import programs_script
from safe_install.models import RunningProgram


def find_running(prefix: Path) -> Tuple[RunningProgram, ...]:
    """This user's processes that have libraries of the environment in memory which were removed, or
    set aside by a change of ours."""
    found = programs_script.find_programs(str(prefix))
    return tuple(RunningProgram(pid, command, files) for pid, command, files in found)

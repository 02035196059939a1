"""Running processes that have files of an environment in memory which were replaced since."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

from safe_install.environment import programs_script
from safe_install.models import RunningProgram


def find_running(prefix: Path) -> Tuple[RunningProgram, ...]:
    """Processes of this user with libraries of an environment in memory that are gone from the
    disk, or set aside by a change of ours."""
    found = programs_script.find_programs(str(prefix))
    return tuple(RunningProgram(pid, command, files) for pid, command, files in found)

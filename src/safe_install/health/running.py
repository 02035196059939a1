"""What is said of running programs that work with replaced files. Decisions only."""

from __future__ import annotations

from typing import Sequence, Tuple

from safe_install.models import Finding, RunningProgram, Severity

SHOWN = 3  # files, and programs


def note_running(programs: Sequence[RunningProgram]) -> Tuple[Finding, ...]:
    """One finding for each program."""
    return tuple(
        Finding(
            "running-with-old-files",
            Severity.WARNING,
            str(program.pid),
            f"process {program.pid} ({program.command}) has files in memory that were replaced: "
            f"{_some(program.files)}",
            f"End it and start it again; it works with the old files until then: kill "
            f"{program.pid}",
        )
        for program in programs
    )


def _some(paths: Sequence[str]) -> str:
    names = [path.rpartition("/")[2] for path in paths[:SHOWN]]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(names) + more

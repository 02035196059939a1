"""Findings on running programs that still use replaced files. Pure."""

from __future__ import annotations

from typing import Sequence, Tuple

from safe_install.models import Finding, RunningProgram, Severity

SHOWN = 3  # files of a program


def note_running(programs: Sequence[RunningProgram]) -> Tuple[Finding, ...]:
    """A warning for each program."""
    return tuple(_note(program) for program in programs)


def _note(program: RunningProgram) -> Finding:
    return Finding(
        "running-with-old-files",
        Severity.WARNING,
        str(program.pid),
        f"process {program.pid} ({program.command}) has files in memory that were replaced: "
        f"{_name_some(program.files)}",
        f"End it and start it again; it works with the old files until then: kill {program.pid}",
    )


def _name_some(paths: Sequence[str]) -> str:
    """`a.so, b.so, c.so and 2 more`."""
    names = [path.rpartition("/")[2] for path in paths[:SHOWN]]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(names) + more

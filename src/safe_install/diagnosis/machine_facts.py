"""Programs on PATH, and running processes, as the checks of `doctor` look at them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from safe_install.diagnosis.facts import Program, RunningProgram

NAMES = ("python", "python3", "pip", "pip3", "nvcc")
FIRST_LINE = 512  # bytes: the kernel reads 256 of a script's first line
COMMAND_SHOWN = 60  # characters
DELETED = " (deleted)"


def find_programs(variables: Mapping[str, str]) -> Tuple[Program, ...]:
    """What these names start in the person's shell."""
    found: List[Program] = []
    for name in NAMES:
        path = shutil.which(name, path=variables.get("PATH", os.defpath))
        if path is not None:
            found.append(Program(name, Path(path), _folder_of(name, path)))
    return tuple(found)


def _folder_of(name: str, path: str) -> Optional[Path]:
    if name.startswith("python"):
        return Path(os.path.realpath(os.path.dirname(path)))
    interpreter = _interpreter_of(Path(path))
    return Path(os.path.realpath(interpreter.parent)) if interpreter is not None else None


def _interpreter_of(path: Path) -> Optional[Path]:
    """What a script names in its first line; of pip's and distlib's long form (#!/bin/sh, then
    exec) what stands there."""
    try:
        with open(path, "rb") as file:
            lines = file.read(FIRST_LINE).split(b"\n")
    except OSError:
        return None
    first = lines[0].decode("utf-8", "surrogateescape")
    if not first.startswith("#!"):
        return None
    words = first[2:].strip().split()
    if words and words[0] == "/bin/sh" and len(lines) > 1 and b"exec" in lines[1]:
        words = lines[1].decode("utf-8", "surrogateescape").replace("'''exec'", "").split()
    if not words or words[0].endswith("/env"):
        return None
    return Path(words[0].strip("'\""))


def find_running(prefix: Path) -> Tuple[RunningProgram, ...]:
    """Processes of this user that have files of an environment in memory that are gone from the
    disk.

    Facts: proc(5): a mapped file that was removed or replaced ends in " (deleted)".
    """
    top = os.path.realpath(prefix) + os.sep
    found: List[RunningProgram] = []
    for entry in _list_processes():
        files = _deleted_files(entry, top)
        if files:
            found.append(RunningProgram(int(entry), _command_of(entry), files))
    return tuple(found)


def _list_processes() -> List[str]:
    try:
        entries = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    own = str(os.getpid())
    return sorted((name for name in entries if name != own), key=int)


def _deleted_files(process: str, top: str) -> Tuple[str, ...]:
    files: Dict[str, None] = {}
    try:
        with open(f"/proc/{process}/maps", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                if not line.endswith(f"{DELETED}\n") or top not in line:
                    continue
                path = line[line.index("/") : -len(DELETED) - 1]
                if path.startswith(top):
                    files[path] = None
    except OSError:
        return ()  # of another user, or it has ended
    return tuple(files)


def _command_of(process: str) -> str:
    try:
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return "?"
    words = raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return words if len(words) <= COMMAND_SHOWN else f"{words[:COMMAND_SHOWN]}..."

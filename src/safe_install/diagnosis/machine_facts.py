"""Programs on PATH, and running processes, as the checks of `doctor` look at them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from safe_install.diagnosis.facts import ProbeProblem, Program, RunningProgram

NAMES = ("python", "python3", "pip", "pip3", "nvcc")
FIRST_LINE = 512  # bytes: the kernel reads 256 of a script's first line
COMMAND_SHOWN = 60  # characters
DELETED = b" (deleted)"


def find_broken(
    python: Optional[str], variables: Mapping[str, str]
) -> Optional[Tuple[Path, ProbeProblem]]:
    """The interpreter that is meant, where it is a link to nowhere or may not be looked at; None
    otherwise.

    Such an environment is not passed over for another one, as by commands that change it.
    """
    named = python or variables.get("VIRTUAL_ENV") or variables.get("CONDA_PREFIX")
    if not named:
        return None
    path = Path(named).expanduser()
    try:
        candidate = path / "bin" / "python" if path.is_dir() else path
        if not candidate.is_symlink() or candidate.exists():
            return None
        target = os.path.realpath(candidate)
    except OSError as error:
        hint = "Run as the user that owns it, or name another one with --python."
        return path, ProbeProblem(f"{path} may not be looked at: {error.strerror or error}", hint)
    prefix = candidate.parent.parent
    return candidate, ProbeProblem(
        f"{candidate} is a link to {target}, which is not there: the Python that this environment "
        "was made with was removed or replaced",
        f"Install that Python again; or link it to another one of the same version: "
        f"{_python_of(prefix)} -m venv --upgrade {prefix}",
    )


def _python_of(prefix: Path) -> str:
    """ "python3.11", as pyvenv.cfg says."""
    try:
        text = (prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "python3"
    found = re.search(r"(?m)^version(?:_info)?\s*=\s*(\d+\.\d+)", text)
    return f"python{found.group(1)}" if found else "python3"


def find_programs(variables: Mapping[str, str]) -> Tuple[Program, ...]:
    """What these names start in the person's shell."""
    found: List[Program] = []
    for name in NAMES:
        path = shutil.which(name, path=variables.get("PATH", os.defpath))
        if path is not None:
            found.append(_describe_program(name, path))
    return tuple(found)


def _describe_program(name: str, path: str) -> Program:
    own_folder = Path(os.path.realpath(os.path.dirname(path)))
    if name.startswith("python"):
        return Program(name, Path(path), None, own_folder, own_folder)
    interpreter = _interpreter_of(Path(path))
    folder = Path(os.path.realpath(interpreter.parent)) if interpreter is not None else None
    return Program(name, Path(path), interpreter, folder, own_folder)


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
        # '''exec' "/a folder/bin/python" "$0" "$@"
        try:
            words = shlex.split(lines[1].decode("utf-8", "surrogateescape"))[1:]
        except ValueError:
            return None
    if not words or words[0].endswith("/env"):
        return None
    return Path(words[0])


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
    try:
        with open(f"/proc/{process}/maps", "rb") as file:
            maps = file.read()
    except OSError:
        return ()  # of another user, or it has ended
    if DELETED not in maps or os.fsencode(top) not in maps:
        return ()  # nearly every process
    files: Dict[str, None] = {}
    for line in maps.split(b"\n"):
        if line.endswith(DELETED):
            path = os.fsdecode(line[line.find(b"/") : -len(DELETED)])
            if path.startswith(top):
                files[path] = None
    return tuple(files)


def _command_of(process: str) -> str:
    try:
        raw = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return "?"
    words = raw.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return words if len(words) <= COMMAND_SHOWN else f"{words[:COMMAND_SHOWN]}..."

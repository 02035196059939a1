"""Programs on PATH, as the checks of `doctor` look at them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

from safe_install.diagnosis.facts import Program

NAMES = ("python", "python3", "pip", "pip3", "nvcc")
FIRST_LINE = 512  # bytes: the kernel reads 256 of a script's first line


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

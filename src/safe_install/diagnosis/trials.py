"""`import torch`, tried once more with one thing different: which variable of the shell, which file
of the working folder breaks it?

The check itself asks in another folder, and without the variables that would hide what it is there
to find (environment.interpreter.REMOVED_VARIABLES).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from safe_install.diagnosis.facts import StartProblem, Trial
from safe_install.diagnosis.machine_facts import find_working_folder
from safe_install.environment.interpreter import child_environment
from safe_install.models import Environment
from safe_install.requirements import requirement_name
from safe_install.system import process
from safe_install.torch_family import TORCH

TRIAL_TIMEOUT = 60.0  # seconds
MOST_VARIABLES = 8
# Variables that the loader, Python, torch and its libraries read.
READ_BY_IMPORT = re.compile(
    "LD_|GLIBC_TUNABLES|MALLOC_|PYTHON|TORCH|PYTORCH|CUDA_|NVIDIA_|NCCL_|OMP_|GOMP_|KMP_|MKL_|HIP_"
)
OURS = ("PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING")
# Variables that the check leaves out, and that can break an import.
LEFT_OUT = ("PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHON_LAZY_IMPORTS")
# A folder of tests has the name of Python's own, which nobody imports.
NEVER_IMPORTED = frozenset(["test", TORCH])
MODULE_ENDINGS = (".py", ".so")
START_ERRORS = re.compile(
    r"(?m)^Error processing line \d+ of (?P<pth>.+):$|^Error in (?P<module>\w+customize);"
)


def try_without(executable: Path, timeout: Optional[float]) -> Tuple[Trial, ...]:
    """torch does not import: the variables without which it does, each alone where one is enough.

    One import tells that none of them is to blame.
    """
    variables = child_environment()
    suspects = [name for name in variables if READ_BY_IMPORT.match(name) and name not in OURS]
    if not suspects or _import(executable, _less(variables, suspects), timeout) != "":
        return ()
    guilty = [
        name
        for name in sorted(suspects)[:MOST_VARIABLES]
        if _import(executable, _less(variables, [name]), timeout) == ""
    ]
    return tuple(Trial(name, variables[name]) for name in guilty or suspects)


def _less(variables: Mapping[str, str], names: Sequence[str]) -> Dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def try_as_typed(
    environment: Environment, variables: Mapping[str, str], timeout: Optional[float]
) -> Tuple[Trial, ...]:
    """torch imports: does it, as the person types it, with the variables that the check leaves out,
    and in the working folder?"""
    executable = environment.interpreter.executable
    trials = _try_left_out(executable, variables, timeout)
    folder = None if variables.get("PYTHONSAFEPATH") else find_working_folder()
    if folder is not None:
        trials += _try_in_folder(folder, environment, timeout)
    return tuple(trials)


def _try_left_out(
    executable: Path, variables: Mapping[str, str], timeout: Optional[float]
) -> List[Trial]:
    """With each of the variables that the check leaves out."""
    trials: List[Trial] = []
    for name in LEFT_OUT:
        if not variables.get(name):
            continue
        error = _import(executable, child_environment({name: variables[name]}), timeout)
        if error:
            trials.append(Trial(name, variables[name], error))
    return trials


def _try_in_folder(folder: Path, environment: Environment, timeout: Optional[float]) -> List[Trial]:
    """In the working folder, where it has files by the names of modules."""
    names = find_hiding(folder, environment)
    if not names:
        return []
    executable = environment.interpreter.executable
    error = _import(executable, child_environment(), timeout, folder)
    if not error:
        return []
    # What was imported from there stands in the traceback.
    named = [name for name in names if str(folder / name) in error]
    shown = error.strip().splitlines()[-1]
    return [Trial(str(folder / name), "", shown) for name in named or names]


def _import(
    executable: Path,
    variables: Mapping[str, str],
    timeout: Optional[float],
    folder: Path = Path(os.sep),
) -> Optional[str]:
    """What it wrote when it failed; "": it imports; None: nobody knows."""
    limit = TRIAL_TIMEOUT if timeout is None else min(timeout, TRIAL_TIMEOUT)
    command = [str(executable), "-B", "-c", f"import {TORCH}"]
    try:
        with process.ending_orphans() as end_orphans:
            done = process.start(command, env=variables, cwd=folder).wait(limit, on_end=end_orphans)
    except OSError:
        return None
    if done.timed_out:
        return None
    return "" if done.returncode == 0 else done.stderr or done.ended_by or "it fails"


def find_hiding(folder: Path, environment: Environment) -> List[str]:
    """Files and packages of a folder with the name of a module of Python, or of one that torch
    requires."""
    version = ".".join(environment.interpreter.version.split(".")[:2])
    library = environment.interpreter.base_prefix / "lib" / f"python{version}"
    required = _required_modules(environment)
    found: List[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                module = entry.name.partition(".")[0]
                if not _is_module(entry) or module in NEVER_IMPORTED:
                    continue
                if module in required or _has_module(library, module):
                    found.append(entry.name)
    except OSError:
        return []
    return found


def _is_module(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith(MODULE_ENDINGS):
        return True
    return Path(entry.path, "__init__.py").is_file()


def _has_module(library: Path, module: str) -> bool:
    return (library / f"{module}.py").is_file() or (library / module / "__init__.py").is_file()


def _required_modules(environment: Environment) -> List[str]:
    torch = environment.installed.get(TORCH)
    names = [requirement_name(text) for text in (torch.requires if torch is not None else ())]
    return ["numpy", *(name.replace("-", "_") for name in names if name is not None)]


# --- what fails at every start --------------------------------------------------------------------


def find_start_problems(executable: Path) -> Tuple[StartProblem, ...]:
    """The .pth files and customize modules that raise an exception at every start of this Python,
    which goes on without them."""
    try:
        child = process.start(
            [str(executable), "-B", "-c", "pass"], env=child_environment(), cwd=Path(os.sep)
        )
    except OSError:
        return ()
    return parse_start_problems(child.wait(TRIAL_TIMEOUT).stderr)


def parse_start_problems(text: str) -> Tuple[StartProblem, ...]:
    """What Python writes about them: which file, a traceback, the exception in its last line."""
    found: List[StartProblem] = []
    marks = list(START_ERRORS.finditer(text))
    for number, mark in enumerate(marks):
        end = marks[number + 1].start() if number + 1 < len(marks) else len(text)
        said = text[mark.end() : end].replace("Remainder of file ignored", "").strip()
        last = said.splitlines()[-1].strip() if said else ""
        found.append(StartProblem(mark.group("pth") or mark.group("module"), last))
    return tuple(found)

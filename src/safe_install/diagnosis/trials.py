"""Imports torch again with one difference each, to find the variable or the file of the working
folder that breaks the import.

The check itself runs in another folder, and without the variables that would hide what it looks
for (environment.interpreter.REMOVED_VARIABLES).
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
MAX_VARIABLES = 8
# Variables that the loader, Python, torch and its libraries read.
READ_BY_IMPORT = re.compile(
    "LD_|GLIBC_TUNABLES|MALLOC_|PYTHON|TORCH|PYTORCH|CUDA_|NVIDIA_|NCCL_|OMP_|GOMP_|KMP_|MKL_|HIP_"
)
OURS = ("PYTHONDONTWRITEBYTECODE", "PYTHONIOENCODING")
# Variables that the check leaves out, and that can break an import.
LEFT_OUT = ("PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHON_LAZY_IMPORTS")
# Python has a package `test`, too, but nothing imports it. `import torch` itself is checked
# elsewhere.
NEVER_IMPORTED = frozenset(["test", TORCH])
MODULE_ENDINGS = (".py", ".so")
START_ERRORS = re.compile(
    r"(?m)^Error processing line \d+ of (?P<pth>.+):$|^Error in (?P<module>\w+customize);"
)


def try_without(executable: Path, timeout: Optional[float]) -> Tuple[Trial, ...]:
    """The variables that make `import torch` fail: each one without which it works, else all that
    have to be unset together. Empty if unsetting does not help."""
    variables = child_environment()
    suspects = [name for name in variables if READ_BY_IMPORT.match(name) and name not in OURS]
    if not suspects or _import(executable, _without(variables, suspects), timeout) != "":
        return ()
    causes = [
        name
        for name in sorted(suspects)[:MAX_VARIABLES]
        if _import(executable, _without(variables, [name]), timeout) == ""
    ]
    return tuple(Trial(name, variables[name]) for name in causes or suspects)


def _without(variables: Mapping[str, str], names: Sequence[str]) -> Dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


def try_as_typed(
    environment: Environment, variables: Mapping[str, str], timeout: Optional[float]
) -> Tuple[Trial, ...]:
    """The failures of `import torch` with the variables that the check leaves out, and in the
    working folder."""
    executable = environment.interpreter.executable
    trials = _try_left_out(executable, variables, timeout)
    folder = None if variables.get("PYTHONSAFEPATH") else find_working_folder()
    if folder is not None:
        trials += _try_in_folder(folder, environment, timeout)
    return tuple(trials)


def _try_left_out(
    executable: Path, variables: Mapping[str, str], timeout: Optional[float]
) -> List[Trial]:
    """The failures with each of the variables that the check leaves out."""
    trials: List[Trial] = []
    for name in LEFT_OUT:
        if not variables.get(name):
            continue
        error = _import(executable, child_environment({name: variables[name]}), timeout)
        if error:
            trials.append(Trial(name, variables[name], error))
    return trials


def _try_in_folder(folder: Path, environment: Environment, timeout: Optional[float]) -> List[Trial]:
    """The failure in the working folder if it has files with the names of modules."""
    names = find_hiding(folder, environment)
    if not names:
        return []
    executable = environment.interpreter.executable
    error = _import(executable, child_environment(), timeout, folder)
    if not error:
        return []
    # The traceback names the files that were imported from the folder.
    named = [name for name in names if str(folder / name) in error]
    shown = error.strip().splitlines()[-1]
    return [Trial(str(folder / name), "", shown) for name in named or names]


def _import(
    executable: Path,
    variables: Mapping[str, str],
    timeout: Optional[float],
    folder: Path = Path(os.sep),
) -> Optional[str]:
    """The error of `import torch`; "" if it works; None if it was not run, or took too long."""
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
    """The files and packages in a folder that hide a module of the standard library, or one that
    torch requires."""
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


# --- startup files --------------------------------------------------------------------------------


def find_start_problems(executable: Path) -> Tuple[StartProblem, ...]:
    """The .pth files and customize modules that raise an exception when this Python starts."""
    try:
        child = process.start(
            [str(executable), "-B", "-c", "pass"], env=child_environment(), cwd=Path(os.sep)
        )
    except OSError:
        return ()
    return parse_start_problems(child.wait(TRIAL_TIMEOUT).stderr)


def parse_start_problems(text: str) -> Tuple[StartProblem, ...]:
    """Parse Python's stderr: for each failed file a line with its name, and a traceback."""
    found: List[StartProblem] = []
    headings = list(START_ERRORS.finditer(text))
    for number, heading in enumerate(headings):
        end = headings[number + 1].start() if number + 1 < len(headings) else len(text)
        traceback = text[heading.end() : end].replace("Remainder of file ignored", "").strip()
        error = traceback.splitlines()[-1].strip() if traceback else ""
        found.append(StartProblem(heading.group("pth") or heading.group("module"), error))
    return tuple(found)

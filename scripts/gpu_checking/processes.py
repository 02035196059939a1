"""Child processes, and the environments that they make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence


class StepFailed(Exception):
    """A step did not end as it should; the text says what was seen."""


def run(command: Sequence[object], *, env: Mapping[str, str], limit: Optional[float] = None) -> Any:
    """A child process; a time limit that passes is an answer like any other."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(
            words, env=dict(env), capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer within {limit:.0f} s")


def must(
    command: Sequence[object], *, env: Mapping[str, str], limit: Optional[float] = None
) -> str:
    """A child process that has to succeed; what it printed."""
    done = run(command, env=env, limit=limit)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-6:]
        raise StepFailed(
            f"{Path(str(command[0])).name} ended with {done.returncode}: {' / '.join(last)}"
        )
    return str(done.stdout)


def clean_environment(**more: str) -> Dict[str, str]:
    """Nothing of another environment, and no package index."""
    foreign = ("PIP_", "SAFE_INSTALL_", "UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_", "TORCH_CUDA")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", **more}


def make_venv(
    python: object, folder: Path, pip: Path, env: Mapping[str, str], limit: Optional[float] = None
) -> Path:
    """A virtual environment with the carried pip: ensurepip is missing on some systems. Its
    interpreter."""
    must([python, "-m", "venv", "--without-pip", folder], env=env, limit=limit)
    executable = folder / "bin" / "python"
    must(
        [executable, pip / "pip", "install", "--quiet", "--no-index", "--no-deps", pip],
        env=env,
        limit=limit,
    )
    return executable


def find_file(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise StepFailed(f"{folder} has no {pattern}")
    return found[-1]

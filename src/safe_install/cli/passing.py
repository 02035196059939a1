"""pip with its own output and exit status, for what is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence


def run_pip(executable: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The pip of this interpreter, or one of ours where it has none; its exit status."""
    from safe_install.environment.interpreter import read_environment
    from safe_install.system import pip

    status = pip.passthrough(executable, arguments)
    if status is None:
        from safe_install.wheels.store import find_cache

        interpreter = read_environment(executable, None).interpreter
        status = pip.PipRunner(interpreter, cache_dir=find_cache(environ)).passthrough(arguments)
    return status

"""Runs pip with its own output and exit status, for commands that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Mapping, Sequence

if TYPE_CHECKING:
    from safe_install.resolve.request import InstallRequest


def run_pip(executable: Path, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the pip of this interpreter, or one of ours where it has none. The result: its exit
    status."""
    from safe_install.environment.interpreter import read_environment
    from safe_install.system import pip

    status = pip.passthrough(executable, arguments)
    if status is None:
        from safe_install.wheels.store import find_cache

        interpreter = read_environment(executable, None).interpreter
        status = pip.PipRunner(interpreter, cache_dir=find_cache(environ)).passthrough(arguments)
    return status


def install_elsewhere(request: InstallRequest, environ: Mapping[str, str], *, stages: bool) -> int:
    """Let pip install by --target, --root, --prefix and similar options, which do not change the
    environment. The result: its exit status. Errors: Refused; UsageError."""
    from safe_install.commands.install import refuse_place
    from safe_install.environment.interpreter import find_interpreter

    executable = find_interpreter(request.own.python, environ)
    refuse_place(request, executable, stages=stages)
    return run_pip(executable, ("install", *request.pip_arguments), environ)

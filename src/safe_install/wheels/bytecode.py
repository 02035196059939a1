"""Compiles modules with the managed interpreter, in processes that run in the background."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, FrozenSet, List, Sequence

from safe_install.system import process

WORTH_A_PROCESS = 100  # modules; to start one costs as much as to compile ten
MAX_PROCESSES = 8
# Reads relative paths; the bytecode names the places without the folder. Python 3.6 syntax.
_COMPILE = """\
import os, py_compile, sys, warnings
warnings.simplefilter("ignore")
print(sys.implementation.cache_tag, flush=True)
folder = sys.argv[1]
for name in sys.stdin.read().split("\\0"):
    try:
        py_compile.compile(folder + os.sep + name, dfile=os.sep + name, doraise=True)
    except Exception:
        pass  # a template, Python 2: no failure of the installation, as with pip
"""


class Compilation:
    """The compilation of some modules below a folder, while it runs."""

    def __init__(self, executable: Path, folder: Path, modules: Sequence[str]) -> None:
        """`modules`: paths relative to `folder`; with "/" in front they are the final paths."""
        self._folder, self._modules = folder, tuple(modules)
        count = min(os.cpu_count() or 1, MAX_PROCESSES, -(-len(self._modules) // WORTH_A_PROCESS))
        # -I, -S: nothing of the environment is imported.
        command = [str(executable), "-I", "-S", "-X", "utf8", "-c", _COMPILE, str(folder)]
        self._processes: List[process.Running] = []
        for number in range(count):
            share = "\0".join(self._modules[number::count])
            variables = process.inherited_variables()
            self._processes.append(process.start(command, env=variables, input_text=share))

    def wait(self) -> FrozenSet[str]:
        """Wait for the end. The result: the bytecode files that were made, relative to the
        folder."""
        tag = ""
        for running in self._processes:
            tag = running.wait().stdout.partition("\n")[0] or tag
        listed: Dict[str, FrozenSet[str]] = {}
        made = set()
        for module in self._modules if tag else ():
            parent, _, name = module.rpartition("/")
            cache = f"{parent}/__pycache__" if parent else "__pycache__"
            if cache not in listed:
                listed[cache] = _list_names(self._folder / cache)
            bytecode = f"{name[: -len('.py')]}.{tag}.pyc"
            if bytecode in listed[cache]:
                made.add(f"{cache}/{bytecode}")
        return frozenset(made)

    def stop(self) -> None:
        """End the processes."""
        for running in self._processes:
            running.kill()
            running.wait()  # closes its pipes


def _list_names(folder: Path) -> FrozenSet[str]:
    try:
        return frozenset(path.name for path in folder.iterdir())
    except OSError:
        return frozenset()

"""How bench.py measures: seconds of an action, of several in turn, and the memory of a program."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from bench_environments import run

# what comes before the clock is started, and what is measured
Actions = Mapping[str, Tuple[Callable[[], object], Callable[[], object]]]

# runs a program in this process and prints the most memory that it had itself, in KiB
MEMORY = (
    "import importlib, resource, sys; module, name = sys.argv.pop(1).split(':'); "
    "getattr(importlib.import_module(module), name)(sys.argv[1:]); "
    "sys.stdout.write('\\n%d' % resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)
PIP_MAIN, OUR_MAIN = "pip._internal.cli.main:main", "safe_install.cli.main:main"


def nothing() -> None:
    """For what needs no preparation."""


def timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def rotate(
    actions: Actions, repeat: int, *, measure: Callable[[Callable[[], Any]], float] = timed
) -> Dict[str, List[float]]:
    """Each action in turn, `repeat` times round, so that a slow minute hits all alike. The first
    round warms up."""
    times: Dict[str, List[float]] = {name: [] for name in actions}
    for number in range(repeat + 1):
        for name, (prepare, action) in actions.items():
            prepare()
            seconds = measure(action)
            if number:
                times[name].append(seconds)
    return times


def read_memory(python: Path, main: str, words: Sequence[Any], **variables: str) -> float:
    """The most memory that a program had, without its child processes, in MiB."""
    return int(run([python, "-c", MEMORY, main, *words], **variables).split()[-1]) / 1024

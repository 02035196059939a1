"""What `safe-install doctor` costs in a healthy environment, beside one import of torch: CPU seconds
of all processes, which another program on the machine does not change."""

from __future__ import annotations

import functools
import resource
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List

from bench_environments import OURS, run
from bench_table import row
from bench_timing import Actions, nothing, rotate

IMPORT, QUICK, WHOLE = "one import of torch", "doctor --quick", "doctor"
QUICK_TARGET = 0.3  # seconds
IMPORTS, MORE = 1.3, 0.5  # the whole: so many imports, and so many seconds more


def cpu_seconds(action: Callable[[], Any]) -> float:
    """User and system time of the processes that an action starts and waits for, with theirs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_doctor(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """CPU seconds of each."""
    variables = {"SAFE_INSTALL_CACHE_DIR": str(cache)}
    doctor = [*OURS, "doctor", "--python", python]
    actions: Actions = {
        IMPORT: (nothing, functools.partial(run, [python, "-c", "import torch"])),
        QUICK: (nothing, functools.partial(run, [*doctor, "--quick"], **variables)),
        WHOLE: (nothing, functools.partial(run, doctor, **variables)),
    }
    return rotate(actions, repeat, measure=cpu_seconds)


def render_doctor(times: Dict[str, List[float]]) -> List[str]:
    whole = IMPORTS * statistics.median(times[IMPORT]) + MORE
    targets = {IMPORT: "", QUICK: f"{QUICK_TARGET:.2f} s", WHOLE: f"{whole:.2f} s"}
    return [
        row(f"{name}, CPU seconds", seconds, None, targets[name]) for name, seconds in times.items()
    ]

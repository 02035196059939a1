"""What this machine has for builds from source."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Mapping, Optional

from safe_install.models import Environment
from safe_install.wheels.recipe import BuildMachine
from safe_install.wheels.toolkit import (
    find_gcc,
    find_headers,
    find_other_gccs,
    find_package_includes,
    find_places,
)


def read_machine(
    environment: Environment, variables: Mapping[str, str], cache: Path
) -> BuildMachine:
    """What this machine has for a build: cores, free memory, compilers, Python's headers, CUDA
    toolkits."""
    base = BuildMachine(
        cores=_read_cores(),
        memory=_read_memory(),
        compiler=_find_compiler(variables),
        has_python_headers=(environment.interpreter.scheme.include / "Python.h").is_file(),
    )
    if environment.torch is None or environment.torch.cuda is None:
        return base
    return dataclasses.replace(
        base,
        places=find_places(environment, variables, cache),
        headers=find_headers(find_package_includes(environment)),
        gcc=find_gcc(variables),
        other_gccs=find_other_gccs(variables),
    )


def _find_compiler(variables: Mapping[str, str]) -> Optional[str]:
    named = variables.get("CXX", "").split()
    for command in (*named[:1], "g++", "c++", "clang++"):
        found = shutil.which(command, path=variables.get("PATH"))
        if found:
            return found
    return None


def _read_cores() -> int:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _read_text("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def _read_memory() -> int:
    """The bytes of memory that can be used without swapping: the kernel's "available", limited by
    the cgroup."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read_text("/proc/meminfo"))
    amounts = [int(found.group(1)) * 1024] if found else []
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, now = _read_text(limit).strip(), _read_text(used).strip()
        if most.isdigit() and now.isdigit():
            # The cgroup counts cached files as used, but they are dropped when memory is needed.
            stat_text = _read_text(str(Path(limit).with_name("memory.stat")))
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", stat_text, re.MULTILINE)
            amounts.append(max(0, int(most) - int(now) + (int(cached.group(1)) if cached else 0)))
    return min(amounts) if amounts else 0


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError:
        return ""

"""What an install by path imports, and what it calls: figures that do not depend on the load."""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence

from bench_environments import OURS, child_variables

SHOWN = 10
IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| *(\S+)")
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)")
KINDS = {
    "processes started": ("execve",),
    "threads and processes made": ("clone", "clone3", "vfork", "fork"),
    "files opened": ("open", "openat"),
    "files looked at": ("stat", "lstat", "fstat", "newfstatat", "statx", "access", "readlink"),
    "folders read": ("getdents64",),
    "reads": ("read", "pread64"),
    "writes": ("write", "pwrite64"),
    "renames": ("rename", "renameat", "renameat2"),
    "waits for the disk": ("fsync", "fdatasync", "syncfs", "sync"),
}


def render_evidence(
    words: Sequence[str], variables: Mapping[str, str], prepare: Callable[[], object]
) -> List[str]:
    """Sections of Markdown. `words`: of an install; `prepare`: takes it back."""
    prepare()
    timed = subprocess.run(
        [sys.executable, "-X", "importtime", *OURS[1:], *words],
        env={**child_variables(), **variables},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    lines = render_imports(timed.stderr)
    if shutil.which("strace"):
        prepare()
        lines += render_calls(words, variables)
    return lines


def render_imports(text: str) -> List[str]:
    """The most expensive imports of our process (`-X importtime`), by their own time."""
    own: Dict[str, int] = {}
    for line in text.splitlines():
        found = IMPORT.match(line)
        if found is not None:
            own[found.group(3)] = int(found.group(1))
    packages: Dict[str, int] = collections.Counter()
    for name, microseconds in own.items():
        packages[name.partition(".")[0]] += microseconds
    whole = sum(own.values())
    lines = ["", "## Imports of our own process, by path (`-X importtime`)", ""]
    lines += [f"{len(own)} modules, {whole / 1000:.0f} ms with the measuring.", ""]
    lines += render_most("module", own, whole)
    return [*lines, "", *render_most("package", packages, whole)]


def render_most(what: str, spent: Mapping[str, int], whole: int) -> List[str]:
    """A table of those that took longest."""
    lines = [f"| {what} | ms | share |", "|---|---|---|"]
    ordered = sorted(spent, key=lambda name: -spent[name])
    for name in ordered[:SHOWN]:
        share = spent[name] / whole
        lines.append(f"| {name} | {spent[name] / 1000:.1f} | {share:.0%} |")
    return lines


def render_calls(words: Sequence[str], variables: Mapping[str, str]) -> List[str]:
    """How often a guarded install asks the kernel, by kind: our process, and its children."""
    with tempfile.TemporaryDirectory(prefix="safe-install-strace-") as folder:
        log = Path(folder, "calls")
        subprocess.run(
            ["strace", "-f", "-qq", "-o", str(log), *OURS, *words],
            env={**child_variables(), **variables},
            capture_output=True,
            check=True,
        )
        text = log.read_text(encoding="utf-8", errors="replace")
    ours: Dict[str, int] = collections.Counter()
    children: Dict[str, int] = collections.Counter()
    threads = find_own_threads(text)
    for line in text.splitlines():
        found = CALL.match(line)
        if found is None or "resumed>" in line:
            continue
        counter = ours if line.split(" ", 1)[0] in threads else children
        counter[found.group(1)] += 1
    lines = ["", "## System calls of one guarded install, by path (`strace -f`)", ""]
    lines += ["| kind | our process | its children |", "|---|---|---|"]
    for kind, calls in KINDS.items():
        own = sum(ours[call] for call in calls)
        lines.append(f"| {kind} | {own} | {sum(children[call] for call in calls)} |")
    lines.append(f"| all | {sum(ours.values())} | {sum(children.values())} |")
    return lines


def find_own_threads(text: str) -> List[str]:
    """The numbers of our process and of its threads: those that never became another program, and
    were not made by one that did."""
    lines = text.splitlines()
    threads = [lines[0].split(" ", 1)[0]]
    for line in lines:
        number, _, call = line.partition(" ")
        made = re.search(r"= (\d+)$", call)
        is_thread = "CLONE_THREAD" in call or "clone3 resumed" in call
        if number in threads and is_thread and made is not None:
            threads.append(made.group(1))
    return threads

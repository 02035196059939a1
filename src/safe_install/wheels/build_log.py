"""The output of a build: its progress, its errors, and their cause. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

_TELLING = re.compile(
    r"(\b(fatal )?error\b\s*(C\d+)?:|undefined reference|Killed signal|^Killed"
    r"|[A-Za-z]+Error: |No such file or dir)"
)
_FOLLOWING = re.compile(
    r"(rror: command .* failed|a file could not be compiled|an extension could not be built|subprocess-exited"
    r"|\braise |ninja: build stopped)"
)
# Only in an error: a warning may name a module that torch does not need.
_MISSING_MODULE = r"(?m)^\s*(ModuleNotFoundError|ImportError): No module named "
_KNOWN_FAILURES: Tuple[Tuple[str, str], ...] = (
    (
        r"Killed signal|^Killed|\bcc1plus.*Killed|signal 9",
        "it ran out of memory: run it again with MAX_JOBS=1",
    ),
    (
        r"No space left on device",
        "free some disk space, or set SAFE_INSTALL_CACHE_DIR to another disk",
    ),
    (r"THC/\w+\.h", "this version is too old for the installed torch: ask for a newer one"),
    (
        r"unsupported GNU version|gcc versions? later than",
        "nvcc wants an older gcc: install one and set CC and CXX to it",
    ),
    (r"Python\.h: No such file", "install the headers of this Python (python3-dev, python3-devel)"),
    (
        _MISSING_MODULE + r"'pkg_resources'",
        "it needs setuptools below 82, and found a newer one",
    ),
    (
        _MISSING_MODULE + r"'[\w.]+'",
        "its build needs a module that its pyproject.toml does not name: install it",
    ),
    (
        r"urlopen error|Connection timed out|Name or service not known",
        "its build fetches files: give it a network",
    ),
    (
        r"detected CUDA version .* mismatches",
        "set CUDA_HOME to the toolkit that torch was built with",
    ),
    (
        r"fatal error: .*: No such file",
        "a header is missing: install the development package that has it",
    ),
)


@dataclass(frozen=True)
class FileCount:
    """How many files of a build have been compiled."""

    done: int = 0
    total: int = 0  # 0: not known
    before: int = 0  # files of the ninja runs that are over: one run for each extension
    run_done: int = 0  # of the ninja run that goes on


def count_files(count: FileCount, line: str) -> FileCount:
    """The count after this line of the build's output, which is one of ours or ninja's `[3/7]`."""
    text = line.strip()
    announced = re.match(r"^safe-install: total (\d+)$", text)
    if announced:
        return replace(count, total=count.total + int(announced.group(1)))
    if text.startswith("safe-install: compiled "):
        return replace(count, done=count.done + 1)
    ninja = re.match(r"^\[(\d+)/(\d+)\]", text)
    if ninja is None:
        return count
    now, of = int(ninja.group(1)), int(ninja.group(2))
    before = count.done if now <= count.run_done else count.before
    return FileCount(before + now, max(count.total, before + of), before, now)


def find_source(line: str) -> str:
    """The source file in a compiler's command line, or in a line of ours; "" for other lines."""
    found = re.search(r"(?:\s-c\s+|^safe-install: compiled )(\S+)", line)
    return found.group(1).rpartition("/")[2] if found else ""


def find_error_lines(log: Sequence[str], *, limit: int = 6) -> Tuple[str, ...]:
    """The lines of a log that describe the error, first ones first; else its last lines."""
    found = [line.strip() for line in log if _TELLING.search(line) and not _FOLLOWING.search(line)]
    if not found:
        found = [line.strip() for line in log if line.strip()][-limit:]
    return tuple(dict.fromkeys(line[:300] for line in found))[:limit]


def explain_failure(log: Sequence[str]) -> str:
    """What to do about a failed build, by its log; a general hint where nothing specific is
    known."""
    text = "\n".join(log)
    for pattern, hint in _KNOWN_FAILURES:
        if re.search(pattern, text):
            return hint
    return "read the log; a version of the project made for this torch may build"


def _read_count(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdigit() and int(text) > 0 else None


def split_log(text: str) -> List[str]:
    """The lines of a log, without the compilers' colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines()

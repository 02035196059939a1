"""Finds the line in the output of a dead process that says why it died."""

from __future__ import annotations

import re
import signal
from typing import Optional

MAX_LINE = 400  # characters
MAX_TEXT = 250_000  # characters at the end of the output that are searched
MAX_LINE_READ = 2_000  # characters at the beginning of each line that are searched

# The most telling patterns come first. If a pattern has a group, only the group is shown. They are
# compiled when a process has died.
_CAUSES = (
    # libstdc++: the message of the exception that nobody caught
    r"\s*what\(\):\s*(\S.*)",
    r"libc\+\+abi: (terminating .*)",  # macOS
    r".*(?:undefined symbol|symbol not found|Symbol not found|version `.*' not found)",
    r".*cannot open shared object file",
    r".*Check failed: ",  # glog and absl
    r".*: Assertion [`'].*failed",  # glibc: assert()
    r"Inconsistency detected by ld\.so",
    # glibc: a damaged heap
    r".*\b(?:free|malloc|realloc|munmap_chunk|calloc)\w*\(\): ",
    r"double free or corruption|corrupted |\*\*\* .* \*\*\*: terminated",
    r"(?!\S*Warning: )(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit)(?:: .*)?$",
    r"terminate called",
    r"Fatal Python error: ",
)
_NO_CAUSE = (
    r"\s*$|\s+File |frame #|#\d+ |<omitting|Extension modules:|(?:Current thread|Thread) 0x|Traceback \(|\s+\^"
    r"|.*\(most recent call (?:first|last)\):|<no Python frame>|Aborted|Segmentation fault"
)


def find_cause(text: str) -> Optional[str]:
    """The line of a dead process's stderr that says why it died, at most MAX_LINE characters; None
    if there is none.

    Of several lines of one kind the last one counts: the process survived the others.
    """
    lines = [line[:MAX_LINE_READ] for line in text[-MAX_TEXT:].splitlines()]
    for cause in _CAUSES:
        pattern = re.compile(cause)
        for line in reversed(lines):
            found = pattern.match(line)
            if found:
                return _clean(found.group(1) if pattern.groups else line)
    left = [line for line in lines if not re.match(_NO_CAUSE, line)]
    return _clean(left[-1]) if left else None


def _clean(line: str) -> str:
    words = " ".join(line.split())
    words = "".join(character for character in words if character.isprintable())
    return words if len(words) <= MAX_LINE else words[: MAX_LINE - 3] + "..."


def describe_end(ending: str, stderr: str) -> str:
    """`signal SIGABRT (Tried to register an operator ...)`. `ending`: how the process ended, as
    name_of_status gives it."""
    line = find_cause(stderr)
    return f"{ending} ({line})" if line else ending


def name_of_status(status: int) -> str:
    """`signal SIGABRT` for -6, `exit status 3` for 3."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"

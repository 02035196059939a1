"""What the role decides from what all machines answered."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

CHUNK = 2**20
LONGEST_REASON = 500  # characters
SILENT = "it did not answer"


class FilterModule:
    """The filters of this collection."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """Name -> function."""
        return {"failures": failures, "reasons": reasons, "file_sha256": file_sha256}


def failures(
    hosts: Sequence[str], answers: Mapping[str, Any], register: str, active: Sequence[str]
) -> Dict[str, str]:
    """Host -> why its answer is no success. `answers`: hostvars; `register`: the name under which
    each host has its answer; `active`: those that Ansible still talks to."""
    found = {}
    for host in hosts:
        reason = SILENT
        if host in active and host in answers:
            reason = failure_of(answers[host].get(register))
        if reason:
            found[str(host)] = reason
    return found


def failure_of(answer: Any) -> str:
    """Why one answer is no success; empty where it is one. What was skipped is one: there was
    nothing to do."""
    if not isinstance(answer, Mapping):
        return SILENT
    if answer.get("unreachable") is True:
        return "it cannot be reached"
    if answer.get("failed") is not True:
        return ""
    said = [str(answer.get(key) or "") for key in ("code", "msg", "hint")]
    return printable(": ".join(text for text in said if text) or "it failed")


def reasons(found: Mapping[str, str]) -> str:
    """The failures as one line for people."""
    return "; ".join(f"{printable(host)}: {found[host]}" for host in found)


def printable(text: str) -> str:
    """One line that a terminal shows as it is: what a machine says is not trusted."""
    shown: List[str] = [letter if letter.isprintable() else " " for letter in text]
    return "".join(shown)[:LONGEST_REASON]


def file_sha256(path: str) -> str:
    """The hash of a file of the controller, read once for all machines."""
    digest = hashlib.sha256()
    with Path(path).expanduser().open("rb") as stream:
        for block in iter(lambda: stream.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()

"""Filters of the role `install`: which machines failed, and why."""

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
    """Host -> why its answer is no success, for each host without a success.

    `answers`: hostvars. `register`: the variable in which each host has its answer. `active`: the
    hosts that Ansible still talks to.
    """
    found = {}
    for host in hosts:
        reason = SILENT
        if host in active and host in answers:
            reason = failure_of(answers[host].get(register))
        if reason:
            found[str(host)] = reason
    return found


def failure_of(answer: Any) -> str:
    """Why an answer is no success; empty for a success. A skipped task is a success: there was
    nothing to do."""
    if not isinstance(answer, Mapping):
        return SILENT
    if answer.get("unreachable") is True:
        return "it cannot be reached"
    if answer.get("failed") is not True:
        return ""
    parts = [str(answer.get(key) or "") for key in ("code", "msg", "hint")]
    return printable(": ".join(part for part in parts if part) or "it failed")


def reasons(found: Mapping[str, str]) -> str:
    """All failures in one line, for people."""
    return "; ".join(f"{printable(host)}: {found[host]}" for host in found)


def printable(text: str) -> str:
    """An untrusted text without control characters, cut to LONGEST_REASON."""
    characters: List[str] = [one if one.isprintable() else " " for one in text]
    return "".join(characters)[:LONGEST_REASON]


def file_sha256(path: str) -> str:
    """The SHA-256 of a file of the controller. The role asks once for all machines."""
    digest = hashlib.sha256()
    with Path(path).expanduser().open("rb") as stream:
        for block in iter(lambda: stream.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()

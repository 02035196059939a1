"""Runs the delivered program on a node, within limits. Python 3.8, standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from typing import BinaryIO, NamedTuple, Optional, Sequence

MAX_ANSWER = 16 * 1024 * 1024  # bytes of its standard output that are read
MAX_STDERR = 4000  # bytes of the end of its standard error
GRACE = 20.0  # seconds from SIGTERM, which rolls back, to SIGKILL


class Ended(NamedTuple):
    """How the program ended."""

    status: Optional[int]  # exit status; None: it was ended, and what it did is unknown
    output: bytes  # standard output, at most MAX_ANSWER
    said: str  # the end of its standard error, or why there is no exit status


def run_program(
    python: str, program: str, words: Sequence[str], timeout: Optional[float] = None
) -> Ended:
    """Run `python -I program --python python *words --json`, without a shell, in an empty folder.

    It is ended after `timeout` seconds. Errors: OSError if it cannot be started.
    """
    command = [python, "-I", program, "--python", python, *words, "--json"]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        status = _run(command, output, errors, timeout)
        answer, said = _read_start(output), _read_end(errors)
    if status is None:
        return Ended(None, answer, f"it took longer than {timeout:g} seconds and was ended")
    if status < 0:
        return Ended(None, answer, f"the program was ended by signal {-status}")
    return Ended(status, answer, said)


def _run(
    command: Sequence[str], output: BinaryIO, errors: BinaryIO, timeout: Optional[float]
) -> Optional[int]:
    with tempfile.TemporaryDirectory(prefix="safe-install-") as folder:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            _terminate(process)
            return None


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    _signal(process, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        pass
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _read_start(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read(MAX_ANSWER)


def _read_end(stream: BinaryIO) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - MAX_STDERR))
    return stream.read().decode("utf-8", "replace").strip()

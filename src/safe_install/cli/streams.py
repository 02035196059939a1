"""stdin, stdout and stderr of this process: always there, and never a reason to end in the middle.

A full disk, a reader that went away and a stream that is closed change nothing of what the command
did: its exit status stands, and what could not be written is said once on stderr. A key press of a
completing shell loads this module.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional, TextIO, cast

_NAMES = ("stdin", "stdout", "stderr")  # by number


class Output:
    """A stream for text that raises nothing. What is written after the first failure is left
    out."""

    def __init__(self, stream: TextIO, *, is_closed: bool = False) -> None:
        self._stream = stream
        self._is_closed = is_closed
        self.problem: Optional[str] = None  # why something was not written

    def write(self, text: str) -> int:
        """As any stream; the number of characters, written or not."""
        if self._is_closed:
            self.problem = "it is closed"
        if self.problem is None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """As any stream."""
        if self.problem is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: Exception) -> None:
        self.problem = getattr(error, "strerror", None) or str(error)
        # What is still in a buffer goes nowhere, instead of failing again when Python ends.
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            pass


def open_closed() -> None:
    """Give every closed number of the three an empty device: a file that is opened later must not
    get it.

    Children inherit it, as they inherit the others.
    """
    for number in range(len(_NAMES)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)


def prepare() -> None:
    """Once, at the start of the program."""
    open_closed()
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - for as long as the program runs
    sys.stdout = cast(TextIO, _guard(sys.stdout))
    sys.stderr = cast(TextIO, _guard(sys.stderr))


def _guard(stream: Optional[TextIO]) -> Output:
    if stream is None:
        nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return Output(nothing, is_closed=True)
    return Output(stream)


def finish(*, says_problem: bool = True) -> None:
    """At the end: write what is left, and say what could not be written."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    problem = getattr(sys.stdout, "problem", None)
    if problem is not None and says_problem:
        sys.stderr.write(f"warning: not all could be written to stdout: {problem}\n")
        sys.stderr.flush()

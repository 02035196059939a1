"""stdin, stdout and stderr of this process: always open, and errors in writing do not end the
program.

A full disk, a reader that has ended, or a closed stream do not change the exit status; what could
not be written is reported once on stderr. Shell completion loads this module at each key press.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Optional, TextIO, cast

_NAMES = ("stdin", "stdout", "stderr")  # by number


class Output:
    """A text stream whose methods raise nothing. After the first error it writes nothing more."""

    def __init__(self, stream: TextIO, *, is_closed: bool = False) -> None:
        self._stream = stream
        self._is_closed = is_closed
        self.problem: Optional[str] = None  # why something was not written

    def write(self, text: str) -> int:
        """Write a text. The result: its length, even if it was not written."""
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
        # Discard what is in the buffer, so that it does not fail again when Python ends.
        try:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
        except (OSError, ValueError):
            pass


def open_closed() -> None:
    """Open the null device for each of the three numbers that is closed, so that a file opened
    later does not get it.

    Child processes inherit it.
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
    """Guard the streams, once, at the start of the program."""
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
    """Flush the streams at the end, and report what could not be written."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    problem = getattr(sys.stdout, "problem", None)
    if problem is not None and says_problem:
        sys.stderr.write(f"warning: not all could be written to stdout: {problem}\n")
        sys.stderr.flush()

"""Reads and writes the pipes of a child process in threads, so that the child and we never wait for
each other."""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
import time
from collections import deque
from typing import IO, Callable, Deque, Iterator, Optional

LineReader = Callable[[str], None]
# the end of a child's output -> the answer to it; None: it is not a question
Answer = Callable[[str], Optional[str]]

PIECE = 65536  # characters; longer lines are read in pieces of this size
PER_LINE = 64  # bytes of memory for a line, without its characters


class Answerer:
    """Answers the questions of a child on its stdin."""

    def __init__(self, stdin: Optional[IO[str]], answer: Answer) -> None:
        self._stdin, self._answer = stdin, answer

    def answer(self, text: str) -> bool:
        """Answer a text that has no end of line, if it is a question. The result: was it one?"""
        try:
            answer = self._answer(text)
            if answer is not None and self._stdin is not None:
                self._stdin.write(f"{answer}\n")
                self._stdin.flush()
            return answer is not None
        except (EOFError, OSError, ValueError):
            # There is no answer, or the child has ended. A child that waits sees the end of its
            # stdin.
            if self._stdin is not None:
                with contextlib.suppress(OSError):
                    self._stdin.close()
            return True


class InputWriter(threading.Thread):
    """Writes a text to the stdin of a child, which may never read it."""

    def __init__(self, stream: IO[str], text: str) -> None:
        super().__init__(daemon=True)
        self._stream, self._text = stream, text
        self.start()

    def run(self) -> None:
        """The work of the thread."""
        # Errors mean that the child ended without reading: its exit status says why.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(self._text)
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()


class OutputBuffer:
    """The output of a child: all of it, or only its beginning or its end."""

    def __init__(self, *, first: Optional[int] = None, last: Optional[int] = None) -> None:
        """`first`, `last`: how many characters of the beginning or of the end are kept."""
        self._first, self._last = first, last
        self._parts: Deque[str] = deque()
        self._size = 0
        self.overflowed = False  # was there more than `first`?

    def add(self, part: str) -> None:
        """Keep a part, if there is room for it."""
        self._size += len(part) + PER_LINE
        if self._first is not None and self._size > self._first:
            self.overflowed = True
            return
        self._parts.append(part)
        while self._last is not None and self._size > self._last:
            self._size -= len(self._parts.popleft()) + PER_LINE

    def text(self) -> str:
        """The kept output."""
        return "".join(self._parts)


class PipeReader(threading.Thread):
    """Reads a pipe to its end, so that the child never waits for us."""

    def __init__(
        self,
        stream: IO[str],
        output: OutputBuffer,
        on_line: Optional[LineReader],
        answer: Optional[Callable[[str], bool]] = None,
    ) -> None:
        """`on_line`: gets each line without its end. `answer`: answers a question, as
        Answerer.answer does."""
        super().__init__(daemon=True)
        self._stream, self._output, self._on_line = stream, output, on_line
        self._answer = answer
        self.is_asking = False  # does it wait for the answer to a question?
        self.last = time.monotonic()  # when the last line came
        self.start()

    def run(self) -> None:
        """The work of the thread."""
        lines = self._read_pieces() if self._answer is None else self._read_lines(self._answer)
        # Closed here, too: if a grandchild keeps the pipe open, the caller does not wait for this.
        with self._stream:
            for line in lines:
                self.last = time.monotonic()
                self._output.add(line)
                if self._output.overflowed:
                    break
                if self._on_line is not None:
                    self._on_line(line.rstrip("\n"))

    def _read_pieces(self) -> Iterator[str]:
        """The lines; a very long one in several pieces."""
        while True:
            piece = self._stream.readline(PIECE)
            if not piece:
                return
            yield piece

    def _read_lines(self, answer: Callable[[str], bool]) -> Iterator[str]:
        """The lines. Text without the end of a line may be a question; if it is, it is answered and
        left out."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while True:
            chunk = os.read(self._stream.fileno(), PIECE)
            rest += decoder.decode(chunk, final=not chunk)
            *whole, rest = rest.split("\n")
            for line in whole:
                yield f"{line}\n"
            if not chunk:
                break
            self.is_asking = True
            if rest and answer(rest):
                rest = ""
            self.is_asking = False
            if len(rest) > PIECE:
                yield rest
                rest = ""
        if rest:
            yield rest

    def close(self) -> None:
        """Close the pipe."""
        self._stream.close()

"""The pipes of a child process, read and written by threads: neither of the two waits for the
other."""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
import time
from collections import deque
from typing import IO, Callable, Deque, Iterator, Optional

LineReader = Callable[[str], None]
# what a child wrote last -> what it waits for; None: it asks nothing
Answer = Callable[[str], Optional[str]]

PIECE = 65536  # characters: of a line that does not end, so much is taken at once
PER_LINE = 64  # what a line costs in memory beside its characters


class Conversation:
    """Answers what a child asks, on the pipe that is its stdin."""

    def __init__(self, stdin: Optional[IO[str]], answer: Answer) -> None:
        self._stdin, self._answer = stdin, answer

    def take(self, text: str) -> bool:
        """Was the text, which does not end a line, a question? Then it is answered."""
        try:
            answer = self._answer(text)
            if answer is not None and self._stdin is not None:
                self._stdin.write(f"{answer}\n")
                self._stdin.flush()
            return answer is not None
        except (EOFError, OSError, ValueError):
            # Nobody answers, or the child is gone: it sees the end of its stdin.
            if self._stdin is not None:
                with contextlib.suppress(OSError):
                    self._stdin.close()
            return True


class Feed(threading.Thread):
    """Writes to the stdin of a child: one that does not read must not hold us."""

    def __init__(self, stream: IO[str], text: str) -> None:
        super().__init__(daemon=True)
        self._stream, self._text = stream, text
        self.start()

    def run(self) -> None:
        """As a thread does."""
        # A child that ended without reading: its exit status says why.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(self._text)
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()


class Kept:
    """What a child wrote: all of it, or so many characters of its beginning or of its end."""

    def __init__(self, *, first: Optional[int] = None, last: Optional[int] = None) -> None:
        self._first, self._last = first, last
        self._parts: Deque[str] = deque()
        self._size = 0
        self.overflowed = False  # `first` was passed

    def add(self, part: str) -> None:
        """Keep it, as far as there is room."""
        self._size += len(part) + PER_LINE
        if self._first is not None and self._size > self._first:
            self.overflowed = True
            return
        self._parts.append(part)
        while self._last is not None and self._size > self._last:
            self._size -= len(self._parts.popleft()) + PER_LINE

    def text(self) -> str:
        """What was kept."""
        return "".join(self._parts)


class Drain(threading.Thread):
    """Reads a pipe to its end, so that a child never waits for us."""

    def __init__(
        self,
        stream: IO[str],
        kept: Kept,
        reader: Optional[LineReader],
        ask: Optional[Callable[[str], bool]] = None,
    ) -> None:
        super().__init__(daemon=True)
        self._stream, self._kept, self._reader = stream, kept, reader
        self._ask = ask
        self.is_asking = False
        self.last = time.monotonic()  # when the last line came
        self.start()

    def run(self) -> None:
        """As a thread does."""
        # Closed here, too: where a grandchild kept the pipe, nobody waits for its end any more.
        with self._stream:
            for line in self._read_pieces() if self._ask is None else self._read_lines(self._ask):
                self.last = time.monotonic()
                self._kept.add(line)
                if self._kept.overflowed:
                    break
                if self._reader is not None:
                    self._reader(line.rstrip("\n"))

    def _read_pieces(self) -> Iterator[str]:
        """Lines; a very long one in several pieces."""
        while True:
            piece = self._stream.readline(PIECE)
            if not piece:
                return
            yield piece

    def _read_lines(self, ask: Callable[[str], bool]) -> Iterator[str]:
        """Lines; what does not end one may be a question. An answered question is no line."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while True:
            chunk = os.read(self._stream.fileno(), 65536)
            rest += decoder.decode(chunk, final=not chunk)
            *whole, rest = rest.split("\n")
            for line in whole:
                yield f"{line}\n"
            if not chunk:
                break
            self.is_asking = True
            if rest and ask(rest):
                rest = ""
            self.is_asking = False
            if len(rest) > PIECE:
                yield rest
                rest = ""
        if rest:
            yield rest

    def close(self) -> None:
        """Read no more."""
        self._stream.close()

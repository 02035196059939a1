"""The only importer of subprocess."""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Iterator, List, Mapping, Optional, Sequence

# A child runs in a session of its own, so that a time limit ends its children too, and with the signals
# unblocked that we may have blocked around a swap.


@dataclass(frozen=True)
class Completed:
    """How a child process ended."""

    args: Sequence[str]
    returncode: int  # negative: ended by that signal
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool = False  # killed: it took longer than its time limit, or than its limit without output
    fell_silent: bool = False  # killed: it wrote nothing for longer than it may

    @property
    def ended_by(self) -> Optional[str]:
        """`signal SIGSEGV` when a signal ended it, else None."""
        if self.returncode >= 0:
            return None
        try:
            return f"signal {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"signal {-self.returncode}"


LineReader = Callable[[str], None]
Answer = Callable[[str], Optional[str]]  # what a child wrote last -> what it waits for; None: it asks nothing
Tick = Callable[[], None]

TICK = 0.25  # seconds between two looks at a child that is watched
KILLED = 10.0  # seconds until a killed child must be gone


class Running:
    """A child process that runs beside us."""

    def __init__(
        self,
        args: Sequence[str],
        *,
        env: Optional[Mapping[str, str]] = None,
        cwd: Optional[Path] = None,
        input_text: Optional[str] = None,
        on_stdout: Optional[LineReader] = None,
        on_stderr: Optional[LineReader] = None,
        merge_stderr: bool = False,
        answer: Optional[Answer] = None,
    ) -> None:
        """`answer`: for a child that may ask; an EOFError of it closes the child's stdin."""
        self.args = [str(arg) for arg in args]
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            self.args,
            env=None if env is None else dict(env),
            cwd=None if cwd is None else str(cwd),
            stdin=subprocess.PIPE if input_text is not None or answer is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            preexec_fn=_unblock_signals if _signals_are_blocked() else None,
        )
        self._out: List[str] = []
        self._err: List[str] = []
        pipes = ((self._process.stdout, self._out, on_stdout), (self._process.stderr, self._err, on_stderr))
        ask = None if answer is None else _Conversation(self._process.stdin, answer).take
        self._threads = [_Drain(pipe, lines, reader, ask) for pipe, lines, reader in pipes if pipe is not None]
        if input_text is not None and self._process.stdin is not None:
            try:
                self._process.stdin.write(input_text)
                self._process.stdin.close()
            except BrokenPipeError:
                pass  # the child ended without reading; its exit status says why

    def wait(
        self,
        timeout: Optional[float] = None,
        *,
        silence: Optional[float] = None,
        on_tick: Optional[Tick] = None,
        end_children: bool = False,
    ) -> Completed:
        """Wait for its end; past `timeout` seconds from the start it and its children are killed.

        They are also killed after `silence` seconds without output. `on_tick` is called
        every TICK seconds, and ends the child by raising.
        `end_children`: after a failure, kill the children that it left behind.
        """
        timed_out = False
        try:
            while not self._has_ended(self._pause(timeout, silence, on_tick)):
                timed_out = self._left(timeout, silence) == 0.0
                if timed_out:
                    break
                if on_tick is not None:
                    on_tick()
        except BaseException:
            self.kill()
            self._close_pipes()
            raise
        fell_silent = timed_out and silence is not None and self._silent_for() >= silence
        if timed_out:
            self.kill()
        if end_children and self._process.returncode != 0:
            self.kill()
        self._close_pipes()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        seconds = time.monotonic() - self._started
        return Completed(
            self.args, self._process.returncode, "".join(self._out), "".join(self._err), seconds, timed_out, fell_silent
        )

    def _has_ended(self, pause: Optional[float]) -> bool:
        try:
            self._process.wait(pause)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _pause(self, timeout: Optional[float], silence: Optional[float], on_tick: Optional[Tick]) -> Optional[float]:
        """How long to wait until the next look at it; None: until its end."""
        left = self._left(timeout, silence)
        if silence is None and on_tick is None:
            return left
        return TICK if left is None else min(left, TICK)

    def _left(self, timeout: Optional[float], silence: Optional[float]) -> Optional[float]:
        """Seconds until the nearer limit, 0.0 when it is reached; None without a limit."""
        left = []
        if timeout is not None:
            left.append(timeout - (time.monotonic() - self._started))
        if silence is not None:
            left.append(silence - self._silent_for())
        return max(0.0, min(left)) if left else None

    def _silent_for(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - max([self._started, *(thread.last for thread in self._threads)])

    def _close_pipes(self) -> None:
        for thread in self._threads:
            if thread.is_asking:
                continue  # it waits for a person, and ends with the process
            # A grandchild that keeps the pipe open must not hold us for ever.
            thread.join(5.0)
            if not thread.is_alive():
                thread.close()

    def kill(self) -> None:
        """End the whole session of the child now."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        try:
            # With a limit: a signal of ours may have come while subprocess held its own lock, and a wait without a
            # limit would then never end. A killed process may also hang in the kernel.
            self._process.wait(KILLED)
        except subprocess.TimeoutExpired:
            pass


def start(args: Sequence[str], **options: object) -> Running:
    """Start a child process; see Running for the options."""
    return Running(args, **options)  # type: ignore[arg-type]


def run(
    args: Sequence[str],
    *,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
    input_text: Optional[str] = None,
    timeout: Optional[float] = None,
    silence: Optional[float] = None,
    on_stdout: Optional[LineReader] = None,
    on_stderr: Optional[LineReader] = None,
    on_tick: Optional[Tick] = None,
    merge_stderr: bool = False,
    end_children: bool = False,
    answer: Optional[Answer] = None,
) -> Completed:
    """Run a child process to its end and return what it said. Never raises for its exit status.

    See Running for the options of the child, and Running.wait for its limits.
    """
    running = Running(
        args,
        env=env,
        cwd=cwd,
        input_text=input_text,
        on_stdout=on_stdout,
        on_stderr=on_stderr,
        merge_stderr=merge_stderr,
        answer=answer,
    )
    return running.wait(timeout, silence=silence, on_tick=on_tick, end_children=end_children)


def run_attached(args: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> int:
    """Run a child with our own stdin, stdout and stderr, as if the person had typed it; return its exit status."""
    process = subprocess.Popen([str(arg) for arg in args], env=None if env is None else dict(env))
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            continue  # the terminal sent it to the child too: the child decides


class _Conversation:
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


class _Drain(threading.Thread):
    """Reads a pipe to its end, so that a child never waits for us."""

    def __init__(
        self,
        stream: IO[str],
        lines: List[str],
        reader: Optional[LineReader],
        ask: Optional[Callable[[str], bool]] = None,
    ) -> None:
        super().__init__(daemon=True)
        self._stream, self._lines, self._reader = stream, lines, reader
        self._ask = ask
        self.is_asking = False
        self.last = time.monotonic()  # when the last line came
        self.start()

    def run(self) -> None:
        # Closed here, too: where a grandchild kept the pipe, nobody waits for its end any more.
        with self._stream:
            for line in self._stream if self._ask is None else self._read_lines(self._ask):
                self.last = time.monotonic()
                self._lines.append(line)
                if self._reader is not None:
                    self._reader(line.rstrip("\n"))

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
        if rest:
            yield rest

    def close(self) -> None:
        self._stream.close()


def _signals_are_blocked() -> bool:
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, [])) if hasattr(signal, "pthread_sigmask") else False


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])

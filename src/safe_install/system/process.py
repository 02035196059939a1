"""The only importer of subprocess."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Sequence, Set

# A child runs in a session of its own, so that a time limit ends its children too, and with the
# signals
# unblocked that we may have blocked around a swap.


@dataclass(frozen=True)
class Completed:
    """How a child process ended."""

    args: Sequence[str]
    returncode: int  # negative: ended by that signal
    stdout: str
    stderr: str
    seconds: float
    # killed: it took longer than its time limit, or than its limit without output
    timed_out: bool = False
    fell_silent: bool = False  # killed: it wrote nothing for longer than it may
    overflowed: bool = False  # it wrote more to stdout than it may, and the rest was not read

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
# what a child wrote last -> what it waits for; None: it asks nothing
Answer = Callable[[str], Optional[str]]
Tick = Callable[[], None]

TICK = 0.25  # seconds between two looks at a child that is watched
KILLED = 10.0  # seconds until a killed child must be gone
PIECE = 65536  # characters: of a line that does not end, so much is taken at once
STDERR_KEPT = 4_000_000  # characters of the end of a child's stderr
PER_LINE = 64  # what a line costs in memory beside its characters


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
        stdout_limit: Optional[int] = None,
    ) -> None:
        """`answer`: for a child that may ask; an EOFError of it closes the child's stdin.

        `stdout_limit`: past so many characters its stdout is closed. Of stderr the end is kept.
        """
        self.args = [str(arg) for arg in args]
        self.started = time.monotonic()
        is_fed = input_text is not None or answer is not None
        with _STARTING:
            self._process = subprocess.Popen(
                self.args,
                env=None if env is None else dict(env),
                cwd=None if cwd is None else str(cwd),
                stdin=subprocess.PIPE if is_fed else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if merge_stderr else subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                preexec_fn=_unblock_signals if _signals_are_blocked() else None,
            )
            _RUNNING.add(self._process.pid)
        self._out, self._err = _Kept(first=stdout_limit), _Kept(last=STDERR_KEPT)
        pipes = (
            (self._process.stdout, self._out, on_stdout),
            (self._process.stderr, self._err, on_stderr),
        )
        ask = None if answer is None else _Conversation(self._process.stdin, answer).take
        self._threads = [
            _Drain(pipe, kept, reader, ask) for pipe, kept, reader in pipes if pipe is not None
        ]
        self._feed: Optional[_Feed] = None
        if input_text is not None and self._process.stdin is not None:
            self._feed = _Feed(self._process.stdin, input_text)

    def wait(
        self,
        timeout: Optional[float] = None,
        *,
        silence: Optional[float] = None,
        on_tick: Optional[Tick] = None,
        end_children: bool = False,
        on_end: Optional[Tick] = None,
    ) -> Completed:
        """Wait for its end; past `timeout` seconds from the start it and its children are killed.

        They are also killed after `silence` seconds without output. `on_tick` is called
        every TICK seconds, and ends the child by raising.
        `end_children`: after a failure, kill the children that it left behind. `on_end` is called
        when the child has ended, before its pipes are read to their end: what it left behind may
        hold them open.
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
            if on_end is not None:
                on_end()
            self._close_pipes()
            raise
        fell_silent = timed_out and silence is not None and self._silent_for() >= silence
        if timed_out:
            self.kill()
        if end_children and self._process.returncode != 0:
            self.kill()
        if on_end is not None:
            on_end()
        self._close_pipes()
        _RUNNING.discard(self._process.pid)
        return Completed(
            self.args,
            self._process.returncode,
            self._out.text(),
            self._err.text(),
            time.monotonic() - self.started,
            timed_out,
            fell_silent,
            self._out.overflowed,
        )

    def _has_ended(self, pause: Optional[float]) -> bool:
        try:
            self._process.wait(pause)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _pause(
        self, timeout: Optional[float], silence: Optional[float], on_tick: Optional[Tick]
    ) -> Optional[float]:
        """How long to wait until the next look at it; None: until its end."""
        left = self._left(timeout, silence)
        if silence is None and on_tick is None:
            return left
        return TICK if left is None else min(left, TICK)

    def _left(self, timeout: Optional[float], silence: Optional[float]) -> Optional[float]:
        """Seconds until the nearer limit, 0.0 when it is reached; None without a limit."""
        left = []
        if timeout is not None:
            left.append(timeout - (time.monotonic() - self.started))
        if silence is not None:
            left.append(silence - self._silent_for())
        return max(0.0, min(left)) if left else None

    def _silent_for(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - max([self.started, *(thread.last for thread in self._threads)])

    def _close_pipes(self) -> None:
        for thread in self._threads:
            if thread.is_asking:
                continue  # it waits for a person, and ends with the process
            # A grandchild that keeps the pipe open must not hold us for ever.
            thread.join(5.0)
            if not thread.is_alive():
                thread.close()
        if self._feed is not None:
            self._feed.join(5.0)  # it closes the pipe
        elif self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """End the whole session of the child now."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        try:
            # With a limit: a signal of ours may have come while subprocess held its own lock, and a
            # wait without a limit would then never end. A killed process may also hang in the
            # kernel.
            self._process.wait(KILLED)
        except subprocess.TimeoutExpired:
            pass
        _RUNNING.discard(self._process.pid)


def inherited_variables() -> Dict[str, str]:
    """What a child process would inherit: the environment variables of this process, to be changed
    for the child."""
    return dict(os.environ)


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
    """Run a child with our own stdin, stdout and stderr, as if the person had typed it; return its
    exit status."""
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


class _Feed(threading.Thread):
    """Writes to the stdin of a child: one that does not read must not hold us."""

    def __init__(self, stream: IO[str], text: str) -> None:
        super().__init__(daemon=True)
        self._stream, self._text = stream, text
        self.start()

    def run(self) -> None:
        # A child that ended without reading: its exit status says why.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(self._text)
        with contextlib.suppress(OSError, ValueError):
            self._stream.close()


class _Kept:
    """What a child wrote: all of it, or so many characters of its beginning or of its end."""

    def __init__(self, *, first: Optional[int] = None, last: Optional[int] = None) -> None:
        self._first, self._last = first, last
        self._parts: Deque[str] = deque()
        self._size = 0
        self.overflowed = False  # `first` was passed

    def add(self, part: str) -> None:
        self._size += len(part) + PER_LINE
        if self._first is not None and self._size > self._first:
            self.overflowed = True
            return
        self._parts.append(part)
        while self._last is not None and self._size > self._last:
            self._size -= len(self._parts.popleft()) + PER_LINE

    def text(self) -> str:
        return "".join(self._parts)


class _Drain(threading.Thread):
    """Reads a pipe to its end, so that a child never waits for us."""

    def __init__(
        self,
        stream: IO[str],
        kept: _Kept,
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
        self._stream.close()


# --- what children leave behind -------------------------------------------------------------------

_STARTING = threading.Lock()  # held while a child of ours is started, until it is known
_RUNNING: Set[int] = set()  # the children that somebody waits for
_ADOPTING: List[Set[int]] = []  # one for each `ending_orphans` that goes on
_SET_CHILD_SUBREAPER = 36  # prctl(2) of Linux
_ORPHANS_END = 3.0  # seconds: killed processes may have started others meanwhile


@contextlib.contextmanager
def ending_orphans() -> Iterator[Tick]:
    """What children that end inside leave behind is ended at the end, in whatever session it runs.

    The function that it gives does that at once. Linux gives the orphans of our children to us;
    elsewhere only the process group of a child ends with it.
    """
    known = _children() - _RUNNING
    # Children of whoever became this program (a shell's `exec`), and every orphan of a container
    # whose first process this is, would be given to us, too: they are not ours to end.
    if known or os.getpid() == 1 or not _adopt_orphans(True):
        yield lambda: None
        return
    _ADOPTING.append(known)
    try:
        yield lambda: _end_orphans(known)
    finally:
        _end_orphans(known)
        _ADOPTING.pop()
        if not _ADOPTING:
            _adopt_orphans(False)


def _adopt_orphans(yes: bool) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        words = [ctypes.c_ulong(number) for number in (int(yes), 0, 0, 0)]
        return bool(ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, *words) == 0)
    except (OSError, AttributeError):
        return False


def _end_orphans(known: Set[int]) -> None:
    """Kill our children that are neither `known` nor waited for, and what these leave behind in
    turn."""
    limit = time.monotonic() + _ORPHANS_END
    while time.monotonic() < limit:
        with _STARTING:
            orphans = _children() - known - _RUNNING
        if not orphans:
            return
        for orphan in orphans:
            with contextlib.suppress(OSError):
                os.kill(orphan, signal.SIGKILL)
                os.waitpid(orphan, os.WNOHANG)
        time.sleep(0.005)


def _children() -> Set[int]:
    """Our child processes; those whose parent is this process in /proc/PID/stat."""
    found = set()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - hundreds of names
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes()
        except OSError:
            continue
        # PID (command) state PPID ...: the command may hold spaces and parentheses.
        if int(stat.rpartition(b")")[2].split()[1]) == os.getpid():
            found.add(int(entry))
    return found


def _signals_are_blocked() -> bool:
    return (
        bool(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        if hasattr(signal, "pthread_sigmask")
        else False
    )


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])

"""Runs child processes. The only module that imports subprocess.

A child runs in a session of its own, so that a time limit can also end its children. Signals that
are blocked here (around a swap) are unblocked in the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set

from safe_install.system.pipes import Answer as Answer
from safe_install.system.pipes import Answerer, InputWriter, OutputBuffer, PipeReader
from safe_install.system.pipes import LineReader as LineReader
from safe_install.system.session_work import WorkWatch


class Completed(NamedTuple):
    """A child process that has ended."""

    args: Sequence[str]
    returncode: int  # negative: the number of the signal that ended it
    stdout: str
    stderr: str
    seconds: float
    timed_out: bool = False  # it was killed after `timeout`, or after `silence` without output
    fell_silent: bool = False  # it was killed after `silence`
    overflowed: bool = False  # it wrote more than `stdout_limit`; the rest was not read

    @property
    def ended_by(self) -> Optional[str]:
        """`signal SIGSEGV`; None: no signal ended it."""
        if self.returncode >= 0:
            return None
        try:
            return f"signal {signal.Signals(-self.returncode).name}"
        except ValueError:
            return f"signal {-self.returncode}"


Tick = Callable[[], None]

TICK = 0.25  # seconds between two looks at a child
KILLED = 10.0  # seconds to wait for the end of a killed child
STDERR_KEPT = 4_000_000  # characters at the end of a child's stderr that are kept


class Running:
    """A running child process."""

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
        is_fed_later: bool = False,
    ) -> None:
        """Start it. Errors: OSError.

        `env`, `cwd`: None: as in this process. `input_text`: written to its stdin; `is_fed_later`:
        `feed` writes it. `on_stdout`, `on_stderr`: get each line, in another thread. `answer`:
        answers its questions; an EOFError of it closes the child's stdin. `stdout_limit`:
        characters, after which its stdout is closed.
        """
        self.args = [str(arg) for arg in args]
        self.started = time.monotonic()
        is_fed = input_text is not None or answer is not None or is_fed_later
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
        self._stdout = OutputBuffer(first=stdout_limit)
        self._stderr = OutputBuffer(last=STDERR_KEPT)
        answerer = None if answer is None else Answerer(self._process.stdin, answer).answer
        self._readers = self._start_readers(on_stdout, on_stderr, answerer)
        self._worked = self.started  # when it was last seen to compute without output
        self._writer: Optional[InputWriter] = None
        if input_text is not None and self._process.stdin is not None:
            self._writer = InputWriter(self._process.stdin, input_text)

    def _start_readers(
        self,
        on_stdout: Optional[LineReader],
        on_stderr: Optional[LineReader],
        answer: Optional[Callable[[str], bool]],
    ) -> List[PipeReader]:
        """Start a thread for each pipe. Errors: OSError, if no thread can be started; the child is
        killed then."""
        stdout, stderr = self._process.stdout, self._process.stderr
        readers = []
        try:
            if stdout is not None:
                readers.append(PipeReader(stdout, self._stdout, on_stdout, answer))
            if stderr is not None:
                readers.append(PipeReader(stderr, self._stderr, on_stderr, answer))
        except RuntimeError as error:  # "can't start new thread"
            self.kill()
            for pipe in (stdout, stderr):
                if pipe is not None:
                    pipe.close()
            raise OSError(errno.EAGAIN, str(error)) from error
        return readers

    def feed(self, text: str) -> None:
        """Write the stdin of a child that waits for it. Its time is counted from now on."""
        self.started = time.monotonic()
        if self._process.stdin is not None:
            self._writer = InputWriter(self._process.stdin, text)

    @property
    def has_ended(self) -> bool:
        """Has the child ended?"""
        return self._process.poll() is not None

    def wait(
        self,
        timeout: Optional[float] = None,
        *,
        silence: Optional[float] = None,
        may_compute: bool = False,
        on_tick: Optional[Tick] = None,
        end_children: bool = False,
        on_end: Optional[Tick] = None,
    ) -> Completed:
        """Wait for its end. After a limit, the child and its children are killed.

        `timeout`: seconds since the start. `silence`: seconds without output; `may_compute`: only
        if it did not use the CPU either. `on_tick`: called every TICK seconds; it may raise to kill
        the child. `end_children`: if the child fails, kill the children that it left behind.
        `on_end`: called when the child has ended, but before the rest of its output is read:
        processes that it left behind may keep the pipes open.
        """
        timed_out = False
        watch = WorkWatch(self._process.pid)
        try:
            while not self._ends_within(self._pause(timeout, silence, on_tick)):
                if may_compute and silence and watch.has_worked(self._silent_for(), silence):
                    self._worked = time.monotonic()
                timed_out = self._seconds_left(timeout, silence) == 0.0
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
            self._stdout.text(),
            self._stderr.text(),
            time.monotonic() - self.started,
            timed_out,
            fell_silent,
            self._stdout.overflowed,
        )

    def _ends_within(self, pause: Optional[float]) -> bool:
        """Wait. The result: has the child ended? `pause`: seconds; None: until its end."""
        if pause is None:
            self._process.wait()
            return True
        if self._process.poll() is None and _watch_for_end(self._process.pid, pause):
            pause = 0.0
        try:
            self._process.wait(pause)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _pause(
        self, timeout: Optional[float], silence: Optional[float], on_tick: Optional[Tick]
    ) -> Optional[float]:
        """The seconds until the next look at the child; None: wait until its end."""
        left = self._seconds_left(timeout, silence)
        if silence is None and on_tick is None:
            return left
        return TICK if left is None else min(left, TICK)

    def _seconds_left(self, timeout: Optional[float], silence: Optional[float]) -> Optional[float]:
        """The seconds until the first limit; 0.0: it is reached; None: there is none."""
        left = []
        if timeout is not None:
            left.append(timeout - (time.monotonic() - self.started))
        if silence is not None:
            left.append(silence - self._silent_for())
        return max(0.0, min(left)) if left else None

    def _silent_for(self) -> float:
        """The seconds since its last output, or since it was seen to compute."""
        lines = [reader.last for reader in self._readers]
        return time.monotonic() - max([self.started, self._worked, *lines])

    def _close_pipes(self) -> None:
        for reader in self._readers:
            if reader.is_asking:
                continue  # it waits for the user, and ends with this process
            # With a limit, since a grandchild may keep the pipe open for ever.
            reader.join(5.0)
            if not reader.is_alive():
                reader.close()
        if self._writer is not None:
            self._writer.join(5.0)  # it closes the pipe
        elif self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def interrupt(self) -> None:
        """Send the child the signal of Ctrl-C, so that it can undo what it has begun."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the whole session of the child."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self._process.kill()
        try:
            # With a limit: the killed process may hang in the kernel. And if a signal has
            # interrupted subprocess while it held its lock, a wait without a limit never ends.
            self._process.wait(KILLED)
        except subprocess.TimeoutExpired:
            pass
        _RUNNING.discard(self._process.pid)


def _watch_for_end(pid: int, pause: float) -> bool:
    """Wait until a child ends, at most `pause` seconds. False: the system cannot do it.

    It returns at once at the end of the child. `Popen.wait` with a limit sleeps up to 0.05 s
    between two looks.
    """
    open_process = getattr(os, "pidfd_open", None)  # Linux, from Python 3.9 on
    if open_process is None:
        return False
    try:
        descriptor: int = open_process(pid)
    except OSError:
        return False
    try:
        watch = select.poll()
        watch.register(descriptor, select.POLLIN)
        watch.poll(pause * 1000)
    finally:
        os.close(descriptor)
    return True


def inherited_variables() -> Dict[str, str]:
    """A copy of this process's environment variables, to be changed for a child."""
    return dict(os.environ)


def start(args: Sequence[str], **options: object) -> Running:
    """Start a child process. `options`: those of Running. Errors: OSError."""
    return Running(args, **options)  # type: ignore[arg-type]


def run(
    args: Sequence[str],
    *,
    env: Optional[Mapping[str, str]] = None,
    cwd: Optional[Path] = None,
    input_text: Optional[str] = None,
    timeout: Optional[float] = None,
    silence: Optional[float] = None,
    may_compute: bool = False,
    on_stdout: Optional[LineReader] = None,
    on_stderr: Optional[LineReader] = None,
    on_tick: Optional[Tick] = None,
    merge_stderr: bool = False,
    end_children: bool = False,
    answer: Optional[Answer] = None,
) -> Completed:
    """Run a child process to its end. The exit status is never an error.

    Running describes the options of the child, Running.wait its limits. Errors: OSError.
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
    return running.wait(
        timeout,
        silence=silence,
        may_compute=may_compute,
        on_tick=on_tick,
        end_children=end_children,
    )


def run_attached(args: Sequence[str], *, env: Optional[Mapping[str, str]] = None) -> int:
    """Run a child with our own stdin, stdout and stderr, as if the user had typed it. The result:
    its exit status, as a shell gives it."""
    process = subprocess.Popen([str(arg) for arg in args], env=None if env is None else dict(env))
    while True:
        try:
            code = process.wait()
            return code if code >= 0 else 128 - code
        except KeyboardInterrupt:
            continue  # the terminal has sent it to the child, too, which decides what to do


# --- processes that children leave behind ---------------------------------------------------------

_STARTING = threading.Lock()  # held from the start of a child until it is in _RUNNING
_RUNNING: Set[int] = set()  # the children whose end is waited for
_ADOPTING: List[Set[int]] = []  # the known children of each active `ending_orphans`
_SET_CHILD_SUBREAPER = 36  # prctl(2) of Linux
_ORPHANS_END = 3.0  # seconds; until they are killed, orphans may start others


@contextlib.contextmanager
def ending_orphans() -> Iterator[Tick]:
    """At the end of the block, kill the processes that its children left behind, whatever their
    session is. The function that it yields does this at once.

    Only on Linux, where this process can become the parent of such orphans.
    """
    known = _children() - _RUNNING
    # Not if other orphans would come to this process, too: it has children from before (a shell
    # that called `exec`), or is the first process of a container.
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


def _adopt_orphans(is_on: bool) -> bool:
    """Become the parent of orphans, or stop being it. False: the system cannot do it."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        arguments = [ctypes.c_ulong(number) for number in (int(is_on), 0, 0, 0)]
        return bool(ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, *arguments) == 0)
    except (OSError, AttributeError):
        return False


def _end_orphans(known: Set[int]) -> None:
    """Kill our children, except those in `known` and _RUNNING, until there are no more. Their own
    children become ours."""
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
    """The process ids of our children."""
    found = _listed_children()
    return _children_among_all() if found is None else found


def _listed_children() -> Optional[Set[int]]:
    """Our children as the kernel lists them for each thread; None: it has no such list
    (CONFIG_PROC_CHILDREN)."""
    found: Set[int] = set()
    try:
        for thread in Path("/proc/self/task").iterdir():
            children = _children_of_thread(thread)
            if children is None:
                return None
            found |= children
    except OSError:
        return None
    return found


def _children_of_thread(thread: Path) -> Optional[Set[int]]:
    """`thread`: its folder in /proc. None: the kernel has no list. Errors: OSError."""
    try:
        listed = (thread / "children").read_bytes()
    except FileNotFoundError:
        has_ended = not thread.exists()
        return set() if has_ended else None
    except ProcessLookupError:
        return set()  # the thread has ended
    return set(map(int, listed.split()))


def _children_among_all() -> Set[int]:
    """Our children: the processes with this one as the parent in /proc/PID/stat."""
    found = set()
    for entry in os.listdir("/proc"):  # noqa: PTH208 - hundreds of names
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes()
        except OSError:
            continue
        # PID (command) state PPID ...; the command may contain spaces and parentheses.
        if int(stat.rpartition(b")")[2].split()[1]) == os.getpid():
            found.add(int(entry))
    return found


def _signals_are_blocked() -> bool:
    if not hasattr(signal, "pthread_sigmask"):
        return False
    return bool(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])

"""The only importer of subprocess."""

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
from safe_install.system.pipes import Conversation, Drain, Feed, Kept
from safe_install.system.pipes import LineReader as LineReader
from safe_install.system.session_work import WorkWatch

# A child runs in a session of its own, so that a time limit ends its children too, and with the
# signals
# unblocked that we may have blocked around a swap.


class Completed(NamedTuple):
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


Tick = Callable[[], None]

TICK = 0.25  # seconds between two looks at a child that is watched
KILLED = 10.0  # seconds until a killed child must be gone
STDERR_KEPT = 4_000_000  # characters of the end of a child's stderr


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
        is_fed_later: bool = False,
    ) -> None:
        """`answer`: for a child that may ask; an EOFError of it closes the child's stdin.
        `is_fed_later`: its stdin is written by `feed`.

        `stdout_limit`: past so many characters its stdout is closed. Of stderr the end is kept.
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
        self._out, self._err = Kept(first=stdout_limit), Kept(last=STDERR_KEPT)
        ask = None if answer is None else Conversation(self._process.stdin, answer).take
        self._threads = self._listen(on_stdout, on_stderr, ask)
        self._worked = self.started  # when it was last seen to compute, without a line
        self._feed: Optional[Feed] = None
        if input_text is not None and self._process.stdin is not None:
            self._feed = Feed(self._process.stdin, input_text)

    def _listen(
        self,
        on_stdout: Optional[LineReader],
        on_stderr: Optional[LineReader],
        ask: Optional[Callable[[str], bool]],
    ) -> List[Drain]:
        """A thread for each pipe. Errors: OSError where no more can be started; the child is ended
        then."""
        pipes = (
            (self._process.stdout, self._out, on_stdout),
            (self._process.stderr, self._err, on_stderr),
        )
        try:
            return [
                Drain(pipe, kept, reader, ask) for pipe, kept, reader in pipes if pipe is not None
            ]
        except RuntimeError as error:  # "can't start new thread"
            self.kill()
            for pipe, _, _ in pipes:
                if pipe is not None:
                    pipe.close()
            raise OSError(errno.EAGAIN, str(error)) from error

    def feed(self, text: str) -> None:
        """Write the stdin of a child that waits for it; its time begins now."""
        self.started = time.monotonic()
        if self._process.stdin is not None:
            self._feed = Feed(self._process.stdin, text)

    @property
    def has_ended(self) -> bool:
        """Is it over already?"""
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
        """Wait for its end; past `timeout` seconds from the start it and its children are killed.

        They are also killed after `silence` seconds without output; `may_compute`: and without
        work. `on_tick` is called every TICK seconds, and ends the child by raising.
        `end_children`: after a failure, kill the children that it left behind. `on_end` is called
        when the child has ended, before its pipes are read to their end: what it left behind may
        hold them open.
        """
        timed_out = False
        watch = WorkWatch(self._process.pid)
        try:
            while not self._ends_within(self._pause(timeout, silence, on_tick)):
                if may_compute and silence and watch.has_worked(self._silent_for(), silence):
                    self._worked = time.monotonic()
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

    def _ends_within(self, pause: Optional[float]) -> bool:
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
        """Seconds since the last line, or since it was seen to compute."""
        lines = [thread.last for thread in self._threads]
        return time.monotonic() - max([self.started, self._worked, *lines])

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

    def interrupt(self) -> None:
        """Ctrl-C, for the child: it puts back what it has begun."""
        self._process.send_signal(signal.SIGINT)

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


def _watch_for_end(pid: int, pause: float) -> bool:
    """Wait until a child ends, or `pause` seconds; False where the system cannot tell.

    `Popen.wait` with a limit sleeps up to 0.05 s between two looks; this sees the end at once.
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
    may_compute: bool = False,
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
    return running.wait(
        timeout,
        silence=silence,
        may_compute=may_compute,
        on_tick=on_tick,
        end_children=end_children,
    )


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
    """Our child processes."""
    found = _listed_children()
    return _children_among_all() if found is None else found


def _listed_children() -> Optional[Set[int]]:
    """As the kernel lists them for each of our threads; None where it does not
    (CONFIG_PROC_CHILDREN)."""
    found: Set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208
            listed = Path("/proc/self/task", thread, "children")
            try:
                found.update(map(int, listed.read_bytes().split()))
            except FileNotFoundError:
                if Path("/proc/self/task", thread).exists():
                    return None
            except ProcessLookupError:
                continue  # the thread has ended
    except OSError:
        return None
    return found


def _children_among_all() -> Set[int]:
    """Those of all processes whose parent is this one in /proc/PID/stat."""
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

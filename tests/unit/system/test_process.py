"""How a child process is watched: limits, ticks, and what it leaves behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from safe_install.system import process
from safe_install.system.pipes import OutputBuffer

pytestmark = pytest.mark.real_process


def run(code, **options):
    return process.run([sys.executable, "-u", "-c", code], **options)


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch):
    monkeypatch.setattr(process, "TICK", 0.05)


def test_a_child_within_its_limits_is_left_alone():
    answer = run("print('a')", timeout=60, silence=60)
    assert (answer.returncode, answer.stdout, answer.timed_out, answer.fell_silent) == (
        0,
        "a\n",
        False,
        False,
    )


@pytest.mark.parametrize("watched", [False, True])
def test_the_whole_limit(watched):
    options = {"on_tick": lambda: None} if watched else {}
    answer = run("import time; time.sleep(60)", timeout=0.5, **options)
    assert (answer.timed_out, answer.fell_silent, answer.ended_by) == (
        True,
        False,
        "signal SIGKILL",
    )
    assert answer.seconds < 30


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system does not tell")
def test_the_end_of_a_watched_child_is_seen_at_once(monkeypatch):
    """Counted, because a time would depend on the load: Popen.wait looks again and again."""
    looks = []
    look = os.waitpid
    monkeypatch.setattr(os, "waitpid", lambda *args: looks.append(args) or look(*args))
    monkeypatch.setattr(process, "TICK", 30.0)
    answer = run("import time; time.sleep(0.5)", timeout=60, on_tick=lambda: None)
    assert answer.returncode == 0
    assert len(looks) <= 2  # before it is watched, and when it has ended


def test_the_end_is_seen_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    assert run("print('a')", timeout=60, on_tick=lambda: None).stdout == "a\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_children_are_found_in_both_ways():
    started = []
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    thread = threading.Thread(target=lambda: started.append(subprocess.Popen(sleep)))
    thread.start()
    started.append(subprocess.Popen(sleep))
    thread.join()  # its child is a child of the process still
    pids = {one.pid for one in started}
    try:
        assert pids <= process._children_among_all()
        listed = process._listed_children()
        assert listed is None or pids <= listed
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_the_limit_without_output():
    answer = run("import time; print('a'); time.sleep(60)", timeout=60, silence=1.5)
    assert (answer.timed_out, answer.fell_silent, answer.stdout) == (True, True, "a\n")


def test_output_puts_the_limit_off():
    answer = run("import time\nfor _ in range(8): print('a'); time.sleep(0.3)", silence=1.5)
    assert (answer.returncode, answer.fell_silent) == (0, False)


# Longer than the limit below, which leaves room for two starts of Python on a busy machine.
COMPUTE = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass\n"


def test_a_child_that_computes_is_not_silent():
    answer = run(COMPUTE, silence=3, may_compute=True)
    assert (answer.returncode, answer.fell_silent) == (0, False)


def test_a_child_whose_own_child_computes_is_not_silent():
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTE!r}])"
    answer = run(code, silence=3, may_compute=True)
    assert (answer.returncode, answer.fell_silent) == (0, False)


def test_a_child_that_waits_is_silent_though_it_may_compute():
    answer = run("import time; time.sleep(60)", timeout=60, silence=1.5, may_compute=True)
    assert (answer.timed_out, answer.fell_silent) == (True, True)


def test_computing_is_no_sign_of_life_where_it_is_not_said_to_be():
    answer = run(COMPUTE, timeout=60, silence=1.5)
    assert (answer.timed_out, answer.fell_silent) == (True, True)


def test_ticks_come_while_nothing_is_said():
    ticks = []
    run("import time; time.sleep(0.6)", on_tick=lambda: ticks.append(1))
    assert len(ticks) >= 2


def test_an_exception_in_a_tick_ends_the_child(tmp_path):
    def interrupt():
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    code = f"import os, time; open({str(tmp_path / 'tmp')!r}, 'w').write(str(os.getpid()))\n"
    code += f"os.rename({str(tmp_path / 'tmp')!r}, {str(tmp_path / 'pid')!r}); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        run(code, on_tick=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize(("status", "ended"), [(3, True), (0, False)])
def test_children_are_ended_after_a_failure(status, ended):
    """A build that succeeds may leave a server that others use (sccache); after a failure nobody
    needs a compiler."""
    code = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '20'], stdout=subprocess.DEVNULL, "
    )
    code += f"stderr=subprocess.DEVNULL); print(p.pid); sys.exit({status})"
    pid = int(run(code, end_children=True).stdout)
    assert has_ended(pid) is ended
    if not ended:
        os.kill(pid, 9)


def has_ended(pid):
    for _ in range(10):
        try:
            with open(f"/proc/{pid}/stat") as stream:
                if ") Z " in stream.read():
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_at_the_wrong_moment_cannot_hang_the_end(monkeypatch):
    """subprocess takes a lock around its look at the child; an interrupt between the two leaves the
    lock taken."""
    monkeypatch.setattr(process, "KILLED", 0.3, raising=False)
    running = process.start([sys.executable, "-c", "import time; time.sleep(60)"])
    assert running._process._waitpid_lock.acquire(False)
    ended = threading.Thread(target=running.kill, daemon=True)
    ended.start()
    ended.join(5.0)
    hangs = ended.is_alive()
    running._process._waitpid_lock.release()
    running.kill()
    running._close_pipes()
    assert not hangs


def test_of_what_has_no_end_a_bounded_part_is_kept():
    """Of stderr the end; past its limit stdout is closed."""
    code = "import os\nfor _ in range(24): os.write(2, b'x' * 1_000_000)\nos.write(2, b'the end')"
    answer = run(code)
    assert answer.stderr.endswith("xthe end")
    assert len(answer.stderr) <= process.STDERR_KEPT
    code = "import os\nwhile True: os.write(1, b'x' * 1_000_000)"
    answer = process.start([sys.executable, "-c", code], stdout_limit=3_000_000).wait(30)
    assert (answer.overflowed, answer.timed_out) == (True, False)
    assert len(answer.stdout) <= 3_000_000


def test_many_short_lines_take_no_more_memory_than_a_long_one():
    kept = OutputBuffer(last=6400)
    for _ in range(1000):
        kept.add("\n")
    assert len(kept.text()) == 98


def test_a_child_that_does_not_read_holds_nobody():
    started = time.monotonic()
    answer = run("import time; time.sleep(60)", input_text="x" * 1_000_000, timeout=1)
    assert answer.timed_out
    assert time.monotonic() - started < 10


def test_what_a_shell_left_to_us_is_not_ours_to_end(tmp_path):
    """`exec` makes us the parent of a shell's background jobs: what they start is somebody
    else's."""
    code = (
        "import sys, time\n"
        "from safe_install.system import process\n"
        "with process.ending_orphans():\n"
        "    time.sleep(1.5)\n"
    )
    marker = tmp_path / "alive"
    job = f"(sleep 0.7; setsid sh -c 'sleep 2; touch {marker}' &) &"
    done = subprocess.run(["sh", "-c", f'{job} exec "{sys.executable}" -c "$0"', code], check=False)
    assert done.returncode == 0
    deadline = time.monotonic() + 10
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marker.exists()


def test_where_no_more_threads_can_be_started_the_child_is_ended(monkeypatch):
    children = []
    popen = subprocess.Popen

    def start_child(*words, **options):
        children.append(popen(*words, **options))
        return children[0]

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", start_child)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="can't start new thread") as caught:
        process.start([sys.executable, "-c", "import time; time.sleep(60)"])
    assert caught.value.errno == errno.EAGAIN
    assert children[0].returncode == -signal.SIGKILL

"""stdout and stderr that cannot be written, or are closed."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys

import pytest

from safe_install.cli import streams


class Failing(io.StringIO):
    def __init__(self, error, *, at="write"):
        super().__init__()
        self.error, self.at, self.calls = error, at, 0

    def write(self, text):
        self.calls += 1
        if self.at == "write":
            raise self.error
        return super().write(text)

    def flush(self):
        if self.at == "flush":
            raise self.error


ERRORS = [
    (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.strerror(errno.ENOSPC)),
    (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), os.strerror(errno.EPIPE)),
    (ValueError("I/O operation on closed file."), "I/O operation on closed file."),
]


@pytest.mark.parametrize("at", ["write", "flush"])
@pytest.mark.parametrize(
    ("error", "problem"), ERRORS, ids=["full", "reader gone", "closed meanwhile"]
)
def test_a_stream_that_fails_is_said_once_and_raises_nothing(monkeypatch, error, problem, at):
    failing, stderr = Failing(error, at=at), io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams.Output(failing))
    monkeypatch.setattr(sys, "stderr", streams.Output(stderr))
    print("one", flush=True)
    print("two", flush=True)
    streams.finish()
    assert stderr.getvalue() == f"warning: not all could be written to stdout: {problem}\n"
    assert failing.calls <= 2, "the first failure is the last try"


def test_nothing_can_be_said_where_stderr_fails_too(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, streams.Output(Failing(OSError(errno.EIO, "no"))))
    print("one", flush=True)
    streams.finish()


@pytest.mark.parametrize(
    ("written", "said"), [("", ""), ("x", "not all could be written to stdout: it is closed")]
)
def test_a_closed_stream_is_said_where_something_was_to_be_written(monkeypatch, written, said):
    stderr = io.StringIO()
    guarded = streams._guard(None)
    monkeypatch.setattr(sys, "stdout", guarded)
    monkeypatch.setattr(sys, "stderr", stderr)
    if written:
        sys.stdout.write(written)
    streams.finish()
    guarded.close()
    assert said in stderr.getvalue()
    assert bool(said) == bool(stderr.getvalue())


CLOSED = """
import os, sys
from safe_install.cli import streams
streams.prepare()
file = open(sys.argv[1], "w")
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
assert file.fileno() > 2, file.fileno()
assert sys.stdin.read() == ""
assert os.system("echo of a child; echo of a child >&2; read line") != 0
os.write(1, b"of a library")
"""


@pytest.mark.real_process
def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    file = tmp_path / "file"
    line = 'exec "$0" -c "$1" "$2" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", line, sys.executable, CLOSED, str(file)], check=False)
    assert done.returncode == 0
    assert file.read_text() == ""

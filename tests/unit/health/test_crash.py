"""The line that says why a process died, out of what real processes wrote."""

from __future__ import annotations

import time

import pytest

from safe_install.health.crash import MAX_LINE, describe_end, find_cause, name_of_status

C10 = """/env/torch/cuda/__init__.py:61: FutureWarning: The pynvml package is deprecated.
terminate called after throwing an instance of 'c10::Error'
  what():  Tried to register an operator (torch_scatter::cuda_version() -> int) with the same name twice.
Exception raised from registerDef at /pytorch/aten/src/ATen/core/dispatch/OperatorEntry.cpp:62 (most recent call first):
frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x9d (0x7f1942363bfd in /env/torch/lib/libc10.so)
<omitting python frames>
frame #37: _start + 0x21 (0x55d8a6b09081 in /env/bin/python)

Fatal Python error: Aborted

Current thread 0x00007f2 (most recent call first):
  File "<stdin>", line 3 in load
"""
TABLE = {
    "C++ exception": (
        C10,
        "Tried to register an operator (torch_scatter::cuda_version() -> int) with the same name "
        "twice.",
    ),
    "C++ exception without words": (
        "terminate called after throwing an instance of 'int'\n",
        "terminate called after throwing an instance of 'int'",
    ),
    "no exception": (
        "terminate called without an active exception\n",
        "terminate called without an active exception",
    ),
    "macOS": (
        "libc++abi: terminating due to uncaught exception of type c10::Error: twice\n",
        "terminating due to uncaught exception of type c10::Error: twice",
    ),
    "symbol": (
        "ImportError: no numpy\nx.so: undefined symbol: _ZN3c106detail\nTraceback (most recent "
        "call last):\n",
        "x.so: undefined symbol: _ZN3c106detail",
    ),
    "Python's last exception": (
        'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\nValueError: first\n\nDuring\n\n'
        'Traceback (most recent call last):\n  File "x.py", line 3, in f\nnumpy.core.SomeError: last\n',
        "numpy.core.SomeError: last",
    ),
    "a warning is no exception": (
        "x.py:1: UserWarning: old\nUserWarning: older Error: x\nSegmentation fault\n",
        "UserWarning: older Error: x",
    ),
    "faulthandler": (
        'Fatal Python error: Segmentation fault\n\nCurrent thread 0x7f (most recent call first):\n  File "x", line 1\n'
        "Extension modules: numpy._core (total: 1)\n",
        "Fatal Python error: Segmentation fault",
    ),
    "no encodings": (
        "Fatal Python error: init_fs_encoding: failed\nModuleNotFoundError: No module named "
        "'encodings'\n",
        "ModuleNotFoundError: No module named 'encodings'",
    ),
    "glibc: heap": ("free(): invalid pointer\n", "free(): invalid pointer"),
    "glibc: heap, more": (
        "malloc_consolidate(): unaligned fastbin chunk\n",
        "malloc_consolidate(): unaligned fastbin chunk",
    ),
    "glibc: stack": (
        "*** stack smashing detected ***: terminated\n",
        "*** stack smashing detected ***: terminated",
    ),
    "glibc: twice": (
        "free(): double free detected in tcache 2\n",
        "free(): double free detected in tcache 2",
    ),
    "glibc: assert": (
        "python: x.c:3: f: Assertion `0' failed.\nAborted (core dumped)\n",
        "python: x.c:3: f: Assertion `0' failed.",
    ),
    "glog": (
        "F0101 00:00:00 1 x.cc:3] Check failed: a == b \n*** Check failure stack trace: ***\n    @ "
        "0x7f  f()\n",
        "F0101 00:00:00 1 x.cc:3] Check failed: a == b",
    ),
    "frames only": (
        "something went wrong\nframe #0: f + 0x1 (0x7 in /x.so)\nframe #1: g\n\n",
        "something went wrong",
    ),
    "nothing": ("", None),
    "only what says nothing": ("frame #0: f\nAborted (core dumped)\n", None),
    "escapes": ("what():  \x1b[31mred\x07\x1b[0m\ttwo\n", "[31mred[0m two"),
}


@pytest.mark.parametrize(("text", "line"), TABLE.values(), ids=TABLE.keys())
def test_the_line_that_says_why(text, line):
    assert find_cause(text) == line


def test_its_length_is_bounded():
    line = find_cause("  what():  " + "x" * 5000)
    assert len(line) == MAX_LINE
    assert line.endswith("x...")


def test_how_it_ended():
    assert describe_end("signal SIGABRT", C10).startswith(
        "signal SIGABRT (Tried to register an operator"
    )
    assert describe_end("signal SIGSEGV", "") == "signal SIGSEGV"
    assert [name_of_status(status) for status in (3, 0, -6, -11, -200)] == [
        "exit status 3",
        "exit status 0",
        "signal SIGABRT",
        "signal SIGSEGV",
        "signal 200",
    ]


@pytest.mark.parametrize("words", [": Assertion `", "A.", "free ", "what(): ", "Error: ", "\n"])
def test_what_was_written_to_waste_time_is_not_read_whole(words):
    """Four million characters: patterns over them would take hours."""
    started = time.process_time()
    line = find_cause(words * (4_000_000 // len(words)))
    assert time.process_time() - started < 5
    assert line is None or len(line) <= MAX_LINE

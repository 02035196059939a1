"""torch itself: its wheel unpacked, put in and taken out again, beside pip, which reinstalls it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence
from unittest import mock

from packaging.utils import canonicalize_name

from bench_environments import download_torch, run
from bench_timing import OUR_MAIN, PIP_MAIN, read_memory, timed
from safe_install.environment.interpreter import read_environment
from safe_install.models import Action, Environment, Step
from safe_install.transaction import swap
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import disk, transactions, undo
from safe_install.transaction.recovery.disk import sync_filesystem
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.unpack import Destination, Unpacking

Times = Dict[str, List[float]]
MOST = 3  # repetitions of what takes long
SYNCS = (
    (os, "fsync"),
    (disk, "sync_directory"),
    (swap, "sync_filesystem"),
    (swap, "sync_directory"),
    (undo, "sync_filesystem"),
    (transactions, "sync_directory"),
)


def bench_torch_swap(python: Path, repeat: int, cache: Path) -> Times:
    """Each step of ours, pip as a whole, and the memory of both."""
    environment = read_environment(python, None)
    assert environment.torch is not None
    wheel = download_torch(
        python, environment.installed[canonicalize_name("torch")].version, cache / "torch"
    )
    times: Times = collections.defaultdict(list)
    # Removed at the end: where thousands of files were removed a moment ago, ext4 is slow to make
    # new ones for some minutes (`recently_deleted` in fs/ext4/ialloc.c, seen with perf).
    with tempfile.TemporaryDirectory(dir=environment.interpreter.prefix.parent) as aside:
        time_ours(environment, wheel, Path(aside), repeat, times)
        times["inflate"].append(inflate(wheel))
        words = ["-q", "--force-reinstall", "--no-deps", "--no-index", wheel]
        for _ in range(min(repeat, MOST)):
            times["pip"].append(timed(lambda: run([python, "-m", "pip", "install", *words])))
        read_memories(python, words, cache, times)
    return times


def time_ours(
    environment: Environment, wheel: Path, aside: Path, repeat: int, times: Times
) -> None:
    """One change, step by step. `aside`: a folder for stages that are done."""
    interpreter = environment.interpreter
    with lock_environment(interpreter.prefix):  # noqa: SIM117 - the lock comes first
        with swap.begin(
            interpreter.prefix, command=["bench"], scheme=interpreter.scheme
        ) as transaction:
            unpack = make_unpack(environment, wheel)
            time_stages(transaction.stage, unpack, aside, min(repeat, MOST), times)
            time_plan(transaction, environment, times)
            time_swaps(transaction, repeat, times)


def time_stages(
    stage: Path, unpack: Callable[[Path, bool], None], aside: Path, repeat: int, times: Times
) -> None:
    """Unpacking, with bytecode and without. What is left in the stage is without."""
    for name, compiled in (("stage, with bytecode", True), ("stage", False)):
        for number in range(repeat):
            stage.rename(aside / f"{compiled}-{number}")
            stage.mkdir()
            times[name].append(timed(functools.partial(unpack, stage, compiled)))


def inflate(wheel: Path) -> float:
    """CPU seconds that its members take, inflated and not written: the least of any unpacking."""
    begin = time.process_time()
    with zipfile.ZipFile(wheel) as archive:
        archive.testzip()
    return time.process_time() - begin


def make_unpack(environment: Environment, wheel: Path) -> Callable[[Path, bool], None]:
    """What unpacks the wheel into a folder, as an install does it."""
    # as a large wheel with a promised hash
    artifact = dataclasses.replace(open_wheel(wheel, verify_members=False), needs_hashing=False)
    step = Step(Action.REPLACE, artifact.name, str(artifact.version))

    def unpack(root: Path, compile_bytecode: bool) -> None:
        destination = Destination(root, environment.interpreter, lambda: None)
        Unpacking([(step, artifact)], destination, compile_bytecode=compile_bytecode).finish()

    return unpack


def time_plan(transaction: swap.Transaction, environment: Environment, times: Times) -> None:
    """What becomes of each file, and the stage on the disk."""
    name_of_torch = canonicalize_name("torch")
    torch = environment.installed[name_of_torch]
    keep = [found for name, found in environment.installed.items() if name != name_of_torch]
    times["plan"].append(timed(lambda: transaction.plan(remove=[torch], keep=keep)))
    times["sync the stage"].append(timed(lambda: sync_filesystem(str(transaction.stage))))


def time_swaps(transaction: swap.Transaction, repeat: int, times: Times) -> None:
    """In and out again, and the same without waiting for the disk."""
    for number in range(repeat):
        times["swap"].append(timed(transaction.swap if number == 0 else transaction.swap_again))
        times["roll back"].append(timed(transaction.roll_back))
    with without_syncs():
        for _ in range(repeat):
            times["swap, no sync"].append(timed(transaction.swap_again))
            times["roll back, no sync"].append(timed(transaction.roll_back))


@contextlib.contextmanager
def without_syncs() -> Iterator[None]:
    """What durability costs is the difference: nothing waits for the disk in here."""
    with contextlib.ExitStack() as stack:
        for owner, name in SYNCS:
            stack.enter_context(mock.patch.object(owner, name, lambda *_: None))
        yield


def read_memories(python: Path, words: Sequence[Any], cache: Path, times: Times) -> None:
    """The most memory that pip had, and we."""
    times["memory of pip"] = [read_memory(python, PIP_MAIN, ["install", *words])]
    ours = ["--python", python, *words]
    times["memory"] = [
        read_memory(Path(sys.executable), OUR_MAIN, ours, SAFE_INSTALL_CACHE_DIR=str(cache))
    ]

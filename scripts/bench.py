"""Measures safe-install beside pip, uv and the guard that people write by hand, in one run; prints
a table of medians.

    python scripts/bench.py [--repeat 5] [--write docs/benchmark.md] [--keep DIR]
        [--only PART,PART] [--evidence]

Needs: an interpreter with safe-install installed (this one), a torch that pip finds, a C++ compiler
for the first run (torch-scatter is built once and kept in the user's cache folder). uv is measured
where it is installed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import functools
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from unittest import mock

from packaging.utils import canonicalize_name

from bench_environments import (
    OURS,
    Host,
    compile_ourselves,
    download_torch,
    find_wheel,
    make_environment,
    make_extension,
    make_variants,
    run,
)
from bench_evidence import render_evidence
from bench_ordinary import (
    PROJECTS,
    bench_growth,
    bench_pure,
    bench_satisfied,
    bench_set,
    bench_upgrade,
    measure_big_wheel,
)
from bench_source import bench_source
from bench_table import (
    render_big,
    render_growth,
    render_installs,
    render_pair,
    render_processes,
    render_source,
    render_split,
    render_torch,
    row,
)
from bench_timing import OUR_MAIN, PIP_MAIN, Actions, nothing, read_memory, rotate, timed
from safe_install.environment.interpreter import read_environment
from safe_install.models import Action, Environment, Step
from safe_install.transaction import swap
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import disk, transactions, undo
from safe_install.transaction.recovery.disk import sync_filesystem
from safe_install.wheels.archive import open_wheel
from safe_install.wheels.unpack import Destination, Unpacking

CHECK = "import torch, sys; torch.cuda.is_available(); assert torch.ones(2).sum() == 2"
CHECK_AFTER = (
    CHECK + "; import torch_scatter; assert torch_scatter.scatter(torch.tensor([1., 2., 3.]), "
    "torch.tensor([0, 0, 1])).tolist() == [3.0, 3.0]"
)
SYNCS = (
    (os, "fsync"),
    (disk, "sync_directory"),
    (swap, "sync_filesystem"),
    (swap, "sync_directory"),
    (undo, "sync_filesystem"),
    (transactions, "sync_directory"),
)


def bench_installs(
    variants: Dict[str, Path], host: Host, wheel: Path, repeat: int, cache: Path
) -> Dict[str, Dict[str, List[float]]]:
    """A ready wheel in nine ways, by hand and by us: by path, from a folder, from its host."""
    mirrors = {
        "SAFE_INSTALL_MIRRORS": f"https://data.pyg.org={host.url}",
        "SAFE_INSTALL_CACHE_DIR": str(cache),
    }
    ways: Dict[str, Tuple[Sequence[Any], Sequence[Any]]] = {
        "path": ([wheel], [wheel]),
        "find-links": (["--no-index", "--find-links", wheel.parent, "torch-scatter"],) * 2,
        "host": (["--no-index", "--find-links", host.page, "torch-scatter"], ["torch-scatter"]),
    }
    times = {}
    for label, python in variants.items():
        # Where there is no pip, a person takes that of another environment.
        pip = [python, "-m", "pip"]
        if label == "no pip":
            pip = [sys.executable, "-m", "pip", "--python", python]
        remove = functools.partial(remove_scatter, pip, cache)
        for way, (by_pip, by_us) in ways.items():
            ours = [*OURS, "--python", python, *by_us]
            times[f"{way}, {label}"] = rotate(
                {
                    "by hand": (remove, functools.partial(by_hand, python, pip, [by_pip])),
                    "safe-install": (remove, functools.partial(run, ours, **mirrors)),
                },
                repeat,
            )
    return times


def remove_scatter(pip: Sequence[Any], cache: Path) -> None:
    run([*pip, "uninstall", "-q", "-y", "torch-scatter"])
    shutil.rmtree(cache / "built", ignore_errors=True)


def by_hand(
    python: Path, pip: Sequence[Any], lines: Sequence[Sequence[Any]], after: str = CHECK_AFTER
) -> None:
    """Check, a pip process for each line, check."""
    run([python, "-c", CHECK])
    for words in lines:
        run([*pip, "install", "-q", *words])
    run([python, "-c", after])


def bench_uv(python: Path, uv: str, wheel: Path, repeat: int, cache: Path) -> List[float]:
    remove = functools.partial(remove_scatter, [python, "-m", "pip"], cache)
    command = [uv, "pip", "install", "-q", "--compile-bytecode", "-p", python, wheel]
    return rotate({"uv": (remove, lambda: run(command))}, repeat)["uv"]


def read_split(python: Path, wheel: Path, repeat: int, cache: Path) -> Dict[str, float]:
    """Seconds of each stage of an install by path, as it says them itself; medians."""
    found: Dict[str, List[float]] = collections.defaultdict(list)
    for _ in range(repeat):
        remove_scatter([python, "-m", "pip"], cache)
        command = [*OURS, "--python", python, "--json", wheel]
        started = time.perf_counter()
        document = json.loads(run(command, SAFE_INSTALL_CACHE_DIR=str(cache)))
        whole = time.perf_counter() - started
        for name, seconds in document["timings"].items():
            found[name].append(seconds)
        found["start, printing, end"].append(whole - document["timings"]["total"])
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def bench_five(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """Five small extensions of torch at once."""
    environment = read_environment(python, None)
    assert environment.torch is not None
    names = [f"bench_extension_{number}" for number in range(5)]
    wheels = [make_extension(cache, name, environment) for name in names]
    pip = [python, "-m", "pip"]
    after = CHECK + "; " + "; ".join(f"import {name}" for name in names)

    def remove() -> None:
        run([*pip, "uninstall", "-q", "-y", *names])

    variables = {"SAFE_INSTALL_CACHE_DIR": str(cache)}
    ours = [*OURS, "--python", python, *wheels]
    times = rotate(
        {
            "by hand": (remove, lambda: by_hand(python, pip, [[one] for one in wheels], after)),
            "safe-install": (remove, lambda: run(ours, **variables)),
        },
        repeat,
    )
    remove()
    return times


def bench_before(python: Path, repeat: int) -> List[float]:
    from safe_install.pipeline.baseline import BaselineCheck

    environment = read_environment(python, None)
    return [timed(lambda: BaselineCheck(environment).report()) for _ in range(repeat + 1)][1:]


def bench_torch_swap(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """torch itself, staged, put in and put back; and pip reinstalling the same wheel."""
    environment = read_environment(python, None)
    torch = environment.installed[canonicalize_name("torch")]
    wheel = download_torch(python, str(torch.version), cache / "torch")
    prefix = environment.interpreter.prefix
    times: Dict[str, List[float]] = collections.defaultdict(list)
    # as a large wheel with a promised hash
    artifact = dataclasses.replace(open_wheel(wheel, verify_members=False), needs_hashing=False)
    step = Step(Action.REPLACE, artifact.name, str(artifact.version))

    def stage(root: Path, *, compile_bytecode: bool) -> None:
        destination = Destination(root, environment.interpreter, lambda: None)
        Unpacking([(step, artifact)], destination, compile_bytecode=compile_bytecode).finish()

    with lock_environment(prefix):  # noqa: SIM117 - the lock comes first
        with swap.begin(
            prefix, command=["bench"], scheme=environment.interpreter.scheme
        ) as transaction:
            for compiled in (True, False):
                for _ in range(min(repeat, 3)):
                    shutil.rmtree(transaction.stage)
                    transaction.stage.mkdir()
                    name = "stage, with bytecode" if compiled else "stage"
                    action = functools.partial(stage, transaction.stage, compile_bytecode=compiled)
                    times[name].append(timed(action))
            keep = [found for name, found in environment.installed.items() if name != "torch"]
            times["plan"].append(timed(lambda: transaction.plan(remove=[torch], keep=keep)))
            times["sync the stage"].append(timed(lambda: sync_filesystem(str(transaction.stage))))
            time_swaps(transaction, repeat, times)
    words = ["-q", "--force-reinstall", "--no-deps", "--no-index", wheel]
    for _ in range(min(repeat, 3)):
        times["pip"].append(timed(lambda: run([python, "-m", "pip", "install", *words])))
    times["memory of pip"] = [read_memory(python, PIP_MAIN, ["install", *words])]
    ours = ["--python", python, *words]
    times["memory"] = [
        read_memory(Path(sys.executable), OUR_MAIN, ours, SAFE_INSTALL_CACHE_DIR=str(cache))
    ]
    return times


def time_swaps(transaction: swap.Transaction, repeat: int, times: Dict[str, List[float]]) -> None:
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


def bench_processes(python: Path, repeat: int) -> Dict[str, List[float]]:
    explain = "explain torch-scatter --torch 1.8.1+cu111 --python-version 3.8 --platform linux_x86_64 --offline --json"
    wheels = "wheels torch-scatter --offline"
    commands: Dict[str, Sequence[Any]] = {
        "--help": ["--help"],
        "--version": ["--version"],
        "explain --offline": explain.split(),
        "wheels --offline": ["--python", python, *wheels.split()],
    }
    probe = functools.partial(read_environment, python, None)
    actions: Actions = {
        "probe": (nothing, probe),
        **{
            name: (nothing, functools.partial(run, [*OURS, *words]))
            for name, words in commands.items()
        },
    }
    return rotate(actions, repeat)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the environments, kept and used again"
    )
    parser.add_argument("--only", default="", help="names of parts, with commas between them")
    parser.add_argument(
        "--evidence", action="store_true", help="also what an install imports, and calls (strace)"
    )
    options = parser.parse_args()
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    work = options.keep or Path(tempfile.mkdtemp(prefix="safe-install-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    cache = work / "cache"
    cache.mkdir(exist_ok=True)
    compile_ourselves()
    try:
        text = "\n".join(measure(work, cache, uv, options))
        print(text)
        if options.write:
            head = "# Benchmark\n\nWritten by `python scripts/bench.py --evidence`.\n"
            options.write.write_text(f"{head}\n{text}\n", encoding="utf-8")
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)


def measure(work: Path, cache: Path, uv: Optional[str], options: argparse.Namespace) -> List[str]:
    repeat: int = options.repeat
    python = work / "env" / "bin" / "python"
    if not python.exists():
        make_environment(work / "env", uv)
    environment = read_environment(python, None)
    assert environment.torch is not None
    torch = environment.torch.runtime_version
    wheel = find_wheel(python, environment, cache)
    shutil.rmtree(work / "host", ignore_errors=True)
    host = Host(work / "host", wheel, torch)
    one_import = rotate({"": (nothing, lambda: run([python, "-c", CHECK]))}, repeat)[""]
    base = statistics.median(one_import)
    bare = make_bare(work / "bare")
    few = min(repeat, 3)  # of what takes long
    parts: Dict[str, Callable[[], List[str]]] = {
        "installs": lambda: render_installs(
            bench_installs(make_variants(python, work), host, wheel, repeat, cache), base
        ),
        "uv": lambda: render_uv(python, uv, wheel, repeat, cache),
        "five": lambda: render_pair("five extensions", bench_five(python, repeat, cache), "0.35"),
        "ordinary": lambda: [
            *render_pair("a pure wheel beside torch", bench_pure(python, repeat, cache), "", base),
            *render_pair(
                "requests -U beside torch", bench_upgrade(python, repeat, cache), "", base
            ),
            *render_pair("a pure wheel, no torch", bench_pure(bare, repeat, cache), "1.0"),
            *render_pair("requests -U, no torch", bench_upgrade(bare, repeat, cache), "1.0"),
        ],
        "set": lambda: render_pair(
            ", ".join(PROJECTS), bench_set(make_bare(work / "bare"), work, few, cache), "0.8"
        ),
        "satisfied": lambda: render_pair(
            "300 lines satisfied", bench_satisfied(make_bare(work / "lines"), repeat, cache), "1.0"
        ),
        "processes": lambda: render_processes(
            bench_before(python, repeat), bench_processes(python, max(repeat, 10))
        ),
        "growth": lambda: render_growth(bench_growth(python, work, repeat, cache)),
        "torch": lambda: render_torch(bench_torch_swap(python, repeat, cache)),
        "big": lambda: render_big(measure_big_wheel(bare, work, cache)),
        "source": lambda: render_source(bench_source(python, torch, work)),
        "split": lambda: render_split(read_split(python, wheel, repeat, cache)),
    }
    lines = render_head(python, environment, uv, repeat)
    lines.append(row("one import of torch, and a sum", one_import))
    chosen = [name for name in parts if not options.only or name in options.only.split(",")]
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        lines += parts[name]()
    if options.evidence:
        install = ["--python", str(python), "-q", str(wheel)]
        remove = functools.partial(remove_scatter, [python, "-m", "pip"], cache)
        lines += render_evidence(install, {"SAFE_INSTALL_CACHE_DIR": str(cache)}, remove)
    return lines


def make_bare(prefix: Path) -> Path:
    """An environment with a new pip, and nothing else; its interpreter."""
    python = prefix / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", prefix])
        run([python, "-m", "pip", "install", "-q", "-U", "pip"])
    return python


def render_uv(python: Path, uv: Optional[str], wheel: Path, repeat: int, cache: Path) -> List[str]:
    if not uv:
        return []
    return [row("torch-scatter by path: uv", bench_uv(python, uv, wheel, repeat, cache))]


def render_head(
    python: Path, environment: Environment, uv: Optional[str], repeat: int
) -> List[str]:
    """The machine, and the head of the table."""
    assert environment.torch is not None
    installed = json.loads(run([python, "-m", "pip", "list", "--format", "json"]))
    versions = {item["name"]: item["version"] for item in installed}
    uv_version = f", {run([uv, '--version']).strip()}" if uv else ""
    return [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {environment.interpreter.version}, "
        f"torch {environment.torch.runtime_version}, pip {versions['pip']}{uv_version}, "
        f"load {os.getloadavg()[0]:.1f}, median of {repeat} (torch: pip and stage of 3, plan once)",
        "",
        "| what | seconds (median) | range | ratio | target |",
        "|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    main()

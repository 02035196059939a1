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
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from bench_doctor import bench_doctor, render_doctor
from bench_environments import (
    OURS,
    Host,
    compile_ourselves,
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
from bench_reasons import render_reasons
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
from bench_timing import Actions, nothing, rotate, timed
from bench_torch import bench_torch_swap
from safe_install.environment.interpreter import read_environment
from safe_install.models import Environment

CHECK = "import torch, sys; torch.cuda.is_available(); assert torch.ones(2).sum() == 2"
CHECK_AFTER = (
    CHECK + "; import torch_scatter; assert torch_scatter.scatter(torch.tensor([1., 2., 3.]), "
    "torch.tensor([0, 0, 1])).tolist() == [3.0, 3.0]"
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


class Ground(NamedTuple):
    """What the parts are measured on, and how often."""

    work: Path
    cache: Path
    uv: Optional[str]
    repeat: int
    python: Path  # of the environment with torch
    bare: Path  # of one with a new pip, and nothing else
    environment: Environment
    wheel: Path  # torch-scatter for this torch
    one_import: List[float]  # seconds of an import of torch, and a sum

    @property
    def torch(self) -> str:
        """torch.__version__"""
        assert self.environment.torch is not None
        return self.environment.torch.runtime_version

    @property
    def base(self) -> float:
        """Seconds of one import: every check takes them."""
        return statistics.median(self.one_import)

    @property
    def few(self) -> int:
        """Repetitions of what takes long."""
        return min(self.repeat, 3)


def make_ground(work: Path, cache: Path, uv: Optional[str], repeat: int) -> Ground:
    """The environments and the wheel; those that an earlier run has kept are used again."""
    python = work / "env" / "bin" / "python"
    if not python.exists():
        make_environment(work / "env", uv)
    environment = read_environment(python, None)
    wheel = find_wheel(python, environment, cache)
    one_import = rotate({"": (nothing, lambda: run([python, "-c", CHECK]))}, repeat)[""]
    bare = make_bare(work / "bare")
    return Ground(work, cache, uv, repeat, python, bare, environment, wheel, one_import)


def measure_installs(ground: Ground) -> List[str]:
    """A ready wheel, in every kind of environment."""
    shutil.rmtree(ground.work / "host", ignore_errors=True)
    host = Host(ground.work / "host", ground.wheel, ground.torch)
    variants = make_variants(ground.python, ground.work)
    times = bench_installs(variants, host, ground.wheel, ground.repeat, ground.cache)
    return render_installs(times, ground.base)


def measure_uv(ground: Ground) -> List[str]:
    """The same wheel by uv, which checks nothing."""
    if not ground.uv:
        return []
    times = bench_uv(ground.python, ground.uv, ground.wheel, ground.repeat, ground.cache)
    return [row("torch-scatter by path: uv", times)]


def measure_five(ground: Ground) -> List[str]:
    """Five extensions at once."""
    times = bench_five(ground.python, ground.repeat, ground.cache)
    return render_pair("five extensions", times, "0.35")


def measure_ordinary(ground: Ground) -> List[str]:
    """What has nothing to do with torch, with one beside it and without."""
    python, bare, repeat, cache = ground.python, ground.bare, ground.repeat, ground.cache
    pure = "a pure wheel beside torch"
    upgrade = "requests -U beside torch"
    return [
        *render_pair(pure, bench_pure(python, repeat, cache), "", ground.base),
        *render_pair(upgrade, bench_upgrade(python, repeat, cache), "", ground.base),
        *render_pair("a pure wheel, no torch", bench_pure(bare, repeat, cache), "1.0"),
        *render_pair("requests -U, no torch", bench_upgrade(bare, repeat, cache), "1.0"),
    ]


def measure_set(ground: Ground) -> List[str]:
    """Some large projects together."""
    times = bench_set(ground.bare, ground.work, ground.few, ground.cache)
    return render_pair(", ".join(PROJECTS), times, "0.8")


def measure_satisfied(ground: Ground) -> List[str]:
    """Many lines, and nothing to do."""
    lines = make_bare(ground.work / "lines")
    times = bench_satisfied(lines, ground.repeat, ground.cache)
    return render_pair("300 lines satisfied", times, "1.0")


def measure_processes(ground: Ground) -> List[str]:
    """The check before a change, and commands that change nothing."""
    before = bench_before(ground.python, ground.repeat)
    return render_processes(before, bench_processes(ground.python, max(ground.repeat, 10)))


def measure_doctor(ground: Ground) -> List[str]:
    """The diagnosis of a healthy environment."""
    return render_doctor(bench_doctor(ground.python, ground.repeat, ground.cache))


def measure_growth(ground: Ground) -> List[str]:
    """In environments of more and more distributions."""
    return render_growth(bench_growth(ground.python, ground.work, ground.repeat, ground.cache))


def measure_torch(ground: Ground) -> List[str]:
    """torch itself."""
    return render_torch(bench_torch_swap(ground.python, ground.repeat, ground.cache))


def measure_big(ground: Ground) -> List[str]:
    """A wheel of gigabytes."""
    return render_big(measure_big_wheel(ground.bare, ground.work, ground.cache))


def measure_source(ground: Ground) -> List[str]:
    """torch-scatter from its sources."""
    return render_source(bench_source(ground.python, ground.torch, ground.work))


def measure_split(ground: Ground) -> List[str]:
    """The stages of an install."""
    return render_split(read_split(ground.python, ground.wheel, ground.repeat, ground.cache))


PARTS: Mapping[str, Callable[[Ground], List[str]]] = {
    "installs": measure_installs,
    "uv": measure_uv,
    "five": measure_five,
    "ordinary": measure_ordinary,
    "set": measure_set,
    "satisfied": measure_satisfied,
    "processes": measure_processes,
    "doctor": measure_doctor,
    "growth": measure_growth,
    "torch": measure_torch,
    "big": measure_big,
    "source": measure_source,
    "split": measure_split,
}


def measure(work: Path, cache: Path, uv: Optional[str], options: argparse.Namespace) -> List[str]:
    """The lines of the table."""
    ground = make_ground(work, cache, uv, options.repeat)
    lines = render_head(ground)
    lines.append(row("one import of torch, and a sum", ground.one_import))
    chosen = [name for name in PARTS if not options.only or name in options.only.split(",")]
    for name in chosen:
        print(f"{name} ...", file=sys.stderr, flush=True)
        lines += PARTS[name](ground)
    lines += render_reasons(lines)
    if options.evidence:
        install = ["--python", str(ground.python), "-q", str(ground.wheel)]
        remove = functools.partial(remove_scatter, [ground.python, "-m", "pip"], cache)
        lines += render_evidence(install, {"SAFE_INSTALL_CACHE_DIR": str(cache)}, remove)
    return lines


def make_bare(prefix: Path) -> Path:
    """An environment with a new pip, and nothing else; its interpreter."""
    python = prefix / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", prefix])
        run([python, "-m", "pip", "install", "-q", "-U", "pip"])
    return python


def render_head(ground: Ground) -> List[str]:
    """The machine, and the head of the table."""
    python, uv = ground.python, ground.uv
    installed = json.loads(run([python, "-m", "pip", "list", "--format", "json"]))
    versions = {item["name"]: item["version"] for item in installed}
    uv_version = f", {run([uv, '--version']).strip()}" if uv else ""
    return [
        f"{platform.machine()}, {os.cpu_count()} cores, "
        f"Python {ground.environment.interpreter.version}, torch {ground.torch}, "
        f"pip {versions['pip']}{uv_version}, load {os.getloadavg()[0]:.1f}, "
        f"median of {ground.repeat} (torch: pip and stage of 3, plan once)",
        "",
        "| what | seconds (median) | range | ratio | target |",
        "|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    main()

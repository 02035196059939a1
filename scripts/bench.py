"""Measures safe-install beside pip, uv and the guard that people write by hand, in one run; prints
a table of medians.

    python scripts/bench.py [--repeat 5] [--write docs/benchmark.md] [--keep DIR]

Needs: an interpreter with safe-install installed (this one), a torch that pip finds, a C++ compiler
for the first run (torch-scatter is built once and kept in the user's cache folder). uv is measured
where it is installed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import http.server
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from unittest import mock

from packaging.utils import canonicalize_name

from safe_install.environment.interpreter import read_environment
from safe_install.models import Environment
from safe_install.system.pip import PipRunner
from safe_install.transaction import swap
from safe_install.transaction.lock import lock_environment
from safe_install.transaction.recovery import disk, transactions, undo
from safe_install.transaction.recovery.disk import sync_filesystem
from safe_install.wheels.store import find_cache

TORCH = os.environ.get("SAFE_INSTALL_BENCH_TORCH", "torch==2.13.0")
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
OURS = [sys.executable, "-m", "safe_install"]


def run(args: Sequence[Any], **variables: str) -> str:
    """Run to the end; a failure ends the benchmark, because a number for it would mean nothing."""
    done = subprocess.run(
        [str(arg) for arg in args],
        env={**os.environ, **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(map(str, args))}\nended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def make_environment(folder: Path, uv: Optional[str]) -> Path:
    """A virtual environment with torch, numpy and its own pip; returns its interpreter."""
    run([sys.executable, "-m", "venv", folder])
    python = folder / "bin" / "python"
    find_links = os.environ.get("PIP_FIND_LINKS", "")
    if uv:
        links = ["--find-links", find_links] if find_links else []
        run(
            [
                uv,
                "pip",
                "install",
                "-q",
                "--compile-bytecode",
                "-p",
                python,
                *links,
                f"{TORCH}+cpu" if find_links else TORCH,
                "numpy",
                "-U",
                "pip",
            ]
        )
    else:
        run([python, "-m", "pip", "install", "-q", "-U", "pip", TORCH, "numpy"])
    return python


class Host:
    """A wheel host on loopback with the page layout of data.pyg.org."""

    def __init__(self, folder: Path, wheel: Path, torch: str) -> None:
        page = folder / "whl" / f"torch-{torch}.html"
        directory = folder / "whl" / f"torch-{torch}"
        directory.mkdir(parents=True)
        shutil.copyfile(wheel, directory / wheel.name)
        quoted = torch.replace("+", "%2B")
        page.write_text(
            f'<!DOCTYPE html><html><body>\n<a href="torch-{quoted}/{wheel.name}">{wheel.name}</a><br/>\n'
        )
        handler = functools.partial(Quiet, directory=str(folder))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.page = f"{self.url}/whl/torch-{quoted}.html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing: the table is the output."""


def rotate(
    actions: Dict[str, Tuple[Callable[[], None], Callable[[], object]]], repeat: int
) -> Dict[str, List[float]]:
    """Each action in turn, `repeat` times round, so that a slow minute hits all alike. The first
    round warms up."""
    times: Dict[str, List[float]] = {name: [] for name in actions}
    for number in range(repeat + 1):
        for name, (prepare, action) in actions.items():
            prepare()
            seconds = timed(action)
            if number:
                times[name].append(seconds)
    return times


def bench_install(
    python: Path, host: Host, uv: Optional[str], repeat: int, cache: Path
) -> Dict[str, List[float]]:
    pip = [python, "-m", "pip"]
    mirrors = {
        "SAFE_INSTALL_MIRRORS": f"https://data.pyg.org={host.url}",
        "SAFE_INSTALL_CACHE_DIR": str(cache),
    }
    links = ["--no-index", "--find-links", host.page, "torch-scatter"]

    def remove() -> None:
        run([*pip, "uninstall", "-q", "-y", "torch-scatter"])
        shutil.rmtree(cache / "built", ignore_errors=True)

    def by_hand() -> None:
        run([python, "-c", CHECK])
        run([*pip, "install", "-q", *links])
        run([python, "-c", CHECK_AFTER])

    actions: Dict[str, Tuple[Callable[[], None], Callable[[], object]]] = {
        "pip": (remove, lambda: run([*pip, "install", "-q", *links])),
        "check; pip; check": (remove, by_hand),
        "safe-install": (
            remove,
            lambda: run([*OURS, "--python", python, "torch-scatter"], **mirrors),
        ),
    }
    if uv:
        uv_install = [uv, "pip", "install", "-q", "--compile-bytecode", "-p", python, *links]
        actions["uv --compile-bytecode"] = (remove, lambda: run(uv_install))
    return rotate(actions, repeat)


def bench_before(python: Path, repeat: int) -> List[float]:
    from safe_install.pipeline.baseline import BaselineCheck

    environment = read_environment(python, None)
    return [timed(lambda: BaselineCheck(environment).report()) for _ in range(repeat + 1)][1:]


def bench_torch_swap(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """torch itself, staged once, put in and put back; and pip reinstalling the same wheel."""
    environment = read_environment(python, None)
    torch = environment.installed[canonicalize_name("torch")]
    wheel = download_torch(python, str(torch.version), cache / "torch")
    pip = PipRunner(environment.interpreter, cache_dir=cache)
    prefix = environment.interpreter.prefix
    times: Dict[str, List[float]] = collections.defaultdict(list)

    def stage(root: Path) -> None:
        pip.stage(
            [f"torch=={torch.version}"],
            root=root,
            find_links=[wheel.parent],
            options=["--no-compile"],
        )

    with lock_environment(prefix):  # noqa: SIM117 - the lock comes first
        with swap.begin(
            prefix, command=["bench"], scheme=environment.interpreter.scheme
        ) as transaction:
            times["stage"].append(timed(lambda: stage(transaction.stage)))
            keep = [found for name, found in environment.installed.items() if name != "torch"]
            times["plan"].append(timed(lambda: transaction.plan(remove=[torch], keep=keep)))
            times["sync the stage"].append(timed(lambda: sync_filesystem(str(transaction.stage))))
            time_swaps(transaction, repeat, times)
    reinstall = [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--force-reinstall",
        "--no-index",
        wheel,
    ]
    for _ in range(min(repeat, 3)):
        times["pip"].append(timed(lambda: run(reinstall)))
    return times


def download_torch(python: Path, version: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("torch-*.whl")):
        run([python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, f"torch=={version}"])
    return next(folder.glob("torch-*.whl"))


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


def bench_growth(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """Does a small install cost more where 300 other distributions are installed?"""
    site = read_environment(python, None).interpreter.scheme.purelib
    variables = {"SAFE_INSTALL_CACHE_DIR": str(cache)}
    wheel = make_wheel(cache, "tiny", "1.0")
    times: Dict[str, List[float]] = {}
    for label in ("alone", "beside 300 others"):
        if label != "alone":
            for number in range(300):
                add_distribution(site, f"filler{number}")
        install = [*OURS, "--python", python, "--no-deps", wheel]
        remove = [*OURS, "--python", python, "uninstall", "-y", "tiny"]
        seconds = []
        for _ in range(repeat):
            seconds.append(timed(functools.partial(run, install, **variables)))
            run(remove, **variables)
        times[label] = seconds
    for number in range(300):
        shutil.rmtree(site / f"filler{number}")
        shutil.rmtree(site / f"filler{number}-1.0.dist-info")
    return times


def make_wheel(folder: Path, name: str, version: str) -> Path:
    import base64
    import hashlib
    import zipfile

    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": b"",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"
        for path, data in files.items()
    ]
    files[f"{info}/RECORD"] = ("\n".join([*rows, f"{info}/RECORD,,"]) + "\n").encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return path


def add_distribution(site: Path, name: str) -> None:
    """A distribution of 40 files with a RECORD."""
    package, info = site / name, site / f"{name}-1.0.dist-info"
    package.mkdir()
    info.mkdir()
    rows = []
    for number in range(40):
        (package / f"m{number}.py").write_text("")
        rows.append(f"{name}/m{number}.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "\n".join(rows) + f"\n{name}-1.0.dist-info/METADATA,,\n{name}-1.0.dist-info/RECORD,,\n"
    )


def bench_processes(python: Path, repeat: int) -> Dict[str, List[float]]:
    explain = "explain torch-scatter --torch 1.8.1+cu111 --python-version 3.8 --platform linux_x86_64 --offline --json"
    return {
        "probe": [timed(lambda: read_environment(python, None)) for _ in range(repeat + 1)][1:],
        "explain --offline": [
            timed(lambda: run([*OURS, *explain.split()])) for _ in range(repeat + 1)
        ][1:],
        "--help": [timed(lambda: run([*OURS, "--help"])) for _ in range(repeat + 1)][1:],
    }


def find_wheel(python: Path, environment: Environment, cache: Path) -> Path:
    """torch-scatter for this torch, built once into the user's own cache."""
    run([*OURS, "--python", python, "torch-scatter"])
    run([python, "-m", "pip", "uninstall", "-q", "-y", "torch-scatter"])
    from safe_install.wheels.store import WheelStore

    built = next(
        iter(
            WheelStore(find_cache(os.environ)).find(canonicalize_name("torch-scatter"), environment)
        )
    )
    target = cache / built.link.filename
    shutil.copyfile(built.link.url[len("file://") :].replace("%2B", "+"), target)
    return target


def row(name: str, seconds: Sequence[float], base: Optional[float] = None, target: str = "") -> str:
    median = statistics.median(seconds)
    ratio = f"{median / base:.2f}" if base else ""
    spread = f"{min(seconds):.3f} - {max(seconds):.3f}"
    return f"| {name} | {median:.4f} | {spread} | {ratio} | {target} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument(
        "--keep", type=Path, help="a folder for the environments, kept and used again"
    )
    options = parser.parse_args()
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    work = options.keep or Path(tempfile.mkdtemp(prefix="safe-install-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    cache = work / "cache"
    cache.mkdir(exist_ok=True)
    try:
        table = "\n".join(measure(work, cache, uv, options.repeat))
        print(table)
        if options.write:
            options.write.write_text(
                f"# Benchmark\n\nWritten by `python scripts/bench.py`.\n\n{table}\n",
                encoding="utf-8",
            )
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)


def measure(work: Path, cache: Path, uv: Optional[str], repeat: int) -> List[str]:
    python = work / "env" / "bin" / "python"
    if not python.exists():
        make_environment(work / "env", uv)
    environment = read_environment(python, None)
    assert environment.torch is not None
    wheel = find_wheel(python, environment, cache)
    shutil.rmtree(work / "host", ignore_errors=True)
    host = Host(work / "host", wheel, environment.torch.runtime_version)
    install = bench_install(python, host, uv, repeat, cache)
    before = bench_before(python, repeat)
    processes = bench_processes(python, max(repeat, 10))
    growth = bench_growth(python, repeat, cache)
    torch = bench_torch_swap(python, repeat, cache)
    return [
        *render_head(python, environment, uv, repeat),
        *render_installs(install),
        row("check before (loader)", before, None, "0.4 s"),
        row("probe", processes["probe"], None, "0.15 s"),
        row("explain --offline, process", processes["explain --offline"], None, "0.4 s"),
        row("--help, process", processes["--help"], None, "0.25 s"),
        *render_growth(growth),
        *render_torch(torch),
    ]


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
        f"load {os.getloadavg()[0]:.1f}, median of {repeat} (torch: pip of 3, stage and plan once)",
        "",
        "| what | seconds (median) | range | ratio | target |",
        "|---|---|---|---|---|",
    ]


def render_installs(install: Dict[str, List[float]]) -> List[str]:
    by_hand = statistics.median(install["check; pip; check"])
    lines = []
    for name in ("pip", "uv --compile-bytecode", "check; pip; check", "safe-install"):
        if name in install:
            target = "0.60" if name == "safe-install" else ""
            lines.append(row(f"torch-scatter wheel: {name}", install[name], by_hand, target))
    return lines


def render_growth(growth: Dict[str, List[float]]) -> List[str]:
    alone = statistics.median(growth["alone"])
    return [
        row("tiny wheel, alone with torch", growth["alone"], alone),
        row("tiny wheel, beside 300 others", growth["beside 300 others"], alone, "1.0"),
    ]


def render_torch(torch: Dict[str, List[float]]) -> List[str]:
    reinstall = statistics.median(torch["pip"])
    return [
        row("torch: pip reinstalls it", torch["pip"], reinstall),
        row("torch: stage", torch["stage"], reinstall),
        row("torch: plan the moves", torch["plan"], reinstall),
        row("torch: sync the fresh stage, once", torch["sync the stage"], reinstall),
        row("torch: swap in, durable", torch["swap"], reinstall, "with roll back 1 s"),
        row("torch: roll back, durable", torch["roll back"], reinstall),
        row("torch: swap in, if nothing waited for the disk", torch["swap, no sync"], reinstall),
        row(
            "torch: roll back, if nothing waited for the disk",
            torch["roll back, no sync"],
            reinstall,
        ),
    ]


if __name__ == "__main__":
    main()

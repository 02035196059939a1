"""What has nothing to do with torch, beside pip: a pure wheel, an upgrade, a set of projects, lines
that are satisfied, a wheel of 3 GB; and what 300 and 600 other distributions cost."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from bench_environments import (
    OURS,
    add_distribution,
    copy_environment,
    make_big_wheel,
    make_wheel,
    run,
)
from bench_timing import OUR_MAIN, PIP_MAIN, nothing, read_memory, rotate
from safe_install.environment.interpreter import read_environment

PROJECTS = ("pandas", "scikit-learn", "matplotlib")
UPGRADED = ("requests==2.31.0", "requests==2.32.3")  # both have the same dependencies
BIG_WHEEL = 3_000_000_000  # bytes


def compare_with_pip(
    python: Path, words: Sequence[Any], prepare: Callable[[], object], repeat: int, cache: Path
) -> Dict[str, List[float]]:
    """The same words for pip and for us."""
    by_pip = [python, "-m", "pip", "install", "-q", *words]
    ours = [*OURS, "--python", python, "install", "-q", *words]
    by_us = functools.partial(run, ours, SAFE_INSTALL_CACHE_DIR=str(cache))
    actions = {
        "pip": (prepare, functools.partial(run, by_pip)),
        "safe-install": (prepare, by_us),
    }
    return rotate(actions, repeat)


def bench_pure(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """A pure wheel that is new, and needs nothing."""
    wheel = make_wheel(cache, "tiny", "1.0")
    words = ["--no-index", "--find-links", wheel.parent, "tiny"]
    remove = functools.partial(run, [python, "-m", "pip", "uninstall", "-q", "-y", "tiny"])
    return compare_with_pip(python, words, remove, repeat, cache)


def bench_upgrade(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """requests upgraded, with its dependencies installed."""
    old, new = UPGRADED
    folder = cache / "requests"
    pip = [python, "-m", "pip"]
    if not folder.exists():
        for requirement in UPGRADED:
            run([*pip, "download", "-q", "-d", folder, requirement])
    places = ["--no-index", "--find-links", folder]
    downgrade = functools.partial(run, [*pip, "install", "-q", *places, old])
    times = compare_with_pip(python, [*places, "-U", new], downgrade, repeat, cache)
    run([*pip, "uninstall", "-q", "-y", "requests", "urllib3", "idna", "certifi"])
    return times


def bench_set(bare: Path, work: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """An ordinary set of projects into an empty environment; the first round fills the caches."""
    prefix = work / "set"
    refill = functools.partial(copy_environment, bare.parents[1], prefix)
    return compare_with_pip(prefix / "bin" / "python", PROJECTS, refill, repeat, cache)


def bench_satisfied(python: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """300 distributions, and a file of requirements with a line for each."""
    site = read_environment(python, None).interpreter.scheme.purelib
    names = [f"line{number}" for number in range(300)]
    for name in names:
        if not (site / name).exists():
            add_distribution(site, name)
    listed = cache / "requirements.txt"
    listed.write_text("".join(f"{name}==1.0\n" for name in names))
    return compare_with_pip(python, ["-r", listed], nothing, repeat, cache)


def bench_growth(python: Path, work: Path, repeat: int, cache: Path) -> Dict[str, List[float]]:
    """Does a small install cost more where 300 or 600 other distributions are installed? Three
    environments in turn."""
    wheel = make_wheel(cache, "tiny", "1.0")
    actions = {}
    for others in (0, 300, 600):
        prefix = work / f"beside-{others}"
        own = prefix / "bin" / "python"
        if not prefix.exists():
            copy_environment(python.parents[1], prefix, links=True)
            site = read_environment(own, None).interpreter.scheme.purelib
            for number in range(others):
                add_distribution(site, f"filler{number}")
        site = read_environment(own, None).interpreter.scheme.purelib
        install = [*OURS, "--python", own, "--no-deps", wheel]
        actions[f"beside {others} others"] = (
            functools.partial(remove_by_hand, site, "tiny", "1.0"),
            functools.partial(run, install, SAFE_INSTALL_CACHE_DIR=str(cache)),
        )
    return rotate(actions, repeat)


def remove_by_hand(site: Path, name: str, version: str) -> None:
    """Its two folders."""
    for folder in (site / name, site / f"{name}-{version}.dist-info"):
        shutil.rmtree(folder, ignore_errors=True)


def measure_big_wheel(bare: Path, work: Path, cache: Path) -> Dict[str, float]:
    """Peak memory with a wheel of 3 GB, in MiB; nothing where the disk has no room for it."""
    if shutil.disk_usage(work).free < 6 * BIG_WHEEL:
        return {}
    prefix = work / "big"
    python = prefix / "bin" / "python"
    wheel = make_big_wheel(cache, BIG_WHEEL)
    words = ["install", "-q", "--no-index", "--no-deps", wheel]
    copy_environment(bare.parents[1], prefix)
    found = {"pip": read_memory(python, PIP_MAIN, words)}
    copy_environment(bare.parents[1], prefix)
    found["safe-install"] = read_memory(
        Path(sys.executable),
        OUR_MAIN,
        ["--python", python, *words[1:]],
        SAFE_INSTALL_CACHE_DIR=str(cache),
    )
    shutil.rmtree(prefix)
    wheel.unlink()
    return found

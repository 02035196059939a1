"""torch-scatter from source, beside `pip wheel`; and the second environment, which has it built."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict

from bench_environments import OURS, Host, copy_environment, run
from bench_timing import timed


def bench_source(python: Path, torch: str, work: Path) -> Dict[str, float]:
    """Each once: a build takes minutes. pip builds without isolation, because torch-scatter imports
    torch. The host of its wheels answers, and has none for this torch."""
    shutil.rmtree(work / "empty-host", ignore_errors=True)
    host = Host(work / "empty-host", None, torch)
    pip = [python, "-m", "pip"]
    sources, own_cache, second = work / "sources", work / "source-cache", work / "second"
    run([*pip, "install", "-q", "setuptools", "wheel"])
    if not sources.exists():
        fetch = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-d", sources]
        run([*pip, "download", "-q", *fetch, "torch-scatter"])
    sdist = next(sources.glob("torch_scatter-*.tar.gz"))
    build = ["--no-deps", "--no-build-isolation", "--no-cache-dir", "-w", work / "built", sdist]
    found = {"pip wheel": timed(lambda: run([*pip, "wheel", "-q", *build]))}
    shutil.rmtree(own_cache, ignore_errors=True)
    variables = {
        "SAFE_INSTALL_CACHE_DIR": str(own_cache),
        "SAFE_INSTALL_MIRRORS": f"https://data.pyg.org={host.url}",
    }
    if not second.exists():
        copy_environment(python.parents[1], second, links=True)
    for label, target in (
        ("safe-install", python),
        ("safe-install, second environment", second / "bin" / "python"),
    ):
        run([target, "-m", "pip", "uninstall", "-q", "-y", "torch-scatter"])
        command = [*OURS, "--python", target, "torch-scatter"]
        found[label] = timed(lambda command=command: run(command, **variables))  # type: ignore[misc]
        run([target, "-m", "pip", "uninstall", "-q", "-y", "torch-scatter"])
    return found

#!/usr/bin/env python3
"""What would pip install into an empty environment, and what would safe-install? Case by case.

    python scripts/compare_plans.py [--python EXECUTABLE]... [CASE]...

Both only plan (`--dry-run --report`), with the newest pip, and ask the package index that pip is
set up for. Shown are versions, and for each the seconds that it took and those that its processes
computed, which say more where the machine has other work or the network is slow. A version that
differs is not always a fault: where pip's own choice does not work (a torch without the extension
that was named), safe-install takes another one, and says why.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

SOURCE = Path(__file__).resolve().parent.parent / "src"
CASES = (
    "torch torchvision",
    "torch torchvision torchaudio",
    "torch==2.9.1 torchvision",
    "ultralytics",
    "torch-geometric torch",
    "pytorch-lightning",
    "timm",
    "sentence-transformers",
)


class Planned(NamedTuple):
    """What one of the two would install."""

    versions: Dict[str, str]  # empty where it refused
    seconds: float
    computed: float  # by its processes, all together
    error: str  # its last line; "" where it planned


def main() -> int:
    """Exit status 0: the same versions everywhere."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", help="an interpreter; default: this one")
    parser.add_argument("cases", nargs="*", help=f"requirements; default: {len(CASES)} cases")
    words = parser.parse_args()
    differ = False
    print(f"{'Python':8}{'case':34}{'pip':>8}{'ours':>8}{'CPU: pip':>10}{'ours':>7}  versions")
    for python in words.python or [sys.executable]:
        with tempfile.TemporaryDirectory(prefix="compare-plans-") as folder:
            environment = make_environment(python, Path(folder))
            for case in words.cases or CASES:
                by_pip, by_us = plan_both(environment, case, Path(folder))
                differ = differ or by_pip.versions != by_us.versions
                show(environment, case, by_pip, by_us)
    return int(differ)


def make_environment(python: str, folder: Path) -> Path:
    """An environment with nothing but the newest pip; its interpreter."""
    subprocess.run([python, "-m", "venv", str(folder / "env")], check=True)
    environment = folder / "env" / "bin" / "python"
    subprocess.run(
        [str(environment), "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True
    )
    return environment


def plan_both(environment: Path, case: str, folder: Path) -> Sequence[Planned]:
    """One after the other, pip first: each has asked the index for all pages once before."""
    requirements = case.split()
    pip = [str(environment), "-m", "pip", "install"]
    ours = [sys.executable, "-m", "safe_install", "install", "--python", str(environment)]
    plan(pip, requirements, folder)
    return [plan(command, requirements, folder) for command in (pip, ours)]


def plan(command: Sequence[str], requirements: Sequence[str], folder: Path) -> Planned:
    """Run it as a dry run, and read its report."""
    report = folder / "report.json"
    if report.exists():
        report.unlink()
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if "safe_install" not in command:
        del environment["PYTHONPATH"]
    started, before = time.monotonic(), computed_by_children()
    ended = subprocess.run(
        [*command, "--dry-run", "--report", str(report), *requirements],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds, computed = time.monotonic() - started, computed_by_children() - before
    if ended.returncode != 0 or not report.is_file():
        lines = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        error = lines[-1] if lines else f"exit status {ended.returncode}"
        return Planned({}, seconds, computed, error)
    return Planned(read_versions(report), seconds, computed, "")


def computed_by_children() -> float:
    """The processor time of all processes that have ended, in seconds."""
    times = os.times()
    return times.children_user + times.children_system


def read_versions(report: Path) -> Dict[str, str]:
    """By project, as pip's installation report says."""
    found = {}
    for item in json.loads(report.read_text("utf-8"))["install"]:
        metadata = item["metadata"]
        found[metadata["name"].lower().replace("_", "-")] = metadata["version"]
    return found


def show(environment: Path, case: str, by_pip: Planned, by_us: Planned) -> None:
    """One line, and one for each version that differs."""
    version = subprocess.run(
        [str(environment), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lines = differences(by_pip, by_us)
    verdict = f"{len(by_pip.versions)} the same" if not lines else f"{len(lines)} differ"
    seconds = f"{by_pip.seconds:7.1f}s{by_us.seconds:7.1f}s"
    computed = f"{by_pip.computed:9.1f}s{by_us.computed:6.1f}s"
    print(f"{version:8}{case:34}{seconds}{computed}  {verdict}", flush=True)
    for line in lines:
        print(f"{'':42}{line}", flush=True)


def differences(by_pip: Planned, by_us: Planned) -> List[str]:
    """Each version that only one of them would install, and why one refused."""
    lines = [f"pip: {by_pip.error}"] if by_pip.error else []
    if by_us.error:
        lines.append(f"ours: {by_us.error}")
    for name in sorted({*by_pip.versions, *by_us.versions}):
        one, other = by_pip.versions.get(name, "-"), by_us.versions.get(name, "-")
        if one != other:
            lines.append(f"{name}: pip {one}, ours {other}")
    return lines


if __name__ == "__main__":
    sys.exit(main())

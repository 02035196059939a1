"""The rows of the table that bench.py prints."""

from __future__ import annotations

import statistics
from typing import Dict, List, Optional, Sequence


def row(name: str, seconds: Sequence[float], base: Optional[float] = None, target: str = "") -> str:
    median = statistics.median(seconds)
    ratio = f"{median / base:.2f}" if base else ""
    spread = f"{min(seconds):.3f} - {max(seconds):.3f}"
    return f"| {name} | {median:.4f} | {spread} | {ratio} | {target} |"


def render_installs(installs: Dict[str, Dict[str, List[float]]], one_import: float) -> List[str]:
    lines = []
    for way, times in installs.items():
        base = statistics.median(times["by hand"])
        ours = statistics.median(times["safe-install"])
        lines.append(row(f"torch-scatter by {way}: check; pip; check", times["by hand"], base))
        target = f"0.45 (and {ours / one_import:.2f} imports, 1.25)"
        lines.append(
            row(f"torch-scatter by {way}: safe-install", times["safe-install"], base, target)
        )
    return lines


def render_pair(
    what: str, times: Dict[str, List[float]], target: str, one_import: float = 0.0
) -> List[str]:
    """What others take, and we; `one_import`: what we may take more."""
    other, ours = times.values()
    base = statistics.median(other)
    if one_import:
        target = f"{(base + one_import) / base:.2f}"
    names = list(times)
    return [row(f"{what}: {names[0]}", other, base), row(f"{what}: {names[1]}", ours, base, target)]


def render_processes(before: List[float], processes: Dict[str, List[float]]) -> List[str]:
    return [
        row("check before (loader)", before, None, "0.4 s"),
        row("probe", processes["probe"], None, "0.05 s"),
        row("explain --offline, process", processes["explain --offline"], None, "0.15 s"),
        row("wheels --offline, process", processes["wheels --offline"], None, "0.3 s"),
        row("--help, process", processes["--help"], None, "0.08 s"),
        row("--version, process", processes["--version"], None, "0.08 s"),
    ]


def render_growth(growth: Dict[str, List[float]]) -> List[str]:
    base = statistics.median(next(iter(growth.values())))
    return [row(f"tiny wheel, {name}", seconds, base, "1.05") for name, seconds in growth.items()]


def render_split(split: Dict[str, float]) -> List[str]:
    """Where the time of an install by path goes."""
    return [row(f"split, by path: {name}", [seconds]) for name, seconds in split.items()]


def render_torch(torch: Dict[str, List[float]]) -> List[str]:
    reinstall = statistics.median(torch["pip"])
    return [
        row("torch: pip reinstalls it", torch["pip"], reinstall),
        row("torch: its members inflated, CPU seconds", torch["inflate"]),
        row("torch: stage", torch["stage"], reinstall, "0.35"),
        row("torch: stage, with bytecode", torch["stage, with bytecode"], reinstall),
        row("torch: peak memory of pip, MiB", torch["memory of pip"]),
        row("torch: peak memory, MiB", torch["memory"], torch["memory of pip"][0], "1.0"),
        row("torch: plan the moves", torch["plan"], reinstall),
        row("torch: sync the fresh stage, once", torch["sync the stage"], reinstall),
        row("torch: swap in, durable", torch["swap"], reinstall, "with roll back 0.005 s"),
        row("torch: roll back, durable", torch["roll back"], reinstall),
        row("torch: swap in, if nothing waited for the disk", torch["swap, no sync"], reinstall),
        row(
            "torch: roll back, if nothing waited for the disk",
            torch["roll back, no sync"],
            reinstall,
        ),
    ]


def render_big(memory: Dict[str, float]) -> List[str]:
    if not memory:
        return []
    pip = memory["pip"]
    return [
        row("a wheel of 3 GB: peak memory of pip, MiB", [pip], pip),
        row("a wheel of 3 GB: peak memory, MiB", [memory["safe-install"]], pip, "1.0"),
    ]


def render_source(seconds: Dict[str, float]) -> List[str]:
    base = seconds["pip wheel"]
    goals = {"safe-install": "0.5", "safe-install, second environment": "2.5 s"}
    return [
        row(f"torch-scatter from source: {name}", [taken], base, goals.get(name, ""))
        for name, taken in seconds.items()
    ]

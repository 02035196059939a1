#!/usr/bin/env python3
"""fleet_bench.py [--nodes 8,64,256]: what a run on many nodes costs the controller.

The phases, the parsing, the state files and the program file are the real ones; the nodes' answers
are canned, so that nothing but the controller is measured: CPU time for each phase, the largest
memory, and a fitted line.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from safe_install.fleet.engine import Call, Delivery, File, Node, OnReply, Reply, SettleResult
from safe_install.fleet.groups import Group
from safe_install.fleet.phases import Phase
from safe_install.fleet.run import FleetRun, Planned, Watcher
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.fleet.state_file import KeptRun, RunFolder
from safe_install.transaction.identifiers import make_id

SIZES = "8,64,256"
DISTRIBUTIONS = 200  # of each node: an environment as it is
WHEELS = 256  # in its cache: as many as a node names
TORCH = {"version": "2.8.0+cu126", "accelerator": "cu126", "cuda": "12.6", "cxx11_abi": True}
DEVICE = {"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0"}


@dataclass
class CannedEngine:
    """Nodes that say what all nodes say."""

    count: int
    name: str = "canned"
    identifiers: Dict[str, str] = field(default_factory=dict)

    def nodes(self) -> Sequence[Node]:
        """So many."""
        return [Node(f"node{number:04}", "/env/bin/python") for number in range(self.count)]

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """All have it."""
        return [Delivery(node, f"/var/tmp/{file.sha256[:16]}") for node in nodes]

    def call(
        self, calls: Sequence[Call], on_reply: OnReply, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """All answer at once."""
        replies = []
        for call in calls:
            output = json.dumps(self._answer(call)).encode()
            reply = Reply(call.node, 0, output)
            on_reply(reply)
            replies.append(reply)
        return replies

    def settle(self, changed: Sequence[str]) -> SettleResult:
        """Nothing has to be done."""
        return SettleResult()

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, call: Call) -> Mapping[str, Any]:
        verb = call.words[0]
        document = _document(verb)
        if verb == "inventory":
            document["details"] = _inventory(call.node)
        if verb == "stage":
            self.identifiers.setdefault(call.node, make_id(time.time()))
            document["outcome"] = "staged"
            document["transaction"] = self.identifiers[call.node]
        if verb == "commit":
            document["outcome"] = "installed"
            document["transaction"] = call.words[1]
        return document


def _document(verb: str) -> Dict[str, Any]:
    steps = [{"name": "torch-scatter", "version": "2.1.2+pt28cu126", "from_version": None}]
    return {
        "schema": 1,
        "command": verb,
        "exit_code": 0,
        "outcome": "listed",
        "environment": {
            "python": "3.11.7",
            "prefix": "/env",
            "platform": "linux_x86_64",
            "libc": "glibc 2.36",
            "torch": TORCH,
            "driver": {"version": "560.35.03", "cuda": "12.6", "devices": [DEVICE] * 8},
        },
        "plan": {"steps": steps if verb == "stage" else [], "hosts": []},
        "findings": [],
        "transaction": None,
        "details": {},
        "error": None,
    }


def _inventory(node: str) -> Mapping[str, Any]:
    rows = [
        {"name": f"project-{number}", "version": "1.2.3", "sha256": "0" * 64}
        for number in range(DISTRIBUTIONS)
    ]
    return {
        "host": node,
        "distributions": rows,
        "wheels": [f"{number:064x}" for number in range(WHEELS)],
        "tree": {"sha256": "1" * 64},
        "history": {"head": None, "count": 0},
        "place": {"device": 1, "inode": int(node[4:]) + 2},
    }


class Clock(Watcher):
    """CPU seconds of each phase."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}
        self._begun = time.process_time()

    def phase_begun(self, phase: Phase) -> None:
        """From now on."""
        self._begun = time.process_time()

    def phase_ended(self, state: FleetState, phase: Phase) -> None:
        """Until now."""
        spent = time.process_time() - self._begun
        self.seconds[phase.kind.value] = self.seconds.get(phase.kind.value, 0.0) + spent


def measure(count: int, folder: Path) -> Tuple[Dict[str, float], int]:
    """CPU seconds of each phase of a run on so many nodes, and bytes of its file."""
    engine, clock, runs = CannedEngine(count), Clock(), RunFolder(folder)
    nodes = tuple(NodeState(node.name, node.python) for node in engine.nodes())
    state = FleetState(make_id(time.time()), nodes)
    bundle = File(folder / "bundle.zip", "b" * 64)

    def keep(now: FleetState) -> None:
        runs.write(KeptRun(now, ("fleet", "install"), "canned", "canned", removes=False))

    def plan(group: Group) -> Planned:
        return bundle

    run = FleetRun(engine, bundle, keep=keep, plan=plan, watcher=clock)
    started = time.process_time()
    ended = run.run(state)
    clock.seconds["all"] = time.process_time() - started
    assert all(node.standing is Standing.VERIFIED for node in ended.nodes)
    return clock.seconds, (folder / f"{state.run}.json").stat().st_size


def fit_line(points: Sequence[Tuple[float, float]]) -> Tuple[float, float]:
    """Least squares: the value at 0, and for each more."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - slope * mean_x, slope


def read_sizes(text: str) -> List[int]:
    """Numbers of nodes. Errors: argparse.ArgumentTypeError."""
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers of nodes, as in {SIZES}")
    return sorted({int(part) for part in parts})


def main(words: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("--nodes", type=read_sizes, default=SIZES, help="how many: %(default)s")
    sizes = parser.parse_args(words).nodes
    found: Dict[int, Dict[str, float]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[size], file_size = measure(size, Path(folder))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{size:5} nodes: {memory:.0f} MiB at most, the file of the run {file_size} bytes")
    print("| phase | " + " | ".join(f"{size} nodes" for size in sizes) + " | each node |")
    print("|---|" + "---|" * (len(sizes) + 1))
    for phase in found[sizes[0]]:
        _print_row(phase, [(size, found[size][phase]) for size in sizes])
    return 0


def _print_row(phase: str, points: List[Tuple[int, float]]) -> None:
    cells = [f"{1000 * seconds:.0f} ms" for _, seconds in points]
    each = "-"  # one point makes no line
    if len(points) > 1:
        slope = fit_line([(float(size), seconds) for size, seconds in points])[1]
        each = f"{1000 * slope:.2f} ms"
    print(f"| {phase} | {' | '.join(cells)} | {each} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""fleet_bench_ansible.py [--nodes 8,64]: what a run over Ansible costs the controller, beside the same
play with Ansible's own pip module.

The engine, its playbooks and its modules are the real ones, over connection local. What a module
starts on a node answers at once with a canned document, or is no pip. CPU time of the modules is
that of the nodes: it is measured beside, and taken off.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from fleet_bench import CannedEngine, fit_line, read_sizes
from safe_install.fleet.engine import Call, EngineOptions, File
from safe_install.fleet.engines.ansible import find_program, open_engine
from safe_install.fleet.groups import Group
from safe_install.fleet.run import FleetRun, Planned
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.fleet.state_file import KeptRun, RunFolder
from safe_install.transaction.identifiers import make_id

VERBS = ("inventory", "verify", "stage", "commit")
PHASES = 8  # playbooks: who is there, deliver, inventory, verify, deliver, stage, commit, verify
# Of a node: PYTHON -I PROGRAM --python PYTHON VERB ...
NODE = '#!/bin/sh\nexec cat "$(dirname "$0")/$5.json"\n'
# Ansible's interpreter there: the CPU seconds of each module into a file.
MEASURED = """#!/bin/bash
TIMEFORMAT='%U %S'
{{ time {python} "$@" 2>&3; }} 3>&2 2>>{seconds}
"""
PIP = '#!/bin/sh\n[ "$1" = install ] && echo "Successfully installed alpha-2" || echo alpha==1\n'
PIP_PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.pip: {{name: [alpha==2], executable: {pip}}}
"""


class Fleet:
    """So many nodes in a folder, and their inventory."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.seconds = folder, folder / "seconds"
        self.inventory, self.pip = folder / "hosts.json", folder / "pip"
        measured = MEASURED.format(python=sys.executable, seconds=self.seconds)
        interpreter = _write_script(folder / "interpreter", measured)
        _write_script(self.pip, PIP)
        hosts = {}
        canned = CannedEngine(count)
        for node in canned.nodes():
            python = self._make_node(canned, node.name)
            hosts[node.name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": str(interpreter),
                "safe_install_python": str(python),
            }
        self.inventory.write_text(json.dumps({"all": {"hosts": hosts}}))

    def _make_node(self, canned: CannedEngine, name: str) -> Path:
        home = self.folder / name
        home.mkdir()
        for verb in VERBS:
            identifier = canned.identifiers.get(name, "")
            call = Call(name, "", (verb, identifier))
            (reply,) = canned.call([call], lambda reply: None, timeout=None)
            (home / f"{verb}.json").write_bytes(reply.output)
        return _write_script(home / "python", NODE)

    def take_seconds(self) -> float:
        """CPU seconds of the modules since the last time."""
        lines = self.seconds.read_text().split() if self.seconds.exists() else []
        self.seconds.unlink()
        return sum(map(float, lines))


def _write_script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def cpu_seconds() -> float:
    """Of this process and of all that it has started and waited for."""
    found = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        found += usage.ru_utime + usage.ru_stime
    return found


def measure(count: int, folder: Path) -> Tuple[float, float]:
    """CPU seconds of the controller: of a whole run, and of the play with pip."""
    fleet = Fleet(folder, count)
    started = cpu_seconds()
    run_fleet(fleet)
    ours = cpu_seconds() - started - fleet.take_seconds()
    started = cpu_seconds()
    run_pip(fleet, count)
    return ours, cpu_seconds() - started - fleet.take_seconds()


def run_fleet(fleet: Fleet) -> None:
    """Install on all of them."""
    content = os.urandom(2**20)
    path = fleet.folder / "file.zip"
    path.write_bytes(content)
    file = File(path, hashlib.sha256(content).hexdigest())
    runs = RunFolder(fleet.folder / "runs")
    variables = {**os.environ, "HOME": str(fleet.folder)}
    engine = open_engine(str(fleet.inventory), EngineOptions(environ=variables))

    def keep(now: FleetState) -> None:
        runs.write(KeptRun(now, ("fleet", "install"), "ansible", "hosts", removes=False))

    def plan(group: Group) -> Planned:
        return file

    nodes = tuple(NodeState(node.name, node.python) for node in engine.nodes())
    state = FleetState(make_id(time.time()), nodes)
    ended = FleetRun(engine, file, keep=keep, plan=plan).run(state)
    engine.close()
    failed = [node for node in ended.nodes if node.standing is not Standing.VERIFIED]
    assert not failed, failed[0].failure


def run_pip(fleet: Fleet, count: int) -> None:
    """The same with Ansible's own module."""
    play = fleet.folder / "pip.yml"
    play.write_text(PIP_PLAY.format(pip=fleet.pip))
    command = [find_program(os.environ), "-i", str(fleet.inventory), "-f", str(count), str(play)]
    variables = {**os.environ, "HOME": str(fleet.folder)}
    subprocess.run(command, check=True, env=variables, stdout=subprocess.DEVNULL)


def main(words: Sequence[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[2])
    parser.add_argument("--nodes", type=read_sizes, default="8,64", help="how many: %(default)s")
    sizes = parser.parse_args(words).nodes
    found: Dict[int, Tuple[float, float]] = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            found[size] = measure(size, Path(folder))
        ours, pips = found[size]
        print(f"{size:5} nodes: {ours:.1f} s for {PHASES} phases, {pips:.1f} s for pip", flush=True)
    if len(sizes) > 1:
        _print_lines([(float(size), *found[size]) for size in sizes])
    return 0


def _print_lines(rows: List[Tuple[float, float, float]]) -> None:
    base, ours = fit_line([(size, ours / PHASES) for size, ours, _ in rows])
    pip_base, pips = fit_line([(size, pips) for size, _, pips in rows])
    print(f"a phase: {1000 * base:.0f} ms, and {1000 * ours:.1f} ms for each node")
    print(f"pip:     {1000 * pip_base:.0f} ms, and {1000 * pips:.1f} ms for each node")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

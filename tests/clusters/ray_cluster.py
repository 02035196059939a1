"""A Ray cluster on this machine, each node with the Python of an environment of its own.

Reads lines of JSON, answers each with one, and ends the cluster when its stdin does:

    {"add": "b", "python": "/.../b/bin/python"}    the first one is the head
    {"remove": "b"}                                what a killed node has left
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict

import ray.cluster_utils

# A node that was killed is missed soon.
SETTINGS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 4,
}
MEMORY = 80 * 1024 * 1024


class Nodes:
    """By name."""

    def __init__(self, folder: str) -> None:
        self._folder = folder  # of a short path: sockets lie in it
        # the address of the cluster is written there, wherever the rest lies
        Path(tempfile.gettempdir(), "ray").mkdir(exist_ok=True)
        self._cluster = ray.cluster_utils.Cluster()
        self._nodes: Dict[str, Any] = {}

    def answer(self, asked: Dict[str, str]) -> Dict[str, Any]:
        """One line."""
        if "add" in asked:
            return self.add(asked["add"], asked["python"])
        return self.remove(asked["remove"])

    def add(self, name: str, python: str) -> Dict[str, Any]:
        """The processes of a node are started with sys.executable."""
        options: Dict[str, Any] = {"num_cpus": 1, "object_store_memory": MEMORY}
        if not self._nodes:
            options.update(include_dashboard=False, temp_dir=self._folder, _system_config=SETTINGS)
        own = sys.executable
        sys.executable = python
        try:
            node = self._cluster.add_node(resources={name: 1}, **options)
        finally:
            sys.executable = own
        self._nodes[name] = node
        (raylet,) = node.all_processes["raylet"]
        return {"address": self._cluster.address, "pid": raylet.process.pid}

    def remove(self, name: str) -> Dict[str, Any]:
        """It is dead."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)
        return {}

    def end(self) -> None:
        """All of them."""
        self._cluster.shutdown()


def main() -> None:
    """Until stdin ends."""
    folder = tempfile.mkdtemp(prefix="r-", dir="/tmp")
    nodes = Nodes(folder)
    answers = sys.stdout
    sys.stdout = sys.stderr
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            print(json.dumps(nodes.answer(asked)), file=answers, flush=True)
    finally:
        nodes.end()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Fleets of small environments on this machine, and the real program as their controller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.functional.conftest import (  # noqa: F401 - fixtures
    Environment,
    clean_variables,
    driver,
    lab_wheels,
    make_environment,
    make_template,
    node_cache,
    place_environment,
    read_document,
    run_process,
    shared,
)
from tests.lab.wheels import write_wheel
from tests.treehash import read_tree

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==1.8.1+cu111"
CONTROLLER = """
import sys
from dataclasses import replace
from safe_install.fleet import opening
row = opening.ENGINES["ansible"]
row = replace(row, module="tests.fleet.local_engine")
opening.ENGINES = {"ansible": row}
from safe_install.commands import fleet
from safe_install.errors import PipFailed
def fetch(lines):
    raise PipFailed("there is no index")
fleet.fetch_with_pip = lambda world: fetch  # pip says the same, at each start
from safe_install.cli.main import main
sys.exit(main())
"""


class Fleet:
    """Nodes with a torch each, and a controller."""

    def __init__(self, folder: Path, prefixes, variables, controller) -> None:
        self.folder, self.prefixes = folder, prefixes
        self.variables = variables  # of every node
        self.controller = controller
        self.number = 0
        self.target = folder / "hosts.json"

    def describe(self, *, names=None, places=None, caches=None, **faults) -> None:
        """A new fleet of these nodes; nothing of earlier faults is left. `faults`: n1={"commit":
        "dies-before"}; `places`: the node whose environment another one has; `caches`: of nodes
        that have one of their own."""
        self.number += 1
        state = self.folder / f"state-{self.number}"
        state.mkdir()
        nodes = {}
        for name in names or self.prefixes:
            variables = {**self.variables, "HOME": str(self.folder / f"home-{name}")}
            if caches:
                variables["SAFE_INSTALL_CACHE_DIR"] = str(caches[name])
            nodes[name] = {
                "prefix": str(self.prefixes[(places or {}).get(name, name)]),
                "variables": variables,
                "faults": faults.get(name, {}),
            }
        self.state = state
        self.target.write_text(json.dumps({"folder": str(state), "nodes": nodes}))

    def raise_dead(self) -> None:
        """All answer again."""
        for path in (*self.state.glob("dead-*"), *self.state.glob("sick-*")):
            path.unlink()

    def make_sick(self, name: str) -> None:
        """Its driver is too old from now on."""
        (self.state / f"sick-{name}").touch()

    def command(self, *words: str):
        return [sys.executable, "-c", CONTROLLER, "fleet", *words]

    def start(self, *words: str):
        return subprocess.Popen(
            self.command(*words, "--json"),
            env=self.controller,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, cwd: Path = ROOT):
        """What `fleet` says with --json; valid by the schema."""
        return read_document(run_process(self.command(*words, "--json"), self.controller, cwd=cwd))

    def on(self, verb: str, *words: str):
        """The same, on the nodes of this fleet."""
        return self.run(verb, *words, "--inventory", str(self.target))

    def end(self, started):
        output, told = started.communicate()
        done = subprocess.CompletedProcess([], started.returncode, output, told)
        return read_document(done)

    def text(self, *words: str) -> str:
        """What people see of it."""
        done = run_process(self.command(*words), self.controller, cwd=ROOT)
        return done.stdout + done.stderr

    def log(self):
        path = self.state / "log"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 120
        while not any(found.startswith(line) for found in self.log()):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def trees(self):
        return {name: read_tree(prefix) for name, prefix in self.prefixes.items()}

    def kill(self, started) -> None:
        os.kill(started.pid, signal.SIGKILL)
        started.communicate()


def outcomes(document):
    return {row["name"]: row["outcome"] for row in document["details"]["nodes"]}


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> Path:
    """Wheels: alpha and beta, pure."""
    folder = tmp_path_factory.mktemp("projects")
    for version in ("1", "2"):
        files = {"alpha/__init__.py": f"version = {version}\n", "alpha/data.txt": "x" * 999}
        write_wheel(folder, "alpha", version, files)
    write_wheel(folder, "beta", "1", {"beta.py": "", "beta_data.py": "x = 1\n"})
    return folder


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, make_template, lab_wheels, driver, projects, node_cache):  # noqa: F811
    """Two nodes. Each test leaves them as they were."""
    folder = tmp_path_factory.mktemp("fleet")
    template = make_template("3.11", (TORCH,))
    prefixes = {}
    for name in ("n1", "n2"):
        prefixes[name] = folder / name
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(template), str(folder / name)], check=True
        )
    home = folder / "home"
    home.mkdir()
    variables = clean_variables(driver, lab_wheels("3.11").index, home)
    # the nodes know no index and no host
    of_nodes = {
        name: value
        for name, value in variables.items()
        if not name.startswith(("PIP_", "SAFE_INSTALL_"))
    }
    of_nodes["SAFE_INSTALL_CACHE_DIR"] = str(node_cache)
    links = f"{variables['PIP_FIND_LINKS']} {projects}"
    controller = {**variables, "PIP_FIND_LINKS": links, "PYTHONPATH": str(ROOT)}
    return Fleet(folder, prefixes, of_nodes, controller)

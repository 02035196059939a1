"""Ray: raylets on this machine, each in an environment of its own. All are changed, or none.

One module, one cluster: each test leaves it as it was.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from tests.clusters.conftest import (
    FRAIL,
    Ground,
    alpha_of,
    ends,
    outcomes_of,
    put_torch,
    rows_of,
    trees,
)
from tests.functional.conftest import Environment
from tests.small_environment import write_distribution

CLUSTER = Path(__file__).with_name("ray_cluster.py")
# An actor on `b` has a file of alpha in memory, which is replaced.
PROGRAM = """
import json, mmap, os, sys
import ray
from safe_install.fleet.ray import install

@ray.remote(num_cpus=0, resources={"b": 0.1})
class Holder:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.held = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
    def pid(self):
        return os.getpid()

ray.init(address=sys.argv[1], log_to_driver=False)
holder = Holder.remote(sys.argv[2])
pid = ray.get(holder.pid.remote())
print(json.dumps([pid, install(["alpha==2"])]))
"""


class RayGround:
    """`a` has the head, `b` and `c` join."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.environments = {name: ground.make_environment(name) for name in "abc"}
        self.all: List[Environment] = list(self.environments.values())
        self.log = (ground.folder / "ray.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, str(CLUSTER)],
            env={**ground.with_engines, "RAY_DEDUP_LOGS": "0"},
            cwd=ground.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.raylets: Dict[str, int] = {}
        self.address = ""
        for name in "ab":
            self.add(name)

    def ask(self, **question: str) -> Dict[str, Any]:
        """ray_cluster.py."""
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, Path(self.log.name).read_text()
        return dict(json.loads(line))

    def add(self, name: str) -> None:
        """A node with this environment."""
        found = self.ask(add=name, python=str(self.environments[name].executable))
        self.raylets[name], self.address = found["pid"], found["address"]

    def fleet(self, verb: str, *words: str) -> Dict[str, Any]:
        """`safe-install fleet` on this cluster."""
        return self.ground.fleet(verb, *words, "--ray", self.address)

    def drive(self, *words: str, **sabotage: Any) -> Dict[str, Any]:
        """The same, sabotaged."""
        return self.ground.drive("fleet", *words, "--ray", self.address, **sabotage)

    def end(self) -> None:
        """The cluster."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def ray(ground: Ground) -> Iterator[RayGround]:
    """The cluster."""
    found = RayGround(ground)
    yield found
    found.end()


@pytest.fixture
def before(ray: RayGround) -> Iterator[List[Any]]:
    """How the environments are; they have to be that again in the end."""
    found = trees(ray.all)
    yield found
    assert trees(ray.all) == found


def test_a_program_installs_on_all_and_a_node_joins(ray: RayGround) -> None:
    """What has old files in memory is named. A node that joins has not got it, and is named."""
    b = ray.environments["b"]
    files = {"alpha/__init__.py": "version = 1\n", "alpha/data.txt": "1" * 1000}
    write_distribution(b.site, "alpha", "1", files)
    before = trees(ray.all)
    words = (ray.address, str(b.site / "alpha" / "data.txt"))
    done = ray.ground.run_python(PROGRAM, *words)
    assert done.returncode == 0, done.stderr
    pid, document = json.loads(done.stdout.strip().splitlines()[-1])
    assert ends(document) == (0, "installed"), document
    assert outcomes_of(document) == {"a": "changed", "b": "changed"}
    assert [alpha_of(one) for one in ray.all] == [["2"], ["2"], []]
    (note,) = document["details"]["notes"]
    assert f"{pid} (ray::Holder" in note

    ray.add("c")
    status = ray.fleet("status")
    assert status["exit_code"] == 0, status
    (joined,) = status["details"]["joined"]
    assert joined.endswith("/c")
    undone = ray.fleet("undo")
    assert ends(undone) == (0, "undone"), undone
    assert trees(ray.all) == before
    for path in b.site.glob("alpha*"):
        shutil.rmtree(path)


def test_one_refuses_and_none_is_changed(ray: RayGround, before: List[Any]) -> None:
    b = ray.environments["b"]
    put_torch(b, version="2.12.0+cpu")
    other = trees(ray.all)
    try:
        document = ray.fleet("install", "beta")
        assert ends(document) in ((10, "refused"), (11, "refused")), document
        assert "torch" in rows_of(document)["b"]["reason"]
        assert trees(ray.all) == other
    finally:
        put_torch(b)


def test_one_is_not_well_after_the_commit_and_all_is_taken_back(
    ray: RayGround, before: List[Any]
) -> None:
    c = ray.environments["c"]
    put_torch(c, FRAIL)
    frail = trees(ray.all)
    try:
        document = ray.fleet("install", "alpha")
        assert ends(document) == (12, "rolled-back"), document
        assert outcomes_of(document) == dict.fromkeys("abc", "undone")
        assert trees(ray.all) == frail
    finally:
        put_torch(c)


@pytest.mark.parametrize(
    ("after", "verb", "versions"), [("stage", "commit", []), ("commit", "verify", ["2"])]
)
def test_a_node_that_is_gone_when_it_counts(
    ray: RayGround, before: List[Any], after: str, verb: str, versions: List[str]
) -> None:
    """All others are as before; it, too, as soon as it is back and `fleet undo` was called."""
    pid = ray.raylets["b"]
    document = ray.drive("install", "alpha", after=after, before=verb, pids=[pid])
    assert ends(document) == (13, "rollback-failed"), document
    assert outcomes_of(document) == {"a": "undone", "b": "unknown", "c": "undone"}
    a, b, c = ray.all
    assert trees([a, c]) == [before[0], before[2]]
    assert alpha_of(b) == versions
    ray.ask(remove="b")
    ray.add("b")
    undone = ray.fleet("undo", document["details"]["run"])
    assert undone["exit_code"] == 0, undone
    assert trees(ray.all) == before


def test_two_at_once_where_nodes_share_an_environment(ray: RayGround, before: List[Any]) -> None:
    """One gets it done, or none; never a part of each. What is shared is one node."""
    ray.environments["d"] = ray.environments["a"]
    ray.add("d")
    command = ("fleet", "install", "alpha", "--ray", ray.address, "--json")
    running = [ray.ground.start_tool(*command) for _ in range(2)]
    documents = [json.loads(one.communicate()[0]) for one in running]
    installed = [one for one in documents if one["outcome"] == "installed"]
    assert len(installed) <= 1, documents
    for document in documents:
        assert set(outcomes_of(document)) <= set("abc"), document
    there = [ray.environments[name] for name in outcomes_of(documents[0])]
    versions = [alpha_of(one) for one in there]
    assert versions == [["2"] if installed else []] * len(there), documents
    for document in installed:
        undone = ray.fleet("undo", document["details"]["run"])
        assert ends(undone) == (0, "undone"), undone
    ray.ask(remove="d")

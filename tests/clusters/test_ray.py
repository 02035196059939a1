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
    GONE_WHEN_IT_COUNTS,
    Cluster,
    Ground,
    alpha_of,
    ends,
    outcomes_of,
    put_torch,
    trees,
)
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


class RayCluster(Cluster):
    """`a` has the head, `b` and `c` join."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground, "--ray")
        self.environments = {name: ground.make_environment(name) for name in "abc"}
        self.all = list(self.environments.values())
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

    def end(self) -> None:
        """The cluster."""
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        self.log.close()


@pytest.fixture(scope="module")
def cluster(ground: Ground) -> Iterator[RayCluster]:
    """It."""
    found = RayCluster(ground)
    yield found
    found.end()


@pytest.mark.long
def test_a_program_installs_on_all_and_a_node_joins(cluster: RayCluster) -> None:
    """What has old files in memory is named. A node that joins has not got it, and is named."""
    b = cluster.environments["b"]
    files = {"alpha/__init__.py": "version = 1\n", "alpha/data.txt": "1" * 1000}
    write_distribution(b.site, "alpha", "1", files)
    before = trees(cluster.all)
    words = (cluster.address, str(b.site / "alpha" / "data.txt"))
    done = cluster.ground.run_python(PROGRAM, *words)
    assert done.returncode == 0, done.stderr
    pid, document = json.loads(done.stdout.strip().splitlines()[-1])
    assert ends(document) == (0, "installed"), document
    assert outcomes_of(document) == {"a": "changed", "b": "changed"}
    assert [alpha_of(one) for one in cluster.all] == [["2"], ["2"], []]
    (note,) = document["details"]["notes"]
    assert f"{pid} (ray::Holder" in note

    cluster.add("c")
    status = cluster.fleet("status")
    assert status["exit_code"] == 0, status
    (joined,) = status["details"]["joined"]
    assert joined.endswith("/c")
    undone = cluster.fleet("undo")
    assert ends(undone) == (0, "undone"), undone
    assert trees(cluster.all) == before
    for path in b.site.glob("alpha*"):
        shutil.rmtree(path)


def test_one_refuses_and_none_is_changed(cluster: RayCluster, before: List[Any]) -> None:
    cluster.refuse_on(cluster.environments["b"])


@pytest.mark.long
def test_one_is_not_well_after_the_commit_and_all_is_taken_back(
    cluster: RayCluster, before: List[Any]
) -> None:
    c = cluster.environments["c"]
    put_torch(c, FRAIL)
    frail = trees(cluster.all)
    try:
        document = cluster.fleet("install", "alpha")
        assert ends(document) == (12, "rolled-back"), document
        assert outcomes_of(document) == dict.fromkeys("abc", "undone")
        assert trees(cluster.all) == frail
    finally:
        put_torch(c)


@pytest.mark.long
@GONE_WHEN_IT_COUNTS
def test_a_node_that_is_gone_when_it_counts(
    cluster: RayCluster, before: List[Any], after: str, verb: str, versions: List[str]
) -> None:
    """All others are as before; it, too, as soon as it is back and `fleet undo` was called."""
    pid = cluster.raylets["b"]
    document = cluster.drive("install", "alpha", after=after, before=verb, pids=[pid])
    assert ends(document) == (13, "rollback-failed"), document
    assert outcomes_of(document) == {"a": "undone", "b": "unknown", "c": "undone"}
    a, b, c = cluster.all
    assert trees([a, c]) == [before[0], before[2]]
    assert alpha_of(b) == versions
    cluster.ask(remove="b")
    cluster.add("b")
    cluster.take_back_all(document, before)


@pytest.mark.long
def test_two_at_once_where_nodes_share_an_environment(
    cluster: RayCluster, before: List[Any]
) -> None:
    """One gets it done, or none; never a part of each. What is shared is one node."""
    cluster.environments["d"] = cluster.environments["a"]
    cluster.add("d")
    command = ("fleet", "install", "alpha", "--ray", cluster.address, "--json")
    running = [cluster.ground.start_tool(*command) for _ in range(2)]
    documents = [json.loads(one.communicate()[0]) for one in running]
    installed = [one for one in documents if one["outcome"] == "installed"]
    assert len(installed) <= 1, documents
    for document in documents:
        assert set(outcomes_of(document)) <= set("abc"), document
    there = [cluster.environments[name] for name in outcomes_of(documents[0])]
    versions = [alpha_of(one) for one in there]
    assert versions == [["2"] if installed else []] * len(there), documents
    for document in installed:
        undone = cluster.fleet("undo", document["details"]["run"])
        assert ends(undone) == (0, "undone"), undone
    cluster.ask(remove="d")

"""Dask: a scheduler and workers as real processes, in environments of their own. All are changed, or
none.

One module, one cluster: each test leaves it as it was.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any, Dict, List

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
    wait_for,
)
from tests.functional.conftest import Environment

INSTALL = """
from safe_install.fleet.dask import SafeInstall
client.register_plugin(SafeInstall(["alpha"]))
"""
VERSIONS = """
import json, sys
def ask():
    import alpha
    return sys.prefix.rpartition("/")[2], alpha.version
print(json.dumps(dict(client.submit(ask, workers=[one], pure=False).result(timeout=30)
    for one in client.scheduler_info(n_workers=-1)["workers"])))
"""


class DaskCluster(Cluster):
    """`a` has the scheduler and a worker without a nanny, `b` has two workers."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground, "--dask")
        self.a, self.b = (ground.make_environment(name) for name in "ab")
        self.all = [self.a, self.b]
        self.file = ground.folder / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        file = ("--scheduler-file", str(self.file))
        ground.start(self.a, "-m", "distributed.cli.dask_scheduler", *words, *file)
        wait_for(self._is_written)
        self.address = str(json.loads(self.file.read_text())["address"])
        self.start_worker(self.a, "--no-nanny")
        self.process_of_b = self.start_worker(self.b, "--nworkers", "2")
        self.wait_for_workers(3)

    def _is_written(self) -> bool:
        try:
            return "address" in json.loads(self.file.read_text())
        except (OSError, ValueError):
            return False

    def start_worker(self, environment: Environment, *words: str) -> subprocess.Popen[bytes]:
        """Its nanny, where it has one."""
        given = ("--nthreads", "1", "--memory-limit", "0", "--no-dashboard", *words)
        command = ("-m", "distributed.cli.dask_worker", self.address, *given)
        process: subprocess.Popen[bytes] = self.ground.start(environment, *command)
        return process

    def run_client(self, code: str) -> subprocess.CompletedProcess[str]:
        """A program with a client."""
        start = f"from distributed import Client\nclient = Client({self.address!r})\n"
        return self.ground.run_python(start + code)

    def ask(self, code: str) -> str:
        """What a client prints."""
        done = self.run_client(code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pids(self) -> Dict[str, List[int]]:
        """The workers' processes, by the names of their environments."""
        code = (
            "import json, os, sys\n"
            "told = client.run(lambda: (sys.prefix.rpartition('/')[2], os.getpid()))\n"
            "print(json.dumps(sorted(told.values())))"
        )
        found: Dict[str, List[int]] = {}
        for name, pid in json.loads(self.ask(code)):
            found.setdefault(name, []).append(pid)
        return found

    def wait_for_workers(self, count: int) -> None:
        """Until so many are there."""
        self.ask(f"client.wait_for_workers({count}, timeout=60)")


@pytest.fixture(scope="module")
def cluster(ground: Ground) -> DaskCluster:
    """It."""
    return DaskCluster(ground)


@pytest.mark.long
def test_a_program_installs_on_all_and_on_workers_that_join(
    cluster: DaskCluster, before: List[Any]
) -> None:
    old = cluster.pids()
    cluster.ask(INSTALL)
    assert [alpha_of(one) for one in cluster.all] == [["2"], ["2"]]
    cluster.wait_for_workers(3)
    new = cluster.pids()
    assert new["a"] == old["a"]  # it has no nanny that would start it again
    assert not set(new["b"]) & set(old["b"])
    assert json.loads(cluster.ask(VERSIONS)) == {"a": 2, "b": 2}
    assert cluster.pids() == new

    late = cluster.ground.make_environment("late")
    started = cluster.start_worker(late)
    cluster.wait_for_workers(4)
    assert json.loads(cluster.ask(VERSIONS)) == {"a": 2, "b": 2, "late": 2}
    cluster.ground.stop(started)

    frail = cluster.ground.make_environment("frail")
    put_torch(frail, FRAIL)
    untouched = frail.tree()
    leaving = cluster.start_worker(frail)
    leaving.wait(120)
    assert frail.tree() == untouched
    assert "leaves the cluster" in cluster.ground.log_of(leaving)
    assert "torch needs an older alpha" in cluster.ground.log_of(leaving)
    assert "torch needs an older alpha" in cluster.ask("print(client.get_events('safe-install'))")

    undone = cluster.fleet("undo")
    assert ends(undone) == (0, "undone"), undone
    cluster.wait_for_workers(3)
    assert trees(cluster.all) == before  # workers that start again do not bring it back


@pytest.mark.long
def test_a_program_is_told_why_nothing_was_installed(
    cluster: DaskCluster, before: List[Any]
) -> None:
    """One node is not well after the commit: all is taken back."""
    put_torch(cluster.b, FRAIL)
    frail = trees(cluster.all)
    try:
        done = cluster.run_client(INSTALL)
        assert done.returncode == 1
        assert "RuntimeError" in done.stderr
        assert "torch needs an older alpha" in done.stderr
        assert trees(cluster.all) == frail
    finally:
        put_torch(cluster.b)


def test_one_refuses_and_none_is_changed(cluster: DaskCluster, before: List[Any]) -> None:
    pids = cluster.pids()
    cluster.refuse_on(cluster.b)
    assert cluster.pids() == pids


@pytest.mark.long
@GONE_WHEN_IT_COUNTS
def test_a_node_that_is_gone_when_it_counts(
    cluster: DaskCluster, before: List[Any], after: str, verb: str, versions: List[str]
) -> None:
    """All others are as before; it, too, as soon as it is back and `fleet undo` was called."""
    session = cluster.process_of_b.pid
    document = cluster.drive("install", "alpha", after=after, before=verb, sessions=[session])
    cluster.process_of_b.wait()
    assert ends(document) == (13, "rollback-failed"), document
    assert outcomes_of(document) == {"a": "undone", "b": "unknown"}
    assert trees([cluster.a]) == before[:1]
    assert alpha_of(cluster.b) == versions
    cluster.process_of_b = cluster.start_worker(cluster.b, "--nworkers", "2")
    cluster.wait_for_workers(3)
    cluster.take_back_all(document, before)


@pytest.mark.long
def test_a_worker_that_does_not_come_back_is_no_success(
    cluster: DaskCluster, before: List[Any]
) -> None:
    """Its nanny does not answer; the change stays, and no worker is lost by it."""
    nanny, old = cluster.process_of_b.pid, cluster.pids()
    try:
        document = cluster.drive(
            "install", "alpha", after="commit", before="verify", stopped=[nanny], restart=5.0
        )
    finally:
        os.kill(nanny, signal.SIGCONT)
    assert ends(document) == (1, "installed"), document
    assert outcomes_of(document) == {"a": "changed", "b": "changed"}
    (note,) = [one for one in document["details"]["notes"] if f"{cluster.b.prefix}: " in one]
    assert note.count("was not started again (") == 2
    # it has heard what it was asked
    wait_for(lambda: len(set(cluster.pids().get("b", [])) - set(old["b"])) == 2, 120)
    undone = cluster.fleet("undo")
    assert ends(undone) == (0, "undone"), undone
    cluster.wait_for_workers(3)


def test_an_address_whose_certificates_are_not_known(cluster: DaskCluster) -> None:
    done = cluster.ground.run_tool("fleet", "verify", "--dask", "tls://127.0.0.1:9")
    assert done.returncode == 1
    assert "distributed.comm.tls" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_ctrl_c_takes_back_what_was_begun(cluster: DaskCluster, before: List[Any]) -> None:
    """The nodes end what they do first."""
    command = ("fleet", "install", "alpha", "--dask", cluster.address, "--json")
    old = set(cluster.b.prefix.glob(".safe-install/staged-*"))
    running = cluster.ground.start_tool(*command)
    wait_for(lambda: set(cluster.b.prefix.glob(".safe-install/staged-*")) - old)
    running.send_signal(signal.SIGINT)
    document = json.loads(running.communicate()[0])
    assert ends(document) == (130, "rolled-back"), document
    assert set(outcomes_of(document).values()) <= {"abandoned", "undone"}
    assert trees(cluster.all) == before


@pytest.mark.long
def test_two_at_once(cluster: DaskCluster, before: List[Any]) -> None:
    """One gets it done, or none; never a part of each."""
    command = ("fleet", "install", "alpha", "--dask", cluster.address, "--json")
    running = [cluster.ground.start_tool(*command) for _ in range(2)]
    documents = [json.loads(one.communicate()[0]) for one in running]
    installed = [one for one in documents if one["outcome"] == "installed"]
    versions = [alpha_of(one) for one in cluster.all]
    assert len(installed) <= 1, documents
    assert versions == [["2"] if installed else []] * 2, documents
    for document in installed:
        undone = cluster.fleet("undo", document["details"]["run"])
        assert ends(undone) == (0, "undone"), undone

"""The engine over a cluster, with a cluster of a few lines: its processes answer as a test says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import MAX_ANSWER, Call, File, Reply, SettleResult
from safe_install.fleet.engines import cluster as cluster_module
from safe_install.fleet.engines.cluster import PIECE, ClusterEngine, Lost, read_reply


@pytest.fixture(autouse=True)
def _without_patience(monkeypatch):
    monkeypatch.setattr(cluster_module, "PATIENCE", 0.01)
    monkeypatch.setattr(cluster_module, "POLL", 0.0)


def say(**said):
    return json.dumps(said).encode() + b"\n"


class Process:
    """One in an environment of its own, unless `place` says otherwise."""

    def __init__(self, name, place=None):
        self.name = name
        self.place = place or name
        self.files = {}
        self.parts = {}
        self.asked = []
        self.answers = {}  # question -> an answer in the place of its own

    def ask(self, question, *words):
        self.asked.append(question)
        if question in self.answers:
            return self.answers[question]
        return getattr(self, question)(*words)

    def describe(self):
        prefix = f"/{self.place}"
        place = [self.place]
        return say(host="box", python=f"{prefix}/python", prefix=prefix, place=place)

    def find(self, sha256, suffix):
        return say(path=self.files.get(sha256, ""))

    def receive(self, sha256, token, offset, piece):
        part = self.parts.setdefault(token, b"")
        assert len(part) == offset
        self.parts[token] = part + piece
        return say()

    def finish(self, sha256, token, suffix):
        if hashlib.sha256(self.parts.pop(token)).hexdigest() != sha256:
            return say(problem="another hash")
        self.files[sha256] = f"/var/tmp/{sha256}{suffix}"
        return say(path=self.files[sha256])

    def run(self, argv, timeout, most, inherited):
        return say(status=0, said="") + json.dumps(list(argv)).encode()


class Processes:
    """A Cluster."""

    name = "Test"
    inherited = ()

    def __init__(self, *processes):
        self.all = {process.name: process for process in processes}
        self.settled = None

    def members(self):
        return sorted(self.all)

    def ask_all(self, addresses, question, timeout):
        return {one: self._ask(one, question) for one in addresses}

    def ask_each(self, questions, timeout):
        for address, question in questions.items():
            yield address, self._ask(address, question)

    def _ask(self, address, question):
        if address not in self.all:
            return Lost("connection refused")
        return self.all[address].ask(*question)

    def settle(self, groups):
        self.settled = [group.addresses for group in groups]
        return SettleResult()


@pytest.fixture
def file(tmp_path: Path) -> File:
    content = os.urandom(PIECE + 10)
    path = tmp_path / "program.pyz"
    path.write_bytes(content)
    return File(path, hashlib.sha256(content).hexdigest())


def start(*processes):
    cluster = Processes(*processes)
    engine = ClusterEngine(cluster)
    return cluster, engine, [node.name for node in engine.nodes()]


def ignore(reply):
    pass


# --- nodes ----------------------------------------------------------------------------------------


def test_nodes_in_a_stable_order():
    _, engine, names = start(Process("b"), Process("a"), Process("c", place="a"))
    assert names == ["box:/a", "box:/b"]
    assert [node.python for node in engine.nodes()] == ["/a/python", "/b/python"]


@pytest.mark.parametrize("answer", [b"hello", Lost("connection reset"), say(problem="no room")])
def test_a_process_that_does_not_say_what_it_is_stops_everything(answer):
    process = Process("b")
    process.answers["describe"] = answer
    with pytest.raises(EngineFailed, match="b does not say which environment it has"):
        start(Process("a"), process)


def test_a_process_that_goes_meanwhile_is_none():
    leaving = Process("b")
    cluster = Processes(Process("a"), leaving)
    leaving.describe = lambda: cluster.all.pop("b") and Lost("closed")
    assert [node.name for node in ClusterEngine(cluster).nodes()] == ["box:/a"]


# --- files ----------------------------------------------------------------------------------------


def test_a_file_is_sent_once(file):
    cluster, engine, names = start(Process("a"), Process("b"))
    first = engine.deliver(file, names)
    paths = [f"/var/tmp/{file.sha256}.pyz"] * 2
    assert [one.path for one in first] == paths
    assert cluster.all["a"].asked.count("receive") == 2  # PIECE, and the rest
    again = engine.deliver(file, names)
    assert [one.path for one in again] == paths
    assert cluster.all["a"].asked.count("receive") == 2


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    _, engine, names = start(Process("a"))
    (found,) = engine.deliver(File(path, hashlib.sha256(b"").hexdigest()), names)
    assert found.path


@pytest.mark.parametrize(
    ("question", "answer", "problem"),
    [
        ("find", b"no json", "no JSON"),
        ("find", say(path=7), "names no path"),
        ("find", say(path="relative"), "names no path"),
        ("find", say(path="/x\x1b[2J"), "names no path"),
        ("receive", say(problem="OSError: No space left on device"), "No space left"),
        ("receive", Lost("connection reset"), "connection reset"),
        ("finish", say(problem="it arrived with another hash"), "another hash"),
        ("finish", say(path=""), "does not say where"),
    ],
)
def test_a_file_that_does_not_arrive(file, question, answer, problem):
    bad = Process("b")
    bad.answers[question] = answer
    _, engine, names = start(Process("a"), bad)
    good, failed = engine.deliver(file, names)
    assert good.path
    assert not good.problem
    assert not failed.path
    assert problem in failed.problem


# --- calls ----------------------------------------------------------------------------------------


def test_a_call_runs_the_program_with_the_python_of_its_node():
    _, engine, names = start(Process("a"), Process("b"))
    heard = []
    calls = [Call(name, "/p.pyz", ("stage", "x y")) for name in reversed(names)]
    replies = engine.call(calls, heard.append, timeout=None)
    assert [reply.node for reply in replies] == ["box:/b", "box:/a"]
    assert {reply.node for reply in heard} == set(names)
    argv = ["/b/python", "-I", "/p.pyz", "--python", "/b/python", "stage", "x y", "--json"]
    assert json.loads(replies[0].output) == argv
    assert replies[0].status == 0


def test_a_node_that_is_gone_is_an_answer():
    cluster, engine, names = start(Process("a"), Process("b"))
    del cluster.all["b"]
    heard = []
    calls = [Call(name, "/p", ("verify",)) for name in names]
    good, lost = engine.call(calls, heard.append, timeout=None)
    assert good.status == 0
    assert lost.status is None
    assert "no process of box:/b any more" in lost.problem
    assert len(heard) == 2


def test_a_node_is_found_by_another_process_of_its_environment():
    cluster, engine, _ = start(Process("a"), Process("b"))
    del cluster.all["b"]
    cluster.all["c"] = Process("c", place="b")
    (reply,) = engine.call([Call("box:/b", "/p", ("verify",))], ignore, timeout=None)
    assert reply.status == 0
    assert "run" in cluster.all["c"].asked


REPLIES = [
    (say(status=3, said="why") + b"out", Reply("n", 3, b"out", "why")),
    (say(status=0, said=7) + b"", Reply("n", 0, b"", "")),
    (Lost("gone"), Reply("n", problem="gone")),
    (b"garbage", Reply("n", problem="the answer is no JSON")),
    (say(said="x"), Reply("n", problem="it does not say how the program ended")),
    (say(status="0"), Reply("n", problem="it does not say how the program ended")),
    (say(status=True), Reply("n", problem="it does not say how the program ended")),
    (say(status=-9, said="x"), Reply("n", problem="signal 9 ended the program. x")),
    (say(status=143, late=True), Reply("n", problem="it took longer than 5.0 s, and was ended")),
]


@pytest.mark.parametrize(("answer", "reply"), REPLIES)
def test_what_a_node_says_of_its_program(answer, reply):
    assert read_reply("n", answer, 5.0) == reply


def test_no_more_of_an_answer_than_is_read():
    reply = read_reply("n", say(status=0) + b"x" * (MAX_ANSWER + 5), None)
    assert len(reply.output) == MAX_ANSWER


def test_settle_looks_again():
    cluster, engine, names = start(Process("a"), Process("b"))
    assert engine.settle([]) == SettleResult()
    assert cluster.settled is None
    del cluster.all["a"]
    cluster.all["new"] = Process("new", place="a")
    assert engine.settle(names) == SettleResult()
    assert cluster.settled == [("new",), ("b",)]
    del cluster.all["b"]
    settled = engine.settle(["box:/b"])
    assert "no process of box:/b" in settled.notes["box:/b"]
    assert settled.missing == {"box:/b"}

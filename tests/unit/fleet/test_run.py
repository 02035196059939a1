"""What is asked of an engine, and what is made of what it says."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import Delivery, EngineOptions, File, Node, Reply, SettleResult
from safe_install.fleet.opening import open_engine
from safe_install.fleet.run import FleetRun, NoPlan, ask_all
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.fleet.stopping import Stop
from tests.unit.fleet.simulated import RUN, new_state
from tests.unit.fleet.test_answers import document, inventory

PROGRAM = File(Path("/program.pyz"), "a" * 64)


class Engine:
    """Answers as it is told; says what it was asked."""

    name = "fake"

    def __init__(self, answer, *, undelivered=()):
        self.answer, self.undelivered, self.asked = answer, undelivered, []

    def nodes(self):
        return [Node("n0", "python")]

    def deliver(self, file, nodes):
        return [
            Delivery(node, problem="disk full")
            if node in self.undelivered
            else Delivery(node, "/p")
            for node in nodes
        ]

    def call(self, calls, on_reply, *, timeout):
        self.asked += [(call.node, call.words[0]) for call in calls]
        found = [reply for call in calls for reply in self.answer(call)]
        for reply in found:
            on_reply(reply)
        return found

    def settle(self, changed):
        return SettleResult()

    def close(self):
        pass


class EngineOfTurns(Engine):
    """Each node answers when the one before has answered."""

    def call(self, calls, on_reply, *, timeout):
        for call in calls:
            for reply in self.answer(call):
                on_reply(reply)
        return []


def said(node, found, status=0):
    return Reply(node, status, json.dumps(found).encode())


def run(engine, state, plan=lambda group: NoPlan("there is none", 10)):
    kept = []
    found = FleetRun(engine, PROGRAM, keep=kept.append, plan=plan, sleep=lambda seconds: None)
    return found.run(state), kept


def healthy(call):
    if call.words[0] == "inventory":
        return [said(call.node, inventory())]
    return [said(call.node, document(call.words[0], outcome="healthy"))]


def test_a_program_that_does_not_arrive_is_told():
    engine = Engine(healthy, undelivered=["n1"])
    state, _ = run(engine, new_state(2))
    assert state.find("n1").failure == "disk full"
    assert ("n1", "inventory") not in engine.asked


def test_answers_of_strangers_and_second_answers_are_none():
    def babble(call):
        stranger = said("nobody", inventory())
        other = said(call.node, document("inventory", exit_code=11), 11)
        return [stranger, *healthy(call), other]

    state, _ = run(Engine(babble), new_state(1))
    assert state.find("n0").facts is not None


def test_an_engine_that_forgets_a_node():
    state, _ = run(Engine(lambda call: []), new_state(1))
    assert state.find("n0").standing is Standing.SILENT


def test_no_plan_is_a_refusal_with_its_status():
    state, _ = run(Engine(healthy), new_state(1))
    found = state.find("n0")
    assert (found.standing, found.status, found.failure) == (Standing.REFUSED, 10, "there is none")


def test_an_engine_that_cannot_settle_is_told(monkeypatch):
    def answer(call):
        verb = call.words[0]
        if verb == "stage":
            found = document("stage", outcome="staged", transaction=RUN)
            return [said(call.node, found)]
        if verb == "commit":
            return [said(call.node, document("commit", outcome="installed", transaction=RUN))]
        return healthy(call)

    engine = Engine(answer)

    def settle(changed):
        raise RuntimeError("no scheduler")

    monkeypatch.setattr(engine, "settle", settle)
    bundle = File(Path("/bundle.zip"), "b" * 64)
    state, kept = run(engine, new_state(1), plan=lambda group: bundle)
    assert state.find("n0").standing is Standing.VERIFIED
    assert state.notes == ("fake: no scheduler",)
    assert state.missing == ("n0",)  # whether its processes came back is not known
    # its ID is written down before it is committed
    touched = next(one for one in kept if one.find("n0").was_touched)
    assert touched.find("n0").transaction == RUN


def of_its_own(call):
    """An environment that no other node shares."""
    return [said(call.node, inventory(place={"device": 1, "inode": int(call.node[1:])}))]


READ = Counter()  # how often something of a node was looked at


class CountedNode(NodeState):
    """Counts each look at it; what is made of it counts, too."""

    def __getattribute__(self, name):
        READ["looks"] += 1
        return super().__getattribute__(name)


def count_looks(count):
    """Of a run that is stopped behind its commits, so that every phase is in it."""

    def answer(call):
        verb = call.words[0]
        if verb == "inventory":
            return of_its_own(call)
        found = {"stage": "staged", "commit": "installed", "undo": "undone"}
        is_sick = verb == "verify" and ("n0", "commit") in engine.asked and call.node == "n0"
        if is_sick:
            return [said(call.node, document(verb, outcome="unhealthy", exit_code=1), 1)]
        told = document(verb, outcome=found.get(verb, "healthy"), transaction=RUN)
        return [said(call.node, told)]

    engine = Engine(answer)
    nodes = tuple(CountedNode(f"n{number}", "/env/bin/python") for number in range(count))
    READ.clear()
    bundle = File(Path("/bundle.zip"), "b" * 64)
    ended, _ = run(engine, FleetState(RUN, nodes), plan=lambda group: bundle)
    assert [node.standing for node in ended.nodes] == [Standing.UNDONE] * count
    return READ["looks"]


def test_four_times_the_nodes_are_four_times_the_work():
    assert count_looks(80) < 4.5 * count_looks(20)


@pytest.mark.parametrize(("cost", "most"), [(0.0, 100), (5.0, 4)])
def test_what_takes_long_to_write_is_written_less_often(cost, most, monkeypatch):
    """While nodes stage: each answer comes a second after the one before."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    kept = []

    def answer(call):
        if call.words[0] == "inventory":
            return of_its_own(call)
        if call.words[0] == "stage":
            clock[0] += 1.1
        return staging("", None)(call)

    def keep(state):
        clock[0] += cost
        kept.append([node.standing for node in state.nodes])

    bundle = File(Path("/bundle.zip"), "b" * 64)
    FleetRun(EngineOfTurns(answer), PROGRAM, keep=keep, plan=lambda group: bundle).run(
        new_state(100)
    )
    while_staging = [one for one in kept if Standing.READY in one and Standing.STAGED in one]
    assert 0 < len(while_staging) <= most
    assert len(while_staging) > 90 or cost


def test_all_are_asked():
    engine = Engine(healthy, undelivered=["n1"])
    answers = ask_all(engine, PROGRAM, ["n0", "n1"], ["verify"], timeout=None)
    assert [answers[node].problem for node in ("n0", "n1")] == ["", "disk full"]


@pytest.mark.parametrize("name", ["ansible", "dask", "ray"])
def test_a_missing_extra_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, f"safe_install.fleet.engines.{name}", None)
    with pytest.raises(EngineFailed) as caught:
        open_engine(name, "x", EngineOptions())
    assert f"pip install 'torch-safe-install[{name}]'" in caught.value.hint


# --- Ctrl-C ---------------------------------------------------------------------------------------


def staging(at, does):
    """Answers of a node that stages; at that verb something happens first."""

    def answer(call):
        verb = call.words[0]
        if verb == at:
            does()
        if verb in ("stage", "commit", "undo", "abandon"):
            ends = {"stage": "staged", "commit": "installed", "undo": "undone"}
            found = document(verb, outcome=ends.get(verb, "abandoned"), transaction=RUN)
            return [said(call.node, found)]
        return healthy(call)

    return answer


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def stop():
    told = threading.Event()
    made = Stop(told.set)
    made.told = told
    yield made
    made.release()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run_stoppable(engine, stop):
    bundle = File(Path("/bundle.zip"), "b" * 64)
    found = FleetRun(engine, PROGRAM, keep=lambda state: None, plan=lambda group: bundle, stop=stop)
    return found.run(new_state(1))


@pytest.mark.parametrize(
    ("at", "last", "standing"),
    [("stage", "abandon", Standing.ABANDONED), ("commit", "undo", Standing.UNDONE)],
)
def test_what_was_begun_is_ended_and_taken_back(stop, at, last, standing):
    engine = Engine(staging(at, interrupt))
    state = run_stoppable(engine, stop)
    assert [verb for _, verb in engine.asked][-2:] == [at, last]
    assert (state.stopped_by, state.find("n0").standing) == (signal.SIGINT, standing)
    assert stop.told.wait(10)


def test_before_anything_is_staged_it_ends_at_once(stop):
    with pytest.raises(KeyboardInterrupt):
        run_stoppable(Engine(staging("verify", interrupt)), stop)


def test_the_second_one_ends_at_once(stop):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt):
        run_stoppable(Engine(staging("stage", twice)), stop)

"""Runs the phases: asks the engine, applies the answers to the state, and writes the state to disk
before anything may change."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Union

from safe_install.fleet.answers import Answer, parse_reply
from safe_install.fleet.engine import Call, Delivery, Engine, File, Reply, SettleResult
from safe_install.fleet.groups import Group, make_groups
from safe_install.fleet.phases import (
    Kind,
    Phase,
    begin,
    end,
    fold,
    fold_delivery,
    next_phase,
    stop,
)
from safe_install.fleet.state import FleetState, NodeState, Standing
from safe_install.fleet.stopping import Stop

SAVE_INTERVAL = 1.0  # seconds between two writes of the state while nodes stage, at least
SAVE_SHARE = 20  # the interval is also at least this many times as long as one write takes
# These change nothing: a signal may end the run at once until another phase has begun.
HARMLESS = frozenset({Kind.INVENTORY, Kind.EXAMINE, Kind.PLAN, Kind.DELIVER, Kind.ASK})


@dataclass(frozen=True)
class NothingToDo:
    """The nodes of a group have what was asked for."""


@dataclass(frozen=True)
class NoPlan:
    """There is no plan for a group."""

    why: str
    status: int  # exit status


Planned = Union[File, NothingToDo, NoPlan]
# Makes the bundle of a group. Errors: those that end the whole command.
Plan = Callable[[Group], Planned]


class Watcher:
    """Receives the events of a run; by default they are ignored."""

    def phase_begun(self, phase: Phase) -> None:
        """A phase begins."""

    def node_answered(self, node: NodeState, phase: Phase) -> None:
        """A node has answered. `node`: its new state."""

    def phase_ended(self, state: FleetState, phase: Phase) -> None:
        """All nodes of a phase have answered."""

    def group_planned(self, group: Group, planned: Planned) -> None:
        """The plan of a group is known."""


class FleetRun:
    """One run of phases on the nodes of an engine."""

    def __init__(
        self,
        engine: Engine,
        program: File,
        *,
        keep: Callable[[FleetState], None],
        plan: Optional[Plan] = None,
        watcher: Optional[Watcher] = None,
        timeout: Optional[float] = None,
        sleep: Callable[[float], None] = time.sleep,
        stop: Optional[Stop] = None,
    ) -> None:
        """`keep`: writes the state to disk, durably. `plan`: None if nothing is installed.
        `timeout`: seconds for each call. `stop`: holds signals back; one that comes after something
        was staged undoes the change on all nodes, and one that comes during an undo ends it after
        the current phase."""
        self._engine, self._program, self._keep = engine, program, keep
        self._plan, self._watcher = plan, watcher or Watcher()
        self._timeout, self._sleep, self._stop = timeout, sleep, stop
        self._next_save = 0.0  # by `time.monotonic`
        self._programs: Dict[str, str] = {}  # node -> the path of the program there
        self._problems: Dict[str, str] = {}  # node -> why it does not have the program
        self._bundles: Dict[str, File] = {}  # node -> its bundle

    def run(self, state: FleetState) -> FleetState:
        """The state at the end. Errors: EngineFailed, and those of `plan` and `keep`."""
        while True:
            state = self._apply_signal(state)
            phase = next_phase(state)
            if self._stop is not None and phase.kind not in HARMLESS:
                self._stop.hold()
            if phase.kind is Kind.DONE:
                self._save(state)
                return state
            state = begin(state, phase)
            self._save(state)
            self._watcher.phase_begun(phase)
            state = end(self._run_phase(state, phase), phase)
            self._watcher.phase_ended(state, phase)

    def _apply_signal(self, state: FleetState) -> FleetState:
        number = self._stop.pending if self._stop is not None else None
        return state if number is None else stop(state, number)

    def _run_phase(self, state: FleetState, phase: Phase) -> FleetState:
        if phase.pause:
            self._sleep(phase.pause)
        if phase.kind is Kind.PLAN:
            return self._make_plans(state)
        if phase.kind is Kind.DELIVER:
            return self._deliver(state, phase)
        if phase.kind is Kind.SETTLE:
            return self._settle(state, phase.nodes)
        return self._ask(state, phase)

    def _settle(self, state: FleetState, nodes: Sequence[str]) -> FleetState:
        """The change is committed already, so an error of the engine becomes a note."""
        try:
            result = self._engine.settle(nodes)
        except Exception as error:  # noqa: BLE001 - of whichever engine
            result = SettleResult({self._engine.name: str(error)}, frozenset(nodes))
        notes = tuple(f"{name}: {result.notes[name]}" for name in sorted(result.notes))
        missing = tuple(sorted(result.missing))
        return replace(state, is_settled=True, notes=notes, missing=missing)

    # --- calls ---

    def _deliver_program(self, nodes: Sequence[str]) -> None:
        """Send the program to the nodes that do not have it yet."""
        lacking = [node for node in nodes if node not in self._programs]
        if not lacking:
            return
        for delivery in self._engine.deliver(self._program, lacking):
            if delivery.path and not delivery.problem:
                self._programs[delivery.node] = delivery.path
            else:
                self._problems[delivery.node] = delivery.problem

    def _ask(self, state: FleetState, phase: Phase) -> FleetState:
        pending = {ask.node: ask for ask in phase.asks}
        self._deliver_program(list(pending))
        answered: List[NodeState] = []

        def on_reply(reply: Reply) -> None:
            ask = pending.pop(reply.node, None)
            if ask is None:  # a second reply, or one of a node that was not asked
                return
            answer = parse_reply(reply, ask.words[0], ask.identifier)
            node = fold(state, phase.kind, answer)
            answered.append(node)
            self._watcher.node_answered(node, phase)
            # With its ID a staged change can be abandoned, also after a kill of this process.
            if phase.kind is Kind.STAGE and time.monotonic() > self._next_save:
                self._save(state.with_nodes(answered))

        calls: List[Call] = []
        for ask in phase.asks:
            program = self._programs.get(ask.node)
            if program is None:
                on_reply(Reply(ask.node, problem=self._problems.get(ask.node, "")))
            else:
                calls.append(Call(ask.node, program, ask.words))
        if calls:
            for reply in self._engine.call(calls, on_reply, timeout=self._timeout):
                on_reply(reply)  # for an engine that did not call it
        for node_name in list(pending):
            on_reply(Reply(node_name))
        return state.with_nodes(answered)

    def _save(self, state: FleetState) -> None:
        begun = time.monotonic()
        self._keep(state)
        ended = time.monotonic()
        self._next_save = ended + max(SAVE_INTERVAL, SAVE_SHARE * (ended - begun))

    # --- plans and files ---

    def _make_plans(self, state: FleetState) -> FleetState:
        """Make one bundle for each group of nodes. Followers are in the groups, too, because one
        may turn out to have an environment of its own."""
        waiting = (Standing.EXAMINED, Standing.FOLLOWING)
        nodes = [node for node in state.nodes if node.standing in waiting]
        if self._plan is None:
            return state.with_nodes(
                _with_plan(node, NothingToDo(), needs_bundle=False) for node in nodes
            )
        found: List[NodeState] = []
        for group in make_groups(nodes):
            planned = self._plan(group)
            self._watcher.group_planned(group, planned)
            for name in group.nodes:
                if isinstance(planned, File):
                    self._bundles[name] = planned
                found.append(_with_plan(state.find(name), planned))
        return state.with_nodes(found)

    def _deliver(self, state: FleetState, phase: Phase) -> FleetState:
        """Send each bundle to its nodes."""
        nodes = [state.find(name) for name in phase.nodes]
        if not state.needs_bundle:
            return state.with_nodes(replace(node, standing=Standing.READY) for node in nodes)
        by_file: Dict[File, List[NodeState]] = {}
        for node in nodes:
            by_file.setdefault(self._bundles[node.name], []).append(node)
        delivered: List[NodeState] = []
        for file, waiting in by_file.items():
            names = [node.name for node in waiting]
            deliveries = {one.node: one for one in self._engine.deliver(file, names)}
            for node in waiting:
                node = fold_delivery(node, deliveries.get(node.name) or Delivery(node.name))
                delivered.append(node)
                self._watcher.node_answered(node, phase)
        return state.with_nodes(delivered)


def _with_plan(node: NodeState, planned: Planned, *, needs_bundle: bool = True) -> NodeState:
    """The node when its plan is known. A follower stays one."""
    if isinstance(planned, NoPlan):
        return replace(node, standing=Standing.REFUSED, failure=planned.why, status=planned.status)
    if node.standing is Standing.FOLLOWING:
        return node
    if needs_bundle and isinstance(planned, NothingToDo):
        return replace(node, standing=Standing.UNCHANGED)
    return replace(node, standing=Standing.PLANNED)


def ask_all(
    engine: Engine,
    program: File,
    nodes: Sequence[str],
    words: Sequence[str],
    *,
    timeout: Optional[float],
) -> Mapping[str, Answer]:
    """Run one verb that changes nothing on all nodes. Node -> its answer."""
    replies: Dict[str, Reply] = {}
    calls: List[Call] = []
    for delivery in engine.deliver(program, nodes):
        if delivery.path and not delivery.problem:
            calls.append(Call(delivery.node, delivery.path, tuple(words)))
        else:
            replies[delivery.node] = Reply(delivery.node, problem=delivery.problem)
    if calls:
        for reply in engine.call(calls, lambda reply: None, timeout=timeout):
            replies.setdefault(reply.node, reply)
    return {node: parse_reply(replies.get(node) or Reply(node), words[0]) for node in nodes}

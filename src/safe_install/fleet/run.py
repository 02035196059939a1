"""Carries the phases out: asks the engine, folds the answers in, and writes down where it stands
before anything may change."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Union

from safe_install.fleet.answers import Answer, parse_reply
from safe_install.fleet.engine import Call, Delivery, Engine, File, Reply, Settled
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

KEPT_EVERY = 1.0  # seconds, while nodes stage
KEPT_SHARE = 20  # times what writing takes, at least: of many nodes there is much to write
# These change nothing; as long as a run has done nothing else, it can end at once.
HARMLESS = frozenset({Kind.INVENTORY, Kind.EXAMINE, Kind.PLAN, Kind.DELIVER, Kind.ASK})


@dataclass(frozen=True)
class NothingToDo:
    """A group has what was asked for."""


@dataclass(frozen=True)
class NoPlan:
    """What was asked for cannot be had for a group."""

    why: str
    status: int  # exit status


Planned = Union[File, NothingToDo, NoPlan]
# Makes the bundle of a group. Errors: those that end the whole command.
Plan = Callable[[Group], Planned]


class Watcher:
    """Is told what happens; each is empty by default."""

    def phase_begun(self, phase: Phase) -> None:
        """Its nodes are asked from now on."""

    def node_answered(self, node: NodeState, phase: Phase) -> None:
        """One of them has answered: it is as its answer says."""

    def phase_ended(self, state: FleetState, phase: Phase) -> None:
        """All have."""

    def group_planned(self, group: Group, planned: Planned) -> None:
        """It is known what a group gets."""


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
        """`keep`: writes the state down, durably. `plan`: None where nothing is installed.
        `timeout`: seconds for each call. `stop`: a signal that comes once something is staged takes
        all back; one that comes while all is taken back ends that when the nodes have answered."""
        self._engine, self._program, self._keep = engine, program, keep
        self._plan, self._watcher = plan, watcher or Watcher()
        self._timeout, self._sleep, self._stop = timeout, sleep, stop
        self._keep_again = 0.0  # by the clock of `monotonic`
        self._programs: Dict[str, str] = {}  # node -> where the program lies there
        self._problems: Dict[str, str] = {}  # node -> why it does not
        self._bundles: Dict[str, File] = {}

    def run(self, state: FleetState) -> FleetState:
        """The state at the end. Errors: EngineFailed, and those of `plan` and `keep`."""
        while True:
            state = self._heed_signal(state)
            phase = next_phase(state)
            if self._stop is not None and phase.kind not in HARMLESS:
                self._stop.hold()
            if phase.kind is Kind.DONE:
                self._write(state)
                return state
            state = begin(state, phase)
            self._write(state)
            self._watcher.phase_begun(phase)
            state = end(self._carry_out(state, phase), phase)
            self._watcher.phase_ended(state, phase)

    def _heed_signal(self, state: FleetState) -> FleetState:
        number = self._stop.pending if self._stop is not None else None
        return state if number is None else stop(state, number)

    def _carry_out(self, state: FleetState, phase: Phase) -> FleetState:
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
        """The change is made and kept, whatever the engine cannot do."""
        try:
            settled = self._engine.settle(nodes)
        except Exception as error:  # noqa: BLE001 - of whichever engine
            settled = Settled({self._engine.name: str(error)}, frozenset(nodes))
        notes = tuple(f"{name}: {settled.notes[name]}" for name in sorted(settled.notes))
        missing = tuple(sorted(settled.missing))
        return replace(state, is_settled=True, notes=notes, missing=missing)

    # --- calls ---

    def _bring_program(self, nodes: Sequence[str]) -> None:
        """The program to nodes that were not asked before."""
        fresh = [node for node in nodes if node not in self._programs]
        if not fresh:
            return
        for delivery in self._engine.deliver(self._program, fresh):
            if delivery.path and not delivery.problem:
                self._programs[delivery.node] = delivery.path
            else:
                self._problems[delivery.node] = delivery.problem

    def _ask(self, state: FleetState, phase: Phase) -> FleetState:
        asks = {ask.node: ask for ask in phase.asks}
        self._bring_program(list(asks))
        answered: List[NodeState] = []

        def hear(reply: Reply) -> None:
            ask = asks.pop(reply.node, None)  # a second answer, or one of a stranger, is none
            if ask is None:
                return
            answer = parse_reply(reply, ask.words[0], ask.identifier)
            node = fold(state, phase.kind, answer)
            answered.append(node)
            self._watcher.node_answered(node, phase)
            # Whoever knows its ID can drop what is staged.
            if phase.kind is Kind.STAGE and time.monotonic() > self._keep_again:
                self._write(state.with_nodes(answered))

        calls: List[Call] = []
        for ask in phase.asks:
            program = self._programs.get(ask.node)
            if program is None:
                hear(Reply(ask.node, problem=self._problems.get(ask.node, "")))
            else:
                calls.append(Call(ask.node, program, ask.words))
        if calls:
            for reply in self._engine.call(calls, hear, timeout=self._timeout):
                hear(reply)  # those that were not told on the way
        for node in list(asks):
            hear(Reply(node))
        return state.with_nodes(answered)

    def _write(self, state: FleetState) -> None:
        begun = time.monotonic()
        self._keep(state)
        ended = time.monotonic()
        self._keep_again = ended + max(KEPT_EVERY, KEPT_SHARE * (ended - begun))

    # --- plans and files ---

    def _make_plans(self, state: FleetState) -> FleetState:
        """One bundle for each group of nodes; nodes that may turn out to stand alone count."""
        waiting = (Standing.EXAMINED, Standing.FOLLOWING)
        nodes = [node for node in state.nodes if node.standing in waiting]
        if self._plan is None:
            return state.with_nodes(
                _planned(node, NothingToDo(), needs_bundle=False) for node in nodes
            )
        found: List[NodeState] = []
        for group in make_groups(nodes):
            planned = self._plan(group)
            self._watcher.group_planned(group, planned)
            for name in group.nodes:
                if isinstance(planned, File):
                    self._bundles[name] = planned
                found.append(_planned(state.find(name), planned))
        return state.with_nodes(found)

    def _deliver(self, state: FleetState, phase: Phase) -> FleetState:
        """A bundle that a node has is not sent again: the engine compares its hash."""
        nodes = [state.find(name) for name in phase.nodes]
        if not state.needs_bundle:
            return state.with_nodes(replace(node, standing=Standing.READY) for node in nodes)
        by_file: Dict[File, List[NodeState]] = {}
        for node in nodes:
            by_file.setdefault(self._bundles[node.name], []).append(node)
        delivered: List[NodeState] = []
        for file, waiting in by_file.items():
            names = [node.name for node in waiting]
            told = {one.node: one for one in self._engine.deliver(file, names)}
            for node in waiting:
                node = fold_delivery(node, told.get(node.name) or Delivery(node.name))
                delivered.append(node)
                self._watcher.node_answered(node, phase)
        return state.with_nodes(delivered)


def _planned(node: NodeState, planned: Planned, *, needs_bundle: bool = True) -> NodeState:
    """A node once it is known what it gets; a follower goes on following."""
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
    """One verb that changes nothing, on all nodes: their answers by name."""
    answers: Dict[str, Answer] = {}
    calls: List[Call] = []
    for delivery in engine.deliver(program, nodes):
        if delivery.path and not delivery.problem:
            calls.append(Call(delivery.node, delivery.path, tuple(words)))
        else:
            answers[delivery.node] = parse_reply(
                Reply(delivery.node, problem=delivery.problem), words[0]
            )
    if calls:
        for reply in engine.call(calls, lambda reply: None, timeout=timeout):
            answers.setdefault(reply.node, parse_reply(reply, words[0]))
    return {node: answers.get(node) or parse_reply(Reply(node), words[0]) for node in nodes}

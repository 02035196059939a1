"""Nodes that behave as a test says, and what really became of each: the phases are held against it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from safe_install.fleet.answers import Answer, NodeFacts, StepFacts
from safe_install.fleet.engine import Delivery
from safe_install.fleet.phases import Kind, begin, end, fold, fold_delivery, next_phase, stop
from safe_install.fleet.state import FleetState, NodeState, Standing

RUN = "20261130T010203Z-abcdef"
IDENTIFIER = "20261130T010204Z-{:06x}"
MOST_PHASES = 200


def facts_of(place, **values):
    found = NodeFacts(
        "host", "3.11.7", "/env", "linux_x86_64", ("glibc", "2.36"), None, None, {}, "0" * 64, "",
        place,
    )  # fmt: skip
    return replace(found, **values)


def new_state(count, **values):
    nodes = tuple(NodeState(f"n{number}", "/env/bin/python") for number in range(count))
    return FleetState(RUN, nodes, **values)


@dataclass
class Environment:
    """What lies on the disk of one environment."""

    state: str = "none"  # as `status` calls it
    identifier: str = ""


@dataclass
class Machines:
    """Nodes with environments; `behaviour(node, verb)` says what the next call does:

    "ok"; "lost": done, and the answer is lost; "dead": not done, and no answer; "locked"; "refused";
    "broken": a commit is rolled back, a verify is unhealthy; "satisfied": nothing to stage;
    "failed": status 1, and nothing was done; "stuck": status 13.
    """

    places: dict  # node -> the number of its environment
    behaviour: object
    seems: dict = field(default_factory=dict)  # the numbers that `inventory` says, where others
    environments: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)
    settled: list = field(default_factory=list)
    kept: list = field(default_factory=list)

    def environment(self, node):
        return self.environments.setdefault(self.places[node], Environment())

    def run(self, state, *, stop_after=None, stopped_after=None):
        """The state at the end. `stop_after`: the controller is killed after so many calls.
        `stopped_after`: Ctrl-C comes during this phase."""
        for _ in range(MOST_PHASES):
            phase = next_phase(state)
            if phase.kind is Kind.DONE:
                self.kept.append(state)
                return state
            state = begin(state, phase)
            self.kept.append(state)
            state = self.carry_out(state, phase, stop_after)
            if state is None:
                return None
            state = end(state, phase)
            if phase.kind is stopped_after:
                state = stop(state, 2)
        raise AssertionError("it does not end")

    def carry_out(self, state, phase, stop_after):
        if phase.kind is Kind.PLAN:
            examined = [node for node in state.nodes if node.standing is Standing.EXAMINED]
            return state.with_nodes(replace(node, standing=Standing.PLANNED) for node in examined)
        if phase.kind is Kind.DELIVER:
            delivered = []
            for name in phase.nodes:
                is_there = self.behaviour(name, "deliver") == "ok"
                told = Delivery(name, "/b.zip") if is_there else Delivery(name, problem="no room")
                delivered.append(fold_delivery(state.find(name), told))
            return state.with_nodes(delivered)
        if phase.kind is Kind.SETTLE:
            self.settled.append(phase.nodes)
            return replace(state, is_settled=True)
        answered = []
        for ask in phase.asks:
            if stop_after is not None and len(self.calls) >= stop_after:
                return None
            answered.append(fold(state, phase.kind, self.answer(ask)))
            if phase.kind is Kind.STAGE:
                self.kept.append(state.with_nodes(answered))
        return state.with_nodes(answered)

    def answer(self, ask):
        verb = ask.words[0]
        self.calls.append((ask.node, verb))
        does = self.behaviour(ask.node, verb)
        if does == "dead":
            return Answer(ask.node, problem="no answer")
        if does == "locked":
            return Answer(ask.node, status=14, outcome="error", message="locked")
        if does == "failed":
            return Answer(ask.node, status=1, outcome="error", message="failed")
        told = getattr(self, f"do_{verb}")(ask, does)
        return Answer(ask.node, problem="no answer") if does == "lost" else told

    def do_inventory(self, ask, does):
        place = (1, self.seems.get(ask.node, self.places[ask.node]))
        return Answer(ask.node, outcome="listed", facts=facts_of(place))

    def do_verify(self, ask, does):
        if does in ("broken", "refused"):
            errors = frozenset({("import-failed", "torch")})
            return Answer(ask.node, status=1, outcome="unhealthy", errors=errors)
        return Answer(ask.node, outcome="healthy")

    def do_stage(self, ask, does):
        environment = self.environment(ask.node)
        if does == "refused":
            return Answer(ask.node, status=11, outcome="refused", message="it does not fit")
        if does == "satisfied":
            return Answer(ask.node, outcome="already-satisfied")
        if environment.state == "none":
            environment.identifier = IDENTIFIER.format(self.places[ask.node] + 1)
            environment.state = "staged"
        identifier = environment.identifier
        steps = (StepFacts("alpha", "", "1"),)
        return Answer(ask.node, outcome="staged", transaction=identifier, steps=steps)

    def do_commit(self, ask, does):
        environment = self.environment(ask.node)
        assert ask.words[1] == environment.identifier
        if does == "refused" and environment.state == "staged":
            return Answer(ask.node, status=11, outcome="refused", message="it moved")
        if does == "broken" and environment.state == "staged":
            environment.state = "rolled-back"
        if does == "stuck" and environment.state == "staged":
            environment.state = "interrupted"
            return Answer(ask.node, status=13, outcome="rollback-failed", message="stuck")
        if environment.state == "staged":
            environment.state = "committed"
        if environment.state == "committed":
            return Answer(ask.node, outcome="installed", transaction=environment.identifier)
        return Answer(ask.node, status=12, outcome="rolled-back", state=environment.state)

    def do_status(self, ask, does):
        environment = self.environment(ask.node)
        if does == "committing":
            return Answer(ask.node, outcome="listed", state="committing")
        is_known = environment.identifier == ask.words[1]
        return Answer(
            ask.node, outcome="listed", state=environment.state if is_known else "unknown"
        )

    def do_undo(self, ask, does):
        environment = self.environment(ask.node)
        if does in ("refused", "broken") and environment.state == "committed":
            return Answer(ask.node, status=11, outcome="refused", message="needed by beta")
        if environment.state == "committed":
            environment.state = "undone"
        return Answer(ask.node, outcome="undone")

    def do_abandon(self, ask, does):
        environment = self.environment(ask.node)
        if environment.state == "committed":
            return Answer(ask.node, status=11, outcome="refused", message="it is committed")
        environment.state = "abandoned"
        return Answer(ask.node, outcome="abandoned")

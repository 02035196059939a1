"""The phases of a change on all nodes or none: which comes next, and what the answers mean. Pure.

All nodes of a phase are asked at the same time; the next phase is chosen when all have answered:

    inventory, examine, plan, deliver, stage, confirm | commit (canary), verify | commit, verify | settle
                                                      | too many failed: ask, undo, abandon     | settle

A signal in between has the effect of too many failures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from safe_install.fleet.answers import NO_ANSWER, Answer
from safe_install.fleet.engine import Delivery
from safe_install.fleet.groups import share_environments
from safe_install.fleet.state import IN_PLACE, FleetState, Intent, NodeState, Standing

LOCKED = 14  # exit status: another safe-install holds the environment, and nothing was done
MAX_TRIES = 3  # for a node that does not answer
MAX_WAITS = 6  # for a node on which another command still runs
PAUSES = (0.0, 1.0, 4.0, 10.0, 20.0, 30.0)  # seconds before the first try, the second ...


class Kind(Enum):
    """The kind of a phase. The value is shown to people."""

    INVENTORY = "inventory"
    EXAMINE = "check before"
    PLAN = "plan"
    DELIVER = "deliver"
    STAGE = "stage"
    CONFIRM = "confirm what is shared"
    CANARY = "commit canary"
    COMMIT = "commit"
    VERIFY = "verify"
    ASK = "ask what became of it"
    UNDO = "undo"
    ABANDON = "abandon"
    SETTLE = "settle"
    DONE = "done"


@dataclass(frozen=True)
class Ask:
    """A verb for one node."""

    node: str
    words: Tuple[str, ...]
    identifier: str = ""  # of the change that it is about


@dataclass(frozen=True)
class Phase:
    """What to do next. PLAN, DELIVER and SETTLE have `nodes` and no `asks`."""

    kind: Kind
    asks: Tuple[Ask, ...] = ()
    nodes: Tuple[str, ...] = ()  # names
    pause: float = 0.0  # seconds to wait before it


# --- the next phase -------------------------------------------------------------------------------


def next_phase(state: FleetState) -> Phase:
    """What to do next. Only `begin`, `end`, `stop` and the answers change the state."""
    if state.intent is not Intent.CHANGE:
        return _next_of_old_run(state)
    early = _next_before_plan(state)
    if early is not None:
        return early
    if state.must_roll_back:
        return _take_back(state)
    return _next_forward(state)


def begin(state: FleetState, phase: Phase) -> FleetState:
    """The state when a phase begins. It is written to disk before any call is made, so that it is
    known after a kill of the controller which nodes may have been asked."""
    if phase.kind not in (Kind.CANARY, Kind.COMMIT):
        return state
    asked = [state.find(ask.node) for ask in phase.asks]
    return state.with_nodes(replace(node, was_touched=True) for node in asked)


def stop(state: FleetState, signal_number: int) -> FleetState:
    """The state after a signal. After the last change has settled, a signal has no effect."""
    if state.is_settled:
        return state
    return replace(state, stopped_by=signal_number)


def _next_before_plan(state: FleetState) -> Optional[Phase]:
    new = state.nodes_in(Standing.NEW)
    if new:
        return _phase(Kind.INVENTORY, new, lambda node: ("inventory",))
    known = state.nodes_in(Standing.KNOWN)
    if known:
        return _phase(Kind.EXAMINE, known, lambda node: ("verify", *state.verify_words))
    return None


def _next_forward(state: FleetState) -> Phase:
    """The next phase of a change that is not undone."""
    examined = state.nodes_in(Standing.EXAMINED)
    if examined:
        return Phase(Kind.PLAN, nodes=_names(examined))
    if state.only_plans:
        return Phase(Kind.DONE)
    planned = state.nodes_in(Standing.PLANNED)
    if planned:
        return Phase(Kind.DELIVER, nodes=_names(planned))
    ready = state.nodes_in(Standing.READY)
    if ready:
        return _phase(Kind.STAGE, ready, lambda node: _stage_words(state, node))
    unconfirmed = _unconfirmed_followers(state)
    if unconfirmed:
        return _confirm(state, unconfirmed)
    lost = state.nodes_in(Standing.LOST)
    if lost:
        return _ask(lost)
    # Nothing is committed before every node has staged.
    return _next_commit(state) or _clear_up(state)


def _next_commit(state: FleetState) -> Optional[Phase]:
    staged = [node for node in state.nodes_in(Standing.STAGED) if not node.has_failed]
    committed = state.nodes_in(Standing.COMMITTED)
    verified = [node for node in state.nodes_in(Standing.VERIFIED) if not node.leader]
    missing = state.canary - len(committed) - len(verified)
    if staged and missing > 0:
        return _commit(state, Kind.CANARY, staged[:missing])
    if staged and not (committed and state.canary):
        return _commit(state, Kind.COMMIT, staged)
    unverified = [*committed, *_unverified_followers(state)]
    if unverified:
        return _phase(Kind.VERIFY, unverified, lambda node: ("verify", *state.verify_words))
    return None


def _clear_up(state: FleetState) -> Phase:
    """Undo the change on nodes that are worse if their number is tolerated; then the run is
    over."""
    # An environment is worse where one of the nodes that share it says so.
    worse = {node.leader or node.name for node in state.nodes_in(Standing.SICK)}
    return _undo_and_abandon(state, [node for node in _changed_nodes(state) if node.name in worse])


def _take_back(state: FleetState) -> Phase:
    """Undo every change that is in place, and abandon every staged one."""
    lost = state.nodes_in(Standing.LOST)
    if lost:
        return _ask(lost)
    return _undo_and_abandon(state, _changed_nodes(state))


def _changed_nodes(state: FleetState) -> List[NodeState]:
    return [node for node in _leaders(state) if node.standing in IN_PLACE]


def _undo_and_abandon(state: FleetState, changed: Sequence[NodeState]) -> Phase:
    """First undo these nodes, then abandon what is staged, then settle."""
    if changed:
        return _undo(state, changed)
    staged = state.nodes_in(Standing.STAGED)
    if staged:
        return _abandon(staged)
    return _settle(state)


def _next_of_old_run(state: FleetState) -> Phase:
    """The next phase for a run that has ended, or whose controller was killed. A signal ends it
    here; the next `undo` does the rest."""
    is_left = any(node.standing in LEFT_TO_UNDO for node in _leaders(state))
    if state.stopped_by and is_left:
        return Phase(Kind.DONE)
    lost = state.nodes_in(Standing.LOST)
    if lost:
        return _ask(lost)
    if state.intent is Intent.LOOK:
        return Phase(Kind.DONE)
    return _take_back(state)


def _settle(state: FleetState) -> Phase:
    touched = [node.name for node in state.nodes if _was_touched(state, node)]
    if touched and not state.is_settled:
        return Phase(Kind.SETTLE, nodes=tuple(touched))
    return Phase(Kind.DONE)


def _was_touched(state: FleetState, node: NodeState) -> bool:
    leader = state.leader_of(node)
    return leader.was_touched and leader.standing not in (Standing.LOST, Standing.UNKNOWN)


def end(state: FleetState, phase: Phase) -> FleetState:
    """The state after all nodes of a phase have answered."""
    if phase.kind is Kind.INVENTORY:
        return share_environments(state)
    if phase.kind is Kind.STAGE:
        following = state.nodes_in(Standing.FOLLOWING)
        left = [node for node in following if _has_unchanged_leader(state, node)]
        return state.with_nodes(_without_leader(node) for node in left)
    return state


def _has_unchanged_leader(state: FleetState, node: NodeState) -> bool:
    return state.leader_of(node).standing is Standing.UNCHANGED


LEFT_TO_UNDO = frozenset({*IN_PLACE, Standing.STAGED, Standing.LOST})
MAY_HAVE_CHANGE = frozenset({*LEFT_TO_UNDO, Standing.STUCK, Standing.UNKNOWN})


def revive(state: FleetState, intent: Intent) -> FleetState:
    """The state of an earlier run, to report or undo it: nodes that may have its change staged or
    in place are asked first."""
    nodes = []
    for node in state.nodes:
        is_open = bool(node.transaction) and node.standing in MAY_HAVE_CHANGE
        if is_open and not node.leader:
            node = replace(node, standing=Standing.LOST, failure="", status=0)
        elif intent is Intent.UNDO:
            node = replace(node, failure="", status=0)
        nodes.append(node)
    # An undo has to undo all, whatever number of failures the run tolerated.
    tolerated = 0 if intent is Intent.UNDO else state.tolerated
    was_kept = state.is_settled and not state.must_roll_back
    return replace(
        state,
        nodes=tuple(nodes),
        intent=intent,
        is_settled=False,
        tolerated=tolerated,
        was_kept=was_kept,
        stopped_by=0,
    )


def _without_leader(node: NodeState) -> NodeState:
    """A node that seemed to share an environment, and is changed by itself."""
    return replace(node, standing=Standing.PLANNED, leader="")


def _leaders(state: FleetState) -> List[NodeState]:
    return [node for node in state.nodes if not node.leader]


def _unconfirmed_followers(state: FleetState) -> List[NodeState]:
    """The followers of staged leaders of which it is not yet certain that they share the
    environment."""
    waiting = [node for node in state.nodes_in(Standing.FOLLOWING) if not node.is_confirmed]
    return [node for node in waiting if state.leader_of(node).standing is Standing.STAGED]


def _unverified_followers(state: FleetState) -> List[NodeState]:
    """The followers whose environment is changed, and which have not verified it."""
    waiting = state.nodes_in(Standing.FOLLOWING)
    return [node for node in waiting if state.leader_of(node).standing in IN_PLACE]


def _names(nodes: Sequence[NodeState]) -> Tuple[str, ...]:
    return tuple(node.name for node in nodes)


def _phase(
    kind: Kind, nodes: Sequence[NodeState], words: Callable[[NodeState], Tuple[str, ...]]
) -> Phase:
    asks = tuple(Ask(node.name, words(node), node.transaction) for node in nodes)
    tries = max(node.tries for node in nodes)
    return Phase(kind, asks, _names(nodes), PAUSES[min(tries, len(PAUSES) - 1)])


def _stage_words(state: FleetState, node: NodeState) -> Tuple[str, ...]:
    bundle = ("--bundle", node.bundle) if state.needs_bundle else ()
    # With --run, two runs that stage the same have two changes; neither can undo the other's.
    return ("stage", *bundle, "--run", state.run, *state.stage_words)


def _commit(state: FleetState, kind: Kind, nodes: Sequence[NodeState]) -> Phase:
    return _phase(kind, nodes, lambda node: ("commit", node.transaction, *state.commit_words))


def _undo(state: FleetState, nodes: Sequence[NodeState]) -> Phase:
    return _phase(Kind.UNDO, nodes, lambda node: ("undo", node.transaction, *state.commit_words))


def _abandon(nodes: Sequence[NodeState]) -> Phase:
    return _phase(Kind.ABANDON, nodes, lambda node: ("abandon", node.transaction))


def _confirm(state: FleetState, nodes: Sequence[NodeState]) -> Phase:
    asks = []
    for node in nodes:
        identifier = state.leader_of(node).transaction
        asks.append(Ask(node.name, ("status", identifier), identifier))
    tries = max(node.tries for node in nodes)
    return Phase(Kind.CONFIRM, tuple(asks), _names(nodes), PAUSES[min(tries, len(PAUSES) - 1)])


def _ask(nodes: Sequence[NodeState]) -> Phase:
    return _phase(Kind.ASK, nodes, lambda node: ("status", node.transaction))


# --- what an answer means -------------------------------------------------------------------------


def fold(state: FleetState, kind: Kind, answer: Answer) -> NodeState:
    """The node after its answer. `state`: before the phase; `kind`: of the phase."""
    node = state.find(answer.node)
    changed = _FOLDS[kind](node, answer)
    is_forward = state.intent is Intent.CHANGE and not state.must_roll_back
    if is_forward and kind is Kind.ASK and changed.standing in GONE:
        changed = _fail(changed, changed.standing, f"its change is {answer.state}", 12)
    if changed.standing is not node.standing:
        changed = replace(changed, tries=0)
    return changed


def fold_delivery(node: NodeState, delivery: Delivery) -> NodeState:
    """The node after the delivery of its bundle."""
    if delivery.problem or not delivery.path:
        return _fail(node, Standing.SILENT, delivery.problem or NO_ANSWER)
    return replace(node, standing=Standing.READY, bundle=delivery.path)


def _fail(node: NodeState, standing: Standing, why: str, status: int = 1) -> NodeState:
    """The node as failed. Its first failure is kept."""
    if node.has_failed:
        return replace(node, standing=standing)
    return replace(node, standing=standing, failure=why, status=status)


def _retry(node: NodeState, standing: Standing, why: str, status: int = 1) -> NodeState:
    """Nothing was done on the node: it is asked again, and fails after the last try."""
    most = MAX_WAITS if status == LOCKED else MAX_TRIES
    if node.tries + 1 < most:
        return replace(node, tries=node.tries + 1)
    return _fail(node, standing, why, status)


def _mark_lost(node: NodeState, why: str) -> NodeState:
    """It is not known what the node did: it is asked; after the last try it stays unknown."""
    if node.losses < MAX_TRIES:
        return replace(node, standing=Standing.LOST, losses=node.losses + 1)
    return _fail(node, Standing.UNKNOWN, why, 13)


def _why_failed(answer: Answer) -> str:
    return answer.problem or answer.message or f"exit status {answer.status} ({answer.outcome})"


def _fold_inventory(node: NodeState, answer: Answer) -> NodeState:
    if answer.facts is None:
        return _fail_early(node, answer)
    return replace(node, standing=Standing.KNOWN, facts=answer.facts)


def _fail_early(node: NodeState, answer: Answer) -> NodeState:
    """Too little is known of the node: it may share the environment of another node."""
    return _fail(node, Standing.SILENT, _why_failed(answer), answer.status or 1)


def _fold_examine(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem or answer.status not in (0, 1):
        return _fail_early(node, answer)
    next_standing = Standing.FOLLOWING if node.leader else Standing.EXAMINED
    is_healthy = answer.status == 0
    return replace(node, standing=next_standing, errors=answer.errors, was_healthy=is_healthy)


def _fold_stage(node: NodeState, answer: Answer) -> NodeState:
    """Staging changes nothing in the environment, so a lost call is repeated."""
    if answer.problem:
        return _retry(node, Standing.SILENT, answer.problem)
    if answer.status == LOCKED:
        return _retry(node, Standing.REFUSED, _why_failed(answer), LOCKED)
    if answer.status == 0 and answer.outcome == "already-satisfied":
        return replace(node, standing=Standing.UNCHANGED)
    if answer.status == 0 and answer.outcome == "staged" and answer.transaction:
        identifier, steps = answer.transaction, answer.steps
        return replace(node, standing=Standing.STAGED, transaction=identifier, steps=steps)
    return _fail(node, Standing.REFUSED, _why_failed(answer), answer.status or 1)


def _fold_commit(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem:
        return _mark_lost(node, _why_failed(answer))
    if answer.status == 0:
        return replace(node, standing=Standing.COMMITTED)
    if answer.status == LOCKED:
        return _retry(node, node.standing, _why_failed(answer), LOCKED)
    if answer.status == 12 and answer.state != "committed":
        return _fail(node, Standing.ROLLED_BACK, _why_failed(answer), 12)
    if answer.status == 11:
        return _fail(
            node, Standing.STAGED, _why_failed(answer), 11
        )  # a refused commit stays staged
    if answer.status == 13:
        return _fail(node, Standing.UNKNOWN, _why_failed(answer), 13)
    return _mark_lost(node, _why_failed(answer))


def _fold_verify(node: NodeState, answer: Answer) -> NodeState:
    """Only errors that were not there before count. A node without an answer counts as worse."""
    if answer.problem or answer.status not in (0, 1):
        return _fail(node, Standing.SICK, _why_failed(answer), 12)
    new_errors = answer.errors - node.errors
    if answer.status == 1 and (node.was_healthy or new_errors):
        return _fail(node, Standing.SICK, _why_failed(answer), 12)
    return replace(node, standing=Standing.VERIFIED)


def _fold_confirm(node: NodeState, answer: Answer) -> NodeState:
    """A node that knows the change which its leader staged shares the environment."""
    if answer.problem:
        return _retry(node, Standing.SILENT, answer.problem)
    if answer.state in STATES:
        return replace(node, is_confirmed=True)
    return _without_leader(node)


# A change's state, as `status` names it -> the node's standing
STATES: Dict[str, Standing] = {
    "staged": Standing.STAGED,
    "interrupted": Standing.STAGED,  # commit and abandon recover it first
    "committed": Standing.COMMITTED,
    "rolled-back": Standing.ROLLED_BACK,
    "undone": Standing.UNDONE,
    "abandoned": Standing.ABANDONED,
    "expired": Standing.ABANDONED,
}
GONE = frozenset({Standing.ROLLED_BACK, Standing.UNDONE, Standing.ABANDONED})


def _fold_status(node: NodeState, answer: Answer) -> NodeState:
    standing = STATES.get(answer.state) if not answer.problem else None
    if standing is not None:
        return replace(node, standing=standing)
    most = MAX_WAITS if answer.state == "committing" else MAX_TRIES
    if node.tries + 1 < most:
        return replace(node, tries=node.tries + 1)
    why = answer.problem or f"its change is {answer.state or 'not known there'}"
    return _fail(node, Standing.UNKNOWN, why, 13)


def _fold_undo(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem:
        return _mark_lost(node, _why_failed(answer))
    if answer.status == 0:
        return replace(node, standing=Standing.UNDONE)
    if answer.status == LOCKED:
        return _retry(node, Standing.STUCK, _why_failed(answer), LOCKED)
    if answer.status == 13:
        return replace(_fail(node, Standing.UNKNOWN, _why_failed(answer), 13), status=13)
    why = f"could not be taken back: {_why_failed(answer)}"
    return replace(node, standing=Standing.STUCK, failure=why, status=13)


def _fold_abandon(node: NodeState, answer: Answer) -> NodeState:
    if answer.status == LOCKED:
        # After the last try it counts as abandoned: a staged change expires by itself.
        return _retry(node, Standing.ABANDONED, _why_failed(answer), LOCKED)
    if answer.problem or answer.status != 0:
        return _mark_lost(node, _why_failed(answer))
    return replace(node, standing=Standing.ABANDONED)


_FOLDS: Dict[Kind, Callable[[NodeState, Answer], NodeState]] = {
    Kind.INVENTORY: _fold_inventory,
    Kind.EXAMINE: _fold_examine,
    Kind.STAGE: _fold_stage,
    Kind.CONFIRM: _fold_confirm,
    Kind.CANARY: _fold_commit,
    Kind.COMMIT: _fold_commit,
    Kind.VERIFY: _fold_verify,
    Kind.ASK: _fold_status,
    Kind.UNDO: _fold_undo,
    Kind.ABANDON: _fold_abandon,
}

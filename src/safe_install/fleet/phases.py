"""What is asked of the nodes next, and what their answers mean: all of them are changed, or none is.

Pure. A phase is asked of its nodes at the same time; the next one is chosen when all have answered:

    inventory, examine, plan, deliver, stage, confirm | commit (canary), verify | commit, verify | settle
                                                      | too much failed: ask, undo, abandon     | settle

A person who stops it in between is one failure too much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from safe_install.fleet.answers import NO_ANSWER, Answer
from safe_install.fleet.engine import Delivery
from safe_install.fleet.groups import share_environments
from safe_install.fleet.state import IN_PLACE, FleetState, Intent, NodeState, Standing

LOCKED = 14  # another safe-install holds the environment: nothing was done
MOST_TRIES = 3  # of a node that does not answer
MOST_WAITS = 6  # for one at which something is at work still
PAUSES = (0.0, 1.0, 4.0, 10.0, 20.0, 30.0)  # seconds before the first try, the second ...


class Kind(Enum):
    """What a phase does; the value is what people see."""

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
    """What is to be done next. Of PLAN, DELIVER and SETTLE the nodes stand in `nodes`."""

    kind: Kind
    asks: Tuple[Ask, ...] = ()
    nodes: Tuple[str, ...] = ()
    pause: float = 0.0  # seconds to wait before


# --- the next phase -------------------------------------------------------------------------------


def next_phase(state: FleetState) -> Phase:
    """What to do next. The state changes with the answers alone, and with `begin`."""
    if state.intent is not Intent.CHANGE:
        return _next_of_old_run(state)
    early = _next_before_plan(state)
    if early is not None:
        return early
    if state.goes_back:
        return _take_back(state)
    return _next_forward(state)


def begin(state: FleetState, phase: Phase) -> FleetState:
    """The state once a phase is begun: it is kept before any call is made, so that a controller that
    is killed knows afterwards whom it may have asked."""
    if phase.kind not in (Kind.CANARY, Kind.COMMIT):
        return state
    asked = [state.find(ask.node) for ask in phase.asks]
    return state.with_nodes(replace(node, was_touched=True) for node in asked)


def stop(state: FleetState, signal_number: int) -> FleetState:
    """The state once a person wants no more of it. Where all is done but the telling, that comes too
    late."""
    if state.is_settled:
        return state
    return replace(state, stopped_by=signal_number)


def _next_before_plan(state: FleetState) -> Optional[Phase]:
    new = _standing(state, Standing.NEW)
    if new:
        return _phase(Kind.INVENTORY, new, lambda node: ("inventory",))
    known = _standing(state, Standing.KNOWN)
    if known:
        return _phase(Kind.EXAMINE, known, lambda node: ("verify", *state.verify_words))
    return None


def _next_forward(state: FleetState) -> Phase:
    """Nothing speaks against the change so far."""
    examined = _standing(state, Standing.EXAMINED)
    if examined:
        return Phase(Kind.PLAN, nodes=_names(examined))
    if state.only_plans:
        return Phase(Kind.DONE)
    planned = _standing(state, Standing.PLANNED)
    if planned:
        return Phase(Kind.DELIVER, nodes=_names(planned))
    ready = _standing(state, Standing.READY)
    if ready:
        return _phase(Kind.STAGE, ready, lambda node: _stage_words(state, node))
    unconfirmed = _unconfirmed_followers(state)
    if unconfirmed:
        return _confirm(state, unconfirmed)
    lost = _standing(state, Standing.LOST)
    if lost:
        return _ask(lost)
    # the barrier: whoever is to be changed has staged
    return _next_commit(state) or _clear_up(state)


def _next_commit(state: FleetState) -> Optional[Phase]:
    staged = [node for node in _standing(state, Standing.STAGED) if not node.has_failed]
    committed = _standing(state, Standing.COMMITTED)
    verified = [node for node in _standing(state, Standing.VERIFIED) if not node.leader]
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
    """Drop what failed, as far as that is tolerated; then the run is over."""
    # an environment is sick where it is worse for one of those that have it
    sick = {node.leader or node.name for node in _standing(state, Standing.SICK)}
    in_place = [node for node in _leaders(state) if node.standing in IN_PLACE]
    return _let_go(state, [node for node in in_place if node.name in sick])


def _take_back(state: FleetState) -> Phase:
    """All that is in place goes, and all that is staged."""
    lost = _standing(state, Standing.LOST)
    if lost:
        return _ask(lost)
    return _let_go(state, [node for node in _leaders(state) if node.standing in IN_PLACE])


def _let_go(state: FleetState, in_place: Sequence[NodeState]) -> Phase:
    """These are taken back; then what is staged goes."""
    if in_place:
        return _undo(state, in_place)
    staged = _standing(state, Standing.STAGED)
    if staged:
        return _abandon(staged)
    return _settle(state)


def _next_of_old_run(state: FleetState) -> Phase:
    """Of a run that is over, or whose controller was killed. Where a person stops it, the rest is
    left to the next time."""
    is_left = any(node.standing in LEFT_TO_UNDO for node in _leaders(state))
    if state.stopped_by and is_left:
        return Phase(Kind.DONE)
    lost = _standing(state, Standing.LOST)
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
    """The state once all have answered."""
    if phase.kind is Kind.INVENTORY:
        return share_environments(state)
    if phase.kind is Kind.STAGE:
        following = _standing(state, Standing.FOLLOWING)
        left = [node for node in following if _has_unchanged_leader(state, node)]
        return state.with_nodes(_alone(node) for node in left)
    return state


def _has_unchanged_leader(state: FleetState, node: NodeState) -> bool:
    return state.leader_of(node).standing is Standing.UNCHANGED


MAY_BE_IN_PLACE = frozenset(
    {*IN_PLACE, Standing.STAGED, Standing.LOST, Standing.STUCK, Standing.UNKNOWN}
)


LEFT_TO_UNDO = frozenset({*IN_PLACE, Standing.STAGED, Standing.LOST})


def revive(state: FleetState, intent: Intent) -> FleetState:
    """A run that was written down, to be looked at or taken back: whoever may have something of it
    is asked first."""
    nodes = []
    for node in state.nodes:
        is_open = bool(node.transaction) and node.standing in MAY_BE_IN_PLACE
        if is_open and not node.leader:
            node = replace(node, standing=Standing.LOST, failure="", status=0)
        elif intent is Intent.UNDO:
            node = replace(node, failure="", status=0)
        nodes.append(node)
    # of what is taken back nothing is to stay, whatever the run was asked for
    tolerated = 0 if intent is Intent.UNDO else state.tolerated
    was_kept = state.is_settled and not state.goes_back
    return replace(
        state,
        nodes=tuple(nodes),
        intent=intent,
        is_settled=False,
        tolerated=tolerated,
        was_kept=was_kept,
        stopped_by=0,
    )


def _alone(node: NodeState) -> NodeState:
    """A node that seemed to share an environment, and is asked itself."""
    return replace(node, standing=Standing.PLANNED, leader="")


def _standing(state: FleetState, standing: Standing) -> List[NodeState]:
    return [node for node in state.nodes if node.standing is standing]


def _leaders(state: FleetState) -> List[NodeState]:
    return [node for node in state.nodes if not node.leader]


def _unconfirmed_followers(state: FleetState) -> List[NodeState]:
    """Those that only seem to share what their leader has staged."""
    waiting = [node for node in _standing(state, Standing.FOLLOWING) if not node.is_confirmed]
    return [node for node in waiting if state.leader_of(node).standing is Standing.STAGED]


def _unverified_followers(state: FleetState) -> List[NodeState]:
    """Those whose environment is changed, and who were not asked after that."""
    waiting = _standing(state, Standing.FOLLOWING)
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
    # of two runs of the same words each has its own change, which the other cannot take back
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
    """The node once its answer is known. `state`: before the phase, which goes forward or back."""
    node = state.find(answer.node)
    changed = _MEANINGS[kind](node, answer)
    is_forward = state.intent is Intent.CHANGE and not state.goes_back
    if is_forward and kind is Kind.ASK and changed.standing in GONE:
        changed = _fail(changed, changed.standing, f"its change is {answer.state}", 12)
    if changed.standing is not node.standing:
        changed = replace(changed, tries=0)
    return changed


def fold_delivery(node: NodeState, delivery: Delivery) -> NodeState:
    """The node once it has its files, or has not."""
    if delivery.problem or not delivery.path:
        return _fail(node, Standing.SILENT, delivery.problem or NO_ANSWER)
    return replace(node, standing=Standing.READY, bundle=delivery.path)


def _fail(node: NodeState, standing: Standing, why: str, status: int = 1) -> NodeState:
    """The first failure of a node is the one that is told."""
    if node.has_failed:
        return replace(node, standing=standing)
    return replace(node, standing=standing, failure=why, status=status)


def _again(node: NodeState, standing: Standing, why: str, status: int = 1) -> NodeState:
    """Nothing was done: it is asked once more, or has failed."""
    most = MOST_WAITS if status == LOCKED else MOST_TRIES
    if node.tries + 1 < most:
        return replace(node, tries=node.tries + 1)
    return _fail(node, standing, why, status)


def _lose(node: NodeState, why: str) -> NodeState:
    """What it did is not known, and is asked; not for ever."""
    if node.losses < MOST_TRIES:
        return replace(node, standing=Standing.LOST, losses=node.losses + 1)
    return _fail(node, Standing.UNKNOWN, why, 13)


def _why(answer: Answer) -> str:
    return answer.problem or answer.message or f"exit status {answer.status} ({answer.outcome})"


def _fold_inventory(node: NodeState, answer: Answer) -> NodeState:
    if answer.facts is None:
        return _fail_early(node, answer)
    return replace(node, standing=Standing.KNOWN, facts=answer.facts)


def _fail_early(node: NodeState, answer: Answer) -> NodeState:
    """Too little is known of it: perhaps its environment is that of another node."""
    return _fail(node, Standing.SILENT, _why(answer), answer.status or 1)


def _fold_before(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem or answer.status not in (0, 1):
        return _fail_early(node, answer)
    next_standing = Standing.FOLLOWING if node.leader else Standing.EXAMINED
    is_healthy = answer.status == 0
    return replace(node, standing=next_standing, errors=answer.errors, was_healthy=is_healthy)


def _fold_stage(node: NodeState, answer: Answer) -> NodeState:
    """Staging changes nothing: where the answer was lost, the same is asked again."""
    if answer.problem:
        return _again(node, Standing.SILENT, answer.problem)
    if answer.status == LOCKED:
        return _again(node, Standing.REFUSED, _why(answer), LOCKED)
    if answer.status == 0 and answer.outcome == "already-satisfied":
        return replace(node, standing=Standing.UNCHANGED)
    if answer.status == 0 and answer.outcome == "staged" and answer.transaction:
        identifier, steps = answer.transaction, answer.steps
        return replace(node, standing=Standing.STAGED, transaction=identifier, steps=steps)
    return _fail(node, Standing.REFUSED, _why(answer), answer.status or 1)


def _fold_commit(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem:
        return _lose(node, _why(answer))
    if answer.status == 0:
        return replace(node, standing=Standing.COMMITTED)
    if answer.status == LOCKED:
        return _again(node, node.standing, _why(answer), LOCKED)
    if answer.status == 12 and answer.state != "committed":
        return _fail(node, Standing.ROLLED_BACK, _why(answer), 12)
    if answer.status == 11:
        return _fail(node, Standing.STAGED, _why(answer), 11)  # what is refused stays staged
    if answer.status == 13:
        return _fail(node, Standing.UNKNOWN, _why(answer), 13)
    return _lose(node, _why(answer))


def _fold_after(node: NodeState, answer: Answer) -> NodeState:
    """Worse than before is what counts. Who does not answer is not known to be well."""
    if answer.problem or answer.status not in (0, 1):
        return _fail(node, Standing.SICK, _why(answer), 12)
    fresh = answer.errors - node.errors
    if answer.status == 1 and (node.was_healthy or fresh):
        return _fail(node, Standing.SICK, _why(answer), 12)
    return replace(node, standing=Standing.VERIFIED)


def _fold_confirm(node: NodeState, answer: Answer) -> NodeState:
    """Does it see what its leader has staged?"""
    if answer.problem:
        return _again(node, Standing.SILENT, answer.problem)
    if answer.state in STATES:
        return replace(node, is_confirmed=True)
    return _alone(node)


STATES: Dict[str, Standing] = {
    "staged": Standing.STAGED,
    "interrupted": Standing.STAGED,  # commit and abandon make it the one before
    "committed": Standing.COMMITTED,
    "rolled-back": Standing.ROLLED_BACK,
    "undone": Standing.UNDONE,
    "abandoned": Standing.ABANDONED,
    "expired": Standing.ABANDONED,
}
GONE = frozenset({Standing.ROLLED_BACK, Standing.UNDONE, Standing.ABANDONED})


def _fold_asked(node: NodeState, answer: Answer) -> NodeState:
    standing = STATES.get(answer.state) if not answer.problem else None
    if standing is None:
        why = answer.problem or f"its change is {answer.state or 'not known there'}"
        most = MOST_WAITS if answer.state == "committing" else MOST_TRIES
        if node.tries + 1 < most:
            return replace(node, tries=node.tries + 1)
        return _fail(node, Standing.UNKNOWN, why, 13)
    return replace(node, standing=standing)


def _fold_undo(node: NodeState, answer: Answer) -> NodeState:
    if answer.problem:
        return _lose(node, _why(answer))
    if answer.status == 0:
        return replace(node, standing=Standing.UNDONE)
    if answer.status == LOCKED:
        return _again(node, Standing.STUCK, _why(answer), LOCKED)
    if answer.status == 13:
        return replace(_fail(node, Standing.UNKNOWN, _why(answer), 13), status=13)
    why = f"could not be taken back: {_why(answer)}"
    return replace(node, standing=Standing.STUCK, failure=why, status=13)


def _fold_abandon(node: NodeState, answer: Answer) -> NodeState:
    if answer.status == LOCKED:
        return _again(node, Standing.ABANDONED, _why(answer), LOCKED)  # it expires by itself
    if answer.problem or answer.status != 0:
        return _lose(node, _why(answer))
    return replace(node, standing=Standing.ABANDONED)


_MEANINGS: Dict[Kind, Callable[[NodeState, Answer], NodeState]] = {
    Kind.INVENTORY: _fold_inventory,
    Kind.EXAMINE: _fold_before,
    Kind.STAGE: _fold_stage,
    Kind.CONFIRM: _fold_confirm,
    Kind.CANARY: _fold_commit,
    Kind.COMMIT: _fold_commit,
    Kind.VERIFY: _fold_after,
    Kind.ASK: _fold_asked,
    Kind.UNDO: _fold_undo,
    Kind.ABANDON: _fold_abandon,
}

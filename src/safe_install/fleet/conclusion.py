"""The result of a run: one outcome, exit status and sentence for all nodes together. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, List, Optional, Sequence

from safe_install.fleet.state import Ending, FleetState, Intent, NodeState, Standing
from safe_install.models import Outcome

KEPT_STATUSES = (10, 14, 15)  # exit statuses that mean the same for one node and for all
TAKEN_BACK = frozenset({Standing.UNDONE, Standing.ROLLED_BACK})
MAY_BE_CHANGED = frozenset({Standing.STUCK, Standing.UNKNOWN, Standing.LOST})


@dataclass(frozen=True)
class Conclusion:
    """The result of a run."""

    outcome: Outcome
    status: int  # exit status
    sentence: str


def conclude(state: FleetState, *, removes: bool = False) -> Conclusion:
    """The result of a run that has ended. `removes`: True for an uninstall."""
    end = _conclude_nodes(state, removes=removes)
    if not state.missing or end.status != 0:
        return end
    count = count_nodes(state.missing)
    sentence = f"{end.sentence} But not all processes of {count} came back: see below."
    return replace(end, status=1, sentence=sentence)


def _conclude_nodes(state: FleetState, *, removes: bool) -> Conclusion:
    """The result, leaving processes aside that did not come back."""
    if state.intent is Intent.LOOK:
        return _conclude_look(state)
    if state.intent is Intent.UNDO:
        return _conclude_undo(state)
    return _conclude_change(state, removes=removes)


def _conclude_change(state: FleetState, *, removes: bool) -> Conclusion:
    if state.stopped_by:
        return _conclude_stopped(state)
    if state.failed:
        return _conclude_failed(state, removes=removes)
    if state.only_plans:
        count = count_nodes(state.nodes_in(Standing.PLANNED))
        return Conclusion(Outcome.PLANNED, 0, f"Would change {count}; nothing was changed.")
    changed = _ending(state, Ending.CHANGED)
    if not changed:
        return Conclusion(Outcome.ALREADY_SATISFIED, 0, "Every node has what was asked for.")
    verb = "Uninstalled from" if removes else "Installed on"
    unchanged = len(state.nodes) - len(changed)
    rest = f"; {unchanged} had nothing to change" if unchanged else ""
    sentence = f"{verb} {count_nodes(changed)}, verified on each{rest}."
    return Conclusion(_outcome_of_change(removes=removes), 0, sentence)


def _outcome_of_change(*, removes: bool) -> Outcome:
    return Outcome.UNINSTALLED if removes else Outcome.INSTALLED


def count_nodes(nodes: Sequence[object]) -> str:
    """`1 node`, `12 nodes`."""
    return f"{len(nodes)} node{'' if len(nodes) == 1 else 's'}"


def _maybe_changed(state: FleetState) -> List[NodeState]:
    return [node for node in state.nodes if node.standing in MAY_BE_CHANGED]


def _conclude_failed(state: FleetState, *, removes: bool) -> Conclusion:
    count = count_nodes(state.failed)
    changed = _ending(state, Ending.CHANGED)
    maybe_changed = _maybe_changed(state)
    if maybe_changed and state.has_too_many_failures:
        return Conclusion(
            Outcome.ROLLBACK_FAILED,
            13,
            f"{count} failed, and {count_nodes(maybe_changed)} may be changed: "
            f"safe-install fleet undo {state.run} finishes it when they answer.",
        )
    if changed or maybe_changed:
        return Conclusion(
            _outcome_of_change(removes=removes),
            1,
            f"Changed on {count_nodes(changed)}; {count} failed, as many as were tolerated.",
        )
    if any(node.standing in TAKEN_BACK for node in state.nodes):
        sentence = f"{count} failed: the change was taken back, and no node is changed."
        return Conclusion(Outcome.ROLLED_BACK, 12, sentence)
    return _conclude_unchanged(state, count)


def _conclude_stopped(state: FleetState) -> Conclusion:
    """The result of a run that a signal ended."""
    maybe_changed = _maybe_changed(state)
    if maybe_changed:
        sentence = (
            f"Interrupted, and {count_nodes(maybe_changed)} may be changed: "
            f"safe-install fleet undo {state.run} finishes it when they answer."
        )
        return Conclusion(Outcome.ROLLBACK_FAILED, 13, sentence)
    sentence = "Interrupted before anything was changed: no node is changed."
    if any(node.standing in TAKEN_BACK for node in state.nodes):
        sentence = "Interrupted: the change was taken back, and no node is changed."
    return Conclusion(Outcome.ROLLED_BACK, 128 + state.stopped_by, sentence)


def _conclude_unchanged(state: FleetState, count: str) -> Conclusion:
    sentence = f"{count} failed before anything was changed: no node is changed."
    statuses = frozenset(node.status for node in state.failed)
    kept = _kept_status(statuses)
    if kept is not None:
        outcome = Outcome.REFUSED if kept == 10 else Outcome.ERROR
        return Conclusion(outcome, kept, sentence)
    is_refused = any(node.standing is not Standing.SILENT for node in state.failed)
    if is_refused:
        return Conclusion(Outcome.REFUSED, 11, sentence)
    return Conclusion(Outcome.ERROR, 1, sentence)


def _kept_status(statuses: FrozenSet[int]) -> Optional[int]:
    """The exit status of all failures if it is one of KEPT_STATUSES."""
    if len(statuses) == 1:
        (status,) = statuses
        return status if status in KEPT_STATUSES else None
    return None


def _conclude_undo(state: FleetState) -> Conclusion:
    left = [node for node in state.nodes if _may_be_changed(state, node)]
    if left and state.stopped_by:
        undone = count_nodes(_ending(state, Ending.UNDONE))
        sentence = (
            f"Interrupted: undone on {undone}, and {count_nodes(left)} may have it still: "
            f"safe-install fleet undo {state.run} finishes it."
        )
        return Conclusion(Outcome.ROLLBACK_FAILED, 13, sentence)
    if left:
        sentence = f"{count_nodes(left)} could not be taken back: see above."
        return Conclusion(Outcome.ROLLBACK_FAILED, 13, sentence)
    staged = state.nodes_in(Standing.STAGED)
    if staged:
        sentence = (
            f"Interrupted: no node has it in place. What {count_nodes(staged)} staged expires by "
            f"itself; safe-install fleet undo {state.run} lets it go now."
        )
        return Conclusion(Outcome.ROLLED_BACK, 128 + state.stopped_by, sentence)
    if any(node.standing in TAKEN_BACK for node in state.nodes):
        sentence = f"Undone: {state.run}. No node has it in place."
        return Conclusion(Outcome.UNDONE, 0, sentence)
    sentence = f"Nothing of {state.run} is in place."
    return Conclusion(Outcome.ALREADY_SATISFIED, 0, sentence)


def _may_be_changed(state: FleetState, node: NodeState) -> bool:
    is_open = state.leader_of(node).standing in MAY_BE_CHANGED
    return is_open or state.ending_of(node) is Ending.CHANGED


def _conclude_look(state: FleetState) -> Conclusion:
    """The result of `fleet status`: 0 where every node answered and the run came to its end."""
    endings = [state.ending_of(node) for node in state.nodes]
    counts = [f"{endings.count(one)} {one.value}" for one in Ending if one in endings]
    sentence = f"{state.run}: {', '.join(counts)}."
    is_mixed = Ending.CHANGED in endings and len(set(endings) - {Ending.UNCHANGED}) > 1
    is_unfinished = bool(state.nodes_in(Standing.STAGED)) or (is_mixed and not state.was_kept)
    if is_unfinished:
        sentence += f" It did not come to its end: safe-install fleet undo {state.run} does."
    status = 1 if is_unfinished or _maybe_changed(state) else 0
    return Conclusion(Outcome.LISTED, status, sentence)


def _ending(state: FleetState, ending: Ending) -> List[NodeState]:
    return [node for node in state.nodes if state.ending_of(node) is ending]

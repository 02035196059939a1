"""The state of a change on many nodes, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import FrozenSet, Iterable, List, Mapping, Optional, Tuple

from safe_install.fleet.answers import NodeFacts, StepFacts


class Standing(Enum):
    """How far a node has come. The value is written to the run's file and the JSON document."""

    NEW = "new"  # nothing was asked of it
    KNOWN = "known"  # it answered with its inventory
    EXAMINED = "examined"  # whether it is healthy before the change is known
    PLANNED = "planned"  # what it gets is known
    READY = "ready"  # it has the bundle
    STAGED = "staged"
    COMMITTED = "committed"  # changed, and not yet verified
    VERIFIED = "verified"  # changed, and no worse than before
    SICK = "sick"  # changed, and worse than before
    FOLLOWING = "following"  # another node with the same environment is changed in its place
    LOST = "lost"  # a call got no answer; it is not known what the node did
    # final, and the node is not changed
    UNCHANGED = "unchanged"  # it has what was asked for
    SILENT = "silent"  # it does not answer, and nothing was begun there
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"  # by its own commit
    UNDONE = "undone"
    ABANDONED = "abandoned"
    # final, and a person has to look at the node
    STUCK = "stuck"  # changed, and the undo failed
    UNKNOWN = "unknown"


class Ending(Enum):
    """The result for one node, for people and in the JSON document."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    UNDONE = "undone"
    ABANDONED = "abandoned"
    REFUSED = "refused"
    UNKNOWN = "unknown"


IN_PLACE = frozenset({Standing.COMMITTED, Standing.VERIFIED, Standing.SICK})
ENDINGS: Mapping[Standing, Ending] = {
    Standing.COMMITTED: Ending.CHANGED,
    Standing.VERIFIED: Ending.CHANGED,
    Standing.SICK: Ending.CHANGED,
    Standing.STUCK: Ending.CHANGED,
    Standing.ROLLED_BACK: Ending.UNDONE,
    Standing.UNDONE: Ending.UNDONE,
    Standing.ABANDONED: Ending.ABANDONED,
    Standing.REFUSED: Ending.REFUSED,
    Standing.SILENT: Ending.UNKNOWN,
    Standing.LOST: Ending.UNKNOWN,
    Standing.UNKNOWN: Ending.UNKNOWN,
}


@dataclass(frozen=True)
class NodeState:
    """One node."""

    name: str
    python: str  # the interpreter of its environment, as a path on the node
    standing: Standing = Standing.NEW
    leader: str = ""  # the node that is changed in its place; "" if it is changed itself
    is_confirmed: bool = False  # the leader's change was seen in its environment
    transaction: str = ""  # the ID of its change, once that is staged
    failure: str = ""  # why it failed; "" if it has not
    status: int = 0  # the exit status of what failed
    tries: int = 0  # failed attempts of the current phase
    losses: int = 0  # how often a call got no answer
    bundle: str = ""  # the path of its bundle on the node
    steps: Tuple[StepFacts, ...] = ()
    facts: Optional[NodeFacts] = None
    errors: FrozenSet[Tuple[str, str]] = frozenset()  # (check, subject) of errors before the change
    was_healthy: bool = True
    was_touched: bool = False  # a commit was begun there

    @property
    def has_failed(self) -> bool:
        """Did something go wrong with it?"""
        return bool(self.failure)


class Intent(Enum):
    """The purpose of a run."""

    CHANGE = "change"  # change all nodes, or none
    UNDO = "undo"  # undo an earlier run
    LOOK = "look"  # report what became of an earlier run


@dataclass(frozen=True)
class FleetState:
    """All nodes, and the options of the change."""

    run: str  # the ID of the run
    nodes: Tuple[NodeState, ...]
    intent: Intent = Intent.CHANGE
    stage_words: Tuple[str, ...] = ()  # the arguments of `stage`, without the bundle
    verify_words: Tuple[str, ...] = ()  # the arguments of `verify`
    commit_words: Tuple[str, ...] = ()  # the arguments of `commit` and `undo`, after the ID
    needs_bundle: bool = True
    canary: int = 0  # this many nodes are committed and verified first
    tolerated: Optional[int] = 0  # nodes that may fail before all are undone; None: any number
    only_plans: bool = False  # --dry-run
    is_settled: bool = False  # `Engine.settle` was called
    notes: Tuple[str, ...] = ()  # what the engine could not do
    missing: Tuple[str, ...] = ()  # nodes with processes that did not come back after the change
    stopped_by: int = 0  # the signal that ended the run; 0: none came
    was_kept: bool = False  # an earlier run that ended with its change in place

    @cached_property
    def failed(self) -> Tuple[NodeState, ...]:
        """The nodes with which something went wrong."""
        return tuple(node for node in self.nodes if node.has_failed)

    @property
    def has_too_many_failures(self) -> bool:
        """Have more nodes failed than are tolerated?"""
        return self.tolerated is not None and len(self.failed) > self.tolerated

    @property
    def must_roll_back(self) -> bool:
        """Is the change undone on all nodes, because of failures or a signal?"""
        return self.has_too_many_failures or bool(self.stopped_by)

    @property
    def has_open_nodes(self) -> bool:
        """Is there a node of which it is not known what it did?"""
        return any(node.standing is Standing.LOST for node in self.nodes)

    @cached_property
    def _by_name(self) -> Mapping[str, NodeState]:
        return {node.name: node for node in self.nodes}

    def find(self, name: str) -> NodeState:
        """The node of that name. Errors: KeyError."""
        return self._by_name[name]

    def leader_of(self, node: NodeState) -> NodeState:
        """The node that is changed for the environment of `node`: its leader, or itself."""
        return self.find(node.leader) if node.leader else node

    def nodes_in(self, standing: Standing) -> List[NodeState]:
        """The nodes with this standing."""
        return [node for node in self.nodes if node.standing is standing]

    def with_nodes(self, changed: Iterable[NodeState]) -> FleetState:
        """The state with these nodes replaced, by their names. Pass all changed nodes at once: each
        call copies the whole list."""
        by_name = {node.name: node for node in changed}
        nodes = [by_name.get(node.name, node) for node in self.nodes]
        return replace(self, nodes=tuple(nodes))

    def ending_of(self, node: NodeState) -> Ending:
        """The result for a node; UNCHANGED where nothing was begun there."""
        if node.leader and node.standing in (Standing.FOLLOWING, *IN_PLACE):
            node = self.leader_of(node)
        elif node.leader and self.ending_of(self.leader_of(node)) is Ending.CHANGED:
            return Ending.UNKNOWN  # the environment that was changed may be this node's, too
        return ENDINGS.get(node.standing, Ending.UNCHANGED)

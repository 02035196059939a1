"""A change on many nodes as one frozen value: where each node stands, and what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import FrozenSet, Iterable, Mapping, Optional, Tuple

from safe_install.fleet.answers import NodeFacts, StepFacts


class Standing(Enum):
    """Where a node stands. The value stands in the run's file, and in the JSON document."""

    NEW = "new"  # nothing was asked of it
    KNOWN = "known"  # its inventory came
    EXAMINED = "examined"  # and whether it is healthy
    PLANNED = "planned"  # what it gets is known
    READY = "ready"  # and lies there
    STAGED = "staged"
    COMMITTED = "committed"  # in place, and not yet asked after by us
    VERIFIED = "verified"  # in place, and no worse than before
    SICK = "sick"  # in place, and worse than before
    FOLLOWING = "following"  # another node has the same environment, and is asked in its place
    LOST = "lost"  # what a call did is not known
    # the ends of a node that is not changed
    UNCHANGED = "unchanged"  # it has what was asked for
    SILENT = "silent"  # it does not answer, and nothing was begun there
    REFUSED = "refused"
    ROLLED_BACK = "rolled-back"  # by its own commit
    UNDONE = "undone"
    ABANDONED = "abandoned"
    # the ends that a person has to look at
    STUCK = "stuck"  # in place, and could not be taken back
    UNKNOWN = "unknown"


class Ending(Enum):
    """What became of a node, for people and in the JSON document."""

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
    python: str  # the interpreter of its environment, there
    standing: Standing = Standing.NEW
    leader: str = ""  # the node that is asked in its place; "" for one that is asked itself
    is_confirmed: bool = False  # the leader's change was seen in its environment
    transaction: str = ""  # the ID of its change, once that is staged
    failure: str = ""  # why it is not as it was to be; "" where nothing went wrong
    status: int = 0  # the exit status of what failed
    tries: int = 0  # how often the same was asked in vain
    losses: int = 0  # how often it was lost
    bundle: str = ""  # where its files lie on the node
    steps: Tuple[StepFacts, ...] = ()
    facts: Optional[NodeFacts] = None
    errors: FrozenSet[Tuple[str, str]] = frozenset()  # what was wrong with it before
    was_healthy: bool = True
    was_touched: bool = False  # something was committed there, if only for a moment

    @property
    def has_failed(self) -> bool:
        """Is it not as it was to be?"""
        return bool(self.failure)


class Intent(Enum):
    """What the nodes are asked for."""

    CHANGE = "change"  # all or none
    UNDO = "undo"  # of an earlier run
    LOOK = "look"  # what became of an earlier run


@dataclass(frozen=True)
class FleetState:
    """All nodes, and how the change is to go."""

    run: str  # its ID
    nodes: Tuple[NodeState, ...]
    intent: Intent = Intent.CHANGE
    stage_words: Tuple[str, ...] = ()  # of `stage`, less the bundle
    verify_words: Tuple[str, ...] = ()  # of `verify`
    commit_words: Tuple[str, ...] = ()  # of `commit` and `undo`, after the ID
    needs_bundle: bool = True
    canary: int = 0  # so many nodes are committed and verified first
    tolerated: Optional[int] = 0  # nodes that may fail before all is taken back; None: any
    only_plans: bool = False  # --dry-run
    is_settled: bool = False  # the engine has done what it has to do after a change
    notes: Tuple[str, ...] = ()  # what the engine could not do
    missing: Tuple[str, ...] = ()  # nodes of which processes did not come back after the change
    stopped_by: int = 0  # the signal after which all is taken back; 0: none came
    was_kept: bool = False  # an earlier run that came to its end, whatever failed was tolerated

    @cached_property
    def failed(self) -> Tuple[NodeState, ...]:
        """The nodes that are not as they were to be."""
        return tuple(node for node in self.nodes if node.has_failed)

    @property
    def has_too_many_failures(self) -> bool:
        """Has more gone wrong than is tolerated?"""
        return self.tolerated is not None and len(self.failed) > self.tolerated

    @property
    def goes_back(self) -> bool:
        """Is all taken back?"""
        return self.has_too_many_failures or bool(self.stopped_by)

    @property
    def has_open_nodes(self) -> bool:
        """Is a node to be asked what became of it?"""
        return any(node.standing is Standing.LOST for node in self.nodes)

    @cached_property
    def _by_name(self) -> Mapping[str, NodeState]:
        return {node.name: node for node in self.nodes}

    def find(self, name: str) -> NodeState:
        """The node of that name. Errors: KeyError."""
        return self._by_name[name]

    def leader_of(self, node: NodeState) -> NodeState:
        """The node that is asked for its environment: itself, or the leader."""
        return self.find(node.leader) if node.leader else node

    def with_nodes(self, changed: Iterable[NodeState]) -> FleetState:
        """The same with these nodes in the places of those with their names. Once for many: each
        time all nodes are gone through."""
        by_name = {node.name: node for node in changed}
        nodes = [by_name.get(node.name, node) for node in self.nodes]
        return replace(self, nodes=tuple(nodes))

    def ending_of(self, node: NodeState) -> Ending:
        """What became of a node. What was never begun is unchanged."""
        if node.leader and node.standing in (Standing.FOLLOWING, *IN_PLACE):
            node = self.leader_of(node)
        elif node.leader and self.ending_of(self.leader_of(node)) is Ending.CHANGED:
            return Ending.UNKNOWN  # it may be its environment that was changed
        return ENDINGS.get(node.standing, Ending.UNCHANGED)

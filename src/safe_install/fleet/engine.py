"""What runs our verbs on the nodes. An engine starts processes where it is told to; what is run,
in which order, and what the answers mean, is decided by the phases."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, FrozenSet, Mapping, Optional, Protocol, Sequence, Tuple

MOST_ANSWER = 16 * 1024 * 1024  # bytes of a node's answer that are read


@dataclass(frozen=True)
class Node:
    """A machine and the environment on it that is managed. `name` is unique in its fleet."""

    name: str
    python: str  # the interpreter of that environment, as a path on the node


@dataclass(frozen=True)
class File:
    """A file of the controller that nodes need: the program, a bundle."""

    path: Path
    sha256: str  # hexadecimal; a node that has it is not sent it again


@dataclass(frozen=True)
class Delivery:
    """Where a file lies on a node."""

    node: str
    path: str = ""  # there; empty where it did not arrive
    problem: str = ""  # why it did not


@dataclass(frozen=True)
class Call:
    """A verb for one node. The engine runs, there, without a shell, in a folder of the node's own
    and not in one of the controller:

        PYTHON -I PROGRAM --python PYTHON *WORDS --json

    PYTHON is that of the node; PROGRAM is where the program was delivered.
    """

    node: str
    program: str
    words: Tuple[str, ...]  # ("stage", "--bundle", "/var/tmp/....zip")


@dataclass(frozen=True)
class Reply:
    """What a node said to a call, as it came: not parsed, and not trusted."""

    node: str
    status: Optional[int] = None  # exit status; None: the node was lost, and what it did is unknown
    output: bytes = b""  # standard output, at most MOST_ANSWER
    problem: str = ""  # why there is no exit status, or the last lines of standard error


@dataclass(frozen=True)
class Settled:
    """What an engine did after a change, as far as not all is well."""

    notes: Mapping[str, str] = field(default_factory=dict)  # node -> what was not done, and why
    missing: FrozenSet[str] = frozenset()  # nodes of which processes did not come back


@dataclass(frozen=True)
class EngineOptions:
    """What every engine is told beside its target. An engine's module has
    `open_engine(target: str, options: EngineOptions) -> Engine`."""

    python: str = ""  # --python: the interpreter on every node, where nothing else names it
    environ: Mapping[str, str] = field(default_factory=dict)  # of this process
    limit: str = ""  # --limit: which nodes, in the engine's own words; empty: all


# Called with each reply as it comes, from the thread that called the engine.
Heard = Callable[[Reply], None]


class Engine(Protocol):
    """A cluster as its own engine reaches it: Ansible, Dask, Ray.

    Every method answers for each node that was asked, whatever happens to it: a node that cannot
    be reached is an answer. Errors: EngineFailed, where the engine itself cannot go on.
    """

    name: str

    def nodes(self) -> Sequence[Node]:
        """Those that are there now, each once, in a stable order."""

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """Bring a file to nodes, into a folder that only its owner can write, and compare it with
        its hash there. Nodes that have it are not sent it."""

    def call(
        self, calls: Sequence[Call], heard: Heard, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """All calls at the same time, one for each node; the replies in the order of the calls.
        `timeout`: seconds for each; a call that takes longer is ended, and its node is lost."""

    def settle(self, changed: Sequence[str]) -> Settled:
        """What the engine has to do after these nodes changed (restart workers). Called once, after
        the last commit or undo."""

    def close(self) -> None:
        """Nothing of ours is left on the nodes but the delivered files."""

"""The interface of an engine, which runs verbs of this program on nodes. `phases` decides what is
run, in which order, and what the answers mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, FrozenSet, Mapping, Optional, Protocol, Sequence, Tuple

MAX_ANSWER = 16 * 1024 * 1024  # bytes of a node's answer that are read


@dataclass(frozen=True)
class Node:
    """A managed environment on a machine."""

    name: str  # unique in the fleet
    python: str  # the interpreter of that environment, as a path on the node


@dataclass(frozen=True)
class File:
    """A file of the controller that nodes need: the program or a bundle."""

    path: Path
    sha256: str  # hexadecimal


@dataclass(frozen=True)
class Delivery:
    """The result of delivering a file to one node."""

    node: str
    path: str = ""  # on the node; empty if the file did not arrive
    problem: str = ""  # why it did not arrive


@dataclass(frozen=True)
class Call:
    """A verb for one node. The engine runs this on the node, without a shell, in a folder of the
    node:

        PYTHON -I PROGRAM --python PYTHON *WORDS --json

    PYTHON is `Node.python`; PROGRAM is the path of the delivered program.
    """

    node: str
    program: str
    words: Tuple[str, ...]  # ("stage", "--bundle", "/var/tmp/....zip")


@dataclass(frozen=True)
class Reply:
    """The raw reply of a node to a call: not parsed, and not trusted."""

    node: str
    status: Optional[int] = None  # exit status; None: no reply came, and what it did is unknown
    output: bytes = b""  # standard output, at most MAX_ANSWER
    problem: str = ""  # why there is no exit status, or the last lines of standard error


@dataclass(frozen=True)
class SettleResult:
    """What an engine could not do after a change."""

    notes: Mapping[str, str] = field(default_factory=dict)  # node -> what was not done, and why
    missing: FrozenSet[str] = frozenset()  # nodes with processes that did not come back


@dataclass(frozen=True)
class EngineOptions:
    """The options of an engine. An engine's module has
    `open_engine(target: str, options: EngineOptions) -> Engine`."""

    python: str = ""  # --python: the interpreter on nodes for which the engine names none
    environ: Mapping[str, str] = field(default_factory=dict)  # of this process
    limit: str = ""  # --limit: a pattern of the engine for nodes; empty: all


# Called with each reply when it comes, in the thread that called the engine.
OnReply = Callable[[Reply], None]


class Engine(Protocol):
    """A cluster that is reached through Ansible, Dask or Ray.

    Every method returns a result for each node that it was asked about; that a node cannot be
    reached is a result, too. Errors: EngineFailed if the engine itself cannot go on.
    """

    name: str

    def nodes(self) -> Sequence[Node]:
        """The nodes that exist now, each once, in a stable order."""

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """Send a file to the nodes that do not have it, into a folder that only its owner can
        write, and check its hash there."""

    def call(
        self, calls: Sequence[Call], on_reply: OnReply, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """Run all calls at the same time, one for each node. The replies are in the order of the
        calls. `timeout`: seconds for each call; a call that takes longer is ended, and its reply
        has no exit status."""

    def settle(self, changed: Sequence[str]) -> SettleResult:
        """Do what the engine needs after these nodes changed, such as restarting workers. Called
        once, after the last commit or undo."""

    def close(self) -> None:
        """Disconnect. Only the delivered files stay on the nodes."""

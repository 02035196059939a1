"""The engine for clusters that run functions in their processes: for Dask and Ray."""

from __future__ import annotations

import os
import pkgutil
import secrets
import time
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

from safe_install.errors import EngineFailed, UsageError
from safe_install.fleet.engine import (
    MAX_ANSWER,
    Call,
    Delivery,
    EngineOptions,
    File,
    Node,
    OnReply,
    Reply,
    SettleResult,
)
from safe_install.fleet.engines.members import (
    Group,
    InvalidAnswer,
    Member,
    group_members,
    read_member,
    split_answer,
)

PIECE = 4 * 1024 * 1024  # bytes of a file in one message
SHORT = 60.0  # seconds for a question that starts no program
HASHED = 600.0  # seconds for a question that hashes a file
GRACE = 60.0  # seconds for an answer beyond the timeout of its program
PATIENCE = 10.0  # seconds to wait for a process of a node: a nanny may be starting one
POLL = 0.5  # seconds between two looks
TRIES = 3  # to list the processes without one ending meanwhile


@dataclass(frozen=True)
class Lost:
    """There is no usable answer."""

    problem: str


Question = Tuple[object, ...]  # the name of a question of script.py, and its arguments
Answer = Union[bytes, Lost]


class Cluster(Protocol):
    """A cluster that runs the functions of script.py in its processes."""

    name: str
    inherited: Tuple[str, ...]  # variables that the cluster changes; programs get the former values

    def members(self) -> Sequence[str]:
        """The addresses of the processes that exist now. Errors: EngineFailed."""

    def ask_all(
        self, addresses: Sequence[str], question: Question, timeout: float
    ) -> Mapping[str, Answer]:
        """Ask all of them the same question. Address -> answer, for each address."""

    def ask_each(
        self, questions: Mapping[str, Question], timeout: Optional[float]
    ) -> Iterator[Tuple[str, Answer]]:
        """Ask each address its own question, all at the same time. Yields an answer for each
        address, in the order in which they come."""

    def settle(self, groups: Sequence[Group]) -> SettleResult:
        """Like Engine.settle, for the nodes of these groups."""

    def close(self) -> None:
        """Disconnect."""


def refuse_python(options: EngineOptions) -> None:
    """Raise UsageError for --python: the managed environments are those of the processes."""
    if options.python:
        raise UsageError(
            "--python names no environment of a cluster",
            hint="Leave it out: the environments are those in which its processes run.",
        )


def read_source() -> str:
    """The source text that runs in the processes of a cluster."""
    programs = read_text("safe_install.environment", "programs_script.py")
    return programs + read_text("safe_install.fleet.engines", "script.py")


def read_text(package: str, name: str) -> str:
    """The text of a file of this program. Errors: EngineFailed if it is missing."""
    data = pkgutil.get_data(package, name)
    if data is None:  # pragma: no cover - a broken installation of ours
        raise EngineFailed(f"{package}/{name} is missing", hint="Install torch-safe-install again.")
    return data.decode("utf-8")


class ClusterEngine:
    """An Engine whose nodes are the environments of a cluster's processes."""

    def __init__(self, cluster: Cluster) -> None:
        self.name = cluster.name
        self._cluster = cluster
        self._groups: Dict[str, Group] = {}

    def nodes(self) -> Sequence[Node]:
        """One node for each environment, which several processes may share. Errors: EngineFailed
        if a process does not describe its environment, because that one would not be changed
        with the others."""
        groups = group_members(self._list_members())
        self._groups = {group.node.name: group for group in groups}
        return [group.node for group in groups]

    def _list_members(self) -> List[Member]:
        """The processes that were there both before and after they were asked."""
        for _ in range(TRIES):
            addresses = self._cluster.members()
            answers = self._cluster.ask_all(addresses, ("describe",), SHORT)
            alive = set(self._cluster.members())
            if alive.issuperset(addresses):
                break
        return [self._read_member(one, answers[one]) for one in addresses if one in alive]

    def _read_member(self, address: str, answer: Answer) -> Member:
        try:
            if isinstance(answer, Lost):
                raise InvalidAnswer(answer.problem)
            return read_member(address, answer)
        except InvalidAnswer as error:
            raise EngineFailed(
                f"{self.name}: {address} does not say which environment it has: {error}",
                hint="Take that process out of the cluster, or start it again.",
            ) from error

    # --- files ------------------------------------------------------------------------------------

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """See Engine.deliver. The file is sent in pieces; each piece goes to all nodes that lack
        the file."""
        reached = self._find_addresses(nodes)
        suffix = file.path.suffix
        found = self._ask_for_paths(reached, ("find", file.sha256, suffix))
        lacking = {node: reached[node] for node, path in found.items() if path == ""}
        if lacking:
            found.update(self._send(file, suffix, lacking))
        return [self._make_delivery(node, found) for node in nodes]

    def _make_delivery(self, node: str, found: Mapping[str, Union[str, Lost]]) -> Delivery:
        path = found.get(node, Lost(self._why_gone(node)))
        if isinstance(path, Lost):
            return Delivery(node, problem=path.problem)
        return Delivery(node, path=path)

    def _ask_for_paths(
        self, reached: Mapping[str, str], question: Question
    ) -> Dict[str, Union[str, Lost]]:
        """Node -> the path that its answer names; empty if the node does not have the file."""
        answers = self._cluster.ask_all(list(reached.values()), question, HASHED)
        found: Dict[str, Union[str, Lost]] = {}
        for node, address in reached.items():
            head = _read_head(answers[address])
            found[node] = head if isinstance(head, Lost) else _read_path(head)
        return found

    def _send(
        self, file: File, suffix: str, lacking: Mapping[str, str]
    ) -> Dict[str, Union[str, Lost]]:
        """Send the file. `lacking`: node -> address. Node -> the path of the file there."""
        token = secrets.token_hex(8)
        lost: Dict[str, Union[str, Lost]] = {}
        left = dict(lacking)
        offset = 0
        with file.path.open("rb") as content:
            while left:
                piece = content.read(PIECE)
                question = ("receive", file.sha256, token, offset, piece)
                lost.update(self._ask_for_failures(left, question))
                left = {node: left[node] for node in left if node not in lost}
                offset += len(piece)
                if len(piece) < PIECE:
                    break
        if not left:
            return lost
        finished = self._ask_for_paths(left, ("finish", file.sha256, token, suffix))
        for node, path in finished.items():
            lost[node] = path or Lost("it does not say where the file lies")
        return lost

    def _ask_for_failures(
        self, reached: Mapping[str, str], question: Question
    ) -> Mapping[str, Lost]:
        """Node -> why it failed, for the nodes that failed."""
        answers = self._cluster.ask_all(list(reached.values()), question, SHORT)
        failed: Dict[str, Lost] = {}
        for node, address in reached.items():
            head = _read_head(answers[address])
            if isinstance(head, Lost):
                failed[node] = head
        return failed

    # --- calls ------------------------------------------------------------------------------------

    def call(
        self, calls: Sequence[Call], on_reply: OnReply, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """See Engine.call. Each program is a child of a process of its node."""
        reached = self._find_addresses([call.node for call in calls])
        questions: Dict[str, Question] = {}
        replies: Dict[str, Reply] = {}
        for call in calls:
            if call.node in reached:
                questions[reached[call.node]] = self._make_question(call, timeout)
            else:
                replies[call.node] = Reply(call.node, problem=self._why_gone(call.node))
                on_reply(replies[call.node])
        nodes = {address: node for node, address in reached.items()}
        limit = None if timeout is None else timeout + GRACE
        for address, answer in self._cluster.ask_each(questions, limit):
            reply = read_reply(nodes[address], answer, timeout)
            replies[reply.node] = reply
            on_reply(reply)
        return [replies[call.node] for call in calls]

    def _make_question(self, call: Call, timeout: Optional[float]) -> Question:
        python = self._groups[call.node].node.python
        argv = [python, "-I", call.program, "--python", python, *call.words, "--json"]
        return ("run", argv, timeout, MAX_ANSWER, self._cluster.inherited)

    def settle(self, changed: Sequence[str]) -> SettleResult:
        """See Engine.settle."""
        if not changed:
            return SettleResult()
        self._find_addresses(changed)  # lists the processes again: some may have come or gone
        groups = [self._groups[node] for node in changed if node in self._groups]
        gone = {node: self._why_gone(node) for node in changed if node not in self._groups}
        result = self._cluster.settle(groups)
        return SettleResult({**gone, **result.notes}, frozenset({*gone, *result.missing}))

    def close(self) -> None:
        """Disconnect. Delivered files stay on the nodes until a week after their last use."""
        self._cluster.close()

    def _find_addresses(self, nodes: Sequence[str]) -> Dict[str, str]:
        """Node -> the address of one of its processes, for the nodes that have one. Waits for a
        process that is being started: a restarted worker has another address."""
        end = time.monotonic() + PATIENCE
        found = self._find_alive(nodes)
        while not all(found.values()) and time.monotonic() < end:
            self.nodes()
            found = self._find_alive(nodes)
            if not all(found.values()):
                time.sleep(POLL)
        return {node: addresses[0] for node, addresses in found.items() if addresses}

    def _find_alive(self, nodes: Sequence[str]) -> Dict[str, List[str]]:
        """Node -> the addresses of its processes that exist now."""
        alive = set(self._cluster.members())
        found = {}
        for node in nodes:
            group = self._groups.get(node)
            addresses = () if group is None else group.addresses
            found[node] = [address for address in addresses if address in alive]
        return found

    def _why_gone(self, node: str) -> str:
        return f"{self.name} has no process of {node} any more"


def read_reply(node: str, answer: Answer, timeout: Optional[float]) -> Reply:
    """The reply of a node, from its answer to the question `run`."""
    if isinstance(answer, Lost):
        return Reply(node, problem=answer.problem)
    try:
        head, output = split_answer(answer)
    except InvalidAnswer as error:
        return Reply(node, problem=str(error))
    output = output[:MAX_ANSWER]
    status, stderr = head.get("status"), head.get("said", "")
    if not isinstance(stderr, str):
        stderr = ""
    if head.get("late"):
        return Reply(node, output=output, problem=f"it took longer than {timeout} s, and was ended")
    if not isinstance(status, int) or isinstance(status, bool):
        return Reply(node, output=output, problem="it does not say how the program ended")
    if status < 0:
        problem = f"signal {-status} ended the program. {stderr}".strip()
        return Reply(node, output=output, problem=problem)
    return Reply(node, status, output, stderr)


def _read_head(answer: Answer) -> Union[Mapping[str, object], Lost]:
    if isinstance(answer, Lost):
        return answer
    try:
        head, _ = split_answer(answer)
    except InvalidAnswer as error:
        return Lost(str(error))
    return head


def _read_path(head: Mapping[str, object]) -> Union[str, Lost]:
    """The path in an answer; empty if the file is not there."""
    path = head.get("path")
    if path == "" or (isinstance(path, str) and path.startswith(os.sep) and path.isprintable()):
        return path
    return Lost("it names no path for the file")

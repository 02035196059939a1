"""An engine over a cluster that runs functions in its processes: what Dask and Ray have in common."""

from __future__ import annotations

import os
import pkgutil
import secrets
import time
from dataclasses import dataclass
from typing import (
    Any,
    Dict,
    Iterator,
    List,
    Mapping,
    Optional,
    Protocol,
    Sequence,
    Tuple,
    Union,
)

from safe_install.errors import EngineFailed, UsageError
from safe_install.fleet.engine import (
    MOST_ANSWER,
    Call,
    Delivery,
    EngineOptions,
    File,
    Heard,
    Node,
    Reply,
    Settled,
)
from safe_install.fleet.engines.members import (
    Group,
    Member,
    Unclear,
    group_members,
    read_member,
    split_answer,
)

PIECE = 4 * 1024 * 1024  # bytes of a file that travel at once
SHORT = 60.0  # seconds for a question that starts no program
HASHED = 600.0  # seconds for one that hashes a file
GRACE = 60.0  # seconds more for an answer than its program has
PATIENCE = 10.0  # seconds for a node to have a process again: a nanny may be starting one
LOOK_AGAIN = 0.5
TRIES = 3  # to list processes of which none goes meanwhile


@dataclass(frozen=True)
class Lost:
    """There is no answer."""

    problem: str


Question = Tuple[Any, ...]  # the name of one of script.py, and what it is asked with
Answer = Union[bytes, Lost]


class Cluster(Protocol):
    """A cluster that runs the questions of script.py in its processes."""

    name: str
    inherited: Tuple[str, ...]  # variables that the cluster sets, and a check must not see

    def members(self) -> Sequence[str]:
        """The addresses of the processes that are there now. Errors: EngineFailed."""

    def ask_all(
        self, addresses: Sequence[str], question: Question, timeout: float
    ) -> Mapping[str, Answer]:
        """The same question to all of them; an answer for each."""

    def ask_each(
        self, questions: Mapping[str, Question], timeout: Optional[float]
    ) -> Iterator[Tuple[str, Answer]]:
        """To each its own, all at the same time; an answer for each, as they come."""

    def settle(self, groups: Sequence[Group]) -> Settled:
        """As Engine.settle, for the nodes of these groups."""

    def close(self) -> None:
        """Leave the cluster."""


def refuse_python(options: EngineOptions) -> None:
    """A cluster's processes run in the environments that are managed. Errors: UsageError."""
    if options.python:
        raise UsageError(
            "--python names no environment of a cluster",
            hint="Leave it out: the environments are those in which its processes run.",
        )


def read_source() -> str:
    """The text that is run in the processes of a cluster."""
    return read_text("safe_install.environment", "programs_script.py") + read_text(
        "safe_install.fleet.engines", "script.py"
    )


def read_text(package: str, name: str) -> str:
    """A file of this program."""
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
        """One for each environment, however many processes share it. Errors: EngineFailed where a
        process does not say what it is: all or none could not be kept."""
        groups = group_members(self._describe())
        self._groups = {group.node.name: group for group in groups}
        return [group.node for group in groups]

    def _describe(self) -> List[Member]:
        for number in range(TRIES):
            addresses = self._cluster.members()
            answers = self._cluster.ask_all(addresses, ("describe",), SHORT)
            still = set(self._cluster.members())
            gone = [one for one in addresses if one not in still]
            if not gone or number == TRIES - 1:
                break
        return [self._read_member(one, answers[one]) for one in addresses if one in still]

    def _read_member(self, address: str, answer: Answer) -> Member:
        try:
            if isinstance(answer, Lost):
                raise Unclear(answer.problem)
            return read_member(address, answer)
        except Unclear as error:
            raise EngineFailed(
                f"{self.name}: {address} does not say which environment it has: {error}",
                hint="Take that process out of the cluster, or start it again.",
            ) from error

    # --- files ------------------------------------------------------------------------------------

    def deliver(self, file: File, nodes: Sequence[str]) -> Sequence[Delivery]:
        """In pieces, each of which all nodes get that lack the file."""
        reached = self._reach(nodes)
        suffix = file.path.suffix
        found = self._ask_for_paths(reached, ("find", file.sha256, suffix))
        lacking = {node: reached[node] for node, path in found.items() if path == ""}
        if lacking:
            found.update(self._send(file, suffix, lacking))
        return [self._delivery(node, found) for node in nodes]

    def _delivery(self, node: str, found: Mapping[str, Union[str, Lost]]) -> Delivery:
        path = found.get(node, Lost(self._gone(node)))
        if isinstance(path, Lost):
            return Delivery(node, problem=path.problem)
        return Delivery(node, path=path)

    def _ask_for_paths(
        self, reached: Mapping[str, str], question: Question
    ) -> Dict[str, Union[str, Lost]]:
        """Node -> the path that its answer names, empty where it has none."""
        answers = self._cluster.ask_all(list(reached.values()), question, HASHED)
        found: Dict[str, Union[str, Lost]] = {}
        for node, address in reached.items():
            head = _read_head(answers[address])
            found[node] = head if isinstance(head, Lost) else _read_path(head)
        return found

    def _send(
        self, file: File, suffix: str, lacking: Mapping[str, str]
    ) -> Dict[str, Union[str, Lost]]:
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
        nowhere = Lost("it does not say where the file lies")
        return {**lost, **{node: path or nowhere for node, path in finished.items()}}

    def _ask_for_failures(
        self, reached: Mapping[str, str], question: Question
    ) -> Mapping[str, Lost]:
        answers = self._cluster.ask_all(list(reached.values()), question, SHORT)
        failed: Dict[str, Lost] = {}
        for node, address in reached.items():
            head = _read_head(answers[address])
            if isinstance(head, Lost):
                failed[node] = head
        return failed

    # --- calls ------------------------------------------------------------------------------------

    def call(
        self, calls: Sequence[Call], heard: Heard, *, timeout: Optional[float]
    ) -> Sequence[Reply]:
        """Each in a process of its node, as a child of that."""
        reached = self._reach([call.node for call in calls])
        questions: Dict[str, Question] = {}
        replies: Dict[str, Reply] = {}
        for call in calls:
            if call.node in reached:
                questions[reached[call.node]] = self._question(call, timeout)
            else:
                replies[call.node] = Reply(call.node, problem=self._gone(call.node))
                heard(replies[call.node])
        nodes = {address: node for node, address in reached.items()}
        limit = None if timeout is None else timeout + GRACE
        for address, answer in self._cluster.ask_each(questions, limit):
            reply = read_reply(nodes[address], answer, timeout)
            replies[reply.node] = reply
            heard(reply)
        return [replies[call.node] for call in calls]

    def _question(self, call: Call, timeout: Optional[float]) -> Question:
        python = self._groups[call.node].node.python
        argv = [python, "-I", call.program, "--python", python, *call.words, "--json"]
        return ("run", argv, timeout, MOST_ANSWER, self._cluster.inherited)

    def settle(self, changed: Sequence[str]) -> Settled:
        """Looked at anew: processes may have come and gone."""
        if not changed:
            return Settled()
        self._reach(changed)
        groups = [self._groups[node] for node in changed if node in self._groups]
        gone = {node: self._gone(node) for node in changed if node not in self._groups}
        done = self._cluster.settle(groups)
        return Settled({**gone, **done.notes}, frozenset({*gone, *done.missing}))

    def close(self) -> None:
        """Files that were delivered stay for the next change; they go a week after their use."""
        self._cluster.close()

    def _reach(self, nodes: Sequence[str]) -> Dict[str, str]:
        """Node -> the address of a process of it that is there now. A worker that was started again
        has another address than the one before."""
        end = time.monotonic() + PATIENCE
        found = self._find(nodes)
        while not all(found.values()) and time.monotonic() < end:
            self.nodes()
            found = self._find(nodes)
            if not all(found.values()):
                time.sleep(LOOK_AGAIN)
        return {node: addresses[0] for node, addresses in found.items() if addresses}

    def _find(self, nodes: Sequence[str]) -> Dict[str, List[str]]:
        alive = set(self._cluster.members())
        return {node: self._alive(node, alive) for node in nodes}

    def _alive(self, node: str, alive: set[str]) -> List[str]:
        group = self._groups.get(node)
        addresses = () if group is None else group.addresses
        return [address for address in addresses if address in alive]

    def _gone(self, node: str) -> str:
        return f"{self.name} has no process of {node} any more"


def read_reply(node: str, answer: Answer, timeout: Optional[float]) -> Reply:
    """What a node's answer to a call says of its program."""
    if isinstance(answer, Lost):
        return Reply(node, problem=answer.problem)
    try:
        head, output = split_answer(answer)
    except Unclear as error:
        return Reply(node, problem=str(error))
    status, said = head.get("status"), head.get("said", "")
    output, said = output[:MOST_ANSWER], said if isinstance(said, str) else ""
    if head.get("late"):
        return Reply(node, output=output, problem=f"it took longer than {timeout} s, and was ended")
    if not isinstance(status, int) or isinstance(status, bool):
        return Reply(node, output=output, problem="it does not say how the program ended")
    if status < 0:
        problem = f"signal {-status} ended the program. {said}".strip()
        return Reply(node, output=output, problem=problem)
    return Reply(node, status, output, said)


def _read_head(answer: Answer) -> Union[Mapping[str, Any], Lost]:
    if isinstance(answer, Lost):
        return answer
    try:
        head, _ = split_answer(answer)
    except Unclear as error:
        return Lost(str(error))
    return head


def _read_path(head: Mapping[str, Any]) -> Union[str, Lost]:
    """Empty where the file is not there."""
    path = head.get("path")
    if path == "" or (isinstance(path, str) and path.startswith(os.sep) and path.isprintable()):
        return path
    return Lost("it names no path for the file")

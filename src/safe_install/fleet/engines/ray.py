"""The engine for Ray: nodes are the environments of a cluster, reached by one task on each."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import EngineOptions, SettleResult
from safe_install.fleet.engines.cluster import (
    SHORT,
    Answer,
    ClusterEngine,
    Lost,
    Question,
    read_source,
    refuse_python,
)
from safe_install.fleet.engines.members import Group, InvalidAnswer, split_answer

OLDEST = (2, 9)
EXTRA = "Install Ray beside safe-install: pip install 'torch-safe-install[ray]'."
TICK = 0.5  # seconds between two looks at running tasks, so that Ctrl-C has an effect
MAX_PROGRAMS = 20  # programs that are named
REACH = 10.0  # seconds for a connection
OWN_HOST = ("localhost", "127.0.0.1")
# Ray sets them for a task by the GPUs that it asks for. Our tasks ask for none, and would see none.
VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def open_engine(target: str, options: EngineOptions) -> ClusterEngine:
    """Connect to a cluster. `target`: its address, or "auto" for the cluster of this machine. A
    process that is connected already keeps its connection. Errors: EngineFailed, UsageError."""
    refuse_python(options)
    ray = _import_ray()
    if ray.is_initialized():
        return ClusterEngine(RayCluster(ray, lambda: None))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silent_stdout())
        _connect(ray, target)
        stack.callback(ray.shutdown)
        leave = stack.pop_all().close
    return ClusterEngine(RayCluster(ray, leave))


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """Redirect `sys.stdout`: Ray prints reports of nodes there, whatever its options, and they
    would be in the middle of our JSON. Our own lines go to the former stream."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise EngineFailed(f"Ray cannot be imported: {error}", hint=EXTRA) from error
    parts = ray.__version__.split(".")[:2]
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < OLDEST:
        raise EngineFailed(f"Ray {ray.__version__} is too old, 2.9 or newer serves", hint=EXTRA)
    return ray


def _connect(ray: Any, target: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _reach(ray, target)
        # log_to_driver=False: output of workers would be in our JSON.
        ray.init(address=target, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        raise EngineFailed(
            f"no Ray cluster at {target}: {_describe(error)}",
            hint="Run it on a node of the cluster (`ray status` answers there), with the Python and "
            "the Ray of the cluster.",
        ) from error
    finally:
        # Ray installs its own handler, which ends the process without a message.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _reach(ray: Any, target: str) -> None:
    """Does anything listen at this address? Ray itself would ask for more than ten minutes. An
    address without a port is left to Ray. Errors: OSError."""
    host, _, port = target.rpartition("//")[2].rpartition(":")
    if not host or not port.isdecimal():
        return
    address = (host.strip("[]"), int(port))
    try:
        socket.create_connection(address, timeout=REACH).close()
    except ConnectionRefusedError:
        if host not in OWN_HOST:
            raise
        # Ray takes the address of the network for it
        address = (ray.util.get_node_ip_address(), int(port))
        socket.create_connection(address, timeout=REACH).close()


class RayCluster:
    """A Cluster of Ray; the addresses are the IDs of its nodes."""

    name = "Ray"
    inherited: Tuple[str, ...] = VISIBLE_DEVICES

    def __init__(self, ray: Any, leave: Callable[[], None]) -> None:
        self._ray = ray
        self._leave = leave
        # Ray pickles a function of `__main__` by its code, and others by their module's name.
        space: Dict[str, object] = {"__name__": "__main__"}
        exec(compile(read_source(), "safe-install", "exec"), space)  # noqa: S102 - our own text
        # max_retries=0: a lost call must not run twice. The phases ask what it did.
        self._answer = ray.remote(num_cpus=0, max_retries=0)(space["answer"])

    def members(self) -> Sequence[str]:
        """The IDs of the nodes that are alive. Errors: EngineFailed."""
        try:
            rows = self._ray.nodes()
        except Exception as error:
            raise EngineFailed(
                f"Ray does not list its nodes: {_describe(error)}", hint="Is its head still there?"
            ) from error
        return sorted(row["NodeID"] for row in rows if row["Alive"])

    def ask_all(
        self, addresses: Sequence[str], question: Question, timeout: float
    ) -> Mapping[str, Answer]:
        """See Cluster.ask_all. Bytes are put into the object store once, and copied from node to
        node."""
        shared = [self._ray.put(part) if isinstance(part, bytes) else part for part in question]
        questions = {address: tuple(shared) for address in addresses}
        return dict(self.ask_each(questions, timeout))

    def ask_each(
        self, questions: Mapping[str, Question], timeout: Optional[float]
    ) -> Iterator[Tuple[str, Answer]]:
        """See Cluster.ask_each."""
        asked = {self._start(address, words): address for address, words in questions.items()}
        end = None if timeout is None else time.monotonic() + timeout
        waiting = list(asked)
        while waiting:
            ready, waiting = self._ray.wait(waiting, num_returns=1, timeout=TICK)
            for task in ready:
                yield asked[task], self._get(task)
            if not ready and end is not None and time.monotonic() > end:
                break
        for task in waiting:
            self._ray.cancel(task, force=True)
            yield asked[task], Lost("no answer came in time")

    def _start(self, address: str, question: Question) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(node_id=address, soft=False)
        return self._answer.options(scheduling_strategy=strategy).remote(*question)

    def _get(self, task: Any) -> Answer:
        try:
            answer = self._ray.get(task)
        except Exception as error:  # noqa: BLE001 - whatever a task ends with
            return Lost(_describe(error))
        if not isinstance(answer, bytes):
            return Lost(f"the answer is no bytes but {type(answer).__name__}")
        return answer

    def settle(self, groups: Sequence[Group]) -> SettleResult:
        """Name the processes that have old files in memory. Nothing is ended."""
        questions: Dict[str, Question] = {group.addresses[0]: ("programs",) for group in groups}
        names = {group.addresses[0]: group.node.name for group in groups}
        notes: Dict[str, str] = {}
        for address, answer in self.ask_each(questions, SHORT):
            note = _describe_programs(answer)
            if note:
                notes[names[address]] = note
        return SettleResult(notes)

    def close(self) -> None:
        """Disconnect, unless the process was connected before. The cluster keeps running."""
        self._leave()


def _describe_programs(answer: Answer) -> str:
    """The processes that an answer lists, for people; empty if there is none."""
    try:
        if isinstance(answer, Lost):
            raise InvalidAnswer(answer.problem)
        rows = split_answer(answer)[0]["programs"]
        if not isinstance(rows, list):
            raise InvalidAnswer("it lists no processes")
        named = [_describe_program(pid, command) for pid, command in rows[:MAX_PROGRAMS]]
    except (InvalidAnswer, KeyError, TypeError, ValueError) as error:
        return f"which processes have the old files in memory is not known: {error}"
    if not named:
        return ""
    more = f" and {len(rows) - len(named)} more" if len(rows) > len(named) else ""
    listed = ", ".join(named)
    return f"processes that have the old files in memory, end them: {listed}{more}"


def _describe_program(pid: object, command: object) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(command)[:100])
    return f"{int(str(pid))} ({shown})"


def _describe(error: BaseException) -> str:
    """The type of an error, and the first line of its message; Ray's messages are pages long."""
    lines: List[str] = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

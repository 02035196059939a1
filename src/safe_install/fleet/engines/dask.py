"""The engine for Dask: nodes are the environments of the workers and of the scheduler, reached
through the scheduler."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import time
from dataclasses import dataclass
from typing import (
    Any,
    Coroutine,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

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
from safe_install.fleet.engines.members import MAX_TEXT, Group, InvalidAnswer, split_answer

Value = TypeVar("Value")

SCHEDULER = "scheduler"  # its address, in the place of a worker's address
OLDEST = (2024, 1)
RESTART = 120.0  # seconds for workers to end, and as many again for them to come back
POLL = 0.5  # seconds between two looks
CONNECT = 30.0  # seconds
EXTRA = "Install Dask beside safe-install: pip install 'torch-safe-install[dask]'."
# The receiver compiles the source and returns the object `name` of it. Compiled code would run on
# one version of Python only.
COMPILE_AND_FIND = "(exec(compile(source, 'safe-install', 'exec'), space), space[name])[1]"


class SentFunction:
    """A function of script.py, pickled as its source text for processes without safe-install."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def __reduce__(self) -> Tuple[object, ...]:
        values = {"source": self._source, "space": {"__name__": "sent"}, "name": self._name}
        return eval, (COMPILE_AND_FIND, values)

    def __call__(self, *words: object) -> bytes:
        """Not called: the unpickled function is called in the other process."""
        raise NotImplementedError


def open_engine(target: str, options: EngineOptions) -> ClusterEngine:
    """Connect to a scheduler. `target`: its address, "tcp://10.0.0.1:8786". Errors: EngineFailed,
    UsageError."""
    refuse_python(options)
    return ClusterEngine(DaskCluster(connect(target)))


def connect(target: str) -> Any:
    """A distributed.Client of the scheduler at this address. Errors: EngineFailed."""
    try:
        import distributed
    except ImportError as error:
        raise EngineFailed(f"dask.distributed cannot be imported: {error}", hint=EXTRA) from error
    _refuse_old(distributed.__version__)
    try:
        return distributed.Client(target, timeout=CONNECT, set_as_default=False)
    except Exception as error:  # TypeError if there are no certificates for tls://
        hint = "Name it as `dask scheduler` says when it starts: tcp://HOST:8786."
        if target.startswith("tls:"):
            hint = "Its certificates have to stand in Dask's configuration: distributed.comm.tls."
        raise EngineFailed(f"no Dask scheduler answers at {target}: {error}", hint=hint) from error


def _refuse_old(version: str) -> None:
    parts = version.split(".")[:2]
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < OLDEST:
        raise EngineFailed(f"distributed {version} is too old, 2024.1 or newer serves", hint=EXTRA)


@dataclass(frozen=True)
class Worker:
    """A worker, as the scheduler knows it."""

    nanny: Optional[str]  # the address of its nanny, which can restart it; None: it has none
    identifier: str  # differs between two processes at the same address


class DaskCluster:
    """A Cluster of a Dask scheduler and its workers."""

    name = "Dask"
    inherited: Tuple[str, ...] = ()

    def __init__(self, client: Any) -> None:
        self._client = client
        source = read_source()
        self._answer = SentFunction("answer_in_thread", source)
        self._list_workers = SentFunction("list_workers", source)

    def members(self) -> Sequence[str]:
        """The workers by address, then the scheduler. Errors: EngineFailed."""
        return [*sorted(self._find_workers()), SCHEDULER]

    def _find_workers(self) -> Dict[str, Worker]:
        """Address -> worker, for the workers that exist now. Errors: EngineFailed."""
        try:
            listed = self._wait(self._run_on_scheduler(self._list_workers), SHORT)
            rows = split_answer(listed)[0]["workers"]
            if not isinstance(rows, dict):
                raise InvalidAnswer("it lists no workers")
            return {address: Worker(*row) for address, row in rows.items()}
        except Exception as error:
            raise EngineFailed(
                f"the Dask scheduler does not list its workers: {describe(error)}",
                hint="Is it still there, and does its configuration let clients run functions "
                "(distributed.scheduler.pickle)?",
            ) from error

    def ask_all(
        self, addresses: Sequence[str], question: Question, timeout: float
    ) -> Mapping[str, Answer]:
        """See Cluster.ask_all. One message goes to the scheduler, which passes it on."""
        return dict(self._wait(self._ask(addresses, question, timeout), None))

    def ask_each(
        self, questions: Mapping[str, Question], timeout: Optional[float]
    ) -> Iterator[Tuple[str, Answer]]:
        """See Cluster.ask_each."""
        received: queue.SimpleQueue[Tuple[str, Answer]] = queue.SimpleQueue()

        async def ask_one(address: str, question: Question) -> None:
            answers: Mapping[str, Answer] = {}
            try:
                answers = await self._ask([address], question, timeout)
            finally:
                received.put((address, answers.get(address, Lost("it did not answer"))))

        started = [
            self._start(ask_one(address, question)) for address, question in questions.items()
        ]
        try:
            for _ in started:
                yield received.get()
        finally:
            for one in started:
                one.cancel()

    async def _ask(
        self, addresses: Sequence[str], question: Question, timeout: Optional[float]
    ) -> Dict[str, Answer]:
        workers = [address for address in addresses if address != SCHEDULER]
        asked = [self._ask_workers(workers, question, timeout)] if workers else []
        if SCHEDULER in addresses:
            asked.append(self._ask_scheduler(question, timeout))
        found: Dict[str, Answer] = {}
        for answers in await asyncio.gather(*asked):
            found.update(answers)
        return {address: found.get(address, Lost("it did not answer")) for address in addresses}

    async def _ask_workers(
        self, workers: List[str], question: Question, timeout: Optional[float]
    ) -> Dict[str, Answer]:
        # After an error it is not known which worker is silent, so that all are lost.
        try:
            running = self._client.run(self._answer, *question, workers=workers, on_error="return")
            answers = await asyncio.wait_for(running, timeout)
        except Exception as error:  # noqa: BLE001 - whatever a connection ends with
            return dict.fromkeys(workers, Lost(describe(error)))
        return {address: _as_answer(answers.get(address)) for address in workers}

    async def _ask_scheduler(
        self, question: Question, timeout: Optional[float]
    ) -> Dict[str, Answer]:
        try:
            running = self._run_on_scheduler(self._answer, *question)
            return {SCHEDULER: _as_answer(await asyncio.wait_for(running, timeout))}
        except Exception as error:  # noqa: BLE001 - whatever a connection ends with
            return {SCHEDULER: Lost(describe(error))}

    async def _run_on_scheduler(self, function: SentFunction, *words: object) -> object:
        return await self._client.run_on_scheduler(function, *words)

    def _start(self, work: Coroutine[object, object, Value]) -> concurrent.futures.Future[Value]:
        return asyncio.run_coroutine_threadsafe(work, self._client.loop.asyncio_loop)

    def _wait(self, work: Coroutine[object, object, Value], timeout: Optional[float]) -> Value:
        return self._start(work).result(timeout)

    # --- after a change ---------------------------------------------------------------------------

    def settle(self, groups: Sequence[Group]) -> SettleResult:
        """Restart the workers that have a nanny, all at once. A worker without one is not ended,
        because nothing might start it again."""
        before = self._find_workers()
        restartable = _find_restartable(groups, before)
        outcomes = self._restart(list(restartable)) if restartable else {}
        now = self._wait_until_back(restartable)
        absent = find_absent(restartable, now)
        notes: Dict[str, str] = {}
        missing: Set[str] = set()
        for group in groups:
            note = describe_left(group, before, now, absent, outcomes)
            if note:
                notes[group.node.name] = note
            if absent.intersection(group.addresses):
                missing.add(group.node.name)
        return SettleResult(notes, frozenset(missing))

    def _restart(self, workers: List[str]) -> Mapping[str, str]:
        """Worker -> "OK" or why it was not restarted, as its nanny says.

        Client.restart_workers is not used: where a nanny is slow, it makes the scheduler close the
        worker; then the nanny ends, too, and nothing starts the worker again.
        """
        asked = self._client.scheduler.broadcast(
            msg={"op": "restart", "timeout": RESTART},
            workers=workers,
            nanny=True,
            on_error="return_pickle",
        )
        try:
            outcomes = self._wait(asked, 2 * RESTART)
        except Exception as error:  # noqa: BLE001 - whatever a connection ends with
            return dict.fromkeys(workers, describe(error))
        return {address: describe_outcome(outcome) for address, outcome in outcomes.items()}

    def _wait_until_back(self, old: Mapping[str, Worker]) -> Mapping[str, Worker]:
        """Wait until all old workers are replaced by new ones, at most RESTART seconds. The workers
        that exist then."""
        end = time.monotonic() + RESTART
        now = self._find_workers()
        while find_absent(old, now) and time.monotonic() < end:
            time.sleep(POLL)
            now = self._find_workers()
        return now

    def close(self) -> None:
        """Disconnect. The cluster keeps running."""
        self._client.close()


def _find_restartable(groups: Sequence[Group], workers: Mapping[str, Worker]) -> Dict[str, Worker]:
    """The workers of these groups that have a nanny, by address."""
    found = {}
    for group in groups:
        for address in group.addresses:
            worker = workers.get(address)
            if worker is not None and worker.nanny:
                found[address] = worker
    return found


def find_absent(old: Mapping[str, Worker], now: Mapping[str, Worker]) -> FrozenSet[str]:
    """The addresses of old workers whose nanny has no new worker. A worker with a fixed port comes
    back to the same address, so that addresses do not tell."""
    back = set()
    for worker in now.values():
        if worker not in old.values():
            back.add(worker.nanny)
    return frozenset(address for address, worker in old.items() if worker.nanny not in back)


def describe_left(
    group: Group,
    before: Mapping[str, Worker],
    now: Mapping[str, Worker],
    absent: FrozenSet[str],
    outcomes: Mapping[str, str],
) -> str:
    """The processes of a node that still use the old packages, or did not come back."""
    left: List[str] = []
    for address in group.addresses:
        if address == SCHEDULER:
            left.append("the scheduler still has the old packages in memory: start it again")
        elif address in absent:
            outcome = outcomes.get(address, "OK")
            why = "" if outcome == "OK" else f" ({outcome})"
            if now.get(address) == before[address]:
                left.append(f"worker {address} was not started again{why}")
            else:
                left.append(f"worker {address} was ended and did not come back{why}")
        elif address in before and not before[address].nanny:
            left.append(f"worker {address} has no nanny: start it again yourself")
    return "; ".join(left)


def describe_outcome(outcome: object) -> str:
    """A nanny's answer to a restart, as a text. Dask passes an error as a dict."""
    if isinstance(outcome, str):
        return outcome
    if isinstance(outcome, dict):
        return str(outcome.get("exception_text") or "its nanny failed")
    return "its nanny does not answer"


def describe(error: BaseException) -> str:
    """An error in one line: its type, and its message where it has one."""
    if isinstance(error, (asyncio.TimeoutError, concurrent.futures.TimeoutError)):
        return "no answer came in time"
    text = " ".join(str(error)[:MAX_TEXT].split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _as_answer(answer: object) -> Answer:
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, BaseException):
        return Lost(describe(answer))
    return Lost(f"the answer is no bytes but {type(answer).__name__}")

"""Dask: the environments of workers and of the scheduler are nodes, reached through the scheduler."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import time
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from safe_install.errors import EngineFailed
from safe_install.fleet.engine import EngineOptions, Settled
from safe_install.fleet.engines.cluster import (
    SHORT,
    Answer,
    ClusterEngine,
    Lost,
    Question,
    read_source,
    refuse_python,
)
from safe_install.fleet.engines.members import MOST_TEXT, Group, split_answer

SCHEDULER = "scheduler"  # where the address of a worker could stand
OLDEST = (2024, 1)
RESTART = 120.0  # seconds for workers to end, and again as many for them to come back
LOOK_AGAIN = 0.5
CONNECT = 30.0
EXTRA = "Install Dask beside safe-install: pip install 'torch-safe-install[dask]'."
# Evaluated where it arrives, by the Python that is there: compiled code would serve one version.
COMPILED_THERE = "(exec(compile(source, 'safe-install', 'exec'), space), space[name])[1]"


class Shipped:
    """A function of script.py that is pickled as its text, for processes without safe-install."""

    def __init__(self, name: str, source: str) -> None:
        self._name = name
        self._source = source

    def __reduce__(self) -> Tuple[Any, ...]:
        values = {"source": self._source, "space": {"__name__": "sent"}, "name": self._name}
        return eval, (COMPILED_THERE, values)

    def __call__(self, *words: Any) -> bytes:
        """It never runs here."""
        raise NotImplementedError


def open_engine(target: str, options: EngineOptions) -> ClusterEngine:
    """`target`: the address of a scheduler, "tcp://10.0.0.1:8786". Errors: EngineFailed,
    UsageError."""
    refuse_python(options)
    return ClusterEngine(DaskCluster(connect(target)))


def connect(target: str) -> Any:
    """A distributed.Client. Errors: EngineFailed."""
    try:
        import distributed
    except ImportError as error:
        raise EngineFailed(f"dask.distributed cannot be imported: {error}", hint=EXTRA) from error
    _refuse_old(distributed.__version__)
    try:
        return distributed.Client(target, timeout=CONNECT, set_as_default=False)
    except Exception as error:  # a TypeError where it has no certificates for tls://
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

    nanny: Optional[str]  # its address: it can start the worker again
    identifier: str  # of this process


class DaskCluster:
    """A Cluster of a Dask scheduler and its workers."""

    name = "Dask"
    inherited: Tuple[str, ...] = ()

    def __init__(self, client: Any) -> None:
        self._client = client
        source = read_source()
        self._answer = Shipped("answer_beside", source)
        self._list_workers = Shipped("list_workers", source)

    def members(self) -> Sequence[str]:
        """The workers by address, then the scheduler. Errors: EngineFailed."""
        return [*sorted(self._list()), SCHEDULER]

    def _list(self) -> Dict[str, Worker]:
        """The workers that are there now, by address. Errors: EngineFailed."""
        try:
            listed = self._wait(self._run_on_scheduler(self._list_workers), SHORT)
            rows = split_answer(listed)[0]["workers"]
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
        """One message to the scheduler, which passes it on."""
        return dict(self._wait(self._ask(addresses, question, timeout), None))

    def ask_each(
        self, questions: Mapping[str, Question], timeout: Optional[float]
    ) -> Iterator[Tuple[str, Answer]]:
        """As the answers come."""
        come: queue.SimpleQueue[Tuple[str, Answer]] = queue.SimpleQueue()

        async def ask_one(address: str, question: Question) -> None:
            answers: Mapping[str, Answer] = {}
            try:
                answers = await self._ask([address], question, timeout)
            finally:
                come.put((address, answers.get(address, Lost("it did not answer"))))

        started = [
            self._start(ask_one(address, question)) for address, question in questions.items()
        ]
        try:
            for _ in started:
                yield come.get()
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
        # which of them is silent is not known: all are lost
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

    async def _run_on_scheduler(self, function: Shipped, *words: Any) -> Any:
        return await self._client.run_on_scheduler(function, *words)

    def _start(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._client.loop.asyncio_loop)

    def _wait(self, work: Any, timeout: Optional[float]) -> Any:
        return self._start(work).result(timeout)

    # --- after a change ---------------------------------------------------------------------------

    def settle(self, groups: Sequence[Group]) -> Settled:
        """Workers with a nanny are started again, all at once, and once. What has no nanny is not
        ended: nobody might start it again."""
        before = self._list()
        addresses = [address for group in groups for address in group.addresses]
        known = [address for address in addresses if address in before]
        served = {address: before[address] for address in known if before[address].nanny}
        outcomes = self._restart(list(served)) if served else {}
        now = self._wait_until_back(served)
        absent = find_absent(served, now)
        notes: Dict[str, str] = {}
        for group in groups:
            words = describe_left(group, before, now, absent, outcomes)
            if words:
                notes[group.node.name] = words
        missing = [group.node.name for group in groups if absent.intersection(group.addresses)]
        return Settled(notes, frozenset(missing))

    def _restart(self, workers: List[str]) -> Mapping[str, str]:
        """Worker -> "OK", or why it was not started again, as far as its nanny says so.

        Not by Client.restart_workers: where a nanny is slow, that has the scheduler close the worker,
        and then its nanny ends, too, and nobody starts it again.
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
        """The workers that are there once new ones have come in the places of these, or it took too
        long."""
        end = time.monotonic() + RESTART
        now = self._list()
        while find_absent(old, now) and time.monotonic() < end:
            time.sleep(LOOK_AGAIN)
            now = self._list()
        return now

    def close(self) -> None:
        """The cluster goes on."""
        self._client.close()


def find_absent(old: Mapping[str, Worker], now: Mapping[str, Worker]) -> FrozenSet[str]:
    """The old workers whose nanny has no new one. With a port of its own a worker comes back to the
    same address."""
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
    """Which processes of a node go on with the old packages, or do not come back."""
    left: List[str] = []
    for address in group.addresses:
        if address == SCHEDULER:
            left.append("the scheduler still has the old packages in memory: start it again")
        elif address in absent:
            told = outcomes.get(address, "OK")
            why = "" if told == "OK" else f" ({told})"
            if now.get(address) == before[address]:
                left.append(f"worker {address} was not started again{why}")
            else:
                left.append(f"worker {address} was ended and did not come back{why}")
        elif address in before and not before[address].nanny:
            left.append(f"worker {address} has no nanny: start it again yourself")
    return "; ".join(left)


def describe_outcome(outcome: object) -> str:
    """What a nanny says of a restart; an error comes as an object of Dask's."""
    if isinstance(outcome, str):
        return outcome
    if isinstance(outcome, dict):
        return str(outcome.get("exception_text") or "its nanny failed")
    return "its nanny does not answer"


def describe(error: BaseException) -> str:
    """An error on one line; some say nothing but their name."""
    if isinstance(error, (asyncio.TimeoutError, concurrent.futures.TimeoutError)):
        return "no answer came in time"
    text = " ".join(str(error)[:MOST_TEXT].split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _as_answer(answer: object) -> Answer:
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, BaseException):
        return Lost(describe(answer))
    return Lost(f"the answer is no bytes but {type(answer).__name__}")

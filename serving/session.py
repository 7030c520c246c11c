"""A live run from a trace: workers and a load generator are started, the trace is served, and all are stopped."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from serving.counts import NotServed
from serving.frames import ANSWER, INSTANT, QUERY, FrameError, FrameKind, FrameReader, frame, unpack
from serving.processes import PACED, last_line, spawn, unnamed_file
from serving.service import CHECK_S, DRAIN_NS, Service
from sim.base.errors import ServingError
from sim.base.units import NS_PER_MS
from sim.base.whole_file import translate_os_errors
from sim.engine.queue_set import queue_codes, smallest_slos_ns
from sim.engine.service_queue import in_queues

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    import numpy.typing as npt

    from serving.log import BatchRecord, LiveLog
    from serving.router import Client, Router
    from serving.workers import LiveWorker, WorkerSource
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.engine.result import Result
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

_LEAD_NS = 50 * NS_PER_MS
"""From the order to start to the start of the trace."""

_PATIENCE_S, _END_CHECK_S = 5.0, 0.005
"""How long the load generator may take to end, and how often it is looked whether it has."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveRun:
    """What came of a live run.

    Attributes:
        result: The result in the form of a simulation's.
        log: What the router saw.
        intended_ns: When each query was to be sent, int64, shape (queries,).
        sent_ns: When it was sent, likewise, as the load generator saw it.
        answered_ns: When its answer came back, likewise; -1 if none did.
        decide_ns: How long decisions took, the mean of each instant.
        unsent: Queries at the end of the trace that were not sent, since the run was interrupted; not among the others.
        serves: What workers said of themselves; nothing, if they are paced.
        request_ids: The id of the request that each query came in, if queries came over the network; then the three
            instants of the client are not known, and -1.
    """

    result: Result
    log: LiveLog
    intended_ns: npt.NDArray[np.int64]
    sent_ns: npt.NDArray[np.int64]
    answered_ns: npt.NDArray[np.int64]
    decide_ns: Sequence[int]
    unsent: int = 0
    serves: Mapping[str, Any] = field(default_factory=dict)
    request_ids: Sequence[str] = ()


def serve_trace(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    *,
    seed: int = 0,
    program: WorkerSource = PACED,
    most_waiting: int = 10_000,
    on_start: Callable[[list[LiveWorker]], None] = lambda _workers: None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> LiveRun:
    """Serve a trace in real time, on this machine, and return what came of it.

    Args:
        trace: Arrivals and SLOs, and the queue of each query as its class if the cluster has several queues.
        cluster: Workers, queues, overheads that policies plan with, drop rule; neither faults nor a network.
        table: The table that the policy sees, and that paced workers keep to, where kinds and queues have none.
        policy: What to run next, or that of each queue by name.
        seed: For latencies that are drawn, random routing, and policies that draw random numbers.
        program: Where the workers come from: a program for processes of this machine, or other machines.
        most_waiting: Queries that may wait; any more are rejected.
        on_start: Called with the workers at the start of the trace.
        is_interrupted: Whether to end early: no further query is sent, and those that wait are served.

    Raises:
        PolicyError: The policy raised, or returned a decision that can't be carried out.
        SpecError: A worker refuses its settings, or a queue is not served.
        DataError: The trace does not name the queues of the cluster.
        ServingError: A worker does not start, the load generator is gone, or the run is interrupted before a query.
        StoreError: The disk of temporary files is full.
    """
    with _Session(trace, cluster, table, is_interrupted) as session:
        try:
            return asyncio.run(session.run(policy, seed, program, most_waiting, on_start))
        finally:
            gc.unfreeze()


class _LoadLink(asyncio.Protocol):
    """The connection of the load generator: a client of the router."""

    def __init__(self, submit: Callable[[int, Client, Sequence[int], int], object], queues: Sequence[int]) -> None:
        self._submit, self._reader, self._queues = submit, FrameReader(), queues
        self._transport: asyncio.Transport | None = None
        self._received = 0
        self.is_ready = self.has_sent_all = False
        self.problem = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of a stream socket

    def data_received(self, data: bytes) -> None:
        try:
            for kind, body in self._reader.feed(data):
                self._take(kind, body)
        except FrameError as error:
            self.problem = f"sends nonsense: {error}"

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.problem = self.problem or "is gone"

    def send(self, message: bytes) -> None:
        """Send a frame."""
        if self._transport is not None:
            self._transport.write(message)

    def answer(self, numbers: Sequence[int], outcome: BatchRecord | NotServed, outputs: Sequence[bytes] = ()) -> None:
        """Send the answer to queries; workers have inputs of their own, and outputs are not kept."""
        del outputs
        served = not isinstance(outcome, NotServed)
        self.send(b"".join([frame(FrameKind.ANSWER, ANSWER.pack(number, served)) for number in numbers]))

    def inputs(self, number: int) -> bytes:
        """Return nothing: workers have inputs of their own."""
        del number
        return b""

    def close(self) -> None:
        """Tell the load generator that no answer is to come, once all have gone out."""
        if self._transport is not None:
            self._transport.close()

    def _take(self, kind: FrameKind, body: bytes) -> None:
        if kind is FrameKind.QUERY:
            number, slo_ns = unpack(QUERY, body)
            if number != self._received or slo_ns <= 0:
                raise FrameError(f"query {number} with an SLO of {slo_ns} ns instead of query {self._received}")
            self._received += 1
            self._submit(slo_ns, self, (number,), self._queues[number])
        elif kind is FrameKind.READY:
            self.is_ready = True
        else:
            self.has_sent_all = kind is FrameKind.END


class _Session:
    """The parts of one live run."""

    def __init__(self, trace: Trace, cluster: Cluster, table: LatencyTable, is_interrupted: Callable[[], bool]) -> None:
        self._trace = trace = in_queues(trace, cluster.queues)
        self._cluster, self._table, self._is_interrupted = cluster, table, is_interrupted
        self._slos_ns = np.broadcast_to(trace.slo_ns, len(trace)).astype(np.int64)
        self._queues: list[int] = queue_codes(trace, cluster).tolist()
        with translate_os_errors(Path(tempfile.gettempdir())):
            self._files = unnamed_file(), unnamed_file(), unnamed_file()
        self._queries, self._times, self._load_errors = self._files
        self._stopped_ns: int | None = None  # when the run was interrupted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    async def run(
        self,
        policy: Policy | Mapping[str, Policy],
        seed: int,
        program: WorkerSource,
        most_waiting: int,
        on_start: Callable[[list[LiveWorker]], None],
    ) -> LiveRun:
        """Run from start to end; arguments and errors are those of `serve_trace`."""
        slos_ns = smallest_slos_ns(self._trace, self._cluster)
        async with program.links(self._cluster.workers) as links:
            with Service(
                self._cluster,
                self._table,
                policy,
                seed=seed,
                slos_ns=slos_ns,
                links=links,
                most_waiting=most_waiting,
            ) as service:
                return await self._run(service, on_start)

    async def _run(self, service: Service, on_start: Callable[[list[LiveWorker]], None]) -> LiveRun:
        client, generator = _LoadLink(service.router.submit, self._queues), None
        try:
            generator = await self._start_load(client)
            await service.start(lambda: self._waits_for(client))
            begin_ns = time.monotonic_ns() + _LEAD_NS
            service.begin(begin_ns)
            client.send(frame(FrameKind.START, INSTANT.pack(begin_ns)))
            on_start(service.workers)
            await self._served(service, client)
            client.close()
            await self._load_ended(generator)
            return replace(self._outcome(service.router), serves=service.serves)
        finally:
            if generator is not None:
                generator.kill()
                generator.wait()

    async def _start_load(self, client: _LoadLink) -> subprocess.Popen[bytes]:
        with translate_os_errors(Path(tempfile.gettempdir())):
            np.save(self._queries, self._trace.arrival_ns)
            np.save(self._queries, self._slos_ns)
        self._queries.seek(0)
        generator, connection = spawn("serving.load", self._load_errors, self._queries, self._times)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: client, connection)
        return generator

    async def _load_ended(self, generator: subprocess.Popen[bytes]) -> None:
        """Wait until the load generator has written its times.

        Raises:
            ServingError: It failed, or takes too long.
        """
        ended = 0.0
        while generator.poll() is None and ended < _PATIENCE_S:
            await asyncio.sleep(_END_CHECK_S)
            ended += _END_CHECK_S
        if generator.returncode != 0:
            problem = "does not end" if generator.returncode is None else "did not write its times"
            raise ServingError("load generator", problem, last_line(self._load_errors), "nothing of the run is stored")

    def _waits_for(self, client: _LoadLink) -> bool:
        """Return whether the load generator is not ready yet.

        Raises:
            ServingError: It is gone, or the run is interrupted.
        """
        self._check_load(client)
        if self._is_interrupted():
            raise _interrupted_early()
        return not client.is_ready

    async def _served(self, service: Service, client: _LoadLink) -> None:
        """Look after all parts until every query that is to come has its answer, or none is left to give it.

        Raises:
            PolicyError: The policy failed.
            ServingError: The load generator is gone.
        """
        router = service.router
        while not (client.has_sent_all and service.is_done):
            await asyncio.sleep(CHECK_S)
            service.check()
            if self._stopped_ns is None and self._is_interrupted():
                self._stopped_ns = router.now_ns()
                client.send(frame(FrameKind.STOP))
            if self._stopped_ns is not None and router.now_ns() > self._stopped_ns + DRAIN_NS:
                return
            self._check_load(client)
            if client.has_sent_all:
                service.check_wait()

    def _check_load(self, client: _LoadLink) -> None:
        if client.problem:
            raise ServingError("load generator", client.problem, last_line(self._load_errors))

    def _outcome(self, router: Router) -> LiveRun:
        log = router.log
        self._times.seek(0)
        sent, answered = np.load(self._times, allow_pickle=False), np.load(self._times, allow_pickle=False)
        count = len(log.arrival_ns)
        if not count:
            raise _interrupted_early()
        unsent = len(self._trace) - count
        end_ns = self._stopped_ns if unsent and self._stopped_ns else self._trace.duration_ns
        result = log.result(router.queues, self._trace, end_ns, self._table, self._cluster)
        intended = self._trace.arrival_ns
        return LiveRun(result, log, intended[:count], sent[:count], answered[:count], router.decide_ns, unsent)


def _interrupted_early() -> ServingError:
    return ServingError("live run", "was interrupted before its first query")

"""A live run whose queries come over the network: it is served until it is interrupted."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import numpy as np

from serving.front.handler import RequestHandler
from serving.front.history import History
from serving.front.inference import Status
from serving.front.listening import address_of
from serving.front.metrics import ServiceMetrics
from serving.front.models import ServedQueue, served_models
from serving.front.rest import RestFront
from serving.front.rpc import RpcFront
from serving.processes import PACED
from serving.service import CHECK_S, DRAIN_NS, Service
from serving.session import LiveRun
from sim.base.errors import PolicyError, ServingError
from sim.engine.result import NONE
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from serving.front.listening import Listen
    from serving.front.models import ServedModels
    from serving.workers import WorkerSource
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


def serve_requests(
    name: str,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy | Mapping[str, Policy],
    listen: Listen,
    *,
    is_interrupted: Callable[[], bool],
    on_ready: Callable[[str, str, Sequence[str]], None],
    queues: Sequence[ServedQueue],
    seed: int = 0,
    program: WorkerSource = PACED,
    most_waiting: int = 10_000,
) -> LiveRun:
    """Serve requests in real time until an interruption; return what came of it.

    At the interruption no further request is taken, and those that were are answered.

    Args:
        name: The name of the model, if there are no queues; see `serving.front.models.served_models`.
        cluster: Workers, queues, overheads that policies plan with, drop rule; neither faults nor a network.
        table: The table that the policy sees, and that paced workers keep to, where kinds and queues have none.
        policy: What to run next, or that of each queue by name.
        listen: Where to listen.
        is_interrupted: Whether to end.
        on_ready: Called with the address, that for gRPC or "", and the names of the models, once requests are taken.
        queues: For each queue the SLOs of its queries; one without queues.
        seed: For latencies that are drawn, random routing, and policies that draw random numbers.
        program: Where the workers come from: a program for processes of this machine, or other machines.
        most_waiting: Queries that may wait; any more are rejected.

    Raises:
        PolicyError: The policy raised, or returned a decision that can't be carried out.
        SpecError: It can't listen as asked, or a worker refuses its settings.
        ServingError: A worker does not start, the port is taken, or no query was received.
    """
    models, slos_ns = served_models(name, cluster, queues, most_waiting), [queue.slo_ns for queue in queues]

    async def serve() -> LiveRun:
        async with program.links(cluster.workers) as links:
            with Service(
                cluster, table, policy, seed=seed, slos_ns=slos_ns, links=links, most_waiting=most_waiting
            ) as service:
                return await _Serving(name, service, models, cluster, table, is_interrupted).run(listen, on_ready)

    try:
        return asyncio.run(serve())
    finally:
        gc.unfreeze()


class _Serving:
    """A service, and the requests to it."""

    def __init__(
        self,
        name: str,
        service: Service,
        models: ServedModels,
        cluster: Cluster,
        table: LatencyTable,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._service, self._models, self._cluster, self._table = service, models, cluster, table
        self._is_interrupted = is_interrupted
        subnets = cluster.subnets(table)
        self._handler, self._history = RequestHandler(service.router, subnets), History(name, service, subnets)
        self._ended_ns = 0

    async def run(self, listen: Listen, on_ready: Callable[[str, str, Sequence[str]], None]) -> LiveRun:
        """Run from start to end; arguments and errors are those of `serve_requests`."""
        tls, service, handler = listen.tls(), self._service, self._handler
        with listen.bind() as listening:
            address = address_of(listening)
            metrics = ServiceMetrics(service, handler, self._cluster, self._table)
            front = RestFront(self._models, handler, metrics, self._history if listen.page else None)
            async with front, AsyncExitStack() as stack:
                await front.listen(listening, tls)
                grpc_address = ""
                if listen.grpc_port is not None:
                    rpc = await stack.enter_async_context(RpcFront(self._models, handler))
                    grpc_address = await rpc.listen(listen, listen.grpc_port)
                await service.start(self._is_interrupted_early)
                self._models.learn(service.tensors)
                service.begin(time.monotonic_ns(), with_inputs=self._models.has_inputs)
                handler.is_open = True
                on_ready(f"{'https' if tls else 'http'}://{address}", grpc_address, self._models.names)
                try:
                    await self._served()
                except PolicyError:
                    handler.end(Status.FAILED, "the policy failed; the server ends")
                    raise
                handler.end(Status.UNAVAILABLE, "the server ended before the query was served")
        return self._outcome()

    async def _served(self) -> None:
        """Look after the workers until an interruption, and then until every query has its answer.

        Raises:
            PolicyError: The policy failed.
        """
        service, handler = self._service, self._handler
        router = service.router
        while not (handler.is_draining and service.is_done):
            await asyncio.sleep(CHECK_S)
            service.check()
            self._history.note()
            if router.has_no_workers:
                handler.end(Status.UNAVAILABLE, "no worker is left")
            if not handler.is_draining and self._is_interrupted():
                handler.is_draining, self._ended_ns = True, router.now_ns()
            if handler.is_draining:
                if router.now_ns() > self._ended_ns + DRAIN_NS:
                    return
                service.check_wait()

    def _is_interrupted_early(self) -> bool:
        if self._is_interrupted():
            raise ServingError("ssim serve", "was interrupted before its workers were ready")
        return False

    def _outcome(self) -> LiveRun:
        router = self._service.router
        log = router.log
        if not log.arrival_ns:
            raise ServingError("ssim serve", "received no query", "", "nothing is stored")
        slos = np.array(log.slos_ns, dtype=np.int64)
        one_slo = int(slos[0]) if (slos == slos[0]).all() else slos
        arrivals = np.array(log.arrival_ns, dtype=np.int64)
        names = tuple(queue.name for queue in self._cluster.queues)
        codes = np.array(log.queue, dtype=np.uint16) if names else None
        source = {"source": "requests to a server"}
        trace = Trace(arrivals, one_slo, int(arrivals[-1]) + 1, "requests", source, codes, names)
        result = log.result(router.queues, trace, self._ended_ns, self._table, self._cluster)
        never = np.full(len(arrivals), NONE)
        ids = self._handler.request_ids
        return LiveRun(result, log, never, never, never, router.decide_ns, serves=self._service.serves, request_ids=ids)

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
from serving.front.inference import ServedModel, Status
from serving.front.listening import address_of
from serving.front.metrics import ServiceMetrics
from serving.front.rest import RestFront
from serving.front.rpc import RpcFront
from serving.processes import PACED
from serving.service import CHECK_S, DRAIN_NS, Service
from serving.session import LiveRun
from sim.base.errors import PolicyError, ServingError
from sim.engine.result import NONE
from sim.traces.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from serving.front.listening import Listen
    from serving.workers import WorkerSource
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable


def serve_requests(
    name: str,
    cluster: Cluster,
    table: LatencyTable,
    policy: Policy,
    listen: Listen,
    *,
    is_interrupted: Callable[[], bool],
    on_ready: Callable[[str, str], None],
    slo_ns: int,
    slo_is_for_all: bool = True,
    seed: int = 0,
    program: WorkerSource = PACED,
    most_waiting: int = 10_000,
) -> LiveRun:
    """Serve requests in real time until an interruption; return what came of it.

    At the interruption no further request is taken, and those that were are answered.

    Args:
        name: The name of the model.
        cluster: Workers, overheads that policies plan with, drop rule; neither faults nor a network.
        table: The table that the policy sees, and that paced workers keep to.
        policy: What to run next.
        listen: Where to listen.
        is_interrupted: Whether to end.
        on_ready: Called with the address, and that for gRPC or "", once requests are taken.
        slo_ns: The smallest SLO, as policies see it.
        slo_is_for_all: Whether it is that of requests without a timeout; else each request needs one.
        seed: For latencies that are drawn, and policies that draw random numbers.
        program: Where the workers come from: a program for processes of this machine, or other machines.
        most_waiting: Queries that may wait; any more are rejected.

    Raises:
        PolicyError: The policy raised, or returned a decision that can't be carried out.
        SpecError: It can't listen as asked, or a worker refuses its settings.
        ServingError: A worker does not start, the port is taken, or no query was received.
    """
    model = ServedModel(name, slo_ns if slo_is_for_all else None, most_waiting)

    async def serve() -> LiveRun:
        limits = {"slo_ns": slo_ns, "most_waiting": most_waiting}
        async with program.links(cluster.workers) as links:
            with Service(cluster, table, policy, seed=seed, links=links, **limits) as service:
                return await _Serving(service, model, cluster, table, is_interrupted).run(listen, on_ready)

    try:
        return asyncio.run(serve())
    finally:
        gc.unfreeze()


class _Serving:
    """A service, and the requests to it."""

    def __init__(
        self,
        service: Service,
        model: ServedModel,
        cluster: Cluster,
        table: LatencyTable,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._service, self._model, self._cluster, self._table = service, model, cluster, table
        self._is_interrupted = is_interrupted
        self._handler, self._history = RequestHandler(service.router, table, model), History(service, table)
        self._ended_ns = 0

    async def run(self, listen: Listen, on_ready: Callable[[str, str], None]) -> LiveRun:
        """Run from start to end; arguments and errors are those of `serve_requests`."""
        tls, service, handler = listen.tls(), self._service, self._handler
        with listen.bind() as listening:
            address = address_of(listening)
            metrics = ServiceMetrics(service, handler, self._table)
            front = RestFront(self._model, handler, metrics, self._history if listen.page else None)
            async with front, AsyncExitStack() as stack:
                await front.listen(listening, tls)
                grpc_address = ""
                if listen.grpc_port is not None:
                    rpc = await stack.enter_async_context(RpcFront(self._model, handler))
                    grpc_address = await rpc.listen(listen, listen.grpc_port)
                await service.start(self._is_interrupted_early)
                self._model.learn(service.tensors)
                service.begin(time.monotonic_ns(), with_inputs=self._model.computed > 0)
                handler.is_open = True
                on_ready(f"{'https' if tls else 'http'}://{address}", grpc_address)
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
            if router.is_deserted:
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
        trace = Trace(arrivals, one_slo, int(arrivals[-1]) + 1, "requests", {"source": "requests to a server"})
        result = log.result(router.queue, trace, self._ended_ns, self._table, self._cluster)
        never = np.full(len(arrivals), NONE)
        ids = self._handler.request_ids
        return LiveRun(result, log, never, never, never, router.decide_ns, serves=self._service.serves, request_ids=ids)

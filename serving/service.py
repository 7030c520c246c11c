"""Router and workers of a live run; whoever sends the queries stands outside."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

from serving.router import Router
from serving.workers import LiveWorker, ServedModelInfo
from sim.base.errors import ServingError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from serving.workers import WorkerLink
    from sim.engine.cluster import Cluster
    from sim.engine.policy import Policy
    from sim.tables.latency import LatencyTable

CHECK_S = 0.02
"""How often workers are looked after."""

DRAIN_NS = 10 * NS_PER_S
"""How long queries that wait are still served after an interruption."""

FREEZE_NS = NS_PER_S
"""How often the log so far is hidden from Python's collector, which would stop for a second at 300,000 batches."""

_START_CHECK_S = 0.005
"""How often it is looked whether all are ready."""


class Service:
    """A context in which worker processes run; at its end they are stopped."""

    def __init__(
        self,
        cluster: Cluster,
        table: LatencyTable,
        policy: Policy | Mapping[str, Policy],
        *,
        seed: int,
        slos_ns: Sequence[int],
        links: Sequence[WorkerLink],
        most_waiting: int,
    ) -> None:
        """Describe a service; it belongs to the event loop that is running.

        Args:
            cluster: Workers, queues, overheads that policies plan with, drop rule.
            table: The table that the policy sees, and that paced workers keep to, where kinds and queues have none.
            policy: What to run next, or that of each queue by name.
            seed: For latencies that are drawn, random routing, and policies that draw random numbers.
            slos_ns: For each queue the smallest SLO, as policies see it; one without queues.
            links: The ways to the workers.
            most_waiting: Queries that may wait; any more are rejected.
        """
        loop = asyncio.get_running_loop()
        self.router = Router(loop, cluster, table, policy, seed=seed, slos_ns=slos_ns, most_waiting=most_waiting)
        self._freeze_ns = 0
        note = self.router.log.faults.append
        self._model = ServedModelInfo()
        self.workers = [LiveWorker(number, link, self._model, note) for number, link in enumerate(links)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.router.close()
        for worker in self.workers:
            worker.stop()

    async def start(self, is_waited_for: Callable[[], bool]) -> None:
        """Start the workers and wait until all are ready.

        Args:
            is_waited_for: Whether anything else is still to be waited for; may raise.

        Raises:
            SpecError: A worker refuses its settings.
            ServingError: A worker does not start.
        """
        for worker in self.workers:
            worker.start()
        while is_waited_for() or not all(worker.is_up for worker in self.workers):
            for worker in self.workers:
                worker.check(time.monotonic_ns())
                if worker.is_given_up:
                    if worker.refusal is not None:
                        raise worker.refusal
                    raise ServingError(f"worker {worker.number}", "does not start", worker.reason)
            await asyncio.sleep(_START_CHECK_S)
        gc.collect()
        self._freeze()

    @property
    def serves(self) -> Mapping[str, Any]:
        """What workers said of themselves; nothing, if they are paced."""
        return self._model.serves

    @property
    def tensors(self) -> Mapping[str, Any]:
        """Inputs and outputs of the workers in the words of the Open Inference Protocol; nothing, if they are paced."""
        return self._model.tensors

    def begin(self, begin_ns: int, *, with_inputs: bool = False) -> None:
        """Serve, and count time from an instant of the monotonic clock; arguments are those of `Router.begin`."""
        self.router.begin(begin_ns, [worker.run for worker in self.workers], with_inputs=with_inputs)
        for worker in self.workers:
            worker.serve(self.router)

    def check(self) -> None:
        """Look after the workers.

        Raises:
            PolicyError: The policy failed.
        """
        if self.router.error is not None:
            raise self.router.with_counts(self.router.error)
        for worker in self.workers:
            worker.check(time.monotonic_ns())
        if time.monotonic_ns() >= self._freeze_ns:
            gc.collect(1)
            self._freeze()

    def _freeze(self) -> None:
        """Let the collector no longer look through what is there: it stays."""
        gc.freeze()
        self._freeze_ns = time.monotonic_ns() + FREEZE_NS

    def check_wait(self) -> None:
        """Refuse a policy that waits for ever, when no query is to come; raises as `Router.check_wait`."""
        if all(worker.is_up or worker.is_given_up for worker in self.workers):
            self.router.check_wait()

    @property
    def is_done(self) -> bool:
        """Whether every query has its answer, or no worker is left to give it."""
        return self.router.open_queries == 0 or self.router.has_no_workers

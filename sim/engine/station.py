"""Stations: workers of a kind that take from the same queues, and what the drop rule takes from these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sim.engine.offers import Offers
from sim.engine.queue_set import QueueSet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from sim.engine.cluster import Cluster
    from sim.engine.kinds import WorkerPool
    from sim.engine.queues import Admission, Queue

    Watch: TypeAlias = Callable[[Sequence[Queue]], Sequence[Queue]]


@dataclass(slots=True, eq=False)
class Station:
    """Workers of a kind that are offered together: all of them or, with a queue for each worker, one.

    Attributes:
        pools: Their kind, by queue, with the table that the policy of the queue sees.
        queues: What they take from.
        offers: The order in which the queues are offered; the same object for all stations that share them.
        free: The numbers of the workers that can take a batch, in order.
        alive: How many serve.
    """

    pools: Sequence[WorkerPool]
    queues: Sequence[Queue]
    offers: Offers
    free: list[int]
    alive: int


class Stations:
    """The stations of a run, in the order of offers; those that come during the run are the last.

    Attributes:
        all: The stations.
        of: The station of each worker.
        router: The queues of all workers, where each has its own.
    """

    def __init__(
        self, admission: Admission, cluster: Cluster, pools: Sequence[Sequence[WorkerPool]], watch: Watch
    ) -> None:
        """Begin with the workers of the cluster, which are free.

        Args:
            admission: The queues.
            cluster: The workers.
            pools: For each queue the workers of each kind in the order of offers, with the tables that its policy sees.
            watch: Returns the queues of a worker such that it sees what leaves them.
        """
        self._admission, self._cluster, self._watch = admission, cluster, watch
        self._kinds = list(zip(*pools, strict=True))
        self._longest_ns = max(int(pool.table.dense_ns.max()) for kind in self._kinds for pool in kind)
        self.router = admission if cluster.is_routed and isinstance(admission, QueueSet) else None
        self.all: list[Station] = []
        for kind in self._kinds:
            workers = kind[0].workers
            for mine in [range(one, one + 1) for one in workers] if self.router else [workers]:
                self._add(kind, mine)
        self.of = {worker: station for station in self.all for worker in station.free}

    def _add(self, pools: Sequence[WorkerPool], workers: range) -> Station:
        if self.all and not self.router:  # all share the queues
            station = replace(self.all[0], pools=pools, free=list(workers), alive=len(workers))
        else:
            queues = self._watch(self._admission.queues(workers.start))
            offers = Offers(self._cluster.order, self._cluster.queues, self._cluster.dispatch_ns + self._longest_ns)
            station = Station(pools, queues, offers, list(workers), len(workers))
        self.all.append(station)
        return station

    def add_worker(self, worker: int, kind: int) -> None:
        """Add the next worker, which does not serve yet.

        Args:
            worker: Its number.
            kind: Its kind, in the order of offers.
        """
        if self.router is None:
            self.of[worker] = self.all[kind]
            return
        self.router.add_worker()
        self.of[worker] = self._add(self._kinds[kind], range(worker, worker))

    @property
    def any_free(self) -> bool:
        """Whether a worker can take a batch."""
        return any(station.free for station in self.all)

    @property
    def alive(self) -> int:
        """How many workers serve."""
        return sum(station.alive for station in self.all)

    def drop(self, now_ns: int) -> None:
        """Drop the queries that the drop rule gives up, where a worker is free."""
        if self._cluster.drop == "never":
            return
        for stations in [[one] for one in self.all if one.free] if self.router else [self.all]:  # that share queues
            for place, queue in enumerate(stations[0].queues):
                if queue.length:
                    queue.drop_before(now_ns + self._least_ns([one.pools[place] for one in stations if one.alive]))

    def _least_ns(self, alive: Sequence[WorkerPool]) -> int:
        """Return the time that a query needs at least so that the drop rule spares it."""
        if self._cluster.drop == "expired":
            return 0
        return self._cluster.dispatch_ns + min(pool.table.smallest_ns for pool in alive)

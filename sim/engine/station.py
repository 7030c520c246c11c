"""Stations: workers of a kind that take from the same queues, and what the drop rule takes from these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.engine.offers import Offers
from sim.engine.placement import equal_workers
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
    """Workers of a kind that are offered together: all; one, with a queue for each worker; or those of equal placement.

    Attributes:
        pools: Their kind, by queue, with the table that the policy of the queue sees.
        queues: The queues.
        served: Those that they take from, as places in the list.
        offers: The order in which the queues are offered; the same object for all stations that share them.
        free: The numbers of the workers that can take a batch, in order.
        alive: How many serve.
    """

    pools: Sequence[WorkerPool]
    queues: Sequence[Queue]
    served: tuple[int, ...]
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
            for workers, served in equal_workers(cluster, kind[0].workers):
                for mine in [[worker] for worker in workers] if self.router else [workers]:
                    self._add(kind, mine, served, next(iter(mine), 0))
        self.of = {worker: station for station in self.all for worker in station.free}

    def _add(self, pools: Sequence[WorkerPool], free: list[int], served: tuple[int, ...], worker: int) -> Station:
        """Add and return a station, which has the queues of a worker."""
        shared = None if self.router else next(iter(self.all), None)
        queues = shared.queues if shared else self._watch(self._admission.queues(worker))
        # Those who share queues and serve the same take turns together.
        turns = (one.offers for one in self.all if shared and one.served == served)
        offers = next(turns, None) or Offers(
            self._cluster.order, self._cluster.queues, self._cluster.dispatch_ns + self._longest_ns
        )
        self.all.append(Station(pools, queues, served, offers, free, len(free)))
        return self.all[-1]

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
        self.of[worker] = self._add(self._kinds[kind], [], self.all[0].served, worker)

    @property
    def any_free(self) -> bool:
        """Whether a worker can take a batch."""
        return any(station.free for station in self.all)

    def alive(self, queue: int) -> int:
        """Return how many of the workers of a queue serve."""
        return sum(station.alive for station in self.all if queue in station.served)

    def drop(self, now_ns: int) -> None:
        """Drop the queries that the drop rule gives up, where a worker that serves them is free."""
        if self._cluster.drop == "never":
            return
        for stations in [[one] for one in self.all] if self.router else [self.all]:  # that share queues
            for place, queue in enumerate(stations[0].queues):
                serving = [one for one in stations if one.alive and place in one.served]
                if queue.length and any(one.free for one in serving):
                    queue.drop_before(now_ns + self._least_ns([one.pools[place] for one in serving]))

    def _least_ns(self, alive: Sequence[WorkerPool]) -> int:
        """Return the time that a query needs at least so that the drop rule spares it."""
        if self._cluster.drop == "expired":
            return 0
        return self._cluster.dispatch_ns + min(pool.table.smallest_ns for pool in alive)

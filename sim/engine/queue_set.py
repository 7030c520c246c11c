"""Several queues side by side: one for each queue of the cluster, and for each worker if queries are routed to them."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

import numpy as np

from sim.base.streams import stream
from sim.engine.queues import REJECTED, WAITING, HeapQueue, queue_for
from sim.tables.service_times import luck

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.queues import OrderedQueue
    from sim.traces.trace import Trace


def admission_for(trace: Trace, cluster: Cluster, seed: int) -> OrderedQueue | HeapQueue | QueueSet:
    """Return the fastest admission that is exact for a trace, as `sim.engine.service_queue.in_queues` returns it."""
    if cluster.queues or cluster.is_routed:
        return QueueSet(trace, cluster, seed)
    return queue_for(trace, cluster.network_ns)


class QueueSet:
    """The queries of a run and the queues that they join, whose batches are numbered together."""

    def __init__(self, trace: Trace, cluster: Cluster, seed: int) -> None:
        """Begin with empty queues.

        Args:
            trace: The arrivals; if the cluster has queues, the class of a query is its queue.
            cluster: The queues, and how queries are routed to workers.
            seed: For random routing.
        """
        due_ns = cluster.due_ns(trace)
        codes = np.zeros(len(trace), np.int64)
        if cluster.queues and trace.class_codes is not None:
            codes = trace.class_codes.astype(np.int64)
        bounds = [queue.bound for queue in cluster.queues] or [None]
        self._arrivals: list[int] = trace.arrival_ns.tolist()
        self._queue_of: list[int] = codes.tolist()
        self.deadlines: list[int] = due_ns.tolist()
        self.batch_of = [WAITING] * len(self._arrivals)
        self.batches = 0
        self._admitted = 0
        self.next_arrival_ns: int | None = self._arrivals[0] if self._arrivals else None
        self._streams: list[_Stream] = []
        for place, bound in enumerate(bounds):
            mine = codes == place
            slo_ns = int((due_ns - trace.arrival_ns)[mine].min()) if mine.any() else 0
            self._streams.append(_Stream(trace.arrival_ns[mine].tolist(), slo_ns, bound))
        self._routing = cluster.routing
        sites = cluster.workers if cluster.is_routed else 1
        self._queues = [[_MemberQueue(self, one, worker) for one in self._streams] for worker in range(sites)]
        self.running = [0] * sites  # queries that a worker runs
        self._alive = list(range(sites))
        self._stranded: list[int] = []  # queries that came while no worker was alive
        self._next = 0  # the worker whose turn it is
        self._key = int(stream(seed, "routing").integers(2**63))

    def queues(self, worker: int) -> Sequence[HeapQueue]:
        """Return the queues that a worker serves, in the order of the cluster."""
        return self._queues[worker if self._routing != "central" else 0]

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now, as far as their queues have room."""
        arrived = bisect_right(self._arrivals, now_ns, self._admitted)
        for query in range(self._admitted, arrived):
            of = self._streams[self._queue_of[query]]
            of.admitted += 1
            if of.is_full:
                self.batch_of[query] = REJECTED
            else:
                of.waiting += 1
                self._join(query)
        self._admitted = arrived
        self.next_arrival_ns = self._arrivals[arrived] if arrived < len(self._arrivals) else None

    def finish(self, worker: int) -> None:
        """Note that a worker can take its next batch."""
        self.running[worker] = 0

    def change(self, recovered: Iterable[int], failed: Iterable[int]) -> None:
        """Note that workers come back or fail; the queries that wait for those that fail are routed anew."""
        for worker in recovered:
            insort(self._alive, worker)
        for worker in failed:
            self._alive.remove(worker)
            self.running[worker] = 0
            for queue in self._queues[worker]:
                self._stranded += queue.leave()
        moved, self._stranded = sorted(self._stranded), []
        for query in moved:
            self._join(query)

    def _join(self, query: int) -> None:
        if not self._alive:
            self._stranded.append(query)
        else:
            self._queues[self._worker_for(query)][self._queue_of[query]].put(query)

    def _worker_for(self, query: int) -> int:
        """Return the worker to whose queue a query goes."""
        alive = self._alive
        match self._routing:
            case "round_robin":
                worker = alive[bisect_left(alive, self._next) % len(alive)]
                self._next = worker + 1
                return worker
            case "random":
                return alive[luck(self._key, query) * len(alive) >> 32]
            case _:
                return min(alive, key=lambda one: self.running[one] + sum(queue.length for queue in self._queues[one]))

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return the number of each query's batch; see `sim.engine.queues.Admission`."""
        if self._arrivals:  # where no worker was left, nobody has asked for the last ones
            self.admit(self._arrivals[-1])
        return np.array(self.batch_of, dtype=np.int64)


class _Stream:
    """The queries of one queue of the cluster, wherever they wait."""

    __slots__ = ("admitted", "arrivals", "bound", "slo_ns", "waiting")

    def __init__(self, arrivals: list[int], slo_ns: int, bound: int | None) -> None:
        self.arrivals, self.slo_ns, self.bound = arrivals, slo_ns, bound
        self.admitted = self.waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether the next query is rejected."""
        return self.bound is not None and self.waiting >= self.bound


class _MemberQueue(HeapQueue):
    """Those of them that wait for a worker, or for all workers; queries have their numbers in the trace."""

    __slots__ = ("_set", "_stream", "_worker")

    def __init__(self, owner: QueueSet, of: _Stream, worker: int) -> None:
        super().__init__(of.arrivals, owner.deadlines)
        self._set, self._stream, self._worker, self._slo_ns = owner, of, worker, of.slo_ns
        self._batch_of = owner.batch_of

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of admitted queries that arrived at this time or later, at any worker."""
        admitted = self._stream.admitted
        return admitted - bisect_left(self.arrivals, since_ns, 0, admitted)

    def put(self, query: int) -> None:
        """Take in a query."""
        heapq.heappush(self._heap, (self._deadlines[query], query))
        self.length += 1

    def leave(self) -> list[int]:
        """Return all queries, which wait here no longer."""
        left = [query for _, query in self._heap]
        self._heap.clear()
        self.length = 0
        return left

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        self._batches = self._set.batches
        self._set.batches += 1
        self._set.running[self._worker] += count
        return super().take(count)

    def _remove(self, count: int, mark: int) -> None:
        super()._remove(count, mark)
        self._stream.waiting -= count

"""Several queues side by side: one for each queue of the cluster, and for each worker if queries are routed to them."""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

import numpy as np

from sim.base.streams import stream
from sim.engine.queues import CANCELLED, REJECTED, WAITING, HeapQueue, queue_for
from sim.tables.service_times import quantile

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from typing import Self

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.queues import OrderedQueue
    from sim.traces.trace import Trace


def admission_for(trace: Trace, cluster: Cluster, seed: int) -> OrderedQueue | HeapQueue | QueueSet:
    """Return the fastest admission that is exact for a trace, as `sim.engine.service_queue.in_queues` returns it."""
    if cluster.has_queue_set:
        return QueueSet.of_trace(trace, cluster, seed)
    return queue_for(trace, cluster.network_ns)


def queue_codes(trace: Trace, cluster: Cluster) -> npt.NDArray[np.uint16]:
    """Return the queue of each query, an index into those of the cluster: uint16, shape (queries,)."""
    if not cluster.queues or trace.class_codes is None:
        return np.zeros(len(trace), np.uint16)
    return trace.class_codes


def smallest_slos_ns(trace: Trace, cluster: Cluster) -> list[int]:
    """Return for each queue the smallest time from an arrival to its deadline, as policies see it; 0 without arrivals.

    Args:
        trace: The arrivals, as `sim.engine.service_queue.in_queues` returns them.
        cluster: The queues; one without any.
    """
    slos_ns, codes = cluster.due_ns(trace) - trace.arrival_ns, queue_codes(trace, cluster)
    members = (slos_ns[codes == place] for place in range(max(1, len(cluster.queues))))
    return [int(mine.min()) if len(mine) else 0 for mine in members]


def routing_key(seed: int) -> int:
    """Return the key of the quantiles by which queries are routed at random."""
    return int(stream(seed, "routing").integers(2**63))


class QueueSet:
    """The queries of a run and the queues that they join, whose batches are numbered together."""

    def __init__(self, cluster: Cluster, seed: int, slos_ns: Sequence[int]) -> None:
        """Begin with no queries.

        Args:
            cluster: The queues, and how queries are routed to workers.
            seed: For random routing.
            slos_ns: For each queue the smallest time from an arrival to its deadline; one without queues.
        """
        bounds = [queue.bound for queue in cluster.queues] or [None]
        if cluster.placement is not None:  # where no worker serves a queue, all is rejected
            bounds = [
                bound if cluster.placement[queue.name] else 0
                for queue, bound in zip(cluster.queues, bounds, strict=True)
            ]
        self._arrivals: list[int] = []
        self._queue_of: list[int] = []
        self.deadlines: list[int] = []
        self.batch_of: list[int] = []
        self.batches = 0
        self._admitted = 0
        self.next_arrival_ns: int | None = None
        self._streams = [_Stream(slo_ns, bound) for slo_ns, bound in zip(slos_ns, bounds, strict=True)]
        self._routing = cluster.routing
        sites = cluster.workers if cluster.is_routed else 1
        self._queues = [[_MemberQueue(self, one, worker) for one in self._streams] for worker in range(sites)]
        self.running = [0] * sites  # queries that a worker runs
        self._alive = list(range(sites))
        self._stranded: list[int] = []  # queries that came while no worker was alive
        self._next = 0  # the worker whose turn it is
        self._key = routing_key(seed)

    @classmethod
    def of_trace(cls, trace: Trace, cluster: Cluster, seed: int) -> Self:
        """Return the queues for the queries of a trace; if the cluster has queues, the class of a query is its queue.

        Args:
            trace: The arrivals.
            cluster: The queues, and how queries are routed to workers.
            seed: For random routing.
        """
        codes = queue_codes(trace, cluster)
        found = cls(cluster, seed, smallest_slos_ns(trace, cluster))
        found._arrivals += trace.arrival_ns.tolist()
        found._queue_of += codes.tolist()
        found.deadlines += cluster.due_ns(trace).tolist()
        found.batch_of += [WAITING] * len(trace)
        for place, of in enumerate(found._streams):
            of.arrivals += trace.arrival_ns[codes == place].tolist()
        found.next_arrival_ns = found._arrivals[0]
        return found

    def queues(self, worker: int) -> Sequence[HeapQueue]:
        """Return the queues that a worker serves, in the order of the cluster."""
        return self._queues[worker if self._routing != "central" else 0]

    def length_of(self, queue: int) -> int:
        """Return how many admitted queries of a queue of the cluster wait, wherever they do."""
        return self._streams[queue].waiting

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now, as far as their queues have room."""
        arrived = bisect_right(self._arrivals, now_ns, self._admitted)
        for query in range(self._admitted, arrived):
            of = self._streams[self._queue_of[query]]
            of.admitted += 1
            if of.is_full:
                self.batch_of[query] = REJECTED
                self.note([query], REJECTED)
            else:
                of.waiting += 1
                self._join(query)
        self._admitted = arrived
        self.next_arrival_ns = self._arrivals[arrived] if arrived < len(self._arrivals) else None

    def cancel(self, queries: Collection[int]) -> None:
        """Take queries out that wait and are admitted."""
        gone = set(queries)
        for query in gone:
            self.batch_of[query] = CANCELLED
            self._streams[self._queue_of[query]].waiting -= 1
        for queues in self._queues:
            for place in {self._queue_of[query] for query in gone}:
                queues[place].withdraw(gone)
        self._stranded = [query for query in self._stranded if query not in gone]

    def note(self, queries: Sequence[int], mark: int) -> None:
        """Take note of queries that wait no longer: for subclasses.

        Args:
            queries: The queries, in the order of their deadlines.
            mark: Their batch, `DROPPED` or `REJECTED`.
        """

    def finish(self, worker: int) -> None:
        """Note that a worker can take its next batch."""
        self.running[worker] = 0

    def add_worker(self) -> None:
        """Add the next worker, which gets queries once it has come, where each has queues of its own."""
        self._queues.append([_MemberQueue(self, one, len(self._queues)) for one in self._streams])
        self.running.append(0)

    def change(self, came: Iterable[int], gone: Iterable[int]) -> None:
        """Note that workers come or go; the queries that wait for those that go are routed anew.

        Args:
            came: Workers that come, or come back.
            gone: Those that fail, or take no further batch.
        """
        for worker in came:
            insort(self._alive, worker)
        for worker in gone:
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
            case "central":
                return 0
            case "round_robin":
                worker = alive[bisect_left(alive, self._next) % len(alive)]
                self._next = worker + 1
                return worker
            case "random":
                return alive[quantile(self._key, query) * len(alive) >> 32]
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

    def __init__(self, slo_ns: int, bound: int | None) -> None:
        self.arrivals: list[int] = []
        self.slo_ns, self.bound = slo_ns, bound
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

    def withdraw(self, gone: Collection[int]) -> None:
        """Take out those of some queries that wait here."""
        left = [entry for entry in self._heap if entry[1] not in gone]
        if len(left) < len(self._heap):
            heapq.heapify(left)
            self._heap, self.length = left, len(left)

    def _remove(self, count: int, mark: int) -> None:
        queries = [heapq.heappop(self._heap)[1] for _ in range(count)]
        for query in queries:
            self._batch_of[query] = mark
        self.length -= count
        self._stream.waiting -= count
        self._set.note(queries, mark)

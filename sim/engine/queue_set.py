"""Several queues side by side, one for each queue of the cluster."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from sim.engine.queues import REJECTED, WAITING, HeapQueue, queue_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.queues import Admission, Queue
    from sim.traces.trace import Trace


def admission_for(trace: Trace, cluster: Cluster) -> Admission:
    """Return the fastest admission that is exact for a trace, as `sim.engine.service_queue.in_queues` returns it."""
    return QueueSet(trace, cluster) if cluster.queues else queue_for(trace, cluster.network_ns)


class QueueSet:
    """The queries of a run and the queues that they join, whose batches are numbered together."""

    def __init__(self, trace: Trace, cluster: Cluster) -> None:
        """Begin with empty queues.

        Args:
            trace: The arrivals; the class of a query is its queue.
            cluster: The queues.
        """
        due_ns = cluster.due_ns(trace)
        codes = np.zeros(len(trace), np.int64) if trace.class_codes is None else trace.class_codes
        self._arrivals: list[int] = trace.arrival_ns.tolist()
        self._queue_of: list[int] = codes.tolist()
        self.deadlines: list[int] = due_ns.tolist()
        self.batch_of = [WAITING] * len(self._arrivals)
        self.batches = 0
        self._admitted = 0
        self.next_arrival_ns: int | None = self._arrivals[0] if self._arrivals else None
        self._queues: list[_MemberQueue] = []
        for place, queue in enumerate(cluster.queues):
            mine = codes == place
            slo_ns = int((due_ns - trace.arrival_ns)[mine].min()) if mine.any() else 0
            self._queues.append(_MemberQueue(self, trace.arrival_ns[mine].tolist(), slo_ns, queue.bound))

    def queues(self, worker: int) -> Sequence[Queue]:
        """Return the queues of the cluster."""
        return self._queues

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now, as far as their queues have room."""
        arrived = bisect_right(self._arrivals, now_ns, self._admitted)
        for query in range(self._admitted, arrived):
            queue = self._queues[self._queue_of[query]]
            queue.admitted += 1
            if queue.is_full:
                self.batch_of[query] = REJECTED
            else:
                queue.put(query)
        self._admitted = arrived
        self.next_arrival_ns = self._arrivals[arrived] if arrived < len(self._arrivals) else None

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return the number of each query's batch; see `sim.engine.queues.Admission`."""
        if self._arrivals:  # where no worker was left, nobody has asked for the last ones
            self.admit(self._arrivals[-1])
        return np.array(self.batch_of, dtype=np.int64)


class _MemberQueue(HeapQueue):
    """One of the queues; queries have their numbers in the trace."""

    __slots__ = ("_bound", "_set")

    def __init__(self, owner: QueueSet, arrivals: list[int], slo_ns: int, bound: int | None) -> None:
        super().__init__(arrivals, owner.deadlines)
        self._set, self._slo_ns, self._bound = owner, slo_ns, bound
        self._batch_of = owner.batch_of

    @property
    def is_full(self) -> bool:
        """Whether the next query is rejected."""
        return self._bound is not None and self.length >= self._bound

    def put(self, query: int) -> None:
        """Take in a query."""
        heapq.heappush(self._heap, (self._deadlines[query], query))
        self.length += 1

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        self._batches = self._set.batches
        self._set.batches += 1
        return super().take(count)

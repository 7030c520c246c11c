"""The queue: earliest deadline first, ties by arrival order.

Two implementations of one interface. If deadlines never decrease in order of arrival (one SLO for all), the queue is a
slice of the arrival list between two indices; else it is a heap of (deadline, query). Several queues, and a queue for
each worker, are in `sim.engine.queue_set`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from operator import sub
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.traces.trace import Trace


class Queue(Protocol):
    """Waiting queries, the most urgent first."""

    @property
    def length(self) -> int:
        """Queries waiting."""
        ...

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        ...

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of its queries that arrived at this time or later, and are admitted."""
        ...

    def head_deadline(self) -> int:
        """Return the deadline of the most urgent query; the queue is not empty."""
        ...

    def deadlines(self, count: int) -> list[int]:
        """Return the deadlines of up to `count` queries, the most urgent first."""
        ...

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; there are that many. Return the first one."""
        ...

    def drop(self, count: int) -> None:
        """Drop the `count` most urgent queries; there are that many."""
        ...

    def drop_before(self, deadline_ns: int) -> None:
        """Drop all queries with a deadline earlier than this."""
        ...


class Admission(Protocol):
    """Arrivals and the queues that they join. A query is admitted when the clock reaches its arrival."""

    @property
    def next_arrival_ns(self) -> int | None:
        """The earliest known arrival that has not been admitted yet, or None."""
        ...

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now."""
        ...

    def queues(self, worker: int) -> Sequence[Queue]:
        """Return the queues that a worker serves, in the order of the cluster."""
        ...

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return each query's batch, numbered in order of `take`; or what became of it without one.

        That is `DROPPED`, `WAITING` (or to come), `REJECTED` or `CANCELLED`.
        """
        ...


DROPPED = -1
WAITING = -2
REJECTED = -3
CANCELLED = -4


def queue_for(trace: Trace, network_ns: int = 0) -> OrderedQueue | HeapQueue:
    """Return the fastest queue that is exact for a trace; its deadlines are those of the trace less a delay."""
    deadlines = trace.deadline_ns - network_ns
    return (OrderedQueue if trace.in_order else HeapQueue)(trace.arrival_ns.tolist(), deadlines.tolist())


class OrderedQueue:
    """Queries whose deadlines are in order of arrival: a slice of the arrival list."""

    __slots__ = ("_deadlines", "_head", "_slo_ns", "_stretches", "admitted", "arrivals", "length", "next_arrival_ns")

    def __init__(self, arrivals: list[int], deadlines: list[int]) -> None:
        self.arrivals = arrivals
        self._deadlines = deadlines
        self._slo_ns: int | None = None
        self._head = 0
        self._stretches: list[tuple[int, bool]] = []  # (number of queries, whether they form a batch)
        self.admitted = 0
        self.next_arrival_ns = arrivals[0] if arrivals else None
        self.length = 0

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        if self._slo_ns is None:
            self._slo_ns = min(map(sub, self._deadlines, self.arrivals), default=0)
        return self._slo_ns

    def queues(self, worker: int) -> Sequence[OrderedQueue]:
        """Return this queue."""
        return [self]

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of admitted queries that arrived at this time or later."""
        return self.admitted - bisect_left(self.arrivals, since_ns, 0, self.admitted)

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now."""
        self.admitted = admitted = bisect_right(self.arrivals, now_ns, self.admitted)
        self.next_arrival_ns = self.arrivals[admitted] if admitted < len(self.arrivals) else None
        self.length = admitted - self._head

    def head_deadline(self) -> int:
        """Return the deadline of the most urgent query."""
        return self._deadlines[self._head]

    def deadlines(self, count: int) -> list[int]:
        """Return the deadlines of up to `count` queries, the most urgent first."""
        return self._deadlines[self._head : self._head + min(count, self.length)]

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        head = self._head
        self._stretches.append((count, True))
        self._head += count
        self.length -= count
        return head

    def drop(self, count: int) -> None:
        """Drop the `count` most urgent queries."""
        self._stretches.append((count, False))
        self._head += count
        self.length -= count

    def drop_before(self, deadline_ns: int) -> None:
        """Drop all queries with a deadline earlier than this."""
        if self.length and self._deadlines[self._head] < deadline_ns:
            self.drop(bisect_left(self._deadlines, deadline_ns, self._head, self.admitted) - self._head)

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return the number of each query's batch; see `Queue`."""
        counts = np.array([count for count, _ in self._stretches], dtype=np.int64)
        is_batch = np.array([batch for _, batch in self._stretches], dtype=bool)
        number = np.where(is_batch, np.cumsum(is_batch) - 1, DROPPED)
        waiting = np.full(len(self.arrivals) - self._head, WAITING, dtype=np.int64)
        return np.concatenate([np.repeat(number, counts).astype(np.int64, copy=False), waiting])


class HeapQueue:
    """Queries with individual SLOs: a heap of (deadline, query)."""

    __slots__ = (
        "_batch_of",
        "_batches",
        "_deadlines",
        "_heap",
        "_slo_ns",
        "admitted",
        "arrivals",
        "length",
        "next_arrival_ns",
    )

    def __init__(self, arrivals: list[int], deadlines: list[int]) -> None:
        self.arrivals = arrivals
        self._deadlines = deadlines
        self._slo_ns: int | None = None
        self._heap: list[tuple[int, int]] = []
        self._batch_of = [WAITING] * len(arrivals)
        self._batches = 0
        self.admitted = 0
        self.next_arrival_ns: int | None = arrivals[0] if arrivals else None
        self.length = 0

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        if self._slo_ns is None:
            self._slo_ns = min(map(sub, self._deadlines, self.arrivals), default=0)
        return self._slo_ns

    def queues(self, worker: int) -> Sequence[HeapQueue]:
        """Return this queue."""
        return [self]

    def arrived_since(self, since_ns: int) -> int:
        """Return the number of admitted queries that arrived at this time or later."""
        return self.admitted - bisect_left(self.arrivals, since_ns, 0, self.admitted)

    def admit(self, now_ns: int) -> None:
        """Take in all queries that arrived up to now."""
        arrived = bisect_right(self.arrivals, now_ns, self.admitted)
        for query in range(self.admitted, arrived):
            heapq.heappush(self._heap, (self._deadlines[query], query))
        self.admitted = arrived
        self.next_arrival_ns = self.arrivals[arrived] if arrived < len(self.arrivals) else None
        self.length = len(self._heap)

    def head_deadline(self) -> int:
        """Return the deadline of the most urgent query."""
        return self._heap[0][0]

    def deadlines(self, count: int) -> list[int]:
        """Return the deadlines of up to `count` queries, the most urgent first."""
        earliest: list[int] = []
        # Down from the root of the heap: the next deadline is always a child of an earlier one.
        candidates = [(self._heap[0], 0)] if self._heap else []
        while candidates and len(earliest) < count:
            (deadline, _), place = heapq.heappop(candidates)
            earliest.append(deadline)
            for child in range(2 * place + 1, min(2 * place + 3, len(self._heap))):
                heapq.heappush(candidates, (self._heap[child], child))
        return earliest

    def take(self, count: int) -> int:
        """Take the `count` most urgent queries out as the next batch; return the first one."""
        head = self._heap[0][1]
        self._remove(count, self._batches)
        self._batches += 1
        return head

    def drop(self, count: int) -> None:
        """Drop the `count` most urgent queries."""
        self._remove(count, DROPPED)

    def drop_before(self, deadline_ns: int) -> None:
        """Drop all queries with a deadline earlier than this."""
        while self._heap and self._heap[0][0] < deadline_ns:
            self._remove(1, DROPPED)

    def _remove(self, count: int, mark: int) -> None:
        for _ in range(count):
            self._batch_of[heapq.heappop(self._heap)[1]] = mark
        self.length -= count

    def batch_of_query(self) -> npt.NDArray[np.int64]:
        """Return the number of each query's batch; see `Queue`."""
        return np.array(self._batch_of, dtype=np.int64)

"""The queue of a live run: it grows with each query that comes in, and is bounded."""

from __future__ import annotations

import heapq

from sim.engine.queues import DROPPED, WAITING, HeapQueue


class GrowingQueue(HeapQueue):
    """Queries in order of deadline, of which no more are known than have come in.

    Attributes:
        taken: The queries of each batch, in the order of their deadlines.
        dropped: The queries that were dropped, in that order.
    """

    __slots__ = ("_least_slo_ns", "dropped", "taken")
    next_arrival_ns: int | None

    def __init__(self, slo_ns: int) -> None:
        """Begin with no query.

        Args:
            slo_ns: The smallest SLO, as policies see it: the queries to come are not known.
        """
        super().__init__([], [])
        self._least_slo_ns = slo_ns
        self.taken: list[list[int]] = []
        self.dropped: list[int] = []

    @property
    def slo_ns(self) -> int:
        """The smallest time from an arrival to its deadline."""
        return self._least_slo_ns

    def arrive(self, arrival_ns: int, slo_ns: int) -> int:
        """Take note of a query; the next `admit` takes it in. Return its number."""
        self.arrivals.append(arrival_ns)
        self._deadlines.append(arrival_ns + slo_ns)
        self._batch_of.append(WAITING)
        if self.next_arrival_ns is None:
            self.next_arrival_ns = arrival_ns
        return len(self.arrivals) - 1

    @property
    def waiting(self) -> int:
        """Queries that wait, those included that have not been admitted yet."""
        return self.length + len(self.arrivals) - self.admitted

    def latest_deadline(self) -> int:
        """Return the latest deadline of the queries that wait; there is one."""
        return max(deadline for deadline, _ in self._heap)

    def _remove(self, count: int, mark: int) -> None:
        queries = [heapq.heappop(self._heap)[1] for _ in range(count)]
        for query in queries:
            self._batch_of[query] = mark
        if mark == DROPPED:
            self.dropped += queries
        else:
            self.taken.append(queries)
        self.length -= count

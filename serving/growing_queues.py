"""The queues of a live run: they grow with each query that comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.engine.queue_set import QueueSet
from sim.engine.queues import DROPPED, REJECTED, WAITING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.engine.cluster import Cluster


class GrowingQueues(QueueSet):
    """The queues of a cluster, or its only one; no more queries are known than have come in.

    Attributes:
        taken: The queries of each batch, in the order of their deadlines.
        dropped: The queries that were dropped.
        rejected: The queries that were rejected by the bound of their queue.
    """

    def __init__(self, cluster: Cluster, seed: int, slos_ns: Sequence[int]) -> None:
        """Begin with no query; arguments as for `QueueSet`, which has the smallest SLOs, as policies see them."""
        super().__init__(cluster, seed, slos_ns)
        self.taken: list[list[int]] = []
        self.dropped: list[int] = []
        self.rejected: list[int] = []

    def arrive(self, arrival_ns: int, slo_ns: int, queue: int = 0) -> int:
        """Take note of a query; the next `admit` takes it in. Return its number."""
        self._arrivals.append(arrival_ns)
        self._queue_of.append(queue)
        self.deadlines.append(arrival_ns + slo_ns)
        self.batch_of.append(WAITING)
        self._streams[queue].arrivals.append(arrival_ns)
        if self.next_arrival_ns is None:
            self.next_arrival_ns = arrival_ns
        return len(self._arrivals) - 1

    @property
    def waiting(self) -> int:
        """Queries that wait, those included that have not been admitted yet."""
        return sum(of.waiting for of in self._streams) + len(self._arrivals) - self._admitted

    def waiting_in(self, queue: int) -> int:
        """Return how many queries of a queue wait, likewise."""
        of = self._streams[queue]
        return of.waiting + len(of.arrivals) - of.admitted

    def has_room(self, queue: int, count: int) -> bool:
        """Return whether the bound of a queue lets so many more queries in."""
        bound = self._streams[queue].bound
        return bound is None or self.waiting_in(queue) + count <= bound

    def is_waiting(self, query: int) -> bool:
        """Return whether a query waits, admitted or not."""
        return self.batch_of[query] == WAITING

    def latest_deadline(self) -> tuple[int, int] | None:
        """Return the latest deadline of the queries that wait at workers, and its queue; None if none do."""
        found = [
            (max(queue.deadlines(queue.length)), place)
            for queues in self._queues
            for place, queue in enumerate(queues)
            if queue.length
        ]
        return max(found, default=None)

    def note(self, queries: Sequence[int], mark: int) -> None:
        """Take note of queries that wait no longer."""
        if mark == DROPPED:
            self.dropped += queries
        elif mark == REJECTED:
            self.rejected += queries
        else:
            self.taken.append(list(queries))

"""What became of the queries of a live run so far, counted as they are answered."""

from __future__ import annotations

from enum import Enum


class NotServed(Enum):
    """Why a query was not served."""

    REJECTED = "the queue was full"
    DROPPED = "its deadline could not be met"
    LOST = "its worker failed"
    FAILED = "its result is not finite, or its input is out of range"
    CANCELLED = "nobody wanted its answer any more"


class QueryCounts:
    """Queries by what became of them.

    Attributes:
        batches: Batches that were answered, by subnet.
        served: Queries that were served, by subnet.
        met: Those that met their SLO, by subnet.
        not_served: Queries that were not served, by the reason.
        received: Queries that were received, by queue.
        in_time: Those that met their SLO, by queue.
    """

    __slots__ = ("batches", "in_time", "met", "not_served", "received", "served")

    def __init__(self, subnets: int, queues: int) -> None:
        self.received, self.in_time = [0] * queues, [0] * queues
        self.batches, self.served, self.met = [0] * subnets, [0] * subnets, [0] * subnets
        self.not_served = dict.fromkeys(NotServed, 0)

    def add(self, subnet: int, queue: int, size: int, met: int) -> None:
        """Count a batch that was answered.

        Args:
            subnet: Its subnet (index into those of the cluster).
            queue: The queue of its queries, likewise.
            size: Its queries.
            met: How many of them met their SLO.
        """
        self.batches[subnet] += 1
        self.served[subnet] += size
        self.met[subnet] += met
        self.in_time[queue] += met

"""What became of the queries of a live run so far, counted as they are answered."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.engine.instant import BatchStart


class NotServed(Enum):
    """Why a query was not served."""

    REJECTED = "the queue was full"
    DROPPED = "its deadline could not be met"
    LOST = "its worker failed"


class QueryCounts:
    """Queries by what became of them.

    Attributes:
        batches: Batches that were answered, by subnet.
        served: Queries that were served, by subnet.
        met: Those that met their SLO, by subnet.
        not_served: Queries that were not served, by the reason.
    """

    __slots__ = ("batches", "met", "not_served", "served")

    def __init__(self, subnets: int) -> None:
        self.batches, self.served, self.met = [0] * subnets, [0] * subnets, [0] * subnets
        self.not_served = dict.fromkeys(NotServed, 0)

    def add(self, start: BatchStart, met: int) -> None:
        """Count a batch that was answered.

        Args:
            start: The batch.
            met: How many of its queries met their SLO.
        """
        self.batches[start.subnet] += 1
        self.served[start.subnet] += start.size
        self.met[start.subnet] += met

"""The metrics of a finished run: its queries by outcome, in counts."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable


class Outcome(IntEnum):
    """The outcome of a query."""

    MET = 0
    """Answered by its deadline."""
    LATE = 1
    """Answered after its deadline."""
    DROPPED = 2
    """Removed from the queue unanswered (drop rule, policy), or lost with a worker that failed."""
    UNFINISHED = 3
    """Still waiting at the end of the run."""


class WindowCounts(NamedTuple):
    """Counts by window of the trace; a query belongs to the window of its arrival, a batch to that of its start.

    Batches that start after the end of the trace are left out. All of shape (windows,), int64 unless noted.

    Attributes:
        arrivals: Queries.
        met: Queries that met their SLO.
        accuracy: The sum of their accuracies in percent, float64.
        batches: Batches.
        batched: Queries in these batches.
        busy_ns: The time that workers were busy in the window, summed over workers, float64.
    """

    arrivals: npt.NDArray[np.int64]
    met: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]
    batches: npt.NDArray[np.int64]
    batched: npt.NDArray[np.int64]
    busy_ns: npt.NDArray[np.float64]


class RunMetrics(Protocol):
    """The interface of a finished run for `sim.engine.metrics`."""

    @property
    def table(self) -> LatencyTable:
        """The latency table."""
        ...

    @property
    def cluster(self) -> Cluster:
        """The workers."""
        ...

    @property
    def duration_ns(self) -> int:
        """The length of the trace."""
        ...

    @property
    def horizon_ns(self) -> int:
        """The length of the run: to the last answer, at least to the end of the trace."""
        ...

    @property
    def queries(self) -> int:
        """All queries."""
        ...

    @property
    def met_by_subnet(self) -> npt.NDArray[np.int64]:
        """Queries that met their SLO by the subnet that ran them, int64, shape (subnets,)."""
        ...

    @property
    def batch_count(self) -> int:
        """All batches."""
        ...

    @property
    def batched(self) -> int:
        """Queries in batches."""
        ...

    @property
    def busy_ns(self) -> int:
        """The time that workers were busy, summed over workers, overheads included."""
        ...

    def count(self, outcome: Outcome) -> int:
        """Return the number of queries with an outcome."""
        ...

    def latency_quantile_ns(self, q: float) -> float:
        """Return the q-quantile of the time from arrival to answer of answered queries; NaN if none was answered."""
        ...

    def window_counts(self, width_ns: int) -> WindowCounts:
        """Return counts by windows of a width."""
        ...


def window_edges(duration_ns: int, width_ns: int) -> npt.NDArray[np.int64]:
    """Return the edges of the windows, int64, shape (windows + 1,); the last one ends with the trace."""
    return np.minimum(np.arange(-(-duration_ns // width_ns) + 1) * width_ns, duration_ns)

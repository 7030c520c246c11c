"""What is counted of a run whose queries are not kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import DataError
from sim.base.units import NS_PER_S
from sim.compiled import counting
from sim.compiled.counting import Counts
from sim.engine import histogram
from sim.engine.measured import Outcome, OverTime

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """The counts of a run of which no query is kept, for `sim.engine.metrics`; memory does not grow with queries.

    All figures are exact but the latency quantiles, which may be off by `sim.engine.histogram.QUANTILE_ERROR`.

    Attributes:
        table: The latency table.
        cluster: The workers.
        duration_ns: The length of the trace.
        width_ns: The width of the windows.
        counts: The counts.
    """

    table: LatencyTable
    cluster: Cluster
    duration_ns: int
    width_ns: int
    counts: Counts

    @classmethod
    def empty(cls, table: LatencyTable, cluster: Cluster, duration_ns: int, width_ns: int = NS_PER_S) -> Tally:
        """Return the tally of a run that has not begun."""
        bins = -(-duration_ns // width_ns)
        counts = Counts(
            totals=np.zeros(7, np.int64),
            met=np.zeros(len(table.subnets), np.int64),
            latencies=np.zeros(histogram.COUNT, np.int64),
            numbers=np.zeros((bins, 5), np.int64),
            accuracy=np.zeros(bins),
        )
        return cls(table, cluster, duration_ns, width_ns, counts)

    def add_unfinished(self, arrival_ns: npt.NDArray[np.int64]) -> None:
        """Count queries that still waited when nothing more could happen.

        Args:
            arrival_ns: Their arrivals, int64.
        """
        numbers = self.counts.numbers
        windows = np.minimum(arrival_ns // self.width_ns, len(numbers) - 1)
        self.counts.totals[counting.UNFINISHED] += len(arrival_ns)
        numbers[:, counting.W_ARRIVALS] += np.bincount(windows, minlength=len(numbers))

    @property
    def horizon_ns(self) -> int:
        """The length of the run: to the last answer, at least to the end of the trace."""
        return max(self.duration_ns, self._total(counting.LAST_NS))

    @property
    def queries(self) -> int:
        """All queries."""
        return sum(self.count(outcome) for outcome in Outcome)

    def count(self, outcome: Outcome) -> int:
        """Return the number of queries with an outcome."""
        if outcome is Outcome.MET:
            return int(self.counts.met.sum())
        places = {
            Outcome.LATE: counting.LATE,
            Outcome.DROPPED: counting.DROPS,
            Outcome.UNFINISHED: counting.UNFINISHED,
        }
        return self._total(places[outcome])

    @property
    def met_by_subnet(self) -> npt.NDArray[np.int64]:
        """Queries that met their SLO by the subnet that ran them, int64, shape (subnets,)."""
        return self.counts.met

    @property
    def batch_count(self) -> int:
        """All batches."""
        return self._total(counting.BATCHES)

    @property
    def batched(self) -> int:
        """Queries in batches."""
        return self._total(counting.BATCHED)

    @property
    def busy_ns(self) -> int:
        """The time that workers were busy, summed over workers, overheads included."""
        return self._total(counting.BUSY_NS)

    def latency_quantile_ns(self, q: float) -> float:
        """Return the q-quantile of the latency of answered queries, to 0.2 %; NaN if none was answered."""
        return histogram.quantile_ns(self.counts.latencies, q)

    def over_time(self, width_ns: int) -> OverTime:
        """Return counts by windows of the width that was decided before the run.

        Raises:
            DataError: It is another width.
        """
        if width_ns != self.width_ns:
            raise DataError("width_ns", "was decided before the run", f"{width_ns} ns", f"{self.width_ns} ns")
        arrivals, met, batches, batched, busy_ns = self.counts.numbers.T
        return OverTime(arrivals, met, self.counts.accuracy, batches, batched, busy_ns.astype(np.float64))

    def _total(self, place: int) -> int:
        return int(self.counts.totals[place])

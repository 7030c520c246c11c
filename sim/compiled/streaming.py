"""Streaming metrics: the counts of a run whose queries are not stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.base.errors import DataError
from sim.base.units import NS_PER_S
from sim.compiled import counters
from sim.compiled.counters import Counters
from sim.compiled.setting import subnets_of
from sim.engine import histogram
from sim.engine.run_metrics import WHOLE_RUN, KindCounts, Measure, Outcome, WindowCounts

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.compiled.loop_state import Log
    from sim.engine.cluster import Cluster
    from sim.engine.scaling import Fleet
    from sim.tables.latency import LatencyTable, ProfiledSubnet

_PLACES = {Outcome.LATE: counters.LATE, Outcome.DROPPED: counters.DROPS, Outcome.UNFINISHED: counters.UNFINISHED}


@dataclass(frozen=True, slots=True, eq=False)
class StreamingMetrics:
    """Metrics of a run in memory that does not grow with the number of queries.

    All are exact except the latency quantiles, whose relative error is at most `sim.engine.histogram.QUANTILE_ERROR`.

    Attributes:
        table: The latency table.
        cluster: The workers.
        duration_ns: The length of the trace.
        width_ns: The width of the windows.
        counts: The counters.
        measure: The part of the run that is counted.
        fleet: The workers, if a planner changed their number.
    """

    table: LatencyTable
    cluster: Cluster
    duration_ns: int
    width_ns: int
    counts: Counters
    measure: Measure = WHOLE_RUN
    fleet: Fleet | None = None

    @classmethod
    def empty(
        cls,
        table: LatencyTable,
        cluster: Cluster,
        duration_ns: int,
        width_ns: int = NS_PER_S,
        measure: Measure = WHOLE_RUN,
    ) -> StreamingMetrics:
        """Return the metrics of a run that has not begun.

        Raises:
            SpecError: The part to measure is not inside of the trace.
        """
        measure.check(duration_ns)
        bins = -(-(measure.end_ns(duration_ns) - measure.from_ns) // width_ns)
        counts = Counters(
            totals=np.zeros(4, np.int64),
            rows=np.zeros((len(subnets_of(cluster, table)), 4), np.int64),
            latencies=np.zeros(histogram.COUNT, np.int64),
            numbers=np.zeros((bins, 5), np.int64),
            accuracy=np.zeros(bins),
        )
        return cls(table, cluster, duration_ns, width_ns, counts, measure)

    def add(self, arrival_ns: npt.NDArray[np.int64], deadline_ns: npt.NDArray[np.int64], log: Log, rows: int) -> None:
        """Count the queries of some rows of a log.

        Args:
            arrival_ns: Their arrivals, int64, from the first that the log is about.
            deadline_ns: When their batches are due, likewise.
            log: The log.
            rows: How many of its rows are written.
        """
        columns = (column[:rows] for column in log if column is not log.worker)
        subnets = self.table.subnets
        accuracy = np.array([subnets[number].accuracy for number in subnets_of(self.cluster, self.table)])
        interval = (self.from_ns, self.to_ns, self.measure.limit_ns(self.duration_ns))
        how = (self.width_ns, *interval, self.cluster.network_ns, histogram.SHIFT, histogram.BEFORE_ONE)
        counters.count(arrival_ns, deadline_ns, *columns, accuracy, *how, self.counts)

    def add_unfinished(self, arrival_ns: npt.NDArray[np.int64]) -> None:
        """Count queries that were still waiting at the end of the run.

        Args:
            arrival_ns: Their arrivals, int64.
        """
        numbers = self.counts.numbers
        counted = arrival_ns[(arrival_ns >= self.from_ns) & (arrival_ns < self.measure.limit_ns(self.duration_ns))]
        windows = np.minimum((counted - self.from_ns) // self.width_ns, len(numbers) - 1)
        self.counts.totals[counters.UNFINISHED] += len(counted)
        numbers[:, counters.W_ARRIVALS] += np.bincount(windows, minlength=len(numbers))

    @property
    def from_ns(self) -> int:
        """The start of the measured interval."""
        return self.measure.from_ns

    @property
    def to_ns(self) -> int:
        """The end of the measured interval, at most that of the trace."""
        return self.measure.end_ns(self.duration_ns)

    @property
    def until_ns(self) -> int:
        """The end of the measured time: of the run, with its last answer, if the interval ends with the trace."""
        return max(self.to_ns, self._total(counters.LAST_NS)) if self.to_ns == self.duration_ns else self.to_ns

    @property
    def queries(self) -> int:
        """Measured queries."""
        return self.count(Outcome.MET) + sum(map(self._total, _PLACES.values()))

    def count(self, outcome: Outcome) -> int:
        """Return the number of queries with an outcome."""
        if outcome is Outcome.MET:
            return self._rows(counters.R_MET)
        return self._total(_PLACES[outcome]) if outcome in _PLACES else 0  # no queue has a bound

    @property
    def subnets(self) -> tuple[ProfiledSubnet, ...]:
        """The subnets that may have run."""
        return self.table.subnets

    @property
    def met_by_subnet(self) -> npt.NDArray[np.int64]:
        """Queries that met their SLO by the subnet that ran them, int64, shape (subnets,)."""
        met: npt.NDArray[np.int64] = self.kind_counts.met.sum(axis=0)
        return met

    @property
    def batch_count(self) -> int:
        """Measured batches."""
        return self._rows(counters.R_BATCHES)

    @property
    def batched(self) -> int:
        """Queries in measured batches."""
        return self._rows(counters.R_BATCHED)

    @property
    def busy_ns(self) -> int:
        """The time that workers were busy, summed over workers, overheads included."""
        return self._rows(counters.R_BUSY_NS)

    @property
    def kind_counts(self) -> KindCounts:
        """Counts by kind of workers."""
        pools = self.cluster.pools(self.table)
        places = {kind.name: place for place, kind in enumerate(self.cluster.kinds)}
        met, sums = np.zeros((len(pools), len(self.table.subnets)), np.int64), np.zeros((len(pools), 4), np.int64)
        for pool, rows in zip(pools, np.split(self.counts.rows, len(pools)), strict=True):
            place = places.get(pool.kind, 0)
            met[place, list(pool.rows)] = rows[:, counters.R_MET]
            sums[place] = rows.sum(axis=0)
        _, batches, batched, busy_ns = sums.T
        return KindCounts(batches, batched, busy_ns, met)

    def latency_quantile_ns(self, q: float) -> float:
        """Return the q-quantile of the latency of answered queries, to 0.2 %; NaN if none was answered."""
        return histogram.quantile_ns(self.counts.latencies, q)

    def window_counts(self, width_ns: int) -> WindowCounts:
        """Return counts by windows of the width that was fixed before the run.

        Raises:
            DataError: It is another width.
        """
        if width_ns != self.width_ns:
            raise DataError("width_ns", "was fixed before the run", f"{width_ns} ns", f"{self.width_ns} ns")
        arrivals, met, batches, batched, busy_ns = self.counts.numbers.T
        return WindowCounts(arrivals, met, self.counts.accuracy, batches, batched, busy_ns.astype(np.float64))

    def _rows(self, column: int) -> int:
        return int(self.counts.rows[:, column].sum())

    def _total(self, place: int) -> int:
        return int(self.counts.totals[place])

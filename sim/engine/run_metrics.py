"""The metrics of a finished run: its queries by outcome, in counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from sim.base.errors import NoArrivalsError, SpecError
from sim.base.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.engine.scaling import Fleet
    from sim.tables.latency import LatencyTable, ProfiledSubnet


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
    REJECTED = 4
    """Turned away on arrival, since its queue was full."""
    CANCELLED = 5
    """Taken out of its queue, since its client was gone: in live runs only."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The part of a run that its metrics are about: without warm-up, and without what comes at the end.

    A query counts if it arrives in the interval, whatever happens to it and whenever; a batch, if it starts there. Busy
    and available time count as far as they lie in it. The end itself is excluded, but an interval that ends with the
    trace includes all that comes after it: the whole interval is the whole run.

    Attributes:
        from_ns: Start of the interval, from 0.
        to_ns: Its end, at most that of the trace; None for the end of the run.
    """

    from_ns: int = 0
    to_ns: int | None = None

    def check(self, duration_ns: int) -> None:
        """Check that the interval lies in a trace.

        Raises:
            SpecError: It is empty, or not inside a trace of this length.
        """
        within = f"the trace is {duration_ns / NS_PER_S:g} s long"
        if not 0 <= self.from_ns < duration_ns:
            raise SpecError("measure.from_s", "is outside of the run", f"{self.from_ns / NS_PER_S:g}", within)
        if self.to_ns is not None and not self.from_ns < self.to_ns <= duration_ns:
            problem = "is outside of the run" if self.to_ns > duration_ns else "must be above from_s"
            raise SpecError("measure.to_s", problem, f"{self.to_ns / NS_PER_S:g}", within)

    def no_query(self) -> NoArrivalsError:
        """Return the error for an interval in which no query arrives."""
        to = "the end" if self.to_ns is None else f"{self.to_ns / NS_PER_S:g} s"
        value = f"{self.from_ns / NS_PER_S:g} s to {to}"
        return NoArrivalsError("measure", "no query arrives in the interval", value, "choose a longer one")

    def end_ns(self, duration_ns: int) -> int:
        """Return the end of the interval within a trace of a length."""
        return duration_ns if self.to_ns is None else self.to_ns

    def limit_ns(self, duration_ns: int) -> int:
        """Return the instant from which arrivals and starts no longer count; `NEVER_NS` if all do."""
        end_ns = self.end_ns(duration_ns)
        return NEVER_NS if end_ns == duration_ns else end_ns


NEVER_NS = 2**62
"""Later than any instant of a run."""

WHOLE_RUN = Measure()


class WindowCounts(NamedTuple):
    """Counts by window of what is measured; a query belongs to the window of its arrival, a batch to that of its start.

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


class KindCounts(NamedTuple):
    """Counts of what is measured by kind of workers, in the order of the cluster; identical workers are one kind.

    Attributes:
        batches: Batches that started, int64, shape (kinds,); so are the next two.
        batched: Queries in them.
        busy_ns: The time that their workers were busy, summed over workers.
        met: Queries that met their SLO by kind and subnet of the run's table, int64, shape (kinds, subnets).
        batch_j: The energy that batches took, in joules, float64, shape (kinds,): NaN for kinds whose tables have no
            energy. None where the batches are not known.
    """

    batches: npt.NDArray[np.int64]
    batched: npt.NDArray[np.int64]
    busy_ns: npt.NDArray[np.int64]
    met: npt.NDArray[np.int64]
    batch_j: npt.NDArray[np.float64] | None = None


class RunMetrics(Protocol):
    """The interface of a finished run for `sim.engine.metrics`."""

    @property
    def table(self) -> LatencyTable:
        """The latency table."""
        ...

    @property
    def subnets(self) -> Sequence[ProfiledSubnet]:
        """The subnets that may have run."""
        ...

    @property
    def cluster(self) -> Cluster:
        """The workers."""
        ...

    @property
    def fleet(self) -> Fleet | None:
        """When each worker was there, if a planner changed their number."""
        ...

    @property
    def from_ns(self) -> int:
        """The start of the measured interval."""
        ...

    @property
    def to_ns(self) -> int:
        """The end of the measured interval, at most that of the trace."""
        ...

    @property
    def until_ns(self) -> int:
        """The end of the measured time: of the run, with its last answer, if the interval ends with the trace."""
        ...

    @property
    def queries(self) -> int:
        """Measured queries; so are all the following."""
        ...

    @property
    def met_by_subnet(self) -> npt.NDArray[np.int64]:
        """Queries that met their SLO by the subnet that ran them, int64, shape (subnets,)."""
        ...

    @property
    def batch_count(self) -> int:
        """Batches."""
        ...

    @property
    def batched(self) -> int:
        """Queries in batches."""
        ...

    @property
    def busy_ns(self) -> int:
        """The time that workers were busy, summed over workers, overheads included."""
        ...

    @property
    def kind_counts(self) -> KindCounts:
        """Counts by kind of workers."""
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


def window_edges(from_ns: int, to_ns: int, width_ns: int) -> npt.NDArray[np.int64]:
    """Return the edges of the windows of an interval, int64, shape (windows + 1,); the last one ends with it."""
    return np.minimum(from_ns + np.arange(-(-(to_ns - from_ns) // width_ns) + 1) * width_ns, to_ns)

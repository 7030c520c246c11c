"""What a run amounts to: functions of its result, as the paper defines them (SuperServe, section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.result import Outcome
from sim.units import NS_PER_S

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.result import Result


def count(result: Result, outcome: Outcome) -> int:
    """Return the number of queries with an outcome."""
    return int(np.count_nonzero(result.outcome == outcome))


def slo_attainment(result: Result) -> float:
    """Return the share of all arrivals that were answered by their deadline; dropped and unfinished ones were not."""
    return count(result, Outcome.MET) / len(result.trace)


def mean_serving_accuracy(result: Result) -> float:
    """Return the mean profiled accuracy in percent over the queries that met their SLO; NaN if none did."""
    met = result.outcome == Outcome.MET
    return float(_accuracy(result)[met].mean()) if met.any() else float("nan")


def latency_quantile_ns(result: Result, q: float) -> float:
    """Return the q-quantile of the latency of answered queries (linear interpolation); NaN if none was answered."""
    latency = result.latency_ns
    return float(np.quantile(latency, q)) if len(latency) else float("nan")


def busy_ns(result: Result) -> int:
    """Return the time that workers were busy, summed over workers, overheads included."""
    return int((result.batches.finish_ns - result.batches.start_ns).sum())


def utilisation(result: Result) -> float:
    """Return the share of the workers' time (failures taken off) that they were busy."""
    available = result.cluster.workers * result.horizon_ns - result.down_ns
    return busy_ns(result) / available if available else float("nan")


def mean_batch_size(result: Result) -> float:
    """Return the mean number of queries in a batch; NaN without any batch."""
    return float(result.batches.size.mean()) if len(result.batches) else float("nan")


def windows(result: Result, width_ns: int = NS_PER_S) -> dict[str, npt.NDArray[np.floating]]:
    """Return the run over the time of its trace, in windows of equal width.

    A query belongs to the window of its arrival, a batch to that of its start. What was started after the end of the
    trace is left out; a column without any query or batch in a window is NaN there.

    Args:
        result: The run.
        width_ns: The width of a window.

    Returns:
        Columns `start_s`, `ingest_per_s`, `slo_attainment`, `serving_accuracy` (over met queries), `batch_size` and
        `workers_busy` (mean number); each float64, shape (windows,).
    """
    duration_ns = result.trace.duration_ns
    bins = -(-duration_ns // width_ns)
    # The last window may reach past the end of the trace: only what lies within counts.
    edges = np.minimum(np.arange(bins + 1) * width_ns, duration_ns)
    covered_ns = np.diff(edges)
    arrival = np.minimum(result.trace.arrival_ns // width_ns, bins - 1)  # one at the very end belongs to the last
    start = result.batches.start_ns // width_ns
    started = start < bins
    arrivals = np.bincount(arrival, minlength=bins)
    met = result.outcome == Outcome.MET
    mets = np.bincount(arrival[met], minlength=bins)
    accuracy = np.bincount(arrival[met], weights=_accuracy(result)[met], minlength=bins)
    batches = np.bincount(start[started], minlength=bins)
    queries = np.bincount(start[started], weights=result.batches.size[started], minlength=bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "start_s": np.arange(bins) * (width_ns / NS_PER_S),
            "ingest_per_s": arrivals * (NS_PER_S / covered_ns),
            "slo_attainment": mets / arrivals,
            "serving_accuracy": accuracy / mets,
            "batch_size": queries / batches,
            "workers_busy": _busy(result, edges) / covered_ns,
        }


def _accuracy(result: Result) -> npt.NDArray[np.float64]:
    """Return the accuracy of the subnet that ran each query, NaN where none did."""
    by_subnet = np.array([subnet.accuracy for subnet in result.table.subnets] + [np.nan])
    return by_subnet[result.per_query(result.batches.subnet)]


def _busy(result: Result, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the busy time between each two edges, summed over workers: the difference of what had run by then."""

    def elapsed(instants: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        ordered = np.sort(instants)
        before = np.searchsorted(ordered, edges)
        # Sums of many late instants leave int64; in float64 they keep the 15 digits that are needed.
        total = np.concatenate([[0.0], np.cumsum(ordered, dtype=np.float64)])
        had_run: npt.NDArray[np.float64] = before * edges.astype(np.float64) - total[before]
        return had_run

    return np.diff(elapsed(result.batches.start_ns) - elapsed(result.batches.finish_ns))

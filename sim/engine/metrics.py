"""The metrics of a run as the paper defines them (SuperServe, section 6).

They are formulas over a few counts, which a run has whether its queries were stored
(`sim.engine.result.Result`) or only counted (`sim.compiled.streaming.StreamingMetrics`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.base.units import NS_PER_S
from sim.engine.run_metrics import Outcome, window_edges

if TYPE_CHECKING:
    import numpy.typing as npt

    from sim.engine.run_metrics import RunMetrics


def slo_attainment(run: RunMetrics) -> float:
    """Return the share of measured arrivals answered by their deadline; dropped and unfinished queries are missed."""
    return run.count(Outcome.MET) / run.queries


def mean_serving_accuracy(run: RunMetrics) -> float:
    """Return the mean profiled accuracy in percent over the queries that met their SLO; NaN if none did."""
    met = run.count(Outcome.MET)
    accuracy = [subnet.accuracy for subnet in run.subnets]
    return float(run.met_by_subnet @ np.array(accuracy, dtype=np.float64)) / met if met else float("nan")


def utilisation(run: RunMetrics) -> float:
    """Return the share of the workers' time, excluding downtime and start-ups, that they were busy."""
    if run.fleet is not None:
        available = run.fleet.available_ns(run.until_ns) - run.fleet.available_ns(run.from_ns)
    else:
        down_ns = run.cluster.down_ns(run.until_ns) - run.cluster.down_ns(run.from_ns)
        available = run.cluster.workers * (run.until_ns - run.from_ns) - down_ns
    return run.busy_ns / available if available else float("nan")


def mean_batch_size(run: RunMetrics) -> float:
    """Return the mean number of queries in a batch; NaN without any batch."""
    return run.batched / run.batch_count if run.batch_count else float("nan")


def windows(run: RunMetrics, width_ns: int = NS_PER_S) -> dict[str, npt.NDArray[np.floating]]:
    """Return the metrics over the measured time of the trace, in windows of equal width.

    Args:
        run: The run.
        width_ns: The width of a window; for streaming metrics, it was fixed before the run.

    Returns:
        Columns `start_s`, `end_s` (that of the last window is the end of the trace), `ingest_per_s`, `slo_attainment`,
        `serving_accuracy` (over met queries), `batch_size` and `workers_busy` (mean number); each float64, shape
        (windows,); NaN without any query or batch in a window.
    """
    counts = run.window_counts(width_ns)
    edges_ns = window_edges(run.from_ns, run.to_ns, width_ns)
    covered_ns = np.diff(edges_ns)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "start_s": run.from_ns / NS_PER_S + np.arange(len(covered_ns)) * (width_ns / NS_PER_S),
            "end_s": edges_ns[1:] / NS_PER_S,
            "ingest_per_s": counts.arrivals * (NS_PER_S / covered_ns),
            "slo_attainment": counts.met / counts.arrivals,
            "serving_accuracy": counts.accuracy / counts.met,
            "batch_size": counts.batched / counts.batches,
            "workers_busy": counts.busy_ns / covered_ns,
        }

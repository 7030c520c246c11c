"""The jobs that are measured, and how large they are."""

from __future__ import annotations

import os
from functools import cache

import numpy as np

from sim import Cluster, Trace
from sim.tables.files import load_table
from sim.traces.azure import Azure

QUICK = bool(os.environ.get("SSIM_BENCH_QUICK"))
"""Whether everything is small: to see that it runs, not to measure."""


def rounds(wanted: int) -> int:
    """Return how often something is measured: once in a quick run."""
    return 1 if QUICK else wanted


TABLE = load_table("ofa-resnet50-rtx2080ti")
CLUSTER = Cluster(8)
SLO_NS = 36_000_000


@cache
def azure() -> Trace:
    """Return the Azure job: 768,000 queries in 120 s, for 8 workers (SuperServe, Figure 8a)."""
    return first(Azure(slo_ms=36.0).trace(seed=7), 768_000)


def first(trace: Trace, queries: int) -> Trace:
    """Return the first queries of a trace, fewer in a quick run."""
    end = min(queries // 100 if QUICK else queries, len(trace) - 1)
    return Trace(trace.arrival_ns[:end], trace.slo_ns, int(trace.arrival_ns[end]), trace.name)


def light() -> Trace:
    """Return a job of small batches: an eighth of the rate, so that most queries run alone."""
    return first(Azure(slo_ms=36.0, mean_qps=800, duration_s=960).trace(seed=7), 768_000)


def own_slos(queries: int, waiting: int) -> Trace:
    """Return a job in which so many queries with SLOs of their own wait all the time.

    Args:
        queries: How many in all.
        waiting: How many arrive at the very beginning; the others come as fast as the workers serve.
    """
    rng = np.random.default_rng(0)
    per_query_ns = int(TABLE.latency_ns[0, -1]) // (CLUSTER.workers * TABLE.max_batch)
    late = np.arange(queries - waiting, dtype=np.int64) * per_query_ns
    arrivals = np.concatenate([np.zeros(waiting, np.int64), late])
    return Trace(arrivals, rng.integers(1, 10**12, queries), max(1, int(arrivals[-1])), f"{waiting} waiting")

"""What a query costs as the cluster and the queue grow: no faster than their logarithm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.jobs import CLUSTER, QUICK, SLO_NS, TABLE, own_slos, rounds
from policies.slackfit import SlackFit
from sim import Cluster, Trace, simulate
from sim.compiled.replay import replay_compiled
from sim.compiled.tabulate import tabulate

RULE = tabulate(SlackFit(), TABLE)
QUERIES = 2_000 if QUICK else 400_000


@pytest.mark.parametrize("workers", [8, 32, 128, 512, 2048, 4096])
@pytest.mark.parametrize("engine", ["compiled", "SimPy"])
def bench_workers(benchmark: Any, engine: str, workers: int) -> None:
    """The same load on each worker, so the same batches; only the number of workers grows."""
    gaps = np.random.default_rng(1).exponential(
        1e9 / (800 * workers), QUERIES if engine == "compiled" else QUERIES // 8
    )
    arrivals = np.cumsum(np.rint(gaps).astype(np.int64))
    trace, cluster = Trace(arrivals, SLO_NS, int(arrivals[-1])), Cluster(workers)
    benchmark.extra_info |= {"what": f"{engine} engine", "unit": "queries", "count": len(trace), "x": workers}
    if engine == "compiled":
        found = benchmark.pedantic(replay_compiled, (trace, cluster, TABLE, RULE), rounds=rounds(15))
    else:
        found = benchmark.pedantic(simulate, (trace, cluster, TABLE, SlackFit()), rounds=rounds(3))
    benchmark.extra_info["batches"] = len(found.batches)


@pytest.mark.parametrize("waiting", [100, 1_000, 10_000, 100_000])
@pytest.mark.parametrize("engine", ["compiled", "SimPy"])
def bench_queue_length(benchmark: Any, engine: str, waiting: int) -> None:
    """A queue that stays as long as it is, of queries with SLOs of their own: a heap."""
    trace = own_slos(max(QUERIES, 3 * waiting) // (1 if engine == "compiled" else 2), waiting)
    benchmark.extra_info |= {"what": f"{engine} engine", "unit": "queries", "count": len(trace), "x": waiting}
    if engine == "compiled":
        benchmark.pedantic(replay_compiled, (trace, CLUSTER, TABLE, RULE), rounds=rounds(15))
    else:
        benchmark.pedantic(simulate, (trace, CLUSTER, TABLE, SlackFit()), rounds=rounds(3))

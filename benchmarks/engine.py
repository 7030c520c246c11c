"""How fast the engine is on the Azure job: 768,000 queries, 8 workers, SlackFit, one core.

Prints medians over a few runs in one process, in queries per second of CPU time: the engine with events per batch,
the same with the store included, and the usual way (a process for each query, `naive_engine.py`) on a shorter stretch
of the same trace, with the ratio of the two on that stretch. The outcomes of both engines are compared query by query.

    make bench
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from naive_engine import NaiveEngine

from policies.slackfit import SlackFit
from sim import Cluster, Trace, simulate
from sim.compiled import replay_compiled
from sim.engines import numba_is_installed
from sim.table_files import load_table
from sim.tabulate import tabulate
from sim.traces.azure import Azure
from ssim.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5
NAIVE_QUERIES = 100_000
TABLE = load_table("ofa-resnet50-rtx2080ti")
CLUSTER = Cluster(8)


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of a piece of work in seconds."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _compiled(trace: Trace, simpy_s: list[float]) -> str:
    """Return the rate of the compiled engine, the policy tabulated beforehand, and its ratio to the SimPy engine."""
    if not numba_is_installed():
        return "numba is not installed"
    decisions = tabulate(SlackFit(), TABLE)
    replay = lambda: replay_compiled(trace, CLUSTER, TABLE, decisions)  # noqa: E731 - the thing measured
    same = np.array_equal(replay().outcome, simulate(trace, CLUSTER, TABLE, SlackFit()).outcome)
    times = [cpu_s(replay) for _ in range(4 * REPEATS)]
    rate, ratio = len(trace) / statistics.median(times) / 1e6, statistics.median(simpy_s) / statistics.median(times)
    return f"{rate:.0f} M queries/s, {ratio:.0f}x the SimPy engine, same outcomes {same}"


def main() -> None:
    """Measure and print."""
    trace = Azure(slo_ms=36.0).trace(seed=7)
    begin = Trace(trace.arrival_ns[:NAIVE_QUERIES], trace.slo_ns, int(trace.arrival_ns[NAIVE_QUERIES]))
    run = lambda part=trace: simulate(part, CLUSTER, TABLE, SlackFit())  # noqa: E731 - the thing measured

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        whole, stored, short, naive = [], [], [], []
        for _ in range(REPEATS):
            whole.append(cpu_s(run))
            stored.append(cpu_s(lambda: store.put("run", run(), {}, {}, "requests")))
            short.append(cpu_s(lambda: run(begin)))
            naive.append(cpu_s(lambda: NaiveEngine(begin, CLUSTER, TABLE, SlackFit()).run()))
        stored_bytes = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet"))

    result, other = run(begin), NaiveEngine(begin, CLUSTER, TABLE, SlackFit()).run()
    finish = np.where(result.answered, result.per_query(result.batches.finish_ns), -1)
    same = finish.tolist() == other.finish and result.outcome.tolist() == [int(o) for o in other.outcome]

    def rate(queries: int, times: list[float]) -> str:
        return f"{queries / statistics.median(times) / 1e6:.2f} M queries/s"

    ratio = statistics.median(n / s for n, s in zip(naive, short, strict=True))
    compiled = _compiled(trace, whole)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"queries                              {len(trace)}")
    print(f"engine                               {rate(len(trace), whole)}")
    print(f"engine and store                     {rate(len(trace), stored)}")
    print(f"a process per query                  {rate(NAIVE_QUERIES, naive)} (first {NAIVE_QUERIES} queries)")
    print(f"ratio on that stretch                {ratio:.1f}x")
    print(f"same outcome for every query         {same}")
    print(f"compiled engine                      {compiled}")
    print(f"stored                               {stored_bytes / 1e6:.1f} MB")
    print(f"peak memory of this process          {memory_mb:.0f} MB")
    sys.exit(not same)


if __name__ == "__main__":
    main()

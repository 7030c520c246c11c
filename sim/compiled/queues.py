"""Several queues in the compiled engine: a trace is replayed under a decision table for each queue and kind of workers.

They may be those of the cluster, or a set of these for each worker.

Imports numba.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sim.compiled.outcomes import outcomes
from sim.compiled.queue_run import QueueRun
from sim.compiled.turns import CompiledTurns
from sim.engine.queue_set import smallest_slos_ns
from sim.engine.result import NONE, Batches, Result
from sim.engine.run_metrics import Outcome
from sim.engine.service_queue import in_queues
from sim.engine.turns import check_scaling

if TYPE_CHECKING:
    from sim.compiled.tabulate import QueueRules
    from sim.compiled.turns import Planning
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace


def replay_queues(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    rules: QueueRules,
    *,
    seed: int = 0,
    planning: Planning | None = None,
) -> Result:
    """Return the outcome of each query of a trace; the same as `sim.engine.driver.simulate` returns for the policies.

    Args:
        trace: Arrivals, and the queue of each query as its class.
        cluster: Workers and queues.
        table: The latency table of the run.
        rules: The policies.
        seed: For latencies that are drawn.
        planning: Who changes the number of workers; None for those of the cluster.

    Raises:
        SpecError: The planner has no workers to plan; or there is none, and the numbers of workers have bounds.
        DataError: The trace does not name the queues of the cluster, or the cluster takes its actuation delays from a
            table that has none.
        PolicyError: The planner raised, or its plan can't be carried out.
        NotTabulableError: The planner changed a policy into one that only the SimPy engine runs.
    """
    trace = in_queues(trace, cluster.queues)
    turns = None
    if planning is None:
        check_scaling(cluster, None, 1)
    else:
        turns = CompiledTurns(planning, cluster, table, smallest_slos_ns(trace, cluster), trace.duration_ns)
    run = QueueRun(trace, cluster, table, rules, seed, turns)
    rows, log, queries = run.advance(), run.log, len(trace)
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    in_order = False  # as the queries of a single queue
    of_rows = log.finish_ns, log.row, log.size, log.lost, rows
    outcomes(cluster.due_ns(trace), *of_rows, run.left, in_order, batch_of, outcome)
    outcome[run.rejected] = Outcome.REJECTED
    ran = np.flatnonzero(log.row[:rows] >= 0)
    times, subnet = (log.start_ns[ran], log.finish_ns[ran]), run.subnet[log.row[ran]]
    free_ns = times[1] if cluster.occupancy == 1 else log.free_ns[ran]
    load_ns = np.zeros_like(free_ns)
    batches = Batches(*times, log.worker[ran], subnet, log.size[ran], log.lost[ran], free_ns, load_ns)
    result = Result.of(trace, table, cluster, batches, batch_of, outcome)
    return result if turns is None else replace(result, fleet=turns.fleet())

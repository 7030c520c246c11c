"""The compiled engine: replays a trace under a decision table or a step policy, with the outcomes of `sim.engine`.

A trace is replayed whole, with the outcome of each query (`replay_compiled`) or with streaming metrics alone
(`replay_counted`), or as a stream of arrivals with streaming metrics (`replay_stream`): memory then grows with the
queries that wait, and a little with the number of windows.

Imports numba, which takes a third of a second.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.base.errors import DataError, NoArrivalsError
from sim.base.units import NS_PER_S
from sim.compiled.arrival_buffer import ArrivalBuffer
from sim.compiled.loop_run import LoopRun
from sim.compiled.loop_state import DROPPED, Log
from sim.compiled.outcomes import outcomes
from sim.compiled.setting import drops, subnets_of
from sim.compiled.streaming import StreamingMetrics
from sim.compiled.turns import CompiledTurns
from sim.engine.result import NONE, Batches, Result
from sim.engine.run_metrics import WHOLE_RUN, Measure, Outcome
from sim.engine.turns import check_scaling
from sim.traces.trace import check_end, check_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from sim.compiled.tabulate import Rule
    from sim.compiled.turns import Planning
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

_NO_HEAP = np.empty(0, np.int64)


def replay_compiled(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    rule: Rule,
    *,
    seed: int = 0,
    planning: Planning | None = None,
) -> Result:
    """Return the outcome of each query of a trace; the same as `sim.engine.driver.simulate` returns for the policy.

    Args:
        trace: Arrivals and SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.
        seed: For latencies that are drawn.
        planning: Who changes the number of workers; None for those of the cluster.

    Raises:
        DataError: The cluster takes its actuation delays from a table that has none.
        PolicyError: The step function or the planner raised, or returned what can't be carried out.
        NotTabulableError: The planner changed the policy into one that only the SimPy engine runs.
    """
    queries, deadline_ns, in_order = len(trace), cluster.due_ns(trace), trace.in_order
    turns = _turns(planning, cluster, table, int(np.min(trace.slo_ns)), trace.duration_ns)
    run = LoopRun(cluster, table, rule, seed, 0 if in_order else queries, int(np.min(trace.slo_ns)), turns)
    left = np.empty(0 if in_order else queries, np.int64)
    log = Log.empty(queries, overlaps=cluster.occupancy < 1)
    rows = run.advance(trace.arrival_ns, deadline_ns, log, left, final=True)
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    of_rows = (log.finish_ns, log.row, log.size, log.lost, rows)
    outcomes(deadline_ns, *of_rows, left, in_order, batch_of, outcome)
    may_drop = cluster.drop != "never" or turns is not None or drops(rule)
    batched: Any = np.flatnonzero(log.row[:rows] != DROPPED) if may_drop else slice(rows)
    times, ran = (log.start_ns[batched], log.finish_ns[batched]), (log.worker[batched], log.row[batched])
    free_ns = times[1] if cluster.occupancy == 1 else log.free_ns[batched]
    subnet = subnets_of(cluster, table)[ran[1]] if cluster.kinds else ran[1]
    load_ns = np.zeros_like(free_ns)
    batches = Batches(*times, ran[0], subnet, log.size[batched], log.lost[batched], free_ns, load_ns)
    result = Result.of(trace, table, cluster, batches, batch_of, outcome)
    return result if turns is None else replace(result, fleet=turns.fleet())


def replay_counted(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    rule: Rule,
    width_ns: int = NS_PER_S,
    measure: Measure = WHOLE_RUN,
    *,
    seed: int = 0,
    planning: Planning | None = None,
) -> StreamingMetrics:
    """Return the metrics of a trace whose deadlines never decrease, as `replay_stream` does of a stream of arrivals.

    Args:
        trace: Arrivals and the SLO.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.
        width_ns: The width of the windows of the metrics over time.
        measure: The part of the run that the metrics are about.
        seed: For latencies that are drawn.
        planning: Who changes the number of workers; None for those of the cluster.

    Raises:
        SpecError: The part to measure is not inside of the trace.
        NoArrivalsError: No query arrives in it.
        DataError: A deadline is before that of an earlier query, or the cluster takes its actuation delays from a table
            that has none.
        PolicyError: The step function or the planner raised, or returned what can't be carried out.
        NotTabulableError: The planner changed the policy into one that only the SimPy engine runs.
    """
    if not trace.in_order:
        raise DataError("slo_ns", "deadlines decrease", "", "use replay_compiled, which orders the queue")
    turns = _turns(planning, cluster, table, int(np.min(trace.slo_ns)), trace.duration_ns)
    run = LoopRun(cluster, table, rule, seed, 0, int(np.min(trace.slo_ns)), turns)
    metrics = StreamingMetrics.empty(table, cluster, trace.duration_ns, width_ns, measure)
    deadline_ns, log = cluster.due_ns(trace), Log.empty(len(trace), overlaps=cluster.occupancy < 1)
    rows = run.advance(trace.arrival_ns, deadline_ns, log, _NO_HEAP, final=True)
    metrics.add(trace.arrival_ns, deadline_ns, log, rows)
    metrics.add_unfinished(trace.arrival_ns[run.head :])
    if not metrics.queries:
        raise measure.no_query()
    return metrics if turns is None else replace(metrics, fleet=turns.fleet())


def replay_stream(
    chunks: Iterable[npt.NDArray[np.int64]],
    slo_ns: int,
    duration_ns: int,
    cluster: Cluster,
    table: LatencyTable,
    rule: Rule,
    width_ns: int = NS_PER_S,
    measure: Measure = WHOLE_RUN,
    *,
    seed: int = 0,
    planning: Planning | None = None,
) -> StreamingMetrics:
    """Return the metrics of a run whose arrivals come as a stream.

    Args:
        chunks: Arrivals in nanoseconds, int64, never decreasing from first to last, as `TraceSource.chunks` gives them.
        slo_ns: The latency SLO.
        duration_ns: The length of the observed window.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.
        width_ns: The width of the windows of the metrics over time.
        measure: The part of the run that the metrics are about.
        seed: For latencies that are drawn.
        planning: Who changes the number of workers; None for those of the cluster.

    Raises:
        SpecError: The part to measure is not inside of the trace.
        NoArrivalsError: No query arrives in it.
        DataError: There are no arrivals, or they decrease, are not int64 or come after the end; a duration is too
            long; or the cluster takes its actuation delays from a table that has none.
        TooLongError: More queries wait than fit into memory.
        PolicyError: The step function or the planner raised, or returned what can't be carried out.
        NotTabulableError: The planner changed the policy into one that only the SimPy engine runs.
    """
    check_lengths(duration_ns, slo_ns)
    turns = _turns(planning, cluster, table, slo_ns, duration_ns)
    run = LoopRun(cluster, table, rule, seed, 0, slo_ns, turns)
    metrics = StreamingMetrics.empty(table, cluster, duration_ns, width_ns, measure)
    queue, log = ArrivalBuffer(slo_ns - cluster.network_ns), Log.empty(0, overlaps=cluster.occupancy < 1)

    def go_on(*, final: bool) -> None:
        nonlocal log
        if len(log.size) < queue.end:
            log = Log.empty(len(queue.arrival_ns), overlaps=cluster.occupancy < 1)
        first = run.head
        arrival_ns, deadline_ns = queue.arrival_ns[: queue.end], queue.deadline_ns[: queue.end]
        rows = run.advance(arrival_ns, deadline_ns, log, _NO_HEAP, final=final)
        metrics.add(arrival_ns[first:], deadline_ns[first:], log, rows)

    upcoming = iter(chunks)
    chunk = next(upcoming, None)
    while chunk is not None:
        queue.add(chunk, run)
        chunk = next(upcoming, None)
        if chunk is not None:
            go_on(final=False)
    if not queue.end:
        raise NoArrivalsError("trace", "has no arrivals", "", "a trace needs at least one query")
    check_end(duration_ns, queue.last_ns)
    go_on(final=True)
    metrics.add_unfinished(queue.arrival_ns[run.head : queue.end])
    if not metrics.queries:
        raise measure.no_query()
    return metrics if turns is None else replace(metrics, fleet=turns.fleet())


def _turns(
    planning: Planning | None, cluster: Cluster, table: LatencyTable, slo_ns: int, duration_ns: int
) -> CompiledTurns | None:
    if planning is None:
        check_scaling(cluster, None, 1)
        return None
    return CompiledTurns(planning, cluster, table, [slo_ns - cluster.network_ns], duration_ns)

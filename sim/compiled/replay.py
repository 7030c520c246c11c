"""The compiled engine: replays a trace under a decision table or a step policy, with the outcomes of `sim.engine`.

A trace is replayed whole, with the outcome of each query (`replay_compiled`) or with streaming metrics alone
(`replay_counted`), or as a stream of arrivals with streaming metrics (`replay_stream`): memory then grows with the
queries that wait, and a little with the number of windows.

Imports numba, which takes a third of a second.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.base.errors import DataError, NoArrivalsError, PolicyError, TooLongError, raised
from sim.base.units import NS_PER_S
from sim.compiled import kernel
from sim.compiled.compiling import compiled_step, no_step
from sim.compiled.outcomes import outcomes
from sim.compiled.setting import drops, setting_of, state_of, subnets_of
from sim.compiled.step_policy import StepPolicy, decision_of
from sim.compiled.streaming import StreamingMetrics
from sim.engine.policy import View, check_decision, policy_name
from sim.engine.result import NONE, Batches, Result
from sim.engine.run_metrics import WHOLE_RUN, Measure, Outcome
from sim.traces.source import MAX_ARRIVALS
from sim.traces.trace import are_whole, check_arrivals, check_end, check_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from sim.compiled.tabulate import Rule
    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

_NO_HEAP = np.empty(0, np.int64)


def replay_compiled(trace: Trace, cluster: Cluster, table: LatencyTable, rule: Rule, *, seed: int = 0) -> Result:
    """Return the outcome of each query of a trace; the same as `sim.engine.driver.simulate` returns for the policy.

    Args:
        trace: Arrivals and SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.
        seed: For latencies that are drawn.

    Raises:
        DataError: The cluster takes its actuation delays from a table that has none.
        PolicyError: The step function raised, or returned a decision that can't be carried out.
    """
    queries, deadline_ns, in_order = len(trace), cluster.due_ns(trace), trace.in_order
    run = _Run(cluster, table, rule, seed, 0 if in_order else queries, int(np.min(trace.slo_ns)))
    left = np.empty(0 if in_order else queries, np.int64)
    log = _empty_log(queries, cluster)
    rows = run.advance(trace.arrival_ns, deadline_ns, log, left, final=True)
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    of_rows = (log.finish_ns, log.row, log.size, log.lost, rows)
    outcomes(deadline_ns, *of_rows, left, in_order, batch_of, outcome)
    may_drop = cluster.drop != "never" or drops(rule)
    batched: Any = np.flatnonzero(log.row[:rows] != kernel.DROPPED) if may_drop else slice(rows)
    times, ran = (log.start_ns[batched], log.finish_ns[batched]), (log.worker[batched], log.row[batched])
    free_ns = times[1] if cluster.occupancy == 1 else log.free_ns[batched]
    subnet = subnets_of(cluster, table)[ran[1]] if cluster.kinds else ran[1]
    batches = Batches(*times, ran[0], subnet, log.size[batched], log.lost[batched], free_ns, np.zeros_like(free_ns))
    return Result.of(trace, table, cluster, batches, batch_of, outcome)


def replay_counted(
    trace: Trace,
    cluster: Cluster,
    table: LatencyTable,
    rule: Rule,
    width_ns: int = NS_PER_S,
    measure: Measure = WHOLE_RUN,
    *,
    seed: int = 0,
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

    Raises:
        SpecError: The part to measure is not inside of the trace.
        NoArrivalsError: No query arrives in it.
        DataError: A deadline is before that of an earlier query, or the cluster takes its actuation delays from a table
            that has none.
        PolicyError: The step function raised, or returned a decision that can't be carried out.
    """
    if not trace.in_order:
        raise DataError("slo_ns", "deadlines decrease", "", "use replay_compiled, which orders the queue")
    run = _Run(cluster, table, rule, seed, 0, int(np.min(trace.slo_ns)))
    metrics = StreamingMetrics.empty(table, cluster, trace.duration_ns, width_ns, measure)
    deadline_ns, log = cluster.due_ns(trace), _empty_log(len(trace), cluster)
    rows = run.advance(trace.arrival_ns, deadline_ns, log, _NO_HEAP, final=True)
    metrics.add(trace.arrival_ns, deadline_ns, log, rows)
    metrics.add_unfinished(trace.arrival_ns[run.head :])
    if not metrics.queries:
        raise measure.no_query()
    return metrics


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

    Raises:
        SpecError: The part to measure is not inside of the trace.
        NoArrivalsError: No query arrives in it.
        DataError: There are no arrivals, or they decrease, are not int64 or come after the end; a duration is too
            long; or the cluster takes its actuation delays from a table that has none.
        TooLongError: More queries wait than fit into memory.
        PolicyError: The step function raised, or returned a decision that can't be carried out.
    """
    check_lengths(duration_ns, slo_ns)
    run = _Run(cluster, table, rule, seed, 0, slo_ns)
    metrics = StreamingMetrics.empty(table, cluster, duration_ns, width_ns, measure)
    queue, log = _Queue(slo_ns - cluster.network_ns), _empty_log(0, cluster)

    def go_on(*, final: bool) -> None:
        nonlocal log
        if len(log.size) < queue.end:
            log = _empty_log(len(queue.arrival_ns), cluster)
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
    return metrics


def compiled_rule(policy: StepPolicy) -> StepPolicy:
    """Return a step policy whose step function compiles.

    Raises:
        PolicyError: It does not compile.
    """
    try:
        _step(type(policy).step)
    except Exception as error:  # numba raises its own errors and others
        messages = [
            line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in")
        ]
        raise PolicyError(
            f"{type(policy).__name__}.step", "can't be compiled", (messages or [repr(error)])[0]
        ) from error
    return policy


@cache
def _step(step: Callable[..., tuple[int, int]]) -> Any:
    return compiled_step(step)


def _empty_log(rows: int, cluster: Cluster) -> kernel.Log:
    # One large allocation, of which only written pages become memory: several of middling size are slower.
    start_ns, finish_ns, worker, row, size = np.empty((5, rows), np.int64)
    free_ns = finish_ns if cluster.occupancy == 1 else np.empty(rows, np.int64)
    return kernel.Log(start_ns, finish_ns, free_ns, worker, row, size, np.empty(rows, np.bool_))


class _Run:
    """One run of the compiled loop: its state and its constants."""

    def __init__(self, cluster: Cluster, table: LatencyTable, rule: Rule, seed: int, heap: int, slo_ns: int) -> None:
        """Begin with all workers idle and no subnet loaded.

        Args:
            cluster: The workers.
            table: The latency table, without overheads.
            rule: The policy.
            seed: For latencies that are drawn.
            heap: Capacity of the queue's heap: 0 if deadlines never decrease, else the number of queries.
            slo_ns: The smallest SLO.
        """
        self._table, self._rule = cluster.pools(cluster.served(table), served=True)[0].table, rule
        self._in_order = heap == 0
        self._step = _step(type(rule).step) if isinstance(rule, StepPolicy) else no_step
        memory = _memory(rule, self._table, cluster, slo_ns) if isinstance(rule, StepPolicy) else np.empty(0)
        self._setting = setting_of(cluster, table, rule, seed)
        self._state = state_of(self._setting, memory, heap)

    @property
    def head(self) -> int:
        """The first query in the queue, as an index of the current arrays of arrivals."""
        return int(self._state.at[kernel.HEAD])

    def move(self, by: int) -> None:
        """Shift all indices after arrivals were removed at the front of the arrays."""
        self._state.at[kernel.HEAD] -= by
        self._state.at[kernel.ARRIVED] -= by
        self._state.at[kernel.BEFORE] += by

    def advance(
        self,
        arrival_ns: npt.NDArray[np.int64],
        deadline_ns: npt.NDArray[np.int64],
        log: kernel.Log,
        left: npt.NDArray[np.int64],
        *,
        final: bool,
    ) -> int:
        """Continue to the end of the arrivals, as `sim.compiled.kernel.advance`; return the number of rows of the log.

        Raises:
            PolicyError: The step function raised, or returned a decision that can't be carried out.
        """
        arrays = (arrival_ns, deadline_ns, self._in_order, final, log, left)
        try:
            rows = int(kernel.advance(self._setting, self._state, self._step, *arrays))
        except Exception as error:
            if not isinstance(self._rule, StepPolicy):
                raise
            raise PolicyError(policy_name(self._rule), *raised(error)) from error
        if rows < 0 and isinstance(self._rule, StepPolicy):
            row = -1 - rows
            seen = (int(log.start_ns[row]), int(log.finish_ns[row]), int(log.worker[row]))
            view = View(*seen, self._table, cast("Any", None))
            check_decision(decision_of(int(log.row[row]), int(log.size[row])), view, self._rule)
        return rows


def _memory(rule: StepPolicy, table: LatencyTable, cluster: Cluster, slo_ns: int) -> npt.NDArray[np.float64]:
    try:
        return rule.begun(table, cluster.dispatch_ns, cluster.workers, slo_ns - cluster.network_ns)
    except Exception as error:
        raise PolicyError(policy_name(rule), *raised(error)) from error


class _Queue:
    """Waiting and upcoming arrivals with their deadlines, in reused arrays."""

    def __init__(self, slack_ns: int) -> None:
        self._slack_ns = slack_ns  # from arrival until a batch is due
        self.arrival_ns, self.deadline_ns = np.empty(0, np.int64), np.empty(0, np.int64)
        self.end = self.last_ns = 0

    def add(self, chunk: npt.NDArray[np.int64], run: _Run) -> None:
        """Append arrivals, and discard those that have left the queue if space is needed.

        Args:
            chunk: The arrivals.
            run: The run whose indices are shifted.

        Raises:
            DataError: They decrease, or are not int64.
            TooLongError: More wait than fit into memory.
        """
        if len(chunk) == 0:
            return
        if not are_whole(chunk) or chunk[0] < self.last_ns or (chunk[1:] < chunk[:-1]).any():
            check_arrivals(chunk, location="arrival_ns", after_ns=self.last_ns)
        self.last_ns = int(chunk[-1])
        if self.end + len(chunk) > len(self.arrival_ns):
            head = run.head
            kept = self.end - head
            if kept > MAX_ARRIVALS:
                hint = "use more workers, a lower rate, or drop: expired, which drops late queries"
                raise TooLongError("trace", "too many queries are waiting", f"over {MAX_ARRIVALS}", hint)
            # Twice the need, so that arrivals are moved rarely.
            room = max(len(self.arrival_ns), 2 * (kept + len(chunk)))
            self.arrival_ns, self.deadline_ns = (
                _moved(array, head, self.end, room) for array in (self.arrival_ns, self.deadline_ns)
            )
            run.move(head)
            self.end = kept
        self.arrival_ns[self.end : self.end + len(chunk)] = chunk
        self.deadline_ns[self.end : self.end + len(chunk)] = chunk + self._slack_ns
        self.end += len(chunk)


def _moved(array: npt.NDArray[np.int64], start: int, end: int, room: int) -> npt.NDArray[np.int64]:
    """Return an array with a slice moved to its front, the same array if it is long enough."""
    target = array if len(array) == room else np.empty(room, np.int64)
    target[: end - start] = array[start:end]
    return target

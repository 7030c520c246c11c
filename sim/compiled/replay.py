"""The compiled engine: replays a trace under a tabulated or stepped policy; outcomes are those of `sim.engine`.

A trace is replayed whole, with what became of each query (`replay_compiled`), or in a stream of arrivals of which only
counts are kept (`tally_stream`): memory then grows with the queries that wait, and a little with the windows of time.

Imports numba, which takes a third of a second.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from sim.base.arrays import read_only
from sim.base.errors import NoArrivalsError, PolicyError, TooLongError, raised
from sim.base.units import NS_PER_S
from sim.compiled import kernel
from sim.compiled.compiling import compiled_step
from sim.compiled.counting import count
from sim.compiled.stepped import Stepped
from sim.compiled.tabulate import DecisionTable
from sim.compiled.tally import Tally
from sim.engine import histogram
from sim.engine.measured import Outcome
from sim.engine.policy import Dispatch, View, check_decision, policy_name
from sim.engine.result import NONE, Batches, Result
from sim.traces.source import MOST_HELD
from sim.traces.trace import are_whole, check_arrivals, check_end, check_lengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from sim.engine.cluster import Cluster
    from sim.tables.latency import LatencyTable
    from sim.traces.trace import Trace

Rule: TypeAlias = DecisionTable | Stepped
"""What the compiled engine can run: a policy tabulated for the latency table and the dispatch overhead, or a stepped
policy."""


def replay_compiled(trace: Trace, cluster: Cluster, table: LatencyTable, rule: Rule) -> Result:
    """Return what becomes of each query of a trace; the same as `sim.engine.driver.simulate` has under the policy.

    Args:
        trace: When queries arrive, and their SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.

    Raises:
        DataError: The cluster takes its actuation delays from a table that has none.
        PolicyError: The step function raised, or decided what can't be done.
    """
    queries, deadline_ns, in_order = len(trace), trace.deadline_ns, trace.in_order
    run = _Run(cluster, table, rule, 0 if in_order else queries)
    left = np.empty(0 if in_order else queries, np.int64)
    log = _empty_log(queries)
    rows = run.advance(trace.arrival_ns, deadline_ns, log, left, final=True)
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    kernel.outcomes(deadline_ns, log, rows, left, in_order, batch_of, outcome)
    batched: Any = slice(rows) if cluster.drop == "never" else np.flatnonzero(log.subnet[:rows] != kernel.DROPPED)
    times, ran = (log.start_ns[batched], log.finish_ns[batched]), (log.worker[batched], log.subnet[batched])
    batches = Batches(*times, *ran, log.size[batched], log.lost[batched])
    return Result.of(trace, table, cluster, batches, batch_of, outcome)


def tally_stream(
    chunks: Iterable[npt.NDArray[np.int64]],
    slo_ns: int,
    duration_ns: int,
    cluster: Cluster,
    table: LatencyTable,
    rule: Rule,
    width_ns: int = NS_PER_S,
) -> Tally:
    """Return the counts of a run whose arrivals come in a stream.

    Args:
        chunks: Arrivals in nanoseconds, int64, never decreasing from first to last, as `TraceSource.chunks` gives them.
        slo_ns: The time that a query may take.
        duration_ns: The length of the observed window.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        rule: The policy.
        width_ns: The width of the windows in which the run is counted over time.

    Raises:
        DataError: There are no arrivals, they decrease, are not int64 or come after the end; a time is longer than a
            run can be; or the cluster takes its actuation delays from a table that has none.
        TooLongError: More queries wait than can be held.
        PolicyError: The step function raised, or decided what can't be done.
    """
    check_lengths(duration_ns, slo_ns)
    run = _Run(cluster, table, rule, 0)
    tally = Tally.empty(table, cluster, duration_ns, width_ns)
    accuracy = np.array([subnet.accuracy for subnet in table.subnets], dtype=np.float64)
    queue, log, nothing = _Queue(slo_ns), _empty_log(0), np.empty(0, np.int64)

    def go_on(*, final: bool) -> None:
        nonlocal log
        if len(log.size) < queue.end:
            log = _empty_log(len(queue.arrival_ns))
        first = run.head
        arrival_ns, deadline_ns = queue.arrival_ns[: queue.end], queue.deadline_ns[: queue.end]
        rows = run.advance(arrival_ns, deadline_ns, log, nothing, final=final)
        columns = (column[:rows] for column in log if column is not log.worker)
        how = (width_ns, duration_ns, histogram.SHIFT, histogram.BEFORE_ONE)
        count(arrival_ns[first:], deadline_ns[first:], *columns, accuracy, *how, tally.counts)

    for chunk in chunks:
        queue.add(chunk, run)
        go_on(final=False)
    if not queue.end:
        raise NoArrivalsError("trace", "has no arrivals", "", "a trace needs at least one query")
    check_end(duration_ns, queue.last_ns)
    go_on(final=True)
    tally.add_unfinished(queue.arrival_ns[run.head : queue.end])
    return tally


def compiled_rule(policy: Stepped) -> Stepped:
    """Return a stepped policy whose step function compiles.

    Raises:
        PolicyError: It does not.
    """
    try:
        _step(type(policy).step)
    except Exception as error:  # numba raises its own errors and others
        said = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Failed in")]
        raise PolicyError(f"{type(policy).__name__}.step", "can't be compiled", (said or [repr(error)])[0]) from error
    return policy


@cache
def _step(step: Callable[..., tuple[int, int]]) -> Any:
    return compiled_step(step)


def _empty_log(rows: int) -> kernel.Log:
    # One large piece, of which only what is written to becomes memory: many of middling size cost the allocator more.
    start_ns, finish_ns, worker, subnet, size = np.empty((5, rows), np.int64)
    return kernel.Log(start_ns, finish_ns, worker, subnet, size, np.empty(rows, np.bool_))


class _Run:
    """One run of the engine's loop: where it stands, and what does not change."""

    def __init__(self, cluster: Cluster, table: LatencyTable, rule: Rule, heap: int) -> None:
        """Begin: all workers idle, none with a subnet of its own yet.

        Args:
            cluster: The workers.
            table: The latency table.
            rule: The policy.
            heap: Places in the heap of the queue: 0 where deadlines never decrease, else the number of queries.
        """
        self._table, self._rule = table, rule
        self._in_order = heap == 0
        if isinstance(rule, Stepped):
            self._step, memory = _step(type(rule).step), _memory(rule, table, cluster.dispatch_ns)
            decisions = (np.empty(0, np.int64), np.empty((0, 0), np.int64), np.empty((0, 0), np.int64))
        else:
            self._step, memory = kernel.no_step, np.empty(0)
            decisions = (rule.from_ns, rule.subnets, rule.sizes)
        changes = _changes(cluster)
        self._setting = kernel.Setting(
            _fixed(table.dense_ns),
            _fixed(np.array(cluster.actuation_delays(table), dtype=np.int64)),
            cluster.dispatch_ns,
            {"never": kernel.NEVER, "expired": kernel.EXPIRED, "hopeless": kernel.HOPELESS}[cluster.drop],
            table.smallest_ns,
            changes,
            isinstance(rule, Stepped),
            *map(_fixed, decisions),
        )
        fails_ns = np.full(cluster.workers, kernel.NEVER_COMES)
        for at_ns, worker, fails, _ in changes[::-1]:
            if fails:
                fails_ns[worker] = at_ns
        self._state = kernel.State(
            np.zeros(7, np.int64),
            free=np.arange(cluster.workers),
            finish_ns=np.empty(cluster.workers, np.int64),
            busy=np.empty(cluster.workers, np.int64),
            runs=np.zeros(cluster.workers, np.bool_),
            loaded=np.full(cluster.workers, kernel.NOTHING_YET),
            fails_ns=fails_ns,
            deadline_ns=np.empty(heap, np.int64),
            waiting=np.empty(heap, np.int64),
            memory=memory,
        )
        self._state.at[kernel.IDLE] = cluster.workers

    @property
    def head(self) -> int:
        """The first query in the queue, as an index of the arrivals at hand."""
        return int(self._state.at[kernel.HEAD])

    def move(self, by: int) -> None:
        """Note that so many arrivals in front of those at hand have been taken away."""
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
        """Go on as far as the arrivals reach, as `sim.compiled.kernel.advance`; return the rows of the log.

        Raises:
            PolicyError: The step function raised, or decided what can't be done.
        """
        arrays = (arrival_ns, deadline_ns, self._in_order, final, log, left)
        try:
            rows = int(kernel.advance(self._setting, self._state, self._step, *arrays))
        except Exception as error:
            if not isinstance(self._rule, Stepped):
                raise
            raise PolicyError(policy_name(self._rule), *raised(error)) from error
        if rows < 0 and isinstance(self._rule, Stepped):
            row = -1 - rows
            view = View(int(log.start_ns[row]), 0, 1, self._table, cast("Any", None))
            check_decision(Dispatch(int(log.subnet[row]), int(log.size[row])), view, self._rule)
        return rows


def _memory(rule: Stepped, table: LatencyTable, dispatch_ns: int) -> npt.NDArray[np.float64]:
    try:
        return rule.begun(table, dispatch_ns)
    except Exception as error:
        raise PolicyError(policy_name(rule), *raised(error)) from error


def _changes(cluster: Cluster) -> npt.NDArray[np.int64]:
    """Return failures and recoveries as `sim.compiled.kernel.Setting` has them."""
    upcoming: dict[int, int] = {}
    rows: list[tuple[int, int, int, int]] = []
    for at_ns, worker, fails in reversed(cluster.changes()):
        rows.append((at_ns, worker, int(fails), upcoming.get(worker, kernel.NEVER_COMES)))
        if fails:
            upcoming[worker] = at_ns
    return _fixed(np.array(rows[::-1], dtype=np.int64).reshape(-1, 4))


def _fixed(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return an array as a setting has it: read-only, row by row."""
    return read_only(np.ascontiguousarray(array))


class _Queue:
    """The arrivals that wait or are still to come, and their deadlines, in arrays that are used again and again."""

    def __init__(self, slo_ns: int) -> None:
        self._slo_ns = slo_ns
        self.arrival_ns, self.deadline_ns = np.empty(0, np.int64), np.empty(0, np.int64)
        self.end = self.last_ns = 0

    def add(self, chunk: npt.NDArray[np.int64], run: _Run) -> None:
        """Put arrivals behind those that are there; those in front of the queue make room for them.

        Args:
            chunk: The arrivals.
            run: The run, which is told what was moved.

        Raises:
            DataError: They decrease, or are not int64.
            TooLongError: More wait than can be held.
        """
        if len(chunk) == 0:
            return
        if not are_whole(chunk) or chunk[0] < self.last_ns or (chunk[1:] < chunk[:-1]).any():
            check_arrivals(chunk, where="arrival_ns", after_ns=self.last_ns)
        self.last_ns = int(chunk[-1])
        if self.end + len(chunk) > len(self.arrival_ns):
            head = run.head
            kept = self.end - head
            if kept > MOST_HELD:
                right = "more workers, a lower rate, or drop: expired, which gives up those that are late"
                raise TooLongError("trace", "more queries wait than can be held", f"over {MOST_HELD}", right)
            # Twice what is needed: so much has to come before anything is moved again.
            room = max(len(self.arrival_ns), 2 * (kept + len(chunk)))
            self.arrival_ns, self.deadline_ns = (
                _moved(array, head, self.end, room) for array in (self.arrival_ns, self.deadline_ns)
            )
            run.move(head)
            self.end = kept
        self.arrival_ns[self.end : self.end + len(chunk)] = chunk
        self.deadline_ns[self.end : self.end + len(chunk)] = chunk + self._slo_ns
        self.end += len(chunk)


def _moved(array: npt.NDArray[np.int64], start: int, end: int, room: int) -> npt.NDArray[np.int64]:
    """Return an array with a stretch of another at its front, the same array if it is long enough."""
    target = array if len(array) == room else np.empty(room, np.int64)
    target[: end - start] = array[start:end]
    return target

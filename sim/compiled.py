"""The compiled engine: replays a trace with a tabulated policy, to the same outcomes as `sim.engine`.

A trace is replayed whole, with what became of each query (`replay_compiled`), or in a stream of arrivals of which only
counts are kept (`tally_stream`): memory then grows with the queries that wait, and with nothing else.

Imports numba, which takes a third of a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim import kernel
from sim.errors import DataError
from sim.kernel_types import Setting, State
from sim.measured import Outcome
from sim.result import NONE, Batches, Result
from sim.tally import Tally
from sim.trace import check_arrivals
from sim.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from sim.cluster import Cluster
    from sim.latency import LatencyTable
    from sim.tabulate import DecisionTable
    from sim.trace import Trace


def replay_compiled(trace: Trace, cluster: Cluster, table: LatencyTable, decisions: DecisionTable) -> Result:
    """Return what becomes of each query of a trace under a tabulated policy; the same as `sim.engine.simulate`.

    Args:
        trace: When queries arrive, and their SLOs.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        decisions: The policy, tabulated for this table and this dispatch overhead.

    Raises:
        DataError: The cluster takes its actuation delays from a table that has none.
    """
    queries, deadline_ns, in_order = len(trace), trace.deadline_ns, trace.in_order
    setting = _setting(cluster, table, decisions)
    heap = 0 if in_order else queries
    state = _first_state(cluster.workers, setting.changes, heap)
    log, left = np.empty((queries, 6), np.int64), np.empty(heap, np.int64)
    rows = kernel.advance(setting, state, trace.arrival_ns, deadline_ns, in_order, True, log, left)  # noqa: FBT003
    log = log[:rows]
    batch_of, outcome = np.full(queries, NONE, np.int64), np.full(queries, Outcome.UNFINISHED, np.uint8)
    kernel.outcomes(deadline_ns, log, left, in_order, batch_of, outcome)
    if cluster.drop != "never":
        log = log[log[:, kernel.SUBNET] != kernel.DROPPED]
    start, finish, worker, subnet, size, lost = (np.ascontiguousarray(column) for column in log.T)
    found = Batches(start, finish, worker, subnet, size, lost.astype(np.bool_))
    return Result.of(trace, table, cluster, found, batch_of, outcome)


def tally_stream(
    chunks: Iterable[npt.NDArray[np.int64]],
    slo_ns: int,
    duration_ns: int,
    cluster: Cluster,
    table: LatencyTable,
    decisions: DecisionTable,
    width_ns: int = NS_PER_S,
) -> Tally:
    """Return the counts of a run whose arrivals come in a stream, under a tabulated policy.

    Args:
        chunks: Arrivals in nanoseconds, int64, never decreasing from first to last, as `TraceSource.chunks` gives them.
        slo_ns: The time that a query may take.
        duration_ns: The length of the observed window.
        cluster: Workers, overheads, drop rule, failures.
        table: The latency table.
        decisions: The policy, tabulated for this table and this dispatch overhead.
        width_ns: The width of the windows in which the run is counted over time.

    Raises:
        DataError: There are no arrivals, they decrease, or the cluster takes its actuation delays from a table that
            has none.
    """
    setting = _setting(cluster, table, decisions)
    state = _first_state(cluster.workers, setting.changes, 0)
    tally = Tally.empty(table, cluster, duration_ns, width_ns)
    accuracy = np.array([subnet.accuracy for subnet in table.subnets], dtype=np.float64)
    queue = _Queue(slo_ns)
    log = np.empty((0, 6), np.int64)
    nothing = np.empty(0, np.int64)

    def go_on(*, final: bool) -> None:
        nonlocal log
        if len(log) < queue.end:
            log = np.empty((len(queue.arrival_ns), 6), np.int64)
        first = int(state.at[kernel.HEAD])
        arrival_ns, deadline_ns = queue.arrival_ns[: queue.end], queue.deadline_ns[: queue.end]
        rows = kernel.advance(setting, state, arrival_ns, deadline_ns, True, final, log, nothing)  # noqa: FBT003
        args = (accuracy, tally.width_ns, duration_ns, tally.counts)
        kernel.count(arrival_ns[first:], deadline_ns[first:], log[:rows], *args)
        head = int(state.at[kernel.HEAD])
        if final and head < queue.end:
            waiting = np.array([[0, 0, NONE, kernel.WAITING, queue.end - head, 0]])
            kernel.count(arrival_ns[head:], deadline_ns[head:], waiting, *args)

    for chunk in chunks:
        queue.add(chunk, state.at)
        go_on(final=False)
    if not queue.end:
        raise DataError("trace", "has no arrivals", "", "a trace needs at least one query")
    go_on(final=True)
    return tally


def _setting(cluster: Cluster, table: LatencyTable, decisions: DecisionTable) -> Setting:
    changes = cluster.changes()
    upcoming: dict[int, int] = {}
    rows: list[tuple[int, int, int, int]] = []
    for at_ns, worker, fails in reversed(changes):
        rows.append((at_ns, worker, int(fails), upcoming.get(worker, kernel.NEVER_COMES)))
        if fails:
            upcoming[worker] = at_ns
    return Setting(
        table.dense_ns,
        np.array(cluster.actuation_delays(table), dtype=np.int64),
        cluster.dispatch_ns,
        {"never": kernel.NEVER, "expired": kernel.EXPIRED, "hopeless": kernel.HOPELESS}[cluster.drop],
        table.smallest_ns,
        decisions.from_ns,
        decisions.subnets,
        decisions.sizes,
        np.array(rows[::-1], dtype=np.int64).reshape(-1, 4),
    )


def _first_state(workers: int, changes: npt.NDArray[np.int64], heap: int) -> State:
    """Return the state before the first arrival: all workers idle, none with a subnet of its own yet.

    Args:
        workers: Number of workers.
        changes: As in `Setting`.
        heap: Places in the heap of the queue: 0 where deadlines never decrease, else the number of queries.
    """
    at = np.zeros(6, np.int64)
    at[kernel.IDLE] = workers
    fails_ns = np.full(workers, kernel.NEVER_COMES)
    for at_ns, worker, fails, _ in changes[::-1]:
        if fails:
            fails_ns[worker] = at_ns
    return State(
        at,
        free=np.arange(workers),
        finish_ns=np.empty(workers, np.int64),
        busy=np.empty(workers, np.int64),
        runs=np.zeros(workers, np.bool_),
        loaded=np.full(workers, kernel.NOTHING_YET),
        fails_ns=fails_ns,
        deadline_ns=np.empty(heap, np.int64),
        waiting=np.empty(heap, np.int64),
    )


class _Queue:
    """The arrivals that wait or are still to come, and their deadlines, in arrays that are used again and again."""

    def __init__(self, slo_ns: int) -> None:
        self._slo_ns = slo_ns
        self.arrival_ns, self.deadline_ns = np.empty(0, np.int64), np.empty(0, np.int64)
        self.end = 0
        self._last_ns = 0

    def add(self, chunk: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> None:
        """Put arrivals behind those that are there; those in front of the queue make room for them.

        Args:
            chunk: The arrivals.
            at: The place in the arrays that the run has reached, as `sim.kernel.State` has it; out: moved with them.

        Raises:
            DataError: They decrease.
        """
        if len(chunk) == 0:
            return
        if chunk[0] < self._last_ns or (chunk[1:] < chunk[:-1]).any():
            check_arrivals(chunk, where="arrival_ns", after_ns=self._last_ns)
        self._last_ns = int(chunk[-1])
        if self.end + len(chunk) > len(self.arrival_ns):
            head = int(at[kernel.HEAD])
            kept = self.end - head
            # Twice what is needed: so much has to come before anything is moved again.
            room = max(len(self.arrival_ns), 2 * (kept + len(chunk)))
            self.arrival_ns, self.deadline_ns = (
                _moved(array, head, self.end, room) for array in (self.arrival_ns, self.deadline_ns)
            )
            at[kernel.HEAD] -= head
            at[kernel.ARRIVED] -= head
            self.end = kept
        self.arrival_ns[self.end : self.end + len(chunk)] = chunk
        self.deadline_ns[self.end : self.end + len(chunk)] = chunk + self._slo_ns
        self.end += len(chunk)


def _moved(array: npt.NDArray[np.int64], start: int, end: int, room: int) -> npt.NDArray[np.int64]:
    """Return an array with a stretch of another at its front, the same array if it is long enough."""
    target = array if len(array) == room else np.empty(room, np.int64)
    target[: end - start] = array[start:end]
    return target
